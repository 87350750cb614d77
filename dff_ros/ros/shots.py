# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What became of the images that were sent to a node, and the figures over them. No rclpy."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dff_ros.evaluation.metrics import percentiles
from dff_ros.frame_facts import ANSWERED, IDLE, PROPAGATED
from dff_ros.tasks import DETECTION, SEGMENTATION

LABELS, CONFIDENCE, BOXES = 'dff/segmentation', 'dff/confidence', 'dff/detections'
OVERLAY = 'dff/overlay'

TASK_OF_OUTPUT = {LABELS: SEGMENTATION, CONFIDENCE: SEGMENTATION, BOXES: DETECTION}
"""The task that an output comes with; one that is not here comes with every answer."""

_RANKS = (50, 90, 99, 100)
_DROPPED = 'dropped.'


@dataclass(slots=True)
class Shot:
    """An image that was sent. Times are of `time.perf_counter`, in seconds.

    `due_s` is when it should have been sent, `sent_s` right before it was. `is_alone`: the one before it was
    settled by then. `answers_s`: when each output came. `facts` are those of its `dff/status`, which came at
    `told_s`; empty before, and of a node that has none.
    """

    stamp_ns: int
    due_s: float
    sent_s: float
    is_alone: bool
    outputs: tuple[str, ...]
    answers_s: dict[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    told_s: float | None = None

    @property
    def is_idle(self) -> bool:
        """No task was due: there is no answer, and none is missed."""
        return self.facts.get('state') == IDLE

    @property
    def due(self) -> tuple[str, ...]:
        """The outputs that come with the tasks that ran, of those listened to; all before it is told."""
        tasks = self.facts.get('tasks')
        if tasks is None:
            return () if self.facts else self.outputs
        ran = tasks.split(',') if tasks else []
        is_due = {output: TASK_OF_OUTPUT.get(output) in (None, *ran) for output in self.outputs}
        return tuple(output for output in self.outputs if ran and is_due[output])

    @property
    def is_complete(self) -> bool:
        """Each of `due` has come."""
        return all(output in self.answers_s for output in self.due)

    @property
    def is_answered(self) -> bool:
        """There is an answer that is listened to, and all of it has come."""
        is_made = not self.facts or self.facts['state'] in ANSWERED
        return is_made and bool(self.answers_s) and self.is_complete

    @property
    def answered_s(self) -> float:
        """When the last output came; of an answered one."""
        return max(self.answers_s.values())

    @property
    def overhead_ms(self) -> float:
        """From right before it was sent to the last output, less the engine's own time as the node tells it;
        of an answered one.
        """
        return 1e3 * (self.answered_s - self.sent_s) - float(self.facts['total_ms'])


def count(shots: Sequence[Shot]) -> dict[str, int]:
    """`sent` = `answered` + `idle` + `missed`."""
    answered, idle = sum(shot.is_answered for shot in shots), sum(shot.is_idle for shot in shots)
    return {'sent': len(shots), 'answered': answered, 'idle': idle, 'missed': len(shots) - answered - idle}


def played_hz(shots: Sequence[Shot]) -> float:
    """The rate at which they were sent; at least two."""
    return (len(shots) - 1) / (shots[-1].sent_s - shots[0].sent_s)


def answered_hz(shots: Sequence[Shot]) -> float:
    """Images per second of those sent one at a time, from the first to the last answer; 0 without any."""
    answered = [shot for shot in shots if shot.is_answered]
    return len(answered) / (answered[-1].answered_s - answered[0].sent_s) if answered else 0.0


def latency_ms(shots: Iterable[Shot]) -> dict[str, float | None]:
    """p50, p90, p99 and max, of the answered ones, from when each was due to its last output."""
    found = percentiles([1e3 * (shot.answered_s - shot.due_s) for shot in shots if shot.is_answered], _RANKS)
    found['max'] = found.pop('p100')
    return {name: rounded(value) for name, value in found.items()}


def undisturbed(shots: Iterable[Shot]) -> list[Shot]:
    """Propagated ones that the node was free for: what they took, no other frame has added to."""
    return [
        shot for shot in shots if shot.is_alone and shot.is_answered and shot.facts.get('state') == PROPAGATED
    ]


def overhead(shots: Iterable[Shot]) -> dict[str, float | int | None]:
    """Medians over `undisturbed`, in milliseconds: `overhead_ms` of the node, of which `convert_ms` goes from
    message to image, `inside_ms` is the rest between receipt and publishing, and `transport_ms` is outside;
    `engine_ms` beside it, and the `frames` they are of.
    """
    found = undisturbed(shots)
    numbers = [
        {name: float(shot.facts[name]) for name in ('convert_ms', 'total_ms', 'latency_ms')} for shot in found
    ]
    inside = [each['latency_ms'] - each['total_ms'] - each['convert_ms'] for each in numbers]
    transport = [
        1e3 * (shot.answered_s - shot.sent_s) - each['latency_ms']
        for shot, each in zip(found, numbers, strict=True)
    ]
    return {
        'frames': len(found),
        'overhead_ms': median(shot.overhead_ms for shot in found),
        'convert_ms': median(each['convert_ms'] for each in numbers),
        'inside_ms': median(inside),
        'transport_ms': median(transport),
        'engine_ms': median(each['total_ms'] for each in numbers),
    }


def drops(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, int]:
    """The node's drops by reason between two of its statuses."""
    counts = {
        name.removeprefix(_DROPPED): int(number) - int(before.get(name, 0))
        for name, number in after.items()
        if name.startswith(_DROPPED)
    }
    return {reason: number for reason, number in counts.items() if number}


def ms_per(seconds: float, number: int) -> float | None:
    """Milliseconds for each of so many; None of nothing."""
    return rounded(1e3 * seconds / number) if number else None


def median(values: Iterable[float]) -> float | None:
    """To 0.01; None of nothing."""
    found = list(values)
    return rounded(statistics.median(found)) if found else None


def rounded(value: float | None) -> float | None:
    """To 0.01."""
    return None if value is None else round(value, 2)
