"""Section 3.8: re-puts about every hour with jitter, retries, and the lag alarm. Virtual time throughout."""

from __future__ import annotations

import random

import pytest

from libreseed.dht.upkeep import Alarm, Duty, Upkeep

_HOUR = 3600.0
_RECORD = Duty("demo@1.0.0", "record")


def _upkeep(jitter: float = 0.1, draw: float = 1.0) -> Upkeep:
    return Upkeep(random=lambda: draw, jitter=jitter, grace=0.5, retry=15.0)


def test_a_new_duty_is_due_at_once() -> None:
    upkeep = _upkeep()
    upkeep.add(_RECORD, interval=_HOUR, now=100.0)
    assert upkeep.next_time() == 100.0
    assert upkeep.take_due(100.0, at_most=5) == [_RECORD]


def test_a_running_duty_is_not_handed_out_twice() -> None:
    upkeep = _upkeep()
    upkeep.add(_RECORD, interval=_HOUR, now=0.0)
    upkeep.take_due(0.0, at_most=5)
    assert upkeep.take_due(10 * _HOUR, at_most=5) == []
    assert upkeep.next_time() is None


def test_adding_a_known_duty_again_does_not_hand_it_out_again() -> None:
    upkeep = _upkeep()
    upkeep.add(_RECORD, interval=_HOUR, now=0.0)
    upkeep.succeeded(*upkeep.take_due(0.0, at_most=1), 0.0)
    upkeep.add(_RECORD, interval=_HOUR, now=1.0)
    assert upkeep.take_due(1.0, at_most=1) == []


def test_a_success_comes_again_within_one_interval_and_jitter_only_shortens_it() -> None:
    upkeep = Upkeep(random=random.Random(7).random, jitter=0.1)
    duties = [Duty(f"demo@1.0.{number}", "record") for number in range(200)]
    for duty in duties:
        upkeep.add(duty, interval=_HOUR, now=0.0)
    for duty in upkeep.take_due(0.0, at_most=1000):
        upkeep.succeeded(duty, 0.0)
    assert upkeep.take_due(0.9 * _HOUR - 1, at_most=1000) == []
    first_half = upkeep.take_due(0.95 * _HOUR, at_most=1000)
    assert 60 < len(first_half) < 140  # they have drifted apart
    assert len(first_half) + len(upkeep.take_due(_HOUR, at_most=1000)) == 200


def test_a_postponed_duty_waits_for_its_interval_or_a_recall_and_is_neither_failed_nor_done() -> None:
    upkeep = _upkeep(jitter=0.0)
    upkeep.add(_RECORD, interval=100.0, now=0.0)
    for now in (0.0, 100.0, 200.0):
        assert upkeep.take_due(now, at_most=1) == [_RECORD]
        upkeep.postponed(_RECORD, now)
        assert upkeep.take_due(now + 99, at_most=1) == [] and upkeep.late(now + 99) == []
    assert upkeep.last_success(_RECORD) is None
    assert upkeep.recall(210.0) == 1 and upkeep.take_due(210.0, at_most=2) == [_RECORD]
    assert upkeep.recall(210.0) == 0  # it is being done
    upkeep.failed(_RECORD, 211.0, "nobody took it")
    assert [late.failures for late in upkeep.late(361.0)] == [1]


def test_a_postponed_duty_that_is_discarded_is_not_recalled() -> None:
    upkeep = _upkeep()
    upkeep.add(_RECORD, interval=100.0, now=0.0)
    upkeep.take_due(0.0, at_most=1)
    upkeep.postponed(_RECORD, 0.0)
    upkeep.discard(_RECORD.owner)
    assert upkeep.recall(1.0) == 0 and upkeep.next_time() is None


