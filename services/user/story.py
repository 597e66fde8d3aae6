"""What the demo tells: acts with facts, and claims that hold or do not.

A claim that does not hold makes the whole demo fail (exit 30), so the report cannot say more than what happened. Text
is written as it happens, to a stream of the caller's; the story keeps everything for ``--json``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TextIO

from libreseed.errors import LocalFault

__all__ = ["Claim", "Story"]

_BOLD, _GREEN, _RED, _DIM, _PLAIN = "\033[1m", "\033[32m", "\033[31m", "\033[2m", "\033[0m"


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that the demo says is so, and whether it was seen to be."""

    act: str
    text: str
    holds: bool


@dataclass(slots=True)
class Story:
    """The acts of a run, told on ``stream`` (None tells nothing) in colour when that is a terminal."""

    stream: TextIO | None
    claims: list[Claim] = field(default_factory=list)
    facts: dict[str, dict[str, object]] = field(default_factory=dict)
    _act: str = ""

    def act(self, title: str) -> None:
        """Begin an act."""
        self._act = title
        self.facts[title] = {}
        self._say(f"\n{self._style(_BOLD)}{len(self.facts)}. {title}{self._style(_PLAIN)}")

    def fact(self, name: str, value: object, shown: str | None = None) -> None:
        """Keep a fact of this act and show it; ``shown`` is its form for people."""
        self.facts[self._act][name] = value
        self._say(f"     {name:<18}{value if shown is None else shown}")

    def aside(self, text: str) -> None:
        """A line of explanation."""
        self._say(f"   {self._style(_DIM)}{text}{self._style(_PLAIN)}")

    def claim(self, text: str, holds: bool) -> None:
        """State something and whether it was seen to be so."""
        self.claims.append(Claim(self._act, text, holds))
        colour, mark = (_GREEN, "ok") if holds else (_RED, "NOT SO")
        self._say(f"   {self._style(colour)}[{mark}]{self._style(_PLAIN)} {text}")

    @property
    def broken(self) -> list[Claim]:
        """The claims that do not hold."""
        return [claim for claim in self.claims if not claim.holds]

    def _style(self, code: str) -> str:
        return code if self.stream is not None and self.stream.isatty() else ""

    def _say(self, line: str) -> None:
        if self.stream is None:
            return
        try:
            print(line, file=self.stream, flush=True)
        except OSError as error:
            raise LocalFault("storage.output", f"telling the story: {error.strerror}") from error
