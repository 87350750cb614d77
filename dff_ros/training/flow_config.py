# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The settings of `dff train flow`; its flags are derived from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from dff_ros.config import other_default, param
from dff_ros.data.motion_config import MotionConfig, PairColourConfig
from dff_ros.errors import ConfigError
from dff_ros.model_spec import FLOW_SOURCES, HAND_MADE_FLOWS
from dff_ros.training.config import FEATURE_NETS, RunConfig

FLOW_NETS = tuple(name for name in FLOW_SOURCES if name not in HAND_MADE_FLOWS)


@dataclass(frozen=True, kw_only=True)
class FlowTrainConfig(RunConfig):
    """Pre-training of a flow net on made pairs with exact flow."""

    changeable: ClassVar[tuple[str, ...]] = (
        *RunConfig.changeable,
        'images',
        'light_init',
        'photometric',
        'held_out',
    )

    images: str = param(
        '', 'Folder of images, with all folders in it: textures of the made pairs; empty: only the street'
    )
    max_images: int = param(
        1000, 'Of more images, so many evenly spaced ones are held in memory', minimum=2, maximum=1_000_000
    )
    street: int = param(
        0, 'Pairs of the simulated street to train on, rendered once', minimum=0, maximum=1_000_000
    )
    street_per_batch: int = param(
        2, 'Of a batch, pairs of the simulated street (if images are used too)', minimum=0, maximum=4096
    )
    street_fps: float = param(
        30.0, "Frame rate of the street's pairs", minimum=1.0, maximum=1000.0, unit='Hz'
    )
    max_spacing: int = param(
        9, 'Most frames from the key to the current frame of a street pair', minimum=1, maximum=1000
    )
    height: int = param(360, 'Height of the pairs', minimum=64, maximum=4096, unit='px')
    width: int = param(480, 'Width of the pairs', minimum=64, maximum=4096, unit='px')
    flow_net: str = param('correlation', 'Flow net', choices=FLOW_NETS)
    fine_flow: bool = param(
        False, 'The correlation flow net also searches at stride 8: more exact, in twice the time'
    )
    light_channels: int = param(
        64, 'Width of the light net whose features the correlation flow net matches', minimum=8, maximum=1024
    )
    light_init: str = param(
        '', 'Start weights (.npz) of a ResNet-18 for a light net of 64 channels; empty: random'
    )
    light_lr: float = param(
        0.25, 'Peak rate of layers with start weights, as a multiple of lr', minimum=0.0, maximum=10.0
    )
    feature_net: str = param(
        'resnet18', 'Feature net that the flow is for: images are normalised as for it', choices=FEATURE_NETS
    )
    channels: int = param(256, 'Channels of its feature, and so of the scale map', minimum=1, maximum=8192)
    lr: float = other_default(RunConfig, 'lr', 3e-4)
    weight_decay: float = other_default(RunConfig, 'weight_decay', 4e-4)
    held_out: int = param(
        64, 'Made pairs of each kind, never trained on, that measure the result', minimum=1, maximum=100_000
    )
    photometric: str = param(
        '', 'Folder of videos, each a folder of images, that measure the result too; empty: none'
    )
    motion: MotionConfig = dataclasses.field(default_factory=MotionConfig)
    colours: PairColourConfig = dataclasses.field(default_factory=PairColourConfig)

    def check_together(self) -> None:
        """ConfigError where settings are missing or do not go together."""
        super().check_together()
        if not self.images and not self.street:
            raise ConfigError('nothing to train on: give --images DIR, or --street N pairs, or both')
        if self.images and self.street and self.street_per_batch >= self.batch:
            raise ConfigError(
                f'street_per_batch: got {self.street_per_batch}, '
                f'it must leave room for pairs made of images in a batch of {self.batch}'
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pairs."""
        return self.height, self.width

    @property
    def num_street(self) -> int:
        """Pairs of the street in each batch."""
        if not self.street:
            return 0
        return self.street_per_batch if self.images else self.batch
