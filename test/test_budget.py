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


def keys_of(config: KeyframeConfig, speeds: np.ndarray, period_s: float = 1 / 30) -> np.ndarray:
    """Whether each frame becomes a key frame, where the flow grows by `speeds` px a frame."""
    scheduler = make_scheduler(config)
    assert scheduler.decide(None).action is Action.REFRESH_NOW
    age, motion, measured, keys = 0, 0.0, None, []
    for speed in speeds:
        age, motion = age + 1, motion + float(speed)
        is_key = (
            scheduler.decide(Signal(age, age * period_s, 0.0, 0.0, measured)).action is not Action.PROPAGATE
        )
        measured = None if is_key else Measured(motion, 1.0, 0.0, None)
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


def test_a_still_camera_saves_no_more_than_the_limit_allows():
    """After an hour without motion, noise of a tenth of the limit still makes no key frame."""
    keys = keys_of(budget(max_interval=60), np.zeros(3600))
    assert set(np.diff(np.flatnonzero(keys))) == {60}
    scheduler = make_scheduler(budget())
    scheduler.decide(None)
    for age in range(1, 900):
        decision = scheduler.decide(Signal(age, age / 30, 0.0, 0.0, Measured(6.0, 1.0, 0.0, None)))
        assert decision.action is Action.PROPAGATE
    assert (
        scheduler.decide(Signal(901, 30.0, 0.0, 0.0, Measured(8.0, 1.0, 0.0, None))).reason == 'spare_budget'
    )


def test_reasons_name_the_limit_or_the_budget():
    scheduler = make_scheduler(budget(key_ratio=0.01))
    scheduler.decide(None)
    reasons = []
    for age in range(1, 6):  # each frame breaks the limit, each refresh costs
        reasons.append(
            scheduler.decide(Signal(1, 0.03, 0.0, 0.0, Measured(61.0 + age, 1.0, 0.0, None))).reason
        )
    assert reasons == ['motion', 'over_budget', 'over_budget', 'over_budget', 'over_budget']
    assert scheduler.decide(Signal(2, 0.06, 0.9, 0.0, None)).reason == 'cut'


def _late(decide: Callable[[Signal], object]) -> None:
    """A worker's refresh that ends four frames later: the age falls to 4, not to 1."""
    for age in (1, 2, 3, 4, 5, 6, 4, 5):
        decide(Signal(age, age / 30, 0.0, 0.0, Measured(1.0, 1.0, 0.0, None)))


def test_a_key_frame_counts_when_it_is_in_use_however_long_it_took():
    scheduler = make_scheduler(budget(key_ratio=0.1))
    scheduler.decide(None)
    _late(scheduler.decide)
    # Seven steps between eight decisions, one of them a swap.
    assert np.log(scheduler.threshold) == pytest.approx(0.2 * (1 - 7 * 0.1))
