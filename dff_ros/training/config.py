# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The settings of `dff train`; its flags are derived from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from dff_ros.config import DEVICES, Validated, param
from dff_ros.data.augment_config import AugmentConfig
from dff_ros.errors import ConfigError

FEATURE_NETS = ('resnet18', 'resnet50', 'resnet101')

_ALWAYS_CHANGEABLE = ('run', 'street_cache', 'device', 'threads', 'workers', 'checkpoint_s', 'log_every')

CHANGEABLE = (*_ALWAYS_CHANGEABLE, 'data', 'camvid', 'start', 'init')
"""Settings that a resumed segmentation run may change: they do not alter what is computed."""

LOCAL = ('run', 'data', 'camvid', 'start', 'init', 'street_cache')
"""Settings that are paths of one machine; a model that leaves it does not name them."""


def path_list(text: str) -> list[str]:
    """The paths of a setting that takes several, separated by commas."""
    return [name.strip() for name in text.split(',') if name.strip()]


@dataclass(frozen=True, kw_only=True)
class RunConfig(Validated):
    """What every kind of training takes: the run directory, the optimiser and the machine.

    `changeable` are the settings that a resumed run may change.
    """

    changeable: ClassVar[tuple[str, ...]] = _ALWAYS_CHANGEABLE

    run: str = param('', 'Directory of this run: checkpoints, log and the trained model')
    street_cache: str = param('runs/cache/street', 'Folder for the rendered street')
    steps: int = param(2400, 'Optimiser steps', minimum=1, maximum=10_000_000)
    batch: int = param(8, 'Samples per step', minimum=1, maximum=4096)
    lr: float = param(6e-4, 'Peak learning rate of layers that start at random', minimum=0.0, maximum=10.0)
    warmup: int = param(
        100, 'Steps over which the learning rate rises', minimum=0, maximum=1_000_000, unit='steps'
    )
    poly_power: float = param(0.9, 'It then falls as (1 - progress) to this power', minimum=0.0, maximum=10.0)
    weight_decay: float = param(
        0.02, 'Decoupled weight decay (AdamW); biases have none', minimum=0.0, maximum=10.0
    )
    clip_norm: float = param(5.0, 'Gradients are scaled down to this norm', minimum=1e-6, maximum=1e9)
    ema: float = param(
        0.998,
        'Decay of the moving average of the weights, which is what is kept; 0: none',
        minimum=0.0,
        maximum=0.99999,
    )
    seed: int = param(0, 'Seed of weights, sampling and augmentation', minimum=0, maximum=2**31 - 1)
    device: str = param('auto', 'Where to train', choices=DEVICES)
    bf16: bool = param(True, 'Compute in bfloat16 (weights stay float32)')
    threads: int = param(0, 'Threads of torch on the CPU; 0: one for each core', minimum=0, maximum=1024)
    workers: int = param(1, 'Threads that prepare the next batches', minimum=1, maximum=256)
    checkpoint_s: float = param(300.0, 'Time between checkpoints', minimum=1.0, maximum=86400.0, unit='s')
    log_every: int = param(
        20, 'Steps from one log line to the next', minimum=1, maximum=1_000_000, unit='steps'
    )

    def check_together(self) -> None:
        """ConfigError where settings are missing or do not go together."""
        if not self.run:
            raise ConfigError('run: give the directory of this run, for example --run runs/road-r18')


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Per-frame training of feature net and segmentation head."""

    changeable: ClassVar[tuple[str, ...]] = CHANGEABLE

    data: str = param(
        '', 'Data sets with labels, LAYOUT:PATH or PATH, separated by commas; all with the same classes'
    )
    split: str = param('train', 'Their split')
    camvid: str = param('', 'A CamVid folder: the same as --data camvid:PATH')
    street: int = param(
        0, 'Frames of the simulated street to train on, rendered once', minimum=0, maximum=1_000_000
    )
    start: str = param(
        '',
        'Runs and bundles whose feature net and head the model starts with, separated by commas; the head '
        'only if its classes are those of the data',
    )
    init: str = param('', 'Start weights of the feature net (.npz), before those; empty: random')
    street_per_batch: int = param(
        2, 'Of a batch, samples of the simulated street (if data is used too)', minimum=0, maximum=4096
    )
    crop_height: int = param(
        360,
        'Height of the training crops; frames of any size are brought to their area, at random scales around '
        'it',
        minimum=32,
        maximum=4096,
        unit='px',
    )
    crop_width: int = param(480, 'Width of the training crops', minimum=32, maximum=4096, unit='px')
    trunk_lr: float = param(
        0.25, 'Peak rate of layers with start weights, as a multiple of lr', minimum=0.0, maximum=10.0
    )
    class_balance: float = param(
        0.4, 'Classes weigh 1 / frequency to this power in the loss; 0: all equal', minimum=0.0, maximum=1.0
    )
    feature_net: str = param('resnet18', 'Feature net', choices=FEATURE_NETS)
    channels: int = param(256, 'Channels of the feature', minimum=1, maximum=8192)
    last_stage: int = param(5, 'Last stage of the trunk: 5 as in the paper, or 4', minimum=4, maximum=5)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def check_together(self) -> None:
        """ConfigError where settings are missing or do not go together."""
        super().check_together()
        if not self.labelled_data and not self.street:
            raise ConfigError('nothing to train on: give --data PATH, or --street N frames, or both')
        if self.augment.scale_min > self.augment.scale_max:
            raise ConfigError(
                f'augment.scale_min: got {self.augment.scale_min}, '
                f'above augment.scale_max {self.augment.scale_max}'
            )
        if self.street and self.labelled_data and self.street_per_batch >= self.batch:
            raise ConfigError(
                f'street_per_batch: got {self.street_per_batch}, '
                f'it must leave room for the data in a batch of {self.batch}'
            )

    @property
    def crop(self) -> tuple[int, int]:
        """(height, width) of the training crops."""
        return self.crop_height, self.crop_width

    @property
    def labelled_data(self) -> list[str]:
        """The labelled data sets, each as `open_videos` takes it."""
        return path_list(self.data) + [f'camvid:{path}' for path in path_list(self.camvid)]
