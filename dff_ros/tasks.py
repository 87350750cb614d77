# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Which tasks are on, on which frames each is due, and which of the boxes found are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dff_ros.config import DetectionConfig, DffConfig, SegmentationConfig
from dff_ros.errors import ConfigError
from dff_ros.model_spec import TASKS, ModelSpec
from dff_ros.schedulers import check_scheduler
from dff_ros.settings import names_in
from dff_ros.types import Detections

SEGMENTATION, DETECTION = TASKS
"""Their names; they are run and told in this order."""

ALL = 'all'


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """What the heads of a bundle are asked for: `plan_tasks` makes it.

    `tasks` are those that are on. `class_ids` are the box classes to tell, of
    `ModelSpec.box_class_names`; None tells all.
    """

    tasks: tuple[str, ...] = (SEGMENTATION,)
    segmentation: SegmentationConfig = field(default_factory=SegmentationConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    class_ids: tuple[int, ...] | None = None

    def due(self, frame_number: int) -> tuple[str, ...]:
        """The tasks to run on a frame, by its number in its camera's stream: 0 is due for every task."""
        every = {SEGMENTATION: self.segmentation.every, DETECTION: self.detection.every}
        return tuple(task for task in self.tasks if frame_number % every[task] == 0)

    def select(self, found: Detections) -> Detections:
        """The boxes of the classes asked for; of these the best `max_detections`."""
        kept = np.arange(len(found))
        if self.class_ids is not None:
            kept = kept[np.isin(found.class_ids_N, self.class_ids)]
        return found.chosen(kept[: self.detection.max_detections])


def plan_tasks(config: DffConfig, spec: ModelSpec) -> TaskPlan:
    """What a config asks of a bundle; ConfigError for a task, a class of boxes or a scheduler that the bundle
    cannot serve.
    """
    check_scheduler(config, spec)
    return TaskPlan(
        tasks=_tasks(config.tasks, spec),
        segmentation=config.segmentation,
        detection=config.detection,
        class_ids=_class_ids(config.detection.classes, spec),
    )


def _tasks(text: str, spec: ModelSpec) -> tuple[str, ...]:
    asked = names_in(text)
    if asked == [ALL]:
        return spec.tasks
    known = f'the bundle has {", ".join(spec.tasks)}'
    if not asked:
        raise ConfigError(f'tasks: got {text!r}, expected {ALL} or names separated by commas; {known}')
    _check_known('tasks', asked, spec.tasks, known)
    return tuple(task for task in TASKS if task in asked)


def _class_ids(text: str, spec: ModelSpec) -> tuple[int, ...] | None:
    asked, names = names_in(text), spec.box_class_names
    if not asked:
        return None
    known = (
        f'the bundle detects {", ".join(names)}' if names else 'the bundle has no detection: leave it empty'
    )
    _check_known('detection.classes', asked, names, known)
    return tuple(sorted({names.index(name) for name in asked}))


def _check_known(setting: str, asked: Sequence[str], allowed: Sequence[str], known: str) -> None:
    unknown = [name for name in asked if name not in allowed]
    if unknown:
        raise ConfigError(f'{setting}: got {", ".join(map(repr, unknown))}, but {known}')
