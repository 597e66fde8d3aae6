"""A mirror believes nothing but the log's signature: what a lying source or a forked log gets from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from libreseed import limits
from libreseed.adapters.files import durable
from libreseed.adapters.silexium.log.log_export import export_log
from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.errors import LibreSeedError, ProofRejected
from libreseed.ids import Blake3Digest
from libreseed.silexium.log_memory import parse_conflict
from libreseed.silexium.log_path import BodyBundle, EntryBundle, parse_bodies, write_bodies
from libreseed.silexium.merkle import BLAKE3_TREE, CompactRange
from libreseed.silexium.quorum import Quorum
from libreseed.silexium.tile_check import LogWalk
from libreseed.silexium.tiles import Tile, TileTail, write_entries
from libreseed.silexium.tree_head import Checkpoint, Cosignature, NamedKey, SignedTreeHead, TreeHead
from tests.log_support import START, Source, checkpoint_of, entry, exported, files, grow, mirror_of, open_log
from tests.silexium_support import LOG, LOG_KEY, WITNESS_KEYS, WITNESSES, private

NOW = START + 100_000


def refused(reason: str) -> pytest.RaisesExc[LibreSeedError]:
    return pytest.RaisesExc(LibreSeedError, check=lambda error: error.reason == reason)


@pytest.fixture(autouse=True, scope="module")
def unsynced() -> Iterator[None]:
    """Whether a crash loses anything is tested elsewhere; waiting for the disk here would take half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "_sync_all", lambda files, folders: None)
        patch.setattr(durable, "_SYNC_EACH", 10**9)
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 540 entries; how it was exported at 5, 300 and 540 entries lies beside it."""
    root = tmp_path_factory.mktemp("good")
    with open_log(root / "log.db") as store:
        for size in (5, 300, 540):
            grow(store, size)
            export_log(store, root / "log")
            shutil.copytree(root / "log", root / str(size))
    return root


# --- what it copies -------------------------------------------------------------------------------------


def test_a_mirror_is_the_log_and_can_be_mirrored_again(tmp_path: Path, good: Path) -> None:
    first, second = mirror_of(tmp_path / "one"), mirror_of(tmp_path / "two")
    assert first.update(Source(good / "300"), NOW).checkpoint.sth.size == 300
    done = first.update(Source(good / "540"), NOW)
    assert (done.old, done.checkpoint.sth.size) == (300, 540)
    assert files(tmp_path / "one") == files(good / "540")
    second.update(Source(tmp_path / "one"), NOW)
    assert {f"entries/{index}" for index in range(540)} < set(files(tmp_path / "two"))


def test_growth_costs_what_is_new(tmp_path: Path, good: Path) -> None:
    mirror = mirror_of(tmp_path / "m")
    mirror.update(Source(good / "300"), NOW)
    source = Source(good / "540")
    mirror.update(source, NOW)
    bodies = [path for path in source.asked if path.startswith("tile/bodies/")]
    assert bodies == [BodyBundle(1).path, BodyBundle(2, 28).path]
    again = Source(good / "540")
    mirror.update(again, NOW)
    assert again.asked == ["checkpoint"]


def test_an_interrupted_copy_goes_on_with_what_it_has(tmp_path: Path, good: Path) -> None:
    """The connection breaks after two bundles; what was left is verified again, a damaged file fetched anew."""
    mirror, source = mirror_of(tmp_path / "m"), Source(good / "540")

    def breaking(paths: list[str], most: int) -> list[bytes | None]:
        if BodyBundle(2, 28).path in paths:
            raise ConnectionError
        return source(paths, most)

    shutil.copytree(good / "540", tmp_path / "m")  # as if two bundles had come, and no checkpoint
    (tmp_path / "m" / "checkpoint").unlink()
    (tmp_path / "m" / BodyBundle(2, 28).path).unlink()
    (tmp_path / "m" / BodyBundle(0).path).write_bytes(b"\x00\x05torn")
    with pytest.raises(ConnectionError):
        mirror.update(breaking, NOW)  # type: ignore[arg-type]
    assert LogFolder(tmp_path / "m").checkpoint() is None and mirror.memory() is None
    source.asked.clear()
    assert mirror.update(source, NOW).kept == 1
    assert BodyBundle(1).path not in source.asked and BodyBundle(0).path in source.asked
    again = mirror_of(tmp_path / "again")
    again.update(Source(tmp_path / "m"), NOW)


def test_a_partial_file_that_is_gone_is_taken_from_the_full_one(tmp_path: Path, good: Path) -> None:
    """The source has gone on while the mirror reads by the older checkpoint."""
    source = Source(good / "540")
    source.lies["checkpoint"] = (good / "300" / "checkpoint").read_bytes()
    mirror = mirror_of(tmp_path / "m")
    mirror.update(source, NOW)
    assert files(tmp_path / "m") == files(good / "300")


def test_the_same_tree_signed_again_is_taken_over_and_the_older_signature_is_not(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as store:
        first = grow(store, 10)
        export_log(store, tmp_path / "log")
        mirror = mirror_of(tmp_path / "m")
        mirror.update(Source(tmp_path / "log"), NOW)
        second = store.sign_head(LOG_KEY, START + 500)
        export_log(store, tmp_path / "log")
    mirror.update(Source(tmp_path / "log"), NOW)
    assert LogFolder(tmp_path / "m").checkpoint() == checkpoint_of(second)
    old = Source(tmp_path / "log")
    old.lies["checkpoint"] = checkpoint_of(first)
    assert mirror.update(old, NOW).checkpoint.sth == second
    assert LogFolder(tmp_path / "m").checkpoint() == checkpoint_of(second)


def test_one_mirror_of_a_folder_works_at_a_time(tmp_path: Path, good: Path) -> None:
    mirror = mirror_of(tmp_path / "m")
    with mirror.folder.locked(), refused("storage.folder-busy"):
        mirror_of(tmp_path / "m").update(Source(good / "300"), NOW)


# --- what it refuses -----------------------------------------------------------------------------------


def forged_body(source: Source) -> None:
    """Entry 200 is another one, in its bundle and by itself."""
    place = BodyBundle(0)
    entries = parse_bodies(source.folder.read(place.path), 256)
    entries[200] = b"forged"
    source.lies |= {place.path: write_bodies(entries), "entries/200": b"forged"}


def forged_with_its_tile(source: Source) -> None:
    """The forger also makes the hashes and the leaves fit; only the signed root he cannot."""
    forged_body(source)
    entries = parse_bodies(source.lies[BodyBundle(0).path] or b"", 256)
    hashes = [blake3(data).digest() for data in entries]
    source.lies[EntryBundle(0).path] = write_entries(hashes)
    source.lies[Tile(0, 0).path] = b"".join(map(BLAKE3_TREE.leaf, hashes))


def forged_in_the_last_bundle(source: Source) -> None:
    place = BodyBundle(1, 44)
    entries = parse_bodies(source.folder.read(place.path), 44)
    source.lies[place.path] = write_bodies([*entries[:-1], b"forged"])


def swapped(source: Source) -> None:
    """Two true entries in each other's place."""
    place = BodyBundle(0)
    entries = parse_bodies(source.folder.read(place.path), 256)
    entries[3], entries[4] = entries[4], entries[3]
    source.lies[place.path] = write_bodies(entries)


