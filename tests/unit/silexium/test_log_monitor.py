"""A monitor tells its owner every entry of his packages, whatever the log's operator would rather keep quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libreseed import limits, wire
from libreseed.adapters.files import durable
from libreseed.adapters.silexium.watching import log_monitor
from libreseed.adapters.silexium.watching.log_monitor import LogMonitor
from libreseed.errors import LibreSeedError, TransportFault
from libreseed.silexium.entry_watch import Finding, Watch
from libreseed.silexium.log_path import BodyBundle, parse_bodies, write_bodies
from libreseed.silexium.tree_head import NamedKey
from libreseed.silexium.trust_policy import TrustedLog
from tests.log_support import START, Source, checkpoint_of, exported, open_log
from tests.monitor_support import AUTHOR, HELLO, NOW, PublicLog, Watcher, logged, others, watch
from tests.silexium_support import LOG, LOG_KEY, private, quorum

THIEF = private(77)
SOMEBODY = private(78).public


@pytest.fixture(autouse=True, scope="module")
def unsynced() -> Iterator[None]:
    """Processes are killed elsewhere; waiting for the disk here would take half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "_sync_all", lambda files, folders: None)
        patch.setattr(durable, "_SYNC_EACH", 10**9)
        yield


@pytest.fixture
def log(tmp_path: Path) -> PublicLog:
    return PublicLog(tmp_path)


@pytest.fixture
def me(tmp_path: Path) -> Watcher:
    return Watcher(tmp_path / "me" / "hello.watch")


# --- what it finds --------------------------------------------------------------------------------------


def test_a_hidden_entry_for_my_package_is_found(log: PublicLog, me: Watcher) -> None:
    """The operator logs a release of mine that I know nothing of, deep among others, and tells only its victims."""
    mine = logged("hello@1.0.0")
    log.add(*others(10), mine)
    assert me.look(log.source, watch(mine)).unexpected == ()
    log.add(*others(700)[10:], hidden := logged("hello@1.0.1", THIEF), *others(720)[700:])
    (found,) = me.look(log.source, watch(mine)).unexpected
    assert (found.index, found.release, found.entry) == (701, "hello@1.0.1", hidden.entry.digest)
    assert found.unexpected == ("its manifest is none of the known ones",)
    assert me.indices == [10, 701]


def test_what_is_expected_is_told_once_and_without_alarm(log: PublicLog, me: Watcher) -> None:
    first, second = logged("hello@1.0.0"), logged("hello@1.1.0")
    log.add(first, *others(3), second)
    done = me.look(log.source, watch(first, second))
    assert (done.size, done.read, [finding.index for finding in done.told]) == (5, 5, [0, 4])
    again = me.look(log.source, watch(first, second))
    assert (again.size, again.read, again.told) == (5, 0, ())
    assert me.indices == [0, 4] and not any(finding.unexpected for finding, _ in me.told)


def test_without_expectations_every_first_entry_is_merely_told(log: PublicLog, me: Watcher) -> None:
    log.add(logged("hello@1.0.0", THIEF))
    assert me.look(log.source, watch()).unexpected == () and me.indices == [0]


def test_a_second_entry_for_one_version_is_flagged_also_between_runs(log: PublicLog, me: Watcher) -> None:
    mine = logged("hello@1.0.0")
    log.add(mine, *others(3))
    me.look(log.source, watch(mine))
    log.add(logged("hello@1.0.0"))  # the same manifest, attested again
    (found,) = me.look(log.source, watch(mine)).unexpected
    assert found.unexpected == ("a second entry for this version: the first is 0",)


def test_a_known_manifest_under_another_version_is_unexpected(log: PublicLog, me: Watcher) -> None:
    mine = logged("hello@1.0.0")
    entry = wire.parse(mine.entry.data, max_bytes=limits.LOG_ENTRY_BYTES)
    log.add(mine, wire.canonical({**entry, "version_text": "2.0.0"}))
    (found,) = me.look(log.source, watch(mine)).unexpected
    assert (found.index, found.unexpected) == (1, ("its manifest is that of hello@1.0.0",))


