# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Which runtime and provider a config leads to, and when the CPU takes their place."""

from __future__ import annotations

import logging
from contextlib import closing

import numpy as np
import pytest
from tiny_models import texture

from dff_ros.backends.base import open_backend
from dff_ros.backends.choice import choose_backend, choose_provider, may_fall_back, on_cpu
from dff_ros.config import PROVIDERS, DffConfig
from dff_ros.errors import BackendUnavailableError, ConfigError


@pytest.mark.parametrize(
    ('changes', 'provider'),
    [
        ({}, 'cpu'),
        ({'device': 'cpu'}, 'cpu'),
        ({'device': 'cuda', 'backend': 'onnx'}, 'cuda'),
        ({'provider': 'cuda'}, 'cuda'),
        ({'provider': 'tensorrt', 'device': 'cuda'}, 'tensorrt'),
        ({'provider': 'openvino', 'device': 'cpu'}, 'openvino'),
        ({'provider': 'cpu', 'device': 'cpu'}, 'cpu'),
    ],
)
def test_the_provider_of_a_config(changes, provider):
    config = DffConfig(**changes)
    assert (choose_backend(config)[0], choose_provider(config)) == ('onnx', provider)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'provider': 'cuda', 'device': 'cpu'}, "got 'cuda' with device cpu: leave one of them at auto"),
        ({'provider': 'tensorrt', 'device': 'cpu'}, "got 'tensorrt' with device cpu"),
        ({'provider': 'cpu', 'device': 'cuda'}, "got 'cpu' with device cuda"),
        ({'provider': 'openvino', 'device': 'cuda'}, "got 'openvino' with device cuda"),
        ({'provider': 'cpu', 'backend': 'torch'}, "got 'cpu' with backend torch, which has no execution"),
    ],
)
def test_settings_that_exclude_each_other(changes, message):
    with pytest.raises(ConfigError, match=message):
        choose_backend(DffConfig(**changes))


def test_the_cpu_takes_the_place_of_what_is_asked_for_only_where_that_is_wanted():
    wanted = {provider: may_fall_back(DffConfig(provider=provider, fallback=True)) for provider in PROVIDERS}
    assert wanted == {'auto': False, 'cpu': False, 'cuda': True, 'tensorrt': True, 'openvino': True}
    assert may_fall_back(DffConfig(device='cuda', fallback=True))
    assert not may_fall_back(DffConfig(device='cuda'))
    plain = on_cpu(DffConfig(device='cuda', provider='tensorrt', num_threads=3))
    assert (plain.device, plain.provider, plain.num_threads) == ('cpu', 'auto', 3)


@pytest.mark.parametrize(
    ('provider', 'package'),
    [('cuda', 'onnxruntime-gpu'), ('tensorrt', 'onnxruntime-gpu'), ('openvino', 'onnxruntime-openvino')],
)
def test_a_provider_that_is_not_there_names_the_package(dis_bundle, monkeypatch, provider, package):
    monkeypatch.setattr('onnxruntime.get_available_providers', lambda: ['CPUExecutionProvider'])
    with pytest.raises(
        BackendUnavailableError, match=rf'has CPUExecutionProvider; install {package} in place'
    ):
        open_backend(dis_bundle, DffConfig(provider=provider))


@pytest.mark.parametrize('changes', [{'provider': 'cuda'}, {'backend': 'torch', 'device': 'cuda'}])
def test_a_fallback_that_is_asked_for_computes_on_the_cpu_and_is_told(
    dis_bundle, monkeypatch, caplog, changes
):
    monkeypatch.setattr('onnxruntime.get_available_providers', lambda: ['CPUExecutionProvider'])
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    config = DffConfig(**changes, fallback=True, num_threads=1)
    plain = DffConfig(backend=config.backend, num_threads=1)
    with (
        caplog.at_level(logging.WARNING, 'dff_ros.backends.base'),
        closing(open_backend(dis_bundle, config)) as backend,
        closing(open_backend(dis_bundle, plain)) as usual,
    ):
        [record] = caplog.records
        assert record.message == f'the CPU computes, as fallback is set: {backend.info.fallback}'
        assert ('onnxruntime-gpu' if 'provider' in changes else 'no CUDA device') in backend.info.fallback
        assert (backend.info.device, usual.info.fallback) == ('cpu', '')
        features = [np.asarray(one.extract(texture((96, 128))).feature) for one in (backend, usual)]
        np.testing.assert_array_equal(*features)
