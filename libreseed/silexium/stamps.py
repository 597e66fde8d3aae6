"""When a signature existed, by everybody who is trusted to say so: k of n time stamp authorities, and Bitcoin.

With a threshold of k authorities, the proven time is the k-th earliest of those that stamped: at least one of any k is
honest, so the bytes existed by then. A token of an authority that the policy does not know is left out; one that is
malformed or of other bytes refuses the release, because the log committed to it. The two clocks are then held against
each other: a backdated stamp is exposed by a block that comes too late, a postdated one by a block that comes too
early.

Specification: ``silexium.md``, 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from libreseed import limits
from libreseed.errors import ProofRejected, UsageFault
from libreseed.silexium.bitcoin_headers import MAINNET, HeaderSource, Network
from libreseed.silexium.instants import format_instant
from libreseed.silexium.ots import attested_block, parse_ots
from libreseed.silexium.rfc3161 import TimeStamp, TrustedTsa, verify_time_stamp

__all__ = ["ProvenTime", "TimePolicy", "anchored_at", "check_order", "stamped_at"]

# Left out without harm to others when they are not needed: they say only that this one cannot be counted.
_UNCOUNTED = ("silexium.tsa-untrusted", "silexium.tsa-window")


@dataclass(frozen=True, slots=True)
class TimePolicy:
    """Whose time is believed. ``tsa_threshold`` distinct authorities of ``tsas`` must have stamped each attestation.

    ``network`` is the only chain whose headers count; regtest proves nothing and must be named. ``pins`` adds its
    checkpoints (height, hash in internal order). ``max_lag`` is how long (seconds) after the stamp a block may come.
    """

    tsas: tuple[TrustedTsa, ...]
    tsa_threshold: int = 1
    network: Network = MAINNET
    pins: tuple[tuple[int, bytes], ...] = ()
    max_lag: int = limits.OTS_LAG_SECONDS
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(tsa.name for tsa in self.tsas))
        if not 1 <= self.tsa_threshold <= len(self.tsas) <= limits.TRUSTED_TSAS:
            raise UsageFault("config.policy", f"policy: {self.tsa_threshold} of {len(self.tsas)} TSAs")
        if len(self.names) != len(self.tsas):
            raise UsageFault("config.policy", "policy: two TSAs have the same name")
        seen: set[tuple[bytes, bytes | None]] = set()
        for tsa in self.tsas:
            if {(tsa.root_key, None), (tsa.root_key, tsa.leaf)} & seen or (
                tsa.leaf is None and any(key == tsa.root_key for key, _ in seen)
            ):
                raise UsageFault("config.policy", f"policy: the TSA {tsa.name} shares its root's key with another")
            seen.add((tsa.root_key, tsa.leaf))


@dataclass(frozen=True, slots=True)
class ProvenTime:
    """The bytes existed by ``stamped`` (authorities) and by ``anchored`` (block ``height``), Unix seconds."""

    stamped: int
    anchored: int
    height: int
    stamps: tuple[TimeStamp, ...]


def stamped_at(tokens: Sequence[bytes], message: bytes, policy: TimePolicy, *, now: int) -> tuple[TimeStamp, ...]:
    """The stamps that prove ``message``, earliest first, one per authority; the last one's time is the proven time.

    Raises ``silexium.tsa-missing``, the reason of a token that is bad in itself, or ``silexium.tsa-quorum``.
    """
    if not tokens:
        raise ProofRejected("silexium.tsa-missing", "there is no RFC 3161 time stamp")
    stamps: list[TimeStamp] = []
    refusals: list[ProofRejected] = []
    for token in tokens:
        try:
            stamps.append(verify_time_stamp(token, message, policy.tsas, now=now))
        except ProofRejected as error:
            if error.reason not in _UNCOUNTED:
                raise
            refusals.append(error)
    earliest: dict[str, TimeStamp] = {}
    signers: set[bytes] = set()
    for stamp in sorted(stamps, key=lambda stamp: stamp.time):
        if stamp.tsa not in earliest and stamp.signer not in signers:
            earliest[stamp.tsa] = stamp
            signers.add(stamp.signer)
    if len(earliest) < policy.tsa_threshold:
        if policy.tsa_threshold == 1:
            raise refusals[0]  # every token was left out, and this is why
        evidence = {"needed": policy.tsa_threshold, "present": sorted(earliest), "refused": list(map(str, refusals))}
        message_text = f"{len(earliest)} of the {policy.tsa_threshold} authorities that the policy demands stamped it"
        raise ProofRejected("silexium.tsa-quorum", message_text, evidence=evidence)
    return tuple(earliest.values())[: policy.tsa_threshold]


def anchored_at(
    proofs: Sequence[bytes], message: bytes, policy: TimePolicy, chains: Sequence[HeaderSource]
) -> tuple[int, int]:
    """The earliest (time, height) of a block that confirms ``message``; every proof must be well-formed and of it.

    Raises ``silexium.ots-missing``, ``.network``, the reason of a proof that is bad in itself, or ``.ots-pending`` and
    ``.header-*`` when none is confirmed.
    """
    if not proofs:
        raise ProofRejected("silexium.ots-missing", "there is no OpenTimestamps proof")
    for chain in chains:
        if chain.network != policy.network:
            message_text = f"the policy trusts {policy.network.name}; these headers are of {chain.network.name}"
            raise ProofRejected("silexium.network", message_text)
    digest = hashlib.sha256(message).digest()
    blocks: list[tuple[int, int]] = []
    refusal: ProofRejected | None = None
    for proof in [parse_ots(data, digest) for data in proofs]:
        try:
            blocks.append(attested_block(proof, chains))
        except ProofRejected as error:
            refusal = error
    if refusal is not None and not blocks:
        raise refusal
    return min(blocks)


def check_order(created_at: int, time: ProvenTime, policy: TimePolicy) -> None:
    """Hold claim, stamp and block against each other; raises ``silexium.time-order``.

    A block's own time may be two hours off, so that much is granted.
    """
    evidence = {
        "created_at": format_instant(created_at),
        "stamped_at": format_instant(time.stamped),
        "anchored_at": format_instant(time.anchored),
        "height": time.height,
    }
    if created_at > time.stamped + limits.CLOCK_SKEW_SECONDS:
        message = "it was stamped before it says that it was made"
    elif time.stamped > time.anchored + limits.BLOCK_TIME_SKEW_SECONDS:
        message = "Bitcoin confirmed it before the authorities stamped it: an authority's time is wrong"
    elif time.anchored - time.stamped > policy.max_lag:
        message = "Bitcoin confirmed it much later than the authorities stamped it: the stamp may be backdated"
    else:
        return
    raise ProofRejected("silexium.time-order", message, evidence=evidence)