def test_an_entry_that_nobody_can_read_is_told(log: PublicLog, me: Watcher) -> None:
    """It might be for my package, for a client with another parser."""
    mine = logged("hello@1.0.0")
    log.add(mine.entry.data.replace(b'"package":', b'"package": '))
    (found,) = me.look(log.source, watch(mine)).unexpected
    assert found.release is None and found.unexpected[0].startswith("not an entry: ")
    assert me.look(log.source, watch(mine)).told == ()


# --- whose it is ----------------------------------------------------------------------------------------


def test_a_release_that_somebody_else_signed_is_unexpected(log: PublicLog, me: Watcher) -> None:
    log.add(logged("hello@1.0.0"), logged("hello@1.0.1", THIEF))
    done = me.look(log.source, watch(authors=[SOMEBODY, AUTHOR.public]))
    assert [finding.author for finding in done.told] == [AUTHOR.public, None]
    (found,) = done.unexpected
    assert found.index == 1 and found.unexpected[0].endswith("[silexium.key-unknown]")


def test_a_manifest_that_i_do_not_know_under_my_own_key_is_unexpected(log: PublicLog, me: Watcher) -> None:
    """Whoever has stolen the key signs as I do, but not what I have built."""
    mine = logged("hello@1.0.0")
    log.add(mine, logged("hello@1.0.1"))
    (found,) = me.look(log.source, watch(mine, authors=[AUTHOR.public])).unexpected
    assert (found.index, found.author) == (1, AUTHOR.public)


def test_a_bundle_that_is_hidden_or_wrong_vouches_for_nothing(log: PublicLog, me: Watcher) -> None:
    mine = logged("hello@1.0.0")
    log.add(mine, *(logged(f"hello@2.0.{n}", THIEF) for n in range(5)))
    source = log.source
    source.lies["bundle/hello@2.0.0"] = None
    source.lies["bundle/hello@2.0.1"] = mine.bundle  # signed by me, but not what the entry names
    source.lies["bundle/hello@2.0.2"] = b"{}"

    def fetch(paths: list[str], most: int) -> list[bytes | None]:
        if paths == ["bundle/hello@2.0.3"]:
            raise TransportFault("http.status", "500", evidence={"status": 500})
        return source(paths, most)

    done = LogMonitor(me.path, TrustedLog(LOG), watch(authors=[AUTHOR.public])).update(fetch, NOW, lambda *told: None)  # type: ignore[arg-type]  # lists only
    ends = [finding.unexpected[0].rpartition(" ")[2] for finding in done.unexpected]
    expected = ["there", "[silexium.entry-mismatch]", "[silexium.bundle]", "[http.status]", "[silexium.key-unknown]"]
    assert [finding.index for finding in done.unexpected] == [1, 2, 3, 4, 5] and ends == expected


def test_an_attestation_about_another_release_vouches_for_nothing(log: PublicLog, me: Watcher) -> None:
    """My attestation of 1.0.0 under an entry that names another manifest."""
    mine, other = logged("hello@1.0.0"), logged("hello@2.0.0", THIEF)
    entry = wire.parse(other.entry.data, max_bytes=limits.LOG_ENTRY_BYTES)
    log.add(wire.canonical({**entry, "author": str(mine.entry.attestations[0])}))
    source = log.source
    source.lies["bundle/hello@2.0.0"] = mine.bundle
    (found,) = me.look(source, watch(authors=[AUTHOR.public])).unexpected
    assert found.unexpected[0].endswith("[silexium.claim]")


def test_a_stolen_key_that_signs_for_another_package_is_found(log: PublicLog, me: Watcher) -> None:
    log.add(logged("hello@1.0.0"), logged("evil@1.0.0"), logged("honest@1.0.0", THIEF), *others(3))
    everywhere = Watch(frozenset({HELLO}), {}, (AUTHOR.public,), everywhere=True)
    done = me.look(log.source, everywhere)
    assert [(finding.release, bool(finding.unexpected)) for finding in done.told] == [
        ("hello@1.0.0", False),
        ("evil@1.0.0", True),
    ]


# --- what it is told ------------------------------------------------------------------------------------


def _forged(log: PublicLog, source: Source) -> None:
    place = BodyBundle(0, 8)
    entries = parse_bodies(source.folder.read(place.path), 8)
    entries[5] = entries[0]
    source.lies[place.path] = write_bodies(entries)


