"""One optimiser step of per-frame segmentation, and the state that a checkpoint holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dff_ros.data.classes import CAMVID_CLASSES, CAMVID_COLOURS
from dff_ros.errors import BackendUnavailableError, ConfigError
from dff_ros.geometry import upsample_matrix
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.dff import DffModel
from dff_ros.nets.segmentation import SegmentationHead, upsample_scores
from dff_ros.nets.weights import START_WEIGHTS, load_start_weights
from dff_ros.training.batches import Batch
from dff_ros.training.config import TrainConfig

_EMA_RAMP = 10
"""The moving average starts short, 1 / this of the way, and grows to its full length."""


def lr_schedule(config: TrainConfig, step: int) -> float:
    """Learning rate of a step as a multiple of the peak: linear warm-up times poly decay."""
    warmup = min(1.0, (step + 1) / (config.warmup + 1))
    return warmup * float((1 - step / config.steps) ** config.poly_power)


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where torch has it; BackendUnavailableError where CUDA is asked for and missing."""
    has_cuda = torch.cuda.is_available()
    if name == 'cuda' and not has_cuda:
        raise BackendUnavailableError(
            'device: cuda was asked for, but torch finds no CUDA GPU; use --device cpu'
        )
    return torch.device('cuda' if has_cuda and name != 'cpu' else 'cpu')


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
    return dataclasses.replace(spec, mean=known.mean, std=known.std) if known and config.init else spec


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


class Trainer:
    """Model, optimiser and moving average of the weights; `step` goes through one batch.

    `class_weight_K` multiplies each class in the loss.
    """

    def __init__(self, config: TrainConfig, spec: ModelSpec, class_weight_K: NDArray[np.float32]) -> None:
        self.config = config
        self.device = choose_device(config.device)
        model, started = new_model(config, spec)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.train()
        self.ema = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(list(_groups(self.model, started, config)), lr=config.lr)
        self._class_weight = torch.from_numpy(class_weight_K).to(self.device)
        height, width = config.crop
        stride = self.model.stride
        self._rows = torch.from_numpy(upsample_matrix(height, height, stride).copy()).to(self.device)
        self._cols = torch.from_numpy(upsample_matrix(width, width, stride).T.copy()).to(self.device)

    def step(self, number: int, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and gradient norm of optimiser step `number`; they stay on the device."""
        factor = lr_schedule(self.config, number)
        for group in self.optimiser.param_groups:
            group['lr'] = self.config.lr * group['lr_multiple'] * factor
        loss = self._loss(self._to_device(batch.images_BHW3), self._to_device(batch.labels_BHW))
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimiser.step()
        self._average(number)
        return loss.detach(), norm

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {'model': self.model.state_dict(), 'ema': self.ema, 'optimiser': self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Back from `state_dict`."""
        self.model.load_state_dict(state['model'])
        for name, tensor in self.ema.items():
            tensor.copy_(state['ema'][name])
        self.optimiser.load_state_dict(state['optimiser'])

    def trained_model(self) -> DffModel:
        """A copy for inference with the averaged weights, batch norm folded."""
        current = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        folded = self.model.folded()
        self.model.load_state_dict(current)
        return folded

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

    def _to_device(self, array: NDArray[np.uint8]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == 'cuda':
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    @torch.no_grad()
    def _average(self, number: int) -> None:
        decay = min(self.config.ema, (1 + number) / (_EMA_RAMP + number))
        current = self.model.state_dict()
        floating = [name for name, tensor in self.ema.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [self.ema[name] for name in floating], [current[name] for name in floating], 1 - decay
        )


def _groups(model: nn.Module, started: set[str], config: TrainConfig) -> Iterator[dict[str, Any]]:
    """Parameter groups: with or without start weights, each with and without weight decay."""
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    for has_start, multiple in ((True, config.trunk_lr), (False, 1.0)):
        for is_weight, decay in ((True, config.weight_decay), (False, 0.0)):
            chosen = [
                p for name, p in trainable if (name in started) == has_start and (p.ndim > 1) == is_weight
            ]
            if chosen:
                yield {'params': chosen, 'lr_multiple': multiple, 'weight_decay': decay}
