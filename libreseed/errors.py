"""Every error that LibreSeed raises on purpose: a fault class, a stable reason code, an exit code and a remedy.

Classes say *whose* fault it is (caller, publisher or peer, transport, local system), reasons say *which* check failed.
``REASONS`` (in :mod:`libreseed.reasons`) is the only place where reasons are declared; the table in
``docs/specification/errors.md`` is generated from it. Raising an undeclared reason is a bug and fails at once.

This module does not print, log or exit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from libreseed.reasons import REASONS, Reason

__all__ = [
    "ContentRejected",
    "LibreSeedError",
    "LocalFault",
    "Malformed",
    "NotFound",
    "ProofRejected",
    "RecordRejected",
    "TransportFault",
    "UsageFault",
]


class LibreSeedError(Exception):
    """Base of the tree. ``reason`` is stable for scripts; ``message`` is one line for a person.

    ``step`` is the resolver's step number (1..11) where one applies. ``evidence`` keeps what a later reader needs to
    judge the verdict (raw bytes, key ids, expected and actual digests); its values must not be secrets. ``details`` are
    further lines for a person (a choice of commands); scripts find them in the JSON object.
    """

    fault: ClassVar[str] = "bug"

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        step: int | None = None,
        evidence: Mapping[str, object] | None = None,
        details: Sequence[str] = (),
    ) -> None:
        if reason not in REASONS:
            raise AssertionError(f"undeclared reason code {reason!r}")
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.step = step
        self.evidence: Mapping[str, object] = dict(evidence or {})
        self.details = tuple(details)

    @property
    def declared(self) -> Reason:
        """The declaration of this error's reason: exit code, title and remedy."""
        return REASONS[self.reason]

    @property
    def exit_code(self) -> int:
        """The process exit code that this error leads to (``docs/specification/errors.md``)."""
        return self.declared.exit_code

    @property
    def remedy(self) -> str:
        """One sentence that says what the user can do."""
        return self.declared.remedy

    def at_step(self, step: int) -> LibreSeedError:
        """Note the resolver's step, unless an inner layer has done so already; returns the error itself."""
        if self.step is None:
            self.step = step
        return self

    def as_json(self) -> dict[str, object]:
        """The object that every command prints with ``--json`` when it fails."""
        return {
            "ok": False,
            "reason": self.reason,
            "exit": self.exit_code,
            "step": self.step,
            **{name: self.evidence[name] for name in ("check", "checks") if name in self.evidence},
            "message": self.message,
            "remedy": self.remedy,
            **({"details": list(self.details)} if self.details else {}),
        }


class UsageFault(LibreSeedError):
    """The caller asked for something impossible: bad arguments, bad configuration, a missing input file."""

    fault = "caller"


class NotFound(LibreSeedError):
    """Nothing by that name: no input file, no record, no publisher."""

    fault = "caller"


class Malformed(LibreSeedError):
    """Bytes or text that do not have the form that section 3.1 of the specification demands."""

    fault = "publisher or peer"


class RecordRejected(LibreSeedError):
    """A minimal manifest, a DHT record or an index that does not hold."""

    fault = "publisher or peer"


class ContentRejected(LibreSeedError):
    """An archive, a tree, a full manifest, a chunk map, parity or a torrent that does not hold."""

    fault = "publisher or peer"


class ProofRejected(LibreSeedError):
    """An attestation, a time stamp, a log proof or a head that does not hold, or that the policy does not accept."""

    fault = "publisher or peer"


class TransportFault(LibreSeedError):
    """The network could not provide what is needed: no source, too slow, cut off."""

    fault = "transport"


class LocalFault(LibreSeedError):
    """This machine cannot do it: storage, permissions, an occupied port, a lock held by another process."""

    fault = "local system"
