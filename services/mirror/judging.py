"""Judges a release folder: what of it is right, what could be put right, and whether it may be shown at all.

Order: minimal manifest (signatures, name, publisher), chunk map against it (made anew if it is lost), every chunk of
.tgz and .parity against the map, repair in place of what is wrong; then, once per content, everything that the
packager's ``verify`` checks (:func:`verify_release`: SHA-256, archive, full manifest, parity and torrent made anew). A
copy that cannot be made whole is *damaged*: its good chunks are verified by the signed map and can be given. Anything
that is not what its publisher signed is refused with its own reason. Everything here blocks.
docs/specification/mirror.md, 2.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from libreseed import limits
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.stopping import stop_if
from libreseed.adapters.files.watcher import Nobody
from libreseed.adapters.release.rebuild import largest_map, rebuild_chunk_map, rebuild_torrent
from libreseed.adapters.release.release_folder import ReleaseFiles, verify_release
from libreseed.dht.records import parse_dht_record
from libreseed.errors import ContentRejected, LibreSeedError, LocalFault, NotFound, ProofRejected, RecordRejected
from libreseed.ids import PublicKey
from libreseed.package.minimal import MinimalManifest, check_not_ahead, parse_minimal
from libreseed.repair.chunkmap import ChunkMap, parse_chunk_map
from libreseed.repair.plan import Verified, plan_repair
from libreseed.silexium.bundle import parse_bundle
from libreseed.silexium.release_manifest import parse_release_manifest
from libreseed.torrent.metainfo import parse_metainfo

from .copies import Component, Copy, CopyNote, stamps_of

__all__ = ["Rules", "judge", "read_chunk_map", "read_minimal", "recall"]

_LOG = logging.getLogger("libreseed.mirror")
_LARGE = (".tgz", ".parity")
_MINIMAL = ".minimal.json"
_COMPONENT_BYTES = limits.STRIPE_DATA_ROWS * limits.CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator takes in: releases of ``publishers`` (empty: of anybody) of at most ``max_package_bytes``."""

    publishers: frozenset[PublicKey] = frozenset()
    max_package_bytes: int = limits.PACKAGE_BYTES


def recall(files: ReleaseFiles, note: CopyNote | None, rules: Rules, now_ms: int) -> Copy | None:
    """The copy as the note says, if no file has changed since; None: it must be judged. Raises as :func:`judge`."""
    minimal = read_minimal(files, rules, now_ms)
    if note is None or note.minimal != minimal.data or dict(note.stamps) != stamps_of(files):
        return None
    return Copy(files, minimal, note)


def judge(files: ReleaseFiles, note: CopyNote | None, rules: Rules, now_ms: int, cancelled: threading.Event) -> Copy:
    """Read all of a copy, heal it, and say how it is; ``note`` is what was known before.

    Raises :class:`NotFound` and what makes a release unfit to be shown (RecordRejected, ContentRejected); ``Stopped``
    soon after ``cancelled`` is set.
    """
    first = stamps_of(files)
    minimal = read_minimal(files, rules, now_ms)
    known = note if note is not None and note.minimal == minimal.data else None
    chunk_map = _obtain_chunk_map(files, minimal)
    stamps, verified, healed = _heal(files, chunk_map, cancelled)
    plan = plan_repair(verified)
    found = CopyNote(
        minimal=minimal.data,
        m=chunk_map.m,
        bad_data=_runs(verified.data),
        bad_parity=_runs(verified.parity),
        verified=plan.coherence.verified,
        judged_ms=now_ms,
        healed=healed + (known.healed if known else 0),
    )
    if known is not None:  # the content is signed and the same: what was once found in it still holds
        found = replace(found, sha512=known.sha512, components=known.components)
    if verified.complete:
        _mend_torrent(files, minimal, chunk_map)
        if not found.sha512:
            verify_release(files, watcher=_StopWatch(cancelled))
            found = _digest(files, chunk_map, found, cancelled)
    before = stamps_of(files)
    found = replace(found, withheld=tuple(_withheld(files, minimal)))
    # Nothing that was read may have changed since: what has is not vouched for.
    before |= {at: stamps.get(at, "") for at in _LARGE} | {_MINIMAL: first.get(_MINIMAL, "")}
    steady = {at: stamp for at, stamp in stamps_of(files).items() if before.get(at) == stamp}
    return Copy(files, minimal, replace(found, stamps=steady))


def read_chunk_map(files: ReleaseFiles, minimal: MinimalManifest) -> ChunkMap:
    """The signed chunk map; raises :class:`NotFound` and :class:`ContentRejected` (``chunkmap.*``)."""
    data = read_bounded(files.path(".chunks"), largest_map(minimal.size))
    chunk_map = parse_chunk_map(data, expected=minimal.chunks, size=minimal.size)
    if chunk_map.tgz_sha256 != minimal.infohash:
        raise ContentRejected("chunkmap.infohash", "the chunk map speaks of another .tgz than the minimal manifest")
    return chunk_map


