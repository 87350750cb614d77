# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Schedulers, decision by decision, and which of them a bundle can serve."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dff_ros.config import SCHEDULERS, DffConfig, KeyframeConfig
from dff_ros.errors import ConfigError
from dff_ros.model_spec import ModelSpec
from dff_ros.schedulers import check_scheduler, make_scheduler
from dff_ros.scheduling import Measured, Reason, Signal
from dff_ros.types import Action

SPEC = ModelSpec(class_names=('road', 'car'), class_colours=((1, 2, 3), (4, 5, 6)))
CONTENT = ('motion', 'residual', 'learned', 'budget')
STILL = Measured(motion_px=0.5, coverage=1.0, residual=0.4, disagreement=0.001)


def decide(scheduler: str, signal: Signal | None, **settings: object) -> tuple[str, str]:
    decision = make_scheduler(KeyframeConfig(scheduler=scheduler, **settings)).decide(signal)
    assert decision.reason in Reason
    return decision.action.value, decision.reason


def seen(measured: Measured | None = STILL, **changes: float) -> Signal:
    return dataclasses.replace(Signal(3, 0.3, 0.1, 0.2, measured), **changes)


def test_without_a_key_frame_every_scheduler_waits_for_one():
    for name in SCHEDULERS:
        assert decide(name, None) == ('refresh_now', 'no_key')


@pytest.mark.parametrize(
    ('signal', 'expected'),
    [
        (Signal(1, 0.1), ('propagate', 'within_interval')),
        (Signal(4, 0.4), ('propagate', 'within_interval')),
        (Signal(5, 0.5), ('refresh', 'interval')),
        (Signal(9, 0.5), ('refresh', 'interval')),
        (Signal(1, 1.0), ('propagate', 'within_interval')),
        (Signal(1, 1.001), ('refresh_now', 'max_age')),
        (Signal(5, 1.001), ('refresh_now', 'max_age')),  # waiting wins over the background
        (seen(change=1.0, key_change=1.0), ('propagate', 'within_interval')),  # blind to content
    ],
)
def test_fixed_interval(signal, expected):
    assert decide('fixed', signal, interval=5, max_age_s=1.0, max_interval=2) == expected


@pytest.mark.parametrize(
    ('signal', 'expected'),
    [
        (Signal(30, 0.399), ('propagate', 'within_period')),
        (Signal(1, 0.4), ('refresh', 'period')),
        (Signal(1, 1.001), ('refresh_now', 'max_age')),
        (Signal(100, 0.3), ('propagate', 'within_period')),
        (Signal(19, 0.0), ('propagate', 'within_period')),  # a source without stamps
        (Signal(20, 0.0), ('refresh', 'max_interval')),
        (seen(change=1.0, key_change=1.0), ('propagate', 'within_period')),
    ],
)
def test_period(signal, expected):
    assert decide('period', signal, period_s=0.4, max_age_s=1.0, max_interval=20) == expected


@pytest.mark.parametrize(
    ('scheduler', 'measured', 'expected'),
    [
        ('motion', Measured(29.9, 1.0, 99, 0.9), ('propagate', 'within_limits')),
        ('motion', Measured(30.0, 1.0, 0, None), ('refresh', 'motion')),
        ('motion', Measured(5.0, 0.81, 0, None), ('propagate', 'within_limits')),
        ('motion', Measured(5.0, 0.79, 0, None), ('refresh', 'coverage')),
        ('residual', Measured(99, 0.1, 7.9, 0.9), ('propagate', 'within_limits')),
        ('residual', Measured(0, 1.0, 8.0, None), ('refresh', 'residual')),
        ('learned', Measured(99, 0.1, 99, 0.9), ('propagate', 'within_limits')),  # its sum counts
        ('motion', None, ('propagate', 'within_limits')),
        ('residual', None, ('propagate', 'within_limits')),
        ('learned', None, ('propagate', 'within_limits')),
    ],
)
def test_content_limits(scheduler, measured, expected):
    limits = {'motion_px': 30.0, 'min_coverage': 0.8, 'residual': 8.0, 'disagreement': 0.04}
    assert decide(scheduler, seen(measured), **limits) == expected


@pytest.mark.parametrize(
    ('disagreement_sum', 'expected'),
    [(0.039, ('propagate', 'within_limits')), (0.04, ('refresh', 'disagreement'))],
)
def test_learned_goes_by_what_has_added_up(disagreement_sum, expected):
    signal = dataclasses.replace(seen(STILL), disagreement_sum=disagreement_sum)
    assert decide('learned', signal, disagreement=0.04) == expected


