# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Training of the quality net: everything else of the model is frozen, so nothing but it needs a gradient."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dff_ros.errors import ConfigError, DataError
from dff_ros.evaluation.calibration import Calibration
from dff_ros.nets.dff import DffModel
from dff_ros.nets.quality import QualityNet
from dff_ros.training.dff_pairs import hand_made_flow, to_pairs
from dff_ros.training.disagreement import Case, cases_of
from dff_ros.training.learner import Figures, Learner, parameter_groups
from dff_ros.training.loss_totals import TINY
from dff_ros.training.pair_batch import PairBatch
from dff_ros.training.scheduler_config import SchedulerTrainConfig
from dff_ros.training.start import Start, Started, load_starts, read_start


def start_scheduler(config: SchedulerTrainConfig) -> tuple[Started, Start]:
    """The model of the run or bundle with a quality net, drawn from the seed unless it has one of that width.

    ConfigError for a model that cannot have one, DataError for one that is not whole.
    """
    start = read_start(config.start)
    if not start.spec.light_channels:
        raise ConfigError(f'start: {config.start} has no light net, whose features a quality net looks at')
    spec = dataclasses.replace(start.spec, quality_channels=config.quality_channels)
    torch.manual_seed(config.seed)
    started = load_starts(DffModel(spec, batch_norm=False), '', [start])
    if missing := [part for part in started.afresh if part != 'quality']:
        raise DataError(f'start: {config.start} has no {", ".join(missing)}: give a model that is whole')
    return started, start


class SchedulerTrainer(Learner[SchedulerTrainConfig, QualityNet, PairBatch]):
    """Learns the quality net of a model by the binary cross entropy of each cell's share."""

    def __init__(self, config: SchedulerTrainConfig, model: DffModel) -> None:
        if model.quality is None:
            raise ConfigError('the model has no quality net to be trained')
        model.eval().requires_grad_(False)
        quality = model.quality.requires_grad_(True)
        super().__init__(config, quality, parameter_groups(quality, set(), 1.0, config.weight_decay))
        self._whole = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._hand_flow = hand_made_flow(model.spec.flow_source, model.stride)

    def backward(self, batch: PairBatch) -> Figures:
        """Add the gradient. Beside `loss`: `predicted` and `true`, the mean shares of the answers."""
        losses, predicted, true = [], [], []
        for case in self._cases(batch).values():
            logit = self.model(*case.seen)
            total = case.weight.sum().clamp_min(TINY)
            losses.append(_cross_entropy(logit, case))
            predicted.append((torch.sigmoid(logit.detach()) * case.weight).sum() / total)
            true.append((case.share * case.weight).sum() / total)
        if not losses:
            zero = torch.zeros((), device=self.device)
            return {'loss': zero, 'predicted': zero, 'true': zero}
        loss = torch.stack(losses).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return {'loss': loss.detach(), 'predicted': predicted[0], 'true': true[0]}

    @torch.no_grad()
    def measure(self, batches: Iterable[PairBatch]) -> tuple[float, dict[str, Calibration]]:
        """Loss and calibration of the averaged weights; `corrected` and `warped` answers apart."""
        losses: list[float] = []
        found: dict[str, Calibration] = {}
        with self.averaged():
            for batch in batches:
                for name, case in self._cases(batch).items():
                    losses.append(float(_cross_entropy(self.model(*case.seen), case)))
                    collect(found.setdefault(name, Calibration()), self.model, case)
        return (sum(losses) / len(losses) if losses else float('nan')), found

    def validate(self, held_out: Mapping[str, Iterable[PairBatch]]) -> dict[str, float]:
        """Figures of each kind of held-out pairs as `<kind>_<figure>`, and the mean `loss` over the kinds."""
        figures: dict[str, float] = {}
        for kind, batches in held_out.items():
            figures[f'{kind}_loss'], found = self.measure(batches)
            for name, calibration in found.items():
                summary = calibration.summary()
                for figure in ('correlation', 'frame_error', 'mean_predicted', 'mean_true'):
                    if isinstance(value := summary[figure], float):
                        figures[f'{kind}_{name}_{figure}'] = value
        losses = [figures[f'{kind}_loss'] for kind in held_out]
        return {'loss': sum(losses) / len(losses), **figures}

    def trained_model(self) -> DffModel:
        """A copy of the whole model with the averaged weights."""
        with self.averaged():
            return copy.deepcopy(self._whole).eval().requires_grad_(False)

    def _cases(self, batch: PairBatch) -> dict[str, Case]:
        pairs = to_pairs(batch, self.to_device, self._hand_flow)
        # The quality net itself is small: it computes in single precision.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            return cases_of(self._whole, pairs)


def collect(calibration: Calibration, quality: QualityNet, case: Case) -> None:
    """Add each frame of a case."""
    predicted = torch.sigmoid(quality(*case.seen))
    for maps in zip(predicted[:, 0], case.share[:, 0], case.weight[:, 0], strict=True):
        calibration.add(*(np.asarray(values.cpu().numpy(), np.float32) for values in maps))


def _cross_entropy(logit: Tensor, case: Case) -> Tensor:
    total = case.weight.sum().clamp_min(TINY)
    return F.binary_cross_entropy_with_logits(logit, case.share, case.weight, reduction='sum') / total
