"""Torrents and sessions for tests: a release-shaped folder, its hybrid torrent made by libtorrent, started sessions."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import libtorrent as lt
import trio

from libreseed.adapters.torrent.session import TorrentSession
from libreseed.adapters.torrent.settings import SessionOptions
from libreseed.ids import ReleaseId, TorrentV2Hash

RELEASE = ReleaseId.parse("sample@1.0.0")


@dataclass(frozen=True, slots=True)
class Sample:
    """A release-shaped folder of random bytes and its torrent."""

    folder: Path
    metainfo: bytes
    v1: bytes
    v2: TorrentV2Hash
    pieces: int
    piece_length: int

    def file(self, suffix: str = ".tgz") -> Path:
        return self.folder / f"{RELEASE}{suffix}"

    @property
    def first_tgz_piece(self) -> int:
        return sum(-(-self.file(suffix).stat().st_size // self.piece_length) for suffix in (".chunks", ".parity"))

    def linear(self) -> bytes:
        """The torrent's linear space: the files with their padding."""
        files = (self.file(suffix).read_bytes() for suffix in (".chunks", ".parity", ".tgz"))
        return b"".join(data + bytes(-len(data) % self.piece_length) for data in files)

    def piece(self, index: int) -> bytes:
        """The bytes of a piece, padding included."""
        return self.linear()[index * self.piece_length :][: self.piece_length]


@asynccontextmanager
async def tracker_for(peers: Sequence[tuple[str, int]]) -> AsyncIterator[str]:
    """The announce URL of an HTTP tracker on loopback that names ``peers`` to everybody."""
    compact = b"".join(socket.inet_aton(host) + port.to_bytes(2, "big") for host, port in peers)
    body = lt.bencode({b"interval": 60, b"peers": compact})
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(
        body
    )

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(4096)
        await stream.send_all(answer + body)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/announce"
        nursery.cancel_scope.cancel()


def make_sample(parent: Path, tgz_size: int = 1_000_000, piece_length: int = 16384, seed: int = 1) -> Sample:
    folder = parent / str(RELEASE)
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    sizes = {".chunks": 80 + 32 * (tgz_size // 4800), ".parity": tgz_size // 20 + 1, ".tgz": tgz_size}
    for suffix, size in sizes.items():
        with (folder / f"{RELEASE}{suffix}").open("wb") as out:
            for start in range(0, size, 2**24):
                out.write(draw.randbytes(min(2**24, size - start)))
    entries = [lt.create_file_entry(f"{RELEASE}/{RELEASE}{suffix}", size) for suffix, size in sizes.items()]
    maker = lt.create_torrent(entries, piece_length)
    lt.set_piece_hashes(maker, str(parent))
    metainfo = lt.bencode(maker.generate())
    params = lt.load_torrent_buffer(metainfo)
    return Sample(
        folder,
        metainfo,
        params.info_hashes.v1.to_bytes(),
        TorrentV2Hash(params.info_hashes.v2.to_bytes()),
        params.ti.num_pieces(),
        piece_length,
    )


@asynccontextmanager
async def session(host: str = "127.0.0.1", **overrides: bool | int | str) -> AsyncIterator[TorrentSession]:
    """A session on ``host`` that is stopped at the end of the block."""
    it = TorrentSession(SessionOptions(listen=((host, 0),), overrides=overrides))
    async with trio.open_nursery() as nursery:
        await nursery.start(it.run)
        yield it
        nursery.cancel_scope.cancel()
