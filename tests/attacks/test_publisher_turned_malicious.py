"""A trusted publisher signs something hostile: all that arrives is exactly what was signed, and that itself is evil.

First archives that steps 1 to 7 cannot object to, then whole releases that are seeded by real peers and contradict
themselves, so that no honest peer could be blamed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from libreseed.adapters.release_folder import ReleaseFiles
from libreseed.dht.records import build_dht_record
from libreseed.errors import ContentRejected
from libreseed.ids import Blake3Digest, Sha256Digest, TorrentV2Hash
from tests.attacks.attack_support import Arrived, arrive
from tests.hostile_archives import CASES, Forge, Make, gz
from tests.repair_support import make_package
from tests.resolver_support import KEY, Sample, leftovers, rejects, scene
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


def signed_sample(root: Path, make: Make, **changed: object) -> Sample:
    """A release whose files fit each other, but for what is ``changed`` in the signed minimal manifest."""
    forge = Forge(name=str(SAMPLE.name), key=KEY)
    folder = root / "out" / str(SAMPLE)
    folder.mkdir(parents=True)
    tgz = make(forge)
    metainfo = (package := make_package(folder, tgz, release=SAMPLE)).made.metainfo
    members = {"chunks": package.chunk_map.digest, "torrent": metainfo.v2} | changed
    minimal = forge.minimal(tgz, **members)
    files = ReleaseFiles.of_release(folder, SAMPLE)
    files.path(".minimal.json").write_bytes(minimal.data)
    files.path(".dht.json").write_bytes(build_dht_record(minimal, KEY))
    return Sample(root, files, minimal, metainfo)


def honest(forge: Forge) -> bytes:
    return gz(forge.tar)


CONTRADICTIONS: dict[str, tuple[Make, dict[str, object], str, int | None]] = {
    "a link in the archive": (HOSTILE["archive.symlink"], {}, "archive.symlink", 8),
    "another chunk map than the torrent's": (honest, {"chunks": Blake3Digest(b"\x09" * 32)}, "chunkmap.digest", 4),
    "another .tgz than the chunk map's": (honest, {"infohash": Sha256Digest(b"\x09" * 32)}, "chunkmap.infohash", 4),
    "a size that the torrent does not have": (honest, {"size": 5121}, "torrent.files", None),
    "a torrent that cannot exist": (honest, {"torrent": TorrentV2Hash(bytes(32))}, "torrent.info-hash", None),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", CONTRADICTIONS)
async def test_a_release_that_contradicts_itself_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    make, changed, reason, step = CONTRADICTIONS[name]
    sample = signed_sample(tmp_path, make, **changed)
    async with scene(tmp_path, sample) as it:
        await it.seed()
        with rejects(reason, step=step) as caught:
            await it.resolve()
        assert caught[0].exit_code == 30
        assert leftovers(it.store) == []


@pytest.mark.integration
async def test_the_same_way_an_honest_release_arrives(tmp_path: Path) -> None:
    async with scene(tmp_path, signed_sample(tmp_path, honest)) as it:
        await it.seed()
        outcome = await it.resolve()
        assert (Path(outcome.path) / "a").read_bytes() == b"first"
