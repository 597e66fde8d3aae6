"""Pulls one release's content into a workspace, from other mirrors and from the swarm, by the resolver's own parts.

Steps 3 to 6 of the resolver (docs/specification/resolver.md) on behalf of a mirror: the minimal manifest by its
signatures, the chunk map by its signed hash, every chunk by the map. Nothing of it is visible; publishing is
:mod:`.syncing`'s matter, after :mod:`.judging` has seen the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from libreseed import limits
from libreseed.adapters.chunks.recovery import examine_chunks
from libreseed.adapters.mirrors.documents import Document, first_good
from libreseed.adapters.mirrors.ranges import Ranges
from libreseed.adapters.mirrors.sites import Site
from libreseed.adapters.resolving.fetch import ContentFetch
from libreseed.adapters.resolving.mirror_feed import MirrorFeed
from libreseed.adapters.resolving.store import Workspace
from libreseed.errors import TransportFault
from libreseed.package.minimal import MinimalManifest
from libreseed.repair.chunkmap import parse_chunk_map
from libreseed.repair.grid import ChunkGrid
from libreseed.resolve.engine import FoundRecord, Resolution
from libreseed.resolve.policy import Policy
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis
from libreseed.torrent.layout import TorrentLayout
from libreseed.torrent.metainfo import read_info

from .swarm import Swarm

__all__ = ["Sources", "pull_content", "small_document", "trusted_resolution"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to pull from; ``swarm`` is None where only mirrors are asked. ``silence_s`` is the patience with any."""

    sites: Sequence[Site]
    ranges: Ranges
    swarm: Swarm | None
    silence_s: float


def trusted_resolution(minimal: MinimalManifest, max_package_bytes: int, now_ms: int, silence_s: float) -> Resolution:
    """The resolver's state machine after step 3, for a manifest whose publisher the operator mirrors."""
    request = Request(minimal.release, minimal.pubkey, without_silexium=True)  # a mirror vouches for nothing
    patience_s = max(1, round(silence_s))
    policy = Policy(max_package_bytes=max_package_bytes, patience_s=patience_s, peer_silence_s=patience_s)
    resolution = Resolution(request, policy)
    resolution.begin(TrustBasis((minimal.pubkey,), "flag"), {})
    resolution.record(FoundRecord(minimal.pubkey, minimal.data, None, "sync"))
    resolution.minimal_manifest(now_ms)
    return resolution


async def pull_content(resolution: Resolution, space: Workspace, sources: Sources, progress: Progress) -> None:
    """Fetch and verify the .tgz and the chunk map into ``space.swarm``; raises what the resolver raises.

    From mirrors alone an earlier run's chunks are taken up; with a swarm the workspace must be empty.
    """
    feed = _feed(resolution.minimal, sources)
    if sources.swarm is not None:
        await _from_swarm(resolution, space, sources.swarm, feed, progress)
        return
    if feed is None:
        raise TransportFault("source.none", f"no mirror and no swarm to get {resolution.minimal.release} from")
    minimal = resolution.minimal
    grid = ChunkGrid(minimal.size)
    data = await feed.chunk_map(minimal, grid.map_bytes(limits.STRIPE_ROWS - grid.k))
    if data is None:
        raise TransportFault("source.none", f"no mirror gave the chunk map of {minimal.release}", step=4)
    layout = TorrentLayout(minimal.release, minimal.size, parse_chunk_map(data, size=minimal.size).m)
    resolution.chunk_map(data, layout.m)
    (space.swarm / layout.chunks.name).write_bytes(data)
    fetch = ContentFetch(resolution, space, layout, None, mirrors=feed, on_chunks=partial(_shown, progress))
    fetch.restore(await trio.to_thread.run_sync(examine_chunks, space, layout, resolution.map))
    await _complete(resolution, fetch)


async def _from_swarm(
    resolution: Resolution, space: Workspace, swarm: Swarm, feed: MirrorFeed | None, progress: Progress
) -> None:
    minimal = resolution.minimal
    async with swarm.joined(minimal, space.swarm) as torrent:
        with trio.move_on_after(swarm.patience_s) as patience:
            metainfo = await torrent.metainfo()
        if patience.cancelled_caught:
            raise TransportFault("source.none", f"nobody in the swarm gives {minimal.release}", step=5)
        info = read_info(metainfo[len(b"d4:info") : -1], minimal.release, minimal)
        shown = partial(_shown, progress)
        fetch = ContentFetch(resolution, space, info.layout, torrent, mirrors=feed, on_chunks=shown)
        await _complete(resolution, fetch)
    if fetch.disturbed:  # after the torrent was left: a refused piece may have had a block on its way to the disk
        await fetch.settle()


async def _complete(resolution: Resolution, fetch: ContentFetch) -> None:
    await fetch.run()
    if resolution.completed == 4:
        resolution.content(fetch.plan.verified)
    resolution.repaired(fetch.plan.verified)


async def small_document(sources: Sources, minimal: MinimalManifest, name: str, read: Document[bytes]) -> bytes | None:
    """A small document of the release from whichever mirror has a good one."""
    urls = [site.document(minimal.release, name) for site in sources.sites]
    answers = await first_good(sources.ranges, urls, read)
    return next(iter(answers.good.values()), None)


def _feed(minimal: MinimalManifest, sources: Sources) -> MirrorFeed | None:
    if not sources.sites:
        return None
    return MirrorFeed(sources.sites, minimal.release, sources.ranges, sources.silence_s)


def _shown(progress: Progress, chunks: int, peers: int) -> None:
    progress(chunks, peers)
