# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The settings of `dff train dff`; its flags are derived from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from dff_ros.config import Validated, other_default, param
from dff_ros.errors import ConfigError
from dff_ros.model_spec import FLOW_SOURCES
from dff_ros.training.config import FEATURE_NETS
from dff_ros.training.detection_config import DetectionHeadConfig
from dff_ros.training.pair_run_config import PairRunConfig

ABLATIONS = ('joint', 'fix_n', 'fix_f', 'separate', 'no_scale_map', 'per_frame')
"""What is trained: everything; all but the per-frame network N; all but the flow net F; nothing; everything
with scale map 1; the per-frame network alone (i = k).
"""

_PATHS = (
    'start',
    'init',
    'teacher',
    'data.labelled',
    'data.boxed',
    'data.unlabelled',
    'data.made_images',
    'data.video_cache',
)
_BF16_MULTIPLE = 16
"""oneDNN's bfloat16 gradient of a dilated conv has now and then NaN in it with other numbers of channels."""


@dataclass(frozen=True, kw_only=True)
class LossConfig(Validated):
    """Weights of the loss's terms; 0 leaves one out."""

    per_frame: float = param(
        1.0, 'Cross entropy of the direct output, where there are labels', minimum=0.0, maximum=1000.0
    )
    propagated: float = param(
        1.0, 'Cross entropy of the propagated output, where there are labels', minimum=0.0, maximum=1000.0
    )
    distill: float = param(
        1.0, 'Divergence of the propagated output from the direct one', minimum=0.0, maximum=1000.0
    )
    feature: float = param(
        0.5,
        'Squared error of the propagated feature, relative to the square of the direct one',
        minimum=0.0,
        maximum=1000.0,
    )
    new: float = param(
        0.5,
        'With a correction branch, the share of them that its new feature has by itself: the gate alone lets '
        'little of a gradient through',
        minimum=0.0,
        maximum=1000.0,
    )
    boxes: float = param(
        1.0,
        'Loss of the detection head, of the direct and the propagated output, where there are boxes',
        minimum=0.0,
        maximum=1000.0,
    )
    keep: float = param(
        1.0,
        'Divergence of the direct output from that of the teacher, where there is one',
        minimum=0.0,
        maximum=1000.0,
    )
    flow: float = param(
        0.5, 'Multi-scale end-point error, where the exact flow is known', minimum=0.0, maximum=1000.0
    )
    warped: float = param(
        0.5,
        'With a correction branch, the share of the losses of propagation that the uncorrected feature has '
        'too: the model then also works with the correction switched off',
        minimum=0.0,
        maximum=1000.0,
    )


@dataclass(frozen=True, kw_only=True)
class DffTrainConfig(PairRunConfig):
    """Joint training of feature net, head, flow net, scale map and correction branch."""

    changeable: ClassVar[tuple[str, ...]] = (
        *PairRunConfig.changeable,
        *_PATHS,
        'data.memory_mib',
    )
    local: ClassVar[tuple[str, ...]] = ('run', 'street_cache', *_PATHS)
    """Settings that are paths of one machine; a model that leaves it does not name them."""

    start: str = param(
        '',
        'Runs and bundles whose weights the model starts with, separated by commas; of parts that several '
        'have, the last one counts',
    )
    init: str = param('', 'Start weights of the feature net (.npz), before those; empty: random')
    teacher: str = param(
        '',
        'Run or bundle whose per-frame label maps the model is to keep while it learns something else '
        '(loss.keep); empty: none',
    )
    ablation: str = param(
        'joint',
        'What is trained: everything; without the per-frame network; without the flow net; nothing; with '
        'scale map 1; the per-frame network alone',
        choices=ABLATIONS,
    )
    feature_net: str = param('resnet18', 'Feature net', choices=FEATURE_NETS)
    channels: int = param(256, 'Channels of the feature', minimum=1, maximum=8192)
    last_stage: int = param(5, 'Last stage of the trunk: 5 as in the paper, or 4', minimum=4, maximum=5)
    frozen_stages: int = param(
        2, 'So many stages of the feature net from the first on are not trained', minimum=0, maximum=5
    )
    flow_net: str = param('correlation', 'Flow net, or flow made by hand', choices=FLOW_SOURCES)
    fine_flow: bool = param(
        False, 'The correlation flow net also searches at stride 8: more exact, in twice the time'
    )
    light_channels: int = param(
        64,
        'Width of the light net, if flow net, detail or correction need it',
        minimum=8,
        maximum=1024,
    )
    detail: bool = param(True, "The head sees the light net's fine features of the current frame")
    correction_channels: int = param(80, 'Width of the correction branch; 0: none', minimum=0, maximum=4096)
    lr: float = other_default(PairRunConfig, 'lr', 6e-4)
    weight_decay: float = other_default(PairRunConfig, 'weight_decay', 4e-3)
    feature_lr: float = param(
        0.4,
        'Peak rate of feature net, light net and head where they have start weights, as a multiple of lr',
        minimum=0.0,
        maximum=10.0,
    )
    accumulate: int = param(
        1, 'Parts that a batch is gone through in, to save memory', minimum=1, maximum=4096
    )
    class_balance: float = param(
        0.4, 'Classes weigh 1 / frequency to this power in the loss; 0: all equal', minimum=0.0, maximum=1.0
    )
    patience: int = param(
        0,
        'Training ends after so many measurements without a lower loss, with the weights of the lowest; '
        '0: never',
        minimum=0,
        maximum=1_000_000,
    )
    detection: DetectionHeadConfig = dataclasses.field(default_factory=DetectionHeadConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)

    def check_together(self) -> None:
        """ConfigError where settings are missing or do not go together."""
        super().check_together()
        if self.accumulate > self.batch:
            raise ConfigError(f'accumulate: got {self.accumulate}, a batch of {self.batch} has no more parts')
        if self.frozen_stages > self.last_stage:
            raise ConfigError(
                f'frozen_stages: got {self.frozen_stages}, the feature net ends with stage {self.last_stage}'
            )
        if self.bf16 and self.correction_channels % _BF16_MULTIPLE:
            raise ConfigError(
                f'correction_channels: got {self.correction_channels}, with bf16 allowed is a multiple of '
                f'{_BF16_MULTIPLE}; take one, or set --bf16 false'
            )
        if self.ablation == 'separate':
            return
        if self.augment.scale_min > self.augment.scale_max:
            raise ConfigError(
                f'augment.scale_min: got {self.augment.scale_min}, '
                f'above augment.scale_max {self.augment.scale_max}'
            )
        self.data.per_batch(self.batch)

    @property
    def needs_light_net(self) -> bool:
        """Whether any part of the model does."""
        return self.flow_net == 'correlation' or self.detail or self.correction_channels > 0
