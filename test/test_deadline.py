# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The deadline controller, fed with made times: machines of constant and changing speed, with hiccups."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import pytest
from fake_backend import FakeBackend, numbered_frame
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dff_ros.config import KeyframeConfig
from dff_ros.deadline import DeadlineController
from dff_ros.engine import Engine

BUDGET_MS, MAX_INTERVAL = 33.0, 60


@dataclass
class Machine:
    """A stream with a fixed interval under a controller; `plain_ms` and `key_ms` are what its frames take. A
    key frame older than `max_age` frames is replaced at once.
    """

    controller: DeadlineController
    interval: int = 10
    plain_ms: float = 12.0
    key_ms: float = 60.0
    max_age: int = 10**9
    age: int = 0
    times_ms: list[float] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)
    skipped: list[bool] = field(default_factory=list)

    def run(self, num_frames: int) -> Machine:
        """Go on for some frames; `times_ms` (0 for a skipped one), `ages` and `skipped` tell of these."""
        self.times_ms, self.ages, self.skipped = [], [], []
        for _ in range(num_frames):
            self.age += 1
            self.skipped.append(self.controller.is_skipping)
            if self.skipped[-1]:
                self.controller.rest()
                self.times_ms.append(0.0)
                continue
            is_too_old = self.age > self.max_age
            is_key = is_too_old or self.age >= max(self.interval, self.controller.min_interval)
            self.age = 0 if is_key else self.age
            self.ages.append(self.age)
            self.times_ms.append(self.key_ms if is_key else self.plain_ms)
            self.controller.spent(
                self.times_ms[-1], is_refresh=is_key, is_refreshed=is_key, is_too_old=is_too_old
            )
        return self

    def mean_ms(self) -> float:
        return sum(self.times_ms) / len(self.times_ms)


def make_machine(budget_ms: float = BUDGET_MS, **speeds: float) -> Machine:
    return Machine(DeadlineController(budget_ms, MAX_INTERVAL), **speeds)  # type: ignore[arg-type]


def test_a_machine_that_is_fast_enough_is_left_alone():
    machine = make_machine().run(500)  # 16.8 ms a frame, though each key frame is over the budget
    assert max(machine.ages) == 9
    assert not any(machine.skipped)


def test_without_a_budget_nothing_is_ever_done():
    machine = make_machine(0.0, plain_ms=500.0, key_ms=2000.0).run(300)
    assert (max(machine.ages), any(machine.skipped)) == (9, False)


def test_a_slow_machine_gets_the_interval_that_fits_in_steps():
    machine = make_machine(plain_ms=30.0, key_ms=120.0)  # 90 ms beyond: 3 ms to spare a frame, so 30 frames
    machine.run(60)
    steps = [machine.controller.min_interval]
    for _ in range(200):
        machine.run(1)
        if machine.controller.min_interval != steps[-1]:
            steps.append(machine.controller.min_interval)
    assert steps[-1] == 30
    assert steps == sorted(steps)
    assert all(later <= math.ceil(1.5 * earlier) for earlier, later in zip(steps, steps[1:], strict=False))
    machine.run(300)
    assert machine.mean_ms() == pytest.approx(BUDGET_MS)
    assert not any(machine.skipped)


def test_frames_are_skipped_once_the_longest_interval_is_too_short():
    machine = make_machine(plain_ms=66.0, key_ms=200.0).run(1000)
    first = machine.skipped.index(True)
    assert machine.controller.min_interval == MAX_INTERVAL
    assert 20 < first < 120
    machine.run(600)
    assert machine.mean_ms() == pytest.approx(BUDGET_MS, rel=0.05)
    assert sum(machine.skipped) / 600 == pytest.approx(0.5, abs=0.05)


def test_it_recovers_by_itself():
    machine = make_machine(plain_ms=66.0, key_ms=200.0).run(400)
    machine.plain_ms, machine.key_ms = 12.0, 60.0
    machine.run(20)
    assert any(machine.skipped[:3])
    assert not any(machine.skipped[-10:])
    machine.run(400)
    assert machine.controller.min_interval < 10
    machine.run(100)
    assert max(machine.ages) == 9


def test_one_slow_frame_does_nothing():
    machine = make_machine().run(100)
    for is_key in (False, True):
        machine.controller.spent(2000.0, is_refresh=is_key, is_refreshed=is_key)
        machine.run(60)
        assert (max(machine.ages), any(machine.skipped)) == (9, False)


