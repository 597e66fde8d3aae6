"""OpenTimestamps proofs, read strictly and with bounds: from a SHA-256 digest to the Merkle roots of Bitcoin blocks.

A detached proof (version 1) is a tree of operations; each branch ends in an attestation. The operations that are
understood are sha256, ripemd160 (proofs of 2015), append and prepend: every one of them commits to all of its input.
Pending attestations name a calendar and prove nothing. Attestations of other chains are kept apart and never counted.
Other digests, other operations, non-minimal numbers, trailing bytes and oversized parts are refused.

This is our own reader because the reference library is quadratic in the length of a number (1 MB takes 45 s) and takes
operations that hide their input. Specification: ``silexium.md``, 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from libreseed import limits
from libreseed.errors import ProofRejected
from libreseed.silexium.bitcoin_headers import HeaderSource
from libreseed.silexium.ripemd160 import ripemd160

__all__ = [
    "PROMISE_CHARACTERS",
    "BitcoinAttestation",
    "OtherAttestation",
    "OtsPath",
    "OtsProof",
    "PendingAttestation",
    "Step",
    "attested_block",
    "parse_ots",
    "parse_timestamp",
    "write_ots",
    "write_timestamp",
]

_MAGIC = b"\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94"
_BITCOIN = bytes.fromhex("0588960d73d71901")
_PENDING = bytes.fromhex("83dfe30d2ef90c8e")
_SHA256, _RIPEMD160, _APPEND, _PREPEND = 0x08, 0x03, 0xF0, 0xF1
_TAGS = {"sha256": _SHA256, "ripemd160": _RIPEMD160, "append": _APPEND, "prepend": _PREPEND}
_FORK, _ATTESTATION = 0xFF, 0x00
PROMISE_CHARACTERS = frozenset(  # of a calendar's address
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._/:"
)


@dataclass(frozen=True, slots=True)
class BitcoinAttestation:
    """The digest leads to ``merkle_root`` (internal byte order), claimed to be that of the block at ``height``."""

    merkle_root: bytes
    height: int


@dataclass(frozen=True, slots=True)
class PendingAttestation:
    """The calendar at ``uri`` promised to have ``commitment`` confirmed: no proof, but where to ask for one."""

    commitment: bytes
    uri: str


@dataclass(frozen=True, slots=True)
class OtherAttestation:
    """An attestation of a kind that is not understood; it counts for nothing."""

    tag: bytes


# One operation: "sha256" or "ripemd160" with b"", or "append" or "prepend" with 1 to 4096 bytes.
Step = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class OtsPath:
    """One branch of a proof: what is done to the message, and the attestation that it ends in."""

    steps: tuple[Step, ...]
    end: BitcoinAttestation | PendingAttestation | OtherAttestation


@dataclass(frozen=True, slots=True)
class OtsProof:
    """A parsed proof for ``digest`` (SHA-256). What it claims of blocks is not checked: see :func:`attested_block`."""

    digest: bytes
    paths: tuple[OtsPath, ...]

    @property
    def bitcoin(self) -> tuple[BitcoinAttestation, ...]:
        """The blocks that it names."""
        return tuple(path.end for path in self.paths if isinstance(path.end, BitcoinAttestation))

    @property
    def pending(self) -> tuple[PendingAttestation, ...]:
        """The promises that it holds."""
        return tuple(path.end for path in self.paths if isinstance(path.end, PendingAttestation))

    @property
    def other(self) -> tuple[OtherAttestation, ...]:
        """What else it ends in."""
        return tuple(path.end for path in self.paths if isinstance(path.end, OtherAttestation))


def parse_ots(data: bytes, digest: bytes) -> OtsProof:
    """Read a detached proof of ``digest``; raises ``silexium.ots`` (form) or ``silexium.ots-digest``."""
    if len(data) > limits.OTS_BYTES:
        raise ProofRejected("silexium.ots", f"an OpenTimestamps proof has at most {limits.OTS_BYTES} bytes")
    reader = _Reader(data)
    if reader.take(len(_MAGIC)) != _MAGIC or reader.number(1) != 1:
        raise ProofRejected("silexium.ots", "not an OpenTimestamps proof of version 1")
    if reader.byte() != _SHA256:
        raise ProofRejected("silexium.ots", "the proof is not for a SHA-256 digest")
    if (actual := reader.take(32)) != digest:
        evidence = {"expected": digest.hex(), "actual": actual.hex()}
        raise ProofRejected("silexium.ots-digest", "the proof is for other bytes", evidence=evidence)
    return OtsProof(digest, tuple(_walk(reader, digest)))


def parse_timestamp(data: bytes, message: bytes) -> tuple[OtsPath, ...]:
    """The branches of a time stamp without a file's head, as a calendar sends it for ``message``.

    Raises ``silexium.ots``. That it is for this message follows only from where its branches lead.
    """
    if len(data) > limits.OTS_BYTES:
        raise ProofRejected("silexium.ots", f"a calendar's answer has at most {limits.OTS_BYTES} bytes")
    if len(message) > limits.OTS_MESSAGE_BYTES:
        raise ProofRejected("silexium.ots", f"a message in the proof exceeds {limits.OTS_MESSAGE_BYTES} bytes")
    return tuple(_walk(_Reader(data), message))


def attested_block(proof: OtsProof, chains: Iterable[HeaderSource]) -> tuple[int, int]:
    """The earliest (block time in Unix seconds, height) that the headers confirm; raises otherwise.

    ``silexium.ots-pending`` when the proof names no Bitcoin block, else the reason of the last header that refused.
    """
    best: tuple[int, int] | None = None
    refusal = ProofRejected("silexium.ots-pending", "no Bitcoin block confirms the stamp: it is only promised")
    if proof.bitcoin:
        refusal = ProofRejected("silexium.header-missing", "there are no block headers to check the stamp against")
    chains = tuple(chains)
    for claim in proof.bitcoin:
        for chain in chains:
            try:
                time = chain.attested_time(claim.height, claim.merkle_root)
            except ProofRejected as error:
                refusal = error
            else:
                best = min(best or (time, claim.height), (time, claim.height))
    if best is None:
        raise refusal
    return best


def write_ots(digest: bytes, steps: Iterable[Step], end: BitcoinAttestation | PendingAttestation) -> bytes:
    """A linear proof: ``digest`` through ``steps`` to ``end``; what it says went through :func:`parse_ots`."""
    data = _MAGIC + b"\x01" + bytes([_SHA256]) + digest + write_timestamp(digest, steps, end)
    parse_ots(data, digest)
    return data


def write_timestamp(message: bytes, steps: Iterable[Step], end: BitcoinAttestation | PendingAttestation) -> bytes:
    """One branch from ``message`` through ``steps`` to ``end``; raises ``silexium.ots`` when it does not lead there."""
    out = bytearray()
    for name, argument in steps:
        out.append(_TAGS[name])
        out += _varbytes(argument) if name in ("append", "prepend") else b""
    if isinstance(end, BitcoinAttestation):
        out += bytes([_ATTESTATION]) + _BITCOIN + _varbytes(_varnumber(end.height))
    else:
        out += bytes([_ATTESTATION]) + _PENDING + _varbytes(_varbytes(end.uri.encode("ascii")))
    data = bytes(out)
    if end != parse_timestamp(data, message)[0].end:
        raise ProofRejected("silexium.ots", "the operations do not lead to the attestation")
    return data


def _walk(reader: _Reader, message: bytes) -> list[OtsPath]:
    """Follow every branch in the order of the bytes, without recursion, to the last byte."""
    found: list[OtsPath] = []
    waiting: list[tuple[bytes, tuple[Step, ...]]] = [(message, ())]  # forks whose last branch is still to come
    operations = 0
    while waiting:
        here, before = waiting.pop()
        steps = list(before)
        while True:
            tag = reader.byte()
            if tag == _FORK:
                waiting.append((here, tuple(steps)))
                tag = reader.byte()
            operations += 1
            if operations > limits.OTS_OPERATIONS:
                raise ProofRejected("silexium.ots", f"the proof has more than {limits.OTS_OPERATIONS} operations")
            if tag == _ATTESTATION:
                found.append(OtsPath(tuple(steps), _attestation(reader, here)))
                break
            here, step = _apply(reader, tag, here)
            steps.append(step)
    if not reader.done:
        raise ProofRejected("silexium.ots", "there are bytes behind the proof")
    return found


def _apply(reader: _Reader, tag: int, message: bytes) -> tuple[bytes, Step]:
    if tag == _SHA256:
        return _sha256(message), ("sha256", b"")
    if tag == _RIPEMD160:
        return ripemd160(message), ("ripemd160", b"")
    if tag not in (_APPEND, _PREPEND):
        raise ProofRejected("silexium.ots", f"the operation 0x{tag:02x} is not allowed in a proof")
    argument = reader.counted(limits.OTS_MESSAGE_BYTES, least=1)
    if len(message) + len(argument) > limits.OTS_MESSAGE_BYTES:
        raise ProofRejected("silexium.ots", f"a message in the proof exceeds {limits.OTS_MESSAGE_BYTES} bytes")
    return (message + argument, ("append", argument)) if tag == _APPEND else (argument + message, ("prepend", argument))


def _attestation(reader: _Reader, message: bytes) -> BitcoinAttestation | PendingAttestation | OtherAttestation:
    tag = reader.take(8)
    payload = _Reader(reader.counted(limits.OTS_ATTESTATION_BYTES))
    if tag == _BITCOIN:
        height = payload.number(limits.BITCOIN_HEIGHT)
        if len(message) != 32:
            raise ProofRejected("silexium.ots", "what should be a Merkle root does not have 32 bytes")
        result: BitcoinAttestation | PendingAttestation = BitcoinAttestation(message, height)
    elif tag == _PENDING:
        uri = payload.counted(limits.OTS_URI_BYTES).decode("latin-1")
        if not PROMISE_CHARACTERS.issuperset(uri):
            raise ProofRejected("silexium.ots", "the URI of a calendar has characters that are not allowed")
        result = PendingAttestation(message, uri)
    else:
        return OtherAttestation(tag)
    if not payload.done:
        raise ProofRejected("silexium.ots", "there are bytes behind an attestation")
    return result


class _Reader:
    """Takes bytes, numbers and counted strings from the front; raises ``silexium.ots`` where they end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._data)

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise ProofRejected("silexium.ots", "the proof is cut short")
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self, most: int) -> int:
        """A little-endian base-128 number in its shortest form."""
        value = shift = 0
        while True:
            digit = self.byte()
            value |= (digit & 127) << shift
            if value > most or shift > 35:
                raise ProofRejected("silexium.ots", f"a number in the proof exceeds {most}")
            if digit < 128:
                if digit == 0 and shift:
                    raise ProofRejected("silexium.ots", "a number in the proof is not in its shortest form")
                return value
            shift += 7

    def counted(self, most: int, least: int = 0) -> bytes:
        count = self.number(most)
        if count < least:
            raise ProofRejected("silexium.ots", "an operation in the proof adds nothing")
        return self.take(count)


def _varnumber(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _varbytes(data: bytes) -> bytes:
    return _varnumber(len(data)) + data


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
