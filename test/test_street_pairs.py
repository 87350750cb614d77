# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Rendered pairs of the simulated street: flow as the street tells it, to 1/128 px, and key frames before."""

from pathlib import Path

import numpy as np
import pytest

from dff_ros.data import street_pairs
from dff_ros.data.classes import CAMVID_CLASSES, OBJECT_CLASSES
from dff_ros.data.street import Street
from dff_ros.data.street_pairs import StreetPairSpec, open_street_pairs
from dff_ros.errors import ConfigError, DataError

SIZE = (48, 64)


def open_two(cache: Path) -> street_pairs.StreetPairs:
    return open_street_pairs(cache, 2, 3, 30.0, 9, size=SIZE, processes=1)


def test_pairs_are_frames_of_a_street_with_its_flow(tmp_path: Path):
    pairs = open_two(tmp_path)
    spec = StreetPairSpec(num_frames=2, size=SIZE, seed=3, fps=30.0, max_spacing=9)
    street = Street(spec.street_seed(0), SIZE, 30.0)
    for index in range(2):
        current, key = spec.pair(0, index)
        pair = pairs[index]
        np.testing.assert_array_equal(pair.current_HW3, street.frame(current).image_HW3)
        np.testing.assert_array_equal(pair.key_HW3, street.frame(key).image_HW3)
        np.testing.assert_array_equal(pair.labels_HW, street.frame(current).labels_HW)
        assert pair.offset == current - key
        flow, is_valid = street.flow(current, key)
        np.testing.assert_array_equal(pair.is_visible_HW, is_valid)
        assert np.abs(pair.flow_2HW - flow)[:, is_valid].max() <= 1 / 128
        assert np.abs(pair.flow_2HW).max() > 0.5


def test_the_key_frame_is_one_to_nine_frames_before():
    spec = StreetPairSpec(num_frames=500, size=SIZE, seed=3, fps=30.0, max_spacing=9)
    frames = [spec.pair(street, position) for street in range(50) for position in range(10)]
    assert {current - key for current, key in frames} == set(range(1, 10))
    assert min(key for _, key in frames) >= 0


def test_a_set_is_rendered_once_and_a_damaged_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = open_two(tmp_path)[1]
    monkeypatch.setattr(street_pairs, '_render_street', lambda *_: pytest.fail('rendered again'))
    np.testing.assert_array_equal(open_two(tmp_path)[1].flow_2HW, first.flow_2HW)
    folder = next(tmp_path.iterdir())
    assert folder.name.startswith('labelled-pairs-30hz-9-64x48-2-seed3-')
    np.save(folder / 'flow.npy', np.zeros((2, 2, 48, 60), np.int16))
    with pytest.raises(DataError, match='are not of this set. Delete the folder'):
        open_two(tmp_path)
    (folder / 'flow.npy').write_bytes(b'broken')
    with pytest.raises(DataError, match='is unusable.*Delete the folder'):
        open_two(tmp_path)
    with pytest.raises(ConfigError, match='at least 1 pair, got 0'):
        open_street_pairs(tmp_path, 0, 3, 30.0, 9)


def test_flows_beyond_what_is_kept_are_invalid():
    flow = np.array([[[1.5, 600.0, -511.5, 0.01]], [[0.0, 0.0, 0.25, -0.25]]], np.float32)
    kept, is_valid = street_pairs._unpack(street_pairs._pack(flow, np.array([[True, True, True, False]])))
    np.testing.assert_array_equal(is_valid, [[True, False, True, False]])
    np.testing.assert_array_equal(kept[:, 0], [[1.5, 0, -511.5, 0], [0, 0, 0.25, 0]])


def test_boxes_are_added_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert open_two(tmp_path)[0].boxes is None
    monkeypatch.setattr(street_pairs, '_render_street', lambda *_: pytest.fail('rendered again'))
    pairs = open_street_pairs(tmp_path, 2, 3, 30.0, 9, size=SIZE, processes=1, with_boxes=True)
    monkeypatch.setattr(street_pairs, '_find_boxes', lambda *_: pytest.fail('found again'))
    again = open_street_pairs(tmp_path, 2, 3, 30.0, 9, size=SIZE, processes=1, with_boxes=True)
    spec = StreetPairSpec(num_frames=2, size=SIZE, seed=3, fps=30.0, max_spacing=9)
    street, num_boxes = Street(spec.street_seed(0), SIZE, 30.0), 0
    for index in range(2):
        expected = {
            (CAMVID_CLASSES[box.class_id], *np.float32(box.xyxy).tolist(), float(np.float32(box.visibility)))
            for box in street.frame(spec.pair(0, index)[0]).boxes
        }
        pair, boxes = again[index], pairs[index].boxes
        assert pair.box_classes == OBJECT_CLASSES and boxes is not None and not boxes.is_ignored_N.any()
        found = {
            (OBJECT_CLASSES[class_id], *edges, visibility)
            for class_id, edges, visibility in zip(
                boxes.class_ids_N, boxes.boxes_xyxy.tolist(), boxes.visibility_N.tolist(), strict=True
            )
        }
        assert found == expected
        num_boxes += len(found)
    assert num_boxes > 3
    assert open_two(tmp_path)[0].boxes is None
    np.save(next(tmp_path.iterdir()) / 'boxes/boxes.npy', np.zeros((2, 3, 6), np.float32))
    with pytest.raises(DataError, match='has boxes .* not of this set. Delete the folder'):
        open_street_pairs(tmp_path, 2, 3, 30.0, 9, size=SIZE, processes=1, with_boxes=True)