def test_failures_back_off_and_never_pause_longer_than_the_interval() -> None:
    upkeep = _upkeep(jitter=0.0)
    upkeep.add(_RECORD, interval=100.0, now=0.0)
    now, pauses = 0.0, []
    for _ in range(6):
        assert upkeep.take_due(now, at_most=1) == [_RECORD]
        upkeep.failed(_RECORD, now, "no node answered")
        due = upkeep.next_time()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses == [15.0, 30.0, 60.0, 100.0, 100.0, 100.0]


def test_thousands_of_failures_do_not_overflow_the_pause() -> None:
    upkeep = _upkeep(jitter=0.0)
    upkeep.add(_RECORD, interval=100.0, now=0.0)
    for turn in range(3000):
        upkeep.take_due(turn * 100.0, at_most=1)
        upkeep.failed(_RECORD, turn * 100.0, "x")
    assert upkeep.next_time() == 2999 * 100.0 + 100.0


def test_a_duty_is_late_only_after_interval_plus_grace_and_the_alarm_is_an_edge() -> None:
    upkeep = _upkeep(jitter=0.0)
    upkeep.add(_RECORD, interval=100.0, now=0.0)
    upkeep.take_due(0.0, at_most=1)
    upkeep.succeeded(_RECORD, 0.0)
    assert upkeep.late(150.0) == [] and upkeep.take_alarms(150.0) == []
    upkeep.take_due(100.0, at_most=1)
    upkeep.failed(_RECORD, 100.0, "no node answered")
    (late,) = upkeep.late(151.0)
    assert (late.duty, late.seconds, late.failures, late.last_fault) == (_RECORD, 1.0, 1, "no node answered")
    assert upkeep.take_alarms(151.0) == [Alarm(_RECORD, True, "no node answered")]
    assert upkeep.take_alarms(152.0) == []
    upkeep.take_due(152.0, at_most=1)
    upkeep.succeeded(_RECORD, 152.0)
    assert upkeep.take_alarms(152.0) == [Alarm(_RECORD, False, "")]
    assert upkeep.late(152.0) == []


def test_a_duty_stuck_in_progress_becomes_late_too() -> None:
    upkeep = _upkeep()
    upkeep.add(_RECORD, interval=100.0, now=0.0)
    upkeep.take_due(0.0, at_most=1)
    assert [late.duty for late in upkeep.late(200.0)] == [_RECORD]


def test_the_outcome_of_a_discarded_duty_is_ignored() -> None:
    upkeep = _upkeep()
    upkeep.add(_RECORD, interval=100.0, now=0.0)
    upkeep.take_due(0.0, at_most=1)
    upkeep.discard("demo@1.0.0")
    upkeep.succeeded(_RECORD, 1.0)
    upkeep.failed(_RECORD, 1.0, "x")
    assert len(upkeep) == 0 and upkeep.next_time() is None and upkeep.late(10**6) == []


def test_a_duty_discarded_and_added_again_is_handed_out_once() -> None:
    upkeep = _upkeep()
    for _ in range(3):
        upkeep.add(_RECORD, interval=100.0, now=0.0)
        upkeep.discard("demo@1.0.0")
    upkeep.add(_RECORD, interval=100.0, now=0.0)
    assert upkeep.take_due(0.0, at_most=10) == [_RECORD]


def test_the_longest_overdue_comes_first_and_the_limit_holds() -> None:
    upkeep = _upkeep()
    for number in range(10):
        upkeep.add(Duty(f"r{number}", "record"), interval=_HOUR, now=0.0, delay=float(10 - number))
    assert [duty.owner for duty in upkeep.take_due(100.0, at_most=3)] == ["r9", "r8", "r7"]


@pytest.mark.parametrize("bad", [{"interval": 0.0, "delay": 0.0}, {"interval": 1.0, "delay": -1.0}])
def test_impossible_times_are_refused(bad: dict[str, float]) -> None:
    upkeep = _upkeep()
    with pytest.raises(ValueError):
        upkeep.add(_RECORD, interval=bad["interval"], now=0.0, delay=bad["delay"])
    assert len(upkeep) == 0
