"""The server's one task: it goes on after a fault of this machine, and wakes when it is rung."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from libreseed import limits
from libreseed.adapters.silexium.releases.publication import Advanced
from libreseed.errors import LocalFault
from services.silexium.pump import Pump
from services.silexium.wake import WakeBell, wake_server


@dataclass
class Steps:
    """A publication that does what it is told to, step by step."""

    script: list[Callable[[], None]]
    taken: list[int] = field(default_factory=list)
    due: int = 0

    async def advance(self, now: int) -> Advanced:
        self.taken.append(now)
        if len(self.taken) <= len(self.script):
            self.script[len(self.taken) - 1]()
        return Advanced(next_due=now + 10**6 if not self.due else self.due, signed=True)


def fail(error: BaseException) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


FULL = LocalFault("storage.full", "no space")


@pytest.mark.parametrize(
    "error", [FULL, ExceptionGroup("stamps", [FULL]), ExceptionGroup("a", [ExceptionGroup("b", [FULL])])]
)
async def test_a_fault_of_this_machine_is_shown_and_tried_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, error: Exception
) -> None:
    bell, steps, heads = WakeBell(tmp_path / "silexium.db"), Steps([fail(error)]), []
    pump = Pump(steps, bell, lambda: heads.append(1))  # type: ignore[arg-type]  # the same interface
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        await trio.sleep(1)
        assert pump.fault is FULL
        assert heads == []
        await trio.sleep(60)
        assert len(steps.taken) == 2
        assert pump.fault is None
        assert heads == [1]
        nursery.cancel_scope.cancel()
    bell.close()


async def test_a_defect_is_not_swallowed(tmp_path: Path) -> None:
    bell = WakeBell(tmp_path / "silexium.db")
    steps: Any = Steps([fail(ExceptionGroup("both", [FULL, ZeroDivisionError()]))])
    with pytest.raises(ExceptionGroup) as caught:
        await Pump(steps, bell).run()
    bell.close()
    assert caught.value.subgroup(ZeroDivisionError) is not None


async def test_a_ring_wakes_it_at_once(tmp_path: Path) -> None:
    database = tmp_path / ("long-" * 30) / "silexium.db"  # longer than a unix socket's address may be
    database.parent.mkdir()
    assert wake_server(database) is False
    bell, steps = WakeBell(database), Steps([])
    pump = Pump(steps, bell)  # type: ignore[arg-type]  # the same interface
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        with trio.fail_after(20):
            for rung in range(3):
                while len(steps.taken) <= rung:
                    await trio.sleep(0.01)
                for _ in range(50):
                    assert wake_server(database) is True
        nursery.cancel_scope.cancel()
    bell.close()
    assert wake_server(database) is False


async def test_a_second_server_does_not_make_the_first_one_deaf(tmp_path: Path) -> None:
    database = tmp_path / "silexium.db"
    first = WakeBell(database)
    WakeBell(database).close()  # one that could not serve, because the port is the first one's
    second = WakeBell(database)
    with trio.fail_after(20):
        await first.rung()  # a new server's look is a ring, too
        assert wake_server(database) is True
        await first.rung()
        await second.rung()
    first.close()
    assert wake_server(database) is True
    second.close()
    assert (wake_server(database), list(tmp_path.iterdir())) == (False, [])


def test_more_servers_than_a_database_takes_are_refused(tmp_path: Path) -> None:
    database = tmp_path / "silexium.db"
    bells = [WakeBell(database) for _ in range(limits.SERVERS_OF_A_DATABASE)]
    with pytest.raises(LocalFault) as caught:
        WakeBell(database)
    assert caught.value.reason == "storage.locked"
    for bell in bells:
        bell.close()


async def test_the_bell_of_a_killed_server_is_taken_over(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.bind(str(tmp_path / "silexium.db.wake"))
    left.close()
    assert wake_server(tmp_path / "silexium.db") is False
    bell = WakeBell(tmp_path / "silexium.db")
    assert wake_server(tmp_path / "silexium.db") is True
    assert (tmp_path / "silexium.db.wake").stat().st_mode & 0o777 == 0o600
    bell.close()