def truncated_tile(source: Source) -> None:
    tile = Tile(1, 0, 1)
    source.lies[tile.path] = source.folder.read(tile.path)[:-1]


def short_tile(source: Source) -> None:
    tile = Tile(0, 1, 44)
    source.lies[tile.path] = source.folder.read(tile.path)[: 32 * 20]


def forged_tile(source: Source) -> None:
    tile = Tile(1, 0, 1)
    source.lies[tile.path] = bytes(32)


def truncated_bundle(source: Source) -> None:
    place = BodyBundle(0)
    source.lies[place.path] = source.folder.read(place.path)[:-5]


def missing_bundle(source: Source) -> None:
    source.lies[BodyBundle(0).path] = None


def another_log(source: Source) -> None:
    key = private(77)
    sth = SignedTreeHead.sign(replace(head_of(source).head, origin="other.example/log"), START, key)
    source.lies["checkpoint"] = checkpoint_of(sth)


def signed_by_another_key(source: Source) -> None:
    head = head_of(source).head
    source.lies["checkpoint"] = checkpoint_of(SignedTreeHead.sign(head, START + 1000, private(77)))


def broken_signature(source: Source) -> None:
    note = source.folder.checkpoint() or b""
    at = note.rindex(b" ") + 40  # within the signature's base64
    source.lies["checkpoint"] = note[:at] + (b"A" if note[at : at + 1] != b"A" else b"B") + note[at + 1 :]


