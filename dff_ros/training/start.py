# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Models that start with weights of earlier runs and bundles, loaded part by part."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dff_ros.bundle import MANIFEST, bundle_names, open_bundle
from dff_ros.data.classes import Colours
from dff_ros.errors import ConfigError, DataError
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.dff import DffModel, read_spec, read_tensors
from dff_ros.nets.weights import START_WEIGHTS, load_start_weights, with_published_convention
from dff_ros.training.checkpoint import MODEL_FILE, WEIGHTS_FILE
from dff_ros.training.config import path_list
from dff_ros.training.dff_config import DffTrainConfig
from dff_ros.training.labelled_data import model_colours

_OPTIONAL = ('light_net', 'flow_net', 'flow_net.fine', 'correction', 'quality') + (
    ('heads.segmentation', 'heads.segmentation.detail', 'heads.detection', 'heads.detection.stem.middle')
)
"""Parts that a model may lack."""
_SIZED = (
    ('flow_net.scale', ('fine_flow',)),
    ('correction', ('correction_channels',)),
    ('quality', ('quality_channels',)),
    ('heads.detection', ('detection_channels', 'anchor_scales', 'anchor_ratios', 'box_bins')),
)
"""Parts that start afresh where a setting differs from that of the start weights."""
_CLASSES = (('heads.segmentation', 'class_names'), ('heads.detection', 'box_class_names'))
"""Heads, and the classes without which they start afresh."""
_PARTS = ('feature_net', 'light_net', 'flow_net', 'flow_net.fine', 'flow_net.scale', 'correction') + (
    ('quality', 'heads.segmentation', 'heads.segmentation.detail', 'heads.detection')
)
"""Parts of which it is told that they have no start weights."""
_FIXED = {'fix_n': ('feature_net', 'heads'), 'fix_f': ('flow_net', 'light_net'), 'separate': _PARTS}
"""Parts that an ablation leaves as they are."""
_CONVENTION = ('mean', 'std', 'stride_in_1x1', 'pool_padding')
"""What the weights of a feature net are for."""


_LINEAGE = ('kind', 'ablation', 'seed', 'steps', 'commit', 'data', 'start_weights', 'started_from')
"""Facts and settings of a training that models started from its weights tell too."""


@dataclass(frozen=True)
class Start:
    """Weights of a run or bundle, and the facts of its training (empty: not known)."""

    path: Path
    spec: ModelSpec
    weights: dict[str, Tensor]
    training: Mapping[str, object]

    @property
    def has_feature_net(self) -> bool:
        """Whether the feature net is among them."""
        return any(key.startswith('feature_net.') for key in self.weights)

    @property
    def lineage(self) -> dict[str, object]:
        """Its name, without the folder it lies in, and what is known of its training."""
        settings = self.training.get('settings')
        known = {**(settings if isinstance(settings, Mapping) else {}), **self.training}
        told = {name: known[name] for name in _LINEAGE if known.get(name) not in (None, '', [])}
        return {'name': self.path.parent.absolute().name, **told}


@dataclass(frozen=True)
class Started:
    """A model, the names of its parameters that have start weights, what was loaded, in words, and the
    lineage of each run or bundle.
    """

    model: DffModel
    names: frozenset[str]
    report: tuple[str, ...]
    lineage: tuple[dict[str, object], ...]

    @property
    def afresh(self) -> list[str]:
        """The model's parts that have no start weights."""
        return [part for part in _PARTS if _has(self.model, part) and not _begins(set(self.names), part)]

    def check_fixed(self, ablation: str) -> None:
        """ConfigError where a part that the ablation does not train has no start weights."""
        if untrained := [part for part in self.afresh if part.startswith(_FIXED.get(ablation, ()))]:
            raise ConfigError(
                f'ablation: {ablation} does not train {", ".join(untrained)}, and no start weights have '
                'what the model needs; give a --start that does, or leave the part out of the model'
            )


def read_starts(text: str) -> list[Start]:
    """Those of a setting: runs, bundles, and names of bundles that come with the package."""
    return [read_start(name) for name in path_list(text)]


def read_start(name: str | Path) -> Start:
    """The weights of a run or bundle; DataError or BundleError naming the file that cannot be read."""
    directory = Path(name).expanduser()
    if (directory / MANIFEST).is_file() or (not directory.exists() and str(name) in bundle_names()):
        bundle = open_bundle(name)
        training = bundle.figures.get('training')
        facts = training if isinstance(training, Mapping) else {}
        return Start(bundle.weights_path, bundle.spec, read_tensors(bundle.weights_path), facts)
    if not (directory / MODEL_FILE).is_file():
        raise DataError(
            f'start: {directory} is neither a run that was trained to its end (it has no {MODEL_FILE}) nor a '
            f'bundle; bundles that come with the package: {", ".join(bundle_names()) or "none"}'
        )
    path = directory / WEIGHTS_FILE
    spec, facts = read_spec(directory / MODEL_FILE)
    return Start(path, spec, read_tensors(path), facts)


def start_model(
    config: DffTrainConfig,
    class_names: tuple[str, ...],
    class_colours: Colours = (),
    box_class_names: tuple[str, ...] = (),
) -> Started:
    """The model of a run with its start weights; what has none is drawn from the seed.

    `class_names` and `box_class_names` empty: those of the start weights; `class_colours` as `model_colours`
    takes them. Raises ConfigError where settings and start weights do not go together, DataError naming the
    file and the key that does not fit the model.
    """
    starts = read_starts(config.start)
    spec = _spec(config, class_names, class_colours, box_class_names, feature_start(starts))
    torch.manual_seed(config.seed)
    model = DffModel(spec, batch_norm=False, frozen_stages=config.frozen_stages)
    return load_starts(model, config.init, starts)


