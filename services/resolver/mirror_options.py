"""Which mirrors one run may use, and how: a value, apart from what does it, which takes an HTTP library to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["MirrorOptions"]


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """Base URLs; ``ca_file`` replaces the system's authorities; ``private_redirects`` lets redirects lead anywhere."""

    urls: tuple[str, ...] = ()
    ca_file: Path | None = None
    private_redirects: bool = False
