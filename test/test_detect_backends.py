# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Bundles with a detection head: both runtimes against the torch model and each other, at any source size."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnxruntime')
pytest.importorskip('cv2')
import torch
from test_backends import BACKENDS, config
from tiny_models import DETECTION, ONLY_DETECTION, moving_clip, texture, tiny_model, tiny_spec

from dff_ros.backends.base import open_backend
from dff_ros.backends.clockwork import ClockworkBackend
from dff_ros.backends.use import GraphUse
from dff_ros.bundle import open_bundle
from dff_ros.config import DffConfig
from dff_ros.errors import ConfigError, ShapeError
from dff_ros.geometry import network_size
from dff_ros.nets.boxes import iou
from dff_ros.nets.dff import load_model
from dff_ros.nets.task_graphs import DetectGraph

ODD_SIZES = [(97, 129), (211, 333), (64, 96), (16, 16), (33, 16)]
SETTINGS = {'nms_iou': 0.4, 'score_threshold': 0.3}


@pytest.fixture(scope='module')
def bundle(detection_bundle):
    """Both heads, which see the current frame."""
    return detection_bundle


@pytest.fixture(scope='module')
def only_detection(bundle):
    """The same without its segmentation, for ONNX Runtime."""
    spec = dataclasses.replace(bundle.spec, class_names=(), class_colours=(), detail=False)
    graphs = {name: graph for name, graph in bundle.graphs.items() if name != 'predict'}
    return dataclasses.replace(bundle, spec=spec, graphs=graphs)


def at_size(bundle, size):
    """The bundle with another nominal size: its network image is then the source image itself."""
    return dataclasses.replace(bundle, spec=dataclasses.replace(bundle.spec, nominal_size=size))


def assert_same_boxes(found, expected):
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.5)
    np.testing.assert_allclose(found.scores_N, expected.scores_N, atol=1e-3)
    np.testing.assert_array_equal(found.class_ids_N, expected.class_ids_N)
    assert found.boxes_xyxy.dtype == found.scores_N.dtype == np.float32
    assert found.class_ids_N.dtype == np.int64


def detect_both(bundle, key_image, image, size, **settings):
    results = []
    for name in BACKENDS:
        with closing(open_backend(bundle, config(name))) as backend:
            key = backend.extract(key_image)
            feature = backend.propagate(image, key).feature
            results.append([backend.detect(item, size, **settings) for item in (key.feature, feature)])
    return results


@pytest.mark.parametrize('size', ODD_SIZES)
def test_both_runtimes_give_the_same_boxes(bundle, size):
    bundle = at_size(bundle, size)
    key_image, image = moving_clip(size, 2, (7, -4))
    first, second = detect_both(bundle, key_image, image, size, **SETTINGS)
    for found, expected in zip(first, second, strict=True):
        assert_same_boxes(found, expected)
    if min(size) > 60:
        assert min(map(len, first)) >= 3
        assert len({*first[0].class_ids_N}) == 2


@pytest.mark.parametrize('name', BACKENDS)
def test_boxes_of_a_key_frame_are_those_of_the_model(bundle, name):
    size = (96, 128)
    model = load_model(bundle.spec, bundle.weights_path)
    image = texture(size, 3)
    with torch.inference_mode():
        look = model.look(model.normalise(torch.from_numpy(image).permute(2, 0, 1)[None]))
        raw = model.detect(model.feature_net(look.image), look)
        limits = torch.tensor([0.4]), torch.tensor([0.3])
        rows, number = model.heads['detection'].decode(
            raw, torch.tensor([96.0, 128.0]), torch.ones(2), *limits
        )
    with closing(open_backend(bundle, config(name))) as backend:
        found = backend.detect(backend.extract(image).feature, size, **SETTINGS)
    assert len(found) == int(number) >= 5
    np.testing.assert_allclose(found.boxes_xyxy, rows[: len(found), :4], atol=0.05)
    np.testing.assert_allclose(found.scores_N, rows[: len(found), 4], atol=1e-4)
    np.testing.assert_array_equal(found.class_ids_N, rows[: len(found), 5])
    assert (found.scores_N[1:] <= found.scores_N[:-1]).all()


@pytest.mark.parametrize('name', BACKENDS)
def test_detection_sees_the_current_frame(bundle, name):
    size = (96, 128)
    with closing(open_backend(bundle, config(name))) as backend:
        one, other = (backend.extract(texture(size, seed)).feature for seed in (3, 4))
        mixed = dataclasses.replace(one, light={**one.light, 'middle': other.light['middle']})
        found, changed = (backend.detect(item, size, **SETTINGS) for item in (one, mixed))
    assert {*one.light} == {'fine', 'middle'}
    assert len(found) != len(changed) or np.abs(found.scores_N - changed.scores_N).max() > 0.01


