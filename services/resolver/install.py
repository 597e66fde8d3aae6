"""Steps 7 to 11 on this machine: judge the .tgz, extract it out of sight, publish it by one rename, note it.

Runs in a worker thread and stops where trio cancels it. Write order: floor, then tree synced and renamed, then receipt.
The floor comes first because nobody would make up for it: a tree that is there is never installed a second time, and
without its floor an older record could follow an uninstall. A floor without its tree only demands this record or a
newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from libreseed.adapters.files.durable import publish_directory, staging_directory
from libreseed.adapters.packing.archive import check_infohash, extract_archive
from libreseed.adapters.packing.tree_check import check_tree_on_disk
from libreseed.adapters.resolving.early_extraction import EarlyExtraction, Extracted
from libreseed.ids import Blake3Digest, Sha256Digest
from libreseed.package.paths import SRC_PATH
from libreseed.resolve.engine import ExtractedSource
from libreseed.resolve.receipt import Receipt

from .job import Job

__all__ = ["install"]

_READ_BYTES = 2**22


def install(
    job: Job,
    tgz: Path,
    sha256: Sha256Digest | None,
    final: Path,
    now_ms: Callable[[], int],
    *,
    early: EarlyExtraction | None = None,
    present: bool = False,
) -> Receipt:
    """Take steps 7 to 11; raises what they raise, and then leaves nothing behind.

    ``sha256`` is what was hashed while the .tgz arrived. If it is not the signed one, the file itself decides.
    ``early`` knows what was extracted meanwhile. With ``present`` exactly this tree is at ``final`` already, and only
    its receipt is missing or says less.
    """
    resolution, steps = job.resolution, job.steps
    minimal = resolution.minimal
    if sha256 != minimal.infohash or tgz.stat().st_size != minimal.size:
        check_infohash(tgz, minimal, progress=lambda _: trio.from_thread.check_cancelled())
    resolution.archive(minimal.size, minimal.infohash)
    steps.done(7)
    with _extracted(job, tgz, final.parent, early) as tree:
        report = tree.report
        resolution.full_manifest(report.manifest)
        steps.done(8)
        resolution.tree(report.files, report.size)
        steps.done(9)
        resolution.silexium_step(_source(tgz, tree) if resolution.trusted.proofs is not None else None)
        steps.done(10)
        receipt = _publish(job, tree.root, final, now_ms(), present=present)
    job.store.keep_receipt(receipt)
    steps.done(11)
    return receipt


@contextmanager
def _extracted(job: Job, tgz: Path, parent: Path, early: EarlyExtraction | None) -> Iterator[Extracted]:
    job.progress.phase("installing")
    if early is not None and (there := trio.from_thread.run(early.result)) is not None:
        yield there
        return
    job.progress.update(0)

    def extracted(count: int) -> None:
        trio.from_thread.check_cancelled()
        job.progress.advance(count)

    with staging_directory(parent) as staging:
        yield Extracted(staging, extract_archive(tgz, job.resolution.minimal, staging, progress=extracted))


def _publish(job: Job, staging: Path, final: Path, now_ms: int, *, present: bool) -> Receipt:
    """Step 11 up to the rename; returns the receipt that is to be kept after it."""
    trusted = job.resolution.installed(str(final), now_ms)
    assert trusted.receipt is not None and trusted.floor is not None  # step 11 sets both
    if present:  # before the floor: another tree of this publisher is refused, and then nothing was accepted
        check_tree_on_disk(final, trusted.receipt.minimal, trusted.receipt.tree)
    job.store.keep_floor(trusted.floor)
    if not present:
        publish_directory(staging, final)
    return trusted.receipt


def _source(tgz: Path, tree: Extracted) -> ExtractedSource:
    """What checks 10.12 and 10.13 are about: the .tgz hashed as a whole once more, and SRC as it was extracted."""
    from blake3 import blake3

    hasher = blake3(max_threads=blake3.AUTO)
    with tgz.open("rb") as file:
        size = 0
        while data := file.read(_READ_BYTES):
            trio.from_thread.check_cancelled()
            hasher.update(data)
            size += len(data)
    src = (tree.root / SRC_PATH).read_bytes()
    return ExtractedSource(size, Blake3Digest(hasher.digest()), src, tree.report.manifest.sizes, tree.report.digests)
