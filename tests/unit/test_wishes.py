"""The order in which pieces are wanted."""

from __future__ import annotations

import random

from libreseed.ids import ReleaseId
from libreseed.repair.grid import ChunkGrid
from libreseed.resolve.fetch_plan import FetchPlan
from libreseed.resolve.wishes import LAST, MAP, opening_wishes
from libreseed.torrent.layout import TorrentLayout

RELEASE = ReleaseId.parse("hello@1.0.0")


def layouts() -> list[TorrentLayout]:
    draw = random.Random(3)
    sizes = [1, 5120, 5121, 16384, 16385, 1_000_000, *(draw.randrange(1, 300_000_000) for _ in range(20))]
    return [TorrentLayout(RELEASE, size, ChunkGrid(size).least_m) for size in sizes]


def test_who_has_nothing_wants_what_the_plan_wants_at_its_start() -> None:
    """The first bytes are asked for before there is a plan: the plan changes nothing when it comes."""
    for layout in layouts():
        assert opening_wishes(layout) == FetchPlan(layout, patience_s=10, silence_s=10, now=0).priorities()


def test_the_map_before_the_front_before_the_back_and_no_parity() -> None:
    for layout in layouts():
        wishes = opening_wishes(layout)
        assert {wishes[piece] for piece in layout.chunks.pieces} == {MAP}
        data = [wishes[piece] for piece in layout.tgz.pieces]
        assert data == sorted(data, reverse=True)
        assert min(data) >= LAST and max(data) < MAP
        assert not any(wishes[piece] for piece in layout.parity.pieces)
