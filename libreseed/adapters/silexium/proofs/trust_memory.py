"""What this machine remembers of each log, and which entry it saw for each release, below a store (G7, G8).

``silexium/logs/<log>.json`` is the :class:`LogMemory`, ``silexium/entries/<release>.<log>.json`` the entry seen,
``silexium/evidence/*.json`` what proves that a log has misbehaved, for people to read and publish. <log> is the first
16 hex digits of BLAKE3 of the log's origin. Every file appears whole and durably. A damaged one is a refusal
(``silexium.memory``), never "nothing was seen": that would lift the protection.

Two processes may learn of one log at once: :meth:`TrustMemory.keep` writes only on top of what its caller has read.
Nothing here verifies a proof. Every function blocks. Specification: ``resolver.md``, "Step 10".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from libreseed import limits, wire
from libreseed.adapters.files.durable import durable_write
from libreseed.adapters.resolving.store import ReleaseLock
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import Blake3Digest, ReleaseId
from libreseed.silexium.log_memory import HeadConflict, LogMemory, parse_memory
from libreseed.silexium.tree_head import NamedKey

__all__ = ["Remembered", "TrustMemory"]

_ENTRY_PROTOCOL = "silexium-entry-seen-v1"
_ENTRY_BYTES = 1024
_PASSING = ("inclusion", "noticed", "source", "sth")  # of a finding: what does not make it another one
_HOW_TO_CHECK = (
    "Both heads carry the log's own Ed25519 signature over 'cosignature/v1', LF, 'time <timestamp>', LF, and the "
    "checkpoint's three lines (origin, size, base64 root). With equal sizes and different roots nothing else is "
    "needed; else hashing the nodes leads to the root of the larger head and to another root at the smaller one's size "
    "(docs/specification/silexium.md, 6)."
)

_ANOTHER_KEY = (
    "That file has rotted, or another key than the policy names has signed it. A log keeps its key for life: correct "
    "the policy, or, if you know that the log began anew under its old name, move the file away."
)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was read of one log for one release; ``data`` are the exact bytes of the memory (None: there is none)."""

    log: NamedKey
    memory: LogMemory | None
    entry: Blake3Digest | None
    data: bytes | None


class TrustMemory:
    """``TrustMemory(store_root)``; folders are made on the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root / "silexium"
        self._lock = root / "locks" / "silexium.lock"

    def recall(self, log: NamedKey, release: ReleaseId) -> Remembered:
        """What is known of ``log`` and of the entry of ``release`` in it.

        Raises ``silexium.memory`` when damaged, or the reasons of its heads (the log's key was changed in the policy),
        with the file in evidence["memory"].
        """
        data = _read(self._memory_path(log), limits.LOG_MEMORY_BYTES)
        return Remembered(log, self._parsed(data, log), self._entry(log, release), data)

    def keep(self, before: Remembered, memory: LogMemory, release: ReleaseId, entry: Blake3Digest) -> bool:
        """Write what was learned; False, and nothing is written, if another process has written since ``before``."""
        path = self._memory_path(before.log)
        with self._locked():
            if _read(path, limits.LOG_MEMORY_BYTES) != before.data or self._entry(before.log, release) != before.entry:
                return False
            data = wire.canonical(memory.members())
            if data != before.data:
                _write(path, data)
            if entry != before.entry:
                self._write_entry(before.log, release, entry)
        return True

    def keep_conflict(self, log: NamedKey, conflict: HeadConflict, told: Mapping[str, str]) -> Path:
        """Write the proof that ``log`` has forked: it refuses every later head. Returns the file for people to read.

        ``told`` is added to that file: when it was noticed, for which release, whose answer showed it.
        """
        with self._locked():
            data = _read(self._memory_path(log), limits.LOG_MEMORY_BYTES)
            memory = self._parsed(data, log) or LogMemory(conflict.first)
            evidence = self._evidence(log, "fork", {**told, "how_to_check": _HOW_TO_CHECK, **conflict.members()})
            if memory.conflict is None:
                _write(self._memory_path(log), wire.canonical(replace(memory, conflict=conflict).members()))
        return evidence

    def keep_second_entry(self, log: NamedKey, told: Mapping[str, wire.JsonValue]) -> Path:
        """Write down that ``log`` holds two entries for one release; returns the file."""
        with self._locked():
            return self._evidence(log, "second-entry", told)

    def conflict(self, log: NamedKey) -> HeadConflict | None:
        """The proof that ``log`` has forked, if one is kept."""
        memory = self._parsed(_read(self._memory_path(log), limits.LOG_MEMORY_BYTES), log)
        return None if memory is None else memory.conflict

    def _parsed(self, data: bytes | None, log: NamedKey) -> LogMemory | None:
        if data is None:
            return None
        try:
            return parse_memory(data, log)
        except ProofRejected as error:
            path = str(self._memory_path(log))
            error.evidence = {**error.evidence, "memory": path}
            error.details = (*error.details, f"what is remembered of {log.name} does not hold: {path}")
            if error.reason == "silexium.head-signature":
                error.details += (_ANOTHER_KEY,)
            raise

    def _entry(self, log: NamedKey, release: ReleaseId) -> Blake3Digest | None:
        path = self._entry_path(log, release)
        data = _read(path, _ENTRY_BYTES)
        if data is None:
            return None
        try:
            members = wire.require_members(
                wire.parse(data, max_bytes=_ENTRY_BYTES), ("entry", "log", "protocol", "release")
            )
            seen = members["protocol"], members["release"], members["log"]
            if seen != (_ENTRY_PROTOCOL, str(release), log.name):
                raise Malformed("encoding.range", "it is about something else")
            return Blake3Digest.parse(members["entry"])
        except Malformed as error:
            raise ProofRejected("silexium.memory", f"{path} is damaged: {error}") from error

    def _write_entry(self, log: NamedKey, release: ReleaseId, entry: Blake3Digest) -> None:
        members = {"protocol": _ENTRY_PROTOCOL, "release": str(release), "log": log.name, "entry": str(entry)}
        _write(self._entry_path(log, release), wire.canonical(members))

    def _evidence(self, log: NamedKey, what: str, members: Mapping[str, wire.JsonValue]) -> Path:
        """One file per finding; the same finding again, under whichever head, is the same file."""
        told = {"what": f"silexium.{what}", "log": log.name, "key": str(log.key), **members}
        data = (json.dumps(told, indent=2, ensure_ascii=True) + "\n").encode()
        lasting = {name: value for name, value in told.items() if name not in _PASSING}
        path = self.root / "evidence" / f"{what}.{_name(log)}.{blake3(wire.canonical(lasting)).hexdigest()[:16]}.json"
        if not path.exists():
            _write(path, data)
        return path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with closing(ReleaseLock(self._lock)) as lock:
            lock.acquire(wait=True)
            yield

    def _memory_path(self, log: NamedKey) -> Path:
        return self.root / "logs" / f"{_name(log)}.json"

    def _entry_path(self, log: NamedKey, release: ReleaseId) -> Path:
        return self.root / "entries" / f"{release}.{_name(log)}.json"


def _name(log: NamedKey) -> str:
    return blake3(log.name.encode()).hexdigest()[:16]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    durable_write(path, data)


def _read(path: Path, most: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except FileNotFoundError:
        return None
