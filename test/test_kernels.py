# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The Triton kernels against torch; without a CUDA device in Triton's interpreter (TRITON_INTERPRET=1)."""

from __future__ import annotations

import os
from contextlib import closing

import numpy as np
import pytest

pytest.importorskip('torch')
import torch
from tiny_models import moving_clip, texture, tiny_model

from dff_ros.backends.base import open_backend
from dff_ros.backends.runner import image_taps, score_matrices
from dff_ros.config import DffConfig
from dff_ros.nets.fused import Fusable
from dff_ros.nets.graphs import Resample
from dff_ros.nets.segmentation import SegmentationHead
from dff_ros.nets.warp import propagate, warp

IS_INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
DEVICE = 'cuda' if torch.cuda.is_available() and not IS_INTERPRETED else 'cpu'
if DEVICE == 'cpu' and not IS_INTERPRETED:
    pytest.skip('needs a CUDA device, or TRITON_INTERPRET=1', allow_module_level=True)
kernels = pytest.importorskip('dff_ros.backends.cuda.kernels', reason='needs Triton', exc_type=ImportError)

pytestmark = [] if IS_INTERPRETED else [pytest.mark.gpu]

KERNELS = kernels.TritonKernels()
GRIDS = [(1, 1), (1, 9), (5, 7), (9, 16)]


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def test_the_trial_finds_them_right():
    kernels.check(KERNELS, torch.device(DEVICE))


def test_the_trial_finds_a_wrong_one():
    class Wrong(kernels.TritonKernels):
        def propagate(self, feature, flow, scale_map):
            return super().propagate(feature, -flow, scale_map)

    with pytest.raises(RuntimeError, match='the kernel of warp is off by'):
        kernels.check(Wrong(), torch.device(DEVICE))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('channels', [3, 64, 600])
@pytest.mark.parametrize('grid', GRIDS)
def test_the_warp_is_that_of_grid_sample(grid, channels, dtype):
    feature, scale = noise(2, channels, *grid).to(dtype), noise(2, channels, *grid, seed=1).to(dtype)
    flow = 4 * noise(2, 2, *grid, seed=2)
    found = KERNELS.propagate(feature, flow, scale)
    expected = propagate(feature.float(), flow, scale.float())
    tolerance = 2 * torch.finfo(dtype).eps
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=max(tolerance, 1e-5))
    plain = KERNELS.propagate(feature, flow, None)
    torch.testing.assert_close(
        plain.float(), warp(feature.float(), flow), rtol=tolerance, atol=max(tolerance, 1e-5)
    )


def test_no_flow_is_the_identity_and_whole_cells_shift():
    feature = noise(1, 20, 6, 8)
    still = torch.zeros(1, 2, 6, 8, device=DEVICE)
    assert torch.equal(KERNELS.propagate(feature, still, None), feature)
    right = still.clone()
    right[:, 0] = 3
    shifted = KERNELS.propagate(feature, right, None)
    assert torch.equal(shifted[..., :5], feature[..., 3:])
    assert (shifted[..., 5:] == 0).all()


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 1e30])
def test_a_flow_to_nowhere_gives_zero_there_and_nothing_elsewhere(value):
    feature, flow = noise(1, 20, 6, 8), noise(1, 2, 6, 8, seed=1)
    expected = KERNELS.propagate(feature, flow, None)
    flow[0, :, 2, 3] = value
    found = KERNELS.propagate(feature, flow, None)
    assert (found[..., 2, 3] == 0).all()
    found[..., 2, 3] = expected[..., 2, 3]
    assert torch.equal(found, expected)


def test_the_warp_takes_any_layout():
    feature, scale, flow = noise(1, 24, 5, 7), noise(1, 24, 5, 7, seed=1), noise(1, 2, 5, 7, seed=2)
    expected = KERNELS.propagate(feature, flow, scale)
    last = torch.channels_last
    sliced = noise(1, 2, 10, 14)
    sliced[..., ::2, ::2] = flow
    found = KERNELS.propagate(
        feature.contiguous(memory_format=last), sliced[..., ::2, ::2], scale.contiguous(memory_format=last)
    )
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=last)


@pytest.mark.parametrize('source', [(96, 128), (131, 90), (40, 300)])
def test_the_resize_is_that_of_the_graphs(source):
    image, network = texture(source), (96, 128)
    taps = tuple(torch.tensor(array).to(DEVICE) for array in image_taps(source, network))
    resample = Resample(tiny_model()).to(DEVICE)
    inputs = torch.from_numpy(image).to(DEVICE), *taps
    expected = resample(*inputs)
    resample.kernels = KERNELS
    found = resample(*inputs)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('output', 'network', 'stride'), [((37, 50), (96, 128), 16), ((130, 9), (16, 24), 8)]
)
def test_labels_and_confidence_are_those_of_the_graphs(output, network, stride):
    rows, columns = (torch.tensor(array).to(DEVICE) for array in score_matrices(output, network, stride))
    scores = SegmentationHead.bounded(3 * noise(7, rows.shape[1], columns.shape[0]))
    labels, confidence = SegmentationHead.decode(list((rows @ (scores @ columns)).unbind(0)))
    found_labels, found_confidence = KERNELS.decode(scores, rows, columns)
    assert (found_labels == labels).float().mean() >= 0.999
    assert (found_confidence.int() - confidence.int()).abs().max() <= 1
    assert len(labels.unique()) > 2


def test_equal_scores_are_of_the_first_class():
    rows, columns = (torch.tensor(array).to(DEVICE) for array in score_matrices((20, 30), (64, 96), 16))
    labels, confidence = KERNELS.decode(torch.zeros(4, 4, 6, device=DEVICE), rows, columns)
    assert (labels == 0).all()
    assert (confidence == 64).all()


def test_a_score_that_is_no_number_leaves_no_answer():
    rows, columns = (torch.tensor(array).to(DEVICE) for array in score_matrices((20, 30), (64, 96), 16))
    scores = noise(4, 4, 6)
    scores[1, 2, 3] = np.nan
    assert (KERNELS.decode(scores, rows, columns)[1] == 0).all()


@pytest.mark.parametrize('kind', ['flow_bundle', 'light_bundle'])
def test_a_backend_on_kernels_answers_as_one_without(request, kind):
    bundle, clip = request.getfixturevalue(kind), moving_clip((70, 90), 3, (2, 1))
    labels = []
    for is_fused in (False, True):
        config = DffConfig(backend='torch', device=DEVICE, precision='fp32', num_threads=1)
        with closing(open_backend(bundle, config)) as backend:
            for graph in backend._runner._graphs.values():
                for part in graph.modules():
                    if isinstance(part, Fusable):
                        part.kernels = KERNELS if is_fused else None
            key = backend.extract(clip[0])
            features = [key.feature, *(backend.propagate(image, key).feature for image in clip[1:])]
            answers = [backend.predict(feature, (70, 90), (41, 64)) for feature in features]
            labels.append(np.stack([answer.label_map_HW for answer in answers]))
    assert (labels[0] == labels[1]).mean() >= 0.999
    assert len(np.unique(labels[0])) > 1
