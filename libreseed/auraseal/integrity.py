"""Integrity attributes (section 3.9): which of two files may be used, by their SHA-512.

``auraseal-sha512-<base64>``, or two hashes with a dash between them: then the primary file must match the first, or the
recovery file the second; never the other way round. One token, no white space, canonical base64. Browsers ignore an
attribute with a prefix that they don't know, so here everything that is not exactly this is refused: it fails closed.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from libreseed.errors import ContentRejected
from libreseed.ids import canonical_base64

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Integrity", "Usable"]

_PREFIX = "auraseal-sha512-"
_DIGEST = 64
_HASH_CHARS = 88


@dataclass(frozen=True, slots=True)
class Usable:
    """The file that may be used: ``data``, and whether it is the recovery file."""

    data: bytes
    from_recovery: bool


@dataclass(frozen=True, slots=True)
class Integrity:
    """An attribute: SHA-512 (64 bytes) of the primary file, and of the recovery file if there is one."""

    primary: bytes
    recovery: bytes | None = None

    def __post_init__(self) -> None:
        if len(self.primary) != _DIGEST or (self.recovery is not None and len(self.recovery) != _DIGEST):
            raise ContentRejected("auraseal.integrity-attribute", "a SHA-512 digest has 64 bytes")

    @classmethod
    def of(cls, primary: Buffer, recovery: Buffer | None = None) -> Self:
        """The attribute for these files."""
        second = None if recovery is None else hashlib.sha512(recovery).digest()
        return cls(hashlib.sha512(primary).digest(), second)

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read an attribute; raises :class:`ContentRejected` (``auraseal.integrity-attribute``)."""
        longest = len(_PREFIX) + 2 * _HASH_CHARS + 1
        if not isinstance(text, str) or len(text) > longest or not text.startswith(_PREFIX):
            raise ContentRejected("auraseal.integrity-attribute", f"no integrity attribute: {text!r:.60}")
        hashes = text[len(_PREFIX) :].split("-")
        if len(hashes) > 2:
            raise ContentRejected("auraseal.integrity-attribute", f"{len(hashes)} hashes where one or two are allowed")
        try:
            return cls(*(canonical_base64(each, _DIGEST) for each in hashes))
        except ValueError as error:
            raise ContentRejected("auraseal.integrity-attribute", f"a hash is {error}") from error

    def __str__(self) -> str:
        hashes = [self.primary] if self.recovery is None else [self.primary, self.recovery]
        return _PREFIX + "-".join(base64.b64encode(each).decode() for each in hashes)

    def require_primary(self, digest: bytes) -> None:
        """Raise ``auraseal.integrity`` unless ``digest`` is the SHA-512 of the primary file."""
        if digest != self.primary:
            raise ContentRejected(
                "auraseal.integrity",
                "the file is not the one that the integrity attribute names",
                evidence={"expected": self.primary.hex(), "found": digest.hex()},
            )

    def choose(self, primary: bytes | None, recovery: bytes | None) -> Usable:
        """The file that may be used; ``None`` is one that could not be had. Raises ``auraseal.integrity``."""
        if primary is not None and hashlib.sha512(primary).digest() == self.primary:
            return Usable(primary, from_recovery=False)
        if recovery is not None and self.recovery is not None and hashlib.sha512(recovery).digest() == self.recovery:
            return Usable(recovery, from_recovery=True)
        found = {"primary": primary, "recovery": recovery}
        raise ContentRejected(
            "auraseal.integrity",
            "neither file is the one that the integrity attribute names",
            evidence={name: None if file is None else hashlib.sha512(file).hexdigest() for name, file in found.items()},
        )
