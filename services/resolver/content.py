"""Steps 4 to 6 composed: take up what an earlier run left, join the swarm, ask mirrors, fetch, repair, give back."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from libreseed import limits
from libreseed.adapters.chunks.recovery import Findings, examine, examine_chunks, read_known_info
from libreseed.adapters.command.settings import Endpoint
from libreseed.adapters.resolving.fetch import ContentFetch
from libreseed.errors import NotFound, TransportFault
from libreseed.ids import Sha256Digest
from libreseed.repair.chunkmap import ChunkMap, parse_chunk_map
from libreseed.repair.grid import ChunkGrid
from libreseed.torrent.layout import TorrentLayout
from libreseed.torrent.metainfo import TorrentInfo

from .job import Job
from .late_salvage import LateSalvage
from .network import Network
from .sources import sources_report
from .swarm import Swarm

if TYPE_CHECKING:
    from .mirrors import MirrorAccess

__all__ = ["Content", "obtain_offline", "obtain_online"]

_MIRRORS_FIRST_S = 3.0  # for mirrors to give the torrent's info, before peers are asked for it


class Content:
    """A verified .tgz in its workspace; in the swarm until it is closed."""

    def __init__(
        self,
        tgz: Path,
        fetch: ContentFetch,
        swarm: Swarm | None,
        mirrors: MirrorAccess | None = None,
    ) -> None:
        self.tgz = tgz
        self._fetch = fetch
        self._swarm = swarm
        self._mirrors = mirrors
        self._left = swarm is None

    def chunks(self) -> dict[str, int]:
        """Data chunks by origin, and the verified parity chunks that were fetched."""
        totals = self._fetch.ledger.totals
        return {
            "downloaded": totals.downloaded + totals.salvaged + totals.mirrored,
            "repaired": totals.repaired,
            "reused": totals.reused,
            "salvaged": totals.salvaged,
            **({"mirrored": totals.mirrored} if self._mirrors is not None else {}),
            "healed": totals.healed,
            "parity": totals.parity,
        }

    @property
    def disturbed(self) -> bool:
        """Whether something that was verified may have been written over since: it is judged in :meth:`sha256`."""
        return self._fetch.disturbed

    async def sha256(self, expected: Sha256Digest) -> Sha256Digest | None:
        """See :meth:`ContentFetch.sha256`; where pieces were refused, the swarm is left before anything is judged."""
        if self._fetch.disturbed:
            await self.share()
            await self._fetch.look()
            await self.close()
            await self._fetch.settle()
        return await self._fetch.sha256(expected)

    async def sources(self) -> dict[str, object]:
        """Who gave how many bytes, how many came in all, and who gave something wrong or dropped out, and why."""
        await self._fetch.look()
        received = (await self._swarm.session.totals()).downloaded if self._swarm is not None else 0
        return sources_report(self._fetch, received, self._mirrors)

    async def share(self) -> None:
        """Offer pieces that were repaired here until the connected peers have them, a moment at most."""
        if not self._left and self._fetch.ledger.totals.repaired:
            with trio.move_on_after(limits.SHARE_SECONDS):
                await self._fetch.until_shared()

    async def close(self) -> None:
        """Leave the swarm; returns when the files are nobody's."""
        if self._swarm is not None and not self._left:
            self._left = True
            await self._swarm.leave()


async def obtain_offline(job: Job) -> Content:
    """Complete a download from what is in the store alone; raises ``notfound.offline`` when that is too little."""
    found = await _take_up(job)
    if found is None or found[1].verified is None:
        raise NotFound("notfound.offline", f"only a part of {job.resolution.minimal.release} is in the store")
    info, findings = found
    fetch = _fetch(job, info.layout, info=info)
    fetch.restore(findings)
    if fetch.plan.lacks_sources():
        raise NotFound("notfound.offline", f"only a part of {job.resolution.minimal.release} is in the store")
    return await _complete(job, fetch)


async def obtain_online(
    job: Job,
    network: Network | None,
    peers: Sequence[Endpoint],
    mirrors: MirrorAccess | None = None,
    entered: tuple[Swarm, TorrentInfo] | None = None,
) -> Content:
    """Fetch the release from swarm and mirrors; what an earlier run verified is not fetched again.

    Without ``network`` the mirrors alone have to do. ``entered``: the swarm, by somebody who has nothing yet.
    """
    if entered is not None:
        return await _from_swarm(job, *entered)
    found = await _take_up(job)
    info = found[0] if found else None
    if info is None and mirrors is not None:
        with trio.move_on_after(math.inf if network is None else _MIRRORS_FIRST_S):
            info = await _info_of_mirrors(job, mirrors)
    if network is None:
        assert mirrors is not None
        return await _from_mirrors(job, info, found[1] if found else None, mirrors)
    async with trio.open_nursery() as nursery:
        have, others = found[1].have if found else None, mirrors is not None
        swarm = await Swarm.enter(job, network, nursery, peers, info=info, have=have, others=others)
        info = info or await swarm.info(job)
        return await _from_swarm(job, swarm, info, found[1] if found else None, mirrors)


