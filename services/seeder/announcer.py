"""Keeps releases findable: re-puts signed records with no key, announces as a peer, reads back, raises the lag alarm.

When something is due is decided by :class:`libreseed.dht.upkeep.Upkeep`; this part does it, a few at a time, and
counts. A record put that no node gives back is a failure. A record that the DHT holds in a newer edition is reported
and not fought over: a newer index by the same publisher replaces ours, a newer manifest record makes ours outdated.
The first node of a network answers for its own records itself; nothing has failed and nothing is late until it has met
another node. DESIGN 3.8.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import trio

from libreseed.adapters.dht.udp import DhtNode
from libreseed.dht.items import SignedItem
from libreseed.dht.upkeep import Duty, Upkeep
from libreseed.errors import TransportFault
from libreseed.ids import PackageName

from .config import SeederConfig

__all__ = ["LEGACY_PEERS", "Announcer", "Findable"]

_LOG = logging.getLogger("libreseed.seeder")
_PARALLEL = 8  # duties at once; each is a lookup of its own
_DUTY_SECONDS = 60.0
LEGACY_PEERS = "peers-legacy"  # announced with another port than the other kinds
_NAME = "name:"  # begins the owner of a name's own duty; a release's key has "@" and an index's "index:"


@dataclass(frozen=True, slots=True)
class Findable:
    """What makes one owner (a release, or an index) findable: its signed record, and what it is announced under."""

    name: PackageName
    record: SignedItem | None = None
    info_hashes: Mapping[str, bytes] = field(default_factory=dict)  # kind of duty -> 20 bytes


class Announcer:
    """Owns all duties towards the DHT. ``ports`` tells the TCP ports, by IP family, for a kind of announce."""

    def __init__(self, node: DhtNode, config: SeederConfig, *, ports: Callable[[str], Mapping[int, int]]) -> None:
        self._node = node
        self._config = config
        self._ports = ports
        self._on_newer: Callable[[SignedItem], Awaitable[None]] | None = None
        self._upkeep = Upkeep(random=random.SystemRandom().random, retry=config.retry_interval)
        self._owners: dict[str, Findable] = {}
        self._named: dict[PackageName, set[str]] = {}  # the owners of a name, which is announced once for all of them
        self._next_alarms = -math.inf
        self._alarm_pause = min(30.0, config.peer_interval / 8)
        self._changed = trio.Event()
        self._waiting = False  # for the first other node of the network
        self._met = False  # another node, in this run
        self._silence = ""  # what was said of a DHT that does not answer, while it does not
        self.puts = 0
        self.put_failures = 0
        self.announces = 0
        self.confirmed: dict[str, int] = {}  # owner -> nodes that gave the record back after the last put

    def on_newer(self, take: Callable[[SignedItem], Awaitable[None]]) -> None:
        """Have newer editions of our records, met in the DHT, handed to ``take``."""
        self._on_newer = take

    def keep(self, owner: str, what: Findable) -> None:
        """Do everything for ``owner`` at once, and again for as long as it is not dropped."""
        self.drop(owner)
        self._owners[owner] = what
        now = trio.current_time()
        self._named.setdefault(what.name, set()).add(owner)
        if what.record is not None:
            self._upkeep.add(Duty(owner, "record"), interval=self._config.record_interval, now=now)
        for kind in what.info_hashes:
            self._upkeep.add(Duty(owner, kind), interval=self._config.peer_interval, now=now)
        self._upkeep.add(Duty(_NAME + str(what.name), "name"), interval=self._config.peer_interval, now=now)
        self._changed.set()

    def drop(self, owner: str) -> None:
        """Stop: other nodes forget what is not repeated."""
        what = self._owners.pop(owner, None)
        self.confirmed.pop(owner, None)
        self._upkeep.discard(owner)
        if what is not None:
            self._named[what.name].discard(owner)
            if not self._named[what.name]:
                del self._named[what.name]
                self._upkeep.discard(_NAME + str(what.name))

    def records_of(self, name: PackageName) -> list[SignedItem]:
        """The signed records held for ``name``, for ``ls_records``: indexes first, then the newest releases."""
        records = [self._owners[owner].record for owner in self._named.get(name, ())]
        held = [record for record in records if record is not None]
        return sorted(held, key=lambda record: (not record.salt.startswith(b"i:"), -record.seq))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        places = trio.Semaphore(_PARALLEL)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._look_around()
                self._log_alarms()
                for duty in self._upkeep.take_due(trio.current_time(), at_most=places.value):
                    await places.acquire()
                    nursery.start_soon(self._do, duty, places)
                await self._wait(busy=places.value == 0)

    async def _wait(self, *, busy: bool) -> None:
        """Until something can be done: it is due, one has ended, one was added; else until an alarm could be raised."""
        due = None if busy else self._upkeep.next_time()
        pause = self._alarm_pause if due is None else max(0.0, due - trio.current_time())
        if self._waiting:
            pause = min(pause, self._config.retry_interval)
        with trio.move_on_after(min(pause, self._alarm_pause)):
            await self._changed.wait()
        if self._changed.is_set():
            self._changed = trio.Event()

    def _look_around(self) -> None:
        """Begin anew with everything once a second node is there."""
        self._met = self._met or not self._node.alone
        if self._waiting and self._met:
            self._waiting = False
            count = self._upkeep.recall(trio.current_time())
            _LOG.info("another DHT node is known: %d records and announcements go to it", count)

    def _wait_for_others(self, duty: Duty, now: float) -> None:
        self._upkeep.postponed(duty, now)
        if not self._waiting:
            self._waiting = True
            _LOG.info("no other DHT node is known yet; this node answers for its own records itself")

    async def _do(self, duty: Duty, places: trio.Semaphore) -> None:
        fault, alone = "it took too long", self._node.alone and not self._met
        with trio.move_on_after(_DUTY_SECONDS):
            try:
                fault = await self._attempt(duty)
            except TransportFault as error:
                self._say_silence(error.message)
                self.put_failures += duty.kind == "record"
                fault = error.message
            else:
                self._say_silence("")
        now = trio.current_time()
        if fault and alone:
            self._wait_for_others(duty, now)
        elif fault:
            if fault != self._silence:
                _LOG.info("%s: %s failed: %s", duty.owner, duty.kind, fault)
            self._upkeep.failed(duty, now, fault)
        else:
            self._upkeep.succeeded(duty, now)
        places.release()
        self._changed.set()

    def _say_silence(self, fault: str) -> None:
        """Once for all duties, of which there may be thousands; what each suffers is in its alarm and in ``status``."""
        if fault and fault != self._silence:
            _LOG.warning("nothing can be announced: %s; trying again", fault)
        elif self._silence and not fault:
            _LOG.info("the DHT answers again")
        self._silence = fault

    async def _attempt(self, duty: Duty) -> str:
        """Do it once; returns what went wrong, empty when it was confirmed."""
        if duty.kind == "name":
            taken = await self._node.announce_name(PackageName(duty.owner.removeprefix(_NAME)))
        elif (what := self._owners.get(duty.owner)) is None:
            return ""
        elif duty.kind == "record":
            assert what.record is not None
            return await self._put(duty.owner, what.record)
        else:
            taken = await self._node.announce_peer(what.info_hashes[duty.kind], self._ports(duty.kind))
        self.announces += taken > 0
        return "" if taken else "no node took the announcement"

    async def _put(self, owner: str, record: SignedItem) -> str:
        report = await self._node.put_item(record)
        if not report.asked and report.newer is None:
            return "no other DHT node is there to take the record"
        self.puts += 1
        self.confirmed[owner] = report.confirmed
        if report.newer is not None:
            if self._on_newer is not None:
                await self._on_newer(report.newer)
            return f"the DHT holds a newer record (seq {report.newer.seq})"
        if report.confirmed:
            return ""
        self.put_failures += 1
        return f"{report.accepted} of {report.asked} nodes took the record, none gave it back"

    def _log_alarms(self) -> None:
        now = trio.current_time()
        if now < self._next_alarms:  # it looks at every duty, so not at every turn
            return
        self._next_alarms = now + self._alarm_pause
        for alarm in self._upkeep.take_alarms(now):
            duty, fault = alarm.duty, alarm.last_fault or "no answer yet"
            if alarm.raised:
                _LOG.warning("ALARM %s: %s is overdue: %s", duty.owner, duty.kind, fault)
            else:
                _LOG.warning("%s: %s has caught up", duty.owner, duty.kind)

    def lags(self) -> dict[str, int]:
        """Owner -> whole seconds (at least 1) by which its worst duty is overdue; only those that are late."""
        worst: dict[str, int] = {}
        for late in self._upkeep.late(trio.current_time()):
            worst.setdefault(late.duty.owner, 1 + int(late.seconds))
        return worst

    def age_of(self, duty: Duty) -> int | None:
        """Whole seconds since ``duty`` last succeeded; None if it never did in this run."""
        last = self._upkeep.last_success(duty)
        return None if last is None else int(trio.current_time() - last)

    def report(self) -> dict[str, object]:
        """Counters and everything that is overdue, for ``status``."""
        late = self._upkeep.late(trio.current_time())
        return {
            "announces": self.announces,
            "duties": len(self._upkeep),
            "late": [
                {"failures": one.failures, "fault": one.last_fault, "kind": one.duty.kind, "owner": one.duty.owner,
                 "seconds": int(one.seconds)}
                for one in late[:100]
            ],
            "late_count": len(late),
            "put_failures": self.put_failures,
            "puts": self.puts,
        }  # fmt: skip
