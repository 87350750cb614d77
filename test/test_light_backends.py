# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Bundles with a light net: both runtimes against the torch model, with every flow, corrected and not."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnxruntime')
pytest.importorskip('cv2')
import torch
from test_backends import BACKENDS, config, values
from tiny_models import LIGHT, moving_clip, texture, tiny_spec

from dff_ros.backends.base import open_backend
from dff_ros.backends.dis import DisFlow
from dff_ros.backends.use import GraphUse
from dff_ros.bundle import MANIFEST, bundle_names, open_bundle
from dff_ros.config import DffConfig
from dff_ros.engine import Engine
from dff_ros.errors import ShapeError
from dff_ros.geometry import upsample_matrix
from dff_ros.nets.dff import load_model
from dff_ros.nets.segmentation import upsample_scores
from dff_ros.types import Frame

ODD_SIZES = [(97, 129), (211, 333), (64, 96), (16, 16), (33, 16)]


@pytest.fixture(scope='module')
def model(light_bundle):
    """What the bundle was written from, with the weights that it stores."""
    return load_model(light_bundle.spec, light_bundle.weights_path)


def at_size(bundle, size):
    """The bundle with another nominal size: its network image is then the source image itself."""
    return dataclasses.replace(bundle, spec=dataclasses.replace(bundle.spec, nominal_size=size))


def looks(model, *images):
    batch = [torch.from_numpy(image).permute(2, 0, 1)[None] for image in images]
    return [model.look(model.normalise(image)) for image in batch]


def expected_propagation(model, current_image, key_image, flow_2hw=None, correct=True):
    current, key = looks(model, current_image, key_image)
    flow = None if flow_2hw is None else torch.from_numpy(flow_2hw)[None]
    with torch.inference_mode():
        propagated = model.propagate(current, key, model.feature_net(key.image), flow, correct)
        return propagated, model.scores(propagated.feature, current)


def expected_labels(scores, size):
    rows, columns = (torch.from_numpy(upsample_matrix(side, side, 8).copy()) for side in size)
    return upsample_scores(scores, rows, columns.T)[0].argmax(0).numpy()


def assert_same_labels(found, expected):
    assert len(np.unique(expected)) >= 3
    assert (found == expected).mean() >= 0.999


@pytest.mark.parametrize('name', BACKENDS)
@pytest.mark.parametrize('size', ODD_SIZES)
@pytest.mark.parametrize('correction', [True, False])
def test_both_runtimes_equal_the_model(light_bundle, model, name, size, correction):
    key_image, image = moving_clip(size, 2, (7, -4))
    expected, scores = expected_propagation(model, image, key_image, correct=correction)
    with closing(open_backend(at_size(light_bundle, size), config(name, correction=correction))) as backend:
        key = backend.extract(key_image)
        found = backend.propagate(image, key)
        np.testing.assert_allclose(values(found.feature), expected.feature, atol=1e-3)
        labels = backend.predict(found.feature, size, size).label_map_HW
    assert (expected.gate is not None) == correction
    assert (labels == expected_labels(scores, size)).mean() >= 0.99
    moved = expected.flow.norm(dim=1)
    if min(size) > 16:
        assert float(moved.max()) > 0.2  # a flow of zero would hide its scale
        assert np.abs(values(found.feature) - values(key.feature)).max() > 0.1


@pytest.mark.parametrize('name', BACKENDS)
def test_without_the_finest_level_of_flow(name):
    bundle = open_bundle('road-r18')
    assert bundle.graphs['propagate'].inputs[-3:] == ('key_middle', 'key_coarse', 'key_feature')
    key_image, image = moving_clip((120, 160), 2, (7, -4))
    expected, _ = expected_propagation(load_model(bundle.spec, bundle.weights_path), image, key_image)
    with closing(open_backend(at_size(bundle, (120, 160)), config(name))) as backend:
        key = backend.extract(key_image)
        assert key.context.inputs.keys() == {'key_middle', 'key_coarse'}
        found = backend.propagate(image, key)
        np.testing.assert_allclose(values(found.feature), expected.feature, atol=1e-3)
    assert float(expected.flow.norm(dim=1).max()) > 0.2


def test_correction_changes_the_feature(model):
    key_image, image = moving_clip((96, 128), 2, (7, -4))
    corrected, _ = expected_propagation(model, image, key_image)
    warped, _ = expected_propagation(model, image, key_image, correct=False)
    assert float((corrected.feature - warped.feature).abs().max()) > 0.1
    np.testing.assert_array_equal(corrected.warped, warped.feature)


