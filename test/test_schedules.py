# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Schedulers over a table of pairs: key frames, figures by hand, thresholds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dff_ros.config import KeyframeConfig
from dff_ros.errors import ConfigError
from dff_ros.evaluation.pair_table import Answer, Pair, PairRow, oracle_signal, signal_of
from dff_ros.evaluation.scheduler_rows import SchedulerRows, far_from_wanted
from dff_ros.evaluation.schedules import BEYOND, NUM_STARTS, fit, key_ratio, outcome, play
from dff_ros.schedulers import make_scheduler
from dff_ros.scheduling import Measured, Signal
from dff_ros.types import Action, Decision

HZ = 10


def counts(num_right: int, num_pixels: int = 10):
    """One frame of class 0, some of it called class 1."""
    return np.array([[num_right, num_pixels - num_right, 0], [0, 0, 0]], np.int32)


def table(positions, depth: int = 60, cuts=(), labelled: bool = True) -> list[PairRow]:
    """A camera at these places (whole pixels): a frame that is d px from its key frame shows motion d, has
    residual 2 d, and one of its 100 pixels wrong for each of them.
    """
    rows = []
    for now, place in enumerate(positions):
        pairs = []
        for key in range(now - 1, max(-1, now - 1 - depth), -1):
            far = abs(place - positions[key])
            measured = Measured(motion_px=float(far), coverage=1.0, residual=2.0 * far, disagreement=None)
            answer = Answer(counts(100 - far, 100) if labelled else None, far / 100)
            pairs.append(Pair(0.0, measured, answer))
        direct = Answer(counts(100, 100) if labelled else None)
        rows.append(PairRow(now * 10**9 // HZ, 0.0, now in cuts, direct, tuple(pairs)))
    return rows


def scheduler(**changes):
    config = KeyframeConfig(**{'max_age_s': 60.0, **changes})
    return lambda: make_scheduler(config)


def keys(run) -> list[int]:
    return [index for index, age in enumerate(run.ages) if age == 0]


def test_the_signal_is_that_of_the_stream_before_the_frame():
    rows = table([0, 1, 3, 7])
    signal = signal_of(rows, 3, 1)
    assert (signal.frames_since_key, signal.seconds_since_key) == (2, 0.2)
    assert signal.measured == rows[2].pairs[0].measured  # frame 2 from key 1: 2 px
    assert signal.measured.motion_px == 2.0
    assert signal_of(rows, 2, 1).measured is None
    known = oracle_signal(rows, 3, 1)
    assert (known.measured.motion_px, known.measured.disagreement) == (6.0, 0.06)
    assert oracle_signal(rows, 2, 1).measured.disagreement == 0.02
    assert (signal.disagreement_sum, known.disagreement_sum) == (0.0, pytest.approx(0.02 + 0.06))
    assert oracle_signal(rows, 3, 1, floor=0.05).disagreement_sum == pytest.approx(0.01)


def test_fixed_over_every_start_and_its_figures_by_hand():
    runs = play([table(range(6))], scheduler(interval=3), signal_of)
    assert [keys(run) for run in runs] == [[0, 3], [0, 3], [0, 3]]  # starts 0, 1, 2; 6, 5, 4 frames
    assert [run.reasons for run in runs] == [('no_key', 'interval')] * 3
    found = outcome(runs, num_classes=2)
    # Ages 0 1 2 0 1 2, 0 1 2 0 1 and 0 1 2 0: 6 keys of 15 frames, 5 of age 1 and 4 of age 2.
    assert (found.num_frames, found.key_ratio) == (15, 6 / 15)
    assert found.mean_age == pytest.approx((5 * 1 + 4 * 2) / 15)
    wrong = 5 * 1 + 4 * 2
    assert found.agreement == pytest.approx(100 - 100 * wrong / 1500)
    assert found.miou == pytest.approx(100 * (1500 - wrong) / 1500)
    assert found.reason_shares == {'no_key': 0.5, 'interval': 0.5}
    assert math.isnan(found.cut_recall)


def test_long_sequences_have_a_fixed_number_of_starts_and_are_never_joined():
    runs = play([table(range(60)), table(range(3))], scheduler(interval=5), signal_of)
    assert [len(run.ages) for run in runs] == [*range(60, 60 - NUM_STARTS, -1), 3, 2]


def test_motion_sees_the_frame_before():
    (run, *_) = play([table([0, 4, 8, 12, 16, 20])], scheduler(scheduler='motion', motion_px=7.0), signal_of)
    # Frame 2 shows 8 px, more than 7: frame 3 is a key frame.
    assert keys(run) == [0, 3]
    assert run.ages == (0, 1, 2, 0, 1, 2)


def test_the_age_cap_is_the_scheduler_s_own_reason():
    (run, *_) = play(
        [table([0] * 30, depth=20)], scheduler(scheduler='motion', max_age_s=1.0, max_interval=20), signal_of
    )
    assert keys(run) == [0, 11, 22]
    assert run.reasons == ('no_key', 'max_age', 'max_age')


class Never:
    """Makes no key frame but the first."""

    def decide(self, signal: Signal | None) -> Decision:
        return Decision(Action.PROPAGATE if signal else Action.REFRESH_NOW, 'never')


def test_a_schedule_goes_no_further_than_the_table():
    (run, *_) = play([table(range(10), depth=3)], Never, signal_of)
    assert (run.ages, run.reasons) == ((0, 1, 2, 3, 0, 1, 2, 3, 0, 1), ('never', BEYOND, BEYOND))


class CutAt:
    """A key frame for a cut at given ages."""

    def __init__(self, *ages: int) -> None:
        self.ages = ages

    def decide(self, signal: Signal | None) -> Decision:
        if signal is None:
            return Decision(Action.REFRESH_NOW, 'no_key')
        is_cut = signal.frames_since_key in self.ages
        return Decision(Action.REFRESH_NOW if is_cut else Action.PROPAGATE, 'cut')


def test_cuts_found_and_false_ones():
    rows = table(range(8), cuts=(2, 6))
    (run, *_) = play([rows], lambda: CutAt(2), signal_of)
    assert keys(run) == [0, 2, 4, 6]
    found = outcome([run], 2)
    assert (found.cut_recall, found.num_false_cuts) == (100.0, 1)
    (run, *_) = play([rows], lambda: CutAt(3), signal_of)  # 3, 6
    assert (outcome([run], 2).cut_recall, outcome([run], 2).num_false_cuts) == (50.0, 1)


def test_fit_comes_to_the_wanted_ratio():
    rows = [table(range(100))]

    def play_at(threshold: float):
        return play(rows, scheduler(scheduler='motion', motion_px=threshold), signal_of)

    best = fit(play_at, 0.0, 10000.0, wanted=0.1)
    # A pixel a frame: above n px, seen a frame later, is a key frame every n + 2 frames.
    ratios = {n: key_ratio(play(rows, scheduler(interval=n + 2), signal_of)) for n in range(5, 15)}
    nearest = min(ratios, key=lambda n: abs(ratios[n] - 0.1))
    assert nearest <= best.threshold < nearest + 1
    assert key_ratio(best.schedule) == ratios[nearest] == pytest.approx(0.1, abs=0.005)


def test_fit_ends_where_no_threshold_leads_to_so_many_key_frames():
    """Content is seen a frame later, so every second frame is a key frame at most."""
    rows, thresholds = [table(range(10))], []

    def play_at(threshold: float):
        thresholds.append(threshold)
        return play(rows, scheduler(scheduler='motion', motion_px=threshold), signal_of)

    best = fit(play_at, 0.0, 10000.0, wanted=0.9)
    assert key_ratio(best.schedule) == pytest.approx(0.5, abs=0.05)
    assert len(thresholds) < 40


def start_and_go() -> list[int]:
    """40 frames of standing still, 40 at 2 px."""
    return [*[0] * 40, *range(0, 80, 2)]


def rows_of(tables, schedulers, ratios, **changes):
    config = KeyframeConfig(**{'max_age_s': 10.0, **changes})
    report = SchedulerRows(config, 2, schedulers, ratios).report(tables)
    return report, {(row['scheduler'], row['key_ratio']): row for row in report['rows']}


def test_rows_of_a_camera_that_starts():
    names = ('fixed', 'period', 'motion', 'residual', 'oracle')
    report, rows = rows_of({'dff': [table(start_and_go())]}, names, (0.1, 0.2))
    assert (report['per_frame_miou'], report['labelled']) == (100.0, True)
    fixed = rows['fixed', 0.1]
    assert fixed['parameter'] == 'interval'
    assert fixed['achieved'] == pytest.approx(0.1, abs=0.01)
    assert (fixed['recovered'], fixed['fixed']) == (0.0, fixed['miou'])
    # Key frames of time are those of frames; those of content go to where the camera moves.
    assert rows['period', 0.1]['recovered'] == pytest.approx(0.0, abs=0.1)
    for name in ('motion', 'residual', 'oracle'):
        row = rows[name, 0.1]
        assert row['achieved'] == pytest.approx(0.1, abs=0.01)
        assert row['recovered'] == pytest.approx(45.6, abs=0.1)
        assert row['miou'] == pytest.approx(100 - row['loss'], abs=0.011)
        lost = 100 - row['fixed']
        assert row['recovered'] == pytest.approx(100 * (row['miou'] - row['fixed']) / lost, abs=2)
    assert rows['motion', 0.1]['miou'] == rows['residual', 0.1]['miou']  # the residual is twice the motion
    assert rows['motion', 0.1]['reasons']['motion'] > 0.5
    assert rows['oracle', 0.1]['parameter'] == 'disagreement'


def test_without_labels_agreement_takes_the_place_of_miou():
    tables = {'dff': [table(start_and_go(), labelled=False)]}
    report, rows = rows_of(tables, ('motion',), (0.1,))
    labelled = rows_of({'dff': [table(start_and_go())]}, ('motion',), (0.1,))[1]['motion', 0.1]
    row = rows['motion', 0.1]
    assert (report['labelled'], report['per_frame_miou'], row['miou']) == (False, None, None)
    assert row['agreement'] == labelled['agreement'] == labelled['miou']
    assert (row['loss'], row['recovered']) == (labelled['loss'], labelled['recovered'])


def test_every_method_has_rows_of_its_own():
    tables = {'dff': [table(range(30))], 'copy': [table(range(0, 60, 2))]}
    report, _ = rows_of(tables, ('fixed',), (0.2,))
    dff, copy = report['rows']
    assert (dff['method'], copy['method']) == ('dff', 'copy')
    assert copy['loss'] == pytest.approx(2 * dff['loss'], abs=0.02) and dff['loss'] > 1.5


def test_key_ratios_that_cannot_be_had_are_told():
    tables = {'dff': [table(start_and_go())]}
    report, _ = rows_of(tables, ('fixed', 'motion', 'budget'), (0.1, 1.0))
    (note,) = far_from_wanted(report['rows'])
    assert ': motion 1 (' in note and 'fixed' not in note and 'budget' not in note
    assert far_from_wanted(rows_of(tables, ('fixed',), (0.1,))[0]['rows']) == []


def test_nothing_measured_yet_is_a_report_without_rows():
    report, _ = rows_of({'dff': []}, ('fixed',), (0.2,))
    assert (report['rows'], report['per_frame_miou']) == ([], None)


def test_what_cannot_be_evaluated_is_refused():
    config = KeyframeConfig(max_interval=30)
    with pytest.raises(ConfigError, match="unknown scheduler 'psychic'; known are fixed, period, motion"):
        SchedulerRows(config, 2, ('psychic',), (0.1,))
    with pytest.raises(ConfigError, match=r'key ratio 0.01: allowed is from 0.0323, which keyframe.max_int'):
        SchedulerRows(config, 2, ('fixed',), (0.01,))
