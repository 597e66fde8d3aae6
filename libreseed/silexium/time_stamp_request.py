"""Asking a time stamp authority (RFC 3161, 2.4.1), and judging its answer before anything is kept.

A request names the SHA-512 of the message, carries a nonce, asks for the signer's certificate and, where it matters,
for a policy. The answer must be granted, of this message, with this nonce, this policy and the certificate, and by an
authority that is trusted; a token that is merely well-formed is not kept. Randomness and transport are the caller's.
Specification: ``silexium-time.md``, 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from libreseed import limits
from libreseed.errors import ProofRejected
from libreseed.silexium.rfc3161 import TimeStamp, TrustedTsa, verify_time_stamp

__all__ = ["TimeStampRequest"]


@dataclass(frozen=True, slots=True)
class TimeStampRequest:
    """One question: ``message`` in full, ``nonce`` from 1 to 2^63 - 1, and the dotted ``policy`` that is asked for."""

    message: bytes
    nonce: int
    policy: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.nonce < 2**63:
            raise AssertionError("a nonce is a positive number of at most 63 bits")

    def encode(self) -> bytes:
        """The DER TimeStampReq."""
        from asn1crypto import tsp

        imprint = {"hash_algorithm": {"algorithm": "sha512"}, "hashed_message": hashlib.sha512(self.message).digest()}
        fields = {"version": "v1", "message_imprint": imprint, "nonce": self.nonce, "cert_req": True}
        if self.policy is not None:
            fields["req_policy"] = self.policy
        return bytes(tsp.TimeStampReq(fields).dump())

    def accept(self, response: bytes, trusted: Sequence[TrustedTsa], *, now: int) -> TimeStamp:
        """The stamp that ``response`` holds, verified as everybody else will verify it later.

        Raises what :func:`verify_time_stamp` raises, ``silexium.tsa-nonce`` for an answer to another question, and
        ``silexium.tsa-policy`` for one under another policy or without the signer's certificate.
        """
        stamp = verify_time_stamp(response, self.message, trusted, now=now)
        nonce, policy, certificates = _read(response)
        if nonce != self.nonce:
            raise ProofRejected("silexium.tsa-nonce", "the time stamp answers another request: its nonce is not ours")
        if self.policy is not None and policy != self.policy:
            message = f"asked for the policy {self.policy}, stamped under {policy}"
            raise ProofRejected("silexium.tsa-policy", message)
        if not certificates:
            message = "the signer's certificate was asked for and is not in the answer"
            raise ProofRejected("silexium.tsa-policy", message)
        return stamp


def _read(response: bytes) -> tuple[int | None, str, int]:
    """Nonce, policy and number of certificates of a response that is already verified."""
    from asn1crypto import tsp

    if len(response) > limits.TSA_RESPONSE_BYTES:
        raise AssertionError("verified before it is read")
    signed = tsp.TimeStampResp.load(response, strict=True)["time_stamp_token"]["content"]
    info = signed["encap_content_info"]["content"].parsed
    certificates = signed["certificates"].native
    return info["nonce"].native, info["policy"].dotted, 0 if certificates is None else len(certificates)