def read_minimal(files: ReleaseFiles, rules: Rules, now_ms: int) -> MinimalManifest:
    """The minimal manifest, if it is sound and one that ``rules`` take in; raises as :func:`judge`."""
    minimal = parse_minimal(read_bounded(files.path(_MINIMAL), limits.MINIMAL_BYTES))
    if minimal.release != files.named_release:
        message = f"the folder is of {files.stem}, the manifest says {minimal.release}"
        raise RecordRejected("minimal.other-release", message)
    check_not_ahead(minimal, now_ms)
    if rules.publishers and minimal.pubkey not in rules.publishers:
        raise RecordRejected("mirror.publisher", f"{minimal.release} is {minimal.pubkey}'s, who is not mirrored here")
    if minimal.size > rules.max_package_bytes:
        message = f"{minimal.release} has {minimal.size} bytes, max-package-bytes is {rules.max_package_bytes}"
        raise LocalFault("storage.quota", message)
    return minimal


def _obtain_chunk_map(files: ReleaseFiles, minimal: MinimalManifest) -> ChunkMap:
    try:
        return read_chunk_map(files, minimal)
    except (ContentRejected, NotFound):
        chunk_map = rebuild_chunk_map(files, minimal)
        if chunk_map is None:
            raise
        _LOG.warning("%s: the chunk map was made anew", files.stem)
        return chunk_map


def _heal(files: ReleaseFiles, chunk_map: ChunkMap, cancelled: threading.Event) -> tuple[dict[str, str], Verified, int]:
    """What is right after all that can be healed was; the stamps are older than what was read last."""
    store = ChunkStore(chunk_map, files.tgz, files.path(".parity"))
    stamps = stamps_of(files)
    verified = store.verify(progress=lambda done: stop_if(cancelled))
    if verified.complete and not verified.missing_parity() and _sizes_fit(files, chunk_map):
        return stamps, verified, 0
    try:
        report = store.repair(known=verified, heal_parity=True, progress=lambda done: stop_if(cancelled))
    except OSError as error:  # a store that cannot be written to is still good for reading
        _LOG.error("%s: damaged, and cannot be healed: %s", files.stem, error.strerror)
        return stamps, verified, 0
    healed = len(report.repaired) + len(report.repaired_parity)
    _LOG.warning("%s: was damaged (%s), %d chunks are healed", files.stem, report.before, healed)
    stamps = stamps_of(files)
    return stamps, store.verify(progress=lambda done: stop_if(cancelled)), healed


def _sizes_fit(files: ReleaseFiles, chunk_map: ChunkMap) -> bool:
    sizes = {".tgz": chunk_map.grid.size, ".parity": chunk_map.grid.parity_bytes(chunk_map.m)}
    return all(files.path(suffix).stat().st_size == size for suffix, size in sizes.items())


def _mend_torrent(files: ReleaseFiles, minimal: MinimalManifest, chunk_map: ChunkMap) -> None:
    try:
        parse_metainfo(read_bounded(files.path(".torrent"), limits.METAINFO_BYTES), minimal.release, minimal)
    except (ContentRejected, NotFound):
        try:
            rebuild_torrent(files, minimal, chunk_map)
        except OSError as error:
            _LOG.error("%s: the torrent cannot be made anew: %s", files.stem, error.strerror)


def _withheld(files: ReleaseFiles, minimal: MinimalManifest) -> Iterator[str]:
    """The small files that are there and do not hold. A bundle's proofs are not judged: that needs a policy."""
    checks: dict[str, tuple[int, Callable[[bytes], object]]] = {
        ".torrent": (limits.METAINFO_BYTES, lambda data: parse_metainfo(data, minimal.release, minimal)),
        ".dht.json": (limits.DHT_RECORD_BYTES, lambda data: parse_dht_record(data, minimal)),
        ".silexium.json": (limits.BUNDLE_BYTES, lambda data: _check_bundle(data, minimal)),
    }
    for suffix, (most, parse) in checks.items():
        path = files.path(suffix)
        if not path.exists():
            continue
        try:
            parse(read_bounded(path, most))
        except LibreSeedError as error:
            _LOG.error("%s is not shown: %s [%s]", path.name, error.message, error.reason)
            yield suffix


def _check_bundle(data: bytes, minimal: MinimalManifest) -> None:
    """Its form, and whose it is; nothing in it is believed."""
    release = parse_release_manifest(parse_bundle(data).manifest).release
    if release != minimal.release:
        raise ProofRejected("silexium.bundle", f"the bundle is of {release}, not of {minimal.release}")


def _digest(files: ReleaseFiles, chunk_map: ChunkMap, note: CopyNote, cancelled: threading.Event) -> CopyNote:
    """One more pass, for what the integrity manifest and the package zip say."""
    whole = hashlib.sha512()
    components: list[Component] = []
    small_enough = chunk_map.grid.n <= limits.COMPONENTS * limits.STRIPE_DATA_ROWS
    with files.tgz.open("rb") as file:
        while data := file.read(_COMPONENT_BYTES):
            stop_if(cancelled)
            whole.update(data)
            if small_enough:
                components.append(Component(zlib.crc32(data), hashlib.sha512(data).digest()))
    return replace(note, sha512=whole.digest(), components=tuple(components))


class _StopWatch(Nobody):
    """Ends a verification soon after it was cancelled."""

    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled

    def update(self, done: int) -> None:
        """A portion was done."""
        stop_if(self._cancelled)


def _runs(flags: bytearray) -> tuple[range, ...]:
    return tuple(_zero_runs(flags))


def _zero_runs(flags: bytearray) -> Iterator[range]:
    at = flags.find(0)
    while at >= 0:
        end = flags.find(1, at)
        end = len(flags) if end < 0 else end
        yield range(at, end)
        at = flags.find(0, end)
