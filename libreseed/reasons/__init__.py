"""The table of reason codes: what every deliberate failure is called, its exit code and its remedy.

Codes are ``area.fault`` and never change their meaning; scripts match on them. Add a row to the module of its area
before raising a new one.
"""

from __future__ import annotations

from itertools import chain

from libreseed.reasons import (
    auraseal,
    common,
    content,
    http,
    mirror,
    network,
    resolver,
    seeder,
    silexium,
    silexium_api,
    silexium_log,
    user,
)
from libreseed.reasons.table import Exit, Reason

__all__ = ["REASONS", "Exit", "Reason"]

_TABLE = tuple(
    chain.from_iterable(
        area.ROWS
        for area in (
            common,
            content,
            network,
            http,
            mirror,
            seeder,
            resolver,
            user,
            silexium,
            silexium_log,
            auraseal,
            silexium_api,
        )
    )
)

REASONS: dict[str, Reason] = {reason.code: reason for reason in _TABLE}
if len(REASONS) != len(_TABLE):
    raise AssertionError("a reason code is declared twice")
