"""The way into the log, step by step: crashes between any two, several servers at once, keys revoked meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from libreseed.adapters.silexium.database import Database
from libreseed.adapters.silexium.releases.catalogue import NEXT, Catalogue, ReleaseState
from libreseed.adapters.silexium.releases.publication import Advanced
from libreseed.errors import LocalFault
from libreseed.ids import ReleaseId
from libreseed.silexium.attestation import parse_attestation
from libreseed.silexium.keyring import KeyId
from libreseed.silexium.release_manifest import parse_release_manifest
from libreseed.silexium.stamp_job import JobState
from tests.silexium_server_support import Shop, Workshop, run, workshop

pytestmark = pytest.mark.integration

HELLO = ReleaseId.parse("hello@1.0.0")


def now() -> int:
    return int(time.time())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop.make(tmp_path / "shop")
    made.ingest(made.attested("hello@1.0.0"))
    return made


async def test_a_key_that_is_revoked_meanwhile_keeps_its_release_out(shop: Shop) -> None:
    run("key", "revoke", shop.keys["author"], "--at", "2026-01-01T00:00:00Z", "--config", shop.server)
    async with workshop(shop) as here:
        done = await advance_until(here, lambda: here.office.catalogue.counts()[ReleaseState.REFUSED] == 1)
        assert [(release, error.reason) for release, error in done.refused] == [(HELLO, "silexium.key-revoked")]
        assert here.log.size == 0
        assert (await here.publication.advance(now())).refused == []
    rows = run("releases", "--config", shop.server)["releases"]
    assert rows == [{"release": "hello@1.0.0", "state": "refused", "refusal": "silexium.key-revoked"}]


async def advance_until(here: Workshop, done: Callable[[], bool]) -> Any:
    for _ in range(20):
        step = await here.publication.advance(now())
        if done():
            return step
    raise AssertionError("it never came to that")


@contextmanager
def dying_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the process "die" instead of its next transaction once ``writes`` have been committed."""
    real, left = Database.write, [writes]

    def write(self: Database) -> Any:
        if not left[0]:
            raise LocalFault("storage.io", "the process died here")
        left[0] -= 1
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", write)
        yield


@pytest.mark.slow
async def test_a_crash_between_any_two_transactions_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop.make(tmp_path / "shop")
    number, survived = 0, 0
    while survived < 2:  # until one step needs fewer transactions than it may have
        release = f"hello@1.0.{number}"
        shop.ingest(shop.attested(release))
        async with workshop(shop) as here:
            died = False
            with dying_after(number, monkeypatch):
                try:
                    await here.publish(now())
                except* LocalFault:
                    died = True
            survived += not died
        async with workshop(shop) as here:
            await here.publish(now())
            assert here.log.size == number + 1
            head = here.log.head()
            assert head is not None
            assert head.size == number + 1
        assert shop.states()[release] == "logged"
        number += 1
    assert number > 8, "the way has more transactions than that"


async def test_two_servers_over_one_database_log_each_release_once(shop: Shop) -> None:
    for number in range(1, 6):
        shop.ingest(shop.attested(f"hello@1.0.{number}"))
    async with workshop(shop) as one, workshop(shop) as other:
        logged: list[ReleaseId] = []

        async def work(here: Workshop) -> None:
            for _ in range(8):
                logged.extend((await here.publication.advance(now())).logged)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, one)
            nursery.start_soon(work, other)
        assert one.log.size == 6
        assert sorted(map(str, logged)) == [f"hello@1.0.{number}" for number in range(6)]


