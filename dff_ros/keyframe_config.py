# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""When key frames are made: the settings `keyframe.*`; dff_ros.config has them too."""

from __future__ import annotations

from dataclasses import dataclass

from dff_ros.settings import Validated, param

BUDGET_OVER = ('fixed', 'period', 'motion', 'residual', 'learned')
SCHEDULERS = (*BUDGET_OVER, 'budget')


@dataclass(frozen=True, kw_only=True)
class KeyframeConfig(Validated):
    """When key frames are made."""

    scheduler: str = param(
        'fixed',
        'What decides when a key frame is made: a number of frames, a time, the length of the flow, the '
        'photometric error of the warp, the predicted disagreement with per-frame inference, or a budget',
        choices=SCHEDULERS,
        runtime=True,
    )
    interval: int = param(
        5,
        'Scheduler fixed: frames from one key frame to the next (l of equation 7); 1 is per-frame inference',
        minimum=1,
        maximum=1000,
        unit='frames',
        runtime=True,
    )
    max_age_s: float = param(
        2.0,
        'A key frame older than this is replaced, however few frames came since',
        minimum=0.01,
        maximum=3600.0,
        unit='s',
        runtime=True,
    )
    max_interval: int = param(
        60,
        'Most frames from one key frame to the next where content or the deadline decide',
        minimum=1,
        maximum=1000,
        unit='frames',
        runtime=True,
    )
    max_gap_s: float = param(
        2.0,
        'A longer pause between two image stamps drops the key frame',
        minimum=0.01,
        maximum=3600.0,
        unit='s',
        runtime=True,
    )
    period_s: float = param(
        0.5,
        'Scheduler period: time from one key frame to the next, by image stamps',
        minimum=0.001,
        maximum=3600.0,
        unit='s',
        runtime=True,
    )
    motion_px: float = param(
        60.0,
        'Scheduler motion: a key frame where the 95th percentile of the flow from the last one is longer',
        minimum=0.0,
        maximum=10000.0,
        unit='px',
        runtime=True,
    )
    min_coverage: float = param(
        0.7,
        'Scheduler motion: a key frame where less of the picture comes from within the last one',
        minimum=0.0,
        maximum=1.0,
        runtime=True,
    )
    residual: float = param(
        8.0,
        'Scheduler residual: a key frame where the mean photometric error of the warp is larger',
        minimum=0.0,
        maximum=255.0,
        unit='grey levels',
        runtime=True,
    )
    disagreement: float = param(
        0.2,
        'Scheduler learned: a key frame where the share of pixels predicted to be labelled otherwise than '
        'per frame, above the floor and summed over the frames since the last one, is larger',
        minimum=0.0,
        maximum=1000.0,
        unit='frames',
        runtime=True,
    )
    disagreement_floor: float = param(
        0.02,
        'Scheduler learned: the share of pixels that differs anyway, as on a camera that stands still; no '
        'reason for a key frame',
        minimum=0.0,
        maximum=1.0,
        runtime=True,
    )
    cut: float = param(
        0.5,
        'Schedulers that look at content: a picture that differs by more from the one before is a cut and a '
        'key frame; motion stays below 0.5, a hard cut is mostly near 1; 1 looks for none',
        minimum=0.0,
        maximum=1.0,
        runtime=True,
    )
    budget_over: str = param(
        'residual',
        'Scheduler budget: the scheduler whose limit it moves',
        choices=BUDGET_OVER,
        runtime=True,
    )
    key_ratio: float = param(
        0.1,
        'Scheduler budget: mean share of key frames to hold, of the frames that are answered',
        minimum=0.001,
        maximum=1.0,
        runtime=True,
    )
    compute_per_s: float = param(
        0.0,
        'Scheduler budget: mean compute to hold instead, in key frames per second of image stamps; 0 holds '
        'key_ratio',
        minimum=0.0,
        maximum=1000.0,
        unit='key frames/s',
        runtime=True,
    )
    propagate_cost: float = param(
        0.2,
        'Scheduler budget: compute of a propagated frame, in key frames; dff complexity --bundle tells it',
        minimum=0.0,
        maximum=1.0,
        unit='key frames',
        runtime=True,
    )

    @property
    def fixed_interval(self) -> int | None:
        """Frames from one key frame to the next where that is all that decides."""
        return self.interval if self.scheduler == 'fixed' else None

    @property
    def in_words(self) -> str:
        """What decides when a key frame is made."""
        return f'every {self.interval} frames' if self.scheduler == 'fixed' else f'by {self.scheduler}'
