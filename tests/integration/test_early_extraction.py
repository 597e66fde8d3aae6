"""A .tgz is extracted while its rest arrives: out of sight, and without a trace if it was in vain."""

from __future__ import annotations

import errno
import io
import random
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from libreseed.adapters.command.console import Progress
from libreseed.adapters.files.durable import staging_directory
from libreseed.adapters.packing import archive
from libreseed.adapters.resolving import early_extraction
from libreseed.ids import ReleaseId, Sha256Digest
from libreseed.resolve.policy import Policy
from services.resolver import install
from services.resolver.content import Content
from services.resolver.flow import resolve
from services.resolver.mirror_options import MirrorOptions
from tests.archive_forge import Forge, entry, gz
from tests.kill_support import command
from tests.mirror_support import Asked, FakeMirror, Temper, content_range, files_of, start, tgz_path
from tests.resolver_support import Sample, assert_installed, forge_sample, leftovers, make_sample, rejects, scene

pytestmark = pytest.mark.integration
SIZE = 12_000_000
WAITING = Policy(patience_s=30, peer_silence_s=30)  # these mirrors hold back what they have, on a busy machine for long


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("early"), SIZE)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a slow line, however fast this machine is."""
    monkeypatch.setattr(early_extraction, "_LOOK_S", 0.0)
    monkeypatch.setattr(early_extraction, "_FAST", 10**18)


def hidden(parent: Path) -> Iterator[Path]:
    """The files of trees that nobody should see."""
    for staging in parent.glob(".*"):
        yield from (path for path in staging.rglob("*") if path.is_file())


async def extracted(parent: Path) -> None:
    """Return as soon as something was extracted into ``parent``."""
    with trio.fail_after(60):
        while not any(path.stat().st_size for path in hidden(parent)):
            await trio.sleep(0.01)


def held_back(sample: Sample, until: Callable[[], Awaitable[None]], *, size: int = 2 * 2**20) -> Temper:
    """A mirror that gives the last ``size`` bytes of the .tgz after ``until`` returned."""

    async def temper(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
        stop = sample.minimal.size - size
        if asked.path != tgz_path(sample) or asked.span is None or asked.span[1] <= stop:
            return False
        first, last = asked.span
        data = mirror.files[asked.path]
        head = f"HTTP/1.1 206 X\r\nContent-Length: {last - first}\r\n{content_range(asked.span, len(data))}\r\n\r\n"
        await stream.send_all(head.encode() + data[first : max(first, stop)])
        await until()
        await stream.send_all(data[max(first, stop) : last])
        return True

    return temper


async def test_the_tree_is_there_before_the_last_bytes_are_and_nobody_sees_it(tmp_path: Path, sample: Sample) -> None:
    seen: list[list[str]] = []
    async with scene(tmp_path, sample, publish=False) as it:
        packages = it.store / "packages"

        async def look() -> None:
            await extracted(packages)
            seen.append([path.name for path in packages.iterdir() if not path.name.startswith(".")])

        mirror = await start(it.nursery, files_of(sample), held_back(sample, look))
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
        assert_installed(sample, outcome.path)
        assert seen
        assert not any(seen)
        assert [path.name for path in packages.iterdir()] == [str(sample.minimal.release)]


async def test_cancelled_in_the_middle_nothing_is_left_and_what_is_verified_stays(
    tmp_path: Path, sample: Sample
) -> None:
    async with scene(tmp_path, sample, publish=False) as it:
        mirror = await start(it.nursery, files_of(sample), held_back(sample, trio.sleep_forever))
        async with trio.open_nursery() as nursery:
            take = partial(it.resolve, bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
            nursery.start_soon(take)
            await extracted(it.store / "packages")
            nursery.cancel_scope.cancel()
        assert not list((it.store / "packages").iterdir())
        mirror.temper = None
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
        assert_installed(sample, outcome.path)
        assert outcome.chunks["reused"] > 0


async def test_kill_9_in_the_middle_shows_nothing_and_the_next_run_clears_up(tmp_path: Path, sample: Sample) -> None:
    at_once = "from libreseed.adapters.resolving import early_extraction as e; e._LOOK_S, e._FAST = 0.0, 10**18"
    async with scene(tmp_path, sample, publish=False) as it:
        mirror = await start(it.nursery, files_of(sample), held_back(sample, trio.sleep_forever))
        line = command(it, "--mirror", mirror.url)
        line[1:3] = ["-c", f"{at_once}; from libreseed_services.resolver.cli import main; main()"]
        process = await trio.lowlevel.open_process(line, stdout=subprocess.DEVNULL)
        packages = it.store / "packages"
        await extracted(packages)
        process.kill()
        await process.wait()
        assert all(path.name.startswith(".") for path in packages.iterdir())
        assert list(hidden(packages))
        mirror.temper = None
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
        assert_installed(sample, outcome.path)
        assert [path.name for path in packages.iterdir()] == [str(sample.minimal.release)]
        assert outcome.chunks["reused"] > 0


async def test_where_pieces_were_refused_what_was_extracted_from_them_does_not_count(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late block may have changed what was verified: the tree that was made meanwhile is made again."""
    monkeypatch.setattr(Content, "disturbed", True)
    async with scene(tmp_path, sample, publish=False) as it:

        async def spoil() -> None:
            await extracted(it.store / "packages")
            for path in hidden(it.store / "packages"):
                path.write_bytes(b"not what was signed")

        mirror = await start(it.nursery, files_of(sample), held_back(sample, spoil))
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
        assert_installed(sample, outcome.path)


