# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Engines from bundles and configs: who gets which threads, and the same answers with a worker as without."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
from fake_backend import FakeBackend
from tiny_models import moving_clip

from dff_ros import opening
from dff_ros.config import DffConfig, KeyframeConfig
from dff_ros.errors import ConfigError
from dff_ros.model_spec import ModelSpec
from dff_ros.opening import open_engine, split_threads
from dff_ros.types import Frame

SIZE = (96, 128)
BUNDLE = SimpleNamespace(
    stride=16,
    confidence=None,
    spec=ModelSpec(class_names=('a', 'b'), class_colours=((1, 2, 3), (4, 5, 6)), nominal_size=SIZE),
)


@pytest.mark.parametrize(
    ('num_threads', 'num_asked', 'expected'),
    [
        (1, 0, (1, 1)),
        (2, 0, (1, 1)),
        (4, 0, (3, 1)),
        (8, 0, (6, 2)),
        (16, 0, (12, 4)),
        (4, 2, (2, 2)),
        (4, 3, (1, 3)),
        (4, 9, (1, 9)),  # what was asked for is done
    ],
)
def test_threads_are_split(num_threads, num_asked, expected):
    assert split_threads(num_threads, num_asked) == expected


def config(**changes: object) -> DffConfig:
    return DffConfig(**{'device': 'cpu', 'num_threads': 4, **changes})  # type: ignore[arg-type]


@pytest.fixture
def opened(monkeypatch):
    """Fake backends in place of real ones; (threads, is_background) of each in the order opened."""
    calls: list[tuple[int, bool]] = []
    backends: list[FakeBackend] = []

    def open_backend(bundle, config, *, is_background=False):
        calls.append((config.num_threads, is_background))
        if config.backend == 'torch' and not is_background:
            raise OSError('no memory')
        backends.append(FakeBackend())
        return backends[-1]

    monkeypatch.setattr(opening, 'open_backend', open_backend)
    return SimpleNamespace(calls=calls, backends=backends)


def test_inline_has_one_backend_with_all_threads(opened):
    with closing(open_engine(BUNDLE, config())) as engine:
        assert engine.worker is None
    assert opened.calls == [(4, False)]


def test_a_worker_is_opened_first_and_has_its_own_threads(opened):
    with closing(open_engine(BUNDLE, config(refresh='worker', refresh_threads=2))) as engine:
        engine.warm_up(SIZE)
        assert engine.backend is opened.backends[1]
    assert opened.calls == [(2, True), (2, False)]
    assert [backend.calls for backend in opened.backends] == 2 * [[f'warm_up {SIZE}', 'close']]


def test_the_worker_is_ended_where_the_other_backend_cannot_be_opened(opened):
    with pytest.raises(OSError, match='no memory'):
        open_engine(BUNDLE, config(refresh='worker', backend='torch'))
    assert opened.backends[0].calls == ['close']


def test_a_task_that_is_not_there_is_told_before_anything_is_opened(opened):
    with pytest.raises(ConfigError, match='tasks'):
        open_engine(BUNDLE, config(tasks='detection'))
    assert opened.calls == []


@pytest.mark.parametrize('name', ['onnx', 'torch'])
@pytest.mark.parametrize('kind', ['dis_bundle', 'flow_bundle', 'light_bundle'])
def test_frames_propagated_from_a_workers_key_frame_are_those_of_inline(request, name, kind):
    bundle = request.getfixturevalue(kind)
    clip = moving_clip(SIZE, 6, (3, -1))
    labels = {}
    for refresh in ('inline', 'worker'):
        settings = config(backend=name, num_threads=1, refresh=refresh, keyframe=KeyframeConfig(interval=3))
        with closing(open_engine(bundle, settings)) as engine:
            engine.warm_up(SIZE)
            results = []
            for index, image in enumerate(clip):
                frame = Frame(image_HW3=image, stamp_ns=(1 + index) * 10**8)
                results.append(engine.step(frame))
                if engine.worker is not None:
                    engine.worker._executor.submit(int).result()  # the key frame before it is made
            labels[refresh] = [result.segmentation.label_map_HW for result in results]
    assert [result.age_frames for result in results] == [0, 1, 2, 3, 1, 2]  # 3 comes into use with 4
    for index in (0, 1, 2, 4, 5):
        assert (labels['inline'][index] == labels['worker'][index]).mean() >= 0.999
    assert len(np.unique(labels['worker'])) > 1


def test_torch_gives_each_thread_its_own_share(dis_bundle):
    torch = pytest.importorskip('torch')
    settings = config(backend='torch', num_threads=3, refresh='worker', flow='zero')
    with closing(open_engine(dis_bundle, settings)) as engine:
        engine.warm_up(SIZE)
        of_worker = engine.worker._executor.submit(torch.get_num_threads).result()
        assert (torch.get_num_threads(), of_worker) == (2, 1)


@pytest.mark.parametrize(('refresh', 'spinning'), [('inline', '1'), ('worker', '0')])
def test_onnx_threads_spin_only_where_one_session_runs_at_a_time(dis_bundle, refresh, spinning):
    pytest.importorskip('onnxruntime')
    with closing(open_engine(dis_bundle, config(backend='onnx', refresh=refresh))) as engine:
        backends = [engine.backend] + ([engine.worker._backend] if engine.worker else [])
        for backend in backends:
            for session in backend._runner._sessions.values():
                options = session.get_session_options()
                assert options.get_session_config_entry('session.intra_op.allow_spinning') == spinning
        threads = [backend.info.num_threads for backend in backends]
        assert threads == ([4] if refresh == 'inline' else [3, 1])
