"""What ``inspect`` shows of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["View"]


@dataclass(frozen=True, slots=True)
class View:
    """What a file says, and which of it is not proven, with what the proof would need."""

    kind: str
    says: Mapping[str, object]
    unverified: Mapping[str, str] = field(default_factory=dict)
