# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What holds whatever happens: images, cuts, resets, errors, new settings and key frames that come late.

The table in docs/architecture.md says which test stands for which invariant.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from camera_events import SETUPS, UNLIMITED, Event, events, thorough
from camera_rig import REFRESH, Rig, facts
from hypothesis import given, settings
from hypothesis import strategies as st

from dff_ros.types import StepResult


@pytest.mark.parametrize('refresh', REFRESH)
@thorough
@given(setup=SETUPS, sequence=events())
def test_every_answer_is_right(refresh, setup, sequence):
    """Rig.apply says what is right: one answer to each frame, with its stamp, from a key frame of its camera,
    of the past and of no earlier generation, not above the age cap; one refresh in flight; swaps between
    frames only.
    """
    results = Rig(refresh, setup).run(sequence)
    assert len(results) == len(sequence)


@thorough
@given(setup=SETUPS, sequence=events())
def test_an_instant_worker_gives_what_inline_gives(setup, sequence):
    inline, instant = (Rig(refresh, setup).run(sequence) for refresh in ('inline', 'instant worker'))
    assert facts(inline) == facts(instant)


@pytest.mark.parametrize('refresh', REFRESH)
@thorough
@given(
    setup=UNLIMITED,
    sequence=events(UNLIMITED),
    ticks=st.tuples(st.integers(0, 10**10), st.integers(0, 10**10)),
    costs=st.lists(st.integers(0, 5000), min_size=1, max_size=5),
)
def test_a_replay_at_any_rate_makes_the_same_key_frames(refresh, setup, sequence, ticks, costs):
    """Without a deadline no clock has a say, however fast it runs and whatever the verbs take."""
    slower = [
        dataclasses.replace(event, cost_ms=costs[index % len(costs)]) for index, event in enumerate(sequence)
    ]
    runs = [
        Rig(refresh, setup, tick).run(played) for tick, played in zip(ticks, (sequence, slower), strict=True)
    ]
    assert facts(runs[0]) == facts(runs[1])


def test_the_rig_sees_swaps_deadlines_and_every_kind_of_answer():
    """Else the properties above would hold of nothing."""
    found: set[str] = set()

    @settings(max_examples=40, derandomize=True, database=None, deadline=None)
    @given(setup=SETUPS, sequence=events())
    def collect(setup, sequence):
        for result in Rig('worker', setup).run(sequence):
            found.update(kinds_of(result))

    collect()
    reasons = {'no_key', 'cut', 'max_age', 'max_interval', 'refreshing', 'deadline', 'nothing_due'}
    causes = {'gap', 'requested', 'error'}  # the rarer ones have tests of their own in test_engine.py
    assert reasons | causes | {'skipped', 'swapped', 'failed'} <= found


def kinds_of(result: StepResult | str) -> set[str]:
    if isinstance(result, str):
        return {'failed'}
    found = {str(result.reason)} | ({result.reset_cause.value} if result.reset_cause else set())
    found |= {'skipped'} if result.is_skipped else set()
    return found | ({'swapped'} if result.is_refreshed and not result.is_key else set())


def test_a_job_that_has_begun_outlives_a_reset_and_is_never_used():
    rig = Rig('worker')
    rig.run([Event()] * 6)  # frame 5 is submitted
    rig.apply(Event(is_begun=True))
    after = rig.run([Event(before='reset'), *[Event()] * 5, Event(num_done=1), Event(), Event(num_done=1)])
    assert [result.reason for result in after[5:]] == [
        'refreshing',
        'interval',
        'refreshing',
        'within_interval',
    ]
    assert [result.age_frames for result in after] == [0, 1, 2, 3, 4, 5, 6, 7, 2]


def test_the_table_of_invariants_names_tests_that_exist():
    folder = Path(__file__).parent
    text = (folder.parent / 'docs' / 'architecture.md').read_text(encoding='utf-8')
    named = re.findall(r'`(test_\w+\.py)?::(test_\w+)`', text)
    assert len(named) > 10
    file = ''
    for given_file, test in named:
        file = given_file or file
        assert f'def {test}(' in (folder / file).read_text(encoding='utf-8'), f'{file}::{test}'
