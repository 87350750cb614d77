# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The budget scheduler: what it holds, by simulated streams that answer its decisions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dff_ros.config import KeyframeConfig
from dff_ros.schedulers import make_scheduler
from dff_ros.scheduling import Measured, Signal
from dff_ros.types import Action


def signal_at(
    now: int, age: int, measured: Measured | None = None, period_s: float = 1 / 30, change: float = 0.0
) -> Signal:
    """What is known of frame `now`, whose key frame came `age` frames before."""
    stamp_ns = round(now * period_s * 1e9)
    return Signal(age, age * period_s, change, measured=measured, key_number=now - age, stamp_ns=stamp_ns)


def moved(motion_px: float) -> Measured:
    return Measured(motion_px, 1.0, 0.0, None)


def keys_of(
    config: KeyframeConfig, speeds: np.ndarray, period_s: float = 1 / 30, every: int = 1
) -> np.ndarray:
    """Whether each frame that is answered, one in `every`, becomes a key frame, where the flow grows by
    `speeds` px a frame.
    """
    scheduler = make_scheduler(config)
    assert scheduler.decide(None).action is Action.REFRESH_NOW
    age, motion, measured, keys = 0, 0.0, None, []
    for now, speed in enumerate(speeds, 1):
        age, motion = age + 1, motion + float(speed)
        if now % every:
            continue
        decision = scheduler.decide(signal_at(now, age, measured, period_s))
        is_key = decision.action is not Action.PROPAGATE
        measured = None if is_key else moved(motion)
        if is_key:
            age, motion = 0, 0.0
        keys.append(is_key)
    return np.array(keys)


def budget(**changes: object) -> KeyframeConfig:
    values = {'scheduler': 'budget', 'budget_over': 'motion', 'max_age_s': 3600.0, 'max_interval': 1000}
    return KeyframeConfig(**{**values, **changes})


@pytest.mark.parametrize('ratio', [0.05, 0.1, 0.25])
@pytest.mark.parametrize('speed', [4.0, 10.0, 60.0])
def test_it_holds_the_mean_share_of_key_frames_at_any_speed(ratio, speed):
    keys = keys_of(budget(key_ratio=ratio), np.full(3000, speed))
    assert keys[500:].mean() == pytest.approx(ratio, rel=0.05)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_it_holds_it_over_stop_and_go_and_spends_more_where_it_is_fast(seed):
    rng = np.random.default_rng(seed)
    speeds = np.repeat(rng.choice([1.0, 4.0, 8.0, 16.0], 100), 40)
    keys = keys_of(budget(key_ratio=0.1), speeds)
    assert keys[400:].mean() == pytest.approx(0.1, rel=0.1)
    assert keys[400:][speeds[400:] == 16].mean() > 1.5 * keys[400:][speeds[400:] == 1].mean()


@pytest.mark.parametrize('over', ['fixed', 'period'])
def test_over_a_count_or_a_time_it_is_a_regular_interval(over):
    config = budget(budget_over=over, key_ratio=0.125)
    keys = np.flatnonzero(keys_of(config, np.zeros(2000)))
    assert set(np.diff(keys[50:])) <= {7, 8, 9}
    assert np.diff(keys[50:]).mean() == pytest.approx(8, rel=0.02)


@pytest.mark.parametrize('fps', [10, 30])
def test_it_holds_compute_per_second_of_stamps(fps):
    """5 key frames a second at 0.1 for a propagated one: at 10 Hz that is 4 of 9 frames, at 30 Hz 2 of 27."""
    config = budget(compute_per_s=5.0, propagate_cost=0.1)
    keys = keys_of(config, np.full(4000, 15.0), period_s=1 / fps)[500:]
    cost = keys + 0.1 * ~keys
    assert cost.mean() * fps == pytest.approx(5.0, rel=0.03)
    assert keys.mean() == pytest.approx({10: 4 / 9, 30: 2 / 27}[fps], rel=0.05)


@pytest.mark.parametrize(('every', 'compute_per_s'), [(2, 8.0), (5, 3.0), (5, 2.0)])
def test_it_holds_compute_where_only_some_frames_are_answered(every, compute_per_s):
    """As with `segmentation.every`: the frames between cost nothing, and their time counts."""
    config = budget(compute_per_s=compute_per_s, propagate_cost=0.1)
    keys = keys_of(config, np.full(20_000, 15.0), every=every)[500:]
    cost = keys + 0.1 * ~keys
    assert cost.mean() * 30 / every == pytest.approx(compute_per_s, rel=0.03)


def test_a_key_frame_counts_though_it_is_older_than_the_one_before_was():
    """The worker's may come into use after a pause longer than the age that the one before had."""
    scheduler = make_scheduler(budget(key_ratio=0.1))
    scheduler.decide(None)
    scheduler.decide(signal_at(2, 2, moved(1.0)))
    scheduler.decide(signal_at(12, 9, moved(1.0)))
    assert np.log(scheduler.threshold) == pytest.approx(0.2 * (1 - 0.1))


def test_a_still_camera_saves_no_more_than_the_limit_allows():
    """After an hour without motion, noise of a tenth of the limit still makes no key frame."""
    keys = keys_of(budget(max_interval=60), np.zeros(3600))
    assert set(np.diff(np.flatnonzero(keys))) == {60}
    scheduler = make_scheduler(budget())
    scheduler.decide(None)
    for age in range(1, 900):
        decision = scheduler.decide(signal_at(age, age, moved(6.0)))
        assert decision.action is Action.PROPAGATE
    assert scheduler.decide(signal_at(901, 901, moved(8.0))).reason == 'spare_budget'


def test_reasons_name_the_limit_or_the_budget():
    scheduler = make_scheduler(budget(key_ratio=0.01))
    scheduler.decide(None)
    # Each frame breaks the limit, each refresh costs.
    reasons = [scheduler.decide(signal_at(now, 1, moved(61.0 + now))).reason for now in range(1, 6)]
    assert reasons == ['motion', 'over_budget', 'over_budget', 'over_budget', 'over_budget']
    assert scheduler.decide(signal_at(6, 2, change=0.9)).reason == 'cut'


def _late(decide: Callable[[Signal], object]) -> None:
    """A worker's refresh that ends four frames later: the age falls to 4, not to 1."""
    for now, age in enumerate((1, 2, 3, 4, 5, 6, 4, 5), 1):
        decide(signal_at(now, age, moved(1.0)))


def test_a_key_frame_counts_when_it_is_in_use_however_long_it_took():
    scheduler = make_scheduler(budget(key_ratio=0.1))
    scheduler.decide(None)
    _late(scheduler.decide)
    # Seven steps between eight decisions, one of them a swap.
    assert np.log(scheduler.threshold) == pytest.approx(0.2 * (1 - 7 * 0.1))
