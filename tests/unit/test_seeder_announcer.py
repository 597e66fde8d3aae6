"""The seeder's announcer against a fake DHT node, in virtual time: what it puts and announces, and when."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from libreseed import bencode
from libreseed.adapters.dht.udp import PutReport
from libreseed.dht.items import SignedItem, sign_item
from libreseed.errors import TransportFault
from libreseed.ids import PackageName
from libreseed.keys.ed25519 import PrivateKey
from services.seeder.announcer import Announcer, Findable
from services.seeder.config import load_config

_KEY = PrivateKey(bytes(32))
_NAME = PackageName("demo")


def _item(seq: int) -> SignedItem:
    return sign_item(_KEY, b"m:demo@1.0.0", seq, bencode.encode(b"x"))


class _FakeNode:
    """Answers as told; notes when it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []
        self.answers = True
        self.newer: SignedItem | None = None
        self.seconds = 0.1
        self.alone = False

    async def _asked(self, what: str) -> None:
        self.calls.append((what, trio.current_time()))
        await trio.sleep(self.seconds)
        if not self.answers:
            raise TransportFault("source.no-bootstrap", "no DHT node answers")

    async def put_item(self, item: SignedItem) -> PutReport:
        await self._asked("put")
        return PutReport(0, 0, 0) if self.alone else PutReport(8, 8, 8, self.newer)

    async def announce_peer(self, info_hash: bytes, port: object) -> int:
        await self._asked(f"{info_hash.hex()}:{port}")
        return 0 if self.alone else 8

    async def announce_name(self, name: PackageName) -> int:
        await self._asked(str(name))
        return 0 if self.alone else 8


@asynccontextmanager
async def _announcing(node: _FakeNode, tmp_path: Path) -> AsyncIterator[Announcer]:
    config = load_config(None, {"state-dir": str(tmp_path)}, {})
    fake: Any = node
    announcer = Announcer(fake, config, ports=lambda kind: {4: 7000})
    async with trio.open_nursery() as nursery:
        await nursery.start(announcer.run)
        yield announcer
        nursery.cancel_scope.cancel()


def _findable() -> Findable:
    return Findable(_NAME, _item(1), {"peers-v1": b"\x01" * 20, "peers-v2": b"\x02" * 20})


async def test_everything_is_announced_at_once_and_again_every_interval(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    node = _FakeNode()
    async with _announcing(node, tmp_path) as announcer:
        announcer.keep("demo", _findable())
        await trio.sleep(1)
        assert sorted(what for what, _ in node.calls) == [
            "01" * 20 + ":{4: 7000}",
            "02" * 20 + ":{4: 7000}",
            "demo",
            "put",
        ]
        await trio.sleep(10 * 3600)
        puts = [at for what, at in node.calls if what == "put"]
        assert all(3240 <= later - earlier <= 3601 for earlier, later in itertools.pairwise(puts))
        assert 10 <= len(puts) <= 13
        assert len([what for what, _ in node.calls if what == "demo"]) >= 40
        assert announcer.lags() == {} and announcer.confirmed == {"demo": 8}


async def test_a_silent_dht_is_retried_with_growing_pauses_and_reported_late(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    node = _FakeNode()
    node.answers = False
    async with _announcing(node, tmp_path) as announcer:
        announcer.keep("demo", _findable())
        await trio.sleep(900)
        assert caplog.messages == ["nothing can be announced: no DHT node answers; trying again"]
        assert announcer.put_failures >= 3
        await trio.sleep(2700)
        puts = [at for what, at in node.calls if what == "put"]
        assert 6 <= len(puts) <= 14  # 15, 30, 60 ... seconds
        assert announcer.lags().keys() == {"demo", "name:demo"}
        await trio.sleep(3600)
        late = announcer.report()["late"]
        assert {one["kind"] for one in late} == {"record", "peers-v1", "peers-v2", "name"}  # type: ignore[attr-defined]
        node.answers = True
        await trio.sleep(3700)
        assert announcer.lags() == {} and caplog.messages.count("the DHT answers again") == 1


async def test_the_first_node_of_a_network_is_not_late_and_tells_the_second_at_once(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    node = _FakeNode()
    node.alone = True
    async with _announcing(node, tmp_path) as announcer:
        announcer.keep("demo", _findable())
        announcer.keep("other", _findable())
        await trio.sleep(5 * 3600)
        assert announcer.lags() == {} and announcer.report()["late"] == []
        assert (announcer.puts, announcer.put_failures, announcer.announces) == (0, 0, 0)
        assert 5 * 2 <= [what for what, _ in node.calls].count("put") <= 7 * 2  # its own copies expire otherwise
        assert caplog.messages == ["no other DHT node is known yet; this node answers for its own records itself"]
        node.alone = False
        node.calls.clear()
        await trio.sleep(20)
        assert len(node.calls) == 7 and (announcer.puts, announcer.announces) == (2, 5)
        node.alone = True  # the others have gone: that is a fault
        await trio.sleep(2 * 3600)
        assert announcer.lags().keys() == {"demo", "other", "name:demo"}
        assert "ALARM" in caplog.text


async def test_a_lookup_that_hangs_is_given_up_and_blocks_nobody(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    node = _FakeNode()
    node.seconds = 10**6
    async with _announcing(node, tmp_path) as announcer:
        for number in range(5):
            announcer.keep(f"demo{number}", _findable())
        await trio.sleep(59)
        assert len(node.calls) == 8  # at once
        await trio.sleep(120)
        assert len(node.calls) >= 20
        node.seconds = 0.1
        await trio.sleep(7200)
        assert announcer.lags() == {}


async def test_what_is_dropped_is_not_announced_again(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    node = _FakeNode()
    async with _announcing(node, tmp_path) as announcer:
        announcer.keep("demo", _findable())
        await trio.sleep(1)
        assert [item.seq for item in announcer.records_of(_NAME)] == [1]
        announcer.drop("demo")
        calls = len(node.calls)
        await trio.sleep(7200)
        assert len(node.calls) == calls and announcer.records_of(_NAME) == []


async def test_a_name_is_announced_once_for_all_its_releases_until_the_last_is_dropped(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    node = _FakeNode()
    async with _announcing(node, tmp_path) as announcer:
        for seq in (1, 3, 2):
            announcer.keep(f"demo@1.0.{seq}", Findable(_NAME, _item(seq)))
        await trio.sleep(1)
        assert [what for what, _ in node.calls].count("demo") == 1
        assert [item.seq for item in announcer.records_of(_NAME)] == [3, 2, 1]
        announcer.drop("demo@1.0.3")
        node.calls.clear()
        await trio.sleep(1000)
        assert [what for what, _ in node.calls].count("demo") == 1
        for seq in (1, 2):
            announcer.drop(f"demo@1.0.{seq}")
        node.calls.clear()
        await trio.sleep(10_000)
        assert node.calls == []


async def test_a_newer_record_in_the_dht_is_handed_on_and_counts_as_a_failure(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    node = _FakeNode()
    node.newer = _item(9)
    met: list[SignedItem] = []

    async def take(item: SignedItem) -> None:
        met.append(item)

    async with _announcing(node, tmp_path) as announcer:
        announcer.on_newer(take)
        announcer.keep("demo", _findable())
        await trio.sleep(1)
        assert met == [_item(9)]
        await trio.sleep(2 * 3600)
        late = announcer.report()["late"]
        assert [one["fault"] for one in late] == ["the DHT holds a newer record (seq 9)"]  # type: ignore[attr-defined]
