# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the quality net learns from: where the propagated label is not the per-frame one. No labels needed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.nets.dff import DffModel, Propagated
from dff_ros.nets.looking import Look, split
from dff_ros.training.dff_pairs import Pairs
from dff_ros.training.loss_totals import TINY, cells_inside

CORRECTED, WARPED = 'corrected', 'warped'


@dataclass(frozen=True)
class Case:
    """A propagation of M pairs: `seen` is what the quality net takes, in single precision, in its order.

    `share` (M, 1, h, w): of each cell's score cells those whose label differs; `weight` (M, 1, h, w): how
    much of the cell is no padding.
    """

    seen: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]
    share: Tensor
    weight: Tensor


def judge(
    model: DffModel,
    current: Look,
    key: Look,
    key_feature: Tensor,
    expected: Tensor,
    inside: Tensor,
    flow: Tensor | None = None,
) -> dict[str, Case]:
    """What a key feature leads to, with the correction branch (if the model has one) and without.

    `expected` and `inside` (M, H, W): per-frame label and whether it counts, of each score cell. `flow`: in
    cells, if it was made by hand.
    """
    if current.light is None or key.light is None:
        raise ConfigError('a quality net looks at light features; the model has no light net')
    corrected = model.propagate(current, key, key_feature, flow)
    made = {WARPED: Propagated(corrected.warped, corrected.warped, corrected.flow)}
    if model.correction is not None:
        made = {CORRECTED: corrected, **made}
    cases = {}
    for name, answer in made.items():
        differs = (model.scores(answer.feature, current).argmax(1) != expected).float()
        share, weight = share_of_cells(differs, inside, model.stride // model.score_stride)
        gate = None if answer.gate is None else answer.gate.float()
        seen = (answer.feature, answer.flow, current.light.middle, key.light.middle)
        cases[name] = Case((*map(Tensor.float, seen), gate), share, weight)  # type: ignore[arg-type]
    return cases


@torch.no_grad()
def cases_of(model: DffModel, pairs: Pairs) -> dict[str, Case]:
    """The cases of the pairs that move; empty where none does."""
    num_moving = pairs.num_moving
    if not num_moving:
        return {}
    images = torch.cat((pairs.current, pairs.key[:num_moving])).permute(0, 3, 1, 2)
    normalised = model.normalise(images).contiguous(memory_format=torch.channels_last)
    current, key = split(model.look(normalised), num_moving)
    direct, key_feature = model.feature_net(normalised).split(num_moving)
    expected = model.scores(direct, current).argmax(1)
    inside = cells_inside(pairs.is_inside[:num_moving], model.score_stride)
    return judge(model, current, key, key_feature, expected, inside, pairs.hand_flow)


def share_of_cells(differs: Tensor, inside: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """(M, H, W) of score cells -> share and weight (M, 1, h, w) of the feature cells, of which every
    `step`-th score cell is the middle. Score cells between two count half for each: the mean of the shares,
    so weighted, is that of `differs`.
    """
    taps = 1 - torch.arange(1 - step, step, device=differs.device).abs() / step
    kernel = torch.outer(taps, taps)[None, None]

    def sums(values: Tensor) -> Tensor:
        return F.conv2d(values[:, None], kernel, stride=step, padding=step - 1)

    with torch.autocast(differs.device.type, enabled=False):  # shares are no numbers of 8 bits
        weight = sums(inside)
        return sums(differs * inside) / weight.clamp_min(TINY), weight / kernel.sum()
