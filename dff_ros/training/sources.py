"""The data sets of a run, and how often its classes occur in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.camvid import CamVid
from dff_ros.data.classes import IGNORE_ID
from dff_ros.training.batches import InMemory, Source
from dff_ros.training.config import TrainConfig
from dff_ros.training.progress import progress_bar

_MAX_COUNTED = 400
"""Class frequencies are taken from at most so many evenly spaced samples of a source."""


def open_sources(config: TrainConfig) -> list[Source]:
    """The data sets of a run, with their share of each batch; CamVid first."""
    sources: list[Source] = []
    num_street = 0 if not config.street else config.street_per_batch if config.camvid else config.batch
    if config.camvid:
        sources.append(
            Source(InMemory(CamVid(config.camvid, 'train'), config.workers), config.batch - num_street)
        )
    if num_street:
        from dff_ros.data.street_set import open_street_set

        with progress_bar('rendering the street') as bar:
            street = open_street_set(Path(config.street_cache), config.street, config.seed, bar.show)
        sources.append(Source(street, num_street))
    return sources


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