async def _from_swarm(
    job: Job, swarm: Swarm, info: TorrentInfo, found: Findings | None = None, mirrors: MirrorAccess | None = None
) -> Content:
    fetch = _fetch(job, info.layout, info=info, swarm=swarm, mirrors=mirrors)
    if found is not None:
        fetch.restore(found)
    content = await _complete(job, fetch, swarm=swarm, mirrors=mirrors)
    swarm.look_no_more()
    return content


async def _info_of_mirrors(job: Job, mirrors: MirrorAccess) -> TorrentInfo | None:
    info = await mirrors.info(job.resolution.minimal)
    if info is not None:
        job.space.info.write_bytes(info.info)
    return info


async def _from_mirrors(job: Job, info: TorrentInfo | None, found: Findings | None, mirrors: MirrorAccess) -> Content:
    """No DHT, no swarm, no libtorrent. A mirror that lacks the torrent still has the chunk map, which says as much."""
    if info is not None:
        fetch = _fetch(job, info.layout, info=info, mirrors=mirrors)
        if found is not None:
            fetch.restore(found)
        return await _complete(job, fetch, mirrors=mirrors)
    resolution, minimal = job.resolution, job.resolution.minimal
    grid = ChunkGrid(minimal.size)
    data = await mirrors.feed().chunk_map(minimal, grid.map_bytes(limits.STRIPE_ROWS - grid.k))
    if data is None:
        raise TransportFault("source.none", f"no mirror gave the chunk map of {minimal.release}", step=4)
    layout = TorrentLayout(minimal.release, minimal.size, parse_chunk_map(data, size=minimal.size).m)
    resolution.chunk_map(data, layout.m)
    job.steps.done(4)
    (job.space.swarm / layout.chunks.name).write_bytes(data)
    fetch = _fetch(job, layout, mirrors=mirrors)
    fetch.restore(await trio.to_thread.run_sync(examine_chunks, job.space, layout, resolution.map))
    return await _complete(job, fetch, mirrors=mirrors)


async def _take_up(job: Job) -> tuple[TorrentInfo, Findings] | None:
    """What an earlier run left in the workspace, judged anew; None for a fresh start."""
    resolution = job.resolution
    info = await trio.to_thread.run_sync(_open_space, job)
    if info is None:
        return None
    job.progress.phase("checking what is here", resolution.minimal.size)

    def read_map(data: bytes) -> ChunkMap:
        resolution.chunk_map(data, info.layout.m)
        job.steps.done(4)
        return resolution.map

    def checked(count: int) -> None:
        trio.from_thread.check_cancelled()
        job.progress.advance(count)

    return info, await trio.to_thread.run_sync(partial(examine, job.space, info, read_map, progress=checked))


def _open_space(job: Job) -> TorrentInfo | None:
    minimal = job.resolution.minimal
    job.space.record.write_bytes(minimal.data)
    return read_known_info(job.space, minimal)


def _fetch(
    job: Job,
    layout: TorrentLayout,
    *,
    info: TorrentInfo | None = None,
    swarm: Swarm | None = None,
    mirrors: MirrorAccess | None = None,
) -> ContentFetch:
    total = job.resolution.minimal.size
    job.progress.phase("fetching", total)
    also = f", {len(mirrors.sites)} mirror{'' if len(mirrors.sites) == 1 else 's'}" if mirrors is not None else ""

    def shown(chunks: int, peers: int) -> None:
        detail = f"{peers} peer{'' if peers == 1 else 's'}{also}"
        job.progress.update(min(chunks * limits.CHUNK_BYTES, total), total, detail)

    salvage = None
    if info is not None and swarm is not None:
        v1 = hashlib.sha1(info.info, usedforsecurity=False).digest()
        salvage = LateSalvage(layout, v1, job.resolution.policy.peer_silence_s)
    return ContentFetch(
        job.resolution,
        job.space,
        layout,
        swarm.torrent if swarm is not None else None,
        salvage=salvage,
        mirrors=mirrors.feed() if mirrors is not None else None,
        heard=swarm.heard if swarm is not None else None,
        on_chunks=shown,
        on_prefix=job.early.verified if job.early is not None else None,
        on_step=job.steps.done,
    )


async def _complete(
    job: Job, fetch: ContentFetch, *, swarm: Swarm | None = None, mirrors: MirrorAccess | None = None
) -> Content:
    resolution, steps = job.resolution, job.steps
    await fetch.run()
    if resolution.completed == 4:
        resolution.content(fetch.plan.verified)
        steps.done(5)
    resolution.repaired(fetch.plan.verified)
    steps.done(6)
    return Content(job.space.swarm / fetch.plan.layout.tgz.name, fetch, swarm, mirrors)
