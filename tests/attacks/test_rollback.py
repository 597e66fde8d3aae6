"""A thief of old records replays what the publisher really signed, long ago (G7); and a key signs twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from libreseed import bencode
from libreseed.adapters.resolving.installed import uninstall
from libreseed.dht.items import SignedItem, sign_item
from libreseed.dht.records import manifest_salt
from libreseed.ids import TorrentV2Hash
from libreseed.package.minimal import MinimalManifest
from libreseed.resolve.floors import raise_floor
from tests.archive_forge import KEY, Forge, gz
from tests.attacks.attack_support import RELEASE, Arrived, LyingDht, arrive, ask
from tests.resolver_support import leftovers, rejects


def signed(minimal: MinimalManifest) -> SignedItem:
    return sign_item(KEY, manifest_salt(RELEASE), minimal.timestamp, bencode.encode(minimal.data))


OLD = Forge(timestamp=1000)
STOLEN = signed(OLD.minimal(gz(OLD.tar), torrent=TorrentV2Hash(b"\x09" * 32)))


@pytest.fixture
async def current(tmp_path: Path) -> Arrived:
    """The release of time 2000 is installed."""
    forge = Forge(timestamp=2000)
    arrived = arrive(tmp_path, gz(forge.tar), forge)
    await arrived.install()
    return arrived


async def replay(current: Arrived, item: SignedItem, reason: str, exit_code: int) -> None:
    """The attacker's DHT answers with ``item``; the user installs into another place, so a record is needed."""
    out = current.store.root.parent / "elsewhere"
    before = leftovers(current.store.root)
    with rejects(reason) as caught:
        await ask(LyingDht(item), current.store.root, KEY.public, out=out)
    assert caught[0].exit_code == exit_code
    assert leftovers(current.store.root) == before
    assert not out.exists() or not list(out.iterdir())


async def test_an_older_record_is_a_rollback(current: Arrived) -> None:
    await replay(current, STOLEN, "floor.rollback", 22)


async def test_two_records_of_one_time_are_an_equivocation(current: Arrived) -> None:
    forge = Forge(timestamp=2000, files={"a": b"the other story"}, executables=())
    await replay(current, signed(forge.minimal(gz(forge.tar))), "floor.conflict", 22)


async def test_uninstalling_does_not_open_the_way_for_an_older_record(current: Arrived) -> None:
    uninstall(current.store, RELEASE)
    await replay(current, STOLEN, "floor.rollback", 22)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\0" * 300])
async def test_a_damaged_floor_is_an_error_and_not_no_floor(current: Arrived, damage: bytes) -> None:
    (floor,) = (current.store.root / "floors").iterdir()
    floor.write_bytes(damage)
    await replay(current, STOLEN, "storage.state", 50)


async def test_a_crash_before_the_rename_leaves_the_floor_and_the_next_run_installs(tmp_path: Path) -> None:
    """The floor is written first: what it guards can be lost at no instant."""
    forge = Forge(timestamp=2000)
    arrived = arrive(tmp_path, gz(forge.tar), forge)
    minimal = arrived.minimal
    arrived.store.keep_floor(raise_floor(None, RELEASE, KEY.public, minimal.timestamp, minimal.data))
    await replay(arrived, STOLEN, "floor.rollback", 22)
    await arrived.install()
    assert arrived.final.is_dir()


async def test_the_floor_is_on_the_disk_before_the_tree_has_its_name(tmp_path: Path) -> None:
    """Stopped at the rename (something stands in its way): what was accepted is remembered already."""
    forge = Forge(timestamp=2000)
    arrived = arrive(tmp_path, gz(forge.tar), forge)
    arrived.final.symlink_to(tmp_path / "nowhere")
    with rejects("storage.exists"):
        await arrived.install()
    assert arrived.floor is not None
    assert arrived.floor.timestamp == 2000


async def test_a_tree_without_receipt_has_a_floor_again_once_it_is_judged_again(current: Arrived) -> None:
    """The tree alone is left (store moved, receipts and floors lost): taking it over protects it anew."""
    for folder in ("floors", "receipts"):
        for path in (current.store.root / folder).iterdir():
            path.unlink()
    await current.install(present=True)
    assert current.floor is not None
    await replay(current, STOLEN, "floor.rollback", 22)


async def test_without_a_floor_nobody_can_tell_that_a_record_is_old(tmp_path: Path) -> None:
    """A known limit (docs/threat-model.md): the first install takes the newest record that it is shown."""
    with rejects("source.none"):  # the record was believed; only nobody serves its content here
        await ask(LyingDht(STOLEN), tmp_path, KEY.public)
