# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Which runtime and execution provider a config leads to, and what takes their place where they lack."""

from __future__ import annotations

import importlib.util

from dff_ros.backends.cpu_facts import has_bf16
from dff_ros.bundle import Bundle
from dff_ros.config import DffConfig, replace
from dff_ros.errors import BackendUnavailableError, ConfigError

ON_GPU = ('cuda', 'tensorrt')
"""Providers of ONNX Runtime that compute on a CUDA device."""

_GPU_PRECISIONS = ('fp16', 'fp32')
_CPU_PRECISIONS = {'cpu': ('fp32', 'int8'), 'openvino': ('fp32', 'bf16', 'int8')}
"""By provider, the first by default."""


def choose_backend(config: DffConfig) -> tuple[str, str]:
    """Name of the backend that a config leads to ('onnx' or 'torch'), and why.

    ConfigError for settings that exclude each other, BackendUnavailableError where no runtime is installed.
    """
    _check_agreement(config)
    if config.backend != 'auto':
        return config.backend, f'backend {config.backend} was asked for'
    if config.provider != 'auto':
        return 'onnx', f'auto: provider {config.provider} was asked for, which ONNX Runtime has'
    has_onnx, has_torch = _is_installed('onnxruntime'), _is_installed('torch')
    if config.device == 'cuda' and has_torch:
        return 'torch', 'auto: device cuda was asked for and torch is installed'
    if config.precision == 'bf16' and has_torch:
        return 'torch', 'auto: precision bf16 was asked for, which torch has'
    if has_onnx:
        return 'onnx', 'auto: onnxruntime is installed'
    if has_torch:
        return 'torch', 'auto: onnxruntime is not installed, torch is'
    raise BackendUnavailableError(
        'no runtime for the networks is installed: '
        'pip install "dff_ros[onnxruntime,opencv]" or "dff_ros[torch,opencv]"'
    )


def choose_provider(config: DffConfig) -> str:
    """The execution provider that a config leads to, if the backend is ONNX Runtime."""
    if config.provider != 'auto':
        return config.provider
    return 'cuda' if config.device == 'cuda' else 'cpu'


def choose_precision(config: DffConfig) -> str:
    """The precision that a config leads to with a provider of ON_GPU; BackendUnavailableError of another."""
    if config.precision == 'auto':
        return _GPU_PRECISIONS[0]
    if config.precision not in _GPU_PRECISIONS:
        raise BackendUnavailableError(
            f'precision {config.precision}: ONNX Runtime computes {" or ".join(_GPU_PRECISIONS)} on a CUDA '
            'device; set one of them'
        )
    return config.precision


def choose_cpu_precision(config: DffConfig, bundle: Bundle) -> str:
    """The precision that a config leads to in ONNX Runtime on the CPU; BackendUnavailableError, naming what
    to set or to make, where that cannot be had.
    """
    provider = choose_provider(config)
    allowed = _CPU_PRECISIONS[provider]
    precision = allowed[0] if config.precision == 'auto' else config.precision
    if precision not in allowed:
        other = 'backend to torch or provider to openvino' if precision == 'bf16' else 'device to cuda'
        raise BackendUnavailableError(
            f'precision {precision}: provider {provider} of ONNX Runtime computes {" or ".join(allowed)}; '
            f'set one of them, or {other}'
        )
    if precision == 'bf16' and not has_bf16():
        raise BackendUnavailableError(
            'precision bf16: this CPU has no instructions for it (avx512_bf16, amx_bf16, or bf16 of ARM): '
            'set precision to fp32 or int8'
        )
    if precision == 'int8' and not bundle.int8:
        raise BackendUnavailableError(
            f'precision int8: bundle {bundle.name} has no graphs in 8 bits: make them with '
            f'`dff quantise {bundle.path}`, or set precision to fp32'
        )
    return precision


def may_fall_back(config: DffConfig) -> bool:
    """Whether something other than the plain CPU is asked for, which the CPU may take the place of."""
    return config.fallback and (config.device == 'cuda' or config.provider not in ('auto', 'cpu'))


def on_cpu(config: DffConfig) -> DffConfig:
    """The same work on the plain CPU, in its own precision."""
    return replace(config, {'device': 'cpu', 'provider': 'auto', 'precision': 'auto'})


def _check_agreement(config: DffConfig) -> None:
    if config.backend == 'torch' and config.provider != 'auto':
        raise ConfigError(
            f'provider: got {config.provider!r} with backend torch, which has no execution providers: '
            'set backend to onnx, or leave provider at auto'
        )
    if config.provider == 'auto' or config.device == 'auto':
        return
    if (config.provider in ON_GPU) != (config.device == 'cuda'):
        raise ConfigError(
            f'provider: got {config.provider!r} with device {config.device}: leave one of them at auto'
        )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # hidden by an import hook, or set to None in sys.modules
        return False
