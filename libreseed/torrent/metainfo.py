"""The hybrid .torrent of a release (section 3.7): canonical bytes from hashes, and a strict reader.

The info dictionary has exactly the members ``file tree, files, meta version, name, piece length, pieces``, the torrent
exactly ``info`` and ``piece layers``; there is no date, creator, tracker or ``private``. Hence the same release gives
the same bytes and info-hashes on every machine, and reading is: take the hashes out, build it anew, compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from libreseed import bencode, limits
from libreseed.errors import ContentRejected, Malformed
from libreseed.ids import ReleaseId, TorrentV2Hash
from libreseed.repair.grid import ChunkGrid
from libreseed.torrent.layout import LayoutFile, TorrentLayout, piece_length
from libreseed.torrent.piecehash import FilePieces, root_of_layer

__all__ = ["Metainfo", "SignedTorrent", "TorrentInfo", "build_metainfo", "parse_metainfo", "read_info"]

_INFO_MEMBERS = {b"file tree", b"files", b"meta version", b"name", b"piece length", b"pieces"}


class SignedTorrent(Protocol):
    """What a minimal manifest says about the torrent: the .tgz's size in bytes and the v2 info-hash."""

    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def torrent(self) -> TorrentV2Hash: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Metainfo:
    """A release's torrent: the ``.torrent`` file's bytes, its layout and both info-hashes (``v1`` has 20 bytes)."""

    data: bytes = field(repr=False)
    info: bytes = field(repr=False)
    layout: TorrentLayout
    v1: bytes
    v2: TorrentV2Hash


@dataclass(frozen=True, slots=True)
class TorrentInfo:
    """The signed info dictionary alone, as peers send it (BEP 9); ``v1_pieces`` are 20 bytes for each piece."""

    info: bytes = field(repr=False)
    layout: TorrentLayout
    v1_pieces: bytes = field(repr=False)


def build_metainfo(layout: TorrentLayout, chunks: FilePieces, parity: FilePieces, tgz: FilePieces) -> Metainfo:
    """The torrent of a release from the hashes of its three files; raises ``ValueError`` if they are of other sizes."""
    hashes = (chunks, parity, tgz)
    if any(pieces.size != file.size for file, pieces in zip(layout.files, hashes, strict=True)):
        raise ValueError("the hashes are not of files of this layout")
    roots = [pieces.root for pieces in hashes]
    info = bencode.encode(_info(layout, roots, b"".join(pieces.v1 for pieces in hashes)))
    layers = {pieces.root: pieces.layer for pieces in hashes if pieces.layer}
    return _metainfo(layout, info, layers)


def parse_metainfo(data: bytes, release: ReleaseId, minimal: SignedTorrent) -> Metainfo:
    """Read a ``.torrent``; raises :class:`ContentRejected` (``torrent.*``) unless it is the signed one, canonical."""
    torrent = _decode(data, release, minimal.size)
    if not isinstance(torrent, dict) or set(torrent) != {b"info", b"piece layers"}:
        raise ContentRejected("torrent.members", "a torrent of a release has info and piece layers, nothing else")
    info = bencode.encode(torrent[b"info"])
    if hashlib.sha256(info).digest() != minimal.torrent.raw:
        raise ContentRejected("torrent.info-hash", "the torrent is not the one that the manifest names")
    layout, roots = _check_info(torrent[b"info"], release, minimal.size)
    layers = _check_layers(torrent[b"piece layers"], layout, roots)
    metainfo = _metainfo(layout, info, layers)
    if metainfo.data != data:
        raise ContentRejected("torrent.bencode", "the torrent's bytes are not in canonical form")
    return metainfo


def read_info(info: bytes, release: ReleaseId, minimal: SignedTorrent) -> TorrentInfo:
    """Read an info dictionary; raises :class:`ContentRejected` (``torrent.*``) unless it is the signed one."""
    if hashlib.sha256(info).digest() != minimal.torrent.raw:
        raise ContentRejected("torrent.info-hash", "the torrent is not the one that the manifest names")
    members = _decode(info, release, minimal.size)
    layout, _ = _check_info(members, release, minimal.size)
    return TorrentInfo(info, layout, members[b"pieces"])


def _decode(data: bytes, release: ReleaseId, size: int) -> Any:
    """Decode a torrent, or its info dictionary, no larger than the largest that a .tgz of ``size`` bytes can have."""
    grid = ChunkGrid(size)
    bound = TorrentLayout(release, size, limits.STRIPE_ROWS - grid.k).most_metainfo_bytes
    bound = min(bound, limits.METAINFO_BYTES)
    if len(data) > bound:
        raise ContentRejected("torrent.too-large", f"{len(data)} bytes of torrent where at most {bound} are possible")
    try:
        return bencode.decode(data, max_bytes=bound)
    except Malformed as error:
        raise ContentRejected("torrent.bencode", f"not a torrent: {error.message}") from error


