# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Execution providers of ONNX Runtime: their names and options, and whether they are there.

ONNX Runtime itself goes on without a provider whose libraries do not load, with no more than a line in its
log.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import onnxruntime

from dff_ros.backends.gpu_facts import Gpu, find_gpu, load_tensorrt
from dff_ros.errors import BackendUnavailableError

NAMES = {
    'cpu': 'CPUExecutionProvider',
    'cuda': 'CUDAExecutionProvider',
    'tensorrt': 'TensorrtExecutionProvider',
    'openvino': 'OpenVINOExecutionProvider',
}
"""As ONNX Runtime names what the setting `provider` names."""

_PACKAGES = {
    'cpu': 'onnxruntime',
    'cuda': 'onnxruntime-gpu',
    'tensorrt': 'onnxruntime-gpu',
    'openvino': 'onnxruntime-openvino',
}


def require_provider(provider: str) -> None:
    """BackendUnavailableError, naming what to install, where this ONNX Runtime is built without it."""
    available = onnxruntime.get_available_providers()
    if NAMES[provider] in available:
        return
    package = _PACKAGES[provider]
    raise BackendUnavailableError(
        f'provider {provider}: onnxruntime {onnxruntime.__version__} has {", ".join(available)}; '
        f'install {package} in place of what is there, as both are imported as onnxruntime: '
        f'pip uninstall onnxruntime onnxruntime-gpu onnxruntime-openvino; pip install "dff_ros[{package}]"'
    )


def openvino_options(precision: str, num_threads: int) -> dict[str, str]:
    """Options of a session for OpenVINO on the CPU. Graphs in 8 bits say so themselves; what is left in them
    stays in single precision.
    """
    settings = {
        'INFERENCE_PRECISION_HINT': 'bf16' if precision == 'bf16' else 'f32',
        'INFERENCE_NUM_THREADS': num_threads,
        'PERFORMANCE_HINT': 'LATENCY',
    }
    return {'device_type': 'CPU', 'load_config': json.dumps({'CPU': settings})}


Options = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider that sessions can be opened with.

    `memory`: where its tensors lie, as ONNX Runtime calls it. `others`: who takes what it leaves, in this
    order, with their options. `remedy`: what to install where it does not load. `version`: of TensorRT.
    """

    name: str
    precision: str
    memory: str = 'cpu'
    gpu: Gpu | None = None
    options: Options = field(default_factory=dict)
    others: tuple[tuple[str, Options], ...] = ()
    remedy: str = ''
    version: str = ''

    @property
    def device(self) -> str:
        """As BackendInfo tells it."""
        return 'cpu' if self.gpu is None else f'cuda ({self.gpu.name})'

    def chain(self, own: Options) -> list[tuple[str, dict[str, str]]]:
        """As a session takes it, with further options of its own."""
        first = (NAMES[self.name], {**self.options, **own})
        return [first, *((NAMES[name], dict(options)) for name, options in self.others)]


def cpu_provider(precision: str = 'fp32') -> Provider:
    """The CPU; what DeviceRunner computes on it is what it would on a GPU."""
    return Provider('cpu', precision)


def gpu_provider(name: str, precision: str) -> Provider:
    """'cuda' or 'tensorrt'. Loads the libraries that lie in pip packages, which the system does not find.

    Raises BackendUnavailableError where ONNX Runtime is built without it, or there is no GPU or no TensorRT.
    """
    require_provider(name)
    gpu = find_gpu()
    # Else its output would be of another package that does not load either.
    told = io.StringIO()
    if hasattr(onnxruntime, 'preload_dlls'):
        with contextlib.redirect_stdout(told):
            onnxruntime.preload_dlls(directory='')
    cuda = _cuda_options(precision)
    built_with = getattr(onnxruntime, 'cuda_version', '') or '12 or 13'
    remedy = (
        f'onnxruntime-gpu {onnxruntime.__version__} needs CUDA {built_with}, cuDNN 9 and a driver for them: '
        'pip install "onnxruntime-gpu[cuda,cudnn]", or the packages of the system'
    )
    remedy = '; '.join([remedy, *told.getvalue().split('\n')]).rstrip('; ')
    if name == 'cuda':
        return Provider(name, precision, 'cuda', gpu, cuda, remedy=remedy)
    version = load_tensorrt()
    options = _tensorrt_options(precision)
    return Provider(name, precision, 'cuda', gpu, options, (('cuda', cuda),), remedy, version)


def _cuda_options(precision: str) -> Options:
    return {
        'device_id': '0',
        # Each convolution's kernels are timed at the first run of a size, which `warm_up` is.
        'cudnn_conv_algo_search': 'EXHAUSTIVE',
        'cudnn_conv_use_max_workspace': '1',
        # fp32 means it: TF32 has the mantissa of half precision.
        'use_tf32': '0' if precision == 'fp32' else '1',
    }


def _tensorrt_options(precision: str) -> Options:
    return {
        'device_id': '0',
        'trt_fp16_enable': '1' if precision == 'fp16' else '0',
        'trt_engine_cache_enable': '1',
        'trt_timing_cache_enable': '1',
        # Smaller pieces are not worth the way into an engine and back.
        'trt_min_subgraph_size': '5',
    }


NETWORK_OPERATORS = frozenset(
    (
        'Conv',
        'ConvTranspose',
        'Gemm',
        'Relu',
        'LeakyRelu',
        'Sigmoid',
        'Add',
        'Concat',
        'Pad',
        'MaxPool',
        'Cast',
    )
)
"""What TensorRT gets. The rest is sampling, index lists, geometry, decoding and suppression: it lacks some of
that, takes no uint8 inside of an engine, and would be free to compute positions in half precision.
"""


def left_to_cuda(operators: Iterable[str]) -> Options:
    """The option by which TensorRT leaves all but networks to CUDA, of a graph that has these operators."""
    return {'trt_op_types_to_exclude': ','.join(sorted({*operators} - NETWORK_OPERATORS))}