def garbage(source: Source) -> None:
    source.lies["checkpoint"] = b"<html>not found</html>"


def endless(source: Source) -> None:
    source.lies["checkpoint"] = b"x" * (limits.NOTE_BYTES + 1)


def from_the_future(source: Source) -> None:
    head = head_of(source).head
    source.lies["checkpoint"] = checkpoint_of(SignedTreeHead.sign(head, NOW + 10_000, LOG_KEY))


def older_than_the_smaller_one(source: Source) -> None:
    head = head_of(source).head
    source.lies["checkpoint"] = checkpoint_of(SignedTreeHead.sign(head, START + 4, LOG_KEY))


def head_of(source: Source) -> SignedTreeHead:
    from libreseed.silexium.tree_head import parse_checkpoint

    return parse_checkpoint(source.folder.checkpoint() or b"", LOG).sth


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (forged_body, "silexium.entry"),
        (forged_with_its_tile, "silexium.tile"),  # by the proof of growth; on first contact see below
        (forged_in_the_last_bundle, "silexium.entry"),
        (swapped, "silexium.entry"),
        (truncated_tile, "silexium.tile"),
        (short_tile, "silexium.tile"),
        (forged_tile, "silexium.tile"),
        (truncated_bundle, "silexium.tile"),
        (missing_bundle, "notfound.log"),
        (another_log, "silexium.head-signature"),
        (signed_by_another_key, "silexium.head-signature"),
        (broken_signature, "silexium.head-signature"),
        (garbage, "silexium.head"),
        (endless, "silexium.head"),
        (from_the_future, "silexium.future"),
        (older_than_the_smaller_one, "silexium.time-order"),
    ],
)
def test_a_lying_source_is_refused_and_the_mirror_shows_what_it_showed(
    tmp_path: Path, good: Path, lie: Callable[[Source], None], reason: str
) -> None:
    mirror = mirror_of(tmp_path / "m")
    mirror.update(Source(good / "5"), NOW)
    memory, shown = mirror.memory(), LogFolder(tmp_path / "m").checkpoint()
    source = Source(good / "300")
    lie(source)
    with refused(reason):
        mirror.update(source, NOW)
    assert mirror.memory() == memory and LogFolder(tmp_path / "m").checkpoint() == shown
    fresh = mirror_of(tmp_path / "fresh")
    if lie is not older_than_the_smaller_one:  # a first contact has nothing to compare times with
        with refused("silexium.entry" if lie is forged_with_its_tile else reason):
            fresh.update(source, NOW)
        assert fresh.memory() is None and LogFolder(tmp_path / "fresh").checkpoint() is None
    mirror.update(Source(good / "300"), NOW)  # nothing that the liar left behind is in the way
    assert files(tmp_path / "m") == files(good / "300")


def test_a_forged_entry_is_named(tmp_path: Path, good: Path) -> None:
    source = Source(good / "300")
    forged_body(source)
    with refused("silexium.entry") as error:
        mirror_of(tmp_path / "m").update(source, NOW)
    assert error.value.evidence["index"] == 200


