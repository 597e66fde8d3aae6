"""The user's command: pins, what is installed, removal, and what the demo's story may claim."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path

import pytest

from libreseed.adapters.resolving.store import Store
from libreseed.errors import LocalFault
from libreseed.ids import PublicKey, ReleaseId
from libreseed.repair.grid import ChunkGrid
from libreseed.resolve.receipt import Receipt
from services.user.cli import main
from services.user.damage import flip_chunks, same_trees, scattered, too_many
from services.user.story import Story
from tests.resolver_support import Sample, make_sample

KEY = str(PublicKey(bytes(range(32))))
OTHER = str(PublicKey(bytes(range(1, 33))))
RELEASE = ReleaseId.parse("sample@1.0.0")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sample"), 50_000)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, object]]:
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_pins_are_added_listed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--store", tmp_path / "store")
    assert run(capsys, "trust", "add", "hello", KEY, *flags)[0] == 0
    assert run(capsys, "trust", "add", "hello", OTHER, *flags)[0] == 0
    assert run(capsys, "trust", "list", *flags)[1]["publishers"] == {"hello": [KEY, OTHER]}
    assert run(capsys, "trust", "remove", "hello", KEY, *flags)[1]["publishers"] == {"hello": [OTHER]}
    code, answer = run(capsys, "trust", "remove", "hello", KEY, *flags)
    assert (code, answer["reason"]) == (10, "notfound.pin")


@pytest.mark.parametrize(("name", "key"), [("Hello", KEY), ("hello", KEY[:-1]), ("hello", "")])
def test_what_is_no_name_or_key_pins_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, key: str
) -> None:
    code, answer = run(capsys, "trust", "add", name, key, "--store", tmp_path / "store")
    assert (code, answer["reason"]) == (2, "usage")
    assert not (tmp_path / "store").exists()


def test_a_store_that_is_a_file_is_not_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store").write_text("not a directory")
    for verb in (["list"], ["uninstall", RELEASE], ["verify", RELEASE]):
        code, answer = run(capsys, *verb, "--store", tmp_path / "store")
        assert (code, answer["reason"]) == (50, "storage.occupied")
    assert run(capsys, "list", "--store", tmp_path / "absent") == (0, {"ok": True, "installed": []})


def test_the_store_of_the_configuration_is_the_one_that_is_listed_and_pinned_in(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config" / "libreseed").mkdir(parents=True)
    (tmp_path / "config" / "libreseed" / "resolver.toml").write_text(f"store = '{tmp_path / 'mine'}'\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for variable in ("LIBRESEED_STORE", "CONFIGURATION_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    place = tmp_path / "mine" / "packages" / str(RELEASE)
    install(Store(tmp_path / "mine"), sample, place)
    assert run(capsys, "list")[1]["installed"] == [{"release": str(RELEASE), "path": str(place)}]
    assert run(capsys, "trust", "add", "hello", KEY)[0] == 0
    assert (tmp_path / "mine" / "trust.json").exists()
    code, answer = run(capsys, "verify", RELEASE)  # found, and its content is none
    assert (code, answer["reason"]) == (50, "storage.changed")
    assert run(capsys, "uninstall", RELEASE)[1]["removed"] == [str(place)]


def install(store: Store, sample: Sample, place: Path) -> Receipt:
    store.open()
    place.mkdir(parents=True)
    (place / "file").write_text("content")
    receipt = Receipt(sample.minimal, str(place), 1, "flag", "not checked")
    store.keep_receipt(receipt)
    return receipt


def test_list_and_uninstall_follow_the_receipts(
    tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    here, there = store.packages / "sample@1.0.0", tmp_path / "elsewhere" / "sample@1.0.0"
    install(store, sample, here)
    install(store, sample, there)
    rows = run(capsys, "list", "--store", store.root)[1]["installed"]
    assert rows == [{"release": "sample@1.0.0", "path": str(path)} for path in sorted((here, there), key=str)]
    code, answer = run(capsys, "uninstall", "sample@1.0.0", "--store", store.root)
    assert code == 0
    assert sorted(answer["removed"]) == sorted([str(here), str(there)])
    assert not list(here.parent.iterdir())
    assert not list(there.parent.iterdir())
    assert run(capsys, "list", "--store", store.root)[1]["installed"] == []
    code, answer = run(capsys, "uninstall", "sample@1.0.0", "--store", store.root)
    assert (code, answer["reason"]) == (10, "notfound.installed")


def test_a_tree_removed_by_hand_is_not_installed(
    tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    receipt = install(store, sample, store.packages / "sample@1.0.0")
    (Path(receipt.path) / "file").unlink()
    Path(receipt.path).rmdir()
    assert run(capsys, "list", "--store", store.root)[1]["installed"] == []


def test_a_release_being_resolved_is_not_removed(
    tmp_path: Path, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    receipt = install(store, sample, store.packages / "sample@1.0.0")
    lock = store.lock(RELEASE)
    assert lock.acquire(wait=False)
    try:
        code, answer = run(capsys, "uninstall", "sample@1.0.0", "--store", store.root)
    finally:
        lock.close()
    assert (code, answer["reason"]) == (50, "storage.locked")
    assert (Path(receipt.path) / "file").read_text() == "content"


def test_a_demo_of_no_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = run(capsys, "demo", tmp_path / "none")
    assert (code, answer["reason"]) == (10, "demo.directory")


def test_a_claim_that_does_not_hold_is_told_and_kept() -> None:
    stream = io.StringIO()
    story = Story(stream)
    story.act("Act")
    story.claim("this holds", True)
    story.claim("this does not", False)
    assert [claim.text for claim in story.broken] == ["this does not"]
    assert "[NOT SO] this does not" in stream.getvalue()


def test_a_listener_who_leaves_is_no_fault_of_the_disk() -> None:
    """``libreseed demo | head``: the remedy was to check the disk."""

    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(LocalFault) as caught:
        Story(Gone()).act("Act")
    assert caught.value.reason == "storage.output"


@pytest.mark.parametrize("size", [1, 5120, 5121, 500_000, 3_000_000])
def test_scattered_damage_stays_within_what_parity_replaces(size: int) -> None:
    grid = ChunkGrid(size)
    for stripe in range(grid.s):
        lost = [chunk for chunk in scattered(grid, grid.least_m, seed=1) if grid.stripe_of(chunk) == stripe]
        assert 1 <= len(lost) <= grid.least_m
    beyond = too_many(grid, grid.least_m)
    assert len(beyond) == min(grid.least_m + 1, len(grid.chunks_of(0)))
    assert {grid.stripe_of(chunk) for chunk in beyond} == {0}


def test_flipped_chunks_differ_in_one_bit_and_keep_the_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(20_000))
    before = path.stat().st_mtime_ns
    flip_chunks(path, [0, 3], seed=1)
    data = path.read_bytes()
    assert [bin(int.from_bytes(data[i : i + 5120])).count("1") for i in range(0, 20_000, 5120)] == [1, 0, 0, 1]
    assert path.stat().st_mtime_ns == before


def test_trees_that_differ_in_a_byte_a_mode_or_a_name_are_not_the_same(tmp_path: Path) -> None:
    def tree(name: str, data: bytes = b"x", mode: int = 0o644, file: str = "f") -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(data)
        (tmp_path / name / file).chmod(mode)
        return tmp_path / name

    first, none = tree("a"), frozenset[str]()
    assert same_trees(first, tree("b"), ignore=none)
    assert not same_trees(first, tree("c", data=b"y"), ignore=none)
    assert not same_trees(first, tree("d", mode=0o755), ignore=none)
    assert not same_trees(first, tree("e", file="g"), ignore=none)
    assert same_trees(first, tree("g", file="extra"), ignore=frozenset({"f", "extra"}))
