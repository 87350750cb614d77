# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Joint training: what learns, one step over the parts of a batch and all processes, held-out pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dff_ros.model_spec import HAND_MADE_FLOWS
from dff_ros.nets.correlation import CorrelationFlow
from dff_ros.nets.dff import DffModel
from dff_ros.training.dff_config import DffTrainConfig
from dff_ros.training.dff_loss import JointLoss, Trained
from dff_ros.training.dff_pairs import Pairs, hand_made_flow, parts_of, to_pairs
from dff_ros.training.keeping import open_teacher
from dff_ros.training.learner import Figures, Learner, parameter_groups
from dff_ros.training.pair_batch import PairBatch
from dff_ros.training.processes import ALONE, Processes
from dff_ros.training.start import Started

_STARTED_SLOWLY = ('feature_net.', 'heads.', 'light_net.')


def freeze(model: DffModel, ablation: str) -> Trained:
    """Leave out of training what the ablation fixes; returns what learns.

    The light net belongs to F, and with detail, which the head sees, to N too.
    """
    fixed: list[nn.Module | None] = []
    scale = None if model.flow_net is None else scale_conv(model.flow_net)
    light_of_head = model.light_net if model.spec.detail else None
    if ablation == 'fix_n':
        fixed = [model.feature_net, model.heads, light_of_head]
    elif ablation == 'fix_f':
        fixed = [model.flow_net, model.light_net]
    elif ablation == 'per_frame':
        fixed = [model.flow_net, model.correction, None if model.spec.detail else model.light_net]
    elif ablation == 'no_scale_map' and scale is not None:
        nn.init.zeros_(scale.weight)
        fixed = [scale]
    for module in fixed:
        if module is not None:
            module.requires_grad_(False)
    has_flow_net = model.flow_net is not None and ablation not in ('fix_f', 'per_frame')
    return Trained(ablation != 'fix_n', has_flow_net, propagation=ablation != 'per_frame')


def scale_conv(flow_net: nn.Module) -> nn.Conv2d:
    """The conv that makes the scale map."""
    name = 'scale' if isinstance(flow_net, CorrelationFlow) else 'Convolution5_scale'
    conv: nn.Conv2d = getattr(flow_net, name)
    return conv


class DffTrainer(Learner[DffTrainConfig, DffModel, PairBatch]):
    """Learns both streams on pairs. `class_weight_K` multiplies each class in the cross entropies."""

    def __init__(
        self,
        config: DffTrainConfig,
        started: Started,
        class_weight_K: NDArray[np.float32],
        processes: Processes = ALONE,
    ) -> None:
        model = started.model
        trained = freeze(model, config.ablation)
        slow = {name for name in started.names if name.startswith(_STARTED_SLOWLY)}
        super().__init__(config, model, parameter_groups(model, slow, config.feature_lr, config.weight_decay))
        self._processes = processes
        teacher = open_teacher(config.teacher, self.model, self.device) if config.teacher else None
        self._loss = JointLoss(
            self.model, config.loss, trained, torch.from_numpy(class_weight_K), config.bf16, teacher
        ).to(self.device)
        self._parallel: nn.Module = self._loss
        if processes.world > 1:
            self._parallel = DistributedDataParallel(
                self._loss, broadcast_buffers=False, find_unused_parameters=True
            )
        source = config.flow_net
        self._hand_flow = hand_made_flow(source, self.model.stride) if source in HAND_MADE_FLOWS else None
        self._best: dict[str, Tensor] = {}
        self._best_loss, self._num_worse = float('inf'), 0

    @property
    def is_over(self) -> bool:
        """Whether the loss of held-out pairs has stopped falling."""
        return 0 < self.config.patience <= self._num_worse

    def backward(self, batch: PairBatch) -> Figures:
        """Add the gradient of the loss of the whole batch, of which this process has `batch`."""
        parts = [self._pairs(part) for part in parts_of(batch, self.config.accumulate)]
        totals = self._totals(parts)
        figures: list[Figures] = []
        for number, pairs in enumerate(parts):
            is_last = number == len(parts) - 1
            waits = isinstance(self._parallel, DistributedDataParallel) and not is_last
            with self._parallel.no_sync() if waits else nullcontext():  # type: ignore[operator]
                loss, terms = self._parallel(pairs, totals)
                # Gradients are averaged over the processes; the loss is a sum over them.
                (loss * self._processes.world).backward()
            figures.append({'loss': loss.detach(), **terms})
        return self._summed(figures)

    def validate(self, held_out: Mapping[str, Iterable[PairBatch]]) -> dict[str, float]:
        """Mean figures of the averaged weights on each kind of held-out pairs, as `<kind>_<figure>`; `loss`,
        the mean over the kinds, counts for `is_over`.
        """
        found: dict[str, float] = {}
        for kind, batches in held_out.items():
            with self.averaged(), torch.no_grad():
                measured = [self._measure(batch) for batch in batches]
            for name in measured[0]:
                found[f'{kind}_{name}'] = sum(float(figures[name]) for figures in measured) / len(measured)
        loss = sum(found[f'{kind}_loss'] for kind in held_out) / len(held_out)
        self._note(loss)
        return {'loss': loss, **found}

    def trained_model(self) -> DffModel:
        """A copy for inference with the averaged weights, of the best measurement if the run has patience."""
        ema = self.ema
        if self.config.patience and self._best:
            self.ema = self._best
        try:
            with self.averaged() as model:
                return model.folded().requires_grad_(False)
        finally:
            self.ema = ema

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        best = {'weights': self._best, 'loss': self._best_loss, 'num_worse': self._num_worse}
        return {**super().state_dict(), 'best': best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Back from `state_dict`."""
        super().load_state_dict(state)
        best = state['best']
        self._best = {name: tensor.to(self.device) for name, tensor in best['weights'].items()}
        self._best_loss, self._num_worse = best['loss'], best['num_worse']

    def _pairs(self, batch: PairBatch) -> Pairs:
        return to_pairs(batch, self.to_device, self._hand_flow, self.config.ablation == 'per_frame')

    def _totals(self, parts: list[Pairs]) -> Tensor:
        packed = torch.stack([self._loss.totals(pairs).packed() for pairs in parts]).sum(0)
        return self._processes.sum(packed)

    def _measure(self, batch: PairBatch) -> Figures:
        pairs = self._pairs(batch)
        loss, terms = self._loss(pairs, self._totals([pairs]))
        return self._summed([{'loss': loss, **terms}])

    def _summed(self, figures: list[Figures]) -> Figures:
        """Over the parts and the processes."""
        names = list(dict.fromkeys(name for part in figures for name in part))
        zero = figures[0]['loss'].new_zeros(())
        sums = torch.stack([sum((part.get(name, zero) for part in figures), zero) for name in names])
        return dict(zip(names, self._processes.sum(sums), strict=True))

    def _note(self, loss: float) -> None:
        if loss < self._best_loss:
            self._best_loss, self._num_worse = loss, 0
            if self.config.patience:
                self._best = {name: tensor.clone() for name, tensor in self.ema.items()}
        else:
            self._num_worse += 1
