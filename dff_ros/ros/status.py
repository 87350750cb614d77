"""What the node tells about each frame: the key/value pairs of `dff/status`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from dff_ros.backends.base import BackendInfo
from dff_ros.config import DffConfig
from dff_ros.ros.mailbox import Counts
from dff_ros.types import StepResult

KEY, PROPAGATED, DROPPED = 'key', 'propagated', 'dropped'
"""Values of `state`."""


def answered(result: StepResult, convert_ms: float, latency_ms: float) -> dict[str, object]:
    """The facts of an answered frame; `latency_ms` is from the image's receipt to its published label map."""
    facts: dict[str, object] = {
        'state': KEY if result.is_key else PROPAGATED,
        'is_key': result.is_key,
        'reason': result.reason,
        'reset_cause': result.reset_cause.value if result.reset_cause else '',
        'age_frames': result.age_frames,
        'age_s': result.age_s,
        'motion_px': result.motion_px,
        'coverage': result.coverage,
        'convert_ms': convert_ms,
    }
    return facts | dataclasses.asdict(result.timings) | {'latency_ms': latency_ms}


def dropped(reason: str, detail: str) -> dict[str, object]:
    """The facts of a frame that reached the engine thread and was dropped there."""
    return {'state': DROPPED, 'reason': reason, 'detail': detail}


def setup(config: DffConfig, info: BackendInfo) -> dict[str, object]:
    """What answered the frame."""
    return {'interval': config.keyframe.interval, 'backend': info.name, 'device': info.device}


def totals(counts: Counts, resets: Mapping[str, int], num_lost: int) -> dict[str, object]:
    """Counts since the node was configured: `received` = `processed` + `dropped` + `pending`.

    `lost` are images that the middleware lost before the node received them, as far as it tells.
    """
    facts: dict[str, object] = {
        'lost': num_lost,
        'received': counts.received,
        'processed': counts.processed,
        'pending': counts.pending,
        'dropped': counts.num_dropped,
    }
    facts |= {f'dropped.{reason}': number for reason, number in counts.dropped.items()}
    return facts | {f'resets.{cause}': number for cause, number in sorted(resets.items())}