async def test_a_tgz_that_is_not_the_signed_one_is_refused_in_step_7_though_its_tree_was_good(
    tmp_path: Path, sample: Sample
) -> None:
    """The publisher's chunk map is true and the signed SHA-256 is not: what was extracted meanwhile is thrown away."""
    liar = forge_sample(tmp_path / "liar", sample.files.tgz.read_bytes(), sha256=Sha256Digest(bytes(32)))
    async with scene(tmp_path, liar, publish=False) as it:
        mirror = await start(it.nursery, files_of(liar), held_back(liar, partial(extracted, it.store / "packages")))
        with rejects("archive.infohash", step=7):
            await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
        assert not leftovers(it.store)


async def test_what_is_wrong_with_the_archive_is_said_of_the_whole_one(tmp_path: Path) -> None:
    """The first file is good and long enough to be extracted early; the second is not what the manifest says."""
    draw = random.Random(1)
    forge = Forge({"a.bin": draw.randbytes(9_000_000), "b.bin": draw.randbytes(4_000_000)}, executables=())
    raw = forge.with_entry("b.bin", entry("b.bin", forge.files["b.bin"][:-1] + b"!"))
    evil = forge_sample(tmp_path / "evil", gz(raw), key=forge.key, release=ReleaseId.parse("pkg@1.0.0"))
    async with scene(tmp_path, evil, publish=False) as it:
        mirror = await start(it.nursery, files_of(evil), held_back(evil, partial(extracted, it.store / "packages")))
        with rejects("files.hash", step=9):
            await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
        assert not leftovers(it.store)


class Full:
    """In the place of ``extract_archive``: a disk without room."""

    def __init__(self) -> None:
        self.tried = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def __call__(self, *_: object, **__: object) -> None:
        self._token.run_sync_soon(self.tried.set)
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_what_is_good_is_not_extracted_again(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "extract_archive", Full())
    async with scene(tmp_path, sample, publish=False) as it:
        mirror = await start(it.nursery, files_of(sample), held_back(sample, partial(extracted, it.store / "packages")))
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
        assert_installed(sample, outcome.path)


@pytest.mark.parametrize(("times", "short", "begun"), [(4, 0, True), (4, 1, False)])
async def test_a_disk_without_much_room_is_left_to_the_download(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch, times: int, short: int, begun: bool
) -> None:
    """It could have no room for .tgz and tree at once: then nothing that was fetched is lost."""
    usage, free = shutil.disk_usage(tmp_path), times * sample.minimal.size - short
    monkeypatch.setattr(early_extraction.shutil, "disk_usage", lambda _: usage._replace(free=free))
    began: list[Path] = []
    monkeypatch.setattr(
        early_extraction, "staging_directory", lambda parent: began.append(parent) or staging_directory(parent)
    )
    async with scene(tmp_path, sample, publish=False) as it:
        mirror = await start(it.nursery, files_of(sample))
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)))
        assert_installed(sample, outcome.path)
        assert began == [it.store / "packages"] * begun


