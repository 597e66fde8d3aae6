"""Bitcoin block headers, 80 bytes each, as the clock that OpenTimestamps proofs are checked against, offline.

A :class:`HeaderChain` is a run of consecutive headers that contains a pinned one: the genesis block or a checkpoint
(height and hash, from this file or the policy). Every header must have done its proof of work and link to the one
before; headers up to the last pinned one are the real ones by these links; those behind it must also follow the
retarget rule, come after the median of the eleven before, and not be from the future, and are believed once buried
under enough others. Whoever feeds false headers must therefore redo real work.

Regtest is a network whose headers cost nothing: its chains prove nothing, and only a policy that names it takes them.
Transactions and blocks are not looked at. Specification: ``silexium.md``, 4.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from libreseed import limits
from libreseed.errors import ProofRejected

__all__ = [
    "HEADER_BYTES",
    "MAINNET",
    "NETWORKS",
    "REGTEST",
    "HeaderChain",
    "HeaderSource",
    "Network",
    "digest_of",
    "judge_block",
    "mine_header",
    "work_of",
]

HEADER_BYTES = 80
_GENESIS_ROOT = bytes.fromhex("4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b")[::-1]
_TIME_AT, _BITS_AT = 68, 72  # offsets of two u32 in a header
_NEVER = 2**32  # confirmations
_MEDIAN = 11  # headers, this one not counted
_MAX_AHEAD_SECONDS = 7200  # of a header's time before the clock (Bitcoin Core)


def _sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def _genesis(time: int, bits: int, nonce: int) -> bytes:
    fields = (1).to_bytes(4, "little") + bytes(32) + _GENESIS_ROOT
    return fields + b"".join(number.to_bytes(4, "little") for number in (time, bits, nonce))


@dataclass(frozen=True, slots=True)
class Network:
    """The rules of one Bitcoin network. ``pins`` are (height, hash in display order, as explorers write it)."""

    name: str
    pow_limit: int
    genesis: bytes
    retargets: bool
    confirmations: int  # headers on top of a proof's own, itself counted, unless it is pinned
    pins: tuple[tuple[int, str], ...] = ()
    interval: int = 2016  # blocks between retargets
    timespan: int = 14 * 24 * 3600  # seconds that they ought to take


# As Bitcoin Core's chain parameters have them: checkpoints, an assumed-valid block, and the bases of UTXO snapshots.
MAINNET = Network(
    "mainnet",
    pow_limit=0xFFFF << 208,
    genesis=_genesis(1231006505, 0x1D00FFFF, 2083236893),
    retargets=True,
    confirmations=6,
    pins=(
        (105_000, "00000000000291ce28027faea320c8d2b054b2e0fe44a773f3eefb151d6bdc97"),
        (210_000, "000000000000048b95347e83192f69cf0366076336c639f9b7228e9ba171342e"),
        (295_000, "00000000000000004d9b4ef50f0f9d686fd69db2e03af35a100370c64632a983"),
        (784_000, "000000000000000000035c3f0d31e71a5ee24c5aaf3354689f65bd7b07dee632"),
        (840_000, "0000000000000000000320283a032748cef8227873ff4872689bf23f1cda83a5"),
        (880_000, "000000000000000000010b17283c3c400507969a9c2afd1dcf2082ec5cca2880"),
        (910_000, "0000000000000000000108970acb9522ffd516eae17acddcb1bd16469194a821"),
        (935_000, "0000000000000000000147034958af1652b2b91bba607beacc5e72a56f0fb5ee"),
    ),
)
REGTEST = Network(
    "regtest",
    pow_limit=0x7FFFFF << 232,
    genesis=_genesis(1296688602, 0x207FFFFF, 2),
    retargets=False,
    confirmations=1,
)
NETWORKS = {network.name: network for network in (MAINNET, REGTEST)}


@dataclass(frozen=True, slots=True)
class _Header:
    """One header's fields that rules speak of."""

    digest: bytes  # internal byte order
    previous: bytes
    merkle_root: bytes
    time: int
    bits: int

    @classmethod
    def read(cls, raw: bytes) -> _Header:
        time, bits = (int.from_bytes(raw[at : at + 4], "little") for at in (_TIME_AT, _BITS_AT))
        return cls(_sha256d(raw), raw[4:36], raw[36:68], time, bits)


class HeaderSource(Protocol):
    """Verified headers of one network, wherever they are kept."""

    @property
    def network(self) -> Network:
        """Whose headers these are."""
        ...

    def attested_time(self, height: int, merkle_root: bytes) -> int:
        """As :meth:`HeaderChain.attested_time`."""
        ...


