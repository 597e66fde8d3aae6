"""A trusted publisher signs something hostile: all that arrives is exactly what was signed, and that itself is evil.

First archives that steps 1 to 7 cannot object to, then whole releases that are seeded by real peers and contradict
themselves, so that no honest peer could be blamed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from libreseed.errors import ContentRejected
from libreseed.ids import TorrentV2Hash
from tests.archive_forge import Forge, gz
from tests.attacks.attack_support import Arrived, arrive
from tests.hostile_archives import CASES, Make
from tests.resolver_support import KEY, forge_sample, leftovers, rejects, scene
from tests.resolver_support import RELEASE as SAMPLE


def _first_of_each_reason() -> dict[str, Make]:
    """One archive per reason code: the reader's own tests have them all."""
    first: dict[str, Make] = {}
    for name, (make, reason) in CASES.items():
        if "bomb" not in name and make(Forge()):
            first.setdefault(reason, make)
    return first


HOSTILE = _first_of_each_reason()


def installed_or_noted(arrived: Arrived) -> list[str]:
    """What the store holds but the download's own workspace, which the resolver removes afterwards."""
    return [path for path in leftovers(arrived.store.root) if not path.startswith("staging/")]


@pytest.mark.parametrize("reason", HOSTILE)
async def test_a_hostile_archive_that_is_signed_leaves_nothing_behind(reason: str, tmp_path: Path) -> None:
    forge = Forge()
    arrived = arrive(tmp_path, HOSTILE[reason](forge), forge)
    with pytest.raises(ContentRejected) as caught:
        await arrived.install()
    assert (caught.value.reason, caught.value.exit_code) == (reason, 30)
    assert caught.value.step in (8, 9)
    assert installed_or_noted(arrived) == []  # no tree, no staging, no receipt; no floor that outlaws a good release


async def test_the_same_way_with_an_honest_archive_installs_it(tmp_path: Path) -> None:
    """Else the cases above would be refused for the wrong thing."""
    forge = Forge()
    arrived = arrive(tmp_path, gz(forge.tar), forge)
    receipt = await arrived.install()
    assert receipt.path == str(arrived.final)
    assert (arrived.final / "a").read_bytes() == b"first"
    assert arrived.floor is not None


async def test_a_full_manifest_of_another_release_does_not_pass(tmp_path: Path) -> None:
    """Mix and match: the minimal manifest of pkg@1.0.0 leads to the archive of pkg@1.0.1 by the same publisher."""
    other = Forge(version="1.0.1")
    arrived = arrive(tmp_path, gz(other.tar), Forge())
    with pytest.raises(ContentRejected) as caught:
        await arrived.install()
    assert (caught.value.reason, caught.value.step) == ("manifest.mismatch", 8)
    assert installed_or_noted(arrived) == []


async def test_bytes_that_changed_on_the_disk_after_they_were_verified(tmp_path: Path) -> None:
    """Between step 6 and step 7 somebody, or the disk, swaps the .tgz; what was hashed on arrival is not believed."""
    forge = Forge()
    arrived = arrive(tmp_path, gz(forge.tar), forge)
    evil = bytearray(arrived.package.tgz.read_bytes())
    evil[-8] ^= 1
    arrived.package.tgz.write_bytes(evil)
    with pytest.raises(ContentRejected) as caught:
        await arrived.install()
    assert (caught.value.reason, caught.value.exit_code) == ("archive.checksum", 30)
    assert installed_or_noted(arrived) == []


# --- whole releases, over a real DHT node and real peers --------------------------------------------------------------


def honest() -> bytes:
    return gz(Forge(name=str(SAMPLE.name), key=KEY).tar)


CONTRADICTIONS: dict[str, tuple[str, dict[str, object]]] = {
    "a size that the torrent does not have": ("torrent.files", {"size": 5121}),
    "a torrent that cannot exist": ("torrent.info-hash", {"torrent": TorrentV2Hash(bytes(32))}),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", CONTRADICTIONS)
async def test_a_torrent_that_is_not_the_releases_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    """More such contradictions, each at its step: tests/integration/test_resolve_hostile.py."""
    reason, lie = CONTRADICTIONS[name]
    sample = forge_sample(tmp_path / "made", honest(), **lie)
    async with scene(tmp_path, sample) as it:
        await it.seed()
        with rejects(reason, step=4) as caught:
            await it.resolve()
        assert caught[0].exit_code == 30
        assert leftovers(it.store) == []


@pytest.mark.integration
async def test_the_same_way_an_honest_release_arrives(tmp_path: Path) -> None:
    async with scene(tmp_path, forge_sample(tmp_path / "made", honest())) as it:
        await it.seed()
        outcome = await it.resolve()
        assert (Path(outcome.path) / "a").read_bytes() == b"first"
