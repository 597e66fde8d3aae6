"""A witness: one atomic step from what it cosigned last, its wire protocol, and the log that asks it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from libreseed import limits
from libreseed.adapters.http.client import HttpClient
from libreseed.adapters.http.server import HttpServerOptions, serve
from libreseed.adapters.silexium.database import open_database
from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.adapters.silexium.watching.cosigning import Witness, collect_cosignatures, compare_heads
from libreseed.adapters.silexium.watching.folder_witness import cosign_folder
from libreseed.adapters.silexium.watching.witness_app import witness_app
from libreseed.adapters.silexium.watching.witness_store import WITNESS_SCHEMA, WitnessStore
from libreseed.errors import LibreSeedError, NotFound, UsageFault
from libreseed.ids import Blake3Digest
from libreseed.silexium.tree_head import Checkpoint, NamedKey, SignedTreeHead, parse_checkpoint, parse_cosignatures
from libreseed.silexium.witness_wire import AddCheckpoint, origin_id, parse_add_checkpoint, parse_size
from tests.log_support import START, checkpoint_of, exported, grow, open_log
from tests.silexium_support import LOG, LOG_KEY, private

NAME, KEY = "w1.example", private(31)
WITNESS = NamedKey(NAME, KEY.public)
NOW = START + 1000


def refused(reason: str) -> pytest.RaisesExc[LibreSeedError]:
    return pytest.RaisesExc(LibreSeedError, check=lambda error: error.reason == reason)


@contextmanager
def witness(path: Path, logs: Sequence[NamedKey] = (LOG,)):  # type: ignore[no-untyped-def]
    with open_database(path, (WITNESS_SCHEMA,)) as database:
        yield WitnessStore(database, NAME, KEY, logs)


def request(store: LogStore, old: int, sth: SignedTreeHead) -> AddCheckpoint:
    hashes = store.consistency(old, sth.size).hashes if 0 < old < sth.size else ()
    return AddCheckpoint(old, tuple(hashes), checkpoint_of(sth))


# --- what it cosigns ------------------------------------------------------------------------------------


def test_growth_is_cosigned_and_remembered(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log:
        for old, size in ((0, 5), (5, 5), (5, 300)):
            sth = grow(log, size)
            with witness(tmp_path / "w.db") as store:  # opened anew each time, as after a restart
                cosignature = store.add_checkpoint(request(log, old, sth), NOW + size)
                assert cosignature.head == sth.head and cosignature.time == NOW + size
                note = parse_checkpoint(store.checkpoint(LOG.name), LOG, [WITNESS])
                assert note == Checkpoint(sth, (cosignature,))


def test_an_empty_log_is_cosigned(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log, witness(tmp_path / "w.db") as store:
        sth = log.sign_head(LOG_KEY, START)
        assert store.add_checkpoint(request(log, 0, sth), NOW).head.size == 0
        assert store.add_checkpoint(request(log, 0, grow(log, 3)), NOW).head.size == 3


def test_what_does_not_extend_the_last_head_is_refused(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log, witness(tmp_path / "w.db") as store:
        first, second = grow(log, 5), grow(log, 9)
        store.add_checkpoint(request(log, 0, second), NOW)
        before = store.checkpoint(LOG.name)
        last = request(log, 9, grow(log, 20))
        for bad, reason in (
            (request(log, 0, first), "silexium.witness-size"),  # a smaller head: yesterday's backup
            (request(log, 5, second), "silexium.witness-size"),
            (replace(last, old=0, hashes=()), "silexium.witness-size"),
            (replace(last, hashes=last.hashes[:-1]), "silexium.consistency"),
            (replace(last, hashes=()), "silexium.consistency"),
            (replace(last, old=21), "silexium.witness-request"),
            (replace(request(log, 9, second), hashes=(bytes(32),)), "silexium.consistency"),
            (replace(last, note=b"nonsense\n"), "silexium.head"),
            (replace(last, note=last.note.replace(b"log.example", b"other.example", 1)), "silexium.head-log"),
        ):
            with refused(reason):
                store.add_checkpoint(bad, NOW)
            assert store.checkpoint(LOG.name) == before
        store.add_checkpoint(last, NOW)


def test_a_log_with_another_key_is_refused(tmp_path: Path) -> None:
    with witness(tmp_path / "w.db") as store, open_log(tmp_path / "log.db") as log:
        sth = SignedTreeHead.sign(grow(log, 3).head, START, private(77))
        with refused("silexium.head-signature"):
            store.add_checkpoint(AddCheckpoint(0, (), checkpoint_of(sth)), NOW)
        with pytest.raises(NotFound):
            store.checkpoint(LOG.name)


@pytest.mark.parametrize("size", [5, 8])
def test_a_forked_log_is_refused_for_good(tmp_path: Path, size: int) -> None:
    """Two roots of one size, and a larger head whose own hashes prove that its beginning is another."""
    with (
        open_log(tmp_path / "log.db") as log,
        open_log(tmp_path / "fork.db") as fork,
        witness(tmp_path / "w.db") as store,
    ):
        store.add_checkpoint(request(log, 0, grow(log, 5)), NOW)
        sth = grow(fork, size, branch="b")
        hashes = tuple(fork.prefix(5, size)) if size > 5 else ()
        with refused("silexium.fork"):
            store.add_checkpoint(AddCheckpoint(5, hashes, checkpoint_of(sth)), NOW)
        memory = store.cosigned(LOG.name)
        assert memory is not None and memory.conflict is not None
        with refused("silexium.fork"):
            store.add_checkpoint(request(log, 5, grow(log, 9)), NOW)


def test_a_proof_that_merely_fails_does_not_end_the_witnessing(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log, witness(tmp_path / "w.db") as store:
        store.add_checkpoint(request(log, 0, grow(log, 5)), NOW)
        good = request(log, 5, grow(log, 8))
        with refused("silexium.consistency"):
            store.add_checkpoint(replace(good, hashes=tuple(bytes(32) for _ in good.hashes)), NOW)
        store.add_checkpoint(good, NOW)


def test_two_parallel_requests_from_one_head_give_one_cosignature(tmp_path: Path) -> None:
    """Both were consistent with what was cosigned when they came; together they are a fork."""
    with (
        open_log(tmp_path / "log.db") as log,
        open_log(tmp_path / "fork.db") as fork,
        witness(tmp_path / "w.db") as one,
    ):
        one.add_checkpoint(request(log, 0, grow(log, 5)), NOW)
        grow(fork, 5)
        requests = [request(log, 5, grow(log, 9)), request(fork, 5, grow(fork, 12, branch="b"))]
        barrier, outcomes = threading.Barrier(2), []

        def ask(which: int) -> None:
            with witness(tmp_path / "w.db") as store:  # a process of its own, as far as SQLite can tell
                barrier.wait()
                try:
                    outcomes.append(store.add_checkpoint(requests[which], NOW).head.size)
                except LibreSeedError as error:
                    outcomes.append(error.reason)

        threads = [threading.Thread(target=ask, args=(which,)) for which in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, outcomes)) in (["9", "silexium.witness-size"], ["12", "silexium.witness-size"])
        memory = one.cosigned(LOG.name)
        assert memory is not None and memory.head.size in outcomes


def test_a_log_cannot_be_its_own_witness(tmp_path: Path) -> None:
    with pytest.raises(UsageFault), witness(tmp_path / "w.db", [NamedKey("x", KEY.public)]):
        pass


def test_logs_are_witnessed_apart(tmp_path: Path) -> None:
    other = NamedKey("other.example/log", LOG_KEY.public)
    with open_log(tmp_path / "log.db") as log, witness(tmp_path / "w.db", [LOG, other]) as store:
        sth = grow(log, 5)
        store.add_checkpoint(request(log, 0, sth), NOW)
        alien = SignedTreeHead.sign(replace(sth.head, origin=other.name), START, LOG_KEY)
        assert store.add_checkpoint(AddCheckpoint(0, (), checkpoint_of(alien)), NOW).head.origin == other.name


# --- a folder ------------------------------------------------------------------------------------------


def damage(folder: Path, path: str, data: bytes | None) -> None:
    if data is None:
        (folder / path).unlink()
    else:
        (folder / path).write_bytes(data)


@pytest.mark.parametrize(
    ("path", "change", "reason"),
    [
        ("tile/bodies/000", lambda data: data.replace(b'"entry":77,', b'"entry":78,'), "silexium.entry"),
        ("tile/bodies/001.p/44", lambda data: data.replace(b'"entry":299,', b'"entry":298,'), "silexium.entry"),
        ("tile/bodies/000", lambda data: data[:-3], "silexium.tile"),
        ("tile/1/000.p/1", lambda data: data[:-1], "silexium.tile"),
        ("tile/0/001.p/44", lambda data: bytes(len(data)), "silexium.tile"),
        ("tile/0/001.p/44", lambda data: None, "notfound.file"),
        ("checkpoint", lambda data: data.replace(b"\n300\n", b"\n301\n"), "silexium.head-signature"),
    ],
)
def test_a_folder_that_is_forged_or_cut_is_not_cosigned(
    tmp_path: Path, path: str, change: Callable[[bytes], bytes | None], reason: str
) -> None:
    exported(tmp_path / "log", [5])
    with witness(tmp_path / "w.db") as store:
        assert cosign_folder(store, LogFolder(tmp_path / "log"), [LOG], NOW).head.size == 5
        before = store.checkpoint(LOG.name)
        exported(tmp_path / "log", [300])
        whole = (tmp_path / "log" / path).read_bytes()
        damage(tmp_path / "log", path, change(whole))
        with refused(reason):
            cosign_folder(store, LogFolder(tmp_path / "log"), [LOG], NOW)
        assert store.checkpoint(LOG.name) == before
        damage(tmp_path / "log", path, whole)
        assert cosign_folder(store, LogFolder(tmp_path / "log"), [LOG], NOW).head.size == 300


def test_a_folder_with_an_old_head_or_another_history_is_not_cosigned(tmp_path: Path) -> None:
    with witness(tmp_path / "w.db") as store:
        cosign_folder(store, LogFolder(exported(tmp_path / "log", [6])), [LOG], NOW)
        with refused("silexium.rollback"):
            cosign_folder(store, LogFolder(exported(tmp_path / "old", [5])), [LOG], NOW)
        with refused("silexium.head-log"):
            cosign_folder(store, LogFolder(tmp_path / "log"), [], NOW)
        with refused("silexium.fork"):
            cosign_folder(store, LogFolder(exported(tmp_path / "fork", [9], branch="b", shared=4)), [LOG], NOW)
        with refused("silexium.fork"):  # for good
            cosign_folder(store, LogFolder(exported(tmp_path / "log", [9])), [LOG], NOW)


# --- the wire -----------------------------------------------------------------------------------------------


def test_a_request_is_read_as_it_was_written() -> None:
    for hashes in ((), (bytes(32), b"\xff" * 32)):
        asked = AddCheckpoint(7, hashes, b"origin\n8\nAAAA\n\n\xe2\x80\x94 x y\n")
        assert parse_add_checkpoint(asked.data) == asked


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"old 7\n",
        b"old 07\n\nnote",
        b"old -1\n\nnote",
        b"old 7\nAAAA\n\nnote",
        b"old 7 \n\nnote",
        b"OLD 7\n\nnote",
        b"old 7\r\n\r\nnote",
        b"old 7\n" + b"A" * 43 + b"=\n" * 1 + b"\xff\n\nnote",
        b"old 7\n" + (b"A" * 43 + b"=\n") * 64 + b"\nnote",
        b"old 7\n" + b"A" * 42 + b"B=\n\nnote",  # spare bits set
        b"old 7\n\n" + b"x" * limits.ADD_CHECKPOINT_BYTES,
    ],
)
def test_a_request_has_one_spelling(data: bytes) -> None:
    with refused("silexium.witness-request"):
        parse_add_checkpoint(data)


@pytest.mark.parametrize("data", [b"", b"5", b"05\n", b"5\n\n", b"-5\n", b"\xd9\xa5\n", b"9" * 16 + b"\n"])
def test_a_size_has_one_spelling(data: bytes) -> None:
    assert parse_size(b"50\n") == 50
    with refused("silexium.witness-request"):
        parse_size(data)


@asynccontextmanager
async def served(store: WitnessStore, now: int = NOW) -> AsyncIterator[tuple[str, HttpClient]]:
    options = HttpServerOptions(host="127.0.0.72", max_body=limits.ADD_CHECKPOINT_BYTES)
    async with trio.open_nursery() as nursery, HttpClient() as client:
        urls = await nursery.start(partial(serve, witness_app(store, lambda: now), options))
        yield urls[0], client
        nursery.cancel_scope.cancel()


async def test_the_protocol_answers_as_tlog_witness_says(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log, witness(tmp_path / "w.db") as store:
        first, second = grow(log, 5), grow(log, 9)
        async with served(store) as (url, client):

            async def ask(data: bytes) -> tuple[int, str, bytes]:
                answer = await client.post(f"{url}/add-checkpoint", data, "text/plain", most=limits.NOTE_BYTES)
                return answer.status, answer.headers["content-type"], answer.body

            status, _, body = await ask(request(log, 0, second).data)
            assert status == 200
            assert parse_cosignatures(body.decode().splitlines(), second.head, [WITNESS])
            assert await ask(request(log, 5, second).data) == (409, "text/x.tlog.size", b"9\n")
            assert await ask(request(log, 0, first).data) == (409, "text/x.tlog.size", b"9\n")
            third = request(log, 9, grow(log, 20))
            forged = SignedTreeHead.sign(first.head, START, private(77))
            for data, expected in (
                (b"nonsense", 400),
                (replace(third, old=30).data, 400),
                (AddCheckpoint(9, (), checkpoint_of(forged)).data, 403),
                (replace(third, note=third.note.replace(b"log.", b"xxx.", 1)).data, 404),
                (replace(third, hashes=third.hashes[1:]).data, 422),
                (third.data + b"x" * limits.ADD_CHECKPOINT_BYTES, 413),
            ):
                assert (await ask(data))[0] == expected
            other = SignedTreeHead.sign(replace(second.head, root=Blake3Digest(bytes(32))), START + 9, LOG_KEY)
            status, kind, _ = await ask(AddCheckpoint(9, (), checkpoint_of(other)).data)
            assert status == 409 and kind.startswith("text/plain")
            shown = await client.get(f"{url}/{origin_id(LOG.name)}/checkpoint", most=limits.NOTE_BYTES)
            assert parse_checkpoint(shown.body, LOG, [WITNESS]).sth == second
            assert (await client.get(f"{url}/{'0' * 64}/checkpoint", most=1000)).status == 404


# --- the log that asks ---------------------------------------------------------------------------------------


async def test_a_log_has_its_heads_cosigned_and_serves_the_cosignatures(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log, witness(tmp_path / "w.db") as store:
        async with served(store) as (url, client):
            places = [Witness(WITNESS, url)]
            assert await collect_cosignatures(log, places, client) == ()
            for size in (3, 300):
                grow(log, size)
                (outcome,) = await collect_cosignatures(log, places, client)
                assert outcome.error is None and outcome.size == size
                checkpoint = log.checkpoint(1)
                assert checkpoint is not None and checkpoint.sth.size == size
            assert await collect_cosignatures(log, places, client) == ()  # nothing is left to ask


async def test_a_witness_that_has_seen_more_than_was_kept_here_is_asked_again(tmp_path: Path) -> None:
    """The log died after the witness had cosigned, and before it had kept the answer."""
    with open_log(tmp_path / "log.db") as log, witness(tmp_path / "w.db") as store:
        store.add_checkpoint(request(log, 0, grow(log, 7)), NOW)
        grow(log, 9)
        async with served(store) as (url, client):
            (outcome,) = await collect_cosignatures(log, [Witness(WITNESS, url)], client)
            assert outcome.error is None and log.cosigned_size(WITNESS.key) == 9


async def test_an_old_database_is_noticed_by_its_witness(tmp_path: Path) -> None:
    """Put back on a new machine, without its high-water file: the log's own head that the witness keeps stops it."""
    with open_log(tmp_path / "log.db") as log, witness(tmp_path / "w.db") as store:
        grow(log, 5)
        log.database.backup(tmp_path / "old.db")
        store.add_checkpoint(request(log, 0, grow(log, 9)), NOW)
        with open_log(tmp_path / "old.db") as old:
            old.append([b"another sixth"])
            old.sign_head(LOG_KEY, START + 20)
            async with served(store) as (url, client):
                with refused("silexium.shrunk"):
                    await collect_cosignatures(old, [Witness(WITNESS, url)], client)
            for attempt in (lambda: old.append([b"x"]), lambda: old.sign_head(LOG_KEY, START + 30)):
                with refused("silexium.shrunk"):
                    attempt()