def _cut(log: PublicLog, source: Source) -> None:
    place = BodyBundle(0, 8)
    source.lies[place.path] = write_bodies(parse_bodies(source.folder.read(place.path), 8)[:7])


def _withheld(log: PublicLog, source: Source) -> None:
    source.lies[BodyBundle(0, 8).path] = source.lies[BodyBundle(0).path] = None


def _old(log: PublicLog, source: Source) -> None:
    with open_log(log.folder.with_name("old.db")) as store:
        store.append(others(4))
        source.lies["checkpoint"] = checkpoint_of(store.sign_head(LOG_KEY, START + 4))


def _strange(log: PublicLog, source: Source) -> None:
    data = source.folder.checkpoint()
    assert data is not None
    source.lies["checkpoint"] = data.replace(LOG.name.encode(), b"log.example/another")


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (_forged, "silexium.entry"),
        (_cut, "silexium.tile"),
        (_withheld, "notfound.log"),
        (_old, "silexium.rollback"),
        (_strange, "silexium.head-signature"),
    ],
)
def test_a_lying_source_is_refused_and_hides_nothing_for_long(
    log: PublicLog, me: Watcher, lie: Callable[[PublicLog, Source], None], reason: str
) -> None:
    log.add(*others(5))
    me.look(log.source, watch(logged("hello@1.0.0")))
    log.add(logged("hello@6.6.6", THIEF), *others(7)[5:])
    source = log.source
    lie(log, source)
    with pytest.raises(LibreSeedError) as error:
        me.look(source, watch(logged("hello@1.0.0")))
    assert error.value.reason == reason and me.told == []
    (found,) = me.look(log.source, watch(logged("hello@1.0.0"))).unexpected
    assert found.index == 5 and me.indices == [5]


def test_an_old_head_that_was_once_good_shows_nothing_new(log: PublicLog, me: Watcher) -> None:
    log.add(*others(5))
    old = log.source.folder.checkpoint()
    me.look(log.source, watch())
    log.add(*others(8)[5:])
    me.look(log.source, watch())
    source = log.source
    source.lies["checkpoint"] = old
    assert me.refused(source, watch()).reason == "silexium.rollback"


def test_what_was_signed_long_ago_is_verified_again_for_a_package_that_is_added(
    tmp_path: Path, log: PublicLog, me: Watcher
) -> None:
    """The head is known and has not changed; the entries below it are another log's, with tiles that fit them."""
    log.add(*others(270), logged("bye@6.6.6", THIEF))
    me.look(log.source, watch())
    (tmp_path / "liar").mkdir()
    liar = PublicLog(tmp_path / "liar").add(*others(271)).source
    liar.lies["checkpoint"] = log.source.folder.checkpoint()
    both = watch(packages=["hello", "bye"])
    assert me.refused(liar, both).reason == "silexium.tile"
    assert [finding.release for finding in me.look(log.source, both).told] == ["bye@6.6.6"]


def test_another_history_is_refused_for_good_and_kept_as_evidence(tmp_path: Path, me: Watcher) -> None:
    """The log shows the monitor a history without the hidden entry, and forgets which."""
    mine = Source(exported(tmp_path / "mine", [5, 9], branch="mine", shared=3))
    theirs = Source(exported(tmp_path / "theirs", [7, 12], branch="theirs", shared=3))
    me.look(mine, watch())
    with pytest.raises(LibreSeedError) as error:
        me.look(theirs, watch())
    assert error.value.reason == "silexium.fork" and str(me.path) in error.value.details[0]
    assert wire.parse(me.state() or b"", max_bytes=limits.WATCH_BYTES)["memory"]["conflict"] is not None
    assert me.refused(mine, watch()).reason == "silexium.fork"


def test_the_witnesses_and_the_age_that_a_policy_demands_count(log: PublicLog, me: Watcher) -> None:
    log.add(logged("hello@1.0.0"))
    for demands, reason in (
        (TrustedLog(LOG, quorum(1)), "silexium.witness-quorum"),
        (TrustedLog(LOG, max_head_age=60), "silexium.stale"),
    ):
        with pytest.raises(LibreSeedError) as error:
            LogMonitor(me.path, demands, watch()).update(log.source, NOW, lambda *told: me.told.append(told))
        assert error.value.reason == reason and me.told == [] and me.state() is None


