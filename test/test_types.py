# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Frames refuse images that nothing behind them could take."""

from __future__ import annotations

import numpy as np
import pytest

from dff_ros.errors import ConfigError, ShapeError
from dff_ros.model_spec import ModelSpec
from dff_ros.types import Detections, Frame


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((32, 32), np.uint8), r'\(32, 32\)'),
        (np.zeros((32, 32, 4), np.uint8), r'\(32, 32, 4\)'),
        (np.zeros((32, 32, 3), np.float32), 'float32'),
        (np.zeros((32, 15, 3), np.uint8), '15x32'),
        (np.zeros((32, 64, 3), np.uint8)[:, ::2], 'C-contiguous'),
    ],
)
def test_bad_image_is_named(image, message):
    with pytest.raises(ShapeError, match=message):
        Frame(image_HW3=image, stamp_ns=0)


def test_size_is_height_width():
    assert Frame(image_HW3=np.zeros((20, 30, 3), np.uint8), stamp_ns=0).size == (20, 30)


def spec(**changes: object) -> ModelSpec:
    values: dict[str, object] = {'class_names': ('a', 'b'), 'class_colours': ((0, 0, 0), (255, 0, 0))}
    return ModelSpec(**{**values, **changes})  # type: ignore[arg-type]


def test_spec_survives_json():
    import json

    before = spec(nominal_size=(96, 128), flow_source='flownet_half')
    assert ModelSpec.from_dict(json.loads(json.dumps(before.to_dict()))) == before
    assert before.num_classes == 2


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'class_names': ('a',)}, '1 names and 2 colours'),
        ({'flow_source': 'raft'}, "'raft'.*dis, zero, flownet_s"),
        ({'last_stage': 3}, 'last_stage'),
        ({'nominal_size': (8, 480)}, 'nominal_size'),
        ({'class_names': (), 'class_colours': ()}, 'needs class_names .*, box_class_names .* or both'),
        ({'box_class_names': ('car', 'car')}, 'each needs a name of its own'),
        ({'box_class_names': ('car',), 'channels': 15}, 'even number of channels in halves, not 15'),
        ({'box_class_names': ('car',), 'detection_channels': 31}, 'even number .* not 31'),
        ({'anchor_scales': ()}, 'anchor_scales.*at least one'),
        ({'anchor_ratios': (1.0, -1.0)}, 'anchor_ratios.*positive'),
        ({'anchor_ratios': (float('inf'),)}, 'anchor_ratios.*positive'),
        ({'num_proposals': 0}, 'num_proposals: got 0, allowed is 1 or more'),
        ({'box_pooling': 'align'}, "box_pooling: got 'align', allowed is one of cells, smooth"),
        ({'cell_centre': float('nan')}, 'cell_centre: got nan'),
    ],
)
def test_bad_spec_names_the_entry(changes, message):
    with pytest.raises(ConfigError, match=message):
        spec(**changes)


def test_spec_with_unknown_or_missing_entries_is_refused():
    with pytest.raises(ConfigError, match='unknown entries depth'):
        ModelSpec.from_dict({**spec().to_dict(), 'depth': 18})
    with pytest.raises(ConfigError, match='class_names'):
        ModelSpec.from_dict({'channels': 4})


def test_tasks_and_what_their_heads_see():
    light = {'light_channels': 16, 'detection_channels': 32, 'box_class_names': ('car',)}
    assert spec().tasks == ('segmentation',)
    assert spec(box_class_names=('car',)).tasks == ('segmentation', 'detection')
    only = spec(class_names=(), class_colours=(), **light)
    assert (only.tasks, only.head_light, only.light_outputs) == (('detection',), ('middle',), ('middle',))
    assert spec(**light, detail=True).head_light == ('fine', 'middle')
    assert spec(light_channels=16, box_class_names=('car',)).light_outputs == ()
    assert spec(**{**light, 'box_class_names': ()}).light_outputs == ()
    assert spec(light_channels=16, correction_channels=8).light_outputs == ('middle', 'coarse')


def test_a_spec_from_before_detection_has_no_box_classes():
    values = spec().to_dict()
    old = {name: values[name] for name in ('class_names', 'class_colours', 'feature_net', 'channels')}
    assert ModelSpec.from_dict(old) == spec()
    assert ModelSpec.from_dict(old).box_class_names == ()


def test_detections_are_chosen_by_mask_or_number():
    found = Detections(
        np.array([[0, 0, 4, 4], [1, 1, 3, 2], [5, 5, 9, 8]], np.float32),
        np.array([2, 0, 1]),
        np.array([0.9, 0.8, 0.1], np.float32),
    )
    some = found.chosen(found.scores_N > 0.5)
    assert len(found) == 3 and len(some) == 2 and len(Detections.none()) == 0
    np.testing.assert_array_equal(some.class_ids_N, [2, 0])
    np.testing.assert_array_equal(found.chosen(np.array([2, 0])).boxes_xyxy, [[5, 5, 9, 8], [0, 0, 4, 4]])
    with pytest.raises(ShapeError, match=r'not \(3, 4\), \(2,\), \(3,\)'):
        Detections(found.boxes_xyxy, some.class_ids_N, found.scores_N)
