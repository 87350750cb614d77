"""Per-frame segmentation: the model of a run, its start weights and its loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dff_ros.data.classes import CAMVID_CLASSES, CAMVID_COLOURS
from dff_ros.errors import ConfigError
from dff_ros.geometry import upsample_matrix
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.dff import DffModel
from dff_ros.nets.segmentation import SegmentationHead, upsample_scores
from dff_ros.nets.weights import START_WEIGHTS, load_start_weights
from dff_ros.training.batches import Batch
from dff_ros.training.config import TrainConfig
from dff_ros.training.learner import Learner, choose_device, lr_schedule, parameter_groups

__all__ = ['Trainer', 'choose_device', 'lr_schedule', 'model_spec', 'new_model']


def model_spec(config: TrainConfig, nominal_size: tuple[int, int]) -> ModelSpec:
    """The model that a run trains on images of that (height, width)."""
    spec = ModelSpec(
        class_names=CAMVID_CLASSES,
        class_colours=tuple((int(r), int(g), int(b)) for r, g, b in CAMVID_COLOURS),
        feature_net=config.feature_net,
        channels=config.channels,
        last_stage=config.last_stage,
        nominal_size=nominal_size,
    )
    known = START_WEIGHTS.get(config.feature_net)
    if not known or not config.init:
        return spec
    return dataclasses.replace(spec, mean=known.mean, std=known.std, **known.spec)  # type: ignore[arg-type]


def new_model(config: TrainConfig, spec: ModelSpec) -> tuple[DffModel, set[str]]:
    """The model with its start weights, and the names of the parameters that have some; seeded."""
    torch.manual_seed(config.seed)
    known = START_WEIGHTS.get(config.feature_net)
    options: dict[str, object] = dict(known.options) if known and config.init else {'batch_norm': False}
    model = DffModel(spec, **options)
    if not config.init:
        return model, set()
    if known is None:
        raise ConfigError(
            f'init: no start weights are known for {config.feature_net}; known: {", ".join(START_WEIGHTS)}'
        )
    left = load_start_weights(model.feature_net, Path(config.init), known.channel_order, known.batch_norm_eps)
    return model, {name for name, _ in model.feature_net.named_parameters(prefix='feature_net')} - {
        f'feature_net.{name}' for name in left
    }


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
