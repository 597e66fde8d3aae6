"""Bitcoin's block headers on disk: 80 bytes each in one file, and a small record of how many of them are verified.

Invariants: nothing is in the record before :class:`HeaderChain` has verified it; the headers are on the disk before the
record that counts them; the record holds the SHA-256 of all that it counts, so a file that rots or is changed behind
our back is noticed when it is opened. Memory is bounded by a few batches, whatever the file's length. A branch replaces
ours only with more work, and never below a pinned header. One writer at a time (``flock``); readers in other processes
see what it has finished. Everything blocks. Specification: ``silexium-time.md``, 6.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.durable import durable_write
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import LocalFault, ProofRejected
from libreseed.silexium.bitcoin_headers import (
    HEADER_BYTES,
    MAINNET,
    HeaderChain,
    Network,
    digest_of,
    judge_block,
    work_of,
)

__all__ = ["HeaderRecord", "HeaderStore", "default_header_folder"]

_PROTOCOL = "libreseed-headers-v1"
_RECORD_BYTES = 4096
_BATCH = 10 * 2016  # headers in memory at once, 1.6 MB
_ATTEMPTS = 3
_MEDIAN = 11  # headers that the rule about times looks back


def default_header_folder() -> Path:
    """Where headers are unless told otherwise: ``$XDG_DATA_HOME/silexium/headers``."""
    import platformdirs

    return Path(platformdirs.user_data_dir("silexium", appauthor=False)) / "headers"


@dataclass(frozen=True, slots=True)
class HeaderRecord:
    """``count`` headers from height ``base`` on, the SHA-256 of all their bytes, and the work that they stand for."""

    network: str
    base: int
    count: int
    sha256: str
    work: int

    @property
    def tip(self) -> int:
        """Height of the last header; ``base - 1`` when there is none."""
        return self.base + self.count - 1

    def encode(self) -> bytes:
        """As JSON; the work, which no JSON reader must round, as hex text."""
        members = {"protocol": _PROTOCOL, "network": self.network, "base": self.base, "count": self.count}
        return (json.dumps({**members, "sha256": self.sha256, "work": f"{self.work:x}"}) + "\n").encode()


class HeaderStore:
    """The headers of ``network`` in ``folder``; ``pins`` are the policy's checkpoints beside the network's own.

    Raises ``storage.headers`` for files that are not as they were left, ``silexium.header-pin`` where a header at hand
    is not the one that is pinned for its height. Whatever number of threads may ask one instance; what adds is an
    instance of its own, in one thread, in this process or another.
    """

    def __init__(self, folder: Path, network: Network = MAINNET, pins: Iterable[tuple[int, bytes]] = ()) -> None:
        self.folder = folder
        self._network = network
        self._extra = tuple(pins)
        own = {height: bytes.fromhex(text)[::-1] for height, text in network.pins}
        self._pins = {0: digest_of(network.genesis), **own, **dict(self._extra)}
        self._data = folder / f"headers-{network.name}.bin"
        self._state = folder / f"headers-{network.name}.json"
        self._seen: tuple[int, int] | None = None
        self._digest = hashlib.sha256()  # of all that the record counts
        self._record = HeaderRecord(network.name, 0, 0, self._digest.hexdigest(), 0)
        self.refresh()

    @property
    def network(self) -> Network:
        """Whose headers these are."""
        return self._network

    @property
    def record(self) -> HeaderRecord:
        """What is at hand."""
        return self._record

    @property
    def settled(self) -> int:
        """Height of the last pinned header at hand; -1 without one."""
        return max((pin for pin in self._pins if self._record.base <= pin <= self._record.tip), default=-1)

    def refresh(self) -> None:
        """Take notice of what another process has added; checks the whole file (a second or less) if it has."""
        for attempt in range(_ATTEMPTS):
            seen = self._version()
            if seen is None or seen == self._seen:
                return
            record = _decode(read_bounded(self._state, _RECORD_BYTES), self._state, self._network)
            try:
                self._digest = self._check_file(record)
            except LocalFault:
                if attempt + 1 == _ATTEMPTS or self._version() == seen:
                    raise  # it is not a writer that is just replacing the last headers
                continue
            self._record, self._seen = record, seen
            return

    def attested_time(self, height: int, merkle_root: bytes) -> int:
        """As :meth:`HeaderChain.attested_time`, from the file."""
        self.refresh()
        record = self._record
        if not record.base <= height <= record.tip:
            message = f"the headers at hand go from {record.base} to {record.tip}; the proof needs {height}"
            raise ProofRejected("silexium.header-missing", message, evidence={"height": height})
        needed = 0 if height <= self.settled else self._network.confirmations
        raw = self.headers(height, 1)
        return judge_block(raw, height, merkle_root, confirmations=record.tip - height + 1, needed=needed)

    def time_of(self, height: int) -> int:
        """The time (Unix seconds) that the header at ``height`` states; it must be at hand."""
        return int.from_bytes(self.headers(height, 1)[68:72], "little")

    def headers(self, height: int, count: int) -> bytes:
        """The raw headers from ``height`` on, at most ``count`` and as far as they go."""
        count = min(count, self._record.tip - height + 1)
        if count <= 0:
            return b""
        with self._data.open("rb") as file:
            return os.pread(file.fileno(), count * HEADER_BYTES, (height - self._record.base) * HEADER_BYTES)

    def add(self, source: BinaryIO, *, now: int, base: int = 0, progress: Callable[[int], None] | None = None) -> int:
        """Verify and append a run of raw headers out of ``source``; returns how many are new.

        The run may begin anywhere in what is at hand, or right behind it; ``base`` is the height of the first header of
        a store that is empty. What was appended before a refusal stays. ``progress`` gets the number of headers read.
        Raises ``silexium.header*``: ``-link`` for a run that belongs nowhere, ``-branch`` for a weaker branch.
        """
        try:
            with self._writing():
                return self._add(source, now, base, progress or (lambda _: None))
        except OSError as error:
            raise from_oserror(error, "storing block headers") from error

    # --- writing ------------------------------------------------------------------------------------------------------

    def _add(self, source: BinaryIO, now: int, base: int, progress: Callable[[int], None]) -> int:
        batches = _batches(source, self._first_batch(base) if not self._record.count else _BATCH)
        added, read, height = 0, 0, -1
        for batch in batches:
            if height < 0:
                height = self._place_of(batch, base)
            known = self.headers(height, len(batch) // HEADER_BYTES) if self._record.count else b""
            common = _common(known, batch)
            fresh, at = batch[common * HEADER_BYTES :], height + common
            if fresh:
                if at <= self._record.tip:  # a branch is weighed whole, wherever a batch happens to end
                    fresh += next(batches, b"")
                self._take(fresh, at, now, base)
                added += len(fresh) // HEADER_BYTES
            height = at + len(fresh) // HEADER_BYTES
            read += common + len(fresh) // HEADER_BYTES
            progress(read)
        return added

    def _first_batch(self, base: int) -> int:
        """An empty store's first batch must reach a pinned header."""
        pin = min((pin for pin in self._pins if pin >= base), default=None)
        if pin is None or pin - base >= limits.HEADER_FIRST_RUN:
            message = f"no pinned header is within {limits.HEADER_FIRST_RUN} of {base}: begin nearer to one, or at 0"
            raise ProofRejected("silexium.header-pin", message)
        return max(_BATCH, pin - base + 1)

    def _place_of(self, batch: bytes, base: int) -> int:
        """The height of a batch's first header, by what it links to."""
        record, previous = self._record, batch[4:36]
        if not record.count:
            return base
        if previous == digest_of(self.headers(record.tip, 1)):
            return record.tip + 1
        for height in range(record.base, record.tip + 1, _BATCH):
            data = self.headers(height, _BATCH)
            at = data.find(previous)
            while at >= 0 and at % HEADER_BYTES != 4:
                at = data.find(previous, at + 1)
            if at >= 0:
                return height + at // HEADER_BYTES
        raise ProofRejected("silexium.header-link", "these headers link to none of those at hand")

    def _take(self, fresh: bytes, height: int, now: int, base: int) -> None:
        """Verify ``fresh`` on top of what is at hand below ``height``, and replace what is there if it is stronger."""
        record = self._record
        if record.count:
            chain = self._window(height - 1, now)
            chain.extend(fresh, now=now)
            if height <= record.tip:
                self._give_way(height, fresh)
        else:
            HeaderChain(self._network, base, self._extra).extend(fresh, now=now)
            self._digest = hashlib.sha256()
            self._record = HeaderRecord(self._network.name, base, 0, self._digest.hexdigest(), 0)
        self._append(fresh)

    def _window(self, tip: int, now: int) -> HeaderChain:
        """The headers up to ``tip`` that rules look back at, pinned by our own word: they were verified before."""
        interval = self._network.interval
        start = max(self._record.base, max(tip - _MEDIAN, 0) // interval * interval)
        data = self.headers(start, tip - start + 1)
        chain = HeaderChain(self._network, start, (*self._extra, (start, digest_of(data[:HEADER_BYTES]))))
        chain.extend(data, now=now)
        return chain

    def _give_way(self, height: int, fresh: bytes) -> None:
        """Cut off what is at hand from ``height`` on, in favour of a verified branch with more work."""
        if height <= self.settled:
            message = f"this branch leaves the chain at {height}, below its last pinned header"
            raise ProofRejected("silexium.header-pin", message)
        record = self._record
        if record.tip - height >= _BATCH:
            raise ProofRejected("silexium.header-branch", f"this branch leaves the chain too far back, at {height}")
        ours = self.headers(height, _BATCH)
        if work_of(fresh) <= work_of(ours):
            message = f"from {height} on the headers at hand stand for as much work as these, or more"
            raise ProofRejected("silexium.header-branch", message, evidence={"height": height})
        kept = height - record.base
        with self._data.open("rb") as file:
            digest = _hash_of(file, kept * HEADER_BYTES)
        work = record.work - work_of(ours)
        self._publish(HeaderRecord(record.network, record.base, kept, digest.hexdigest(), work), digest)

    def _append(self, fresh: bytes) -> None:
        record = self._record
        end = record.count * HEADER_BYTES
        descriptor = os.open(self._data, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(end)  # what a crash has left behind the record
            file.seek(end)
            file.write(fresh)
            file.flush()
            os.fsync(file.fileno())
        digest = self._digest.copy()
        digest.update(fresh)
        count = record.count + len(fresh) // HEADER_BYTES
        work = record.work + work_of(fresh)
        self._publish(HeaderRecord(record.network, record.base, count, digest.hexdigest(), work), digest)

    def _publish(self, record: HeaderRecord, digest: hashlib._Hash) -> None:
        durable_write(self._state, record.encode())
        self._record, self._digest, self._seen = record, digest, self._version()

    def _version(self) -> tuple[int, int] | None:
        try:
            status = self._state.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_oserror(error, "reading block headers") from error
        return status.st_ino, status.st_mtime_ns

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self.refresh()
            yield
        finally:
            os.close(descriptor)

    def _check_file(self, record: HeaderRecord) -> hashlib._Hash:
        try:
            with self._data.open("rb") as file:
                digest = _hash_of(file, record.count * HEADER_BYTES)
                if digest.hexdigest() != record.sha256:
                    raise LocalFault("storage.headers", f"{self._data} is not as it was left")
                for height, pin in self._pins.items():
                    if record.base <= height <= record.tip:
                        raw = os.pread(file.fileno(), HEADER_BYTES, (height - record.base) * HEADER_BYTES)
                        if digest_of(raw) != pin:
                            message = f"header {height} in {self._data} is not the pinned one"
                            raise ProofRejected("silexium.header-pin", message, evidence={"height": height})
        except FileNotFoundError as error:
            raise LocalFault("storage.headers", f"{self._data} is gone") from error
        except OSError as error:
            raise from_oserror(error, "reading block headers") from error
        return digest


def _decode(data: bytes, path: Path, network: Network) -> HeaderRecord:
    try:
        table = json.loads(data)
        members = (table["network"], table["base"], table["count"], table["sha256"])
        record = HeaderRecord(*members, work=int(table["work"], 16))
        if table["protocol"] != _PROTOCOL or record.encode() != data or record.network != network.name:
            raise ValueError("another protocol, another network, or another spelling")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LocalFault("storage.headers", f"{path} is damaged: {error}") from error
    return record


def _hash_of(file: BinaryIO, length: int) -> hashlib._Hash:
    """The SHA-256 of the first ``length`` bytes; of fewer where the file is shorter, which no record matches."""
    digest, at = hashlib.sha256(), 0
    while at < length:
        piece = os.pread(file.fileno(), min(2**20, length - at), at)
        if not piece:
            break
        digest.update(piece)
        at += len(piece)
    return digest


def _batches(source: BinaryIO, first: int) -> Iterator[bytes]:
    """Whole headers, ``first`` of them and then batch by batch."""
    wanted = first * HEADER_BYTES
    while batch := _read(source, wanted):
        if len(batch) % HEADER_BYTES:
            raise ProofRejected("silexium.header", f"{len(batch)} bytes are not a run of 80-byte headers")
        yield batch
        wanted = _BATCH * HEADER_BYTES


def _read(source: BinaryIO, wanted: int) -> bytes:
    data = bytearray()
    while len(data) < wanted and (piece := source.read(wanted - len(data))):
        data += piece
    return bytes(data)


def _common(known: bytes, batch: bytes) -> int:
    """How many headers at the front are the same."""
    if known == batch[: len(known)]:
        return len(known) // HEADER_BYTES
    at = next(at for at, (ours, theirs) in enumerate(zip(known, batch, strict=False)) if ours != theirs)
    return at // HEADER_BYTES
