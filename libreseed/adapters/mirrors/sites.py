"""Where a mirror keeps what: the URLs of one release below a base URL (``docs/specification/mirror.md``, "Paths").

A live mirror and a static export have the same paths. Pure values; nothing is asked here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from libreseed import limits
from libreseed.adapters.http.weburl import parse_base
from libreseed.errors import UsageFault
from libreseed.ids import ReleaseId
from libreseed.resolve.journal import Kind

__all__ = ["Site", "read_sites"]


@dataclass(frozen=True, slots=True)
class Site:
    """One mirror, by its base URL without a slash at the end."""

    base: str

    def document(self, release: ReleaseId, name: str) -> str:
        """A small document: ``minimal.json``, ``torrent`` or ``chunks``."""
        return f"{self.base}/packages/{_text(release)}/{name}"

    def content(self, release: ReleaseId, kind: Kind) -> tuple[str, ...]:
        """Where ranges of the .tgz or the .parity are to be had; the next one if the mirror does not know one at all.

        The web seed gives whatever is good of a damaged copy; ``/packages/`` is where any other mirror has it.
        """
        text = _text(release)
        if kind is Kind.DATA:
            return f"{self.base}/seed/{text}/{text}.tgz", f"{self.base}/packages/{text}"
        return f"{self.base}/seed/{text}/{text}.parity", f"{self.base}/packages/{text}/parity"


def read_sites(urls: Iterable[str]) -> tuple[Site, ...]:
    """Mirrors as a user names them; raises :class:`UsageFault` (``http.url``, or ``usage`` for too many)."""
    sites = tuple(Site(base) for base in dict.fromkeys(parse_base(url) for url in urls))
    if len(sites) > limits.MIRRORS:
        raise UsageFault("usage", f"{len(sites)} mirrors; at most {limits.MIRRORS} can be used at once")
    return sites


def _text(release: ReleaseId) -> str:
    return quote(str(release), safe="@")
