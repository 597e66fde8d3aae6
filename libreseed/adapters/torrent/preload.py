"""Loads libtorrent ahead of its first use, for callers that can do so in a thread while they wait."""

from __future__ import annotations

__all__ = ["load_libtorrent"]


def load_libtorrent() -> None:
    """Import the library and this package's session; blocks for some ten milliseconds the first time."""
    import libtorrent  # noqa: F401

    import libreseed.adapters.torrent.session  # noqa: F401
