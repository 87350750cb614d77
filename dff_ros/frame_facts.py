# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What is told about one image: the record behind `dff/status` and `dff/frame_status`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from dff_ros.backends.base import BackendInfo
from dff_ros.config import DffConfig
from dff_ros.stream import DEADLINE, REFRESHING
from dff_ros.tasks import DETECTION, SEGMENTATION
from dff_ros.types import StepResult

KEY, PROPAGATED, DEGRADED = 'key', 'propagated', 'degraded'
IDLE, SKIPPED, DROPPED = 'idle', 'skipped', 'dropped'
"""Values of `state`. Degraded is propagated although a key frame was due and could not be had, or with most
of the label map unknown; idle is a frame on which no task was due, skipped one for which there was no time.
"""

ANSWERED = (KEY, PROPAGATED, DEGRADED)
"""States of images on which a task ran."""

MAX_SHARE_UNKNOWN = 0.5
"""A propagated label map with a larger share of unknown pixels is degraded."""

MEASURED = (
    'motion_px', 'coverage', 'residual', 'disagreement', 'disagreement_sum', 'change', 'key_change'
)  # fmt: skip
"""Fields of StepResult that a scheduler may look at, as of this frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts of one camera since the node was configured.

    `received` = `processed` + all `dropped` + `pending`. `lost` are images that the middleware lost before
    the node received them, as far as it tells; `stamps` are images by kind of stamp; `camera_infos_refused`
    are label maps without a camera_info because the one received could not be used.
    """

    received: int = 0
    processed: int = 0
    pending: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    lost: int = 0
    resets: Mapping[str, int] = field(default_factory=dict)
    stamps: Mapping[str, int] = field(default_factory=dict)
    camera_infos_refused: int = 0

    def values(self) -> dict[str, object]:
        """As key/value pairs."""
        facts: dict[str, object] = {
            'lost': self.lost,
            'received': self.received,
            'processed': self.processed,
            'pending': self.pending,
            'dropped': sum(self.dropped.values()),
        }
        facts |= {f'dropped.{reason}': number for reason, number in self.dropped.items()}
        facts |= {f'resets.{cause}': number for cause, number in sorted(self.resets.items())}
        facts |= {f'stamps.{kind}': number for kind, number in sorted(self.stamps.items())}
        return facts | {'camera_info.refused': self.camera_infos_refused}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What answered the image."""

    config: DffConfig
    backend: BackendInfo

    def values(self) -> dict[str, object]:
        """As key/value pairs."""
        keyframe = self.config.keyframe
        return {
            'scheduler': keyframe.scheduler,
            'interval': _text_or(keyframe.fixed_interval),
            'refresh': self.config.refresh,
            'backend': self.backend.name,
            'device': self.backend.device,
            'provider': self.backend.provider,
            'precision': self.backend.precision,
            'fallback': self.backend.fallback,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFacts:
    """One image of one camera, and the counts right after it.

    `result` is the engine's answer: None where the image was dropped before or by an error. `detail` says in
    words why it was dropped or skipped. `convert_ms` is the time from message to image; `latency_ms` that
    from the receipt of the image to its published answers, None where it has none. `camera_info` is NONE,
    PUBLISHED, UNFIT or UNCALIBRATED (dff_ros.camera_info), as of the last label map.
    """

    state: str
    reason: str
    detail: str = ''
    camera: str = ''
    result: StepResult | None = None
    convert_ms: float = 0.0
    latency_ms: float | None = None
    setup: Setup | None = None
    camera_info: str = ''
    totals: Totals = field(default_factory=Totals)

    def values(self) -> dict[str, object]:
        """As the key/value pairs of `dff/status`; what there is none of is an empty text."""
        facts: dict[str, object] = {'state': self.state}
        if self.state in (DROPPED, SKIPPED):
            facts |= {'reason': self.reason, 'detail': self.detail}
        if self.result is not None:
            facts |= _of_result(self.result, is_answered=self.state != SKIPPED)
        if self.latency_ms is not None or self.state == IDLE:
            facts |= self._times()
        if self.setup is not None:
            facts |= self.setup.values()
        return facts | {'camera': self.camera, 'camera_info': self.camera_info} | self.totals.values()

    def _times(self) -> dict[str, object]:
        stages = {} if self.result is None else dataclasses.asdict(self.result.timings)
        return {'convert_ms': self.convert_ms, **stages, 'latency_ms': _text_or(self.latency_ms)}


def state_of(result: StepResult) -> str:
    """KEY, PROPAGATED, DEGRADED, IDLE or SKIPPED."""
    if result.is_skipped:
        return SKIPPED
    if result.is_idle:
        return IDLE
    if result.is_key:
        return KEY
    is_unknown = result.share_unknown is not None and result.share_unknown > MAX_SHARE_UNKNOWN
    return DEGRADED if is_unknown or result.reason in (DEADLINE, REFRESHING) else PROPAGATED


def tasks_of(result: StepResult) -> list[str]:
    """Names of the tasks that ran."""
    answers = {SEGMENTATION: result.segmentation, DETECTION: result.detections}
    return [task for task, answer in answers.items() if answer is not None]


def _of_result(result: StepResult, *, is_answered: bool) -> dict[str, object]:
    cause = result.reset_cause
    changes: dict[str, object] = {
        'is_refreshed': result.is_refreshed,
        'reset_cause': cause.value if cause else '',
    }
    if not is_answered:
        return changes
    return {
        'is_key': result.is_key,
        'reason': result.reason,
        **changes,
        'age_frames': result.age_frames,
        'age_s': result.age_s,
        'mean_confidence': _text_or(result.mean_confidence),
        'share_unknown': _text_or(result.share_unknown),
        **{name: _text_or(getattr(result, name)) for name in MEASURED},
        'tasks': ','.join(tasks_of(result)),
        'num_detections': '' if result.detections is None else len(result.detections),
    }


def _text_or(value: float | None) -> float | str:
    return '' if value is None else value
