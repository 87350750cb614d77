# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The data sets of a run, and how often its classes occur in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.classes import CAMVID_CLASSES, IGNORE_ID, Colours, class_colours
from dff_ros.data.kept_videos import FrameMemory, KeptVideos
from dff_ros.data.street_set import open_street_set
from dff_ros.data.video_set import LabelledFrames
from dff_ros.errors import ConfigError
from dff_ros.training.batches import InMemory, Source
from dff_ros.training.config import TrainConfig
from dff_ros.training.labelled_data import open_labelled
from dff_ros.training.progress import progress_bar

_MAX_COUNTED = 400
"""Class frequencies are taken from at most so many evenly spaced samples of a source."""


@dataclass(frozen=True)
class TrainingData:
    """The sources, with their share of each batch, the data sets first; what their labels mean."""

    sources: tuple[Source, ...]
    class_names: tuple[str, ...]
    class_colours: Colours


def open_sources(config: TrainConfig) -> TrainingData:
    """The data of a run: labelled frames, read and shrunk to the area of a crop, and the rendered street.

    Raises as `open_labelled`, and ConfigError where data of other classes is to be mixed with the street.
    """
    found = open_labelled(config.labelled_data, config.split, 'data')
    sources: list[Source] = []
    num_street = 0 if not config.street else config.street_per_batch if found.sets else config.batch
    if found.sets:
        frames = LabelledFrames(KeptVideos(found.sets, math.prod(config.crop), FrameMemory(0)))
        sources.append(Source(InMemory(frames, config.workers), config.batch - num_street))
    if not num_street:
        return TrainingData(tuple(sources), found.class_names, found.class_colours)
    if found.sets and found.class_names != CAMVID_CLASSES:
        raise ConfigError(
            f'street: its labels are of the classes {", ".join(CAMVID_CLASSES)}, those of the data of '
            f'{", ".join(found.class_names)}; leave --street out'
        )
    with progress_bar('rendering the street') as bar:
        street = open_street_set(Path(config.street_cache), config.street, config.seed, bar.show)
    sources.append(Source(street, num_street))
    return TrainingData(tuple(sources), CAMVID_CLASSES, class_colours(CAMVID_CLASSES))


def class_weights(sources: Sequence[Source], power: float, num_classes: int) -> NDArray[np.float32]:
    """1 / frequency to a power for each class, (K,), so scaled that the mean over the pixels is 1.

    A class that no counted sample has weighs 1.
    """
    frequency = np.zeros(num_classes)
    for source in sources:
        size = len(source.samples)
        counts = np.zeros(IGNORE_ID + 1, np.int64)
        for index in np.unique(np.linspace(0, size - 1, min(size, _MAX_COUNTED)).astype(int)):
            counts += np.bincount(source.samples[int(index)].labels_HW.ravel(), minlength=IGNORE_ID + 1)
        labelled = counts[:num_classes]
        frequency += source.per_batch * labelled / max(labelled.sum(), 1)
    frequency /= max(frequency.sum(), np.finfo(float).tiny)
    weight = np.where(frequency > 0, np.maximum(frequency, 1e-12) ** -power, 0.0)
    mean = float((weight * frequency).sum())
    return np.where(frequency > 0, weight / (mean or 1.0), 1.0).astype(np.float32)
