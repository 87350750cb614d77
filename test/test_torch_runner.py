# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The torch backend in half precision and with recorded graphs, as a CUDA device has them, on the CPU."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import numpy as np
import pytest

pytest.importorskip('torch')
import torch
from recording_helpers import ReusingRecord
from tiny_models import moving_clip, tiny_model
from torch import nn

from dff_ros.backends.base import open_backend
from dff_ros.backends.cuda.bandwidth import WarpBandwidth, warp_bandwidth
from dff_ros.backends.cuda.recording import Recordings
from dff_ros.backends.cuda.transfer import download, shared, upload
from dff_ros.backends.finishing import FinishingBackend
from dff_ros.confidence import ConfidenceCalibration, ConfidenceRule
from dff_ros.config import DffConfig, SegmentationConfig
from dff_ros.errors import BackendUnavailableError, ShapeError
from dff_ros.heads import run_heads
from dff_ros.nets.precision import narrow
from dff_ros.tasks import TaskPlan

SIZE = (131, 90)
BUNDLES = ['dis_bundle', 'flow_bundle', 'light_bundle', 'detection_bundle']


def open_torch(bundle, **changes):
    return closing(open_backend(bundle, DffConfig(backend='torch', device='cpu', num_threads=1, **changes)))


def record(backend):
    """Let its runner record its graphs as it would on a CUDA device."""
    backend._runner._recordings = Recordings(ReusingRecord())


def answers(backend, clip):
    """Label maps of key frame and propagated frames, the propagations, the boxes of the last frame."""
    size = clip[0].shape[:2]
    key = backend.extract(clip[0])
    moved = [backend.propagate(image, key) for image in clip[1:]]
    features = [key.feature, *(propagation.feature for propagation in moved)]
    labels = np.stack([backend.predict(feature, size, size).label_map_HW for feature in features])
    has_boxes = 'detection' in backend._spec.tasks
    boxes = backend.detect(features[-1], size, 0.5, 0.1).boxes_xyxy if has_boxes else None
    return labels, moved, boxes


@pytest.mark.parametrize('kind', BUNDLES)
def test_recorded_graphs_answer_as_those_run_step_by_step(request, kind):
    bundle, clip = request.getfixturevalue(kind), moving_clip(SIZE, 6, (2, 1))
    with open_torch(bundle) as plain, open_torch(bundle) as recorded:
        record(recorded)
        recorded.warm_up(SIZE)
        names = recorded._runner._recordings.names()
        expected, found = answers(plain, clip), answers(recorded, clip)
        assert names >= set(recorded._use.graphs) - {'detect', 'look'}  # matching looks for itself
        assert 'detect' not in names
        np.testing.assert_array_equal(found[0], expected[0])
        assert len(np.unique(found[0])) > 1
        for one, two in zip(found[1], expected[1], strict=True):
            np.testing.assert_allclose(one.validity_hw, two.validity_hw, atol=1e-5)
            assert one.motion_px == pytest.approx(two.motion_px, rel=1e-4)
            assert one.residual == pytest.approx(two.residual, rel=1e-4)
        if expected[2] is not None:
            np.testing.assert_allclose(found[2], expected[2], atol=1e-3)


def test_a_key_frame_outlives_what_is_recorded_and_repeated_after_it(light_bundle):
    clip = moving_clip(SIZE, 5, (3, 0))
    with open_torch(light_bundle) as backend:
        record(backend)
        backend.warm_up(SIZE)
        keys = [backend.extract(image) for image in clip[:2]]
        before = [key.feature.feature.clone() for key in keys]
        moved = backend.propagate(clip[2], keys[0])
        moved_before = moved.feature.feature.clone()
        for image in clip:
            backend.propagate(image, keys[1])
            backend.extract(image)
        for key, value in zip(keys, before, strict=True):
            assert torch.equal(key.feature.feature, value)
        assert torch.equal(moved.feature.feature, moved_before)
        assert not torch.equal(before[0], before[1])
        again = backend.propagate(clip[2], keys[0])
        assert torch.equal(again.feature.feature, moved_before)


@pytest.mark.parametrize('kind', BUNDLES)
def test_bf16_answers_nearly_as_fp32(request, kind):
    bundle, clip = request.getfixturevalue(kind), moving_clip(SIZE, 4, (2, 1))
    with open_torch(bundle) as exact, open_torch(bundle, precision='bf16') as narrow_backend:
        assert (exact.info.precision, narrow_backend.info.precision) == ('fp32', 'bf16')
        expected, found = answers(exact, clip), answers(narrow_backend, clip)
        assert narrow_backend.extract(clip[0]).feature.feature.dtype == torch.bfloat16
    assert (found[0] == expected[0]).mean() >= 0.95
    for one, two in zip(found[1], expected[1], strict=True):
        assert one.validity_hw.dtype == np.float32
        assert one.motion_px == pytest.approx(two.motion_px, abs=0.5)
        assert one.coverage == pytest.approx(two.coverage, abs=0.02)
        if two.disagreement is not None:
            assert one.disagreement == pytest.approx(two.disagreement, abs=0.05)


