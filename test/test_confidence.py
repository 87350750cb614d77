# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The rule behind a published label map: what lowers confidence, what is left without an answer, its size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fake_backend import FakeBackend, numbered_frame
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dff_ros.confidence import ConfidenceCalibration, ConfidenceRule, disagreement, summary
from dff_ros.config import DffConfig, KeyframeConfig, SegmentationConfig, named_size, replace
from dff_ros.engine import Engine
from dff_ros.errors import ConfigError, ShapeError
from dff_ros.geometry import upsample_matrix
from dff_ros.tasks import TaskPlan
from dff_ros.types import Propagation, Segmentation, StepResult

SIZE, GRID = (48, 64), (3, 4)
CALIBRATIONS = st.builds(
    ConfidenceCalibration,
    gain=st.floats(0.1, 5),
    offset=st.floats(-3, 3),
    disagreement_weight=st.floats(0, 5),
    decay_per_s=st.floats(0.005, 3),
    known_age_s=st.floats(0.1, 10),
)
ALL = np.arange(256, dtype=np.uint8).repeat(12).reshape(SIZE)
"""Every confidence that a head can tell."""


def head(confidence_HW: NDArray[np.uint8] = ALL, label: int = 3) -> Segmentation:
    return Segmentation(np.full(confidence_HW.shape, label, np.uint8), confidence_HW)


def propagated(d: float | NDArray[np.float32] = 0.0, validity: float | NDArray[np.float32] = 1.0):
    cells = np.full(GRID, 0, np.float32) + np.asarray(d, np.float32)
    valid = np.full(GRID, 0, np.float32) + np.asarray(validity, np.float32)
    return Propagation(0, valid, 0.0, float(valid.mean()), disagreement_hw=cells)


def answer(
    found: Segmentation,
    evidence: Propagation[int],
    age_s: float = 0.0,
    calibration: ConfidenceCalibration | None = None,
    **wanted: object,
) -> Segmentation:
    rule = ConfidenceRule(calibration=calibration or ConfidenceCalibration())
    return rule.apply(found, evidence, age_s, SIZE, SegmentationConfig(**wanted))


def check_unknown(found: Segmentation) -> None:
    np.testing.assert_array_equal(found.label_map_HW == 255, found.confidence_HW == 0)


def test_a_key_frame_without_calibration_is_what_the_head_tells():
    found = head(np.maximum(ALL, 1))
    key = Propagation(0, np.ones((1, 1), np.float32), 0.0, 1.0)
    told = answer(found, key)
    np.testing.assert_array_equal(told.confidence_HW, found.confidence_HW)
    np.testing.assert_array_equal(told.label_map_HW, found.label_map_HW)


def test_the_numbers_of_the_rule():
    calibration = ConfidenceCalibration(gain=0.5, offset=1.0, disagreement_weight=2.0, decay_per_s=0.3)
    p = 204 / 255  # logit ln 4, half of it ln 2
    calibrated = 1 / (1 + np.exp(-np.log(2) - 1.0))
    found = answer(head(np.full(SIZE, 204, np.uint8)), propagated(0.25), 0.5, calibration)
    expected = calibrated * 0.75**2 * np.exp(-0.15)
    assert p == 0.8
    np.testing.assert_array_equal(found.confidence_HW, np.uint8(round(255 * expected)))
    assert calibration.fall(0.5) == pytest.approx(np.exp(-0.15))
    old = ConfidenceCalibration(known_age_s=2.0)
    assert [old.fall(age) for age in (0.0, 2.0, 4.0)] == pytest.approx([1, np.exp(-0.01), np.exp(-1.02)])


def test_disagreement_is_interpolated_between_the_centres_of_cells():
    cells = np.zeros(GRID, np.float32)
    cells[:, 2] = 0.8
    found = answer(head(np.full(SIZE, 200, np.uint8)), propagated(cells))
    expected = 200 * (1 - cells[0] @ upsample_matrix(SIZE[1], SIZE[1], 16).T)
    np.testing.assert_allclose(found.confidence_HW, np.tile(expected, (SIZE[0], 1)), atol=0.51)
    assert found.confidence_HW[0, 32] == 40  # network pixel 16 * 2 is the centre of cell 2
    assert found.confidence_HW[0, 24] == 120