async def test_a_release_whose_stamps_do_not_come_does_not_hold_up_the_next(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.ingest(shop.attested("other@1.0.0"))
    async with workshop(shop) as here:
        queue: Any = here.publication._stamping.queue  # type: ignore[attr-defined]
        stuck = here.office.catalogue.find(HELLO)
        assert stuck is not None
        real = queue.due

        def due(at: int, longest: int) -> Any:
            from blake3 import blake3

            waiting = {blake3(data).digest() for data in stuck.attestations}
            return [job for job in real(at, longest) if job.message not in waiting]

        monkeypatch.setattr(queue, "due", due)
        await advance_until(here, lambda: here.log.size == 1)
        assert shop.states() == {"hello@1.0.0": "pending", "other@1.0.0": "logged"}
        monkeypatch.setattr(queue, "due", real)
        await advance_until(here, lambda: here.log.size == 2)


async def test_stamps_that_are_there_are_waited_for_only_so_long(shop: Shop) -> None:
    """Two authorities are asked, one is enough: the other has an hour."""
    async with workshop(shop) as here:
        publication: Any = here.publication
        publication._request_stamps(now())
        with here.office.database.write() as connection:
            for (message,) in connection.execute("SELECT DISTINCT message FROM stamp_jobs").fetchall():
                row = (message, "tsa", "slow", "wanted", 2**40, 0, 0, 0)
                fields = "message, kind, service, state, due, failures, questions, since"
                connection.execute(f"INSERT INTO stamp_jobs({fields}) VALUES(?, ?, ?, ?, ?, ?, ?, ?)", row)
        for _ in range(6):
            await here.publication.advance(now())
        assert shop.states() == {"hello@1.0.0": "pending"}
        states = {job.state for job in publication._stamping.queue.status(attestation_of(here)).jobs}
        assert states == {JobState.DONE, JobState.WANTED}
        await here.publication.advance(now() + 3601)
        assert shop.states() == {"hello@1.0.0": "logged"}


def attestation_of(here: Workshop) -> bytes:
    found = here.office.catalogue.find(HELLO)
    assert found is not None
    return found.attestations[0]


async def test_what_is_logged_leaves_nothing_in_the_queue_of_stamps(shop: Shop) -> None:
    async with workshop(shop) as here:
        await here.publish(now())
        with here.office.database.read() as connection:
            for table in ("stamp_messages", "stamp_jobs"):
                assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        found = here.office.catalogue.find(HELLO)
        assert found is not None
        assert [(len(stamps.tsa), len(stamps.ots)) for stamps in found.stamps] == [(1, 1)] * 3


async def logged_entry(shop: Shop) -> bytes:
    """The entry that the shop's release would get, from a copy of the shop that logs it."""
    copy = Shop(shop.root.with_name("copy"), shop.keys)
    shutil.copytree(shop.root, copy.root)
    async with workshop(copy) as here:
        await here.publish(now())
        return here.log.entry(0)


async def test_a_version_that_the_log_has_already_gets_no_second_entry(shop: Shop) -> None:
    """A database put back from a backup and recovered from a mirror: its log is ahead of its catalogue."""
    entry = await logged_entry(shop)
    async with workshop(shop) as here:
        here.log.append([b"no json", b'{"package":1}', entry])
        done = await advance_until(here, lambda: here.office.catalogue.counts()[ReleaseState.PENDING] == 0)
        assert here.log.size == 3
        assert done.logged == []
    rows = run("releases", "--config", shop.server)["releases"]
    assert [(row["state"], row["refusal"]) for row in rows] == [("refused", "silexium.second-entry")]
    again = shop.attested("hello@2.0.0")
    other = entry.replace(b'"version_text":"1.0.0"', b'"version_text":"2.0.0"')
    async with workshop(shop) as here:
        here.log.append([other])
        await here.publish(now())
    assert shop.ingest(again, code=40)["reason"] == "silexium.second-entry"


async def test_the_very_entry_that_was_recovered_makes_its_release_logged(shop: Shop) -> None:
    async with workshop(shop) as here:
        publication: Any = here.publication
        publication._request_stamps(now())
        for _ in range(3):
            await publication._stamping.advance(now())
        publication._collect(now(), Advanced(), [])
        found = here.office.catalogue.find(HELLO)
        assert found is not None
        assert found.entry is not None
        here.log.append([found.entry])
        assert (await here.publish(now())).logged == [HELLO]
        found = here.office.catalogue.find(HELLO)
        assert found is not None
        assert (found.state, found.log_index, here.log.size) == (ReleaseState.LOGGED, 0, 1)


async def test_a_quiet_log_signs_its_head_anew(shop: Shop) -> None:
    async with workshop(shop) as here:
        await here.publish(now())
        first = here.log.head()
        assert first is not None
        assert here.publication.sign(first.timestamp + 3599) is False
        assert here.publication.sign(first.timestamp + 3600) is True
        second = here.log.head()
        assert second is not None
        assert (second.size, second.root) == (first.size, first.root)
        assert second.timestamp == first.timestamp + 3600


# --- the catalogue ---------------------------------------------------------------------------------------------------


async def test_only_the_declared_steps_are_possible(shop: Shop) -> None:
    async with workshop(shop) as here:
        catalogue: Catalogue = here.office.catalogue
        release = catalogue.find(HELLO)
        assert release is not None
        number = release.number
        with pytest.raises(AssertionError), here.office.database.write() as connection:
            catalogue.mark_logged(connection, number, 0)
        assert catalogue.mark_complete(number, (), b"{}") is False
        with here.office.database.write() as connection:
            assert catalogue.mark_pending(connection, number) is True
            assert catalogue.mark_pending(connection, number) is False
        assert catalogue.refuse(number, "silexium.key-revoked") is True
        assert catalogue.refuse(number, "silexium.key-revoked") is False
        assert not NEXT[ReleaseState.REFUSED]
        assert not NEXT[ReleaseState.LOGGED]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM versions",
        "UPDATE versions SET state = 'pending', log_index = NULL",
        "UPDATE versions SET log_index = 7",
        "UPDATE versions SET version = '9.9.9'",
        "DELETE FROM keys",
        "UPDATE keys SET revoked_at = NULL",
        "UPDATE keys SET revoked_at = revoked_at + 1",
        "DELETE FROM log_entries",
    ],
)
async def test_the_file_itself_refuses_to_forget(shop: Shop, statement: str) -> None:
    async with workshop(shop) as here:
        await here.publish(now())
        for key in here.office.keys.listed():
            here.office.keys.revoke(KeyId(str(key.key_id)), 1_000)
        with pytest.raises(sqlite3.IntegrityError), here.office.database.write() as connection:
            connection.execute(statement)