def test_per_frame_inference_is_given_up_where_it_does_not_fit():
    machine = make_machine(interval=1, plain_ms=12.0, key_ms=60.0).run(200)
    assert machine.controller.min_interval == 3  # 12 + 48 / 3 = 28 ms; every 2nd would be 36
    assert not any(machine.skipped)


def test_a_background_refresh_counts_what_it_slows_down():
    controller = DeadlineController(20.0, MAX_INTERVAL)
    for frame in range(400):  # every 10 frames a refresh, during which 4 frames take 27 instead of 15 ms
        in_flight, is_swap = 5 <= frame % 10 < 9, frame > 10 and frame % 10 == 9
        controller.spent(27.0 if in_flight else 15.0, is_refresh=in_flight, is_refreshed=is_swap)
    assert controller.min_interval == 10  # 48 ms beyond, 5 ms to spare a frame


def test_idle_frames_pay_for_others():
    controller = DeadlineController(10.0, 1)
    skipped = 0
    for _ in range(50):  # every second frame is idle; the others take two budgets
        skipped += controller.is_skipping
        controller.spent(20.0, is_refresh=True, is_refreshed=True)
        controller.rest()
    assert skipped == 0


def test_a_new_budget_counts_from_the_next_frame():
    machine = make_machine(plain_ms=66.0, key_ms=200.0).run(400)
    assert any(machine.skipped)
    machine.controller.configure(0.0, MAX_INTERVAL)
    assert (machine.controller.min_interval, machine.controller.is_skipping) == (1, False)
    machine.controller.configure(BUDGET_MS, 20)
    machine.run(100)
    assert machine.controller.min_interval == 20


