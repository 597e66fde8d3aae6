"""What a resolve found out, for a person and for ``--json``; and the clock that times its steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import Report, human_bytes
from libreseed.adapters.command.terminal import counted
from libreseed.package.minimal import MinimalManifest
from libreseed.resolve.proofs import NOT_CHECKED, check_rows
from libreseed.resolve.receipt import Receipt

if TYPE_CHECKING:
    from libreseed.adapters.silexium.proofs.proof_collector import Proven

__all__ = ["NOT_PROVEN", "Outcome", "Steps"]

NOT_PROVEN = (
    "Silexium was NOT checked (--no-silexium). Not proven: independent author, tests and server attestations, "
    "their time stamps, and inclusion in a public log. Proven: the publisher's key signed exactly these bytes."
)
_NAMES = {
    1: "request, policy, trust, floors",
    2: "record found",
    3: "minimal manifest",
    4: "chunk map",
    5: "chunks fetched and verified",
    6: "repair",
    7: "size and SHA-256 of the .tgz",
    8: "full manifest",
    9: "every file",
    10: "Silexium",
    11: "installed",
}


class Steps:
    """Seconds by step, each from the end of the one before, and the process's CPU seconds up to its end."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._seconds: dict[int, float] = {}
        self._cpu: dict[int, float] = {}

    def done(self, step: int) -> None:
        """Step ``step`` has just ended."""
        now = time.monotonic()
        self._seconds[step] = self._seconds.get(step, 0.0) + now - self._last
        self._cpu[step] = time.process_time()
        self._last = now

    def rows(self) -> list[dict[str, object]]:
        """One object per step taken."""
        return [
            {
                "step": step,
                "name": _NAMES[step],
                "seconds": round(seconds, 6),
                "cpu_since_start": round(self._cpu[step], 3),
            }
            for step, seconds in sorted(self._seconds.items())
        ]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An installed release. ``chunks``, ``sources`` and ``checks`` (one row per Silexium check) are empty when it was
    there already; ``proofs`` is what the receipt says was proven, ``warnings`` what a user should know."""

    minimal: MinimalManifest
    path: str
    trust: str
    silexium: str
    already: bool
    steps: Steps
    chunks: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, object] = field(default_factory=dict)
    proofs: Mapping[str, object] = field(default_factory=dict)
    checks: Sequence[Mapping[str, object]] = ()
    warnings: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        receipt: Receipt,
        steps: Steps,
        *,
        already: bool = False,
        chunks: Mapping[str, int] | None = None,
        sources: Mapping[str, object] | None = None,
    ) -> Outcome:
        """What ``receipt`` says, and how it came here."""
        minimal, path, trust, silexium = receipt.minimal, receipt.path, receipt.trust, receipt.silexium
        warnings = (NOT_PROVEN,) if silexium == NOT_CHECKED else ()
        found = cls(minimal, path, trust, silexium, already, steps, chunks or {}, sources or {}, receipt.proofs)
        return replace(found, warnings=warnings)

    def proven_by(self, proven: Proven) -> Outcome:
        """With every check of step 10, and who gave the proofs."""
        places = {"proofs": proven.source, "passed_over": list(proven.passed_over)}
        return replace(self, sources={**self.sources, **places}, checks=check_rows(proven.verification.checks))

    def downgraded_from(self, proven: Sequence[str]) -> Outcome:
        """With a warning where this release goes without the proofs that ``proven`` ones of its name came with."""
        if self.silexium != NOT_CHECKED or not proven:
            return self
        text = f"{proven[-1]} was installed with Silexium's proofs, and this release is not: ask its publisher why."
        return replace(self, warnings=(*self.warnings, text))

    def report(self) -> Report:
        """The path on stdout; everything with ``--json``."""
        minimal = self.minimal
        data = {
            "release": str(minimal.release),
            "path": self.path,
            "publisher": str(minimal.pubkey),
            "trust": self.trust,
            "infohash": str(minimal.infohash),
            "size": minimal.size,
            "already_installed": self.already,
            "chunks": {"downloaded": 0, "repaired": 0, "reused": 0, **self.chunks},
            "sources": dict(self.sources),
            "steps": self.steps.rows(),
            "silexium": self.silexium,
            "proofs": dict(self.proofs),
            "checks": list(self.checks),
            "warnings": list(self.warnings),
        }
        return Report(self.path, data)

    def summary(self) -> str:
        """One line for stderr."""
        minimal, chunks = self.minimal, self.chunks
        if self.already:
            proven = f"; it was proven by the log {self.proofs['log']}" if self.proofs else ""
            return f"{minimal.release} is installed already and every file still verifies{proven}"
        extra = "".join(f", {count} {what}" for what, count in chunks.items() if count and what != "downloaded")
        got = f"{counted(chunks.get('downloaded', 0), 'chunk')} downloaded{extra}"
        proven = f"; proven by the log {self.proofs['log']}" if self.proofs else ""
        return f"{minimal.release} by {minimal.pubkey}: {human_bytes(minimal.size)}, {got}{proven}"
