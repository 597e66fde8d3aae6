"""Where proofs come from: a bundle file, a folder (an exported log, a stick), or a server or mirror over HTTP.

A source answers for static paths (``bundle/<name@version>``, ``tile/...``, ``checkpoint``) with bytes, or None when it
has no such thing. Nothing that it says is believed: whoever asks verifies. A folder and a file
need no network. Specification: ``resolver.md``, "Step 10".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import trio

from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.errors import NotFound, UsageFault
from libreseed.ids import ReleaseId

if TYPE_CHECKING:
    from libreseed.adapters.http.client import HttpClient

__all__ = ["BundleFile", "FolderSource", "HttpSource", "ProofSource", "bundle_places", "is_url"]


class ProofSource(Protocol):
    """One place to ask; ``name`` is how it is called in reports."""

    @property
    def name(self) -> str: ...  # noqa: D102

    async def get(self, path: str, most: int) -> bytes | None:
        """The bytes at ``path``, at most ``most``; None if it has none; raises :class:`TransportFault`."""
        ...


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One bundle on this machine, whatever release it is of; it has no tiles."""

    path: Path

    @property
    def name(self) -> str:
        """The file."""
        return str(self.path)

    async def get(self, path: str, most: int) -> bytes | None:
        """The file for any bundle; raises NotFound when there is none."""
        if not path.startswith("bundle/"):
            return None
        return await trio.to_thread.run_sync(read_bounded, self.path, most)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder with the static layout of a log, as ``libreseed-silexium log export`` or a mirror writes it."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    async def get(self, path: str, most: int) -> bytes | None:
        """The file below the folder; ``path`` is one that we made, never one that came from outside."""
        try:
            return await trio.to_thread.run_sync(read_bounded, self.folder / path, most)
        except NotFound:
            return None


@dataclass(frozen=True, slots=True)
class HttpSource:
    """A Silexium server, or a mirror of its static files, below ``url``."""

    client: HttpClient
    url: str

    @property
    def name(self) -> str:
        """The URL."""
        return self.url

    async def get(self, path: str, most: int) -> bytes | None:
        """The body of a 200; None for 404 and 410; raises :class:`TransportFault` for all else."""
        answer = await self.client.get(f"{self.url.rstrip('/')}/{quote(path, safe='/@.+-_~')}", most=most)
        if answer.status in (404, 410):
            return None
        return answer.require(200).body


def bundle_places(release: ReleaseId) -> tuple[str, ...]:
    """Where a source keeps the bundle of ``release``: as a Silexium server, or as a mirror of packages."""
    return f"bundle/{release}", f"packages/{release}/silexium.json"


def is_url(text: str) -> bool:
    """Whether a named source is a URL; raises ``usage`` for one of another scheme than HTTP."""
    scheme, mark, _ = text.partition("://")
    if mark and scheme.lower() not in ("http", "https"):
        raise UsageFault("usage", f"a source of proofs is an http(s) URL or a folder, not {text!r:.120}")
    return bool(mark)