async def test_what_does_not_count_goes_before_the_archive_is_extracted_again(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that has room for one tree would be full."""
    monkeypatch.setattr(Content, "disturbed", True)
    again, trees = install.extract_archive, []
    async with scene(tmp_path, sample, publish=False) as it:

        def extract(*arguments: Any, **more: Any) -> archive.ExtractReport:
            trees.append([path for path in (it.store / "packages").iterdir() if any(path.iterdir())])
            return again(*arguments, **more)

        monkeypatch.setattr(install, "extract_archive", extract)
        mirror = await start(it.nursery, files_of(sample), held_back(sample, partial(extracted, it.store / "packages")))
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
        assert_installed(sample, outcome.path)
        assert trees == [[]]


async def test_a_disk_that_was_full_beside_the_download_fails_nothing_and_is_not_told_of(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Full()
    monkeypatch.setattr(archive, "extract_archive", full)
    async with scene(tmp_path, sample, publish=False) as it:
        mirror = await start(it.nursery, files_of(sample), held_back(sample, full.tried.wait))
        with Progress(stream=io.StringIO()) as progress:
            outcome = await resolve(
                it.options(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING), progress
            )
        assert_installed(sample, outcome.path)
        assert progress._stream.getvalue().count("installing") == 1  # type: ignore[attr-defined]


async def test_a_tree_that_cannot_be_removed_beside_the_download_fails_nothing(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where all descriptors are in use for a moment."""
    remove, refused = shutil.rmtree, []

    def refuse(path: Path, *arguments: Any, **more: Any) -> None:
        if Path(path).name.startswith(".libreseed-staging-") and not refused:
            refused.append(path)
            raise OSError(errno.EMFILE, "Too many open files")
        remove(path, *arguments, **more)

    full = Full()
    monkeypatch.setattr(archive, "extract_archive", full)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    async with scene(tmp_path, sample, publish=False) as it:
        mirror = await start(it.nursery, files_of(sample), held_back(sample, full.tried.wait))
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
        assert_installed(sample, outcome.path)
        assert refused


async def test_a_deadline_while_the_rest_is_extracted_is_not_told_as_one_of_step_7(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, token = trio.Event(), trio.lowlevel.current_trio_token()

    def stuck(_: early_extraction.EarlyExtraction, __: int) -> None:
        token.run_sync_soon(begun.set)
        while True:
            trio.from_thread.check_cancelled()
            time.sleep(0.01)

    monkeypatch.setattr(early_extraction.EarlyExtraction, "_advance", stuck)
    async with scene(tmp_path, sample, publish=False) as it:
        mirror = await start(it.nursery, files_of(sample), held_back(sample, begun.wait))
        with rejects("deadline.total", step=8):
            await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING, timeout=6.0)
        assert not list((it.store / "packages").iterdir())


def remove(file: Path) -> None:
    file.unlink()


def remove_all(file: Path) -> None:
    shutil.rmtree(file.parents[2])


def spoil_in_place(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"not what was signed")


def add(file: Path) -> None:
    file.with_name("more").write_bytes(b"")


def add_a_folder(file: Path) -> None:
    file.with_name("more").mkdir()


def lock_a_folder(file: Path) -> None:
    file.parent.chmod(0o500)


@pytest.mark.parametrize("touch", [remove, remove_all, spoil_in_place, add, add_a_folder, lock_a_folder])
async def test_a_tree_that_somebody_touched_while_the_rest_arrived_is_made_again(
    tmp_path: Path, sample: Sample, touch: Callable[[Path], None]
) -> None:
    """Whoever clears up among hidden files, for one: the tree lies there as long as the download takes."""
    touched: list[Path] = []
    lock = trio.Lock()
    async with scene(tmp_path, sample, publish=False) as it:

        async def touch_the_first() -> None:
            async with lock:
                with trio.fail_after(60):
                    while (
                        not touched and len(made := [p for p in hidden(it.store / "packages") if "file-" in p.name]) < 2
                    ):
                        await trio.sleep(0.01)
                if not touched:
                    touched.append(min(made))
                    touch(min(made))

        mirror = await start(it.nursery, files_of(sample), held_back(sample, touch_the_first))
        outcome = await it.resolve(bootstrap=(), mirrors=MirrorOptions((mirror.url,)), policy=WAITING)
        assert touched
        assert_installed(sample, outcome.path)
        assert all(path.stat().st_mode & 0o777 == 0o755 for path in Path(outcome.path).rglob("*") if path.is_dir())
        assert [path.name for path in (it.store / "packages").iterdir()] == [str(sample.minimal.release)]
