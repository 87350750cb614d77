# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""One optimiser step, the moving average of the weights, and the state that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dff_ros.errors import BackendUnavailableError
from dff_ros.training.config import RunConfig

ConfigT = TypeVar('ConfigT', bound=RunConfig)
ModelT = TypeVar('ModelT', bound=nn.Module)
BatchT = TypeVar('BatchT')

Figures = dict[str, Tensor]
"""Scalars of a step by name, on the device."""

_EMA_RAMP = 10
"""The moving average starts short, 1 / this of the way, and grows to its full length."""


def lr_schedule(config: RunConfig, step: int) -> float:
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


def parameter_groups(
    model: nn.Module, started: set[str], started_lr: float, weight_decay: float
) -> Iterator[dict[str, Any]]:
    """Parameter groups: named in `started` (whose learning rate is `started_lr` times the others') or not,
    each with and without weight decay.
    """
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    for has_start, multiple in ((True, started_lr), (False, 1.0)):
        for is_weight, decay in ((True, weight_decay), (False, 0.0)):
            chosen = [
                p for name, p in trainable if (name in started) == has_start and (p.ndim > 1) == is_weight
            ]
            if chosen:
                yield {'params': chosen, 'lr_multiple': multiple, 'weight_decay': decay}


class Learner(Generic[ConfigT, ModelT, BatchT]):
    """Model, optimiser and moving average of the weights; `step` goes through one batch.

    A kind of training derives from it and gives `loss`.
    """

    def __init__(self, config: ConfigT, model: ModelT, groups: Iterable[dict[str, Any]]) -> None:
        self.config = config
        self.device = choose_device(config.device)
        self.model: ModelT = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.train()
        self.ema = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(list(groups), lr=config.lr)

    @property
    def is_over(self) -> bool:
        """Whether more steps would bring nothing."""
        return False

    def loss(self, batch: BatchT) -> Tensor:
        """The scalar loss of one batch, on the device."""
        raise NotImplementedError

    def backward(self, batch: BatchT) -> Figures:
        """Add the gradient of the batch's loss; returns `loss` and, where it has several, its terms."""
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return {'loss': loss.detach()}

    def step(self, number: int, batch: BatchT) -> Figures:
        """Optimiser step `number`; `loss`, its terms and `grad_norm`, which stay on the device."""
        factor = lr_schedule(self.config, number)
        for group in self.optimiser.param_groups:
            group['lr'] = self.config.lr * group['lr_multiple'] * factor
        self.optimiser.zero_grad()
        figures = self.backward(batch)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimiser.step()
        self._average(number)
        return {**figures, 'grad_norm': norm}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {'model': self.model.state_dict(), 'ema': self.ema, 'optimiser': self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Back from `state_dict`."""
        self.model.load_state_dict(state['model'])
        for name, tensor in self.ema.items():
            tensor.copy_(state['ema'][name])
        self.optimiser.load_state_dict(state['optimiser'])

    def to_device(self, array: NDArray[Any]) -> Tensor:
        """The array as a tensor on the device; from pinned memory to a GPU, without waiting for it."""
        tensor = torch.from_numpy(array)
        if self.device.type == 'cuda':
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    @contextmanager
    def averaged(self) -> Iterator[ModelT]:
        """The model with the averaged weights for the time of the block."""
        current = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        try:
            yield self.model
        finally:
            self.model.load_state_dict(current)

    @torch.no_grad()
    def _average(self, number: int) -> None:
        decay = min(self.config.ema, (1 + number) / (_EMA_RAMP + number))
        current = self.model.state_dict()
        floating = [name for name, tensor in self.ema.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [self.ema[name] for name in floating], [current[name] for name in floating], 1 - decay
        )
