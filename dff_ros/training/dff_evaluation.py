# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How good a jointly trained model is: propagated against direct label maps on a labelled video."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dff_ros.data.video_set import SequenceInfo, VideoSet, read_labels
from dff_ros.evaluation.offsets import OffsetScores, rounded, rounded_all
from dff_ros.nets.dff import DffModel
from dff_ros.nets.looking import Look
from dff_ros.training.dff_pairs import HandFlow, hand_made_flow
from dff_ros.training.evaluation import decide, network_image

INTERVALS = (5, 10)
KEY_EVERY = 2
"""Half the time of every frame as key frame, and all offsets all the same."""

ShowProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class KeyImage:
    """A key frame; `image` is of network size."""

    index: int
    image: NDArray[np.uint8]
    look: Look
    feature: torch.Tensor


@torch.inference_mode()
def propagation_scores(
    model: DffModel,
    videos: VideoSet,
    show: ShowProgress = lambda done, total: None,
    *,
    num_offsets: int = max(INTERVALS),
    key_every: int = KEY_EVERY,
) -> dict[str, OffsetScores]:
    """Pixel counts by offset from the key frame, at the labelled frames: `corrected` and `warped`, what the
    model gives without its correction branch; without one only `warped`.

    Of a sequence with labels on every frame, each frame of a number that `key_every` divides is a key frame.
    """
    names = ('warped',) if model.correction is None else ('corrected', 'warped')
    scores = {name: OffsetScores(num_offsets, model.spec.num_classes) for name in names}
    hand_flow = hand_made_flow(model.spec.flow_source, model.stride)
    device = next(model.parameters()).device
    total = sum(len(info) for info in videos.sequences)
    done = 0
    for sequence, info in enumerate(videos.sequences):
        keys: deque[KeyImage] = deque(maxlen=num_offsets)
        labelled = set(info.labelled)
        key_indices = _key_indices(info, num_offsets, key_every)
        for index in sorted(labelled | key_indices):
            frame = videos.frame(sequence, index)
            look = model.look(network_image(model, frame.image_HW3, device))
            image = shrunk(frame.image_HW3, look)
            if index in key_indices:
                keys.append(KeyImage(index, image, look, model.feature_net(look.image)))
            if index in labelled:
                truth = read_labels(videos, sequence, index, frame)
                near = [key for key in keys if index - key.index < num_offsets]
                for key in near:
                    for name, feature in _features(model, image, look, key, index, hand_flow).items():
                        answer = decide(model, model.scores(feature, look), truth.shape, image.shape[:2])
                        scores[name].update(index - key.index, truth, answer)
            show(done + index + 1, total)
        done += len(info)
    return scores


def _key_indices(info: SequenceInfo, num_offsets: int, key_every: int) -> set[int]:
    """Those that are key frames: all whose answer for a labelled frame counts, or some of them."""
    every = key_every if len(info.labelled) == len(info) else 1
    near = {label - offset for label in info.labelled for offset in range(num_offsets)}
    return {index for index in near if index >= 0 and index % every == 0}


def summary(scores: dict[str, OffsetScores]) -> dict[str, dict[str, object]]:
    """As JSON stores it: for each method the mIoU of each key interval, and by offset."""
    found: dict[str, dict[str, object]] = {}
    for name, offsets in scores.items():
        rows = {f'miou_l{interval}': rounded(offsets.score(interval).miou) for interval in INTERVALS}
        found[name] = {**rows, 'by_offset': rounded_all(offsets.score(max(INTERVALS)).by_offset)}
    return found


def in_words(figures: Mapping[str, object]) -> str:
    """Those of one method of a `summary`."""
    means = ', '.join(
        f'{_percent(figures[f"miou_l{interval}"])} at interval {interval}' for interval in INTERVALS
    )
    by_offset = figures['by_offset']
    rows = by_offset if isinstance(by_offset, list) else []
    return f'mIoU {means}; by frames since the key frame {" ".join(map(_percent, rows))}'


def _percent(value: object) -> str:
    return f'{value:.1f}' if isinstance(value, float) else '-'


def shrunk(image_HW3: NDArray[np.uint8], look: Look) -> NDArray[np.uint8]:
    """The image at network size, which hand-made flow is of."""
    height, width = look.image.shape[2:]
    if image_HW3.shape[:2] == (height, width):
        return image_HW3
    return np.asarray(cv2.resize(image_HW3, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _features(
    model: DffModel,
    image_HW3: NDArray[np.uint8],
    look: Look,
    key: KeyImage,
    index: int,
    hand_flow: HandFlow | None,
) -> dict[str, torch.Tensor]:
    """What the key frame leads to."""
    if index == key.index:
        features = {'warped': key.feature, 'corrected': key.feature}
    else:
        flow = None
        if hand_flow is not None:
            flow = torch.from_numpy(hand_flow(image_HW3, key.image))[None].to(key.feature.device)
        made = model.propagate(look, key.look, key.feature, flow)
        features = {'warped': made.warped, 'corrected': made.feature}
    if model.correction is None:
        del features['corrected']
    return features
