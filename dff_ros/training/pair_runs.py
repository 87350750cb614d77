# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The data of a run on pairs, and its held-out pairs: the same at every measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dff_ros.training import run_log
from dff_ros.training.joint_batches import JointData, open_joint_data
from dff_ros.training.pair_batch import PairBatch
from dff_ros.training.pair_run_config import PairRunConfig

HeldOut = Mapping[str, Iterable[PairBatch]]
"""Batches of each kind of pairs."""


def open_pairs(config: PairRunConfig) -> JointData:
    """Everything a run is trained and measured on; raises as `open_joint_data`."""
    return open_joint_data(
        config.data,
        config.augment,
        config.crop,
        config.seed,
        config.batch,
        config.workers,
        Path(config.street_cache),
    )


def held_out_pairs(config: PairRunConfig, data: JointData, share: range | None = None) -> HeldOut:
    """`held_out` pairs of all kinds together, in whole batches; of each batch the places of `share`, None:
    all.
    """
    num_batches = math.ceil(config.held_out / (config.batch * max(len(data.held_out), 1)))
    return {kind: batches.ahead(0, num_batches, share) for kind, batches in data.held_out.items()}


def make_validator(
    config: PairRunConfig,
    data: JointData,
    measure: Callable[[HeldOut], Mapping[str, float]],
    share: range | None = None,
) -> Callable[[int, run_log.RunLog], None]:
    """What measures held-out pairs when it is time, if there are any, and writes the figures to the log."""

    def validate(done: int, log: run_log.RunLog) -> None:
        if data.held_out and (done % config.validate_every == 0 or done == config.steps):
            figures = measure(held_out_pairs(config, data, share))
            log.write('validation', step=done, **{name: round(value, 5) for name, value in figures.items()})

    return validate