@pytest.mark.parametrize('name', BACKENDS)
@pytest.mark.parametrize('flow', ['zero', 'dis'])
@pytest.mark.parametrize('correction', [True, False])
def test_flow_made_elsewhere_is_corrected_and_gets_its_detail(light_bundle, model, name, flow, correction):
    size = (96, 128)
    key_image, image = moving_clip(size, 2, (9, 2))
    flow_2hw = np.zeros((2, 6, 8), np.float32)
    if flow == 'dis':
        dis = DisFlow(16, 1)
        flow_2hw = dis.flow(dis.prepare(image, size), dis.prepare(key_image, size), size)
    expected, scores = expected_propagation(model, image, key_image, flow_2hw, correction)
    with closing(open_backend(light_bundle, config(name, flow=flow, correction=correction))) as backend:
        found = backend.propagate(image, backend.extract(key_image))
        np.testing.assert_allclose(values(found.feature), expected.feature, atol=1e-3)
        assert_same_labels(
            backend.predict(found.feature, size, size).label_map_HW, expected_labels(scores, size)
        )
    assert found.motion_px == pytest.approx(0 if flow == 'zero' else 9.2, abs=1)


@pytest.mark.parametrize('name', BACKENDS)
def test_a_key_frame_gets_the_detail_of_its_own_image(light_bundle, model, name):
    size = (96, 128)
    image = texture(size)
    (look,) = looks(model, image)
    with torch.inference_mode():
        expected = expected_labels(model(look.image), size)
        without = model.heads['segmentation'](model.feature_net(look.image))
    with closing(open_backend(light_bundle, config(name))) as backend:
        found = backend.predict(backend.extract(image).feature, size, size).label_map_HW
        other = backend.predict(backend.extract(image).feature, size, (50, 75)).label_map_HW
    assert_same_labels(found, expected)
    assert other.shape == (50, 75)
    rows, columns = (torch.from_numpy(upsample_matrix(side, side, 16).copy()) for side in size)
    assert (upsample_scores(without, rows, columns.T)[0].argmax(0).numpy() != expected).mean() > 0.05


def test_label_maps_agree_over_a_clip(light_bundle):
    size, num_equal = (97, 131), 0
    clip = moving_clip(size, 12, (3, 2))
    with (
        closing(open_backend(light_bundle, config('onnx'))) as onnx,
        closing(open_backend(light_bundle, config('torch'))) as torch_backend,
    ):
        pair = (onnx, torch_backend)
        for index, image in enumerate(clip):
            if index % 4 == 0:
                keys = [backend.extract(image) for backend in pair]
            maps = [
                backend.predict(backend.propagate(image, key).feature, size, size).label_map_HW
                for backend, key in zip(pair, keys, strict=True)
            ]
            num_equal += int((maps[0] == maps[1]).sum())
    assert num_equal / (12 * size[0] * size[1]) >= 0.999


@pytest.mark.parametrize('name', BACKENDS)
def test_handles_stay_valid_after_later_calls(light_bundle, name):
    clip, other = moving_clip((96, 128), 4, (3, 1)), moving_clip((120, 160), 2, (2, 0))
    with closing(open_backend(light_bundle, config(name))) as backend:
        key = backend.extract(clip[0])
        propagation = backend.propagate(clip[1], key)
        tensors = [*key.context.inputs.values()]
        for handle in (key.feature, propagation.feature):
            tensors += [handle.feature, handle.light['fine']]
        kept = [np.asarray(tensor).copy() for tensor in tensors]
        assert key.context.inputs.keys() == {'key_fine', 'key_middle', 'key_coarse'}
        for image in (*clip[2:], *other):
            later = backend.extract(image)
            backend.predict(backend.propagate(image, later).feature, image.shape[:2], image.shape[:2])
        for tensor, before in zip(tensors, kept, strict=True):
            np.testing.assert_array_equal(tensor, before)
        np.testing.assert_array_equal(backend.propagate(clip[1], key).feature, propagation.feature)


@pytest.mark.parametrize('name', BACKENDS)
def test_an_adopted_key_serves_another_flow_and_setting(light_bundle, name):
    key_image, image = moving_clip((96, 128), 2, (4, 0))
    with (
        closing(open_backend(light_bundle, config(name))) as own,
        closing(open_backend(light_bundle, config(name, flow='dis'))) as dis,
    ):
        extracted = own.extract(key_image)
        adopted = dis.adopt(key_image, extracted)
        assert own.adopt(key_image, extracted) is extracted
        np.testing.assert_allclose(
            dis.propagate(image, adopted).feature,
            dis.propagate(image, dis.extract(key_image)).feature,
            atol=1e-5,
        )
        np.testing.assert_array_equal(
            own.propagate(image, adopted).feature, own.propagate(image, extracted).feature
        )
        bare = dataclasses.replace(extracted, context=dataclasses.replace(extracted.context, inputs={}))
        with pytest.raises(ShapeError, match='other settings of flow and correction'):
            own.propagate(image, bare)
        np.testing.assert_allclose(
            own.propagate(image, own.adopt(key_image, bare)).feature,
            own.propagate(image, extracted).feature,
            atol=1e-5,
        )


