"""Quorums: k of n witnesses, in groups, counted by distinct keys (DESIGN 3.10).

A member of a quorum is a witness or another quorum, so that "two of three operators, each with one of its two machines"
can be said. A key counts once however often it signs or is listed: a policy that lists it twice is refused.
Specification: ``silexium.md``, 6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from libreseed import limits
from libreseed.errors import ProofRejected, UsageFault
from libreseed.ids import PublicKey
from libreseed.silexium.tree_head import NamedKey

__all__ = ["NO_QUORUM", "Quorum"]


@dataclass(frozen=True, slots=True)
class Quorum:
    """``threshold`` of ``members`` must have signed; a threshold of 0 is met by nobody at all."""

    threshold: int
    members: tuple[NamedKey | Quorum, ...] = ()

    def __post_init__(self) -> None:
        keys = [witness.key for witness in self.witnesses()]
        if not 0 <= self.threshold <= len(self.members):
            raise UsageFault("config.policy", f"policy: {self.threshold} of {len(self.members)} witnesses")
        if any(isinstance(member, Quorum) and member.threshold < 1 for member in self.members):
            raise UsageFault("config.policy", "policy: a group of witnesses demands nobody")
        if len(set(keys)) != len(keys):
            raise UsageFault("config.policy", "policy: a witness key is listed twice")
        if len(keys) > limits.WITNESSES:
            raise UsageFault("config.policy", f"policy: more than {limits.WITNESSES} witnesses")

    def witnesses(self) -> Iterator[NamedKey]:
        """Every witness of this quorum and of those inside it."""
        for member in self.members:
            if isinstance(member, Quorum):
                yield from member.witnesses()
            else:
                yield member

    def count(self, signers: Collection[PublicKey]) -> int:
        """How many members have signed."""
        return sum(
            member.count(signers) >= member.threshold if isinstance(member, Quorum) else member.key in signers
            for member in self.members
        )

    def require(self, signers: Collection[PublicKey]) -> None:
        """Demand the quorum; raises ``silexium.witness-quorum``."""
        count = self.count(signers)
        if count < self.threshold:
            evidence = {"needed": self.threshold, "present": count, "signers": sorted(map(str, signers))}
            message = f"{count} of the {self.threshold} witnesses that the policy demands have cosigned the head"
            raise ProofRejected("silexium.witness-quorum", message, evidence=evidence)


NO_QUORUM = Quorum(0)
