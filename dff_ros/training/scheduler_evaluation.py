# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How well a model knows its own disagreement on whole videos, at every offset from the key frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from dff_ros.data.video_set import VideoSet
from dff_ros.errors import ConfigError
from dff_ros.evaluation.calibration import Bins, Calibration
from dff_ros.nets.dff import DffModel
from dff_ros.training.checkpoint import replace_file
from dff_ros.training.dff_evaluation import KeyImage, shrunk
from dff_ros.training.dff_pairs import HandFlow, hand_made_flow
from dff_ros.training.disagreement import CORRECTED, Case, judge
from dff_ros.training.evaluation import network_image
from dff_ros.training.scheduler_trainer import collect

CALIBRATION_FILE = 'calibration.png'

_LEAST_SHARE = 1e-3
"""A bin with a smaller share of the cells is not drawn."""

KEY_EVERY = 10
"""Frames from one key frame to the next; each is propagated from over all offsets."""


@torch.inference_mode()
def video_calibration(
    model: DffModel,
    videos: VideoSet,
    show: Callable[[int, int], None] = lambda done, total: None,
    *,
    max_offset: int = 30,
    key_every: int = KEY_EVERY,
) -> dict[str, dict[int, Calibration]]:
    """Calibration of `corrected` and `warped` answers by offset from the key frame, 1 to `max_offset`.

    Every frame is looked at, with labels or without. ConfigError for a model without a quality net.
    """
    if model.quality is None:
        raise ConfigError('the model has no quality net: train one (dff train scheduler)')
    hand_flow = hand_made_flow(model.spec.flow_source, model.stride)
    device = next(model.parameters()).device
    found: dict[str, dict[int, Calibration]] = {}
    total, done = sum(len(info) for info in videos.sequences), 0
    for sequence, info in enumerate(videos.sequences):
        keys: deque[KeyImage] = deque(maxlen=-(-max_offset // key_every))
        for index in range(len(info)):
            image_HW3 = videos.frame(sequence, index).image_HW3
            look = model.look(network_image(model, image_HW3, device))
            frame = KeyImage(index, shrunk(image_HW3, look), look, model.feature_net(look.image))
            for key in [key for key in keys if index - key.index <= max_offset]:
                for name, case in _cases(model, frame, key, hand_flow).items():
                    by_offset = found.setdefault(name, {})
                    collect(by_offset.setdefault(index - key.index, Calibration()), model.quality, case)
            if index % key_every == 0:
                keys.append(frame)
            done += 1
            show(done, total)
    return found


def _cases(model: DffModel, frame: KeyImage, key: KeyImage, hand_flow: HandFlow | None) -> dict[str, Case]:
    flow = None
    if hand_flow is not None:
        flow = torch.from_numpy(hand_flow(frame.image, key.image))[None].to(key.feature.device)
    expected = model.scores(frame.feature, frame.look).argmax(1)
    return judge(model, frame.look, key.look, key.feature, expected, torch.ones_like(expected).float(), flow)


def plot_calibration(run: Path, summaries: Mapping[str, Mapping[str, object]]) -> Path:
    """Draw predicted against true disagreement, of frames and of cells, into `calibration.png` of a run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.8), layout='constrained')
    FigureCanvasAgg(figure)
    pairs = list(dict.fromkeys(_pairs_of(name) for name in summaries))
    all_axes = figure.subplots(1, 2)
    for axes, kind in zip(all_axes, ('frame', 'cell'), strict=True):
        highest = 0.0
        for name, summary in summaries.items():
            bins = _filled(_bins(summary[f'{kind}_bins']))
            predicted, true = [row[0] for row in bins], [row[1] for row in bins]
            highest = max(highest, *predicted, *true)
            style = 'o-' if name.endswith(CORRECTED) else 's:'
            colour = f'C{pairs.index(_pairs_of(name))}'
            axes.plot(predicted, true, style, color=colour, label=name, markersize=4, linewidth=1)
        axes.plot([0, highest], [0, highest], 'k--', linewidth=1)
        axes.set_title(f'{kind}s')
        axes.set_xlabel('predicted share of labels that differ')
        axes.set_ylabel('true share')
        axes.grid(alpha=0.3)
    figure.legend(
        *all_axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=3, fontsize='small'
    )
    path = run / CALIBRATION_FILE
    replace_file(path, lambda temporary: figure.savefig(temporary, format='png', dpi=100))
    return path


def _pairs_of(name: str) -> str:
    """The pairs that a summary is of, whatever the answer."""
    return name.rpartition(',')[0]


def _filled(bins: Bins) -> Bins:
    """Those that are more than chance: of the cells' tenths, the highest have a few cells at most."""
    least = _LEAST_SHARE * sum(row[2] for row in bins)
    return [row for row in bins if row[2] >= least]


def _bins(value: object) -> Bins:
    return value if isinstance(value, list) else []
