"""Guarantee G2 for a log, its mirrors and witnesses: ``key.on-log`` (exit 3).

How: :mod:`libreseed.adapters.command.key_guard`. Their own keys, which they need to sign heads or to speak TLS, and
their own authorities are no reason.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from libreseed.adapters.command.key_guard import refuse_readable_keys

__all__ = ["refuse_private_keys"]


def refuse_private_keys(
    own: Collection[Path | None], *, settings: Path | None = None, environ: Mapping[str, str] | None = None
) -> None:
    """Raise :class:`UsageFault` ``key.on-log`` that names the first key found; blocks while it looks."""
    refuse_readable_keys("key.on-log", os.environ if environ is None else environ, settings=settings, own=own)
