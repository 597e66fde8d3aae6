"""One torrent of a session: what it has, who gives it, what is wanted, and repaired pieces back to the swarm.

Invariants: nothing is downloaded before :meth:`Torrent.want`; every piece reported as done passed libtorrent's hash
check against the metadata, which hashes to the info-hash that was asked for, and lies in its file: libtorrent reports a
piece before it is written, so the report waits for a flush. Does not know what the files mean
(:mod:`libreseed.torrent.layout`), and never decides which peer or piece is worth its time: the resolver does.
Specification: docs/specification/swarm.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from libreseed import limits
from libreseed.adapters.torrent.events import (
    Address,
    EventChannel,
    MetadataReceived,
    PeerBanned,
    PeerCount,
    PieceDone,
    PieceFailed,
    TorrentError,
)
from libreseed.adapters.torrent.status import PeerStatus, TorrentStatus, read_status
from libreseed.errors import ContentRejected
from libreseed.ids import TorrentV2Hash
from libreseed.torrent.bitfield import pack_bitfield, unpack_bitfield

__all__ = ["FILE_SUFFIXES", "PeerStatus", "Torrent", "TorrentStatus", "file_names"]

_CONTRADICTIONS = 2  # that are reported as the publisher's
FILE_SUFFIXES = (".chunks", ".parity", ".tgz")  # in the torrent's order; pad files lie between them (DESIGN 3.7)


def file_names(info: Any, name: str) -> dict[int, str]:
    """Where each file goes, by its index in the torrent: directly into the folder, under its own name.

    Raises ``torrent.files`` unless the torrent holds exactly the three files of the release ``name`` and pad files.
    """
    layout = info.layout()
    found = {
        index: str(layout.file_path(index))
        for index in range(layout.num_files())
        if not int(layout.file_flags(index)) & int(layout.flag_pad_file)
    }
    if list(found.values()) != [f"{name}/{name}{suffix}" for suffix in FILE_SUFFIXES]:
        raise ContentRejected("torrent.files", f"the torrent's files are not those of {name}")
    return {index: path.partition("/")[2] for index, path in found.items()}


_Readd = Callable[["Torrent", list[bool] | None, Iterable[Address]], Awaitable[None]]


class Torrent:
    """Made by :meth:`TorrentSession.seed` and :meth:`TorrentSession.fetch`; its state is owned by the trio thread.

    ``readd`` takes the torrent out of its session and puts it in anew with other pieces (None: those it has) and peers.
    Once libtorrent was told to take a torrent out, its handle is not touched again: some calls crash then. So a thread
    that uses the handle holds ``_use``, as does whoever takes it out, and what comes in between waits for the next one.
    """

    def __init__(self, v2: TorrentV2Hash, name: str, folder: Path, readd: _Readd) -> None:
        self.v2 = v2
        self.name = name
        self.folder = folder
        self.events = EventChannel()
        self.meetings = 0  # how many connections have come about so far
        self._readd = readd
        self._handle: Any = None  # None while the torrent is not in the session
        self._use = trio.Lock()
        self._gone: trio.Event | None = None  # set when libtorrent has let go of the last handle
        self._info: Any = None  # the torrent_info, which outlives the handle
        self._named: list[Address] = []  # peers that came while there was no handle
        self._gave = False  # whether this handle was given pieces
        self._contradictions = 0  # of which no given piece can be the cause
        self._metainfo: bytes | None = None
        self._priorities: list[int] | None = None
        self._limits = (0, 0)
        self._renamed = False
        self._metadata = trio.Event()
        self._removed = trio.Event()
        self._links: set[Address] = set()
        self._met: dict[Address, None] = {}  # the last peers that a connection came about with, oldest first
        self._have: list[bool] = []  # pieces whose bytes are in their files
        self._verdicts: list[PieceDone | PieceFailed] = []  # what waits for a flush
        self._flushing: list[PieceDone | PieceFailed] = []  # what the flush under way covers
        self._flushed = trio.Event()
        self._checked = trio.Event()  # libtorrent has settled what it has; unset while it hashes files

    # --- metadata ------------------------------------------------------------------------------------------------
    async def metainfo(self) -> bytes:
        """A .torrent file's bytes (the info dictionary alone when it came from the swarm) once the metadata is known.

        It hashes to the info-hash that was asked for; nothing else about it is verified. Raises
        ``trio.ClosedResourceError`` when the torrent is removed first.
        """
        await self._metadata.wait()
        self._check_alive()
        if self._metainfo is None:
            self._metainfo = b"d4:info" + bytes(self._info.info_section()) + b"e"
        return self._metainfo

    # --- download --------------------------------------------------------------------------------------------------
    async def want(self, priorities: Sequence[int]) -> None:
        """Set every piece's priority (0 = do not fetch, 1..7) and let the download run; waits for the metadata.

        Raises ``torrent.files`` when the torrent holds other files than a release's.
        """
        await self._metadata.wait()
        async with self._use:
            self._want(priorities)

    def _want(self, priorities: Sequence[int]) -> None:
        import libtorrent as lt

        with self._live() as handle:
            if not self._renamed:  # the metadata came from the swarm; a rename is done before any later write
                for index, name in file_names(handle.torrent_file(), self.name).items():
                    handle.rename_file(index, name)
                self._renamed = True
            self._priorities = list(priorities)
            handle.prioritize_pieces(self._priorities)
            handle.unset_flags(lt.torrent_flags.upload_mode)

    def connect(self, peers: Iterable[Address]) -> None:
        """Connect to these peers (numeric addresses); at once when there is no connection yet, else within a second."""
        self._check_alive()
        if self._handle is None:
            self._named += peers
            return
        with self._live() as handle:
            for peer in peers:
                handle.connect_peer(peer)
            if not self._links:
                # libtorrent looks at new peers once a second, but at once when a torrent is resumed.
                handle.pause()
                handle.resume()

    def give(self, index: int, data: bytes) -> None:
        """Hand in a whole piece from repair or a mirror; PieceDone or PieceFailed follows, unless the torrent is just
        coming into its session (:meth:`readmit`, :meth:`rescan`): libtorrent takes no piece then.

        The zeros of a pad file behind it may be left out. Raises ``ValueError`` when it is longer than the piece.
        """
        import libtorrent as lt

        self._check_alive()
        size = self._info.piece_size(index)
        if len(data) > size:
            raise ValueError(f"{len(data)} bytes for piece {index} of {size} bytes")
        if self._handle is None or not self._checked.is_set():
            return
        self._gave = True
        with self._live() as handle:
            handle.add_piece(index, data.ljust(size, b"\0"), lt.add_piece_flags_t.overwrite_existing)

    @property
    def have(self) -> bytes:
        """BEP 3 bitfield of the pieces whose verified bytes are in their files; empty until the metadata is known."""
        return pack_bitfield(self._have)

    async def set_have(self, have: bytes, peers: Iterable[Address] = ()) -> None:
        """Offer exactly these pieces from now on, for instance fewer after a scrub found damage.

        libtorrent can't forget a piece, so the torrent leaves the session and comes back: connections are made anew,
        priorities stay, peers that were banned are forgiven, unfinished pieces begin again.
        """
        await self._metadata.wait()
        flags = unpack_bitfield(have, len(self._have))
        await self._settle()
        self._check_alive()
        await self._readd(self, flags, [*self._links, *peers])

    async def readmit(self, peers: Iterable[Address]) -> None:
        """Forgive banned peers and connect to ``peers``. First set the priority of what they spoiled to 0."""
        await self._metadata.wait()
        await self._settle()
        self._check_alive()
        await self._readd(self, None, [*self._links, *peers])

    async def rescan(self) -> bytes:
        """Hash the files again and offer what is good; returns the bitfield. Slow: it reads everything."""
        await self._metadata.wait()
        await self._checked.wait()
        self._check_alive()
        async with self._use:
            with self._live() as handle:
                self._checked = trio.Event()
                handle.force_recheck()
        await self._checked.wait()
        async with self._use:
            with self._live() as handle:
                self._have = list((await trio.to_thread.run_sync(handle.status)).pieces)
        return self.have

    def set_limits(self, *, upload: int = 0, download: int = 0) -> None:
        """Rate limits of this torrent in bytes per second, 0 meaning none; they hold beside the session's."""
        self._limits = (upload, download)
        self._check_alive()
        if self._handle is None:
            return
        with self._live() as handle:
            handle.set_upload_limit(upload)
            handle.set_download_limit(download)

    @property
    def connected(self) -> int:
        """How many connections there are now; costs nothing, unlike :meth:`status`."""
        return len(self._links)

    # --- observation -------------------------------------------------------------------------------------------------
    async def status(self) -> TorrentStatus:
        """A snapshot of this torrent; the event loop runs on meanwhile."""
        async with self._use:
            with self._live() as handle:
                return await trio.to_thread.run_sync(read_status, handle)

    async def begun(self) -> list[int]:
        """Pieces of which blocks are here or were asked for, and that are not finished."""
        async with self._use:
            with self._live() as handle:
                queue = await trio.to_thread.run_sync(handle.get_download_queue) if handle is not None else []
        return [int(entry["piece_index"]) for entry in queue]

    # --- called by the session ---------------------------------------------------------------------------------------
    def _attach(self, handle: Any, have: list[bool] | None) -> None:
        """Take the handle of a torrent that was just added; ``have`` is None until the metadata is known."""
        self._handle = handle
        self._gone = None
        self._gave = False
        if any(self._limits):
            self.set_limits(upload=self._limits[0], download=self._limits[1])
        if self._checked.is_set():  # who waits for a rescan goes on waiting
            self._checked = trio.Event()
        self._links.clear()
        self._verdicts, self._flushing = [], []
        if have is not None:
            self._have = have
            self._renamed = True
            self._info = handle.torrent_file()
            self._metadata.set()
        if self._named:
            named, self._named = self._named, []
            self.connect(named)

    def _detach(self) -> Any:
        """Give the handle up, before libtorrent is told to take the torrent out; None if it was given up already."""
        handle, self._handle = self._handle, None
        return handle

    def _check_alive(self) -> None:
        if self._removed.is_set():
            raise trio.ClosedResourceError("the torrent was removed from its session")

    @contextmanager
    def _live(self) -> Iterator[Any]:
        """The handle; a torrent that is removed is one closed resource, whoever notices first."""
        self._check_alive()
        try:
            yield self._handle
        except RuntimeError as error:  # "invalid torrent handle used"
            raise trio.ClosedResourceError("the torrent was removed from its session") from error

    async def _settle(self) -> None:
        """Wait until everything that libtorrent said about pieces so far is on disk and reported."""
        while (self._verdicts or self._flushing) and not self._removed.is_set():
            await self._flushed.wait()

    def _on_metadata(self) -> None:
        if not self._metadata.is_set():
            self._info = self._handle.torrent_file()
            self._have = [False] * self._info.num_pieces()
            self._metadata.set()
            self.events.put(MetadataReceived())

    def _on_piece_passed(self, index: int) -> None:
        # libtorrent repeats the pieces that were there at the start, and those that a rescan finds
        if self._checked.is_set() and not self._have[index]:
            self._verdicts.append(PieceDone(index))

    def _on_piece_failed(self, index: int) -> None:
        self._verdicts.append(PieceFailed(index))  # after a flush too: its good chunks are worth reading

    def _flush(self) -> None:
        """Begin a flush if verdicts wait for one; called after every batch of alerts."""
        if self._verdicts and not self._flushing:
            self._flushing, self._verdicts = self._verdicts, []
            self._flushed = trio.Event()
            self._handle.flush_cache()

    def _on_flushed(self) -> None:
        for event in self._flushing:
            if isinstance(event, PieceDone):
                self._have[event.index] = True
            self.events.put(event)
        self._flushing = []
        self._flushed.set()

    def _on_checked(self) -> None:
        self._checked.set()

    def _on_link(self, address: Address, up: bool) -> None:
        if up:
            self._links.add(address)
            self.meetings += 1
            self._met.pop(address, None)
            self._met[address] = None
            if len(self._met) > limits.PEERS_REMEMBERED:
                del self._met[next(iter(self._met))]
        else:
            self._links.discard(address)
        self.events.put(PeerCount(len(self._links)))

    def _on_peer_banned(self, address: Address) -> None:
        self.events.put(PeerBanned(address))

    def _on_error(self, message: str, content_fault: bool) -> None:
        self.events.put(TorrentError(message, content_fault))

    def _on_contradiction(self) -> bool:
        """Whether the torrent deserves another try after its v1 and v2 hashes disagreed about a piece.

        libtorrent hashes a piece for v1 while its blocks arrive and for v2 block by block. Bytes that change in
        between, because the piece is given or its chunks are written by repair, look like a publisher's lie; one that
        is real comes again.
        """
        if not self._gave:
            self._contradictions += 1
        return self._contradictions < _CONTRADICTIONS

    def _on_removed(self) -> None:
        self._removed.set()
        self._metadata.set()
        self._flushed.set()
        self._checked.set()
        self.events.end()