@pytest.mark.parametrize('name', BACKENDS)
@pytest.mark.parametrize('source', [(192, 256), (72, 96), (150, 201)])
def test_boxes_are_in_pixels_of_the_source_image(bundle, name, source):
    """The same features, said to be of another source of the same network size."""
    network = network_size(source, bundle.spec.nominal_size)
    with (
        closing(open_backend(bundle, config(name))) as backend,
        closing(open_backend(at_size(bundle, network), config(name))) as still,
    ):
        feature = still.extract(texture(network, 3)).feature
        own, found = (
            item.detect(feature, size, **SETTINGS) for item, size in ((still, network), (backend, source))
        )
    factor = np.array([source[1] / network[1], source[0] / network[0]] * 2)
    assert len(own) == len(found) >= 3
    np.testing.assert_allclose(found.boxes_xyxy, own.boxes_xyxy * factor, atol=1e-3)
    np.testing.assert_allclose(found.scores_N, own.scores_N, atol=1e-6)
    limits = np.array([source[1], source[0]] * 2, np.float32)
    assert (found.boxes_xyxy >= 0).all() and (found.boxes_xyxy <= limits).all()


@pytest.mark.parametrize('name', BACKENDS)
def test_thresholds_are_those_asked_for(bundle, name):
    size = (96, 128)
    with closing(open_backend(bundle, config(name))) as backend:
        feature = backend.extract(texture(size, 3)).feature
        every, some, none = (
            backend.detect(feature, size, nms_iou=0.4, score_threshold=value) for value in (0.0, 0.6, 1.0)
        )
        tight, loose = (
            backend.detect(feature, size, nms_iou=value, score_threshold=0.6) for value in (0.05, 1.0)
        )
    assert len(none) == 0 and none.boxes_xyxy.shape == (0, 4)
    assert 0 < len(some) < len(every) <= bundle.spec.max_boxes
    np.testing.assert_array_equal(some.scores_N, every.scores_N[every.scores_N > 0.6])
    assert len(tight) < len(some) < len(loose)
    for number in (0, 1):
        boxes = torch.from_numpy(tight.boxes_xyxy[tight.class_ids_N == number])
        assert float(iou(boxes, boxes).triu(1).max()) <= 0.05


@pytest.mark.parametrize('name', BACKENDS)
def test_an_adopted_key_and_kept_handles_give_the_same_boxes(bundle, name):
    clip = moving_clip((96, 128), 3, (4, 1))
    with (
        closing(open_backend(bundle, config(name))) as own,
        closing(open_backend(bundle, config(name, flow='zero', correction=False))) as still,
    ):
        key = own.extract(clip[0])
        before = own.detect(key.feature, (96, 128), **SETTINGS)
        adopted = still.adopt(clip[0], key)
        feature = still.propagate(clip[1], adopted).feature
        own.detect(own.propagate(clip[2], key).feature, (96, 128), **SETTINGS)
        assert_same_boxes(still.detect(adopted.feature, (96, 128), **SETTINGS), before)
        assert_same_boxes(own.detect(key.feature, (96, 128), **SETTINGS), before)
        # Flow zero copies the feature; what the head sees of the frame itself is new.
        np.testing.assert_array_equal(feature.feature, key.feature.feature)
        assert (
            np.abs(np.asarray(feature.light['middle']) - np.asarray(key.feature.light['middle'])).max() > 0.01
        )
        assert len(still.detect(feature, (96, 128), **SETTINGS)) > 0


@pytest.mark.parametrize('name', BACKENDS)
def test_a_task_or_size_that_is_not_there_is_refused(bundle, dis_bundle, name):
    with closing(open_backend(bundle, config(name))) as backend:
        feature = backend.extract(texture((96, 128))).feature
        with pytest.raises(ShapeError, match=r'has \(6, 8\) cells; an image of \(128, 96\)'):
            backend.detect(feature, (128, 96), **SETTINGS)
        backend.warm_up((40, 50))
    with closing(open_backend(dis_bundle, config(name))) as backend:
        feature = backend.extract(texture((96, 128))).feature
        assert feature.light == {}
        with pytest.raises(ConfigError, match='the bundle has no detection, only segmentation'):
            backend.detect(feature, (96, 128), **SETTINGS)


