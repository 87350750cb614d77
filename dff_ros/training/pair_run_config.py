# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The settings of every training on the pairs of joint training's data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from dff_ros.config import param
from dff_ros.data.augment_config import AugmentConfig
from dff_ros.training.config import RunConfig, path_list
from dff_ros.training.joint_data_config import JointDataConfig


@dataclass(frozen=True, kw_only=True)
class PairRunConfig(RunConfig):
    """A run on pairs: its data, its crops, and what is held out of them."""

    crop_height: int = param(360, 'Height of the training crops', minimum=32, maximum=4096, unit='px')
    crop_width: int = param(480, 'Width of the training crops', minimum=32, maximum=4096, unit='px')
    held_out: int = param(
        64, 'Pairs, never trained on, that the averaged weights are measured with', minimum=1, maximum=100_000
    )
    validate_every: int = param(
        500, 'Steps from one measurement to the next', minimum=1, maximum=1_000_000, unit='steps'
    )
    data: JointDataConfig = dataclasses.field(default_factory=JointDataConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    @property
    def crop(self) -> tuple[int, int]:
        """(height, width) of the training crops."""
        return self.crop_height, self.crop_width

    @property
    def labelled_data(self) -> list[str]:
        """The labelled data sets, each as `open_videos` takes it."""
        return path_list(self.data.labelled)
