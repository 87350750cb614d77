# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Start weights of the feature nets: numpy archives (.npz) with torchvision's names, loaded strictly."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dff_ros.errors import DataError
from dff_ros.model_spec import ModelSpec

ChannelOrder = Literal['rgb', 'bgr']
Arrays = dict[str, NDArray[np.float32]]

_NORM_KEYS = ('weight', 'bias', 'running_mean', 'running_var')


@dataclass(frozen=True, slots=True)
class StartWeights:
    """One published set of ImageNet weights: what to build and how images are normalised for it.

    `options` are those of `ResNetFeature`, `spec` further entries of the ModelSpec. An image is normalised
    as `(rgb / 255 - mean) / std`; a network loaded with `load_start_weights` takes RGB whatever the
    `channel_order` its weights were trained with.
    """

    feature_net: str
    file: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: ChannelOrder = 'rgb'
    batch_norm_eps: float = 1e-5
    options: Mapping[str, object] = field(default_factory=dict)
    spec: Mapping[str, object] = field(default_factory=dict)


START_WEIGHTS: dict[str, StartWeights] = {
    # Its batch norm is folded in for good: training the convs and biases as they are gives the same function
    # as frozen batch norm around them, at less cost, and needs no statistics of batches that are too small
    # for any.
    'resnet18': StartWeights(
        feature_net='resnet18',
        file='resnet18_imagenet_to_layer3_bnfolded.npz',
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        options={'batch_norm': False},
    ),
    'resnet50': StartWeights(
        feature_net='resnet50',
        file='resnet50_msra_imagenet_to_layer3.npz',
        mean=(123.15 / 255, 115.90 / 255, 103.06 / 255),
        std=(1 / 255, 1 / 255, 1 / 255),
        channel_order='bgr',
        options={'batch_norm': False},
        spec={'stride_in_1x1': True, 'pool_padding': 'end'},
    ),
}


def with_published_convention(spec: ModelSpec) -> ModelSpec:
    """The spec with what the published weights of its feature net are for; as it is where none are known."""
    known = START_WEIGHTS.get(spec.feature_net)
    if known is None:
        return spec
    return replace(spec, mean=known.mean, std=known.std, **known.spec)  # type: ignore[arg-type]


def load_start_weights(
    net: nn.Module, path: Path, channel_order: ChannelOrder = 'rgb', batch_norm_eps: float = 1e-5
) -> list[str]:
    """Load the first stages of a trunk, or of the light net, from an .npz file; returns the state-dict keys
    left as they were.

    The file holds whole stages from the first on. If its batch norm is folded into conv biases and the
    network has batch norm, that becomes the identity with the bias as shift; if the file has batch norm (of
    `batch_norm_eps`) and the network has none, it is folded. `channel_order` 'bgr' flips the first conv, so
    the network takes RGB. Raises DataError naming the file and the key if one is missing, of another shape,
    not finite, or has no place.
    """
    arrays = _read(path)
    state = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    has_norm = any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    if has_norm and 'bn1.weight' not in arrays:
        arrays = _with_identity_norm(arrays, _norm_eps(net))
    elif not has_norm and 'bn1.weight' in arrays:
        arrays = _with_folded_norm(arrays, path, batch_norm_eps)
    _check(arrays, state, path)
    if channel_order == 'bgr':
        arrays['conv1.weight'] = arrays['conv1.weight'][:, ::-1]
    tensors = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
    net.load_state_dict(tensors, strict=False)
    return [key for key in state if key not in tensors and not key.endswith('num_batches_tracked')]


def _read(path: Path) -> Arrays:
    try:
        with path.open('rb') as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise DataError(f'start weights {path} do not exist') from None
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f'start weights {path} cannot be read as a numpy archive (.npz): {error}') from error
    for key, value in arrays.items():
        if not np.issubdtype(value.dtype, np.floating) or not np.isfinite(value).all():
            raise DataError(f'start weights {path}: {key} must be finite floats, it is {value.dtype}')
    return {key: value.astype(np.float32) for key, value in arrays.items()}


def _check(arrays: Arrays, state: Mapping[str, tuple[int, ...]], path: Path) -> None:
    for key, value in arrays.items():
        if key not in state or _stage(key) == 'reduce':
            raise DataError(
                f'start weights {path}: the network has no place for {key}; another depth or option?'
            )
        if value.shape != state[key]:
            raise DataError(f'start weights {path}: {key} is {value.shape}, the network takes {state[key]}')
    stages = {_stage(key) for key in arrays} | {'stem'}
    for key, shape in state.items():
        if _stage(key) in stages and key not in arrays and not key.endswith('num_batches_tracked'):
            raise DataError(f'start weights {path} lack {key}, of shape {shape}')


def _stage(key: str) -> str:
    head = key.split('.')[0]
    return 'stem' if head in ('conv1', 'bn1') else head


def _norm_eps(net: nn.Module) -> float:
    return next(module.eps for module in net.modules() if isinstance(module, nn.BatchNorm2d))


def _norm_of(conv: str) -> str:
    """Name of the batch norm after a conv: conv1 -> bn1, layer1.0.downsample.0 -> layer1.0.downsample.1."""
    return re.sub(r'downsample\.0$', 'downsample.1', re.sub(r'conv(\d)$', r'bn\1', conv))


def _with_identity_norm(arrays: Arrays, eps: float) -> Arrays:
    result: Arrays = {}
    for key, value in arrays.items():
        conv, _, kind = key.rpartition('.')
        if kind != 'bias':
            result[key] = value
            continue
        # The normaliser is sqrt(var + eps): this variance makes it 1.
        norm, ones = _norm_of(conv), np.ones_like(value)
        values = (ones, value, np.zeros_like(value), ones - np.float32(eps))
        result.update({f'{norm}.{name}': part for name, part in zip(_NORM_KEYS, values, strict=True)})
    return result


def _with_folded_norm(arrays: Arrays, path: Path, eps: float) -> Arrays:
    result: Arrays = {}
    for key, value in arrays.items():
        conv, _, kind = key.rpartition('.')
        if value.ndim != 4 or kind != 'weight':
            continue
        norm = _norm_of(conv)
        missing = [f'{norm}.{name}' for name in _NORM_KEYS if f'{norm}.{name}' not in arrays]
        if missing:
            raise DataError(f'start weights {path} lack {missing[0]}')
        gamma, beta, mean, var = (arrays[f'{norm}.{name}'] for name in _NORM_KEYS)
        scale = gamma / np.sqrt(var + np.float32(eps))
        result[key] = value * scale[:, None, None, None]
        result[f'{conv}.bias'] = beta - mean * scale
    return result
