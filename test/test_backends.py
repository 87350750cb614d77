# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The backends over real bundles: torch against ONNX Runtime, handles, sizes, flow, and the choice."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import shutil
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnxruntime')
pytest.importorskip('cv2')
from tiny_models import moving_clip, texture

from dff_ros.backends.base import available_cores, open_backend
from dff_ros.backends.choice import choose_backend
from dff_ros.bundle import bundle_names, file_facts, open_bundle, write_manifest
from dff_ros.config import DffConfig
from dff_ros.errors import BackendUnavailableError, BundleError, ShapeError
from dff_ros.geometry import grid_size, network_size

SIZES = [(96, 128), (97, 131), (120, 160), (60, 200), (240, 181)]
BACKENDS = ('onnx', 'torch')


def config(backend: str = 'onnx', **changes: object) -> DffConfig:
    return DffConfig(**{'backend': backend, 'device': 'cpu', 'num_threads': 2, **changes})


@pytest.fixture(scope='module', params=['dis', 'net'])
def pair(request, dis_bundle, flow_bundle):
    """Both backends of one bundle."""
    bundle = dis_bundle if request.param == 'dis' else flow_bundle
    with (
        closing(open_backend(bundle, config('onnx'))) as onnx,
        closing(open_backend(bundle, config('torch'))) as torch,
    ):
        yield onnx, torch


@pytest.fixture(scope='module', params=BACKENDS)
def backend(request, dis_bundle):
    with closing(open_backend(dis_bundle, config(request.param))) as opened:
        yield opened


def values(feature: object) -> np.ndarray:
    return np.asarray(feature)


@pytest.mark.parametrize('size', SIZES)
def test_torch_and_onnx_give_the_same(pair, size):
    clip = moving_clip(size, 3, (4, -2))
    keys = [backend.extract(clip[0]) for backend in pair]
    grid = grid_size(network_size(size, (96, 128)), 16)
    assert values(keys[0].feature).shape == (1, 16, *grid)
    np.testing.assert_allclose(*(values(key.feature) for key in keys), atol=1e-4)
    propagations = [backend.propagate(clip[2], key) for backend, key in zip(pair, keys, strict=True)]
    np.testing.assert_allclose(*(values(item.feature) for item in propagations), atol=1e-3)
    np.testing.assert_allclose(*(item.validity_hw for item in propagations), atol=1e-3)
    assert propagations[0].validity_hw.shape == grid
    assert propagations[0].validity_hw.dtype == np.float32
    assert propagations[0].motion_px == pytest.approx(propagations[1].motion_px, rel=1e-3)
    assert propagations[0].residual == pytest.approx(propagations[1].residual, rel=1e-2)
    assert np.abs(values(propagations[0].feature) - values(keys[0].feature)).max() > 0.1
    for features in ([key.feature for key in keys], [item.feature for item in propagations]):
        for output in (size, (50, 75)):
            answers = [
                backend.predict(feature, size, output)
                for backend, feature in zip(pair, features, strict=True)
            ]
            assert answers[0].label_map_HW.shape == output
            assert len(np.unique(answers[0].label_map_HW)) >= 3
            assert (answers[0].label_map_HW == answers[1].label_map_HW).mean() >= 0.999
            confidences = [answer.confidence_HW.astype(int) for answer in answers]
            assert np.abs(confidences[0] - confidences[1]).max() <= 2


def test_label_maps_agree_over_a_clip(pair):
    num_equal = 0
    clip = moving_clip((96, 128), 12, (3, 2))
    for index, image in enumerate(clip):
        if index % 5 == 0:
            keys = [backend.extract(image) for backend in pair]
        features = [backend.propagate(image, key).feature for backend, key in zip(pair, keys, strict=True)]
        first, second = (
            backend.predict(feature, (96, 128), (96, 128)).label_map_HW
            for backend, feature in zip(pair, features, strict=True)
        )
        num_equal += int((first == second).sum())
    assert num_equal / (12 * 96 * 128) >= 0.999


@pytest.mark.parametrize('name', BACKENDS)
def test_zero_flow_copies_the_key_feature(flow_bundle, name):
    clip = moving_clip((96, 128), 2, (5, 0))
    with closing(open_backend(flow_bundle, config(name, flow='zero'))) as backend:
        key = backend.extract(clip[0])
        propagation = backend.propagate(clip[1], key)
        np.testing.assert_array_equal(values(propagation.feature), values(key.feature))
    assert (propagation.motion_px, propagation.coverage) == (0.0, 1.0)
    np.testing.assert_array_equal(propagation.validity_hw, np.ones((6, 8), np.float32))


