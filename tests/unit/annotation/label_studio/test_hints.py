"""When a look follows hints, by a clock of the test, and that a look that fails ends nothing."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass

import pytest

from annotation.label_studio.hints import Hints, Lookout
from pipeline.errors import ConfigError, UnavailableError


@dataclass
class Clock:
    """A clock that is moved by hand."""

    time_s: float = 1000.0

    def __call__(self) -> float:
        return self.time_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hints(clock: Clock) -> Hints:
    made = Hints(quiet_s=2, max_delay_s=30, poll_every_s=600, now_s=clock)
    assert made.wait_s() == 0
    made.begin()
    return made


def looks(hints: Hints, clock: Clock, until_s: float, hint_every_s: float | None = None) -> list[float]:
    """Return when looks began, with hints at a steady interval, in steps of half a second."""
    began, start_s = [], clock.time_s
    while clock.time_s - start_s < until_s:
        if not hints.wait_s():
            hints.begin()
            began.append(clock.time_s - start_s)
        if hint_every_s and (clock.time_s - start_s) % hint_every_s == 0:
            hints.hint()
        clock.time_s += 0.5
    return began


def test_without_hints_it_looks_at_once_and_then_at_the_poll_interval(clock: Clock) -> None:
    assert looks(Hints(quiet_s=2, max_delay_s=30, poll_every_s=600, now_s=clock), clock, 1500) == [0, 600, 1200]


def test_a_hint_is_followed_by_a_look_after_a_quiet_moment(hints: Hints, clock: Clock) -> None:
    hints.hint()
    assert hints.wait_s() == 2
    assert looks(hints, clock, 500) == [2]


def test_a_burst_is_one_look(hints: Hints, clock: Clock) -> None:
    for _ in range(500):
        hints.hint()
        clock.time_s += 0.01
    assert looks(hints, clock, 500) == [2]


def test_hints_without_end_delay_a_look_no_longer_than_the_limit(hints: Hints, clock: Clock) -> None:
    assert looks(hints, clock, 100, hint_every_s=1) == [30, 60, 90]


def test_a_look_after_hints_puts_off_the_next_poll(hints: Hints, clock: Clock) -> None:
    clock.time_s += 590
    hints.hint()
    assert looks(hints, clock, 700) == [2, 602]


def test_hints_never_put_off_a_poll(hints: Hints, clock: Clock) -> None:
    clock.time_s += 599
    hints.hint()
    assert hints.wait_s() == 1


@pytest.mark.parametrize("wrong", [{"quiet_s": -1}, {"max_delay_s": -1}, {"poll_every_s": 0}, {"quiet_s": math.nan}])
def test_times_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="from 0 s"):
        Hints(**{"quiet_s": 2, "max_delay_s": 30, "poll_every_s": 600, **wrong})


class Looks:
    """Looks that are counted, of which the first ones fail."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.count = 0
        self.changed = threading.Condition()

    def __call__(self) -> None:
        with self.changed:
            self.count += 1
            self.changed.notify_all()
        if self.faults:
            raise self.faults.pop(0)

    def wait_for(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.count >= count, timeout=5)


def test_a_failed_look_is_told_and_the_next_hint_looks_again(caplog: pytest.LogCaptureFixture) -> None:
    look = Looks(UnavailableError("Label Studio is away"), RuntimeError("a bug"))
    lookout = Lookout(Hints(quiet_s=0, max_delay_s=0, poll_every_s=600), look)
    with caplog.at_level(logging.INFO), lookout.looking():
        for count in (1, 2, 3):
            assert look.wait_for(count)
            lookout.hint("ANNOTATION_CREATED")
        assert look.wait_for(4)
    assert "Label Studio is away; the next hint or poll tries again" in caplog.text
    assert "a defect; the next hint or poll tries again" in caplog.text
    assert "webhook: ANNOTATION_CREATED" in caplog.text


def test_a_failed_look_is_tried_again_at_the_poll_interval() -> None:
    look = Looks(UnavailableError("Label Studio is away"))
    with Lookout(Hints(quiet_s=9, max_delay_s=9, poll_every_s=0.05), look).looking():
        assert look.wait_for(3)


def test_without_an_end_of_waiting_only_hints_lead_to_a_look() -> None:
    look = Looks()
    lookout = Lookout(Hints(quiet_s=0, max_delay_s=math.inf, poll_every_s=math.inf), look)
    with lookout.looking():
        assert look.wait_for(1)
        lookout.hint("TASKS_CREATED")
        assert look.wait_for(2)


def test_a_hint_during_a_look_asks_for_another_one() -> None:
    begun, go_on, count = threading.Event(), threading.Event(), []

    def look() -> None:
        count.append(1)
        begun.set()
        assert go_on.wait(5)

    lookout = Lookout(Hints(quiet_s=0, max_delay_s=0, poll_every_s=600), look)
    with lookout.looking():
        assert begun.wait(5)
        begun.clear()
        for _ in range(100):
            lookout.hint("TASKS_CREATED")
        go_on.set()
        assert begun.wait(5)
    assert len(count) == 2
