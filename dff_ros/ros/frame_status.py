# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The typed form of the facts, `dff_msgs/FrameStatus`, where that package is installed.

The package is built beside this one (interfaces/dff_msgs) and has no key in rosdep, so it is no dependency
in package.xml: it is looked for when this module is imported, and where it is missing or has other
definitions, `dff/status` is all there is.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from std_msgs.msg import Header

from dff_ros import camera_info, frame_facts
from dff_ros.frame_facts import FrameFacts, Totals
from dff_ros.types import StepResult

_STATES = (
    '', frame_facts.KEY, frame_facts.PROPAGATED, frame_facts.DEGRADED, frame_facts.IDLE, frame_facts.SKIPPED,
    frame_facts.DROPPED,
)  # fmt: skip
_CAMERA_INFOS = (camera_info.NONE, camera_info.PUBLISHED, camera_info.UNFIT, camera_info.UNCALIBRATED)
_S_PER_MS = 1e-3
_LIBRARY = 'dff_msgs.dff_msgs_s__rosidl_typesupport_c'


def to_frame_status(header: Header, facts: FrameFacts) -> Any:
    """The facts of one image as a FrameStatus with its header; RuntimeError without dff_msgs."""
    if _messages is None:
        raise RuntimeError(OUTDATED or 'dff_msgs is not installed: build interfaces/dff_msgs')
    return _fill(_messages, header, facts)


def _fill(messages: ModuleType, header: Header, facts: FrameFacts) -> Any:
    totals = facts.totals
    message = messages.FrameStatus(
        header=header,
        camera=facts.camera,
        state=_STATES.index(facts.state),
        reason=facts.reason,
        detail=facts.detail,
        latency=_or_nan(facts.latency_ms) * _S_PER_MS,
        camera_info=_CAMERA_INFOS.index(facts.camera_info),
        received=totals.received,
        processed=totals.processed,
        pending=totals.pending,
        lost=totals.lost,
        drops=_counts(messages, totals.dropped),
        resets=_counts(messages, totals.resets),
        stamps=_counts(messages, totals.stamps),
        camera_infos_refused=totals.camera_infos_refused,
    )
    _fill_result(message, facts.result)
    message.stages.convert = facts.convert_ms * _S_PER_MS
    return message


def _fill_result(message: Any, result: StepResult | None) -> None:
    """What the engine told of the image; of one that it did not answer, what says so."""
    message.num_detections = -1
    for name in ('mean_confidence', 'share_unknown', 'coverage', 'residual', 'disagreement'):
        setattr(message, name, _or_nan(None if result is None else getattr(result, name)))
    message.motion = _or_nan(None if result is None else result.motion_px)
    if result is None:
        return
    message.tasks = frame_facts.tasks_of(result)
    message.is_refreshed = result.is_refreshed
    message.reset_cause = result.reset_cause.value if result.reset_cause else ''
    message.age_frames, message.age = result.age_frames, result.age_s
    if result.detections is not None:
        message.num_detections = len(result.detections)
    for stage in ('extract', 'propagate', 'flow', 'warp', 'correct', 'total'):
        setattr(message.stages, stage, getattr(result.timings, f'{stage}_ms') * _S_PER_MS)
    message.stages.segmentation = result.timings.predict_segmentation_ms * _S_PER_MS
    message.stages.detection = result.timings.predict_detection_ms * _S_PER_MS


def _counts(messages: ModuleType, numbers: Mapping[str, int]) -> list[Any]:
    return [messages.Count(name=name, number=number) for name, number in sorted(numbers.items())]


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _load() -> tuple[ModuleType | None, str]:
    """dff_msgs, and why it cannot be used though it is installed."""
    if importlib.util.find_spec('dff_msgs') is None:
        return None, ''
    try:
        importlib.import_module(_LIBRARY)  # not there where dff_msgs was built for another ROS or Python
        messages = importlib.import_module('dff_msgs.msg')
    except ImportError as error:
        return None, (
            f'no dff/frame_status: dff_msgs cannot be loaded, build it for this ROS and Python ({error})'
        )
    sample = StepResult(
        stamp_ns=0, frame_id='', camera='', is_key=True, reason='', reset_cause=None, age_frames=0, age_s=0.0
    )
    some = Totals(dropped={'': 0}, resets={'': 0}, stamps={'': 0})
    facts = FrameFacts(
        state=frame_facts.KEY, reason='', result=sample, camera_info=camera_info.NONE, totals=some
    )
    try:
        _fill(messages, Header(), facts)
    except (AssertionError, AttributeError, TypeError) as error:  # rclpy's for a field that is not there
        why = f'{type(error).__name__}: {error}'.rstrip(': ')
        return None, f'no dff/frame_status: dff_msgs has other definitions, build it again ({why})'
    return messages, ''


_messages, OUTDATED = _load()
"""`OUTDATED` says why the package that is installed cannot be used; empty where it can, or is not there."""

FrameStatus: type | None = None if _messages is None else _messages.FrameStatus
"""The message's class; None where dff_msgs cannot be used."""
