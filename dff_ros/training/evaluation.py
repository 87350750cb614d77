"""Per-frame accuracy of a model on a data set, one scale, no flip: the geometry of inference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dff_ros.data.samples import LabelledImages
from dff_ros.errors import ShapeError
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.geometry import network_size, upsample_matrix
from dff_ros.nets.dff import DffModel
from dff_ros.nets.segmentation import upsample_scores


def evaluate(
    model: DffModel, samples: LabelledImages, show: Callable[[int, int], None] | None = None
) -> ConfusionMatrix:
    """Pixel counts over all samples, in float32; `show(done, total)` is called after each.

    The images must have the model's nominal size or another that network_size leaves alone; ShapeError
    otherwise.
    """
    device = next(model.parameters()).device
    counts = ConfusionMatrix(model.spec.num_classes)
    for index in range(len(samples)):
        sample = samples[index]
        counts.update(sample.labels_HW, predict(model, sample.image_HW3, device))
        if show is not None:
            show(index + 1, len(samples))
    return counts


@torch.inference_mode()
def predict(model: DffModel, image_HW3: NDArray[np.uint8], device: torch.device) -> NDArray[np.uint8]:
    """Label map of one image at its own size."""
    check_size(model, image_HW3)
    height, width = image_HW3.shape[:2]
    image = torch.from_numpy(image_HW3).to(device).permute(2, 0, 1)[None]
    scores = model(model.normalise(image).contiguous(memory_format=torch.channels_last))
    return decide(model, scores, (height, width))


def check_size(model: DffModel, image_HW3: NDArray[np.uint8]) -> None:
    """ShapeError unless the image has the model's nominal size or another that network_size leaves alone."""
    height, width = image_HW3.shape[:2]
    if network_size((height, width), model.spec.nominal_size) != (height, width):
        raise ShapeError(
            f'the image is {width}x{height} pixels, the model was trained at '
            f'{model.spec.nominal_size[1]}x{model.spec.nominal_size[0]}: resize it first'
        )


def decide(model: DffModel, scores: Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Label map (height, width) of the class scores (1, K, h, w) of an image of that size."""
    rows, columns = (_matrix(side, model.score_stride, scores.device) for side in size)
    full = upsample_scores(scores.float(), rows, columns.T)
    labels: NDArray[np.uint8] = full.argmax(1)[0].to(torch.uint8).cpu().numpy()
    return labels


def _matrix(num_pixels: int, stride: int, device: torch.device) -> Tensor:
    return torch.from_numpy(upsample_matrix(num_pixels, num_pixels, stride).copy()).to(device)
