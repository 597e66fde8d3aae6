"""When a witness cosigns a log's head (C2SP tlog-witness's rules, over BLAKE3), as a function of its state.

The caller must make the step from the old state to the new one atomically (compare the stored head, store the new one,
only then sign), because two concurrent requests that both pass against one old head are a fork. A witness never
cosigns a smaller head, nor a second root for a size. Specification: ``silexium.md``, 6.
"""

from __future__ import annotations

from libreseed.errors import ProofRejected
from libreseed.silexium.log_memory import ConsistencyProof, LogMemory, receive_head
from libreseed.silexium.tree_head import SignedTreeHead

__all__ = ["next_cosigned"]


def next_cosigned(memory: LogMemory | None, sth: SignedTreeHead, proof: ConsistencyProof, *, now: int) -> LogMemory:
    """The state after cosigning ``sth``, which must extend what was cosigned last; ``proof.old`` is the asker's view.

    Raises ``silexium.witness-size`` (409: the asker's old size is not what this witness cosigned last, which is
    evidence["size"]), ``silexium.consistency`` (422), ``silexium.fork`` with the evidence, or the reasons of time.
    """
    last = 0 if memory is None else memory.head.size
    if proof.old != last or proof.new != sth.size or sth.size < last:
        message = f"this witness cosigned {last} entries last; the request goes from {proof.old} to {sth.size}"
        raise ProofRejected("silexium.witness-size", message, evidence={"size": last})
    if last == 0 and proof.hashes:
        raise ProofRejected("silexium.consistency", "from size 0 the proof is empty")
    if last == sth.size and proof.hashes:
        raise ProofRejected("silexium.consistency", "equal sizes need an empty proof")
    return receive_head(memory, sth, now=now, proof=proof)
