"""What a client remembers of a log between runs, and whether a new head fits it (DESIGN 1, G7 and G8).

:func:`receive_head` takes the memory and a verified head, and returns the memory to persist, or raises and changes
nothing. A larger head must be proven to extend the remembered one. A smaller one must be proven to be its beginning,
or be in the trail of heads seen before, or carry the witness quorum that the policy demands. Two heads that are
*proven* not to fit make a :class:`HeadConflict`: kept with the memory, it refuses every later head of that log. A proof
that merely fails proves nothing about the log (any mirror can send garbage): it refuses this head only.

Time only goes forward: a clock behind what the log has shown is refused, and so is a head from the future.
Specification: ``silexium.md``, 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import Blake3Digest
from libreseed.package.document import rejecting, require_count
from libreseed.silexium.instants import format_instant
from libreseed.silexium.log_proofs import prefix_root, verify_consistency
from libreseed.silexium.tree_head import NamedKey, SignedTreeHead, parse_tree_head

__all__ = [
    "ConsistencyProof",
    "HeadConflict",
    "LogMemory",
    "parse_conflict",
    "parse_consistency",
    "parse_memory",
    "receive_head",
    "require_clock",
]


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """The hashes that lead from a log of ``old`` entries to one of ``new``; nothing is verified yet.

    ``prefix`` is the same with its first node always there (``prefix_proof``), where whoever made it had the tiles:
    where ``old`` is a power of two, only that can show a fork. It is not part of the JSON object.
    """

    old: int
    new: int
    hashes: tuple[bytes, ...]
    prefix: tuple[bytes, ...] = ()

    def members(self) -> dict[str, wire.JsonValue]:
        """The proof as a JSON object."""
        hashes = [str(Blake3Digest(digest)) for digest in self.hashes]
        return {"old_size": self.old, "new_size": self.new, "hashes": hashes}


@dataclass(frozen=True, slots=True)
class HeadConflict:
    """Two heads signed by one log that cannot both be of one append-only log: proof of a fork, for anybody to check.

    Either they have one size and two roots, or ``nodes`` (a ``prefix_proof``) show that the larger one had another root
    at the smaller one's size. Construction verifies this, and raises :class:`Malformed` if nothing is proven.
    """

    first: SignedTreeHead
    second: SignedTreeHead
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        small, large = self.first, self.second
        if small.log != large.log or small.size > large.size:
            raise Malformed("encoding.range", "the heads of a conflict belong to one log, the smaller one first")
        if small.size == large.size:
            earlier_root = large.root.raw
        else:
            try:
                earlier_root = prefix_root(small.size, large.size, large.root.raw, self.nodes)
            except ProofRejected as error:
                raise Malformed("encoding.range", f"no fork is proven: {error.message}") from error
        if earlier_root == small.root.raw:
            raise Malformed("encoding.range", "no fork is proven: the heads fit")

    def members(self) -> dict[str, wire.JsonValue]:
        """The evidence as a JSON object: write it down and publish it."""
        return {
            "first": self.first.members(),
            "second": self.second.members(),
            "nodes": [str(Blake3Digest(node)) for node in self.nodes],
        }


@dataclass(frozen=True, slots=True)
class LogMemory:
    """What is known of one log: the largest ``head`` accepted, a ``trail`` of smaller ones, a ``conflict`` if proven.

    ``seen`` is the latest moment (Unix seconds) that this log's heads have shown; the local clock may not be before it.
    """

    head: SignedTreeHead
    trail: tuple[SignedTreeHead, ...] = ()
    conflict: HeadConflict | None = None

    @property
    def seen(self) -> int:
        """The latest time that an accepted head carries."""
        return max(sth.timestamp for sth in (self.head, *self.trail))

    def members(self) -> dict[str, wire.JsonValue]:
        """The memory as the JSON object that a store persists."""
        return {
            "head": self.head.members(),
            "trail": [sth.members() for sth in self.trail],
            "conflict": None if self.conflict is None else self.conflict.members(),
        }


def receive_head(
    memory: LogMemory | None,
    sth: SignedTreeHead,
    *,
    now: int,
    proof: ConsistencyProof | None = None,
    witnessed: bool = False,
) -> LogMemory:
    """The memory after accepting ``sth`` at ``now`` (Unix seconds); raises and leaves everything as it was otherwise.

    ``witnessed`` says that the head carries a witness quorum of at least one. Reasons: ``silexium.fork`` (with the
    :class:`HeadConflict` as evidence["conflict"], to be persisted by :func:`dataclasses.replace`),
    ``silexium.consistency``, ``.rollback``, ``.clock``, ``.future`` and ``.time-order``.
    """
    require_clock(memory, now)
    if sth.timestamp > now + limits.CLOCK_SKEW_SECONDS:
        evidence = {"head": format_instant(sth.timestamp), "now": format_instant(now)}
        raise ProofRejected("silexium.future", "the log's head is from the future", evidence=evidence)
    if memory is None:
        return LogMemory(sth)
    if memory.conflict is not None:
        raise _forked(memory.conflict)
    if sth.log != memory.head.log:
        raise AssertionError("a memory belongs to one log")
    for known in (memory.head, *memory.trail):
        if known.size == sth.size and known.root != sth.root:
            raise _forked(HeadConflict(known, sth))
        if known.size == sth.size:
            return _freshened(memory, sth)
    small, large = sorted((memory.head, sth), key=lambda head: head.size)
    if small.timestamp > large.timestamp:
        heads = {"small": small.members(), "large": large.members()}
        raise ProofRejected("silexium.time-order", "the larger head is older than the smaller one", evidence=heads)
    if not (sth is small and proof is None and witnessed):
        _require_fit(small, large, proof, shrinks=sth is small)
    trail = tuple(sorted((small, *memory.trail), key=lambda head: head.size, reverse=True))
    return replace(memory, head=large, trail=trail[: limits.LOG_TRAIL])


def require_clock(memory: LogMemory | None, now: int) -> None:
    """Demand that the local clock is not behind what the log has shown before; raises ``silexium.clock``."""
    if memory is not None and now + limits.CLOCK_SKEW_SECONDS < memory.seen:
        evidence = {"now": format_instant(now), "seen": format_instant(memory.seen)}
        message = f"the clock says {format_instant(now)}, but the log was already at {format_instant(memory.seen)}"
        raise ProofRejected("silexium.clock", message, evidence=evidence)


def parse_consistency(value: wire.JsonValue) -> ConsistencyProof:
    """Read a consistency proof object; raises ``silexium.consistency``."""
    with rejecting(ProofRejected, "silexium", "consistency"):
        members = wire.require_members(value, ("hashes", "new_size", "old_size"))
        old, new = (
            require_count(members[name], name, least=0, most=limits.LOG_ENTRIES) for name in ("old_size", "new_size")
        )
        return ConsistencyProof(old, new, parse_hashes(members["hashes"]))


def parse_conflict(value: wire.JsonValue, log: NamedKey) -> HeadConflict:
    """Check evidence of a fork of ``log``; raises ``silexium.memory`` unless it proves one."""
    with rejecting(ProofRejected, "silexium", "memory"):
        members = wire.require_members(value, ("first", "nodes", "second"))
        first, second = (parse_tree_head(members[name], log) for name in ("first", "second"))
        return HeadConflict(first, second, parse_hashes(members["nodes"]))


def parse_memory(data: bytes, log: NamedKey) -> LogMemory:
    """Read what a store persisted about ``log``; raises ``silexium.memory`` or the reasons of its heads."""
    with rejecting(ProofRejected, "silexium", "memory"):
        parsed = wire.parse(data, max_bytes=limits.LOG_MEMORY_BYTES)
        members = wire.require_members(parsed, ("conflict", "head", "trail"))
        trail = members["trail"]
        if type(trail) is not list or len(trail) > limits.LOG_TRAIL:
            raise Malformed("encoding.type", f"trail is not a list of at most {limits.LOG_TRAIL} heads")
    conflict = None if members["conflict"] is None else parse_conflict(members["conflict"], log)
    head = parse_tree_head(members["head"], log)
    return LogMemory(head, tuple(parse_tree_head(item, log) for item in trail), conflict)


def parse_hashes(value: wire.JsonValue) -> tuple[bytes, ...]:
    """Read a list of BLAKE3 hash texts, as proofs carry them; raises :class:`Malformed`."""
    if type(value) is not list or len(value) > limits.LOG_PROOF_HASHES:
        raise Malformed("encoding.type", f"not a list of at most {limits.LOG_PROOF_HASHES} hashes")
    return tuple(Blake3Digest.parse(item).raw for item in value)


def _freshened(memory: LogMemory, sth: SignedTreeHead) -> LogMemory:
    """The same tree signed again: keep the newer time."""
    if sth.size != memory.head.size or sth.timestamp <= memory.head.timestamp:
        return memory
    return replace(memory, head=sth)


def _require_fit(
    small: SignedTreeHead, large: SignedTreeHead, proof: ConsistencyProof | None, *, shrinks: bool
) -> None:
    """Demand that ``proof`` leads from ``small`` to ``large``; a proof that shows the opposite is a fork."""
    if small.size == 0:
        return  # every log begins with the empty one
    evidence = {"small": small.members(), "large": large.members()}
    if proof is None or (proof.old, proof.new) != (small.size, large.size):
        if shrinks:
            message = f"the log shows {small.size} entries after it has shown {large.size}, and no proof that it fits"
            raise ProofRejected("silexium.rollback", message, evidence=evidence)
        message = f"no proof shows that the log of {large.size} entries begins with that of {small.size}"
        raise ProofRejected("silexium.consistency", message, evidence=evidence)
    try:
        verify_consistency(small.size, large.size, small.root.raw, large.root.raw, proof.hashes)
    except ProofRejected as error:
        conflict = _proven_fork(small, large, proof.prefix or proof.hashes)
        if conflict is not None:
            raise _forked(conflict) from error
        error.evidence = {**error.evidence, **evidence}
        raise


def _proven_fork(small: SignedTreeHead, large: SignedTreeHead, nodes: Sequence[bytes]) -> HeadConflict | None:
    try:
        return HeadConflict(small, large, tuple(nodes))
    except Malformed:
        return None


def _forked(conflict: HeadConflict) -> ProofRejected:
    message = f"{conflict.first.head.origin} has signed two logs: heads of {conflict.first.size} and "
    message += f"{conflict.second.size} entries do not fit"
    return ProofRejected("silexium.fork", message, evidence={"conflict": conflict, **conflict.members()})
