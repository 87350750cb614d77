"""Models that start with weights of earlier runs and bundles, loaded part by part."""

from __future__ import annotations

import colorsys
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dff_ros.bundle import MANIFEST, open_bundle
from dff_ros.data.classes import CAMVID_CLASSES, CAMVID_COLOURS
from dff_ros.errors import ConfigError, DataError
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.dff import DffModel, read_spec
from dff_ros.nets.weights import START_WEIGHTS, load_start_weights
from dff_ros.training.checkpoint import MODEL_FILE, WEIGHTS_FILE
from dff_ros.training.dff_config import DffTrainConfig

_OPTIONAL = ('light_net', 'flow_net', 'correction', 'heads.segmentation.detail')
"""Parts that a model may lack."""
_CONVENTION = ('mean', 'std', 'stride_in_1x1', 'pool_padding')
"""What the weights of a feature net are for."""


@dataclass(frozen=True)
class Start:
    """Weights of a run or bundle."""

    path: Path
    spec: ModelSpec
    weights: dict[str, Tensor]

    @property
    def has_feature_net(self) -> bool:
        """Whether the feature net is among them."""
        return any(key.startswith('feature_net.') for key in self.weights)


@dataclass(frozen=True)
class Started:
    """A model, the names of its parameters that have start weights, and what was loaded, in words."""

    model: DffModel
    names: frozenset[str]
    report: tuple[str, ...]


def read_start(directory: Path) -> Start:
    """The weights of a run or bundle; DataError or BundleError naming the file that cannot be read."""
    if (directory / MANIFEST).is_file():
        bundle = open_bundle(directory)
        return Start(bundle.weights_path, bundle.spec, _read(bundle.weights_path))
    if not (directory / MODEL_FILE).is_file():
        raise DataError(f'start: {directory} is neither a run (it has no {MODEL_FILE}) nor a bundle')
    path = directory / WEIGHTS_FILE
    return Start(path, read_spec(directory / MODEL_FILE)[0], _read(path))


def start_model(config: DffTrainConfig, class_names: tuple[str, ...]) -> Started:
    """The model of a run with its start weights; what has none is drawn from the seed.

    `class_names` empty: those of the start weights. Raises ConfigError where settings and start weights do
    not go together, DataError naming the file and the key that does not fit the model.
    """
    starts = [read_start(Path(name.strip())) for name in config.start.split(',') if name.strip()]
    with_features = next((start for start in reversed(starts) if start.has_feature_net), None)
    spec = _spec(config, class_names, with_features)
    torch.manual_seed(config.seed)
    model = DffModel(spec, batch_norm=False, frozen_stages=config.frozen_stages)
    names: set[str] = set()
    report: list[str] = []
    if config.init:
        names |= _load_init(model, config)
        report.append(f'{config.init}: feature_net ({len(names)} tensors)')
    for start in starts:
        loaded = _load(model, start)
        names |= loaded
        report.append(f'{start.path}: {_in_words(loaded)}')
    return Started(model, frozenset(names), tuple(report))


def class_colours(class_names: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    """CamVid's colours for its classes, evenly spread hues for others."""
    if class_names == CAMVID_CLASSES:
        return tuple((int(r), int(g), int(b)) for r, g, b in CAMVID_COLOURS)
    hues = [
        colorsys.hsv_to_rgb(k / len(class_names), 0.7, 0.6 + 0.4 * (k % 2)) for k in range(len(class_names))
    ]
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in hues)


def _spec(config: DffTrainConfig, class_names: tuple[str, ...], start: Start | None) -> ModelSpec:
    names = class_names or (start.spec.class_names if start else ())
    if not names:
        raise ConfigError('classes: neither the data nor the start weights have any; add labelled data')
    is_same = start is not None and start.spec.class_names == names
    spec = ModelSpec(
        class_names=names,
        class_colours=start.spec.class_colours if start and is_same else class_colours(names),
        feature_net=config.feature_net,
        channels=config.channels,
        last_stage=config.last_stage,
        light_channels=config.light_channels if config.needs_light_net else 0,
        detail=config.detail,
        correction_channels=config.correction_channels,
        flow_source=config.flow_net,
        nominal_size=start.spec.nominal_size if start else config.crop,
    )
    known = START_WEIGHTS.get(config.feature_net)
    if start is not None:
        return dataclasses.replace(spec, **{name: getattr(start.spec, name) for name in _CONVENTION})
    if known is not None and config.init:
        return dataclasses.replace(spec, mean=known.mean, std=known.std, **known.spec)  # type: ignore[arg-type]
    return spec


def _load_init(model: DffModel, config: DffTrainConfig) -> set[str]:
    known = START_WEIGHTS.get(config.feature_net)
    if known is None:
        raise ConfigError(
            f'init: no start weights are known for {config.feature_net}; known: {", ".join(START_WEIGHTS)}'
        )
    left = load_start_weights(model.feature_net, Path(config.init), known.channel_order, known.batch_norm_eps)
    return {f'feature_net.{name}' for name in model.feature_net.state_dict() if name not in left}


def _load(model: DffModel, start: Start) -> set[str]:
    """The names of what was loaded."""
    spec = model.spec
    if (start.spec.mean, start.spec.std) != (spec.mean, spec.std):
        raise DataError(f'{start.path} is of a model that normalises images otherwise: {start.spec.mean}')
    skipped = [part for part in _OPTIONAL if not _has(model, part)]
    if start.spec.class_names != spec.class_names:
        skipped.append('heads')  # scores of other classes
    state = model.state_dict()
    chosen: dict[str, Tensor] = {}
    for key, value in start.weights.items():
        if key.startswith(tuple(f'{part}.' for part in skipped)):
            continue
        if key not in state:
            raise DataError(f'{start.path}: the model has no place for {key}; another net or option?')
        if value.shape != state[key].shape:
            raise DataError(
                f'{start.path}: {key} is {tuple(value.shape)}, the model takes {tuple(state[key].shape)}'
            )
        chosen[key] = value.to(state[key].dtype)
    model.load_state_dict(chosen, strict=False)
    return set(chosen)


def _has(model: nn.Module, part: str) -> bool:
    return any(name == part for name, _ in model.named_modules())


def _in_words(loaded: set[str]) -> str:
    """How many tensors of each part."""
    if not loaded:
        return 'nothing that the model has'
    parts = sorted({key.split('.')[0] for key in loaded})
    return ', '.join(f'{part} ({sum(key.split(".")[0] == part for key in loaded)} tensors)' for part in parts)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f'weights {path} cannot be read as safetensors: {error}') from error
    return weights
