# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What each task, the confidence and the overlay cost, and that they cost nothing once they are off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dff_ros.errors import ConfigError
from dff_ros.model_spec import ModelSpec
from dff_ros.process_use import processor_s
from dff_ros.ros import shots as figures
from dff_ros.ros.shots import BOXES, CONFIDENCE, LABELS, OVERLAY, Shot
from dff_ros.tasks import DETECTION, SEGMENTATION

if TYPE_CHECKING:
    from dff_ros.ros.rig import Rig

_TURNS, _SETTLING = 5, 5


@dataclass(frozen=True, slots=True)
class Switch:
    """A state of the node's switches and of its listeners."""

    name: str
    parameters: Mapping[str, object]
    outputs: tuple[str, ...]


def switches_of(spec: ModelSpec) -> list[Switch]:
    """Each with one thing more than the one before, then everything on with fewer listeners; without what a
    bundle of one task lacks. ConfigError for one without segmentation.
    """
    if SEGMENTATION not in spec.tasks:
        raise ConfigError(f'the switches are those of segmentation; the bundle has {", ".join(spec.tasks)}')
    only, every = {'tasks': SEGMENTATION}, {'tasks': 'all'}
    off, on = {'segmentation.confidence': False}, {'segmentation.confidence': True}
    pause, keep = {'pause_unread': True}, {'pause_unread': False}
    rows = [
        Switch('segmentation alone', {**only, **off, **keep}, (LABELS,)),
        Switch('+ confidence', {**only, **on, **keep}, (LABELS, CONFIDENCE)),
        Switch('+ detections', {**every, **on, **keep}, (LABELS, CONFIDENCE, BOXES)),
        Switch('+ overlay', {**every, **on, **keep}, (LABELS, CONFIDENCE, BOXES, OVERLAY)),
        Switch('all on, label map read', {**every, **on, **keep}, (LABELS,)),
        Switch('all on, label map read, pause_unread', {**every, **on, **pause}, (LABELS,)),
        Switch('detections alone', {'tasks': DETECTION, **on, **keep}, (BOXES,)),
    ]
    if DETECTION in spec.tasks:
        return rows
    return [
        replace(row, outputs=tuple(output for output in row.outputs if output != BOXES))
        for row in rows
        if 'detections' not in row.name
    ]


def run_switches(rig: Rig, switches: Sequence[Switch], num_images: int) -> list[dict[str, object]]:
    """What an image costs in each state, in turns within one run: what disturbs the machine meets all alike.

    Medians over propagated images sent one at a time, `num_images` in each turn; `cpu_ms_per_image` is over
    all.
    """
    shots: dict[str, list[Shot]] = {switch.name: [] for switch in switches}
    cpu_s = dict.fromkeys(shots, 0.0)
    for _ in range(_TURNS):
        for switch in switches:
            rig.set(switch.parameters)
            rig.player.listen(switch.outputs)
            rig.player.greet(rig.child.check)
            rig.player.ask(_SETTLING, rig.child.check)  # until the node knows who listens no more
            before_s = processor_s(rig.child.pid)
            shots[switch.name] += rig.player.ask(num_images, rig.child.check)
            cpu_s[switch.name] += processor_s(rig.child.pid) - before_s
    return [
        {
            'name': switch.name,
            'parameters': dict(switch.parameters),
            'outputs': list(switch.outputs),
            'images': len(shots[switch.name]),
            **_cost(shots[switch.name]),
            'cpu_ms_per_image': figures.ms_per(cpu_s[switch.name], len(shots[switch.name])),
        }
        for switch in switches
    ]


def _cost(shots: Sequence[Shot]) -> dict[str, object]:
    found = figures.undisturbed(shots)

    def milliseconds(name: str) -> float | None:
        return figures.median(float(shot.facts[name]) for shot in found)

    return {
        'answer_ms': figures.median(1e3 * (shot.answered_s - shot.sent_s) for shot in found),
        'engine_ms': milliseconds('total_ms'),
        'segmentation_ms': milliseconds('predict_segmentation_ms'),
        'detection_ms': milliseconds('predict_detection_ms'),
    }