def graphs_of(changes, flow, correction, flow_source='correlation') -> str:
    spec = tiny_spec(flow_source, **changes)
    return ' '.join(GraphUse.of(spec, DffConfig(flow=flow, correction=correction)).graphs)


def test_only_what_the_settings_need_is_loaded():
    bare, light = {}, {'light_channels': 16}
    corrected = {**light, 'correction_channels': 8}
    assert graphs_of(bare, 'bundle', True, 'dis') == 'extract propagate predict'
    assert graphs_of(bare, 'bundle', True, 'flownet_half') == 'extract propagate predict'
    assert graphs_of(bare, 'dis', True, 'flownet_half') == 'extract warp predict'
    assert graphs_of(bare, 'zero', True, 'flownet_half') == 'extract predict'
    assert graphs_of(light, 'bundle', True) == 'extract look propagate predict'
    assert graphs_of(light, 'dis', True) == 'extract warp predict'
    assert graphs_of(corrected, 'zero', False) == 'extract predict'
    assert graphs_of(corrected, 'zero', True) == 'extract look correct predict'
    assert graphs_of(corrected, 'bundle', True, 'dis') == 'extract look propagate correct predict'
    assert graphs_of(LIGHT, 'zero', False) == 'extract look predict'
    judged = {**corrected, 'quality_channels': 8}
    assert graphs_of(judged, 'bundle', True) == 'extract look propagate correct predict'
    assert graphs_of(judged, 'bundle', False) == 'extract look propagate quality predict'
    assert graphs_of({**light, 'quality_channels': 8}, 'zero', True, 'dis') == 'extract look quality predict'
    assert graphs_of(LIGHT, 'dis', True) == 'extract look warp correct predict'


def test_a_setting_without_a_branch_has_no_effect(dis_bundle):
    clip = moving_clip((96, 128), 2, (5, 0))
    features = []
    for correction in (True, False):
        with closing(open_backend(dis_bundle, config(correction=correction))) as backend:
            found = backend.propagate(clip[1], backend.extract(clip[0]))
            features.append(values(found.feature))
            assert found.feature.light == {}
    np.testing.assert_array_equal(*features)


def test_the_log_and_the_timings_tell_of_the_correction(light_bundle, caplog):
    clip = moving_clip((96, 128), 2, (3, 0))
    with (
        caplog.at_level('INFO', 'dff_ros.backends.base'),
        closing(open_backend(light_bundle, config())) as backend,
    ):
        engine = Engine(backend)
        key, propagated = (
            engine.step(Frame(image_HW3=image, stamp_ns=index)) for index, image in enumerate(clip, 1)
        )
    assert 'flow correlation, corrected (' in caplog.records[0].message
    assert key.timings.correct_ms == 0 < propagated.timings.correct_ms < propagated.timings.propagate_ms
    assert propagated.timings.flow_ms > 0


def test_a_bundle_of_version_1_still_opens_and_runs(dis_bundle):
    manifest = json.loads((dis_bundle.path / MANIFEST).read_text(encoding='utf-8'))
    assert manifest['version'] == 1
    assert 'light_channels' not in manifest['model']
    bundle = at_size(open_bundle(dis_bundle.path), (120, 160))
    assert (bundle.spec.light_channels, bundle.score_stride) == (0, 16)
    clip = moving_clip((120, 160), 2, (8, 0))
    with closing(open_backend(bundle, config('onnx'))) as backend:
        found = backend.propagate(clip[1], backend.extract(clip[0]))
        assert found.motion_px == pytest.approx(8, abs=1)
        assert backend.predict(found.feature, (120, 160), (120, 160)).label_map_HW.shape == (120, 160)


def test_the_shipped_bundle_sees_what_moves():
    if 'road-r18' not in bundle_names():
        pytest.skip('needs the bundle models/road-r18')
    clip = moving_clip((120, 160), 2, (8, 0))
    with closing(open_backend(open_bundle('road-r18'), config('onnx'))) as backend:
        found = backend.propagate(clip[1], backend.extract(clip[0]))
        assert found.motion_px == pytest.approx(8, abs=1)
        assert backend.predict(found.feature, (120, 160), (120, 160)).label_map_HW.shape == (120, 160)
