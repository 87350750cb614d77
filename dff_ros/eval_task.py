# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The seam between an evaluation and the tasks of a bundle: what is predicted and what is counted of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import Backend
from dff_ros.methods import Setup
from dff_ros.sources import SourceFrame

AnswerT = TypeVar('AnswerT')

Predict = Callable[[Backend[object, object], object, NDArray[np.uint8]], AnswerT]
"""The answer of a backend's head to a feature, for its image."""


class EvalTask(Protocol[AnswerT]):
    """Answers to frames, and everything counted about them, separately for each setup of propagation.

    `name` is the task's. `has_truth`: whether the source has a truth to compare with. `notes`: what was left
    out of it, and why.
    """

    name: str
    has_truth: bool
    notes: Sequence[str]

    def predict(
        self, backend: Backend[object, object], feature: object, image_HW3: NDArray[np.uint8]
    ) -> AnswerT:
        """The answer of a backend's head to the feature of an image."""
        ...

    def is_labelled(self, item: SourceFrame) -> bool:
        """Whether the source has the truth of this frame."""
        ...

    def begin(self, item: SourceFrame, frame: int, sequence: int) -> None:
        """The answers counted next are those to frame number `frame` of the source."""
        ...

    def forget(self) -> None:
        """The next answers do not follow those before."""
        ...

    def count(self, setup: Setup, answers: Sequence[AnswerT]) -> None:
        """Item d is the answer propagated over d frames, item 0 that of per-frame inference."""
        ...

    def figures(self, setup: Setup, interval: int) -> Mapping[str, object]:
        """Of a row: those at a key interval."""
        ...

    def summary(self, setup: Setup) -> Mapping[str, object]:
        """Of the report: per-frame inference, and whether any truth was counted (`labelled`)."""
        ...
