# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""TensorRT engines: what they are bound to, that none is built while frames wait, `dff export --tensorrt`.

The sessions are those of the CPU, which leave a file where TensorRT would put its engine.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
import onnxruntime
from tiny_models import moving_clip

from dff_ros.backends import onnx_device
from dff_ros.backends.base import open_backend
from dff_ros.backends.gpu_facts import Gpu
from dff_ros.backends.onnx_providers import NAMES, cpu_provider
from dff_ros.backends.onnx_sessions import open_session
from dff_ros.cli import main
from dff_ros.config import DffConfig
from dff_ros.engine_building import build_engines
from dff_ros.engine_cache import MANIFEST, EngineCache, EngineKey, bundle_hash, default_root
from dff_ros.errors import BackendUnavailableError

SIZE, OTHER_SIZE = (96, 128), (131, 90)
KEY = EngineKey(
    gpu='NVIDIA Test (80 GB)', capability='9.0', tensorrt='10.13.0', onnxruntime='1.31.1',
    bundle='0123456789ab', precision='fp16',
)  # fmt: skip
SHAPES = (('image', (96, 128, 3)), ('row_index', (96, 2)))


class TensorRt:
    """Stands for ONNX Runtime's: engines are looked for in the directory of the session, else built there."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.built: Counter[str] = Counter()
        self.version = '10.13.0'
        patch.setattr('onnxruntime.get_available_providers', lambda: list(NAMES.values()))
        patch.setattr(onnx_device, 'gpu_provider', self._provider)
        patch.setattr(onnx_device, 'probe', lambda provider: None)
        patch.setattr(onnx_device, 'open_session', self._open)

    def _provider(self, name, precision):
        return dataclasses.replace(
            cpu_provider(precision), name=name, gpu=Gpu('NVIDIA Test', '9.0'), version=self.version
        )

    def _open(self, graph, content, provider, own):
        engine = Path(own['trt_engine_cache_path'], f'TensorrtExecutionProvider_{self.version}_sm90.engine')
        if not engine.exists():
            engine.write_bytes(content[:100])
            self.built[graph] += 1
        return open_session(graph, content, cpu_provider(provider.precision))


@pytest.fixture
def tensorrt(monkeypatch) -> TensorRt:
    return TensorRt(monkeypatch)


@pytest.fixture
def config(tmp_path) -> DffConfig:
    return DffConfig(provider='tensorrt', precision='fp32', engines=str(tmp_path / 'engines'), num_threads=1)


def test_engines_built_for_a_size_are_those_that_run(dis_bundle, tensorrt, config):
    told = []
    [built] = build_engines(dis_bundle, config, [SIZE], told.append)
    assert (built.size, told) == (SIZE, ['building engines for 128x96: minutes'])
    assert tensorrt.built == {'extract': 1, 'propagate': 1, 'predict': 1}
    plain = DffConfig(backend='onnx', num_threads=1)
    clip = moving_clip(SIZE, 2, (2, 1))
    with (
        closing(open_backend(dis_bundle, config)) as backend,
        closing(open_backend(dis_bundle, plain)) as usual,
    ):
        assert backend.info.provider == 'tensorrt' and 'TensorRT 10.13.0' in backend.info.runtime
        assert backend._runner.sizes == (SIZE,)
        backend.warm_up((480, 640))  # of the size that there are engines for
        features = [
            np.asarray(one.propagate(clip[1], one.extract(clip[0])).feature) for one in (backend, usual)
        ]
        np.testing.assert_allclose(*features, atol=1e-3)
    assert tensorrt.built.total() == 3


def test_a_size_without_engines_is_an_error_that_names_the_command(dis_bundle, tensorrt, config):
    build_engines(dis_bundle, config, [SIZE])
    with closing(open_backend(dis_bundle, config)) as backend:
        with pytest.raises(BackendUnavailableError) as raised:
            backend.extract(np.zeros((*OTHER_SIZE, 3), np.uint8))
        command = f'dff export {dis_bundle.path} --tensorrt --size WIDTHxHEIGHT --precision fp32 --engines '
        assert command in str(raised.value)
        assert 'graph extract for ' in str(raised.value) and 'image 131x90x3' in str(raised.value)
        assert 'has engines for images of 128x96' in str(raised.value)
        backend.extract(np.zeros((*SIZE, 3), np.uint8))
    assert tensorrt.built.total() == 3  # none for the other size


@pytest.mark.parametrize('fallback', [False, True])
def test_without_engines_it_does_not_open_and_falls_back_only_where_asked_to(
    dis_bundle, tensorrt, config, fallback
):
    config = dataclasses.replace(config, fallback=fallback)
    if not fallback:
        with pytest.raises(
            BackendUnavailableError, match='there are no TensorRT engines in .*: build on this'
        ):
            open_backend(dis_bundle, config)
        return
    with closing(open_backend(dis_bundle, config)) as backend:
        assert (backend.info.provider, backend.info.device) == ('cpu', 'cpu')
        assert 'dff export' in backend.info.fallback
    assert tensorrt.built.total() == 0


def test_engines_of_other_versions_bundles_and_precisions_do_not_count(
    dis_bundle, flow_bundle, tensorrt, config
):
    build_engines(dis_bundle, config, [SIZE])
    half = dataclasses.replace(config, precision='fp16')
    for bundle, other in ((flow_bundle, config), (dis_bundle, half)):
        with pytest.raises(BackendUnavailableError, match='there are no TensorRT engines'):
            open_backend(bundle, other)
    tensorrt.version = '10.14.0'
    with pytest.raises(BackendUnavailableError, match='there are no TensorRT engines'):
        open_backend(dis_bundle, config)


def test_damaged_missing_and_refused_engines_are_errors(dis_bundle, tensorrt, config):
    [built] = build_engines(dis_bundle, config, [SIZE])
    [engine] = built.folder.glob('extract-*/*.engine')
    image = np.zeros((*SIZE, 3), np.uint8)
    content = engine.read_bytes()
    for damage, message in (
        (
            lambda: engine.write_bytes(b'cut'),
            f'the TensorRT engine {engine} is damaged: build on this machine',
        ),
        (engine.unlink, 'there is no TensorRT engine of graph extract'),
        (lambda: rename(engine, content), 'TensorRT did not take the engines in .* and built others'),
    ):
        damage()
        with (
            closing(open_backend(dis_bundle, config)) as backend,
            pytest.raises(BackendUnavailableError, match=message),
        ):
            backend.extract(image)


def rename(engine: Path, content: bytes) -> None:
    """As if TensorRT looked for another name than the one it was built with."""
    other = engine.with_name('other.engine')
    other.write_bytes(content)
    manifest = engine.parent / MANIFEST
    facts = json.loads(manifest.read_text())
    facts['files'] = {other.name: facts['files'][engine.name]}
    manifest.write_text(json.dumps(facts))


def test_engines_are_there_whole_or_not_at_all(tmp_path):
    cache = EngineCache(tmp_path, KEY, 'build them')
    with pytest.raises(RuntimeError), cache.building('extract', SHAPES) as folder:
        (folder / 'a.engine').write_bytes(b'half of it')
        raise RuntimeError('TensorRT fails')
    assert list(cache.folder.iterdir()) == [] and cache.sizes == ()
    for content in (b'first', b'second'):
        with cache.building('extract', SHAPES) as folder:
            (folder / 'a.engine').write_bytes(content)
    assert (cache.require('extract', SHAPES) / 'a.engine').read_bytes() == b'second'
    assert cache.sizes == (SIZE,)
    assert cache.new_files(cache.require('extract', SHAPES)) == []
    with pytest.raises(BackendUnavailableError, match='engines for images of 128x96: build them'):
        cache.require('extract', (('image', (97, 128, 3)), SHAPES[1]))


def test_the_directory_tells_what_engines_are_bound_to(tmp_path, monkeypatch, dis_bundle):
    expected = 'NVIDIA-Test-80-GB_sm9.0_tensorrt10.13.0_onnxruntime1.31.1_0123456789ab_fp16_1'
    assert EngineCache(tmp_path, KEY, '').folder == tmp_path / expected
    names = {KEY.folder}
    for field in dataclasses.fields(KEY):
        names.add(dataclasses.replace(KEY, **{field.name: 'other'}).folder)
    assert len(names) == 7
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert default_root() == tmp_path / 'dff_ros' / 'tensorrt'
    calibrated = dataclasses.replace(dis_bundle, figures={'note': 1})
    assert bundle_hash(calibrated) == bundle_hash(dis_bundle)
    facts = dataclasses.replace(next(iter(dis_bundle.files.values())), sha256='0' * 64)
    changed = dataclasses.replace(dis_bundle, files={**dis_bundle.files, 'extract.onnx': facts})
    assert bundle_hash(changed) != bundle_hash(dis_bundle)


def test_the_command_builds_for_each_size(dis_bundle, tensorrt, tmp_path, capsys):
    flags = ['--tensorrt', '--size', '128x96', '--size', '90x131', '--engines', str(tmp_path / 'own')]
    assert main(['export', str(dis_bundle.path), *flags, '--json']) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [item['size'] for item in answer['engines']] == [[128, 96], [90, 131]]
    folder = Path(answer['folder'])
    assert folder.parent == tmp_path / 'own'
    assert folder.name.endswith(f'onnxruntime{onnxruntime.__version__}_{bundle_hash(dis_bundle)}_fp16_1')
    assert len(list(folder.glob(f'*/{MANIFEST}'))) == 6
    shutil.rmtree(folder)
    assert main(['export', str(dis_bundle.path), '--tensorrt', '--engines', str(tmp_path / 'own')]) == 0
    assert capsys.readouterr().out.startswith('engines for 128x96 in ')  # the bundle's nominal size


def test_export_without_a_target_says_what_is_missing(capsys):
    assert main(['export', 'somewhere']) == 2
    assert capsys.readouterr().err.startswith('error: --out is missing')