@pytest.mark.parametrize('scheduler', CONTENT)
@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'change': 0.71}, ('refresh_now', 'cut')),
        ({'change': 0.7}, ('propagate', 'within_limits')),
        ({'change': 0.71, 'measured': None}, ('refresh_now', 'cut')),
        ({'change': 0.71, 'seconds_since_key': 9.0}, ('refresh_now', 'cut')),
        ({'frames_since_key': 39}, ('propagate', 'within_limits')),
        ({'frames_since_key': 40}, ('refresh', 'max_interval')),
        ({'frames_since_key': 40, 'seconds_since_key': 1.6}, ('refresh_now', 'max_age')),
        ({'seconds_since_key': 1.5}, ('propagate', 'within_limits')),
    ],
)
def test_every_scheduler_that_looks_at_content_has_the_same_caps(scheduler, changes, expected):
    caps = {'cut': 0.7, 'max_interval': 40, 'max_age_s': 1.5}
    assert decide(scheduler, seen(**changes), **caps) == expected


def test_residual_needs_no_propagation_to_see_that_nothing_is_left_of_the_key_frame():
    assert decide('residual', seen(None, key_change=0.7)) == ('refresh', 'key_change')
    assert decide('residual', seen(None, key_change=0.69)) == ('propagate', 'within_limits')
    assert decide('motion', seen(None, key_change=0.7)) == ('propagate', 'within_limits')


def test_a_limit_of_1_looks_for_no_cuts():
    assert decide('residual', seen(STILL, change=1.0), cut=1.0) == ('propagate', 'within_limits')


def test_a_limit_of_zero_is_broken_by_any_figure_above_it():
    assert decide('motion', seen(), motion_px=0.0) == ('refresh', 'motion')
    assert decide('residual', seen(), residual=0.0) == ('refresh', 'residual')
    assert decide('motion', seen(Measured(0.0, 1.0, 0.0, None)), motion_px=0.0)[0] == 'propagate'


@given(
    scheduler=st.sampled_from(SCHEDULERS),
    measured=st.none()
    | st.builds(Measured, st.floats(0, 1e4), st.floats(0, 1), st.floats(0, 255), st.floats(0, 1)),
    frames=st.integers(1, 2000),
    seconds=st.floats(0, 100),
    change=st.floats(0, 1),
    key_change=st.floats(0, 1),
)
def test_no_signal_gets_past_the_age_cap(scheduler, measured, frames, seconds, change, key_change):
    config = KeyframeConfig(scheduler=scheduler, max_age_s=2.0, max_interval=60)
    decision = make_scheduler(config).decide(Signal(frames, seconds, change, key_change, measured))
    if seconds > 2.0:
        assert decision.action is Action.REFRESH_NOW
    if frames >= 60 and scheduler not in ('fixed', 'period'):
        assert decision.action is not Action.PROPAGATE
    if decision.action is Action.REFRESH_NOW:
        assert decision.reason in (Reason.MAX_AGE, Reason.CUT)


def test_learned_says_what_is_missing_where_nothing_is_predicted():
    with pytest.raises(ConfigError, match='predicts no disagreement'):
        decide('learned', seen(dataclasses.replace(STILL, disagreement=None)))


@pytest.mark.parametrize(
    ('settings', 'flow', 'message'),
    [
        ({'scheduler': 'learned'}, 'bundle', "scheduler: got 'learned', .* serve fixed, period, motion, res"),
        (
            {'scheduler': 'motion'},
            'zero',
            "scheduler: got 'motion', but with flow zero .* fixed, period, res",
        ),
        ({'scheduler': 'budget', 'budget_over': 'learned'}, 'bundle', "'learned', .* serve .* residual$"),
    ],
)
def test_a_scheduler_that_the_bundle_cannot_serve_is_refused(settings, flow, message):
    config = DffConfig(flow=flow, keyframe=KeyframeConfig(**settings))
    with pytest.raises(ConfigError, match=message):
        check_scheduler(config, SPEC)


@pytest.mark.parametrize('name', ['fixed', 'period', 'motion', 'residual', 'budget'])
def test_the_others_are_served_by_every_bundle(name):
    check_scheduler(DffConfig(keyframe=KeyframeConfig(scheduler=name)), SPEC)
