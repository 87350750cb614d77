# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Many cameras in one engine: whatever happens to any of them, none is answered from another's feature."""

from __future__ import annotations

import pytest
from camera_events import SETUPS, Event, Setup, events, thorough
from camera_rig import NAMES, REFRESH, Rig, facts
from hypothesis import given
from hypothesis import strategies as st
from naming_backend import read_answer, read_boxes

from dff_ros.config import KeyframeConfig
from dff_ros.types import StepResult

ALL = tuple(range(len(NAMES)))


def cameras_seen(result: StepResult) -> set[int]:
    """The cameras of the key frames and frames that went into an answer."""
    pairs = [read_answer(result.segmentation.label_map_HW)] if result.segmentation else []
    pairs += [read_boxes(result.detections)] if result.detections else []
    return {camera for pair in pairs for camera, _ in pair}


@pytest.mark.parametrize('refresh', REFRESH)
@thorough
@given(setup=SETUPS, sequence=events(cameras=ALL))
def test_no_feature_of_another_camera_is_ever_used(refresh, setup, sequence):
    for event, result in zip(sequence, Rig(refresh, setup).run(sequence), strict=True):
        if isinstance(result, str):
            assert f'of camera {event.camera} fails' in result
        else:
            assert result.camera == NAMES[event.camera]
            assert cameras_seen(result) == (set() if result.is_idle else {event.camera})


@pytest.mark.parametrize('refresh', ['inline', 'instant worker'])
@thorough
@given(setup=SETUPS, sequence=events(cameras=ALL), stopping=st.sampled_from(ALL), end=st.integers(0, 40))
def test_a_camera_that_stops_changes_nothing_for_the_others(refresh, setup, sequence, stopping, end):
    """Nor do its errors, cuts and resets before."""
    rig = Rig(refresh, setup)
    whole = [rig.apply(event) for event in sequence]
    others = [result for event, result in zip(sequence, whole, strict=True) if event.camera != stopping]
    rig, found = Rig(refresh, setup), []
    for number, event in enumerate(sequence):
        if event.camera != stopping:
            found.append(rig.apply(event))
        elif number < end:
            rig.apply(event)
        else:
            rig.announce(event)
    assert facts(found) == facts(others)


def test_key_frames_of_all_cameras_come_from_one_worker_in_the_order_asked():
    rig = Rig('worker', Setup(KeyframeConfig(interval=5)))
    rig.run([Event(camera) for camera in ALL] * 6)
    # First intervals 5, 4, 3, 2 from frame 0 on: asked for at frames 5, 4, 3 and 2.
    swapped = []
    for _ in ALL:
        results = rig.run([Event(num_done=1), *(Event(camera) for camera in ALL[1:])])
        swapped += [(result.camera, result.age_frames) for result in results if result.is_refreshed]
    assert swapped == [('rear', 4), ('right', 4), ('left', 4), ('front', 4)]
