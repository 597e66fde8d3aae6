"""What a fetch has of its mirrors: the chunk map while it lacks, then chunks.

:class:`MirrorFeed` is the seam between :class:`libreseed.adapters.resolving.fetch.ContentFetch` and
:mod:`libreseed.adapters.mirrors`. It believes nothing: the chunk map is judged by the fetch (step 4), chunks against
the chunk map by the source. ``docs/specification/resolver.md``, "Mirrors".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
from blake3 import blake3

from libreseed import limits
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.mirrors.documents import Document, first_good
from libreseed.adapters.mirrors.ranges import Ranges
from libreseed.adapters.mirrors.sites import Site
from libreseed.adapters.mirrors.source import MirrorSource
from libreseed.errors import ContentRejected, LibreSeedError
from libreseed.ids import ReleaseId
from libreseed.package.minimal import MinimalManifest
from libreseed.resolve.journal import Kind
from libreseed.resolve.source_mix import SourceMix

__all__ = ["MirrorFeed"]


class MirrorFeed:
    """The mirrors of one fetch of ``release``. ``received`` and ``faults`` are of documents; scores tell of chunks."""

    def __init__(self, sites: Sequence[Site], release: ReleaseId, ranges: Ranges, silence_s: float) -> None:
        self.urls = [site.base for site in sites]
        self.received = 0
        self.faults: dict[str, LibreSeedError] = {}  # by base URL
        self._sites = sites
        self._release = release
        self._ranges = ranges
        self._silence_s = silence_s
        self._source = MirrorSource(sites, release, ranges, silence_s)

    async def chunk_map(
        self, minimal: MinimalManifest, size: int, late: Callable[[], None] | None = None
    ) -> bytes | None:
        """The signed ``.chunks`` file of at most ``size`` bytes from whoever has it; None if no mirror does.

        ``late`` is called when it is not here after a moment.
        """

        def read(data: bytes) -> bytes:
            if blake3(data).digest() != minimal.chunks.raw:
                raise ContentRejected("chunkmap.digest", "the chunk map is not the one that the manifest names")
            return data

        urls = {site.document(self._release, "chunks"): site.base for site in self._sites}
        async with trio.open_nursery() as nursery:
            if late is not None:
                nursery.start_soon(_call_after, limits.MIRROR_MAP_SECONDS, late)
            answers = await first_good(self._ranges, list(urls), Document(size, self._silence_s, read))
            nursery.cancel_scope.cancel()
        self.received += answers.received
        self.faults |= {urls[url]: fault for url, fault in answers.faults.items()}
        return next(iter(answers.good.values()), None)

    async def run(
        self,
        mix: SourceMix,
        store: ChunkStore,
        deliver: Callable[[Kind, range, bytearray], None],
        ended: Callable[[], None],
    ) -> None:
        """Fetch what the mix leaves to mirrors, until cancelled or no mirror is left.

        ``deliver`` hears of judged chunks, ``ended`` of each request that is over.
        """
        mix.update(trio.current_time())
        await self._source.run(mix, store, deliver, ended)

    def wake(self) -> None:
        """The mix may have changed."""
        self._source.wake()


async def _call_after(seconds: float, call: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    call()
