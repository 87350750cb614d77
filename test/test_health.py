# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How a camera is judged: rules of `/diagnostics` as functions of figures, and figures of what happened."""

from __future__ import annotations

import math

import pytest

pytest.importorskip('rclpy')

from dff_ros.diagnostics_config import DiagnosticsConfig
from dff_ros.health import CameraHealth, Figures, Level, Limits, judge
from dff_ros.mailbox import Counts

LIMITS = Limits(latency_warn_ms=50.0, latency_error_ms=100.0, stale_s=2.0)
GOOD = {
    'rate_in_hz': 30.0, 'rate_out_hz': 30.0, 'silence_s': 0.1, 'unanswered_s': 0.0, 'latency_p50_ms': 10.0,
    'latency_p99_ms': 40.0, 'key_ratio': 0.2, 'age_frames_mean': 2.0, 'age_s_mean': 0.1,
    'degraded_ratio': 0.0, 'drops': {},
}  # fmt: skip


def figures(**changes: object) -> Figures:
    return Figures(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ('changes', 'level', 'message'),
    [
        ({}, Level.OK, '30.0 answers/s, latency p99 40 ms'),
        ({'latency_p99_ms': 50.0}, Level.OK, '30.0 answers/s, latency p99 50 ms'),
        ({'latency_p99_ms': 50.5}, Level.WARN, 'latency p99 50 ms is above 50 ms'),
        ({'latency_p99_ms': 100.0}, Level.WARN, 'latency p99 100 ms is above 50 ms'),
        ({'latency_p99_ms': 101.0}, Level.ERROR, 'latency p99 101 ms is above 100 ms'),
        ({'latency_p99_ms': None}, Level.OK, 'waiting for the first answer'),
        ({'silence_s': 2.0}, Level.OK, '30.0 answers/s, latency p99 40 ms'),
        ({'silence_s': 2.5, 'latency_p99_ms': 999.0}, Level.STALE, 'no image for 2.5 s'),
        ({'unanswered_s': 2.1}, Level.ERROR, 'images come, but none was answered for 2.1 s'),
        ({'drops': {'superseded': 9, 'deadline': 3, 'inactive': 1, 'disabled': 1}}, Level.OK, '30.0 answers'),
        (
            {'drops': {'conversion': 2, 'superseded': 1}},
            Level.WARN,
            'dropped in the last second: conversion 2',
        ),
        ({'drops': {'out_of_memory': 1}}, Level.WARN, 'dropped in the last second: out_of_memory 1'),
        ({'degraded_ratio': 0.5}, Level.OK, '30.0 answers/s'),
        ({'degraded_ratio': 0.51}, Level.WARN, '51 % of the answers are degraded'),
        (
            {'latency_p99_ms': 101.0, 'drops': {'engine_error': 1}},
            Level.ERROR,
            'latency p99 101 ms is above 100 ms; dropped in the last second: engine_error 1',
        ),
    ],
)
def test_the_worst_finding_decides_and_all_are_told(changes, level, message):
    found, text = judge(figures(**changes), LIMITS)
    assert found is level
    assert text.startswith(message)


@pytest.mark.parametrize(
    ('config', 'budget_ms', 'rate_hz', 'expected'),
    [
        ({}, 0.0, 10.0, (200.0, 500.0)),  # periods of the camera
        ({}, 20.0, 10.0, (40.0, 100.0)),  # budgets
        ({}, 0.0, 0.0, (math.inf, math.inf)),  # nothing is known yet
        ({'latency_warn_ms': 30.0}, 20.0, 10.0, (30.0, 75.0)),
        ({'latency_error_ms': 90.0}, 0.0, 10.0, (200.0, 90.0)),
        ({'latency_warn_ms': 30.0, 'latency_error_ms': 90.0}, 0.0, 0.0, (30.0, 90.0)),
    ],
)
def test_limits_are_given_or_follow_from_the_budget_or_the_period(config, budget_ms, rate_hz, expected):
    limits = Limits.of(DiagnosticsConfig(**config), budget_ms, rate_hz)
    assert (limits.latency_warn_ms, limits.latency_error_ms) == expected
    assert limits.stale_s == 2.0


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def counts(received: int = 0, processed: int = 0, pending: int = 0, **dropped: int) -> Counts:
    return Counts(received=received, processed=processed, dropped=dropped, pending=pending)


def test_figures_are_of_the_window_and_drops_of_the_last_look():
    clock = Clock()
    health = CameraHealth(clock)
    health.begin(counts(received=100, processed=90, superseded=10))
    for number in range(20):  # two seconds at 10 Hz
        clock.now_s += 0.1
        health.arrived()
        state = ('key', 'propagated', 'propagated', 'degraded')[number % 4]
        health.answered(state, 10.0 + number, number % 4, number % 4 / 10)
    seen = health.figures(counts(received=120, processed=108, superseded=11, conversion=1))
    assert (seen.rate_in_hz, seen.rate_out_hz) == pytest.approx((10.0, 9.0))
    assert (seen.latency_p50_ms, seen.latency_p99_ms) == pytest.approx((19.5, 28.81))
    assert (seen.key_ratio, seen.degraded_ratio) == (0.25, 0.25)
    assert (seen.age_frames_mean, seen.age_s_mean) == pytest.approx((1.5, 0.15))
    assert (seen.silence_s, seen.unanswered_s) == (0.0, 0.0)
    assert seen.drops == {'superseded': 1, 'conversion': 1}
    clock.now_s += 1
    seen = health.figures(counts(received=120, processed=108, superseded=11, conversion=1))
    assert (seen.drops, seen.silence_s) == ({}, pytest.approx(1.0))
    clock.now_s += 10
    seen = health.figures(counts(received=120, processed=108, superseded=11, conversion=1))
    assert (seen.rate_in_hz, seen.latency_p99_ms, seen.key_ratio) == (0.0, None, None)


def test_idle_frames_have_no_part_in_latencies_and_ratios():
    health = CameraHealth(Clock())
    health.begin(counts())
    for state in ('idle', 'idle', 'key', 'idle'):
        health.answered(state, 4.0 if state == 'key' else None, 0, 0.0)
    seen = health.figures(counts(received=4, processed=4))
    assert (seen.key_ratio, seen.latency_p50_ms, seen.latency_p99_ms) == (1.0, 4.0, 4.0)
    assert (seen.rate_out_hz > 0, seen.unanswered_s) == (True, 0.0)


def test_images_without_an_answer_are_timed_from_the_first_of_them():
    clock = Clock()
    health = CameraHealth(clock)
    health.begin(counts())
    assert health.figures(counts()).unanswered_s == 0.0
    for _ in range(5):
        health.arrived()
        clock.now_s += 1
    assert health.figures(counts(received=5)).unanswered_s == 5.0
    health.answered('key', 1.0, 0, 0.0)
    assert health.figures(counts(received=5, processed=1)).unanswered_s == 0.0


def test_silence_begins_anew_where_images_are_due_again():
    clock = Clock()
    health = CameraHealth(clock)
    clock.now_s += 60
    health.begin(counts())
    clock.now_s += 1.5
    assert health.figures(counts()).silence_s == 1.5