@pytest.mark.parametrize('flow', ['flownet_half', 'correlation'])
def test_half_precision_is_that_of_convolutions_alone(flow):
    light = {'light_channels': 16, 'detail': True, 'correction_channels': 8, 'quality_channels': 6}
    model = narrow(tiny_model(flow, **light).folded(), torch.bfloat16)
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            assert module.weight.dtype == torch.bfloat16, name
            assert module.weight.is_contiguous(memory_format=torch.channels_last)
            module.register_forward_hook(
                lambda _, inputs, output, name=name: seen.update({name: output.dtype})
            )
    assert model.pixel_scale.dtype == torch.float32
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    looks = [model.look(model.normalise(x[None]).to(model.image_dtype)) for x in image]
    with torch.no_grad():
        moved = model.propagate(looks[0], looks[1], model.feature_net(looks[1].image))
    assert moved.flow.dtype == torch.float32
    assert moved.feature.dtype == moved.warped.dtype == torch.bfloat16
    assert torch.isfinite(moved.feature).all()
    assert set(seen.values()) == {torch.bfloat16}


@pytest.mark.parametrize(
    ('backend', 'precision', 'expected'),
    [
        ('torch', 'fp16', 'fp16 on a CUDA device only: set precision to fp32 or bf16'),
        ('torch', 'int8', 'precision int8: set backend to onnx'),
    ],
)
def test_a_precision_that_torch_lacks_is_an_error(dis_bundle, backend, precision, expected):
    with pytest.raises(BackendUnavailableError, match=expected):
        open_backend(dis_bundle, DffConfig(backend=backend, device='cpu', precision=precision))


@pytest.mark.parametrize('kind', ['flow_bundle', 'light_bundle'])
@pytest.mark.parametrize('wanted', [{}, {'min_confidence': 0.4, 'min_validity': 0.8}, {'confidence': False}])
def test_final_answers_of_a_device_are_those_of_the_host(request, kind, wanted):
    bundle, clip = request.getfixturevalue(kind), moving_clip(SIZE, 4, (9, 6))
    wanted = SegmentationConfig(**wanted)
    calibration = ConfidenceCalibration(gain=1.3, offset=-0.2, disagreement_weight=2.0, decay_per_s=0.5)
    rule = ConfidenceRule(bundle.spec.nominal_size, bundle.stride, calibration)
    plan = TaskPlan(tasks=('segmentation',), segmentation=wanted)
    with open_torch(bundle) as host:
        device = FinishingBackend(host._runner, bundle, host.info, host._use)
        record(device)
        device.warm_up(SIZE)
        assert 'finish' in host._runner._recordings.names()
        key = host.extract(clip[0])
        for age, image in enumerate(clip[1:]):
            moved = host.propagate(image, key)
            one, two = (
                run_heads(backend, moved, age / 10, SIZE, plan, ('segmentation',), rule)
                for backend in (host, device)
            )
            expected, found = one.segmentation, two.segmentation
            np.testing.assert_array_equal(found.label_map_HW == 255, expected.label_map_HW == 255)
            np.testing.assert_array_equal(found.label_map_HW, expected.label_map_HW)
            assert two.share_unknown == pytest.approx(one.share_unknown, abs=1e-12)
            assert (found.confidence_HW is None) == (not wanted.confidence)
            if wanted.confidence:
                differences = found.confidence_HW.astype(int) - expected.confidence_HW
                assert np.abs(differences).max() <= 1
                assert (differences != 0).mean() <= 1e-3
                assert two.mean_confidence == pytest.approx(one.mean_confidence, abs=1e-5)
            assert 0 < one.share_unknown < 1
        with pytest.raises(ShapeError, match='cells; an image of'):
            small = dataclasses.replace(moved, validity_hw=np.ones((2, 2), np.float32), disagreement_hw=None)
            run_heads(device, small, 0.1, SIZE, plan, ('segmentation',), rule)


def test_uploads_are_copies_of_any_array():
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (1200, 1001, 3), np.uint8)  # more than three slices, the last one short
    large.setflags(write=False)
    for array in (large, np.arange(5), np.array(3, np.float32), np.zeros((0, 4), np.float32)):
        tensor = upload(array, torch.device('cpu'))
        np.testing.assert_array_equal(tensor.numpy(), array)
        assert not np.shares_memory(tensor.numpy(), array)
        assert np.shares_memory(shared(array).numpy(), array) == (array.size > 0)
    turned = large.transpose(1, 0, 2)
    np.testing.assert_array_equal(upload(turned, torch.device('cpu')).numpy(), turned)


def test_downloads_are_of_single_precision_or_whole():
    tensors = [
        torch.tensor([[1.5, -2.0]], dtype=torch.float16),
        torch.tensor([3.0], dtype=torch.bfloat16),
        torch.tensor([7, 255], dtype=torch.uint8),
        torch.arange(12.0).view(3, 4).T,
    ]
    found = [tensor.numpy() for tensor in download(tensors)]
    assert [array.dtype for array in found] == [np.float32, np.float32, np.uint8, np.float32]
    assert all(array.flags.c_contiguous for array in found)
    for array, tensor in zip(found, tensors, strict=True):
        np.testing.assert_array_equal(array, tensor.float().numpy())
        tensor.zero_()
        assert array.any()


def test_the_bandwidth_of_the_warp_is_told_as_a_part_of_a_copy():
    found = warp_bandwidth(torch.device('cpu'), torch.float32, (16, 32), 64)
    assert found.fused is None
    assert found.fused_fraction is None
    assert 0 < found.grid_sample_fraction == found.grid_sample / found.copy
    told = WarpBandwidth(copy=2000.0, grid_sample=500.0, fused=1500.0)
    assert (told.grid_sample_fraction, told.fused_fraction) == (0.25, 0.75)