async def test_documents_lie_in_the_database_as_they_were_verified(shop: Shop) -> None:
    async with workshop(shop) as here:
        await here.publish(now())
        found = here.office.catalogue.find(HELLO)
    assert found is not None
    place = shop.root / "hello@1.0.0.silexium"
    assert found.manifest == (place / "hello@1.0.0.release.json").read_bytes()
    assert found.attestations[0] == (place / "hello@1.0.0.author.json").read_bytes()
    assert found.attestations[1] == (place / "hello@1.0.0.tests.json").read_bytes()
    server = parse_attestation(found.attestations[2], shop.site().server_public())
    assert parse_release_manifest(found.manifest).release == HELLO
    assert str(server.role) == "server"
    with closing(sqlite3.connect(shop.server / "silexium.db")) as connection:
        dump = "\n".join(connection.iterdump())
    assert '"package":"hello"' in dump


# --- what lies in the file, held against the log ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE attestations SET data = replace(data, '\"role\"', '\"rule\"') WHERE role = 'author'",
        "UPDATE manifests SET data = replace(data, 'MIT', 'BSD')",
        "UPDATE manifests SET data = 'x'",
        "UPDATE proofs SET data = zeroblob(9) WHERE role = 'server' AND kind = 'ots'",
        "DELETE FROM proofs WHERE role = 'tests'",
        "DELETE FROM proofs",
    ],
)
async def test_damage_in_the_catalogue_is_found(shop: Shop, damage: str) -> None:
    async with workshop(shop) as here:
        await here.publish(now())
    assert run("releases", "--check", "--config", shop.server)["checked"] == 1
    with closing(sqlite3.connect(shop.server / "silexium.db")) as connection, connection:
        connection.execute(damage)
    assert run("releases", "--check", "--config", shop.server, code=50)["reason"] == "storage.database"