@pytest.mark.parametrize('name', BACKENDS)
def test_dis_flow_overrides_a_flow_net(flow_bundle, name):
    # Content moves by exactly one cell: warping shifts the feature by it, and the scale map is left out.
    clip = moving_clip((96, 128), 2, (16, 0))
    with closing(open_backend(flow_bundle, config(name, flow='dis'))) as backend:
        key = backend.extract(clip[0])
        propagation = backend.propagate(clip[1], key)
        expected, found = values(key.feature)[..., 1:], values(propagation.feature)[..., :-1]
    inner = (..., slice(1, -1), slice(1, -2))
    assert np.abs(found[inner] - expected[inner]).mean() < 0.1 * np.abs(found[inner]).mean()
    assert propagation.motion_px == pytest.approx(16, abs=1)
    assert propagation.validity_hw[2, -1] < 0.2  # came from outside
    assert propagation.validity_hw[2, 3] == pytest.approx(1, abs=1e-3)
    assert propagation.coverage == pytest.approx(float(propagation.validity_hw.mean()))


def test_motion_is_counted_in_pixels_of_the_source(backend):
    clip = moving_clip((192, 256), 2, (12, 0))  # the network sees 6 px
    propagation = backend.propagate(clip[1], backend.extract(clip[0]))
    assert propagation.motion_px == pytest.approx(12, abs=1)
    assert propagation.flow_ms > 0
    assert propagation.warp_ms > 0


def test_handles_stay_valid_after_later_calls_at_two_sizes(backend):
    small, large = moving_clip((96, 128), 4, (2, 0)), moving_clip((120, 160), 4, (2, 0))
    key = backend.extract(small[0])
    propagation = backend.propagate(small[1], key)
    kept = [values(item.feature).copy() for item in (key, propagation)]
    answer = backend.predict(propagation.feature, (96, 128), (96, 128))
    labels, validity = answer.label_map_HW.copy(), propagation.validity_hw.copy()
    for index in range(3):
        other = backend.extract(large[index])
        backend.predict(backend.propagate(large[index + 1], other).feature, (120, 160), (120, 160))
        backend.extract(small[3])
    np.testing.assert_array_equal(values(key.feature), kept[0])
    np.testing.assert_array_equal(values(propagation.feature), kept[1])
    np.testing.assert_array_equal(answer.label_map_HW, labels)
    np.testing.assert_array_equal(propagation.validity_hw, validity)
    again = backend.propagate(small[1], key)
    np.testing.assert_array_equal(values(again.feature), kept[1])
    second = backend.predict(again.feature, (96, 128), (96, 128))
    np.testing.assert_array_equal(second.label_map_HW, labels)
    np.testing.assert_array_equal(second.confidence_HW, answer.confidence_HW)


def test_an_image_may_be_read_only_and_is_not_changed(backend):
    image = texture((96, 128))
    before = image.copy()
    image.setflags(write=False)
    key = backend.extract(image)
    np.testing.assert_array_equal(values(backend.propagate(image, key).feature).shape, (1, 16, 6, 8))
    np.testing.assert_array_equal(image, before)


def test_wrong_sizes_are_refused(backend):
    key = backend.extract(texture((96, 128)))
    with pytest.raises(ShapeError, match=r'current image is \(97, 128\), its key image \(96, 128\)'):
        backend.propagate(texture((97, 128)), key)
    with pytest.raises(
        ShapeError, match=r'feature has \(6, 8\) cells; an image of \(60, 200\) has \(4, 13\)'
    ):
        backend.predict(key.feature, (60, 200), (60, 200))
    with pytest.raises(ShapeError, match='not float32'):
        backend.extract(np.zeros((96, 128, 3), np.float32))
    with pytest.raises(ShapeError, match='each side must be at least 16'):
        backend.extract(np.zeros((15, 128, 3), np.uint8))


@pytest.mark.parametrize('size', [(16, 16), (16, 300), (300, 16)])
def test_the_smallest_and_narrowest_images_are_answered(backend, size):
    backend.warm_up(size)
    answer = backend.predict(backend.extract(texture(size)).feature, size, size)
    assert answer.label_map_HW.shape == size
    assert answer.label_map_HW.max() < 5


@pytest.mark.parametrize('name', BACKENDS)
def test_close_may_be_called_twice_and_leaves_another_backend_working(dis_bundle, name):
    closed, other = (open_backend(dis_bundle, config(name)) for _ in range(2))
    before = other.extract(texture((96, 128))).feature
    closed.close()
    closed.close()
    np.testing.assert_array_equal(other.extract(texture((96, 128))).feature, before)


def test_info_says_what_runs(dis_bundle, caplog):
    with caplog.at_level(logging.INFO, 'dff_ros.backends.base'):
        backend = open_backend(dis_bundle, config('onnx'))
    assert (backend.info.name, backend.info.device, backend.info.num_threads) == ('onnx', 'cpu', 2)
    assert backend.info.runtime.startswith('onnxruntime 1.')
    assert backend.info.choice == 'backend onnx was asked for'
    [record] = caplog.records
    assert (backend.info.provider, backend.info.precision, backend.info.fallback) == ('cpu', 'fp32', '')
    what = f'{backend.info.runtime} on cpu, provider cpu, fp32, 2 threads, flow dis'
    assert record.message.startswith(f'bundle {dis_bundle.name}: {what}')
    backend.close()


