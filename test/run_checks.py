# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What must hold between two training runs."""

from __future__ import annotations

from pathlib import Path

import torch

from dff_ros.training.checkpoint import CHECKPOINT_FILE


def check_same_checkpoint(one: Path, other: Path, *, step: int) -> None:
    """Both runs ended at `step` with bit-identical weights, averages and optimiser state."""
    whole, parts = (torch.load(run / CHECKPOINT_FILE, weights_only=True) for run in (one, other))
    assert whole['step'] == parts['step'] == step
    for kind in ('model', 'ema'):
        for name, tensor in whole['state'][kind].items():
            assert torch.equal(tensor, parts['state'][kind][name]), (kind, name)
    for key, expected in whole['state']['optimiser']['state'].items():
        assert torch.equal(expected['exp_avg_sq'], parts['state']['optimiser']['state'][key]['exp_avg_sq'])
