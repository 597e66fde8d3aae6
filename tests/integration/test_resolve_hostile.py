"""Publishers, peers and DHT nodes that lie: each lie has its reason and step, and leaves nothing in the store (G1)."""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path

import pytest
import trio

from libreseed import limits
from libreseed.adapters.command.settings import Endpoint
from libreseed.ids import Blake3Digest, ReleaseId, Sha256Digest
from libreseed.resolve.floors import raise_floor
from libreseed.resolve.policy import Policy
from libreseed.resolve.receipt import parse_receipt
from libreseed.resolve.request import Request
from tests.archive_forge import KEY as FORGER
from tests.archive_forge import Forge
from tests.hostile_archives import CASES
from tests.resolver_support import KEY, Sample, assert_installed, forge_sample, leftovers, make_sample, rejects, scene

pytestmark = pytest.mark.integration
FORGED = ReleaseId.parse("pkg@1.0.0")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 200_000)


@pytest.mark.parametrize("case", sorted(CASES)[:: max(1, len(CASES) // 6)])
async def test_hostile_archive_signed_by_its_publisher_leaves_nothing(tmp_path: Path, case: str) -> None:
    """All cases are judged without a network in test_archive_hostile; these go the whole way."""
    make, reason = CASES[case]
    forged = forge_sample(tmp_path / "forged", make(Forge()) or b"-", key=FORGER, release=FORGED)
    async with scene(tmp_path, forged) as it:
        await it.seed()
        with rejects(reason):
            await it.resolve()
        assert leftovers(it.store) == []


LIES: dict[str, tuple[str, int, dict[str, object]]] = {
    "another chunk map": ("chunkmap.digest", 4, {"chunks": Blake3Digest(b"\x01" * 32)}),
    "another infohash than the chunk map's": ("chunkmap.infohash", 4, {"infohash": Sha256Digest(b"\x02" * 32)}),
    "a false infohash everywhere": ("archive.infohash", 7, {"sha256": Sha256Digest(b"\x03" * 32)}),
    "another time than the archive's manifest": ("manifest.mismatch", 8, {"timestamp": 1001}),
}


@pytest.mark.parametrize("lie", LIES)
async def test_publisher_who_contradicts_himself_leaves_nothing(tmp_path: Path, sample: Sample, lie: str) -> None:
    reason, step, values = LIES[lie]
    forged = forge_sample(tmp_path / "forged", sample.files.tgz.read_bytes(), **values)  # type: ignore[arg-type]
    async with scene(tmp_path, forged) as it:
        await it.seed()
        with rejects(reason, step=step):
            await it.resolve()
        assert leftovers(it.store) == []


async def test_package_larger_than_the_policy_is_refused_before_anything_is_fetched(
    tmp_path: Path, sample: Sample
) -> None:
    async with scene(tmp_path, sample) as it:
        with rejects("minimal.policy", step=3):
            await it.resolve(policy=Policy(max_package_bytes=1000))
        assert leftovers(it.store) == []


async def test_old_record_from_the_dht_is_a_rollback(tmp_path: Path, sample: Sample) -> None:
    """A frozen or eclipsed DHT serves yesterday's record for ever; the floor notices."""
    async with scene(tmp_path, sample) as it:
        from libreseed.adapters.resolving.store import Store

        store = Store(it.store)
        store.open()
        minimal = sample.minimal
        store.keep_floor(raise_floor(None, minimal.release, KEY.public, minimal.timestamp + 1, b"newer"))
        with rejects("floor.rollback", step=3) as caught:
            await it.resolve()
        assert caught[0].exit_code == 22
        assert not list(store.packages.iterdir())


async def test_nobody_trusted_lists_publishers_and_the_pin_that_it_names_works(tmp_path: Path, sample: Sample) -> None:
    from libreseed.adapters.resolving.trust_store import TrustStore

    async with scene(tmp_path, sample) as it:
        await it.seed()
        it.hub.set_records(lambda _: [sample.item])
        await it.hub.announce_name(sample.minimal.release.name)
        bare = Request(sample.minimal.release, without_silexium=True)
        with rejects("trust.unknown-publisher") as caught:
            await it.resolve(request=bare)
        assert caught[0].exit_code == 21
        assert caught[0].evidence["publishers"] == [str(KEY.public)]
        [command] = caught[0].evidence["commands"]
        assert command == f"libreseed trust add {sample.minimal.release.name} {KEY.public}"
        assert leftovers(it.store) == []
        TrustStore(it.store).add(sample.minimal.release.name, KEY.public)
        outcome = await it.resolve(request=bare)
        assert_installed(sample, outcome.path)
        assert outcome.trust == "pin"


async def test_unknown_release_of_a_known_name_without_trust_is_not_found(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        it.hub.set_records(lambda _: [sample.item])
        await it.hub.announce_name(sample.minimal.release.name)
        with rejects("notfound.record"):
            await it.resolve(request=Request(ReleaseId.parse("sample@9.9.9"), without_silexium=True))


async def test_installed_release_of_another_publisher_is_not_passed_off(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        await it.seed()
        await it.resolve()
        with rejects("storage.occupied"):
            await it.resolve(request=Request(sample.minimal.release, publisher=FORGER.public, without_silexium=True))
        with rejects("trust.unknown-publisher"):
            await it.resolve(request=Request(sample.minimal.release, without_silexium=True))


async def test_changed_installed_tree_is_noticed(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        await it.seed()
        outcome = await it.resolve()
        (Path(outcome.path) / "bin" / "run").write_bytes(b"#!/bin/sh\nexit 1\n")
        with rejects("storage.changed"):
            await it.resolve()


async def test_tree_published_just_before_a_crash_gets_its_receipt_once_it_is_judged_again(
    tmp_path: Path, sample: Sample
) -> None:
    async with scene(tmp_path, sample) as it:
        await it.seed()
        outcome = await it.resolve()
        inode = Path(outcome.path).stat().st_ino
        [receipt] = (it.store / "receipts").iterdir()
        kept = parse_receipt(receipt.read_bytes())
        receipt.unlink()
        again = await it.resolve()
        assert (again.already, again.path, Path(again.path).stat().st_ino) == (False, outcome.path, inode)
        assert parse_receipt(receipt.read_bytes()).tree == kept.tree


async def test_something_else_in_the_place_is_named_once_and_left_alone(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        await it.seed()
        place = tmp_path / "out" / str(sample.minimal.release)
        place.mkdir(parents=True)
        (place / "mine").write_bytes(b"kept")
        with rejects("storage.occupied") as caught:
            await it.resolve(out=tmp_path / "out")
        assert (
            caught[0].message == f"{place} exists and is not {sample.minimal.release}: 'manifest.json': it is missing"
        )
        assert [path.name for path in place.iterdir()] == ["mine"]


@pytest.mark.parametrize("what", ["file", "pipe", "dangling-link", "manifest-is-a-folder", "manifest-is-a-pipe"])
async def test_no_tree_at_all_in_the_place_is_told_as_such_and_not_waited_for(
    tmp_path: Path, sample: Sample, what: str
) -> None:
    place = tmp_path / "out" / str(sample.minimal.release)
    place.parent.mkdir()
    match what:
        case "file":
            place.write_bytes(b"kept")
        case "pipe":
            os.mkfifo(place)
        case "dangling-link":
            place.symlink_to("nowhere")
        case "manifest-is-a-folder":
            (place / "manifest.json").mkdir(parents=True)
        case "manifest-is-a-pipe":
            place.mkdir()
            os.mkfifo(place / "manifest.json")
    before = place.lstat()
    async with scene(tmp_path, sample) as it:
        await it.seed()
        with rejects("storage.occupied"):
            await it.resolve(out=tmp_path / "out")
    assert (place.lstat().st_ino, place.lstat().st_mode) == (before.st_ino, before.st_mode)


# --- peers that keep silent ------------------------------------------------------------------------------------------


async def silent_peer(nursery: trio.Nursery) -> Endpoint:
    """Accepts connections, reads, never answers."""

    async def swallow(stream: trio.SocketStream) -> None:
        async with stream:
            async for _ in stream:
                pass

    listeners = await nursery.start(partial(trio.serve_tcp, swallow, 0, host="127.0.0.1"))
    return Endpoint("127.0.0.1", listeners[0].socket.getsockname()[1])


async def test_silent_peer_alone_is_given_up(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        peer = await silent_peer(it.nursery)
        with rejects("source.none"):
            await it.resolve(peers=(peer,))
        assert not list((it.store / "packages").iterdir())


async def test_peer_that_drips_does_not_hold_a_resolve_up_for_ever(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any --timeout: the signed size says how long it may take (here with bounds that a test can wait for)."""
    monkeypatch.setattr(limits, "RESOLVE_SECONDS", 1)
    monkeypatch.setattr(limits, "RESOLVE_BYTES_PER_SECOND", 10**9)
    async with scene(tmp_path, sample) as it:
        seeder = await it.seed()
        seeder.session.set_limits(upload=20_000)
        with rejects("deadline.total") as caught:
            await it.resolve(timeout=math.inf)
        assert caught[0].exit_code == 12
        seeder.session.set_limits()
        monkeypatch.undo()
        assert_installed(sample, (await it.resolve()).path)


async def test_silent_peer_does_not_hold_up_a_good_one(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        peer = await silent_peer(it.nursery)
        seeder = await it.seed()
        assert_installed(sample, (await it.resolve(peers=(peer, seeder.endpoint))).path)


async def test_total_deadline_holds(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        seeder = await it.seed()
        seeder.session.set_limits(upload=20_000)
        with rejects("deadline.total") as caught:
            await it.resolve(timeout=1.0)
        assert caught[0].exit_code == 12
        seeder.session.set_limits()
        assert_installed(sample, (await it.resolve()).path)