@given(CALIBRATIONS, st.floats(0, 1), st.floats(0, 20), st.floats(0, 1), st.floats(0, 20))
def test_confidence_falls_with_age_and_disagreement_and_rises_with_probability(
    calibration, d, age, more, older
):
    wanted = {'min_validity': 0.0}
    base = answer(head(), propagated(d), age, calibration, **wanted).confidence_HW.astype(int)
    aged = answer(head(), propagated(d), age + older, calibration, **wanted).confidence_HW
    worse = answer(head(), propagated(d + more * (1 - d)), age, calibration, **wanted).confidence_HW
    assert (aged <= base).all()
    assert (worse <= base).all()
    assert (np.diff(base.ravel()[::12]) >= 0).all()
    fresh = answer(head(), propagated(), 0.0, calibration, **wanted).confidence_HW.ravel()[::12]
    np.testing.assert_array_equal(fresh[1:], np.floor(calibration.table_256 + 0.5).clip(1)[1:])
    assert fresh[0] == 0


cells = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, float('nan')]), min_size=12, max_size=12).map(
    lambda values: np.array(values, np.float32).reshape(GRID)
)


@settings(deadline=None)
@given(CALIBRATIONS, cells, cells, st.floats(0, 50), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_no_answer_and_confidence_0_are_one_thing(
    calibration, d, validity, age, min_validity, min_confidence, seed
):
    found = head(np.random.default_rng(seed).integers(0, 256, SIZE).astype(np.uint8))
    told = answer(
        found,
        propagated(d, validity),
        age,
        calibration,
        min_validity=min_validity,
        min_confidence=min_confidence,
    )
    check_unknown(told)
    rows, columns = (upsample_matrix(side, side, 16) for side in SIZE)
    inside = rows @ np.nan_to_num(validity) @ columns.T >= min_validity - 1e-5
    decided = inside & (found.confidence_HW > 0)
    is_known = told.confidence_HW > 0
    assert (told.label_map_HW[is_known] == 3).all()
    assert (decided | ~is_known).all()
    if min_confidence == 0:  # else what is not sure enough is left out too
        np.testing.assert_array_equal(is_known, decided)
    assert (told.confidence_HW[is_known] >= 255 * min_confidence).all()


def test_what_is_hardly_sure_keeps_its_class():
    told = answer(head(np.full(SIZE, 9, np.uint8)), propagated(1.0), 1e6)
    assert (told.label_map_HW == 3).all()
    assert (told.confidence_HW == 1).all()


def test_without_a_quality_net_coverage_and_residual_tell_the_disagreement():
    validity = np.array([[1.0, 0.5], [0.25, 0.0]], np.float32)
    found = Propagation(0, validity, 0.0, float(validity.mean()), residual=51.0)
    np.testing.assert_allclose(disagreement(found), [[0.2, 0.6], [0.8, 1.0]], rtol=1e-6)
    judged = dataclasses.replace(found, disagreement_hw=np.full((2, 2), 0.125, np.float32))
    np.testing.assert_array_equal(disagreement(judged), np.float32(0.125))


def test_cells_of_another_image_are_refused():
    wrong = dataclasses.replace(propagated(), disagreement_hw=np.array([[0.0, 0.5]], np.float32))
    with pytest.raises(ShapeError, match=r'\(1, 2\) cells; an image of \(48, 64\) has \(3, 4\)'):
        answer(head(), wrong)


def test_a_summary_counts_pixels_without_an_answer_as_0():
    confidence = np.zeros((4, 4), np.uint8)
    confidence[:3] = 204
    assert summary(head(confidence)) == pytest.approx((0.6, 0.25))


def test_without_confidence_only_the_unknown_are_counted():
    labels = np.full((4, 4), 7, np.uint8)
    labels[3] = 255
    assert summary(Segmentation(labels, None)) == (None, 0.25)
    with pytest.raises(ValueError, match='without its confidence'):
        Segmentation(labels, None).known_confidence_HW  # noqa: B018


class HalfOutside(FakeBackend):
    """The left of two thirds of each propagated frame comes from outside of the key frame."""

    def propagate(self, image_HW3, key):
        validity = np.array([[0.0, 0.0, 1.0]] * 2, np.float32)
        return dataclasses.replace(super().propagate(image_HW3, key), validity_hw=validity)


def steps(backend: FakeBackend, **wanted: object) -> list[StepResult]:
    plan = TaskPlan(segmentation=SegmentationConfig(**wanted))
    engine = Engine(backend, KeyframeConfig(interval=3), plan)
    return [engine.step(numbered_frame(number)) for number in range(2)]


def test_the_engine_marks_what_was_warped_from_outside():
    key, moved = steps(HalfOutside())
    assert (key.mean_confidence, key.share_unknown) == (pytest.approx(200 / 255), 0)
    assert (key.segmentation.label_map_HW == 0).all()
    # Cells 1 and 2 are centred on columns 16 and 32: half of column 24 comes from inside.
    labels, confidence = moved.segmentation.label_map_HW, moved.segmentation.confidence_HW
    assert (labels[:, :24] == 255).all()
    assert (confidence[:, :24] == 0).all()
    assert (labels[:, 24:] == 100).all()
    assert (confidence[:, 24:] > 0).all()
    assert moved.share_unknown == 0.5
    assert moved.mean_confidence == pytest.approx(confidence.mean() / 255)
    (_, unmarked) = steps(HalfOutside(), min_validity=0.0)
    assert unmarked.share_unknown == 0
    assert (unmarked.segmentation.label_map_HW == 100).all()
    assert (unmarked.segmentation.confidence_HW[:, :17] == 1).all()  # wholly from outside: hardly sure


def test_switched_off_confidence_leaves_the_label_maps_as_they_are():
    for asked, without in zip(steps(HalfOutside()), steps(HalfOutside(), confidence=False), strict=True):
        labels = asked.segmentation.label_map_HW
        np.testing.assert_array_equal(without.segmentation.label_map_HW, labels)
        assert without.segmentation.confidence_HW is None
        assert (without.mean_confidence, without.share_unknown) == (None, asked.share_unknown)
    assert without.share_unknown == 0.5


def test_a_head_that_computes_with_what_is_not_finite_is_marked_without_confidence_too():
    confidence = ALL.copy()
    confidence[0], confidence[1:] = 0, 9
    found = answer(head(confidence), propagated(), confidence=False)
    assert found.confidence_HW is None
    assert (found.label_map_HW[0] == 255).all()
    assert (found.label_map_HW[1:] == 3).all()


def test_min_confidence_takes_the_confidence():
    with pytest.raises(
        ConfigError, match=r'min_confidence: got 0.25, .* set it to 0, or segm.*confidence to'
    ):
        replace(DffConfig(), {'segmentation.confidence': False, 'segmentation.min_confidence': 0.25})


@pytest.mark.parametrize('min_confidence', [0.5, 0.8])
def test_what_is_less_sure_than_asked_for_is_left_without_an_answer(min_confidence):
    key, _ = steps(FakeBackend(), min_confidence=min_confidence)  # the head tells 200, that is 0.78
    expected = (0, 200) if min_confidence < 200 / 255 else (255, 0)
    found = key.segmentation
    assert (found.label_map_HW[0, 0], found.confidence_HW[0, 0]) == expected
    check_unknown(found)


@pytest.mark.parametrize(
    ('asked', 'expected', 'num_outside'),
    [('source', (32, 48), 24), ('network', (32, 48), 24), ('96x20', (20, 96), 49), ('24x9', (9, 24), 12)],
)
def test_label_maps_have_the_size_asked_for(asked, expected, num_outside):
    for result in steps(HalfOutside(), output_size=asked):
        assert result.segmentation.label_map_HW.shape == expected
        assert result.segmentation.confidence_HW.shape == expected
    is_unknown = result.segmentation.label_map_HW == 255
    assert is_unknown[:, :num_outside].all()
    assert not is_unknown[:, num_outside:].any()


def test_the_network_size_is_that_of_the_bundle():
    rule = ConfidenceRule(nominal_size=(360, 480), stride=16)
    sizes = [
        rule.output_size(SegmentationConfig(output_size=name), (720, 1280)) for name in ('source', 'network')
    ]
    assert sizes == [(720, 1280), (312, 552)]


@pytest.mark.parametrize(
    'text', ['', '0x5', '5', '640x', 'x480', '4097x10', '10x4097', '-3x4', '1e2x3', 'Source', '٣x٤']
)
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(ConfigError, match=r'segmentation\.output_size.*each from 1 to 4096'):
        replace(DffConfig(), {'segmentation.output_size': text})


def test_a_size_is_width_by_height():
    assert named_size('400x200') == (200, 400)
    assert named_size('4096x1') == (1, 4096)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('gain', 0.0),
        ('gain', float('nan')),
        ('offset', 21.0),
        ('disagreement_weight', -0.1),
        ('decay_per_s', True),
        ('decay_per_s', 0.0),
    ]
    + [('known_age_s', '2'), ('decay_per_s', float('inf'))],
)
def test_calibrations_that_could_turn_the_rule_round_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf'confidence\.{name}: got .* allowed is from'):
        ConfidenceCalibration(**{name: value})


def test_a_calibration_comes_back_from_a_dictionary():
    calibration = ConfidenceCalibration(gain=0.8, offset=-0.1, disagreement_weight=0.1, known_age_s=2.0)
    assert ConfidenceCalibration.from_dict(calibration.to_dict()) == calibration
    with pytest.raises(ConfigError, match='unknown or missing entries .gain, other'):
        ConfidenceCalibration.from_dict(
            {'other': 1.0, 'offset': 0.0, 'disagreement_weight': 1.0}
            | {'decay_per_s': 0.1, 'known_age_s': 1.0}
        )
