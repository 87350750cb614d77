# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Schedulers in the engine, over clips of the simulated street with their exact flow."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import numpy as np
import pytest
from fake_backend import FakeBackend, numbered_frame
from hypothesis import given
from hypothesis import strategies as st
from street_clip import FPS, SETTINGS, TRACES, Clip, StreetBackend, drive, recorded_clip, trace

from dff_ros import stream
from dff_ros.config import BUDGET_OVER, SCHEDULERS, KeyframeConfig, SegmentationConfig
from dff_ros.engine import Engine
from dff_ros.scheduling import Reason
from dff_ros.tasks import TaskPlan
from dff_ros.types import Frame, KeyFeature, Propagation, StepResult

CONTENT = ('motion', 'residual', 'learned', 'budget')
IS_REFRESH = {*Reason} - {
    Reason.WITHIN_INTERVAL,
    Reason.WITHIN_PERIOD,
    Reason.WITHIN_LIMITS,
    Reason.OVER_BUDGET,
}


@pytest.fixture(scope='module')
def clip() -> Clip:
    return recorded_clip()


@pytest.fixture(scope='module')
def backend(clip) -> StreetBackend:
    return StreetBackend(clip)


def run(clip: Clip, backend: FakeBackend, **settings: object) -> list[StepResult]:
    engine = Engine(backend, KeyframeConfig(**{**SETTINGS, **settings}))
    return [engine.step(frame) for frame in clip.frames]


@pytest.mark.parametrize('scheduler', SCHEDULERS)
def test_trace_of_a_recorded_clip_is_the_stored_one(scheduler, clip, backend):
    stored = json.loads(TRACES.read_text(encoding='utf-8'))
    assert sorted(stored) == sorted(SCHEDULERS)
    assert [list(pair) for pair in trace(clip, backend, scheduler)] == stored[scheduler]


@pytest.mark.parametrize('scheduler', SCHEDULERS)
@pytest.mark.parametrize('rate', [0.2, 5.0])
def test_replay_at_any_rate_makes_the_same_key_frames(scheduler, rate, clip, backend, monkeypatch):
    """The clock runs `rate` times as fast beside the same stamps, in steps of a tenth of a frame."""
    clock_ns = itertools.count(step=round(1e8 / FPS / rate))
    monkeypatch.setattr(time, 'perf_counter_ns', lambda: next(clock_ns))
    stored = json.loads(TRACES.read_text(encoding='utf-8'))[scheduler]
    assert [list(pair) for pair in trace(clip, backend, scheduler)] == stored
    assert next(clock_ns) > len(clip.frames) * 2e8 / FPS / rate  # it was asked, and went by


@pytest.mark.parametrize('scheduler', SCHEDULERS)
def test_reasons_say_whether_the_frame_became_a_key_frame(scheduler, clip, backend):
    results = run(clip, backend, scheduler=scheduler)
    assert [result.reason in IS_REFRESH for result in results] == [result.is_key for result in results]
    reasons = {result.reason for result in results}
    assert 'no_key' in reasons
    assert ('cut' in reasons) == (scheduler in CONTENT)


@pytest.mark.parametrize('scheduler', CONTENT)
def test_fast_motion_is_no_cut_and_a_change_of_street_always_one(scheduler, clip, backend):
    results = run(clip, backend, scheduler=scheduler)
    assert [number for number, result in enumerate(results) if result.reason == 'cut'] == clip.cuts
    moving = [result.change for number, result in enumerate(results) if number and number not in clip.cuts]
    assert max(moving) < 0.4


@pytest.mark.parametrize('scheduler', ['motion', 'residual', 'learned'])
def test_key_frames_go_where_the_motion_is(scheduler, clip, backend):
    """20 frames at normal speed, 30 held still, 20 at half, 16 at double and 10 at four times the speed."""
    keys = [number for number, result in enumerate(run(clip, backend, scheduler=scheduler)) if result.is_key]
    normal, still, fast = (
        sum(first < key < last for key in keys) / (last - first)
        for first, last in ((0, 20), (23, 50), (70, 96))
    )
    assert still <= 1 / 20 < normal < fast


@pytest.mark.parametrize('scheduler', CONTENT)
def test_twenty_cuts_of_twenty_are_key_frames(scheduler):
    """Between any two of five streets, in both directions: they differ in textures, colours and layout."""
    order = [0]
    for step in (1, 2, 3, 4):
        order += [(order[-1] + step * count) % 5 for count in range(1, 6)]
    assert len({*zip(order, order[1:], strict=False)}) == 20
    clip = Clip([place for seed in order for place in drive(seed, (2, 1))])
    results = run(clip, StreetBackend(clip), scheduler=scheduler)
    assert clip.cuts == list(range(2, 42, 2))
    assert [results[number].reason for number in clip.cuts] == ['cut'] * 20
    assert all(results[number].is_key for number in clip.cuts)
    assert min(results[number].change for number in clip.cuts) > 0.85


@pytest.mark.parametrize('scheduler', ['motion', 'residual', 'learned'])
def test_a_still_camera_falls_to_the_age_cap(scheduler):
    clip = Clip(drive(0, (100, 0)))
    by_age = run(clip, StreetBackend(clip), scheduler=scheduler, max_age_s=0.995, max_interval=1000)
    assert [(n, r.reason) for n, r in enumerate(by_age) if r.is_key] == [
        (0, 'no_key'), (30, 'max_age'), (60, 'max_age'), (90, 'max_age')
    ]  # fmt: skip
    by_frames = run(clip, StreetBackend(clip), scheduler=scheduler, max_interval=40)
    assert [n for n, r in enumerate(by_frames) if r.is_key] == [0, 40, 80]


