# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Per-frame segmentation: the model of a run, its start weights and its loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dff_ros.data.classes import Colours
from dff_ros.geometry import upsample_matrix
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.dff import DffModel
from dff_ros.nets.segmentation import SegmentationHead, upsample_scores
from dff_ros.nets.weights import START_WEIGHTS, with_published_convention
from dff_ros.training.batches import Batch
from dff_ros.training.config import TrainConfig
from dff_ros.training.labelled_data import model_colours
from dff_ros.training.learner import Learner, choose_device, lr_schedule, parameter_groups
from dff_ros.training.start import feature_start, load_starts, read_starts, with_convention

__all__ = ['Trainer', 'choose_device', 'lr_schedule', 'model_spec', 'new_model']


def model_spec(config: TrainConfig, class_names: tuple[str, ...], colours: Colours = ()) -> ModelSpec:
    """The model that a run trains, without its start weights' convention; `colours` as `model_colours` takes
    them.
    """
    spec = ModelSpec(
        class_names=class_names,
        class_colours=model_colours(class_names, colours),
        feature_net=config.feature_net,
        channels=config.channels,
        last_stage=config.last_stage,
        nominal_size=config.crop,
    )
    return with_published_convention(spec) if config.init else spec


def new_model(config: TrainConfig, spec: ModelSpec) -> tuple[DffModel, set[str]]:
    """The model with its start weights, and the names of the parameters that have some; seeded."""
    starts = read_starts(config.start)
    features = feature_start(starts)
    if features is not None:
        spec = with_convention(spec, features)
    torch.manual_seed(config.seed)
    known = START_WEIGHTS.get(config.feature_net)
    has_start = bool(config.init) or features is not None
    options: dict[str, object] = dict(known.options) if known and has_start else {'batch_norm': False}
    model = DffModel(spec, **options)
    return model, set(load_starts(model, config.init, starts).names)


class Trainer(Learner[TrainConfig, DffModel, Batch]):
    """Learns per-frame segmentation. `class_weight_K` multiplies each class in the loss."""

    def __init__(self, config: TrainConfig, spec: ModelSpec, class_weight_K: NDArray[np.float32]) -> None:
        model, started = new_model(config, spec)
        super().__init__(config, model, _groups(model, started, config))
        self._class_weight = torch.from_numpy(class_weight_K).to(self.device)
        height, width = config.crop
        stride = self.model.stride
        self._rows = torch.from_numpy(upsample_matrix(height, height, stride).copy()).to(self.device)
        self._cols = torch.from_numpy(upsample_matrix(width, width, stride).T.copy()).to(self.device)

    def loss(self, batch: Batch) -> Tensor:
        """Weighted cross entropy over the labelled pixels."""
        return self._loss(self.to_device(batch.images_BHW3), self.to_device(batch.labels_BHW))

    def trained_model(self) -> DffModel:
        """A copy for inference with the averaged weights, batch norm folded."""
        with self.averaged() as model:
            return model.folded()

    def _loss(self, images_BHW3: Tensor, labels_BHW: Tensor) -> Tensor:
        images = self.model.normalise(images_BHW3.permute(0, 3, 1, 2)).contiguous(
            memory_format=torch.channels_last
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            scores = self.model(images)
        # Interpolation and softmax stay in float32: 8 bits are too few to sum over a crop's pixels.
        full = upsample_scores(scores.float(), self._rows, self._cols)
        head = cast(SegmentationHead, self.model.heads['segmentation'])
        return head.loss(full, labels_BHW, self._class_weight)


def _groups(model: nn.Module, started: set[str], config: TrainConfig) -> Iterator[dict[str, Any]]:
    return parameter_groups(model, started, config.trunk_lr, config.weight_decay)
