"""Which banned peers are taken back: a damaged copy is no lie, and its holder may have given many good pieces.

Counts, not time: a peer comes back as often as ``limits.READMISSIONS``, each time only after enough good pieces since
the last. It bans and takes back nobody itself. Specification: ``docs/specification/resolver.md``, "Fetch plan".
"""

from __future__ import annotations

from collections.abc import Iterable

from libreseed import limits
from libreseed.resolve.piece_map import PieceMap
from libreseed.resolve.swarm_view import Address

__all__ = ["Readmissions"]


class Readmissions:
    """Owned by the fetch plan, whose ``pieces`` it reads."""

    def __init__(self, pieces: PieceMap) -> None:
        self._pieces = pieces
        self._finished_at: dict[Address, list[int]] = {}  # finished pieces, each time the peer was taken back

    @property
    def any(self) -> bool:
        """Whether anybody was taken back."""
        return bool(self._finished_at)

    def note(self, addresses: Iterable[Address]) -> None:
        """These are taken back now."""
        for address in addresses:
            self._finished_at.setdefault(address, []).append(self._pieces.finished)

    def worthy(self, banned: Iterable[Address]) -> tuple[Address, ...]:
        """Those of ``banned`` that gave good pieces since they were last taken back."""
        return tuple(address for address in sorted(banned) if self._gives_good_pieces(address))

    def _gives_good_pieces(self, address: Address) -> bool:
        before = self._finished_at.get(address, [])
        if len(before) >= limits.READMISSIONS:
            return False
        # Without the chunk map nothing can be salvaged, so even a peer that gave nothing yet is asked for that again.
        if not self._pieces.chunk_map_done():
            return True
        gained = self._pieces.finished - (before[-1] if before else 0)
        # Who fails again soon is damaged all over: asking for single chunks is faster than the next way back in.
        return gained * self._pieces.layout.piece_bytes >= (limits.READMISSION_BYTES if before else 1)
