# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The whole model, built from a ModelSpec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dff_ros.errors import ConfigError, DataError
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.correction import Correction
from dff_ros.nets.light import LightNet
from dff_ros.nets.looking import Look, LookingModel
from dff_ros.nets.quality import QualityNet
from dff_ros.nets.resnet import fold_batch_norm, make_feature_net
from dff_ros.nets.rfcn import DetectionHead, RawDetection
from dff_ros.nets.segmentation import SegmentationHead
from dff_ros.nets.warp import propagate, warp


class Propagated(NamedTuple):
    """What propagation gives: `feature` is the answer, `warped` what the paper's equation (3) makes of the
    key feature, `flow` in cells; `gate` and `new` are the correction's, None without one. `disagreement`
    (B, 1, h, w), 0..1: the quality net's, the probability that the answer's label is not the per-frame one;
    None without that net.
    """

    feature: Tensor
    warped: Tensor
    flow: Tensor
    gate: Tensor | None = None
    new: Tensor | None = None
    disagreement: Tensor | None = None


class DffModel(LookingModel):
    """N_feat, F and N_task of the paper, with the light net, correction branch and detail that it lacks.

    `feature_net`: normalised images (B, 3, H, W) -> feature (B, channels, h, w), h = ceil(H / stride).
    `flow_net`: two looks -> flow in cells, scale map; None for hand-made flow.
    `correction`: None if the spec has none: the model is then the paper's. `quality`: None likewise.
    `heads`: one for each task of the spec. `heads['segmentation']`: feature -> class scores at the feature
    grid, or at the detail's; `heads['detection']`: see DetectionHead.
    `feature_options` go to the feature net (`frozen_stages`, `freeze_batch_norm`, `batch_norm`...).
    """

    def __init__(self, spec: ModelSpec, **feature_options: object) -> None:
        super().__init__(spec)
        self.feature_net = make_feature_net(
            spec.feature_net,
            spec.channels,
            last_stage=spec.last_stage,
            stride_in_1x1=spec.stride_in_1x1,
            pool_padding=spec.pool_padding,
            **feature_options,
        )
        widths = (0, 0, 0) if self.light_net is None else self.light_net.widths
        self.correction = (
            Correction(spec.channels, widths, spec.correction_channels) if spec.correction_channels else None
        )
        self.quality = (
            QualityNet(spec.channels, widths, spec.quality_channels) if spec.quality_channels else None
        )
        self.heads = nn.ModuleDict()
        if SegmentationHead.task in spec.tasks:
            self.heads[SegmentationHead.task] = SegmentationHead(
                spec.channels, spec.num_classes, widths[0] if spec.detail else 0
            )
        if DetectionHead.task in spec.tasks:
            self.heads[DetectionHead.task] = DetectionHead(spec, widths[1])
        self.stride = self.feature_net.stride
        self.score_stride = LightNet.stride if spec.detail else self.stride

    def forward(self, image: Tensor) -> Tensor:
        """Per-frame segmentation: normalised images (B, 3, H, W) -> class scores (B, K, h, w) at
        `score_stride`; ConfigError for a model without it.
        """
        return self.scores(self.feature_net(image), self.look(image))

    def scores(self, feature: Tensor, look: Look) -> Tensor:
        """Class scores (B, K, h, w) at `score_stride` of a feature and the look at the same frame.

        ConfigError for a model without segmentation.
        """
        detail = look.light.fine if self.spec.detail and look.light is not None else None
        scores: Tensor = self._head(SegmentationHead.task)(feature, detail)
        return scores

    def detect(self, feature: Tensor, look: Look) -> RawDetection:
        """What the detection head makes of a feature and the look at the same frame, not yet decoded.

        ConfigError for a model without detection.
        """
        middle = look.light.middle if look.light is not None else None
        raw: RawDetection = self._head(DetectionHead.task)(feature, middle)
        return raw

    def _head(self, task: str) -> nn.Module:
        if task not in self.heads:
            raise ConfigError(f'the model has no head for {task}, only for {", ".join(self.heads)}')
        return self.heads[task]

    def propagate(
        self, current: Look, key: Look, key_feature: Tensor, flow: Tensor | None = None, correct: bool = True
    ) -> Propagated:
        """Equation (3) with the model's own flow net, then the correction, if there is one and it is wanted.

        With `flow`, which was made elsewhere (B, 2, h, w) in cells, the scale map is 1. ConfigError where
        there is neither.
        """
        scale_map = None
        if flow is None:
            flow, scale_map = self.estimate_flow(current, key)
        return self.propagate_by(current, key, key_feature, flow, scale_map, correct)

    def propagate_by(
        self,
        current: Look,
        key: Look,
        key_feature: Tensor,
        flow: Tensor,
        scale_map: Tensor | None,
        correct: bool = True,
    ) -> Propagated:
        """The same with flow, in cells, and scale map (None: 1) that are known already."""
        warped = warp(key_feature, flow) if scale_map is None else propagate(key_feature, flow, scale_map)
        made = Propagated(warped, warped, flow)
        if self.correction is not None and correct and current.light is not None and key.light is not None:
            feature, gate, new = self.correction(warped, flow, current.light, key.light.middle)
            made = Propagated(feature, warped, flow, gate, new)
        if self.quality is None or current.light is None or key.light is None:
            return made
        logit = self.quality(made.feature, flow, current.light.middle, key.light.middle, made.gate)
        return made._replace(disagreement=torch.sigmoid(logit))

    def folded(self) -> DffModel:
        """A copy for inference: batch norm folded into the convs, as `DffModel(spec, batch_norm=False)` has
        them.
        """
        folded = fold_batch_norm(self)
        if not isinstance(folded, DffModel):
            raise TypeError(f'folding gave a {type(folded).__name__}')
        return folded


