"""The clock of runs that have an end: a standstill of the process is nobody's silence."""

from __future__ import annotations

import time

import trio

from libreseed.adapters.command.awake_clock import AwakeClock


class Wall:
    """Somebody's seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_goes_as_the_wall_does_while_somebody_looks() -> None:
    wall = Wall()
    clock = AwakeClock(wall)
    clock.start_clock()
    began = clock.current_time()
    for _ in range(100):
        wall.now += 0.5
        clock.current_time()
    assert clock.current_time() - began == 50


def test_a_standstill_counts_for_no_more_than_a_beat() -> None:
    wall = Wall()
    clock = AwakeClock(wall)
    clock.start_clock()
    began = clock.current_time()
    wall.now += 3600
    assert clock.current_time() - began == 0.5
    wall.now += 1
    assert clock.current_time() - began == 1.5


def test_no_sleep_hides_a_standstill() -> None:
    clock = AwakeClock(Wall())
    now = clock.current_time()
    assert clock.deadline_to_sleep_time(now + 0.2) < 0.3
    assert clock.deadline_to_sleep_time(now + 100) == clock.deadline_to_sleep_time(float("inf")) == 0.5


def test_deadlines_hold_while_it_runs_and_wait_while_it_stands_still() -> None:
    async def stands_still() -> float:
        began = trio.current_time()
        with trio.fail_after(2):
            await trio.sleep(0.1)
            time.sleep(1.95)  # all of the process: an answer that came meanwhile is not read yet
            await trio.sleep(0.1)
        return trio.current_time() - began

    async def waits() -> bool:
        with trio.move_on_after(1.2) as scope:
            await trio.sleep_forever()
        return scope.cancelled_caught

    assert trio.run(stands_still, clock=AwakeClock()) < 2
    assert trio.run(waits, clock=AwakeClock())
