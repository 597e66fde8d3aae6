"""Which pieces of a damaged copy may be offered to the swarm (section 3.7): those without a bad chunk in them.

Chunks (5120 bytes) and pieces (powers of two) do not align, so a bad chunk can spoil two pieces or more. Nothing here
reads a file; what is bad is the caller's finding.
"""

from __future__ import annotations

from collections.abc import Iterable

from libreseed import limits
from libreseed.torrent.bitfield import pack_bitfield
from libreseed.torrent.layout import TorrentLayout

__all__ = ["offered_pieces"]


def offered_pieces(
    layout: TorrentLayout,
    *,
    bad_data: Iterable[range] = (),
    bad_parity: Iterable[range] = (),
    bad_map: bool = False,
) -> bytes:
    """The BEP 3 bitfield of the pieces that are good, given runs of bad data and parity chunks.

    ``bad_map``: the ``.chunks`` file is not the signed one, so none of its pieces is offered.
    """
    flags = [True] * layout.piece_count
    if bad_map:
        _clear(flags, layout.chunks.pieces)
    for run in bad_data:
        _clear(flags, layout.tgz_pieces(*layout.grid.span(run)))
    for run in bad_parity:
        offset, length = run.start * limits.CHUNK_BYTES, len(run) * limits.CHUNK_BYTES
        _clear(flags, layout.parity_pieces(offset, length))
    return pack_bitfield(flags)


def _clear(flags: list[bool], pieces: range) -> None:
    flags[pieces.start : pieces.stop] = [False] * len(pieces)
