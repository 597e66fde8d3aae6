"""How long a resolve may take when nobody said: by the size that the publisher signed, so that it ends for certain.

A peer that drips a block now and then, or ever new ones that do, always have something on offer. No rate that an honest
slow line keeps can be told from theirs at once, but the whole has an end: ``limits.RESOLVE_SECONDS``, and the time for
the size at ``limits.RESOLVE_BYTES_PER_SECOND``. The workspace stays, so the next run goes on where this one ended.
"""

from __future__ import annotations

import math

from libreseed import limits

__all__ = ["allowed_seconds"]


def allowed_seconds(timeout: float, size: int | None) -> float:
    """Seconds for everything: ``timeout`` if one was given, else what a package of ``size`` bytes may take; infinity
    while the size is not known, when every step has a bound of its own."""
    if not math.isinf(timeout) or size is None:
        return timeout
    return limits.RESOLVE_SECONDS + size / limits.RESOLVE_BYTES_PER_SECOND