class TimedBackend(FakeBackend):
    """Moves the clock of the process by what extract and propagate take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.extract_ms, self.propagate_ms, self.now_ns = 60, 12, 0
        monkeypatch.setattr(time, 'perf_counter_ns', lambda: self.now_ns)

    def extract(self, image_HW3):
        self.now_ns += self.extract_ms * 10**6
        return super().extract(image_HW3)

    def propagate(self, image_HW3, key):
        self.now_ns += self.propagate_ms * 10**6
        return super().propagate(image_HW3, key)


def test_the_engine_puts_off_refreshes_then_skips_and_comes_back(monkeypatch):
    backend = TimedBackend(monkeypatch)
    config = KeyframeConfig(interval=5, max_interval=20, max_age_s=3600)
    engine = Engine(backend, config, budget_ms=33.0)
    results = []

    def run(num_frames):
        numbers = range(len(results), len(results) + num_frames)
        results.extend(engine.step(numbered_frame(n % 100, stamp_ns=(1 + n) * 10**8)) for n in numbers)
        return results[-num_frames:]

    assert {r.reason for r in run(100)} == {'no_key', 'within_interval', 'interval'}
    backend.extract_ms, backend.propagate_ms = 200, 30  # 170 ms beyond, 3 to spare: more than 20 frames
    seen = run(400)
    assert max(r.age_frames for r in seen) == 19
    put_off = [r for r in seen if r.reason == 'deadline']
    assert {r.is_skipped for r in put_off} == {True, False}
    assert all(5 <= r.age_frames < 20 and not r.is_key for r in put_off if not r.is_skipped)
    assert all(r.is_idle and r.segmentation is None for r in put_off if r.is_skipped)
    first_skip = next(n for n, r in enumerate(seen) if r.is_skipped)
    assert max(r.age_frames for r in seen[:first_skip]) > 5  # the interval comes first
    backend.extract_ms, backend.propagate_ms = 60, 12
    run(400)
    seen = run(50)
    assert not any(r.is_skipped for r in seen)
    assert [r.is_key for r in seen].count(True) == 10


def test_a_budget_is_set_and_lifted_while_running(monkeypatch):
    backend = TimedBackend(monkeypatch)
    backend.propagate_ms = 90
    config = KeyframeConfig(interval=2, max_interval=4)
    engine = Engine(backend, config)
    frames = [numbered_frame(n % 100, stamp_ns=(1 + n) * 10**8) for n in range(300)]
    assert not any(engine.step(frame).is_skipped for frame in frames[:100])
    engine.configure(config, budget_ms=30.0)
    assert sum(engine.step(frame).is_skipped for frame in frames[100:200]) > 40
    engine.configure(config, budget_ms=0.0)
    assert not any(engine.step(frame).is_skipped for frame in frames[200:])


def test_a_refresh_that_ends_on_an_idle_frame_counts():
    """As with the worker and `segmentation.every`: 10 ms a frame, 65 more while a key frame is made."""
    controller = DeadlineController(20.0, MAX_INTERVAL)
    for _ in range(100):
        controller.spent(10.0, is_refresh=False, is_refreshed=False)
        controller.spent(75.0, is_refresh=True, is_refreshed=False)
        controller.rest(is_refreshed=True)
    assert controller.min_interval == 7  # 10 + 65 / 7 ms are below 20


@pytest.mark.parametrize('every', [2, 4, 5, 6])
def test_frames_are_skipped_though_others_are_idle_between_them(every):
    """As with `segmentation.every`: idle frames are none of the three that may be skipped in a row."""
    controller = DeadlineController(10.0, 2)
    answered = skipped = 0
    for number in range(2000):
        if number % every:
            controller.rest(is_skipped=False)
        elif controller.is_skipping:
            controller.rest()
            skipped += 1
        else:
            controller.spent(80.0, is_refresh=False, is_refreshed=False)
            answered += 1
    assert answered + skipped == len(range(0, 2000, every))
    assert skipped > 0
    assert 6.0 < 80.0 * answered / 2000 <= 10.5  # the budget is held, in whole frames


TIMES = st.floats(0.1, 500.0)


@given(budget=TIMES, interval=st.integers(1, 40), phases=st.lists(st.tuples(TIMES, TIMES), max_size=4))
def test_invariants_at_any_speeds(budget, interval, phases):
    """The interval stays within its limits, at most three frames in a row are skipped, and none while the
    interval could be longer.
    """
    machine = make_machine(budget, interval=interval)
    for plain_ms, extra_ms in phases:
        machine.plain_ms, machine.key_ms = plain_ms, plain_ms + extra_ms
        for _ in range(80):
            assert 1 <= machine.controller.min_interval <= MAX_INTERVAL
            if machine.controller.is_skipping:
                assert machine.controller.min_interval == MAX_INTERVAL
            machine.run(1)
        num_in_a_row = 0
        for is_skipped in machine.run(30).skipped:
            num_in_a_row = num_in_a_row + 1 if is_skipped else 0
            assert num_in_a_row <= 3


@pytest.mark.parametrize('max_age', [5, 20])
def test_where_the_cap_on_age_allows_no_longer_interval_frames_are_skipped(max_age):
    """At 10 Hz the default cap of 2 s is 20 frames, and the interval that would do is 57."""
    machine = make_machine(plain_ms=30.0, key_ms=200.0, interval=5, max_age=max_age).run(500)
    assert machine.run(1000).mean_ms() <= 1.02 * BUDGET_MS
    assert max_age < machine.controller.min_interval <= max_age + 4  # it comes after skipped ones
    assert any(machine.skipped)
    machine.plain_ms, machine.key_ms = 12.0, 60.0
    machine.run(1000)
    assert not any(machine.skipped[-100:])
    assert machine.controller.min_interval <= 5


def test_one_key_frame_forced_by_a_pause_of_the_camera_is_no_cap():
    machine = make_machine(plain_ms=30.0, key_ms=200.0, interval=5).run(500)
    settled = machine.controller.min_interval
    machine.controller.spent(200.0, is_refresh=True, is_refreshed=True, is_too_old=True)
    machine.age = 0
    machine.run(500)
    assert machine.controller.min_interval == settled == 57


@settings(max_examples=30)
@example(interval=1, plain_ms=122.0, extra_ms=1.0)
@given(interval=st.integers(1, 40), plain_ms=TIMES, extra_ms=TIMES)
def test_at_a_constant_speed_it_comes_to_rest_within_the_budget(interval, plain_ms, extra_ms):
    machine = make_machine(interval=interval, plain_ms=plain_ms, key_ms=plain_ms + extra_ms).run(600)
    settled = machine.controller.min_interval
    machine.run(40 * MAX_INTERVAL)
    if machine.plain_ms <= BUDGET_MS / 2:  # else so many are skipped that the refreshes seen are few
        assert machine.controller.min_interval == settled
    if machine.key_ms <= 4 * BUDGET_MS:  # with three in a row skipped no more can be saved
        assert machine.mean_ms() <= 1.05 * BUDGET_MS
