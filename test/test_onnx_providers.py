# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Execution providers of ONNX Runtime: options, and what is an error where ONNX Runtime says nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
import onnx
from onnx import numpy_helper

from dff_ros.backends import onnx_device, onnx_sessions
from dff_ros.backends.base import open_backend
from dff_ros.backends.gpu_facts import Gpu
from dff_ros.backends.onnx_providers import NAMES, Provider, cpu_provider, gpu_provider
from dff_ros.backends.onnx_sessions import node_counts, open_session, probe
from dff_ros.config import DffConfig
from dff_ros.errors import BackendUnavailableError

PROBE = onnx_sessions._probe_graph()


def pretend(monkeypatch, *names: str) -> None:
    """An ONNX Runtime that says it has these providers, a GPU and TensorRT."""
    monkeypatch.setattr('onnxruntime.get_available_providers', lambda: [NAMES[name] for name in names])
    monkeypatch.setattr('dff_ros.backends.onnx_providers.find_gpu', lambda: Gpu('Test GPU', '9.0'))
    monkeypatch.setattr('dff_ros.backends.onnx_providers.load_tensorrt', lambda: '10.13.0')
    monkeypatch.setattr('onnxruntime.preload_dlls', lambda directory: print('Failed to load libcudnn.so.9'))


def test_options_of_the_providers(monkeypatch):
    pretend(monkeypatch, 'cpu', 'cuda', 'tensorrt')
    cuda = gpu_provider('cuda', 'fp32')
    [(name, options)] = cuda.chain({})
    assert (name, options['use_tf32'], options['device_id']) == ('CUDAExecutionProvider', '0', '0')
    assert (cuda.device, cuda.memory) == ('cuda (Test GPU)', 'cuda')
    assert 'cuDNN 9' in cuda.remedy and cuda.remedy.endswith('Failed to load libcudnn.so.9')
    tensorrt = gpu_provider('tensorrt', 'fp16')
    (first, options), (second, others) = tensorrt.chain({'trt_engine_cache_path': 'here'})
    assert [first, second] == ['TensorrtExecutionProvider', 'CUDAExecutionProvider']
    assert options['trt_fp16_enable'] == options['trt_engine_cache_enable'] == '1'
    assert options['trt_engine_cache_path'] == 'here'
    assert (others['use_tf32'], tensorrt.version) == ('1', '10.13.0')


class FakeSession:
    """A session that fell back to the CPU in silence, as ONNX Runtime's does; `left` are nodes on the CPU."""

    providers = (NAMES['cuda'], NAMES['cpu'])
    left: tuple[str, ...] = ()

    def __init__(self, content, options, providers, enable_fallback):
        assert not enable_fallback

    def get_providers(self):
        return list(self.providers)

    def get_provider_graph_assignment_info(self):
        class Node:
            def __init__(self, op_type):
                self.op_type = op_type

        class Part:
            ep_name = NAMES['cpu']

            def get_nodes(part):
                return [Node(kind) for kind in self.left]

        return [Part()]


def test_a_provider_that_does_not_load_is_an_error_that_says_what_to_install(
    monkeypatch, dis_bundle, tmp_path
):
    pretend(monkeypatch, 'cpu', 'cuda')
    monkeypatch.setattr(FakeSession, 'providers', (NAMES['cpu'],))
    monkeypatch.setattr('onnxruntime.InferenceSession', FakeSession)
    wanted = 'provider cuda does not load: ONNX Runtime goes on with CPUExecutionProvider; onnxruntime-gpu'
    with pytest.raises(BackendUnavailableError, match=wanted):
        open_backend(dis_bundle, DffConfig(provider='cuda'))


@pytest.mark.parametrize(('left', 'told'), [(('Shape', 'Gather'), ''), (('Conv', 'Shape', 'Conv'), '2 Conv')])
def test_nodes_left_to_the_cpu_are_an_error(monkeypatch, left, told):
    monkeypatch.setattr(FakeSession, 'left', left)
    monkeypatch.setattr('onnxruntime.InferenceSession', FakeSession)
    provider = Provider('cuda', 'fp16', 'cuda', Gpu('Test GPU', '9.0'))
    if not told:
        assert open_session('extract', b'', provider).get_providers()[0] == NAMES['cuda']
        return
    with pytest.raises(
        BackendUnavailableError, match=rf'leaves nodes of graph extract to the CPU \({told}\)'
    ):
        open_session('extract', b'', provider)


def test_a_session_that_fails_names_graph_provider_and_remedy(monkeypatch):
    provider = Provider('cuda', 'fp16', 'cuda', remedy='install it')
    with pytest.raises(BackendUnavailableError, match='graph look with provider cuda: .*; install it$'):
        open_session('look', b'no graph', provider)


def test_the_probe_computes_and_compares(monkeypatch):
    probe(cpu_provider())
    monkeypatch.setattr(onnx_sessions, '_probe_graph', lambda: made_wrong)
    made_wrong = probe_graph_of(weight=2.0)
    with pytest.raises(BackendUnavailableError, match='provider cpu computes 9 ones as 18.0'):
        probe(cpu_provider())


def probe_graph_of(weight: float) -> bytes:
    model = onnx.ModelProto.FromString(PROBE)
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((1, 1, 3, 3), weight, np.float32), 'w')
    )
    return model.SerializeToString()


def test_who_computes_which_node_is_told():
    counts = node_counts(open_session('probe', PROBE, cpu_provider()))
    assert counts == {NAMES['cpu']: Counter(Conv=1)}


@pytest.mark.parametrize('precision', ['bf16', 'int8'])
def test_a_precision_that_is_not_for_gpus_names_those_that_are(monkeypatch, dis_bundle, precision):
    pretend(monkeypatch, 'cpu', 'cuda')
    with pytest.raises(BackendUnavailableError, match=rf'precision {precision}: .* fp16 or fp32 on a CUDA'):
        open_backend(dis_bundle, DffConfig(provider='cuda', precision=precision))


def test_on_a_gpu_the_networks_run_in_half_precision_by_themselves(monkeypatch, dis_bundle):
    pretend(monkeypatch, 'cpu', 'cuda')
    made = []
    monkeypatch.setattr(onnx_device, 'DeviceRunner', lambda bundle, graphs, provider: made.append(provider))
    onnx_device.open_device_runner(dis_bundle, DffConfig(provider='cuda'), ['extract'])
    onnx_device.open_device_runner(dis_bundle, DffConfig(provider='cuda', precision='fp32'), ['extract'])
    assert [(one.name, one.precision) for one in made] == [('cuda', 'fp16'), ('cuda', 'fp32')]
