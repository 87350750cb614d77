# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Confidence of real networks: what comes from outside, both runtimes, what is not finite, output sizes."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import numpy as np
import pytest
from tiny_models import moving_clip, texture

from dff_ros.backends import base
from dff_ros.backends.base import open_backend
from dff_ros.confidence import ConfidenceCalibration
from dff_ros.config import DffConfig, KeyframeConfig, SegmentationConfig
from dff_ros.opening import open_engine
from dff_ros.types import Frame, StepResult

pytest.importorskip('onnxruntime')
SIZE = (96, 128)
BACKENDS = pytest.mark.parametrize('name', ['onnx', 'torch'])


class ConstantFlow:
    """A flow of so many cells to the right everywhere: the camera moved to the right."""

    def __init__(self, num_cells: int) -> None:
        self._num_cells = num_cells

    def prepare(self, image_HW3, network_size):
        return image_HW3[..., 0]

    def flow(self, current, key, network_size):
        flow = np.zeros((2, network_size[0] // 16, network_size[1] // 16), np.float32)
        flow[0] = self._num_cells
        return flow


def answers(bundle, clip, name: str, **settings: object) -> list[StepResult]:
    config = DffConfig(
        backend=name,
        num_threads=1,
        keyframe=KeyframeConfig(interval=10),
        **settings,  # type: ignore[arg-type]
    )
    with closing(open_engine(bundle, config)) as engine:
        return [
            engine.step(Frame(image_HW3=image, stamp_ns=(1 + index) * 10**8))
            for index, image in enumerate(clip)
        ]


@BACKENDS
@pytest.mark.parametrize('num_cells', [1, 2, 5])
def test_the_band_from_outside_of_a_shifted_image_has_no_answer(dis_bundle, monkeypatch, name, num_cells):
    monkeypatch.setattr(base, '_open_dis', lambda stride, num_threads: ConstantFlow(num_cells))
    clip = moving_clip(SIZE, 2, (16 * num_cells, 0))
    key, moved = answers(dis_bundle, clip, name)
    labels, confidence = moved.segmentation.label_map_HW, moved.segmentation.confidence_HW
    # The last valid cell is 7 - n, the next is 0: half way between their centres.
    first = 16 * (7 - num_cells) + 8 + 1
    assert (labels[:, first:] == 255).all()
    assert (confidence[:, first:] == 0).all()
    assert (confidence[:, :first] > 0).all()
    inside = first - 9
    np.testing.assert_array_equal(
        labels[:, :inside], key.segmentation.label_map_HW[:, 16 * num_cells :][:, :inside]
    )
    assert moved.share_unknown == pytest.approx(1 - first / 128)
    assert key.share_unknown == 0
    unmarked = answers(dis_bundle, clip, name, segmentation=SegmentationConfig(min_validity=0.0))[1]
    assert unmarked.share_unknown == 0
    np.testing.assert_array_equal(unmarked.segmentation.label_map_HW[:, :first], labels[:, :first])
    np.testing.assert_array_equal(unmarked.segmentation.confidence_HW[:, :first], confidence[:, :first])


def test_both_runtimes_give_the_same_confidence(light_bundle):
    calibration = ConfidenceCalibration(gain=0.8, offset=-0.1, disagreement_weight=0.5, decay_per_s=0.2)
    bundle = dataclasses.replace(light_bundle, confidence=calibration)
    clip = moving_clip((75, 131), 5, (6, 2))
    wanted = SegmentationConfig(output_size='64x40')
    plain, calibrated = (answers(b, clip, 'onnx', segmentation=wanted) for b in (light_bundle, bundle))
    other = answers(bundle, clip, 'torch', segmentation=wanted)
    for one, two in zip(calibrated, other, strict=True):
        assert one.segmentation.label_map_HW.shape == (40, 64)
        assert (one.segmentation.label_map_HW == two.segmentation.label_map_HW).mean() >= 0.995
        differences = one.segmentation.confidence_HW.astype(int) - two.segmentation.confidence_HW
        assert (np.abs(differences) <= 2).mean() >= 0.995
        assert one.mean_confidence == pytest.approx(two.mean_confidence, abs=2e-3)
    assert calibrated[0].mean_confidence != pytest.approx(plain[0].mean_confidence, abs=0.01)


@pytest.mark.parametrize(
    ('name', 'device'),
    [('onnx', 'cpu'), ('torch', 'cpu'), pytest.param('torch', 'cuda', marks=pytest.mark.gpu)],
)
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('kind', ['dis_bundle', 'light_bundle'])
def test_features_that_are_not_finite_leave_no_answer(request, name, device, value, kind):
    bundle = request.getfixturevalue(kind)
    clip = moving_clip(SIZE, 2, (2, 1))
    config = DffConfig(backend=name, device=device, num_threads=1)
    with closing(open_engine(bundle, config)) as engine:
        backend = engine.backend
        extract = backend.extract

        def broken(image_HW3):
            key = extract(image_HW3)
            array = backend._runner.arrays([key.feature.feature])[0].copy()
            array[0, 3, 2, 4] = value
            feature = dataclasses.replace(key.feature, feature=backend._runner.tensor(array))
            return dataclasses.replace(key, feature=feature)

        backend.extract = broken
        results = [
            engine.step(Frame(image_HW3=image, stamp_ns=(1 + index) * 10**8))
            for index, image in enumerate(clip)
        ]
    for result in results:
        assert (result.segmentation.label_map_HW == 255).all()
        assert (result.segmentation.confidence_HW == 0).all()
        assert (result.mean_confidence, result.share_unknown) == (0, 1)


@pytest.mark.parametrize('kind', ['dis_bundle', 'light_bundle'])
def test_a_smaller_map_is_the_larger_one_at_the_centres_of_its_pixels(request, kind):
    bundle = request.getfixturevalue(kind)
    image = texture((111, 159))
    with closing(open_backend(bundle, DffConfig(backend='onnx', num_threads=1))) as backend:
        feature = backend.extract(image).feature
        whole = backend.predict(feature, (111, 159), (111, 159))
        third = backend.predict(feature, (111, 159), (37, 53))
    np.testing.assert_array_equal(third.label_map_HW, whole.label_map_HW[1::3, 1::3])
    differences = third.confidence_HW.astype(int) - whole.confidence_HW[1::3, 1::3]
    assert np.abs(differences).max() <= 1
    assert len(np.unique(third.label_map_HW)) >= 3