def _metainfo(layout: TorrentLayout, info: bytes, layers: Mapping[bytes, bytes]) -> Metainfo:
    # Members in canonical order; info is spliced in as it was hashed.
    data = b"d4:info" + info + b"12:piece layers" + bencode.encode(dict(layers)) + b"e"
    v1 = hashlib.sha1(info, usedforsecurity=False).digest()
    return Metainfo(data, info, layout, v1, TorrentV2Hash(hashlib.sha256(info).digest()))


def _info(layout: TorrentLayout, roots: list[bytes], pieces: bytes) -> dict[bytes, Any]:
    tree: dict[bytes, Any] = {}
    files: list[dict[bytes, Any]] = []
    for file, root in zip(layout.files, roots, strict=True):
        name = file.name.encode("ascii")
        tree[name] = {b"": {b"length": file.size, b"pieces root": root}}
        files.append({b"length": file.size, b"path": [name]})
        if file.pad:
            pad = {b"attr": b"p", b"length": file.pad, b"path": [b".pad", b"%d" % file.pad]}
            files.append(pad)
    return {
        b"file tree": tree,
        b"files": files,
        b"meta version": 2,
        b"name": str(layout.release).encode("ascii"),
        b"piece length": layout.piece_bytes,
        b"pieces": pieces,
    }


def _check_info(info: Any, release: ReleaseId, size: int) -> tuple[TorrentLayout, list[bytes]]:
    if not isinstance(info, dict) or set(info) != _INFO_MEMBERS or info[b"meta version"] != 2:
        raise ContentRejected("torrent.members", "the info dictionary has other members than a release's")
    if info[b"name"] != str(release).encode("ascii"):
        raise ContentRejected("torrent.name", f"the torrent's name is not {release}")
    if info[b"piece length"] != piece_length(size):
        raise ContentRejected("torrent.piece-length", f"the piece length does not follow from {size} bytes")
    layout = TorrentLayout(release, size, _parity_rows(info[b"file tree"], release, size))
    roots = [_root_in(info[b"file tree"], file) for file in layout.files]
    if not isinstance(info[b"pieces"], bytes) or len(info[b"pieces"]) != 20 * layout.piece_count:
        raise ContentRejected("torrent.pieces", f"there are not {layout.piece_count} piece hashes")
    if info != _info(layout, roots, info[b"pieces"]):
        raise ContentRejected("torrent.files", "the files are not exactly those of a release")
    return layout, roots


def _entry(tree: Any, name: str) -> dict[bytes, Any]:
    """The properties of a file in BEP 52's file tree."""
    try:
        entry = tree[name.encode("ascii")][b""]
    except (KeyError, TypeError) as error:
        raise ContentRejected("torrent.files", f"the file tree lacks {name}") from error
    if not isinstance(entry, dict):
        raise ContentRejected("torrent.files", f"{name} is not a file")
    return entry


def _parity_rows(tree: Any, release: ReleaseId, size: int) -> int:
    """m, which is free within bounds, from the length of the chunk map (section 3.6)."""
    grid = ChunkGrid(size)
    length = _entry(tree, f"{release}.chunks").get(b"length")
    for m in range(grid.least_m, limits.STRIPE_ROWS - grid.k + 1):
        if length == grid.map_bytes(m):
            return m
    raise ContentRejected("torrent.files", f"no chunk map for {size} bytes is as long as the torrent says")


def _root_in(tree: Any, file: LayoutFile) -> bytes:
    root = _entry(tree, file.name).get(b"pieces root")
    if not isinstance(root, bytes) or len(root) != 32:
        raise ContentRejected("torrent.files", f"{file.name} has no root hash")
    return root


def _check_layers(layers: Any, layout: TorrentLayout, roots: list[bytes]) -> dict[bytes, bytes]:
    """The piece layers must be exactly those of the files larger than a piece, and hash to the signed roots."""
    large = {root: file for file, root in zip(layout.files, roots, strict=True) if len(file.pieces) > 1}
    if not isinstance(layers, dict) or set(layers) != set(large):
        raise ContentRejected("torrent.layers", "the piece layers are not those of the files larger than a piece")
    for root, file in large.items():
        layer = layers[root]
        if not isinstance(layer, bytes) or len(layer) != 32 * len(file.pieces):
            raise ContentRejected("torrent.layers", f"the piece layer of {file.name} has the wrong length")
        if root_of_layer(layer, layout.piece_bytes) != root:
            raise ContentRejected("torrent.layers", f"the piece layer of {file.name} does not give its root hash")
    return layers
