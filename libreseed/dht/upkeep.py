"""When what a seeder keeps alive in the DHT is due again: a timed state machine without IO (section 3.8).

A *duty* is one thing that has to be done again and again for one release: re-put a record, announce under an info-hash.
Invariants: a duty is never handed out twice at once; a success moves it one jittered interval ahead; a failure is
retried with a doubling pause that never exceeds the interval; a postponed duty is no failure, and waits for the next
interval or a recall; a duty that has not succeeded for its interval plus the
grace is *late*, which is reported once when it begins and once when it ends.

Time is an argument (seconds of any monotonic clock), randomness is passed in. It does not know what a duty does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Alarm", "Duty", "Late", "Upkeep"]


@dataclass(frozen=True, slots=True, order=True)
class Duty:
    """One recurring task: ``kind`` (such as ``record``) for ``owner`` (what it is done for)."""

    owner: str
    kind: str


@dataclass(frozen=True, slots=True)
class Late:
    """A duty that is overdue: ``seconds`` past the moment at which it should have succeeded again."""

    duty: Duty
    seconds: float
    failures: int
    last_fault: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """An edge of lateness: ``raised`` when a duty has become late, not raised when it has caught up."""

    duty: Duty
    raised: bool
    last_fault: str


@dataclass(slots=True)
class _Entry:
    interval: float
    due: float
    deadline: float  # late from here on
    running: bool = False
    failures: int = 0
    last_fault: str = ""
    last_success: float | None = None
    alarmed: bool = False


class Upkeep:
    """The schedule of all duties of one process. Owned by one task; not thread-safe.

    ``jitter`` is the share of an interval by which the next turn may come earlier (0.1: 90 to 100 %), so that duties
    that began together drift apart and never come later than promised. ``grace`` is the share of an interval that a
    success may be missing before the duty counts as late. ``retry`` is the first pause after a failure, in seconds.
    """

    def __init__(
        self, *, random: Callable[[], float], jitter: float = 0.1, grace: float = 0.5, retry: float = 15.0
    ) -> None:
        if not 0 <= jitter < 1 or grace < 0 or retry <= 0:
            raise ValueError("jitter in [0, 1), grace >= 0, retry > 0")
        self._random = random
        self._jitter = jitter
        self._grace = grace
        self._retry = retry
        self._entries: dict[Duty, _Entry] = {}
        self._owned: dict[str, list[Duty]] = {}
        self._postponed: set[Duty] = set()
        self._heap: list[tuple[float, Duty]] = []  # entries that no longer match their duty's ``due`` are stale

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, duty: Duty, *, interval: float, now: float, delay: float = 0.0) -> None:
        """Have ``duty`` done first after ``delay`` seconds, then every ``interval``; a known duty stays as it is."""
        if interval <= 0 or delay < 0:
            raise ValueError("an interval is positive, a delay not negative")
        if duty in self._entries:
            return
        self._entries[duty] = _Entry(interval, now + delay, now + delay + interval * (1 + self._grace))
        self._owned.setdefault(duty.owner, []).append(duty)
        heapq.heappush(self._heap, (now + delay, duty))

    def discard(self, owner: str) -> None:
        """Forget all duties of ``owner``, those in progress too: their later outcome is ignored."""
        for duty in self._owned.pop(owner, []):
            del self._entries[duty]
            self._postponed.discard(duty)

    def next_time(self) -> float | None:
        """When the next duty is due; ``None`` while there is none to wait for."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float, *, at_most: int) -> list[Duty]:
        """Up to ``at_most`` due duties, the longest overdue first; report each by succeeded or failed."""
        taken: list[Duty] = []
        while len(taken) < at_most:
            self._drop_stale()
            if not self._heap or self._heap[0][0] > now:
                break
            _, duty = heapq.heappop(self._heap)
            self._entries[duty].running = True
            self._postponed.discard(duty)
            taken.append(duty)
        return taken

    def succeeded(self, duty: Duty, now: float) -> None:
        """``duty`` was done and confirmed."""
        if (entry := self._entries.get(duty)) is None:
            return
        entry.failures, entry.last_fault, entry.last_success = 0, "", now
        entry.deadline = now + entry.interval * (1 + self._grace)
        self._reschedule(duty, entry, now + entry.interval * (1 - self._jitter * self._random()))

    def failed(self, duty: Duty, now: float, fault: str) -> None:
        """``duty`` could not be done; ``fault`` is one line for a person."""
        if (entry := self._entries.get(duty)) is None:
            return
        entry.failures += 1
        entry.last_fault = fault
        pause = min(self._retry * 2 ** min(entry.failures - 1, 16), entry.interval)
        self._reschedule(duty, entry, now + pause * (1 - self._jitter * self._random()))

    def postponed(self, duty: Duty, now: float) -> None:
        """There is nobody yet to do ``duty`` with: due again after its interval, or when it is recalled."""
        if (entry := self._entries.get(duty)) is None:
            return
        self._postponed.add(duty)
        entry.failures, entry.last_fault = 0, ""
        entry.deadline = now + entry.interval * (1 + self._grace)
        self._reschedule(duty, entry, now + entry.interval * (1 - self._jitter * self._random()))

    def recall(self, now: float) -> int:
        """Make every postponed duty due at once, and late if it is not done within its interval; returns how many."""
        for duty in self._postponed:
            entry = self._entries[duty]
            entry.deadline = now + entry.interval * (1 + self._grace)
            self._reschedule(duty, entry, now)
        count = len(self._postponed)
        self._postponed.clear()
        return count

    def last_success(self, duty: Duty) -> float | None:
        """When ``duty`` last succeeded; ``None`` if never."""
        entry = self._entries.get(duty)
        return entry.last_success if entry else None

    def late(self, now: float) -> list[Late]:
        """All duties that are overdue at ``now``, the worst first."""
        found = [
            Late(duty, now - entry.deadline, entry.failures, entry.last_fault)
            for duty, entry in self._entries.items()
            if now > entry.deadline
        ]
        return sorted(found, key=lambda late: -late.seconds)

    def take_alarms(self, now: float) -> list[Alarm]:
        """What became late and what caught up since the last call."""
        alarms: list[Alarm] = []
        for duty, entry in self._entries.items():
            if (now > entry.deadline) != entry.alarmed:
                entry.alarmed = not entry.alarmed
                alarms.append(Alarm(duty, entry.alarmed, entry.last_fault))
        return alarms

    def _reschedule(self, duty: Duty, entry: _Entry, due: float) -> None:
        entry.running, entry.due = False, due
        heapq.heappush(self._heap, (due, duty))

    def _drop_stale(self) -> None:
        while self._heap:
            due, duty = self._heap[0]
            entry = self._entries.get(duty)
            if entry is not None and not entry.running and entry.due == due:
                return
            heapq.heappop(self._heap)
