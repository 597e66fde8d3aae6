"""Faults of peers and of records found in the DHT."""

from __future__ import annotations

from libreseed.reasons.table import ENCODING_FAULTS, OTHER_RECORD, Exit, Reason, rows

__all__ = ["ROWS"]

ROWS: tuple[Reason, ...] = (
    *rows(
        Exit.NO_SOURCE,
        "Other peers and mirrors are used; add some with --peer or --mirror if none is left.",
        "source.peer-protocol",
        "source.peer-refused",
        "source.peer-silent",
    ),
    *rows(
        Exit.NO_SOURCE,
        "Others are used instead; tell the operator of that source, or name another one.",
        "source.damaged",
        "source.mirror-lacks",
        "source.mirror-lies",
        "source.mirror-slow",
        "source.mirror-stale",
        "source.unsteady",
    ),
    *rows(Exit.RECORD_REJECTED, OTHER_RECORD, *(f"dhtrecord.{fault}" for fault in ENCODING_FAULTS)),
    *rows(Exit.RECORD_REJECTED, OTHER_RECORD, *(f"dhtrecord.{f}" for f in ("key", "salt", "seq", "signature"))),
    *rows(Exit.RECORD_REJECTED, OTHER_RECORD, *(f"index.{fault}" for fault in ENCODING_FAULTS if fault != "name")),
    *rows(Exit.RECORD_REJECTED, OTHER_RECORD, "index.signature", "index.versions"),
    *rows(
        Exit.RECORD_REJECTED,
        "An index lists releases of one name by one key: give only such; one from elsewhere was ignored.",
        "index.key",
        "index.name",
    ),
    *rows(
        Exit.NO_SOURCE,
        "Check the network and the --bootstrap addresses (host:port): at least one running DHT node must answer.",
        "source.no-bootstrap",
    ),
)
