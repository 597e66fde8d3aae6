"""What a package lacks, given which parts verified: coherence, stripes to decode, parity to fetch (section 3.6).

A part counts as verified when its bytes match the signed chunk map *and* are on disk; :class:`Verified` keeps one byte
(0 or 1) per chunk, so that a stripe's count is one strided slice. Virtual rows count as verified. No thread safety: one
task owns a :class:`Verified`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from libreseed import limits
from libreseed.errors import ContentRejected
from libreseed.repair.grid import ChunkGrid

__all__ = ["Coherence", "RepairPlan", "Verified", "plan_repair", "wanted_parity"]


@dataclass(frozen=True, slots=True)
class Coherence:
    """``verified`` of ``parts`` parts; of a package that of its worst stripe."""

    verified: int
    parts: int

    @property
    def is_safe(self) -> bool:
        """At or above 0.954, where recovery is certain; compared in integers."""
        return limits.COHERENCE_DEN * self.verified >= limits.COHERENCE_NUM * self.parts

    def __str__(self) -> str:
        return f"{self.verified}/{self.parts}"


class Verified:
    """Which data and parity chunks of a package are verified: ``data[i]`` and ``parity[j]`` are 0 or 1."""

    __slots__ = ("data", "grid", "m", "parity")

    def __init__(self, grid: ChunkGrid, m: int, data: bytes | None = None, parity: bytes | None = None) -> None:
        self.grid = grid
        self.m = m
        self.data = bytearray(grid.n if data is None else data)
        self.parity = bytearray(grid.parity_chunks(m) if parity is None else parity)
        if len(self.data) != grid.n or len(self.parity) != grid.parity_chunks(m):
            raise ValueError("the flags are not of this grid")

    @property
    def complete(self) -> bool:
        """Whether every data chunk is verified; parity is not needed then."""
        return self.data.count(1) == len(self.data)

    def missing_data(self) -> list[int]:
        """The data chunks that are not verified, in order."""
        return _zeros(self.data)

    def missing_parity(self) -> list[int]:
        """The parity chunks that are not verified, in order."""
        return _zeros(self.parity)

    def rows_verified(self, stripe: int) -> int:
        """Verified data rows of ``stripe``, virtual ones included."""
        grid = self.grid
        return self.data[stripe :: grid.s].count(1) + grid.virtual_rows(stripe)

    def parity_verified(self, stripe: int) -> int:
        """Verified parity rows of ``stripe``."""
        return self.parity.count(1, stripe * self.m, (stripe + 1) * self.m)


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """The verdict over all stripes.

    ``decodable``: stripes that lack data rows and have at least ``k`` verified parts, so that they can be decoded now.
    ``short``: stripe -> how many more verified parts it needs (of any kind) before it can be decoded.
    """

    coherence: Coherence
    decodable: tuple[int, ...]
    short: Mapping[int, int] = field(default_factory=dict)

    def require_repairable(self) -> None:
        """Raise :class:`ContentRejected` (``repair.beyond``) naming the stripes, if any stripe is short."""
        if not self.short:
            return
        named = ", ".join(f"{stripe} (lacks {lacks})" for stripe, lacks in list(self.short.items())[:8])
        more = f" and {len(self.short) - 8} more" if len(self.short) > 8 else ""
        message = f"beyond repair: too few verified parts in stripe {named}{more}"
        details = [f"stripe {stripe} lacks {lacks}" for stripe, lacks in self.short.items()]
        raise ContentRejected("repair.beyond", message, evidence={"stripes": dict(self.short)}, details=details)


def plan_repair(verified: Verified, stripes: Iterable[int] | None = None) -> RepairPlan:
    """Judge ``stripes`` (default: all) by their verified parts."""
    grid, m = verified.grid, verified.m
    worst = grid.k + m
    decodable: list[int] = []
    short: dict[int, int] = {}
    for stripe in range(grid.s) if stripes is None else stripes:
        rows, parity = verified.rows_verified(stripe), verified.parity_verified(stripe)
        worst = min(worst, rows + parity)
        if rows == grid.k:
            continue
        if rows + parity >= grid.k:
            decodable.append(stripe)
        else:
            short[stripe] = grid.k - rows - parity
    return RepairPlan(Coherence(worst, grid.k + m), tuple(decodable), short)


def wanted_parity(verified: Verified, available: bytes | None = None) -> list[int]:
    """The fewest parity chunks to fetch so that every stripe that lacks data can be decoded.

    ``available[j]`` (0 or 1) says which can be had at all; default all. A stripe that cannot be completed asks for all
    that it can have, so that the caller sees progress and :func:`plan_repair` names what is lacking.
    """
    grid, m = verified.grid, verified.m
    wanted: list[int] = []
    for stripe in range(grid.s):
        need = grid.k - verified.rows_verified(stripe) - verified.parity_verified(stripe)
        if need > 0:
            free = [j for j in grid.parity_of(stripe, m) if not verified.parity[j] and (not available or available[j])]
            wanted += free[:need]
    return wanted


def _zeros(flags: bytearray) -> list[int]:
    found = []
    at = flags.find(0)
    while at >= 0:
        found.append(at)
        at = flags.find(0, at + 1)
    return found
