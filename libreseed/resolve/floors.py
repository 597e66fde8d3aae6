"""Floors (G7): what this resolver has accepted before, below which it never goes again.

One floor per publisher and release holds the newest accepted timestamp and the digest of the exact record. A record
that is older is a rollback; one with the same timestamp and other bytes is an equivocation by the publisher's key.
Both exit 22. A floor only rises. Where it is kept is the store's matter; it is written in step 11.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from libreseed import limits, wire
from libreseed.errors import LocalFault, Malformed, RecordRejected
from libreseed.ids import PublicKey, ReleaseId, Sha256Digest

__all__ = ["Floor", "check_floor", "parse_floor", "raise_floor", "require_rise"]

_MEMBERS = ("protocol", "release", "publisher", "timestamp", "record")
_PROTOCOL = "libreseed-floor-v1"
_MAX_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Floor:
    """The newest accepted record of one release by one publisher. ``timestamp`` is in milliseconds since 1970."""

    release: ReleaseId
    publisher: PublicKey
    timestamp: int
    record: Sha256Digest  # of the minimal manifest's exact bytes

    def __post_init__(self) -> None:
        if type(self.timestamp) is not int or not 0 <= self.timestamp <= limits.JSON_INTEGER:
            raise Malformed("encoding.range", "a floor's timestamp is a whole number of milliseconds")

    @property
    def data(self) -> bytes:
        """The bytes kept in the store (canonical JSON, nobody signs them)."""
        fields = {"protocol": _PROTOCOL, "release": str(self.release), "publisher": str(self.publisher)}
        return wire.canonical(fields | {"timestamp": self.timestamp, "record": str(self.record)})


def parse_floor(data: bytes, release: ReleaseId, publisher: PublicKey) -> Floor:
    """Read a kept floor. A damaged one is a fault of this machine, never "no floor": that would lift the protection."""
    try:
        fields = wire.require_members(wire.parse(data, max_bytes=_MAX_BYTES), _MEMBERS)
        if fields["protocol"] != _PROTOCOL:
            raise Malformed("encoding.range", "not a floor of this version")
        floor = Floor(
            ReleaseId.parse(fields["release"]),
            PublicKey.parse(fields["publisher"]),
            fields["timestamp"],
            Sha256Digest.parse(fields["record"]),
        )
    except Malformed as error:
        raise LocalFault("storage.state", f"the floor kept for {release} is damaged: {error}") from error
    if (floor.release, floor.publisher) != (release, publisher):
        raise LocalFault("storage.state", f"the floor kept for {release} belongs to {floor.release}")
    return floor


def check_floor(floor: Floor | None, timestamp: int, record: bytes) -> None:
    """Refuse a record below ``floor``, or beside it with other bytes; raises :class:`RecordRejected` (exit 22)."""
    if floor is None:
        return
    evidence = {"floor": floor.timestamp, "timestamp": timestamp, "record": record.decode("utf-8", "replace")}
    if timestamp < floor.timestamp:
        message = f"the record is of {timestamp}, but {floor.timestamp} was accepted before: a rollback"
        raise RecordRejected("floor.rollback", message, evidence=evidence)
    if timestamp == floor.timestamp and hashlib.sha256(record).digest() != floor.record.raw:
        message = f"the publisher signed two different records for {floor.release} at {timestamp}"
        raise RecordRejected("floor.conflict", message, evidence=evidence)


def require_rise(kept: Floor | None, floor: Floor) -> None:
    """Refuse to put ``floor`` in the place of a higher one that was kept meanwhile; raises as :func:`check_floor`."""
    if kept is None or kept == floor or kept.timestamp < floor.timestamp:
        return
    evidence = {"floor": kept.timestamp, "timestamp": floor.timestamp}
    if kept.timestamp == floor.timestamp:
        message = f"the publisher signed two different records for {floor.release} at {floor.timestamp}"
        raise RecordRejected("floor.conflict", message, evidence=evidence)
    message = f"the record is of {floor.timestamp}, but {kept.timestamp} was accepted meanwhile: a rollback"
    raise RecordRejected("floor.rollback", message, evidence=evidence)


def raise_floor(floor: Floor | None, release: ReleaseId, publisher: PublicKey, timestamp: int, record: bytes) -> Floor:
    """The floor after ``record`` was installed; it never falls."""
    check_floor(floor, timestamp, record)
    return Floor(release, publisher, timestamp, Sha256Digest(hashlib.sha256(record).digest()))
