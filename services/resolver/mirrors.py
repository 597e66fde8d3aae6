"""The mirrors of one resolve: records for step 2, the torrent's info for step 4, a feed for step 5, and the report.

Made only when mirrors are named. What went wrong with a mirror is kept by its base URL for the report; nothing here
ends a resolve that another source can complete.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from libreseed import limits
from libreseed.adapters.mirrors.documents import Document, all_good, first_good
from libreseed.adapters.mirrors.ranges import Ranges
from libreseed.adapters.mirrors.sites import Site, read_sites
from libreseed.adapters.resolving.mirror_feed import MirrorFeed
from libreseed.errors import ContentRejected, LibreSeedError, NotFound, TransportFault
from libreseed.ids import PublicKey, ReleaseId
from libreseed.package.minimal import MinimalManifest
from libreseed.repair.grid import ChunkGrid
from libreseed.resolve.mirror_records import MirrorRecords, read_record, sort_records
from libreseed.torrent.layout import TorrentLayout
from libreseed.torrent.metainfo import TorrentInfo, parse_metainfo, read_info

from .mirror_options import MirrorOptions

__all__ = ["MirrorAccess", "open_mirrors"]


@asynccontextmanager
async def open_mirrors(options: MirrorOptions, release: ReleaseId, silence_s: float) -> AsyncIterator[MirrorAccess]:
    """The mirrors, until the block ends."""
    sites = read_sites(options.urls)
    ranges = Ranges(ca_file=options.ca_file, allow_private=options.private_redirects)
    try:
        yield MirrorAccess(sites, release, ranges, silence_s)
    finally:
        ranges.close()


class MirrorAccess:
    """``faults`` by base URL: the first thing that was wrong with a mirror's documents."""

    def __init__(self, sites: Sequence[Site], release: ReleaseId, ranges: Ranges, silence_s: float) -> None:
        self.sites = sites
        self.faults: dict[str, LibreSeedError] = {}
        self.received = 0  # bytes of documents
        self._release = release
        self._ranges = ranges
        self._silence_s = silence_s

    async def records(self, keys: Sequence[PublicKey]) -> MirrorRecords:
        """What all mirrors have for the release (step 2)."""
        read = partial(read_record, release=self._release)
        urls = self._urls("minimal.json")
        answers = await all_good(self._ranges, list(urls), Document(limits.MINIMAL_BYTES, self._silence_s, read))
        self._note(urls, answers.faults)
        self.received += answers.received
        records = sort_records({urls[url]: minimal for url, minimal in answers.good.items()}, keys)
        self._note({base: base for base in records.stale}, records.stale)
        return records

    def no_record(self) -> LibreSeedError:
        """Why :meth:`records` gave nothing: the release is unknown, or nobody could be asked, or all lied."""
        rejected = [fault for fault in self.faults.values() if fault.exit_code == 20]
        if rejected:
            return rejected[0]
        unknown = [fault for fault in self.faults.values() if isinstance(fault, NotFound)]
        said = "; ".join(f"{base}: {fault.message}" for base, fault in self.faults.items())
        if len(unknown) == len(self.sites) or not self.faults:
            return NotFound("notfound.record", f"no mirror has a record of {self._release}: {said or 'by that key'}")
        return TransportFault("source.none", f"no mirror gave a record of {self._release}: {said}")

    async def info(self, minimal: MinimalManifest) -> TorrentInfo | None:
        """The signed torrent's info dictionary from whoever has it (step 4)."""

        def read(data: bytes) -> TorrentInfo:
            return read_info(parse_metainfo(data, minimal.release, minimal).info, minimal.release, minimal)

        grid = ChunkGrid(minimal.size)
        most = TorrentLayout(minimal.release, minimal.size, limits.STRIPE_ROWS - grid.k).most_metainfo_bytes
        urls = self._urls("torrent")
        answers = await first_good(
            self._ranges, list(urls), Document(min(most, limits.METAINFO_BYTES), self._silence_s, read)
        )
        self.received += answers.received
        wrong = {url: fault for url, fault in answers.faults.items() if isinstance(fault, ContentRejected)}
        self._note(urls, wrong)  # a mirror may lack it: the chunk map says enough
        return next(iter(answers.good.values()), None)

    def feed(self) -> MirrorFeed:
        """The chunks of the release, for :class:`libreseed.adapters.resolving.fetch.ContentFetch`."""
        return MirrorFeed(self.sites, self._release, self._ranges, self._silence_s)

    def _urls(self, name: str) -> dict[str, str]:
        return {site.document(self._release, name): site.base for site in self.sites}

    def _note(self, urls: Mapping[str, str], faults: Mapping[str, LibreSeedError]) -> None:
        for url, fault in faults.items():
            self.faults.setdefault(urls[url], fault)