async def test_a_database_of_another_history_is_noticed_by_its_witness(tmp_path: Path) -> None:
    with (
        open_log(tmp_path / "log.db") as log,
        open_log(tmp_path / "fork.db") as fork,
        witness(tmp_path / "w.db") as store,
    ):
        store.add_checkpoint(request(log, 0, grow(log, 5)), NOW)
        grow(fork, 9, branch="b")
        async with served(store) as (url, client):
            with refused("silexium.shrunk"):
                await collect_cosignatures(fork, [Witness(WITNESS, url)], client)
        with refused("silexium.shrunk"):  # and for good, although its own head is the larger one
            grow(fork, 10, branch="b")


async def test_a_log_compares_itself_with_its_witnesses_before_it_goes_on(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log, witness(tmp_path / "w.db") as store:
        away = Witness(NamedKey("away.example", private(33).public), "http://127.0.0.74:9")
        async with served(store) as (url, client):
            places = [away, Witness(WITNESS, url)]
            grow(log, 5)
            log.database.backup(tmp_path / "old.db")
            (tmp_path / "old.db.head").write_bytes((tmp_path / "log.db.head").read_bytes())
            store.add_checkpoint(request(log, 0, grow(log, 9)), NOW)
            outcomes = await compare_heads(log, places, client)
            assert [outcome.error is None for outcome in outcomes].count(True) == 1
            with open_log(tmp_path / "old.db") as old:
                with refused("silexium.shrunk"):
                    await compare_heads(old, places, client)
                assert old.size == 5 and old.checkpoint() is not None
                with refused("silexium.shrunk"):
                    old.append([b"x"])


async def test_a_witness_that_lies_stops_nothing(tmp_path: Path) -> None:
    """It claims to have seen more, and has no head by the log to show for it."""
    with open_log(tmp_path / "log.db") as log:
        grow(log, 5)
        options = HttpServerOptions(host="127.0.0.73")
        async with trio.open_nursery() as nursery, HttpClient() as client:
            (url,) = await nursery.start(partial(serve, _liar, options))
            (outcome,) = await collect_cosignatures(log, [Witness(WITNESS, url)], client)
            nursery.cancel_scope.cancel()
        assert outcome.error is not None and outcome.error.reason == "silexium.witness-refused"
        assert grow(log, 6).size == 6


async def _liar(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    size = scope["path"] == "/add-checkpoint"
    headers = [(b"content-type", b"text/x.tlog.size")] if size else []
    await send({"type": "http.response.start", "status": 409 if size else 404, "headers": headers})
    await send({"type": "http.response.body", "body": b"99999\n" if size else b""})


async def test_a_cosignature_by_somebody_else_is_not_kept(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log, witness(tmp_path / "w.db") as store:
        grow(log, 5)
        other = NamedKey(NAME, private(32).public)
        async with served(store) as (url, client):
            (outcome,) = await collect_cosignatures(log, [Witness(other, url)], client)
        assert outcome.error is not None and outcome.error.reason == "silexium.witness"
        assert log.checkpoint(1) is None


async def test_a_witness_that_is_away_holds_up_no_other(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.db") as log, witness(tmp_path / "w.db") as store:
        grow(log, 5)
        away = Witness(NamedKey("away.example", private(33).public), "http://127.0.0.74:9")
        async with served(store) as (url, client):
            outcomes = await collect_cosignatures(log, [away, Witness(WITNESS, url)], client)
        faults = {outcome.witness.identity.name: outcome.error for outcome in outcomes}
        assert faults[NAME] is None and faults["away.example"] is not None
        assert faults["away.example"].reason.startswith("http.")
