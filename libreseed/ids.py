"""Value types of section 3.1: digests, keys, signatures, names, versions and release ids.

Each is validated in construction, so an invalid one cannot exist, and look-alike byte strings cannot be mixed up.
``parse`` takes the text form and accepts exactly one spelling of each value; it raises :class:`Malformed` and nothing
else. Nothing here does IO or cryptography.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import ClassVar, Self

from libreseed import limits
from libreseed.errors import Malformed

__all__ = [
    "Blake3Digest",
    "PackageName",
    "PublicKey",
    "ReleaseId",
    "Sha256Digest",
    "Signature",
    "TorrentV2Hash",
    "Version",
    "canonical_base64",
]

_HEX64 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
# semver.org's own expression for 2.0.0, with ASCII digits only.
_VERSION = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)


def canonical_base64(text: str, size: int) -> bytes:
    """Decode standard base64 with padding to exactly ``size`` bytes; raises ``ValueError`` on any other spelling.

    ``validate=True`` alone lets the spare bits of the last digit be set, so the result is encoded and compared.
    """
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError("not base64") from error
    if len(raw) != size or base64.b64encode(raw).decode() != text:
        raise ValueError("not canonical base64 of the right length")
    return raw


@dataclass(frozen=True, slots=True)
class _Digest:
    """32 bytes with a prefix in their text form."""

    raw: bytes
    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not isinstance(self.raw, bytes) or len(self.raw) != 32:
            raise Malformed("encoding.hash-text", f"a {type(self).__name__} is 32 bytes")

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read ``<prefix><64 lower-case hex digits>``; raises :class:`Malformed`."""
        if not isinstance(text, str) or not text.startswith(cls.prefix) or not _HEX64.fullmatch(text, len(cls.prefix)):
            raise Malformed("encoding.hash-text", f"expected {cls.prefix}<64 lower-case hex digits>, got {text!r:.100}")
        return cls(bytes.fromhex(text[len(cls.prefix) :]))

    @property
    def hex(self) -> str:
        """64 lower-case hex digits."""
        return self.raw.hex()

    def __str__(self) -> str:
        return self.prefix + self.raw.hex()


@dataclass(frozen=True, slots=True)
class Sha256Digest(_Digest):
    """A SHA-256 digest; text form ``sha256:<hex>``."""

    prefix: ClassVar[str] = "sha256:"


@dataclass(frozen=True, slots=True)
class Blake3Digest(_Digest):
    """A BLAKE3-256 digest; text form ``blake3:<hex>``."""

    prefix: ClassVar[str] = "blake3:"


@dataclass(frozen=True, slots=True)
class TorrentV2Hash(_Digest):
    """A BitTorrent v2 info-hash (SHA-256 of the info dictionary, BEP 52); text form ``btmh:1220<hex>`` (multihash)."""

    prefix: ClassVar[str] = "btmh:1220"

    @property
    def truncated(self) -> bytes:
        """The 20 bytes that trackers and the DHT use for it (BEP 52)."""
        return self.raw[:20]


@dataclass(frozen=True, slots=True)
class _Base64Text:
    raw: bytes
    size: ClassVar[int] = 0
    reason: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not isinstance(self.raw, bytes) or len(self.raw) != self.size:
            raise Malformed(self.reason, f"a {type(self).__name__} is {self.size} bytes")

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read ``ed25519:<base64 with padding>``; raises :class:`Malformed`."""
        if not isinstance(text, str) or not text.startswith("ed25519:"):
            raise Malformed(cls.reason, f"expected ed25519:<base64 of {cls.size} bytes>")
        try:
            return cls(canonical_base64(text[8:], cls.size))
        except ValueError as error:
            raise Malformed(cls.reason, f"{error}: {text!r:.120}") from error

    def __str__(self) -> str:
        return "ed25519:" + base64.b64encode(self.raw).decode()


@dataclass(frozen=True, slots=True)
class PublicKey(_Base64Text):
    """A raw Ed25519 public key, 32 bytes; text form ``ed25519:<base64>``. Says nothing about the point's validity."""

    size: ClassVar[int] = 32
    reason: ClassVar[str] = "encoding.key-text"


@dataclass(frozen=True, slots=True)
class Signature(_Base64Text):
    """An Ed25519 signature, 64 bytes; text form ``ed25519:<base64>``."""

    size: ClassVar[int] = 64
    reason: ClassVar[str] = "encoding.signature-text"


@dataclass(frozen=True, slots=True, order=True)
class PackageName:
    """A package name: ``[a-z0-9][a-z0-9._-]{0,63}``."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not _NAME.fullmatch(self.text):
            raise Malformed("encoding.name", f"not a package name ([a-z0-9][a-z0-9._-]{{0,63}}): {self.text!r:.100}")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Version:
    """A SemVer 2.0.0 version of at most 64 characters. Equality is of the text, build metadata included."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or len(self.text) > limits.VERSION_CHARS or not _VERSION.fullmatch(self.text):
            raise Malformed("encoding.version", f"not a SemVer 2.0.0 version of 1 to 64 characters: {self.text!r:.80}")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ReleaseId:
    """``name@version``: what a user types, what files and directories are named after."""

    name: PackageName
    version: Version

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read ``name@version``; raises :class:`Malformed`."""
        if not isinstance(text, str):
            raise Malformed("encoding.name", "a release id is a text")
        name, _, version = text.partition("@")
        return cls(PackageName(name), Version(version))

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"