def test_a_bundle_can_be_for_detection_alone(bundle, only_detection):
    image = texture((96, 128), 3)
    with (
        closing(open_backend(only_detection, config('onnx'))) as backend,
        closing(open_backend(bundle, config('onnx'))) as both,
    ):
        backend.warm_up((40, 50))
        feature = backend.extract(image).feature
        assert {*feature.light} == {'middle'}
        with pytest.raises(ConfigError, match='the bundle has no segmentation, only detection'):
            backend.predict(feature, (96, 128), (96, 128))
        expected = both.detect(both.extract(image).feature, (96, 128), **SETTINGS)
        assert_same_boxes(backend.detect(feature, (96, 128), **SETTINGS), expected)


def test_the_manifest_tells_of_the_graph(bundle):
    read = open_bundle(bundle.path)
    names = ('feature', 'network_size', 'scale', 'nms_iou', 'score_threshold', 'middle')
    assert (read.graphs['detect'].inputs, read.graphs['detect'].outputs) == (names, ('boxes', 'num_boxes'))
    assert (read.version, read.spec) == (3, bundle.spec)


def test_which_graphs_the_settings_need():
    def graphs_of(flow, **changes):
        use = GraphUse.of(tiny_spec('dis', **changes), DffConfig(flow=flow, correction=False))
        return ' '.join(use.graphs)

    seeing = {**ONLY_DETECTION, 'light_channels': 16, 'detection_channels': 8}
    assert graphs_of('bundle', **ONLY_DETECTION) == 'extract propagate detect'
    assert graphs_of('zero', **DETECTION) == 'extract predict detect'
    assert graphs_of('zero', **seeing) == 'extract look detect'
    assert graphs_of('zero', **{**seeing, 'detection_channels': 0}) == 'extract detect'


@pytest.fixture(scope='module')
def bare_session():
    """The paper's head, on the halves of the feature, as torch module and in ONNX Runtime."""
    import onnxruntime

    from dff_ros.onnx_graphs import example_inputs, export_graph

    model = tiny_model('zero', **{**ONLY_DETECTION, 'box_pooling': 'smooth'}).folded()
    graph = DetectGraph(model)
    proto = export_graph('detect', graph, example_inputs(model))
    return graph, onnxruntime.InferenceSession(proto.SerializeToString(), providers=['CPUExecutionProvider'])


def rows_of_both(bare_session, feature, size):
    graph, session = bare_session
    values = [feature, *(torch.tensor(v).float() for v in (size, (1.0, 2.0), (0.4,), (0.1,)))]
    with torch.inference_mode():
        expected = [part.numpy() for part in graph(*values)]
    inputs = {name: value.numpy() for name, value in zip(graph.inputs, values, strict=True)}
    return expected, session.run(list(graph.outputs), inputs)


@pytest.mark.parametrize('grid', [(1, 1), (1, 5), (6, 8), (11, 7)])
def test_the_head_of_the_paper_in_onnx_runtime(bare_session, grid):
    feature = torch.randn(1, 16, *grid, generator=torch.Generator().manual_seed(1)).relu()
    expected, found = rows_of_both(bare_session, feature, (grid[0] * 16 - 5, grid[1] * 16))
    assert found[0].shape == (25, 6) and int(expected[1][0]) >= 1
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-2)
    np.testing.assert_allclose(found[0][:, 4], expected[0][:, 4], atol=1e-4)


@pytest.mark.parametrize('value', [0.0, 1.0, np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize('where', ['all', 'one cell'])
def test_features_that_tell_nothing_in_onnx_runtime(bare_session, value, where):
    feature = torch.randn(1, 16, 6, 8, generator=torch.Generator().manual_seed(1)).relu()
    feature[(slice(None),) * 2 + ((2, 3) if where == 'one cell' else ())] = value
    expected, found = rows_of_both(bare_session, feature, (96, 128))
    for rows, number in (expected, found):
        assert np.isfinite(rows).all() and not rows[int(number[0]) :].any()
    if not np.isfinite(value):
        assert int(found[1][0]) == int(expected[1][0]) == 0
    elif value < 2:
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_allclose(found[0], expected[0], atol=1e-2)


def test_stage_reuse_detects_too(bundle):
    clip = moving_clip((96, 128), 2, (3, 0))
    with (
        closing(ClockworkBackend(bundle, 1)) as backend,
        closing(open_backend(bundle, config('torch'))) as own,
    ):
        key = backend.extract(clip[0])
        expected = own.detect(own.extract(clip[0]).feature, (96, 128), **SETTINGS)
        assert_same_boxes(backend.detect(key.feature, (96, 128), **SETTINGS), expected)
        feature = backend.propagate(clip[1], key).feature
        assert len(backend.detect(feature, (96, 128), **SETTINGS)) > 0
        assert {*feature.light} == {'fine', 'middle'}
