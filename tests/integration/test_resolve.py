"""The main flow on loopback with a real DHT node and real torrent sessions: whole, partial and damaged swarms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from libreseed.torrent.bitfield import unpack_bitfield
from tests.resolver_support import Sample, assert_installed, leftovers, make_sample, rejects, scene

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def striped(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Three stripes."""
    return make_sample(tmp_path_factory.mktemp("striped"), 3_000_000)


async def test_resolves_from_a_seeder_found_in_the_dht(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        await it.seed(announce=True)
        outcome = await it.resolve(peers=())
        assert_installed(sample, outcome.path)
        chunks = outcome.report().data["chunks"]
        assert chunks == {
            "downloaded": sample.layout.grid.n,
            "repaired": 0,
            "reused": 0,
            "salvaged": 0,
            "healed": 0,
            "parity": 0,
        }
        again = await it.resolve(bootstrap=(), peers=())
        assert again.already
        assert again.path == outcome.path
        assert not list((it.store / "staging").iterdir())


async def test_union_of_partial_peers_suffices(tmp_path: Path, striped: Sample) -> None:
    layout = striped.layout
    async with scene(tmp_path, striped) as it:
        for start in range(3):
            await it.seed(pieces=[*layout.chunks.pieces, *list(layout.tgz.pieces)[start::3]])
        outcome = await it.resolve()
        assert_installed(striped, outcome.path)
        assert outcome.chunks["parity"] == outcome.chunks["repaired"] == 0


async def test_union_lacks_pieces_and_parity_completes_it(tmp_path: Path, striped: Sample) -> None:
    layout = striped.layout
    lost = list(layout.tgz.pieces)[10:15]
    async with scene(tmp_path, striped) as it:
        kept = [piece for piece in layout.tgz.pieces if piece not in lost]
        await it.seed(pieces=[*layout.chunks.pieces, *kept[::2]])
        await it.seed(pieces=[*layout.chunks.pieces, *kept[1::2]])
        await it.seed(pieces=list(layout.parity.pieces))
        outcome = await it.resolve()
        assert_installed(striped, outcome.path)
        assert outcome.chunks["repaired"] > 0
        assert outcome.chunks["downloaded"] + outcome.chunks["repaired"] == layout.grid.n
        assert 0 < outcome.chunks["parity"] < layout.grid.parity_chunks(layout.m)


async def test_too_little_is_31_and_names_the_stripes(tmp_path: Path, striped: Sample) -> None:
    layout = striped.layout
    async with scene(tmp_path, striped) as it:
        await it.seed(pieces=[*layout.chunks.pieces, *list(layout.tgz.pieces)[40:]])
        with rejects("repair.beyond") as caught:
            await it.resolve()
        lacks = caught[0].evidence["stripes"]
        assert set(lacks) == {0, 1, 2}
        assert caught[0].as_json()["details"] == [f"stripe {stripe} lacks {lacks[stripe]}" for stripe in range(3)]
        assert caught[0].step == 6
        assert not (it.store / "packages").exists() or not list((it.store / "packages").iterdir())


async def test_nobody_serves_it(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        with rejects("source.none"):
            await it.resolve()


async def test_unknown_name(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample, publish=False) as it:
        with rejects("notfound.record"):
            await it.resolve()
        assert leftovers(it.store) == []


def flip(*chunks: int) -> Callable[[Path], None]:
    """Damage for a seeder: one wrong byte in each of these chunks of the .tgz."""

    def damage(tgz: Path) -> None:
        data = bytearray(tgz.read_bytes())
        for chunk in chunks:
            data[chunk * 5120 + 17] ^= 1
        tgz.write_bytes(data)

    return damage


async def test_damaged_single_seeder_gives_all_but_the_damaged_chunks(tmp_path: Path, striped: Sample) -> None:
    """libreseed's own damaged seeder would heal itself; any other one bans itself with its first wrong piece."""
    async with scene(tmp_path, striped) as it:
        await it.seed(damage=flip(100, 300, 555))
        outcome = await it.resolve()
        assert_installed(striped, outcome.path)
        assert outcome.chunks["repaired"] == 3
        assert outcome.chunks["downloaded"] == striped.layout.grid.n - 3


async def test_good_seeder_makes_up_for_a_damaged_one(tmp_path: Path, striped: Sample) -> None:
    async with scene(tmp_path, striped) as it:
        await it.seed(damage=flip(*range(0, 500, 7)))
        await it.seed()
        outcome = await it.resolve()
        assert_installed(striped, outcome.path)


async def test_damage_beyond_repair_is_31(tmp_path: Path, striped: Sample) -> None:
    rows = striped.layout.m + 1
    async with scene(tmp_path, striped) as it:
        await it.seed(damage=flip(*range(1, 3 * rows, 3)))  # stripe 1 loses more rows than it has parity
        with rejects("repair.beyond") as caught:
            await it.resolve()
        assert set(caught[0].evidence["stripes"]) == {1}
        assert not list((it.store / "packages").iterdir())


async def test_repaired_pieces_go_back_to_the_swarm(tmp_path: Path, striped: Sample) -> None:
    layout = striped.layout
    lost = list(layout.tgz.pieces)[30:33]
    async with scene(tmp_path, striped) as it:
        keeps = [piece for piece in range(layout.piece_count) if piece not in lost]
        seeder = await it.seed(pieces=keeps)
        await seeder.torrent.want([4] * layout.piece_count)
        outcome = await it.resolve()
        assert outcome.chunks["repaired"] > 0
        have = unpack_bitfield(seeder.torrent.have, layout.piece_count)
        assert all(have[piece] for piece in layout.tgz.pieces)


@pytest.mark.parametrize("size", [0, 4, 5120, 16384, 40_000])
async def test_small_packages(tmp_path: Path, size: int) -> None:
    small = make_sample(tmp_path / "release", size)
    async with scene(tmp_path, small) as it:
        await it.seed()
        assert_installed(small, (await it.resolve()).path)


async def test_every_stripe_of_the_only_seeder_has_lost_as_much_as_can_be_repaired(
    tmp_path: Path, striped: Sample
) -> None:
    grid, m = striped.layout.grid, striped.layout.m
    bad = [chunk for stripe in range(grid.s) for chunk in list(grid.chunks_of(stripe))[3 : 3 + 7 * m : 7]]
    async with scene(tmp_path, striped) as it:
        await it.seed(damage=flip(*bad))
        outcome = await it.resolve()
        assert_installed(striped, outcome.path)
        assert outcome.chunks["repaired"] == len(bad) == grid.s * m
        assert outcome.chunks["parity"] >= grid.s * m


async def test_peer_that_only_lies_brings_nothing_and_leaves_nothing_visible(tmp_path: Path, striped: Sample) -> None:
    async with scene(tmp_path, striped) as it:
        await it.seed(damage=lambda tgz: tgz.write_bytes(bytes(tgz.stat().st_size)))
        with rejects("repair.beyond"):
            await it.resolve()
        assert not list((it.store / "packages").iterdir())
