# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a model knew before: its per-frame scores hold back those of the model that learns something new.

Learning without forgetting (Li and Hoiem, ECCV 2016), with frames of any kind and no labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dff_ros.errors import ConfigError
from dff_ros.nets.dff import DffModel, load_model
from dff_ros.training.start import read_start


class Teacher:
    """An earlier model, frozen; it sees the images as the one that learns does."""

    def __init__(self, model: DffModel) -> None:
        self._model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Class scores (B, K, h, w) of normalised images (B, 3, H, W), frame by frame."""
        look = self._model.look(images)
        return self._model.scores(self._model.feature_net(images), look).float()


def open_teacher(name: str, student: DffModel, device: torch.device) -> Teacher:
    """The model of a run or bundle; ConfigError where its classes, cells or images are not the student's."""
    start = read_start(name)
    model = load_model(start.spec, start.path)
    for what, own, other in (
        ('classes', student.spec.class_names, model.spec.class_names),
        ('normalisation', (student.spec.mean, student.spec.std), (model.spec.mean, model.spec.std)),
        ('stride of the scores', student.score_stride, model.score_stride),
    ):
        if own != other:
            raise ConfigError(f'teacher: {name} does not have the {what} of the model: {other}, not {own}')
    return Teacher(model.to(device, memory_format=torch.channels_last))  # type: ignore[call-overload]
