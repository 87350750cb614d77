"""How good a jointly trained model is: propagated against direct label maps on a labelled video."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dff_ros.data.video_set import VideoSet, read_labels
from dff_ros.evaluation.offsets import OffsetScores, rounded, rounded_all
from dff_ros.nets.dff import DffModel
from dff_ros.nets.looking import Look
from dff_ros.training.dff_pairs import HandFlow, hand_made_flow
from dff_ros.training.evaluation import check_size, decide

INTERVALS = (5, 10)
KEY_EVERY = 2
"""Of a sequence, each frame of such a number is a key frame: half the time, and all offsets all the same."""

ShowProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Key:
    index: int
    image: NDArray[np.uint8]
    look: Look
    feature: torch.Tensor


@torch.inference_mode()
def propagation_scores(
    model: DffModel, videos: VideoSet, show: ShowProgress = lambda done, total: None
) -> dict[str, OffsetScores]:
    """Pixel counts by offset from the key frame, at the labelled frames: `corrected` and `warped`, what the
    model gives without its correction branch; without one only `warped`.

    ShapeError where the images are not of a size that the model takes.
    """
    names = ('warped',) if model.correction is None else ('corrected', 'warped')
    scores = {name: OffsetScores(max(INTERVALS), model.spec.num_classes) for name in names}
    hand_flow = hand_made_flow(model.spec.flow_source, model.stride)
    total = sum(len(info) for info in videos.sequences)
    done = 0
    for sequence, info in enumerate(videos.sequences):
        keys: deque[_Key] = deque(maxlen=max(INTERVALS))
        labelled = set(info.labelled)
        for index in range(len(info)):
            frame = videos.frame(sequence, index)
            look = _look(model, frame.image_HW3)
            if index % KEY_EVERY == 0:
                keys.append(_Key(index, frame.image_HW3, look, model.feature_net(look.image)))
            if index in labelled:
                truth = read_labels(videos, sequence, index, frame)
                near = [key for key in keys if index - key.index < max(INTERVALS)]
                for key in near:
                    answers = _answers(model, frame.image_HW3, look, key, index, hand_flow)
                    for name, answer in answers.items():
                        scores[name].update(index - key.index, truth, answer)
            done += 1
            show(done, total)
    return scores


def summary(scores: dict[str, OffsetScores]) -> dict[str, object]:
    """As JSON stores it: for each method the mIoU of each key interval, and by offset."""
    found: dict[str, object] = {}
    for name, offsets in scores.items():
        rows = {f'miou_l{interval}': rounded(offsets.score(interval).miou) for interval in INTERVALS}
        found[name] = {**rows, 'by_offset': rounded_all(offsets.score(max(INTERVALS)).by_offset)}
    return found


def _look(model: DffModel, image_HW3: NDArray[np.uint8]) -> Look:
    check_size(model, image_HW3)
    device = next(model.parameters()).device
    image = torch.from_numpy(image_HW3).to(device).permute(2, 0, 1)[None]
    return model.look(model.normalise(image).contiguous(memory_format=torch.channels_last))


def _answers(
    model: DffModel,
    image_HW3: NDArray[np.uint8],
    look: Look,
    key: _Key,
    index: int,
    hand_flow: HandFlow | None,
) -> dict[str, NDArray[np.uint8]]:
    """The label maps that the key frame leads to."""
    size = image_HW3.shape[0], image_HW3.shape[1]
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
    return {name: decide(model, model.scores(feature, look), size) for name, feature in features.items()}
