"""No peer is complete, one lies, one is damaged, one is silent: the union and parity still give every byte."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from libreseed.adapters.command.settings import Endpoint
from tests.integration.test_resolve import flip
from tests.integration.test_resolve_hostile import silent_peer
from tests.resolver_support import PATIENT, assert_installed, make_sample, scene

pytestmark = [pytest.mark.integration, pytest.mark.slow]


async def test_five_poor_sources_of_which_two_are_damaged_and_one_silent(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "release", 6_000_000)
    layout = sample.layout
    draw = random.Random(11)
    lost = set(draw.sample(list(layout.tgz.pieces), 6))  # nobody has these
    held = [piece for piece in layout.tgz.pieces if piece not in lost]
    async with scene(tmp_path, sample) as it:
        for number in range(4):
            mine = draw.sample(held, len(held) * 55 // 100) if number else held[: len(held) // 2]
            damage = flip(*draw.sample(range(layout.grid.n), 4)) if number > 1 else None
            await it.seed(pieces=[*layout.chunks.pieces, *layout.parity.pieces, *mine], damage=damage)
        missing = set(held) - {piece for seeder in it.seeders[:2] for piece in _pieces(seeder.torrent.have)}
        await it.seed(pieces=[*layout.chunks.pieces, *missing])
        silent = await silent_peer(it.nursery)
        outcome = await it.resolve(policy=PATIENT, peers=(silent, *(seeder.endpoint for seeder in it.seeders)))
        assert_installed(sample, outcome.path)
        assert outcome.chunks["repaired"] > 0


def _pieces(have: bytes) -> list[int]:
    return [piece for piece in range(len(have) * 8) if have[piece // 8] >> (7 - piece % 8) & 1]


def rot(first: float, last: float) -> Callable[[Path], None]:
    """Everything between these shares of the .tgz is overwritten behind the seeder's back."""

    def damage(tgz: Path) -> None:
        data = bytearray(tgz.read_bytes())
        start, end = int(len(data) * first), int(len(data) * last)
        data[start:end] = b"Q" * (end - start)
        tgz.write_bytes(data)

    return damage


async def test_two_peers_whose_disks_rotted_from_either_end(tmp_path: Path) -> None:
    """Neither knows; both get banned; together they lack 2 %. One is also known under the address of a connection that
    it made, where nobody listens: no answer there says anything about what it has."""
    sample = make_sample(tmp_path / "release", 6_000_000)
    async with scene(tmp_path, sample) as it:
        front = await it.seed(damage=rot(0, 0.51))
        back = await it.seed(damage=rot(0.49, 1))
        nowhere = [Endpoint("127.0.0.1", port) for port in (9, 10, 11, 12)]  # as many as are asked at once
        outcome = await it.resolve(policy=PATIENT, peers=(*nowhere, front.endpoint, back.endpoint))
        assert_installed(sample, outcome.path)
        assert outcome.chunks["salvaged"] > 0
        assert outcome.chunks["repaired"] > 0