def load_model(spec: ModelSpec, weights: Path) -> DffModel:
    """The model of a training run or bundle, for inference: their weights have batch norm folded in.

    Raises DataError as `load_weights`.
    """
    model = DffModel(spec, batch_norm=False)
    load_weights(model, weights)
    return model.eval().requires_grad_(False)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a .safetensors state dict strictly; half precision is widened.

    Raises DataError naming the file, and the first key that is missing, unknown or of another shape.
    """
    tensors = read_tensors(path)
    state = model.state_dict()
    held = {key.partition('.')[0] for key in tensors}
    for key, value in state.items():
        if (part := key.partition('.')[0]) not in held:
            raise DataError(
                f'weights {path} have no {part}, only {", ".join(sorted(held))}: a part of a model; '
                'train the whole with it (dff train dff --start RUN,...)'
            )
        if key not in tensors:
            raise DataError(f'weights {path} lack {key}: they are of another model')
        if tensors[key].shape != value.shape:
            raise DataError(
                f'weights {path}: {key} is {tuple(tensors[key].shape)}, the model takes {tuple(value.shape)}'
            )
    unknown = sorted(set(tensors) - set(state))
    if unknown:
        raise DataError(f'weights {path}: the model has no place for {unknown[0]}')
    model.load_state_dict({key: tensors[key].to(value.dtype) for key, value in state.items()})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """What a .safetensors file holds; DataError naming it where it cannot be read."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise DataError(f'weights {path} do not exist') from None
    except (OSError, SafetensorError) as error:
        raise DataError(f'weights {path} cannot be read as safetensors: {error}') from error
    return tensors


def read_spec(path: Path) -> tuple[ModelSpec, dict[str, object]]:
    """Spec and further facts of a training run's `model.json`; DataError naming the file where it is
    unusable.
    """
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise DataError(f'cannot read {path}: {error.strerror}') from error
    except ValueError as error:
        raise DataError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(values, Mapping):
        raise DataError(f'{path} must hold an object, not a {type(values).__name__}')
    facts = dict(values)
    training = facts.pop('training', {})
    if not isinstance(training, Mapping):
        raise DataError(f'{path}: training must be an object, not a {type(training).__name__}')
    try:
        return ModelSpec.from_dict(facts), dict(training)
    except ConfigError as error:
        raise DataError(f'{path}: {error}') from error
