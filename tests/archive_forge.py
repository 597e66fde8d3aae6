"""Releases made by hand, field by field, so that exactly one thing can be wrong with them.

``Forge`` signs what it is given with a test key and writes tar and gzip itself: nothing here uses the code under test,
except to sign. What is wrong in which case: :mod:`tests.hostile_archives`.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from libreseed.ids import Blake3Digest, PackageName, Sha256Digest, TorrentV2Hash, Version
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.manifest import FullManifest
from libreseed.package.minimal import MinimalManifest

KEY = PrivateKey(hashlib.sha256(b"hostile archives").digest())
END = bytes(1024)
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")


def header(
    name: bytes,
    size: int = 0,
    *,
    mode: int = 0o644,
    typeflag: bytes = b"0",
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    size_field: bytes | None = None,
    uid_field: bytes = b"0000000\0",
    mtime_field: bytes = b"00000000000\0",
    owner: bytes = b"",
    device: bytes = b"",
    tail: bytes = b"",
    checksum_off: int = 0,
) -> bytes:
    """A tar header in the form of a package, with any field replaced; its checksum is right unless ``checksum_off``."""
    block = _HEADER.pack(
        name,
        b"%07o\0" % mode,
        uid_field,
        b"0000000\0",
        b"%011o\0" % size if size_field is None else size_field,
        mtime_field,
        b" " * 8,
        typeflag,
        link,
        magic,
        owner,
        b"",
        device,
        b"",
        prefix,
    )
    block = block[:500] + tail.ljust(12, b"\0")
    return block[:148] + b"%06o\0 " % (sum(block) + checksum_off) + block[156:]


def padded(data: bytes, fill: bytes = b"\0") -> bytes:
    return data + fill * (-len(data) % 512)


def entry(path: str, data: bytes, **fields: Any) -> bytes:
    """A whole entry; a path that the name field cannot hold gets a pax record."""
    if path.isascii() and len(path) <= 100:
        return header(path.encode(), len(data), **fields) + padded(data)
    return pax({"path": path}) + header(b"long", len(data), **fields) + padded(data)


def record(keyword: str | bytes, value: str | bytes) -> bytes:
    keyword, value = (text.encode() if isinstance(text, str) else text for text in (keyword, value))
    body = b" " + keyword + b"=" + value + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


def pax(records: dict[str, str] | bytes, typeflag: bytes = b"x") -> bytes:
    body = records if isinstance(records, bytes) else b"".join(record(*item) for item in records.items())
    return header(b"././@PaxHeader", len(body), typeflag=typeflag) + padded(body)


GZIP_HEADER = bytes.fromhex("1f8b08000000000000ff")


def gz(tar: bytes, *, head: bytes = GZIP_HEADER, crc_off: int = 0, length_off: int = 0, level: int = 6) -> bytes:
    """One gzip member in the form of a package."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15)
    body = deflater.compress(tar) + deflater.flush()
    return head + body + struct.pack("<II", zlib.crc32(tar) ^ crc_off, (len(tar) + length_off) & 0xFFFFFFFF)


@dataclass
class Forge:
    """A release in the making. ``files`` is what gets signed, ``tar`` what its archive holds."""

    files: dict[str, bytes] = field(
        default_factory=lambda: {"a": b"first", "bin/run": b"#!/bin/sh\n", "d/e": b"x" * 700, "z": b"last"}
    )
    executables: tuple[str, ...] = ("bin/run",)
    src: bytes | None = None  # None: the right one
    name: str = "pkg"
    version: str = "1.0.0"
    timestamp: int = 1000
    key: PrivateKey = KEY

    def __post_init__(self) -> None:
        if self.src is None:
            lines = sorted((path.encode(), data) for path, data in self.files.items())
            self.src = b"".join(b"%s\t%d\t%s\n" % (p, len(d), blake3(d).hexdigest().encode()) for p, d in lines)
        self.contents = {**self.files, "SRC": self.src}

    @property
    def manifest(self) -> FullManifest:
        return FullManifest.build(
            name=PackageName(self.name),
            version=Version(self.version),
            files={path: Sha256Digest(hashlib.sha256(data).digest()) for path, data in self.contents.items()},
            sizes={path: len(data) for path, data in self.contents.items()},
            executables=self.executables,
            timestamp=self.timestamp,
            key=self.key,
        )

    def entries(self) -> dict[str, bytes]:
        """Raw entries in the archive's order; change, drop or add some, then join them."""
        raw = {"manifest.json": entry("manifest.json", self.manifest.data)}
        for path in sorted(self.contents, key=str.encode):
            raw[path] = entry(path, self.contents[path], mode=0o755 if path in self.executables else 0o644)
        return raw

    def with_entry(self, path: str, raw: bytes) -> bytes:
        """The tar stream in which the entry of ``path`` is ``raw``."""
        return b"".join({**self.entries(), path: raw}.values()) + END

    def before(self, path: str, raw: bytes) -> bytes:
        """The tar stream with ``raw`` in front of the entry of ``path``."""
        return self.with_entry(path, raw + self.entries()[path])

    def after(self, path: str, raw: bytes) -> bytes:
        """The tar stream with ``raw`` behind the entry of ``path``."""
        return self.with_entry(path, self.entries()[path] + raw)

    @property
    def tar(self) -> bytes:
        return b"".join(self.entries().values()) + END

    def minimal(self, tgz: bytes, **changed: Any) -> MinimalManifest:
        """A minimal manifest for ``tgz``; its own signatures hold whatever is ``changed``."""
        members: dict[str, Any] = {
            "name": PackageName(self.name),
            "version": Version(self.version),
            "infohash": Sha256Digest(hashlib.sha256(tgz).digest()),
            "size": len(tgz),
            "chunks": Blake3Digest(bytes(32)),
            "torrent": TorrentV2Hash(bytes(32)),
            "timestamp": self.timestamp,
            "key": self.key,
        }
        return MinimalManifest.build(**{**members, **changed})
