"""What the report says of sources: bytes from each, bytes in all, and each one that was of no use, by name and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libreseed.adapters.resolving.fetch import ContentFetch

if TYPE_CHECKING:
    from .mirrors import MirrorAccess

__all__ = ["sources_report"]


def sources_report(fetch: ContentFetch, swarm_bytes: int, mirrors: MirrorAccess | None) -> dict[str, object]:
    """``peers`` and ``mirrors``: bytes by name. ``received``: all bytes of content, whatever became of them."""
    peers = {_text(address): count for address, count in fetch.watch.contributors.items() if count}
    scores = fetch.plan.mix.board.mirrors if fetch.plan.mix is not None else []
    documents = sum(source.received for source in (mirrors, fetch.mirrors) if source is not None)
    by_mirror = sum(score.received for score in scores) + documents
    total = swarm_bytes + fetch.singles_received + by_mirror
    report: dict[str, object] = {
        "peers": peers,
        "received": {"swarm": swarm_bytes, "single": fetch.singles_received, "mirrors": by_mirror, "total": total},
        "faults": [*_faults_of_peers(fetch), *_faults_of_mirrors(fetch, mirrors)],
    }
    return report | ({"mirrors": {score.url: score.received for score in scores}} if scores else {})


def _faults_of_peers(fetch: ContentFetch) -> list[dict[str, str]]:
    message = "a piece of it did not have the signed hash"
    return [_row(_text(address), "source.damaged", message) for address in sorted(fetch.plan.swarm.ever_banned)]


def _faults_of_mirrors(fetch: ContentFetch, mirrors: MirrorAccess | None) -> list[dict[str, str]]:
    """One row for each mirror with a fault: why it was dropped, else what it did to documents, else to chunks."""
    rows: dict[str, dict[str, str]] = {}
    scores = fetch.plan.mix.board.mirrors if fetch.plan.mix is not None else []
    for score in scores:
        if score.reason:
            rows[score.url] = _row(score.url, score.reason, score.why)
    for source in (mirrors, fetch.mirrors):
        for base, fault in source.faults.items() if source is not None else ():
            rows.setdefault(base, _row(base, fault.reason, fault.message))
    for score in scores:
        if score.bad:
            message = f"{score.bad} of {score.bad + score.good} chunks were not as signed"
            rows.setdefault(
                score.url, _row(score.url, "source.damaged" if score.good else "source.mirror-lies", message)
            )
        elif score.last_fault:
            rows.setdefault(score.url, _row(score.url, "source.unsteady", score.last_fault))
    return list(rows.values())


def _row(source: str, reason: str, message: str) -> dict[str, str]:
    return {"source": source, "reason": reason, "message": message}


def _text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
