"""How soon which piece is wanted of a swarm: the chunk map first, by which all else is judged, then the .tgz, its front
before its back, so that hashing and unpacking have something to go on with; parity only when it is needed.

Priorities are libtorrent's: 0 for no, 1 to 7 for ever sooner. Front and back differ in steps, not piece by piece:
within a step the rarest piece comes first, and a swarm keeps its diversity.
"""

from __future__ import annotations

from libreseed.torrent.layout import TorrentLayout

__all__ = ["LAST", "MAP", "PARITY", "opening_wishes", "tgz_wish"]

MAP, PARITY, LAST = 7, 4, 1
_STEPS = (6, 5, 4, 3, 2, LAST)


def tgz_wish(layout: TorrentLayout, piece: int) -> int:
    """The priority of a piece of the .tgz."""
    data = layout.tgz.pieces
    return _STEPS[(piece - data.start) * len(_STEPS) // len(data)]


def opening_wishes(layout: TorrentLayout) -> list[int]:
    """The priority of every piece for somebody who has nothing."""
    wishes = [0] * layout.piece_count
    for piece in layout.chunks.pieces:
        wishes[piece] = MAP
    for piece in layout.tgz.pieces:
        wishes[piece] = tgz_wish(layout, piece)
    return wishes
