# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The settings of `dff train scheduler`; its flags are derived from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from dff_ros.config import other_default, param
from dff_ros.data.pair_config import PairConfig
from dff_ros.errors import ConfigError
from dff_ros.training.config import path_list
from dff_ros.training.joint_data_config import JointDataConfig
from dff_ros.training.pair_run_config import PairRunConfig

_PATHS = (
    'start',
    'data.labelled',
    'data.boxed',
    'data.unlabelled',
    'data.made_images',
    'data.video_cache',
)


@dataclass(frozen=True, kw_only=True)
class SchedulerPairConfig(PairConfig):
    """Key frames up to one second before the current one, and never that frame itself."""

    max_offset: int = other_default(PairConfig, 'max_offset', 30)
    same: float = other_default(PairConfig, 'same', 0.0)


@dataclass(frozen=True, kw_only=True)
class SchedulerDataConfig(JointDataConfig):
    """The pairs of joint training; their labels and boxes are not looked at."""

    pairs: SchedulerPairConfig = dataclasses.field(default_factory=SchedulerPairConfig)


@dataclass(frozen=True, kw_only=True)
class SchedulerTrainConfig(PairRunConfig):
    """Training of the quality net of a model; everything else of it stays as it is."""

    changeable: ClassVar[tuple[str, ...]] = (*PairRunConfig.changeable, *_PATHS, 'data.memory_mib')
    local: ClassVar[tuple[str, ...]] = ('run', 'street_cache', *_PATHS)
    """Settings that are paths of one machine; a model that leaves it does not name them."""

    start: str = param('', 'The run or bundle that gets a quality net; one that has it goes on learning')
    quality_channels: int = param(32, 'Width of the quality net', minimum=1, maximum=4096)
    steps: int = other_default(PairRunConfig, 'steps', 1500)
    lr: float = other_default(PairRunConfig, 'lr', 1e-3)
    held_out: int = other_default(PairRunConfig, 'held_out', 128)
    data: SchedulerDataConfig = dataclasses.field(default_factory=SchedulerDataConfig)

    def check_together(self) -> None:
        """ConfigError where settings are missing or do not go together."""
        super().check_together()
        if len(path_list(self.start)) != 1:
            raise ConfigError(
                f'start: got {self.start!r}; give one run or bundle, which gets the quality net'
            )
        if self.data.pairs.max_offset < 1:
            raise ConfigError(
                'data.pairs.max_offset: got 0; a frame that is its own key frame teaches nothing'
            )
        self.data.per_batch(self.batch)