class HeaderChain:
    """Consecutive headers from height ``base`` on, verified as they are added; ``extend`` is all or nothing.

    ``pins`` adds checkpoints (height -> 32 bytes in internal order) to the network's own. With ``pinned_only`` no
    header behind the last pinned one counts: for headers that come with what they are to prove. Six blocks on top of an
    old checkpoint cost whoever wants to backdate a stamp only that much work; a chain of one's own, kept up to date and
    chosen by ``work``, is what outweighs them.
    """

    __slots__ = ("_buffer", "_last", "_pins", "_settled", "base", "network", "pinned_only")

    def __init__(
        self, network: Network, base: int = 0, pins: Iterable[tuple[int, bytes]] = (), *, pinned_only: bool = False
    ) -> None:
        if not 0 <= base <= limits.BITCOIN_HEIGHT:
            raise ProofRejected("silexium.header", f"no block has the height {base}")
        self.network = network
        self.base = base
        self.pinned_only = pinned_only
        self._pins = {height: bytes.fromhex(text)[::-1] for height, text in network.pins} | dict(pins)
        self._pins[0] = _sha256d(network.genesis)
        self._buffer = bytearray()
        self._last: _Header | None = None
        self._settled = -1  # height of the last pinned header in the chain

    @classmethod
    def read(
        cls, network: Network, base: int, data: bytes, *, now: int, pins: Iterable[tuple[int, bytes]] = ()
    ) -> HeaderChain:
        """The chain that ``data`` holds (``base`` is the first one's height); raises ``silexium.header*``."""
        chain = cls(network, base, pins)
        chain.extend(data, now=now)
        return chain

    def __len__(self) -> int:
        return len(self._buffer) // HEADER_BYTES

    @property
    def tip(self) -> int:
        """Height of the last header; ``base - 1`` when there is none."""
        return self.base + len(self) - 1

    @property
    def data(self) -> bytes:
        """The headers."""
        return bytes(self._buffer)

    @property
    def work(self) -> int:
        """Expected hashes that it stands for: of two chains from one pinned header the larger one is Bitcoin's."""
        return work_of(bytes(self._buffer))

    def extend(self, data: bytes, *, now: int) -> None:
        """Add headers; ``now`` in Unix seconds. A chain without a pinned header is refused as a whole.

        Raises ``silexium.header`` (form), ``.header-work``, ``-link``, ``-bits``, ``-time`` or ``-pin``.
        """
        if len(data) % HEADER_BYTES or len(data) > HEADER_BYTES * limits.BITCOIN_HEADERS:
            raise ProofRejected("silexium.header", f"{len(data)} bytes are not a run of 80-byte headers")
        before, last = len(self._buffer), self._last
        settled_after = max((pin for pin in self._pins if self.base <= pin <= self.tip + len(data) // 80), default=-1)
        try:
            if settled_after < 0:
                message = f"no header from {self.base} to {self.tip + len(data) // 80} is pinned"
                raise ProofRejected("silexium.header-pin", message)
            for at in range(0, len(data), HEADER_BYTES):
                raw = data[at : at + HEADER_BYTES]
                header = _Header.read(raw)
                self._check(header, self.tip + 1, settled_after, now)
                self._buffer += raw
                self._last = header
            self._settled = settled_after
        except ProofRejected:
            del self._buffer[before:]
            self._last = last
            raise

    def attested_time(self, height: int, merkle_root: bytes) -> int:
        """The time of block ``height`` (Unix seconds) if its Merkle root is ``merkle_root`` and it is settled.

        Raises ``silexium.header-missing``, ``.header-root`` or ``.header-confirmations``.
        """
        if not self.base <= height <= self.tip:
            message = f"the headers at hand go from {self.base} to {self.tip}; the proof needs {height}"
            raise ProofRejected("silexium.header-missing", message, evidence={"height": height})
        needed = 0
        if height > self._settled:
            needed = _NEVER if self.pinned_only else self.network.confirmations
        raw = self._at(height)
        return judge_block(raw, height, merkle_root, confirmations=self.tip - height + 1, needed=needed)

    def _check(self, header: _Header, height: int, settled: int, now: int) -> None:
        previous = self._last
        pin = self._pins.get(height)
        if pin is not None and header.digest != pin:
            raise _bad("pin", height, "it is not the pinned one")
        if previous is not None and header.previous != previous.digest:
            raise _bad("link", height, "it does not link to the one before")
        target = _target(header.bits)
        if not 0 < target <= self.network.pow_limit or int.from_bytes(header.digest, "little") > target:
            raise _bad("work", height, "its proof of work does not hold")
        if height <= settled or previous is None:
            return  # the links to a pinned header say the rest
        if header.bits != self._required_bits(height, previous):
            raise _bad("bits", height, "its difficulty is not the one that the rules demand")
        if header.time > now + _MAX_AHEAD_SECONDS:
            raise _bad("time", height, "it is from the future")
        times = sorted(self._number(at, _TIME_AT) for at in range(max(self.base, height - _MEDIAN), height))
        if len(times) == _MEDIAN and header.time <= times[_MEDIAN // 2]:
            raise _bad("time", height, "its time is not after the median of the eleven before")

    def _required_bits(self, height: int, previous: _Header) -> int:
        network = self.network
        if not network.retargets or height % network.interval:
            return previous.bits
        if height - network.interval < self.base:
            raise _bad(
                "bits", height, f"to judge its difficulty the headers from {height - network.interval} are needed"
            )
        elapsed = previous.time - self._number(height - network.interval, _TIME_AT)
        elapsed = min(max(elapsed, network.timespan // 4), network.timespan * 4)
        return _compact(min(_target(previous.bits) * elapsed // network.timespan, network.pow_limit))

    def _at(self, height: int) -> bytes:
        start = (height - self.base) * HEADER_BYTES
        return bytes(self._buffer[start : start + HEADER_BYTES])

    def _number(self, height: int, offset: int) -> int:
        start = (height - self.base) * HEADER_BYTES + offset
        return int.from_bytes(self._buffer[start : start + 4], "little")


def digest_of(raw: bytes) -> bytes:
    """The hash of one header, in internal byte order: what the next one links to, and what a pin is."""
    return _sha256d(raw)


def work_of(data: bytes) -> int:
    """Expected hashes that a run of headers stands for; what they claim is not checked."""
    counts = Counter(data[at : at + 4] for at in range(_BITS_AT, len(data), HEADER_BYTES))
    return sum(count * (2**256 // (_target(int.from_bytes(bits, "little")) + 1)) for bits, count in counts.items())


def judge_block(raw: bytes, height: int, merkle_root: bytes, *, confirmations: int, needed: int) -> int:
    """The time (Unix seconds) of the block with the verified header ``raw``, if it has the root and enough on top.

    Raises ``silexium.header-confirmations`` or ``.header-root``.
    """
    if confirmations < needed:
        message = f"block {height} is behind the last pinned header and has {confirmations} of the "
        message += "confirmations it needs, in headers of one's own"
        raise ProofRejected("silexium.header-confirmations", message, evidence={"height": height})
    header = _Header.read(raw)
    if header.merkle_root != merkle_root:
        evidence = {"height": height, "expected": header.merkle_root.hex(), "actual": merkle_root.hex()}
        message = f"the proof does not lead to the Merkle root of block {height}"
        raise ProofRejected("silexium.header-root", message, evidence=evidence)
    return header.time


def mine_header(chain: HeaderChain, merkle_root: bytes, time: int) -> bytes:
    """A next header for a chain whose work is nothing (regtest): for tests and an embedded calendar, no proof."""
    if chain.network.retargets:
        raise AssertionError("only a network without difficulty can be mined here")
    raw = chain.data[-HEADER_BYTES:]
    bits = raw[72:76]
    stem = (4).to_bytes(4, "little") + _sha256d(raw) + merkle_root + time.to_bytes(4, "little") + bits
    target = _target(int.from_bytes(bits, "little"))
    nonce = 0
    while int.from_bytes(_sha256d(stem + nonce.to_bytes(4, "little")), "little") > target:
        nonce += 1
    return stem + nonce.to_bytes(4, "little")


def _target(bits: int) -> int:
    """The target that nBits encodes; 0 where the encoding is negative or overflows."""
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    if bits & 0x800000 or exponent > 32:
        return 0
    return mantissa << 8 * (exponent - 3) if exponent >= 3 else mantissa >> 8 * (3 - exponent)


def _compact(target: int) -> int:
    """The nBits of a target, rounded down as Bitcoin does."""
    size = (target.bit_length() + 7) // 8
    mantissa = target << 8 * (3 - size) if size <= 3 else target >> 8 * (size - 3)
    if mantissa & 0x800000:
        mantissa >>= 8
        size += 1
    return mantissa | size << 24


def _bad(fault: str, height: int, why: str) -> ProofRejected:
    return ProofRejected(f"silexium.header-{fault}", f"header {height}: {why}", evidence={"height": height})
