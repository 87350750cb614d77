# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Which of a teacher's boxes are taken; apart from the teacher, so that flags need no runtime."""

from __future__ import annotations

from dataclasses import dataclass

from dff_ros.config import Validated, param
from dff_ros.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(Validated):
    """Two thresholds: what the teacher is sure of is an object, what it is not sure of is undecided."""

    sure: float = param(0.4, 'Boxes of at least this score are objects', minimum=0.0, maximum=1.0)
    unsure: float = param(
        0.1,
        'Boxes of a score from this to that are to be ignored: neither objects nor background',
        minimum=0.0,
        maximum=1.0,
    )
    nms_iou: float = param(
        0.5, 'Of boxes of a class that overlap by more than this, the best stays', minimum=0.0, maximum=1.0
    )
    threads: int = param(0, 'Threads; 0: one for each core', minimum=0, maximum=1024)

    def check_together(self) -> None:
        """ConfigError where the thresholds are the wrong way round."""
        if self.unsure > self.sure:
            raise ConfigError(f'unsure: got {self.unsure}, above sure {self.sure}')
