"""What the node tells about each frame: the key/value pairs of `dff/status`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from dff_ros.backends.base import BackendInfo
from dff_ros.config import DffConfig
from dff_ros.ros.mailbox import Counts
from dff_ros.tasks import DETECTION, SEGMENTATION
from dff_ros.types import StepResult

KEY, PROPAGATED, IDLE, SKIPPED, DROPPED = 'key', 'propagated', 'idle', 'skipped', 'dropped'
"""Values of `state`; idle is a frame on which no task was due, skipped one for which there was no time."""


_MEASURED = (
    'motion_px', 'coverage', 'residual', 'disagreement', 'disagreement_sum', 'change', 'key_change'
)  # fmt: skip
"""Fields of StepResult that a scheduler may look at, as of this frame."""


def answered(result: StepResult, convert_ms: float, latency_ms: float) -> dict[str, object]:
    """The facts of an answered frame; what there is none of is an empty text. `tasks` are those that ran;
    `latency_ms` is from the image's receipt to their published answers.
    """
    facts: dict[str, object] = {
        'state': _state(result),
        'is_key': result.is_key,
        'reason': result.reason,
        **_changes(result),
        'age_frames': result.age_frames,
        'age_s': result.age_s,
        **{name: _text_or(getattr(result, name)) for name in _MEASURED},
        'tasks': ','.join(_tasks(result)),
        'num_detections': '' if result.detections is None else len(result.detections),
        'convert_ms': convert_ms,
    }
    return facts | dataclasses.asdict(result.timings) | {'latency_ms': latency_ms}


def _text_or(value: float | None) -> float | str:
    return '' if value is None else value


def _state(result: StepResult) -> str:
    if result.is_idle:
        return IDLE
    return KEY if result.is_key else PROPAGATED


def _tasks(result: StepResult) -> list[str]:
    answers = {SEGMENTATION: result.segmentation, DETECTION: result.detections}
    return [task for task, answer in answers.items() if answer is not None]


def dropped(reason: str, detail: str) -> dict[str, object]:
    """The facts of a frame that reached the engine thread and was dropped there."""
    return {'state': DROPPED, 'reason': reason, 'detail': detail}


def skipped(result: StepResult, detail: str) -> dict[str, object]:
    """The facts of a frame for which there was no time, and of the reset or refresh that fell on it."""
    return dropped(result.reason, detail) | {'state': SKIPPED} | _changes(result)


def _changes(result: StepResult) -> dict[str, object]:
    cause = result.reset_cause
    return {'is_refreshed': result.is_refreshed, 'reset_cause': cause.value if cause else ''}


def setup(config: DffConfig, info: BackendInfo) -> dict[str, object]:
    """What answered the frame."""
    return {
        'scheduler': config.keyframe.scheduler,
        'interval': _text_or(config.keyframe.fixed_interval),
        'refresh': config.refresh,
        'backend': info.name,
        'device': info.device,
    }


def totals(
    counts: Counts, resets: Mapping[str, int], num_lost: int, stamps: Mapping[str, int]
) -> dict[str, object]:
    """Counts since the node was configured: `received` = `processed` + `dropped` + `pending`.

    `lost` are images that the middleware lost before the node received them, as far as it tells; `stamps` are
    kinds of stamps (stamps.KINDS).
    """
    facts: dict[str, object] = {
        'lost': num_lost,
        'received': counts.received,
        'processed': counts.processed,
        'pending': counts.pending,
        'dropped': counts.num_dropped,
    }
    facts |= {f'dropped.{reason}': number for reason, number in counts.dropped.items()}
    facts |= {f'resets.{cause}': number for cause, number in sorted(resets.items())}
    return facts | {f'stamps.{kind}': number for kind, number in sorted(stamps.items())}