def test_a_clock_that_was_set_back_is_noticed(log: PublicLog, me: Watcher) -> None:
    log.add(*others(5))
    me.look(log.source, watch())
    assert me.refused(log.source, watch(), now=NOW - 10**6).reason == "silexium.clock"


# --- what it remembers ----------------------------------------------------------------------------------


def test_a_package_that_is_added_is_looked_for_from_the_beginning(log: PublicLog, me: Watcher) -> None:
    log.add(logged("hello@1.0.0"), logged("bye@1.0.0"), *others(300))
    me.look(log.source, watch())
    assert me.indices == [0]
    me.look(log.source, watch(packages=["hello", "bye"]))
    assert me.indices == [0, 1]
    log.add(logged("bye@1.1.0"), logged("hello@1.1.0"))
    me.look(log.source, watch(packages=["bye"]))
    me.look(log.source, watch(packages=["hello", "bye"]))
    assert me.indices == [0, 1, 302, 303]


def test_only_what_is_new_is_asked_for(log: PublicLog, me: Watcher) -> None:
    log.add(*others(600))
    me.look(log.source, watch())
    log.add(logged("hello@1.0.0"))
    source = log.source
    me.look(source, watch())
    assert [path for path in source.asked if "bodies" in path] == [BodyBundle(2, 89).path]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data.replace(b"hello", b"HELLO")]
)
def test_a_damaged_memory_is_not_an_empty_one(log: PublicLog, me: Watcher, damage: Callable[[bytes], bytes]) -> None:
    log.add(logged("hello@1.0.0"))
    me.look(log.source, watch())
    me.path.write_bytes(damage(me.path.read_bytes()))
    error = me.refused(log.source, watch())
    assert error.reason == "silexium.memory" and str(me.path) in error.details[0]


def test_a_memory_of_another_log_is_refused(log: PublicLog, me: Watcher) -> None:
    log.add(*others(2))
    me.look(log.source, watch())
    other = TrustedLog(NamedKey("log.example/another", LOG.key))
    with pytest.raises(LibreSeedError) as error:
        LogMonitor(me.path, other, watch()).update(log.source, NOW, lambda *told: None)
    assert error.value.reason == "silexium.memory"


def test_a_flood_of_releases_ends_at_its_bound(log: PublicLog, me: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCHED_RELEASES", 3)
    log.add(*(logged(f"hello@1.0.{n}") for n in range(4)))
    with pytest.raises(LibreSeedError) as error:
        me.look(log.source, watch())
    assert error.value.reason == "silexium.unexpected-entry"


def test_two_that_watch_with_one_file_do_not_mix(log: PublicLog, me: Watcher) -> None:
    log.add(logged("hello@1.0.0"))
    reasons: list[str] = []

    def tell(finding: Finding, again: bool) -> None:
        reasons.append(me.refused(log.source, watch()).reason)

    LogMonitor(me.path, TrustedLog(LOG), watch()).update(log.source, NOW, tell)
    assert reasons == ["storage.folder-busy"]


class Killed(Exception):
    """The process dies here."""


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_whenever_it_dies_nothing_is_skipped_and_nothing_is_told_twice_unsaid(
    log: PublicLog, me: Watcher, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """It dies at every one of its writes, before the file is replaced or after, and once in the middle of telling."""
    monkeypatch.setattr(log_monitor, "BUNDLES_AT_ONCE", 1)
    mine = [logged(f"hello@1.0.{n}") for n in range(6)]
    for at, item in enumerate(mine):
        log.add(*(entry for entry in others(150 * at + 150)[150 * at :]), item)
    writes = 0
    real = durable.durable_write

    def write(path: Path, data: bytes) -> None:
        nonlocal writes
        writes += 1
        if not before:
            real(path, data)
        if writes % 3 == 2:
            raise Killed
        if before:
            real(path, data)

    monkeypatch.setattr(log_monitor, "durable_write", write)
    for _ in range(100):
        try:
            me.look(log.source, watch(*mine))
        except Killed:
            continue
        break
    else:
        raise AssertionError("it never comes to an end")
    places = [150 * n + n + 150 for n in range(6)]
    assert {finding.index for finding, _ in me.told} == set(places)
    assert len(set(me.indices)) == len(me.indices)
