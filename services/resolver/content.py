"""Steps 4 to 6 composed: join the swarm, take up what an earlier run left, fetch, repair, give back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from libreseed import limits
from libreseed.adapters.chunks.recovery import Findings, examine, read_known_info
from libreseed.adapters.command.settings import Endpoint
from libreseed.adapters.resolving.fetch import ContentFetch
from libreseed.adapters.torrent.session import TorrentSession
from libreseed.adapters.torrent.torrent import Torrent
from libreseed.errors import NotFound, TransportFault
from libreseed.ids import Sha256Digest
from libreseed.repair.chunkmap import ChunkMap
from libreseed.torrent.bitfield import pack_bitfield
from libreseed.torrent.metainfo import TorrentInfo, read_info

from .job import Job
from .late_salvage import LateSalvage
from .network import Address, Network

__all__ = ["Content", "obtain_offline", "obtain_online"]

_RELOOKUP_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


class Content:
    """A verified .tgz in its workspace; in the swarm until it is closed."""

    def __init__(self, tgz: Path, fetch: ContentFetch, session: TorrentSession | None, torrent: Torrent | None) -> None:
        self.tgz = tgz
        self._fetch = fetch
        self._session = session
        self._torrent = torrent

    def chunks(self) -> dict[str, int]:
        """Data chunks by origin, and the verified parity chunks that were fetched."""
        totals = self._fetch.ledger.totals
        return {
            "downloaded": totals.downloaded + totals.salvaged,
            "repaired": totals.repaired,
            "reused": totals.reused,
            "salvaged": totals.salvaged,
            "healed": totals.healed,
            "parity": totals.parity,
        }

    async def sha256(self, expected: Sha256Digest) -> Sha256Digest | None:
        """See :meth:`ContentFetch.sha256`; where pieces were refused, the swarm is left before anything is judged."""
        if self._fetch.disturbed:
            await self.share()
            await self._fetch.look()
            await self.close()
            await self._fetch.settle()
        return await self._fetch.sha256(expected)

    async def sources(self) -> dict[str, object]:
        """Which peers gave how many bytes."""
        await self._fetch.look()
        return {"peers": {f"{host}:{port}": count for (host, port), count in self._fetch.contributors.items() if count}}

    async def share(self) -> None:
        """Offer pieces that were repaired here until the connected peers have them, a moment at most."""
        if self._torrent is not None and self._fetch.ledger.totals.repaired:
            with trio.move_on_after(limits.SHARE_SECONDS):
                await self._fetch.until_shared()

    async def close(self) -> None:
        """Leave the swarm; returns when the files are nobody's."""
        if self._session is not None and self._torrent is not None:
            torrent, self._torrent = self._torrent, None
            await self._session.remove(torrent)


async def obtain_offline(job: Job) -> Content:
    """Complete a download from what is in the store alone; raises ``notfound.offline`` when that is too little."""
    found = await _take_up(job)
    if found is None or found[1].verified is None:
        raise NotFound("notfound.offline", f"only a part of {job.resolution.minimal.release} is in the store")
    info, findings = found
    fetch = _fetch(job, info, None, set())
    fetch.restore(findings)
    if fetch.plan.lacks_sources():
        raise NotFound("notfound.offline", f"only a part of {job.resolution.minimal.release} is in the store")
    return await _complete(job, info, fetch)


async def obtain_online(job: Job, network: Network, peers: Sequence[Endpoint]) -> Content:
    """Fetch the release from the swarm; what an earlier run verified is not fetched again."""
    minimal, space = job.resolution.minimal, job.space
    found = await _take_up(job)
    session = await network.session()
    metainfo = b"d4:info" + found[0].info + b"e" if found else None
    have = pack_bitfield(map(bool, found[1].have)) if found else None
    torrent = session.fetch(
        minimal.torrent,
        minimal.release,
        space.swarm,
        metainfo=metainfo,
        have=have,
        peers=(named := await _numeric(peers)),
    )
    heard: set[Address] = set(named)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_feed_peers, network, torrent, minimal.torrent.truncated, heard)
        info = found[0] if found else await _metadata(job, torrent, heard)
        fetch = _fetch(job, info, torrent, heard)
        if found:
            fetch.restore(found[1])
        content = await _complete(job, info, fetch, session=session, torrent=torrent)
        nursery.cancel_scope.cancel()
    return content


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


async def _metadata(job: Job, torrent: Torrent, heard: set[Address]) -> TorrentInfo:
    """The signed info dictionary, from any peer (BEP 9); patience starts anew with every peer that is heard of."""
    resolution, known = job.resolution, -1
    while len(heard) > known:
        known = len(heard)
        with trio.move_on_after(resolution.policy.patience_s):
            metainfo = await torrent.metainfo()
            info = read_info(metainfo[len(b"d4:info") : -1], resolution.minimal.release, resolution.minimal)
            job.space.info.write_bytes(info.info)
            return info
    where = f"{known} peers were tried, none answered" if known else "nobody announces it"
    raise TransportFault("source.none", f"no source for {resolution.minimal.release}: {where}", step=5)


async def _feed_peers(network: Network, torrent: Torrent, info_hash: bytes, heard: set[Address]) -> None:
    """Connect to every peer the moment it is heard of; look again, ever more rarely, as long as the fetch lasts."""
    for pause in (*_RELOOKUP_S, *[_RELOOKUP_S[-1]] * 10_000):
        async for peer in network.peers(info_hash):
            if peer not in heard:
                heard.add(peer)
                torrent.connect([peer])
        await trio.sleep(pause)


def _fetch(job: Job, info: TorrentInfo, torrent: Torrent | None, heard: set[Address]) -> ContentFetch:
    total = job.resolution.minimal.size
    job.progress.phase("fetching", total)

    def shown(chunks: int, peers: int) -> None:
        detail = f"{peers} peer{'' if peers == 1 else 's'}"
        job.progress.update(min(chunks * limits.CHUNK_BYTES, total), total, detail)

    v1 = hashlib.sha1(info.info, usedforsecurity=False).digest()
    salvage = LateSalvage(info.layout, v1, job.resolution.policy.peer_silence_s)
    return ContentFetch(
        job.resolution,
        job.space,
        info.layout,
        torrent,
        salvage=salvage,
        heard=heard,
        on_chunks=shown,
        on_step=job.steps.done,
    )


async def _complete(
    job: Job,
    info: TorrentInfo,
    fetch: ContentFetch,
    *,
    session: TorrentSession | None = None,
    torrent: Torrent | None = None,
) -> Content:
    resolution, steps = job.resolution, job.steps
    await fetch.run()
    if resolution.completed == 4:
        resolution.content(fetch.plan.verified)
        steps.done(5)
    resolution.repaired(fetch.plan.verified)
    steps.done(6)
    return Content(job.space.swarm / info.layout.tgz.name, fetch, session, torrent)


async def _numeric(peers: Sequence[Endpoint]) -> list[Address]:
    """Addresses of the peers that the user named; a name that does not resolve is an error of the user's."""
    found: list[Address] = []
    for peer in peers:
        try:
            answers = await trio.socket.getaddrinfo(peer.host, peer.port, type=trio.socket.SOCK_STREAM)
        except OSError as error:
            raise TransportFault("source.none", f"--peer {peer}: {error.strerror}", step=5) from error
        found += [(str(answer[4][0]), int(answer[4][1])) for answer in answers]
    return found
