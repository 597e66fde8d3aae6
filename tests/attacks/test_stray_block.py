"""A false block of a piece that mirrors gave: nobody asked that peer in earnest, no piece fails, nobody is banned."""

from __future__ import annotations

from typing import Any, cast

from libreseed.adapters.resolving.swarm_watch import SwarmWatch
from libreseed.adapters.torrent.torrent import Torrent
from libreseed.ids import ReleaseId
from libreseed.resolve.fetch_plan import FetchPlan
from libreseed.resolve.journal import Kind
from libreseed.resolve.swarm_view import PeerOffer
from libreseed.torrent.bitfield import pack_bitfield
from libreseed.torrent.layout import TorrentLayout


class Session:
    """In a torrent's place: it has blocks of ``pieces``."""

    def __init__(self, pieces: list[int]) -> None:
        self._pieces = pieces

    async def begun(self) -> list[int]:
        return self._pieces


def fetched_beside_one_mirror() -> tuple[FetchPlan, int]:
    """A plan with every chunk verified, and a piece that its session wished for though mirrors gave it."""
    layout = TorrentLayout(ReleaseId.parse("sample@1.0.0"), 8_000_000, 12)
    plan = FetchPlan(layout, patience_s=5, silence_s=3, now=0.0, mirrors=["http://m"])
    mix, pieces = plan.mix, list(layout.tgz.pieces)
    assert mix is not None
    offered = set(pieces[:-100])
    have = pack_bitfield(piece in offered for piece in range(layout.piece_count))
    plan.swarm.update([PeerOffer(("a", 1), have, 0)], [0] * layout.piece_count, 1.0)
    mix.update(1.0)
    stray = max(mix.stoppers)
    plan.chunks_verified(Kind.DATA, range(layout.grid.n), 1.0)
    return plan, stray


async def crossed(pieces: list[int], plan: FetchPlan) -> bool:
    return await SwarmWatch(plan, set()).crossed(cast(Torrent, cast(Any, Session(pieces))))


async def test_a_stray_block_in_the_last_moment_has_everything_judged_again() -> None:
    plan, stray = fetched_beside_one_mirror()
    assert await crossed([stray], plan)


async def test_without_a_stray_block_nothing_is_judged_twice() -> None:
    plan, _ = fetched_beside_one_mirror()
    assert not await crossed([], plan)
    assert not await SwarmWatch(plan, set()).crossed(None)