def load_starts(model: DffModel, init: str, starts: list[Start]) -> Started:
    """Load the .npz start weights of the feature net (empty: none), then those of runs and bundles; prints
    what was loaded.
    """
    names: set[str] = set()
    report: list[str] = []
    if init:
        names |= load_init(model, init)
        report.append(f'{init}: feature_net ({len(names)} tensors)')
    for start in starts:
        loaded = load_start(model, start)
        names |= loaded
        report.append(f'{start.path}: {in_words(loaded, model, start)}')
    for line in report:
        print(f'start weights from {line}')
    lineage = tuple(start.lineage for start in starts)
    started = Started(model, frozenset(names), tuple(report), lineage)
    if names and started.afresh:
        print(told := f'without start weights: {", ".join(started.afresh)}')
        started = dataclasses.replace(started, report=(*report, told))
    return started


def feature_start(starts: list[Start]) -> Start | None:
    """The start weights that the feature net is from: its convention and classes count, those of a run that
    trained a flow net alone do not.
    """
    return next((start for start in reversed(starts) if start.has_feature_net), None)


def with_convention(spec: ModelSpec, start: Start) -> ModelSpec:
    """The spec with what the weights of a feature net are for."""
    return dataclasses.replace(spec, **{name: getattr(start.spec, name) for name in _CONVENTION})


def _spec(
    config: DffTrainConfig,
    class_names: tuple[str, ...],
    colours: Colours,
    box_class_names: tuple[str, ...],
    start: Start | None,
) -> ModelSpec:
    names = class_names or (start.spec.class_names if start else ())
    if config.data.boxes.is_used:
        box_class_names = box_class_names or (start.spec.box_class_names if start else ())
    if not names and not box_class_names:
        raise ConfigError('classes: neither the data nor the start weights have any; add labelled data')
    of_start = (start.spec.class_names, start.spec.class_colours) if start else ((), ())
    spec = ModelSpec(
        class_names=names,
        class_colours=model_colours(names, colours, *of_start),
        feature_net=config.feature_net,
        channels=config.channels,
        last_stage=config.last_stage,
        light_channels=config.light_channels if config.needs_light_net else 0,
        detail=config.detail,
        correction_channels=config.correction_channels,
        flow_source=config.flow_net,
        fine_flow=config.fine_flow,
        nominal_size=start.spec.nominal_size if start and config.ablation == 'separate' else config.crop,
        box_class_names=box_class_names,
        **(config.detection.spec_entries() if box_class_names else {}),  # type: ignore[arg-type]
    )
    if start is not None:
        return with_convention(spec, start)
    return with_published_convention(spec) if config.init else spec


def load_init(model: DffModel, path: str) -> set[str]:
    """Load the .npz start weights of the feature net; returns the names of what was loaded."""
    feature_net = model.spec.feature_net
    known = START_WEIGHTS.get(feature_net)
    if known is None:
        raise ConfigError(
            f'init: no start weights are known for {feature_net}; known: {", ".join(START_WEIGHTS)}'
        )
    left = load_start_weights(model.feature_net, Path(path), known.channel_order, known.batch_norm_eps)
    return {f'feature_net.{name}' for name in model.feature_net.state_dict() if name not in left}


def load_start(model: DffModel, start: Start) -> set[str]:
    """Load the parts that the model has; returns the names of what was loaded.

    DataError where the weights are for other images or do not fit.
    """
    spec = model.spec
    if (start.spec.mean, start.spec.std) != (spec.mean, spec.std):
        raise DataError(f'{start.path} is of a model that normalises images otherwise: {start.spec.mean}')
    skipped = [part for part in _OPTIONAL if not _has(model, part)]
    skipped += [*_resized(model, start), *_reclassed(model, start)]
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


def _resized(model: DffModel, start: Start) -> list[str]:
    """Parts that both have, in other sizes."""
    return [part for part, names in _SIZED if _differs(model, start, part, *names)]


def _reclassed(model: DffModel, start: Start) -> list[str]:
    """Heads that both have, for other classes."""
    return [part for part, names in _CLASSES if _differs(model, start, part, names)]


def _differs(model: DffModel, start: Start, part: str, *names: str) -> bool:
    """Whether both have a part, with other values of those entries of the spec."""
    return (
        any(getattr(start.spec, name) != getattr(model.spec, name) for name in names)
        and _has(model, part)
        and _begins(set(start.weights), part)
    )


def _begins(names: set[str], part: str) -> bool:
    return any(name.startswith(f'{part}.') for name in names)


def _has(model: nn.Module, part: str) -> bool:
    return any(name == part for name, _ in model.named_modules())


def in_words(loaded: set[str], model: DffModel, start: Start) -> str:
    """How many tensors of each part were loaded, and what was left out for its classes or size."""
    without = [(part, 'other classes') for part in _reclassed(model, start)]
    without += [(part, 'another size') for part in _resized(model, start)]
    told = {_part_name(part): f'without its {_part_name(part)}, which has {what}' for part, what in without}
    return '; '.join([_counts(loaded), *told.values()])


def _part_name(part: str) -> str:
    head = part.removeprefix('heads.')
    return part if head == part else f'{head} head'


def _counts(loaded: set[str]) -> str:
    if not loaded:
        return 'nothing that the model has'
    parts = sorted({key.split('.')[0] for key in loaded})
    return ', '.join(f'{part} ({sum(key.split(".")[0] == part for key in loaded)} tensors)' for part in parts)