def test_no_thread_number_takes_the_cores_of_the_process(dis_bundle):
    with closing(open_backend(dis_bundle, config(num_threads=0))) as backend:
        assert backend.info.num_threads == available_cores()


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def test_auto_takes_onnx_then_torch(monkeypatch):
    assert choose_backend(DffConfig()) == ('onnx', 'auto: onnxruntime is installed')
    assert choose_backend(DffConfig(device='cuda'))[0] == 'torch'
    assert choose_backend(DffConfig(provider='cuda'))[0] == 'onnx'
    hide(monkeypatch, 'onnxruntime')
    assert choose_backend(DffConfig()) == ('torch', 'auto: onnxruntime is not installed, torch is')
    hide(monkeypatch, 'torch')
    with pytest.raises(BackendUnavailableError, match=r'pip install "dff_ros\[onnxruntime,opencv\]"'):
        choose_backend(DffConfig())


@pytest.mark.parametrize('name, package', [('onnx', 'onnxruntime'), ('torch', 'torch')])
def test_a_missing_runtime_names_the_extra(dis_bundle, monkeypatch, name, package):
    hide(monkeypatch, package, f'dff_ros.backends.{name}')
    with pytest.raises(BackendUnavailableError, match=rf'pip install "dff_ros\[{package}\]"'):
        open_backend(dis_bundle, config(name))


def test_missing_opencv_names_the_extra(dis_bundle, monkeypatch):
    hide(monkeypatch, 'dff_ros.backends.dis')
    with pytest.raises(
        BackendUnavailableError, match=r'pip install "dff_ros\[opencv\]", or set flow to zero'
    ):
        open_backend(dis_bundle, config())
    open_backend(dis_bundle, config(flow='zero')).close()


def test_a_device_that_is_not_there_is_an_error(dis_bundle, monkeypatch):
    import torch

    with pytest.raises(BackendUnavailableError, match='install onnxruntime-gpu in place of'):
        open_backend(dis_bundle, config(device='cuda'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(BackendUnavailableError, match='torch finds no CUDA device'):
        open_backend(dis_bundle, config('torch', device='cuda'))


def changed_copy(bundle, folder: Path, name: str, content: bytes):
    """A copy with one file replaced and a manifest that says so: damage that the hashes cannot show."""
    shutil.copytree(bundle.path, folder)
    (folder / name).write_bytes(content)
    files = {**bundle.files, name: file_facts(folder / name)}
    write_manifest(dataclasses.replace(bundle, path=folder, files=files))
    return open_bundle(folder)


def test_files_that_a_runtime_does_not_take_are_named(dis_bundle, tmp_path):
    graph = changed_copy(dis_bundle, tmp_path / 'a', 'predict.onnx', b'no graph')
    with pytest.raises(BundleError, match='predict.onnx is not accepted: it is no ONNX file'):
        open_backend(graph, config('onnx'))
    swapped = (dis_bundle.path / 'propagate.onnx').read_bytes()
    other = changed_copy(dis_bundle, tmp_path / 'b', 'predict.onnx', swapped)
    with pytest.raises(BundleError, match='predict.onnx has the inputs .* the manifest says'):
        open_backend(other, config('onnx'))
    weights = changed_copy(dis_bundle, tmp_path / 'c', 'weights.safetensors', b'x' * 100)
    with pytest.raises(BundleError, match='weights.safetensors cannot be read as safetensors'):
        open_backend(weights, config('torch'))


@pytest.mark.data
@pytest.mark.parametrize(('data', 'split'), [('camvid:camvid', 'val'), ('mot:mot16-11', None)])
def test_labels_and_boxes_agree_on_real_frames(shared_data, data, split):
    """Of 30 frames at their size and at another one, with correction and without."""
    from dff_ros.sources import open_source
    from dff_ros.verification import compare_backends

    if 'road-r18' not in bundle_names():
        pytest.skip('needs the bundle models/road-r18')
    layout, _, folder = data.partition(':')
    source = open_source(f'{layout}:{shared_data / folder}', split=split)
    frames = [item.image_HW3 for item in itertools.islice(source, 30)]
    assert len(frames) == 30
    for clip in compare_backends(open_bundle('road-r18'), frames):
        assert clip.agreement >= 0.999
        assert clip.num_boxes > 100
        assert clip.box_agreement == 1.0, 'edges within 0.5 px, scores within 1e-3'


def test_residual_tells_flow_that_fits_from_none(dis_bundle):
    """DIS flow finds the shift of a clip; the copied feature has what the shift left."""
    clip = moving_clip((96, 128), 3, (6, -3))
    with (
        closing(open_backend(dis_bundle, config())) as dis,
        closing(open_backend(dis_bundle, config(flow='zero'))) as zero,
    ):
        moved = [backend.propagate(clip[2], backend.extract(clip[0])).residual for backend in (dis, zero)]
        still = [backend.propagate(clip[0], backend.extract(clip[0])).residual for backend in (dis, zero)]
        adopted = dis.adopt(clip[0], zero.extract(clip[0]))
        assert dis.propagate(clip[2], adopted).residual == moved[0]
    assert still == [0, 0]
    assert moved[0] < 0.6 * moved[1]
    assert moved[1] > 5