def test_a_tile_that_changes_between_two_readings_is_refused(tmp_path: Path, good: Path) -> None:
    """True while the root is checked, forged when it is to be written down."""
    source, tile = Source(good / "300"), Tile(0, 1, 44)
    place = BodyBundle(1, 44)
    entries = [*parse_bodies(source.folder.read(place.path), 44)[:-1], b"forged"]
    source.lies[place.path] = write_bodies(entries)
    forged = b"".join(BLAKE3_TREE.leaf(blake3(data).digest()) for data in entries)

    def two_faced(paths: list[str], most: int) -> list[bytes | None]:
        if paths == [tile.path] and tile.path in source.asked:
            return [forged]
        return source(paths, most)

    with refused("silexium.tile"):
        mirror_of(tmp_path / "m").update(two_faced, NOW)  # type: ignore[arg-type]
    assert LogFolder(tmp_path / "m").checkpoint() is None


def test_an_old_head_is_refused(tmp_path: Path, good: Path) -> None:
    """A database put back from yesterday's backup, or a source that holds news back."""
    mirror = mirror_of(tmp_path / "m")
    mirror.update(Source(good / "300"), NOW)
    with refused("silexium.rollback"):
        mirror.update(Source(good / "5"), NOW)
    assert LogFolder(tmp_path / "m").checkpoint() == (good / "300" / "checkpoint").read_bytes()


def test_a_head_that_is_too_old_for_the_policy_is_refused(tmp_path: Path, good: Path) -> None:
    with refused("silexium.stale"):
        mirror_of(tmp_path / "m", max_head_age=3600).update(Source(good / "5"), NOW)


def test_a_clock_behind_the_log_is_refused(tmp_path: Path, good: Path) -> None:
    mirror = mirror_of(tmp_path / "m")
    mirror.update(Source(good / "5"), NOW)
    with refused("silexium.clock"):
        mirror.update(Source(good / "300"), START - 300)


@pytest.mark.parametrize(("size", "shared"), [(300, 3), (7, 4), (5, 2), (4, 3), (6, 0), (8, 4)])
def test_another_history_is_refused_and_the_evidence_kept(tmp_path: Path, good: Path, size: int, shared: int) -> None:
    """Larger, equal and smaller heads of a fork, each signed by the log itself."""
    mirror = mirror_of(tmp_path / "m")
    mirror.update(Source(good / "5"), NOW)
    shown = files(tmp_path / "m")
    fork = exported(tmp_path / "fork", [size], branch="b", shared=shared)
    with refused("silexium.fork") as error:
        mirror.update(Source(fork), NOW, source="https://mirror.example")
    assert files(tmp_path / "m") == shown
    (evidence,) = (tmp_path / "m" / ".silexium" / "evidence").iterdir()
    assert str(evidence) in error.value.details[0]
    told = json.loads(evidence.read_text())
    assert told["source"] == "https://mirror.example" and told["log"] == LOG.name
    conflict = parse_conflict({name: told[name] for name in ("first", "second", "nodes")}, LOG)
    assert {conflict.first.size, conflict.second.size} == {5, size}
    with refused("silexium.fork"):  # for good: also what fits is refused now
        mirror.update(Source(good / "300"), NOW)
    assert files(tmp_path / "m") == shown


def test_forged_tiles_are_no_evidence_against_the_log(tmp_path: Path, good: Path) -> None:
    """A source cannot stop a mirror for good by garbage: only the log's own signatures can."""
    mirror = mirror_of(tmp_path / "m")
    mirror.update(Source(good / "5"), NOW)
    source = Source(good / "300")
    tile = Tile(0, 0)
    source.lies[tile.path] = source.folder.read(tile.path)[:-32] + bytes(32)
    with pytest.raises(ProofRejected) as error:
        mirror.update(source, NOW)
    assert error.value.reason == "silexium.tile"
    memory = mirror.memory()
    assert memory is not None and memory.conflict is None
    mirror.update(Source(good / "300"), NOW)


def test_a_damaged_memory_is_a_refusal_and_not_a_first_contact(tmp_path: Path, good: Path) -> None:
    mirror = mirror_of(tmp_path / "m")
    mirror.update(Source(good / "5"), NOW)
    (tmp_path / "m" / ".silexium" / "memory.json").write_bytes(b"{}")
    with refused("silexium.memory"):
        mirror.update(Source(good / "300"), NOW)


