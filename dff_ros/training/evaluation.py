# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Per-frame accuracy of a model on a data set, one scale, no flip: the geometry of inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dff_ros.backends.runner import image_taps
from dff_ros.data.samples import LabelledImages
from dff_ros.data.video_set import LabelledFrames, VideoSet
from dff_ros.errors import ConfigError, DataError
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.geometry import network_size, upsample_matrix
from dff_ros.nets.dff import DffModel
from dff_ros.nets.graphs import Resample
from dff_ros.nets.segmentation import upsample_scores
from dff_ros.training.labelled_data import data_name, evaluation_splits, open_labelled, whole_set
from dff_ros.training.progress import progress_bar

ResultT = TypeVar('ResultT')


def evaluate(
    model: DffModel, samples: LabelledImages, show: Callable[[int, int], None] | None = None
) -> ConfusionMatrix:
    """Pixel counts over all samples, in float32; `show(done, total)` is called after each.

    Images are resized to network size and label maps made at the size of the labels, as in inference.
    """
    device = next(model.parameters()).device
    counts = ConfusionMatrix(model.spec.num_classes)
    for index in range(len(samples)):
        sample = samples[index]
        counts.update(sample.labels_HW, predict(model, sample.image_HW3, device))
        if show is not None:
            show(index + 1, len(samples))
    return counts


def evaluate_splits(
    folders: Sequence[str],
    setting: str,
    class_names: tuple[str, ...],
    measure: Callable[[VideoSet, str, str], ResultT],
) -> Iterator[tuple[str, str, ResultT]]:
    """(name of the data set, split, result) of each split that a finished run is evaluated on.

    `measure` makes the result of a split's videos, the name of the data set and the split. Where classes are
    not `class_names`, or files are damaged, it prints why there is none.
    """
    for folder in folders:
        name = data_name(folder)
        for split in evaluation_splits(folder):
            try:
                videos = open_labelled([whole_set(folder)], split, setting).sets[0]
                if videos.class_names != class_names:
                    raise DataError(f'its classes are {", ".join(videos.class_names)}')
                result = measure(videos, name, split)
            except (ConfigError, DataError) as error:
                print(f'not evaluated on {split} of {folder}: {error}')
                continue
            yield name, split, result


def evaluate_frames(model: DffModel, videos: VideoSet, name: str, split: str) -> ConfusionMatrix:
    """`evaluate` on the labelled frames, with a progress bar."""
    with progress_bar(f'evaluating {name} {split}') as bar:
        return evaluate(model, LabelledFrames(videos), bar.show)


@torch.inference_mode()
def predict(model: DffModel, image_HW3: NDArray[np.uint8], device: torch.device) -> NDArray[np.uint8]:
    """Label map of one image at its own size."""
    image = network_image(model, image_HW3, device)
    network = image.shape[2], image.shape[3]
    return decide(model, model(image), (image_HW3.shape[0], image_HW3.shape[1]), network)


def network_image(model: DffModel, image_HW3: NDArray[np.uint8], device: torch.device) -> Tensor:
    """The image as networks take it, (1, 3, h, w): resized to network size as in inference, normalised."""
    source = image_HW3.shape[0], image_HW3.shape[1]
    taps = image_taps(source, network_size(source, model.spec.nominal_size))
    arrays = (torch.from_numpy(array.copy()).to(device) for array in (image_HW3, *taps))
    resized: Tensor = Resample(model)(*arrays)
    return resized.contiguous(memory_format=torch.channels_last)


def decide(
    model: DffModel, scores: Tensor, size: tuple[int, int], network: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Label map (height, width) of the class scores (1, K, h, w) of a network image (its size None: the
    same).
    """
    rows, columns = (
        torch.from_numpy(upsample_matrix(num_out, num_net, model.score_stride).copy()).to(scores.device)
        for num_out, num_net in zip(size, network or size, strict=True)
    )
    full = upsample_scores(scores.float(), rows, columns.T)
    labels: NDArray[np.uint8] = full.argmax(1)[0].to(torch.uint8).cpu().numpy()
    return labels