def test_a_cut_on_an_idle_frame_is_seen_on_the_next_that_is_answered():
    clip = Clip([*drive(0, (8, 1)), *drive(1, (8, 1))])
    config = KeyframeConfig(scheduler='residual', residual=255.0)
    engine = Engine(StreetBackend(clip), config, TaskPlan(segmentation=SegmentationConfig(every=3)))
    reasons = [engine.step(frame).reason for frame in clip.frames]
    assert [(n, reason) for n, reason in enumerate(reasons) if n % 3 == 0] == [
        (0, 'no_key'), (3, 'within_limits'), (6, 'within_limits'), (9, 'cut'), (12, 'within_limits'),
        (15, 'within_limits'),
    ]  # fmt: skip


def test_results_tell_what_the_scheduler_saw(clip, backend):
    results = run(clip, backend, scheduler='fixed', interval=200, max_age_s=100.0)
    assert (results[0].change, results[0].key_change, results[0].residual) == (None, None, 0.0)
    still = results[45]
    assert still.motion_px > 5 > results[22].change * 50
    assert still.change < 0.05 < still.key_change
    assert still.disagreement == pytest.approx(still.residual / 255)
    assert still.residual > 3


def test_budget_is_deterministic_and_begins_anew_with_the_stream(clip, backend):
    config = KeyframeConfig(scheduler='budget', budget_over='motion', **SETTINGS)
    engine = Engine(backend, config)
    first = [engine.step(frame).reason for frame in clip.frames]
    again = [engine.step(frame) for frame in clip.frames]  # stamps go back: a new sequence
    assert again[0].reset_cause.value == 'backward_stamp'
    assert [result.reason for result in again] == first
    assert len({*first} & {'spare_budget', 'over_budget'}) >= 1


def test_budget_goes_on_where_only_other_settings_change(clip, backend):
    config = KeyframeConfig(scheduler='budget', **SETTINGS)
    untouched = [result.reason for result in run(clip, backend, scheduler='budget')]
    engine = Engine(backend, config)
    reasons = []
    for frame in clip.frames:
        engine.configure(KeyframeConfig(scheduler='budget', **SETTINGS))
        reasons.append(engine.step(frame).reason)
    assert reasons == untouched


def test_budgets_of_cameras_do_not_mix(clip, backend):
    alone = [result.reason for result in run(clip, backend, scheduler='budget')]
    engine = Engine(backend, KeyframeConfig(scheduler='budget', **SETTINGS))
    still = Clip(drive(0, (len(clip.frames), 0)), camera='other')
    both = StreetBackend(clip, still)
    engine = Engine(both, KeyframeConfig(scheduler='budget', **SETTINGS))
    reasons = []
    for frame, other in zip(clip.frames, still.frames, strict=True):
        reasons.append(engine.step(frame).reason)
        engine.step(other)
    assert reasons == alone


class MeasuringBackend(FakeBackend):
    """Motion, residual and disagreement made up from the number of the image."""

    def propagate(self, image_HW3: np.ndarray, key: KeyFeature[int, int]) -> Propagation[int]:
        number = int(image_HW3[0, 0, 0])
        validity = np.ones((2, 3), np.float32)
        return Propagation(
            0, validity, motion_px=number, coverage=1.0, residual=number / 8, disagreement=number / 512
        )


@given(
    scheduler=st.sampled_from(SCHEDULERS),
    over=st.sampled_from(BUDGET_OVER),
    events=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 30), st.integers(0, 20)), max_size=50),
)
def test_no_content_and_no_stamps_get_an_answer_past_the_age_caps(scheduler, over, events):
    """Any measured values, any pauses of up to 3 s, resets in between; and the same again gives the same."""
    config = KeyframeConfig(scheduler=scheduler, budget_over=over, interval=9, max_interval=6, max_gap_s=3.0)
    frames, stamp_ns = [], 10**9
    for number, step, _ in events:
        stamp_ns += step * 100_000_000
        frames.append(numbered_frame(number, stamp_ns=stamp_ns))
    traces = []
    for _ in range(2):
        engine, results = Engine(MeasuringBackend(), config), []
        for frame, (_, _, kind) in zip(frames, events, strict=True):
            if kind == 0:
                engine.reset()
            results.append(engine.step(frame))
        traces.append([(result.is_key, result.reason) for result in results])
    longest = {'fixed': 9, 'period': 1000}.get(scheduler, 6)
    assert all(result.age_s <= config.max_age_s and result.age_frames < longest for result in results)
    assert traces[0] == traces[1]


def test_every_reason_is_documented():
    text = (Path(__file__).parent.parent / 'docs' / 'scheduling.md').read_text(encoding='utf-8')
    table = text.partition('## Reasons')[2].partition('##')[0]
    reasons = [*Reason, stream.DEADLINE, stream.NOTHING_DUE, stream.REFRESHING]
    assert [reason for reason in reasons if f'`{reason}`' not in table.replace(' |', '')] == []


def test_identical_frames_without_stamps_fall_to_the_interval_cap():
    image = np.zeros((32, 48, 3), np.uint8)
    engine = Engine(FakeBackend(), KeyframeConfig(scheduler='residual', max_interval=7))
    results = [engine.step(Frame(image_HW3=image, stamp_ns=0)) for _ in range(15)]
    assert [n for n, result in enumerate(results) if result.is_key] == [0, 7, 14]
