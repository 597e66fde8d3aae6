"""Entering the swarm of a release: its torrent by the signed info-hash, its peers by the DHT, its layout by any peer.

Imports little: whoever starts with nothing enters here, and the bytes flow while the rest of the program is loaded.
Judges the info dictionary and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from libreseed.adapters.command.settings import Endpoint
from libreseed.errors import TransportFault
from libreseed.torrent.bitfield import pack_bitfield

from .network import Address, Network

if TYPE_CHECKING:
    from collections.abc import Iterable

    from libreseed.adapters.torrent.session import TorrentSession
    from libreseed.adapters.torrent.torrent import Torrent
    from libreseed.torrent.metainfo import TorrentInfo

    from .job import Job

__all__ = ["Swarm"]

_RELOOKUP_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


class Swarm:
    """One torrent of one session. ``heard``: everybody whom the DHT or the user named, for others to share."""

    def __init__(self, session: TorrentSession, torrent: Torrent, heard: set[Address]) -> None:
        self.session = session
        self.torrent = torrent
        self.heard = heard
        self._looking = trio.CancelScope()

    @classmethod
    async def enter(
        cls,
        job: Job,
        network: Network,
        nursery: trio.Nursery,
        peers: Sequence[Endpoint],
        *,
        info: TorrentInfo | None = None,
        have: Iterable[int] | None = None,
        others: bool = False,
    ) -> Swarm:
        """Join, and look for peers in ``nursery`` until :meth:`look_no_more`.

        With ``info`` from an earlier run, ``have`` are the verified pieces that are here, 0 or 1 for each. With
        ``others`` to fetch from, a DHT that does not answer ends nothing.
        """
        minimal = job.resolution.minimal
        named = await _numeric(peers)
        session = await network.session()
        torrent = session.fetch(
            minimal.torrent,
            minimal.release,
            job.space.swarm,
            metainfo=b"d4:info" + info.info + b"e" if info is not None else None,
            have=pack_bitfield(map(bool, have)) if have is not None else None,
            peers=named,
        )
        swarm = cls(session, torrent, set(named))
        nursery.start_soon(swarm._look, network, minimal.torrent.truncated, others)
        return swarm

    async def info(self, job: Job) -> TorrentInfo:
        """The signed info dictionary, from any peer (BEP 9); patience starts anew with every peer that is heard of."""
        from libreseed.torrent.metainfo import read_info

        resolution, known = job.resolution, -1
        while len(self.heard) > known:
            known = len(self.heard)
            with trio.move_on_after(resolution.policy.patience_s):
                metainfo = await self.torrent.metainfo()
                info = read_info(metainfo[len(b"d4:info") : -1], resolution.minimal.release, resolution.minimal)
                job.space.info.write_bytes(info.info)
                return info
        where = f"{known} peers were tried, none answered" if known else "nobody announces it"
        raise TransportFault("source.none", f"no source for {resolution.minimal.release}: {where}", step=5)

    async def open(self, job: Job) -> TorrentInfo:
        """For somebody who has nothing: :meth:`info`, and the first bytes are asked for."""
        from libreseed.resolve.wishes import opening_wishes

        info = await self.info(job)
        await self.torrent.want(opening_wishes(info.layout))
        return info

    def look_no_more(self) -> None:
        """Nobody else is needed."""
        self._looking.cancel()

    async def leave(self) -> None:
        """Returns when the files are nobody's."""
        self.look_no_more()
        await self.session.remove(self.torrent)

    async def _look(self, network: Network, info_hash: bytes, others: bool) -> None:
        """Connect to every peer the moment it is heard of; look again, ever more rarely, as long as the fetch lasts."""
        if not network.has_dht:
            return
        with self._looking:
            for pause in (*_RELOOKUP_S, *[_RELOOKUP_S[-1]] * 10_000):
                try:
                    async for peer in network.peers(info_hash):
                        if peer not in self.heard:
                            self.heard.add(peer)
                            self.torrent.connect([peer])
                except TransportFault:
                    if not others:
                        raise
                await trio.sleep(pause)


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