def test_the_witnesses_that_a_policy_demands_must_have_cosigned(tmp_path: Path, good: Path) -> None:
    mirror = mirror_of(tmp_path / "m", Quorum(2, tuple(WITNESSES)))
    source = Source(good / "5")
    sth = head_of(source)
    lines = [Cosignature.sign(sth.head, name, START + 700, key) for name, key in WITNESS_KEYS.items()]
    source.lies["checkpoint"] = Checkpoint(sth, tuple(lines[:1])).data
    with refused("silexium.witness-quorum"):
        mirror.update(source, NOW)
    source.lies["checkpoint"] = Checkpoint(sth, tuple(lines[:2])).data
    assert len(mirror.update(source, NOW).checkpoint.cosignatures) == 2
    assert LogFolder(tmp_path / "m").checkpoint() == source.lies["checkpoint"]


def test_an_unknown_witness_is_passed_on_but_counts_for_nobody(tmp_path: Path, good: Path) -> None:
    source = Source(good / "5")
    sth = head_of(source)
    stranger = NamedKey("stranger.example", private(88).public)
    line = Cosignature.sign(sth.head, stranger.name, START + 700, private(88))
    source.lies["checkpoint"] = Checkpoint(sth, (line,)).data
    done = mirror_of(tmp_path / "m").update(source, NOW)
    assert done.checkpoint.cosignatures == ()
    assert LogFolder(tmp_path / "m").checkpoint() == source.lies["checkpoint"]


def test_an_entry_by_itself_is_what_the_bundle_says(tmp_path: Path, good: Path) -> None:
    """The source's single files are not even asked for."""
    source = Source(good / "5")
    mirror_of(tmp_path / "m").update(source, NOW)
    assert not any(path.startswith("entries/") for path in source.asked)
    assert (tmp_path / "m" / "entries" / "4").read_bytes() == entry(4)


@pytest.mark.parametrize(("old", "size"), [(8, 20), (1, 2), (4, 8), (2, 1), (8, 7)])
def test_a_fork_is_proven_from_any_size(tmp_path: Path, old: int, size: int) -> None:
    """Also from a power of two, where a consistency proof leaves out the node that would show it."""
    mirror = mirror_of(tmp_path / "m")
    mirror.update(Source(exported(tmp_path / "log", [old])), NOW)
    with refused("silexium.fork"):
        mirror.update(Source(exported(tmp_path / "fork", [size], branch="b")), NOW)


def test_a_forged_tile_above_a_forged_entry_is_refused() -> None:
    """In a log so large that a whole tile of level 1 is not at its edge: the tile above it vouches for it."""
    size = 65536 + 300
    entries = [b"%d" % number for number in range(size)]
    rows: dict[tuple[int, int], bytes] = {}
    tail = TileTail(lambda tile: rows[tile.level, tile.index], 0)
    rows |= tail.append([blake3(data).digest() for data in entries])
    head = TreeHead(LOG.name, size, Blake3Digest(tail.range.root))

    def walk(rows: dict[tuple[int, int], bytes]) -> LogWalk:
        found = LogWalk(lambda tile: rows[tile.level, tile.index], 0, head)
        found.edge()
        assert [tile.level for tile, _ in found.tiles()] == [2, 1, 1]
        return found

    bundles = walk(rows).bundles()
    assert len(bundles) == 258
    assert walk(rows).entries(bundles[3], write_bodies(entries[768:1024])).entries == entries[768:1024]
    forged = [*entries[768:1023], b"forged"]
    leaves = CompactRange()
    leaves.extend(blake3(data).digest() for data in forged)
    lie = rows[1, 0][: 32 * 3] + leaves.root + rows[1, 0][32 * 4 :]
    with refused("silexium.tile"):
        walk({**rows, (1, 0): lie})
    with refused("silexium.entry"):
        walk(rows).entries(bundles[3], write_bodies(forged))
