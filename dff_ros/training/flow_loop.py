# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff train flow`: the pairs of a run, and its closing evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dff_ros.config import to_flat
from dff_ros.data.images import image_folders, read_image
from dff_ros.data.layers import Texture
from dff_ros.data.motion import LayeredPairs
from dff_ros.data.pair_sample import ExactPairs
from dff_ros.data.street_pairs import StreetPairs
from dff_ros.errors import DataError
from dff_ros.training import run_log
from dff_ros.training.checkpoint import MODEL_FILE, replace_file, save_trained
from dff_ros.training.config import LOCAL
from dff_ros.training.flow_config import FlowTrainConfig
from dff_ros.training.flow_evaluation import (
    Figures,
    find_videos,
    flow_methods,
    held_out_error,
    photometric_error,
)
from dff_ros.training.flow_trainer import FlowModel, FlowTrainer
from dff_ros.training.loop import Job, commit, run_job
from dff_ros.training.pair_batches import MadePairs, PairBatches, PairKind, RenderedPairs
from dff_ros.training.progress import progress_bar
from dff_ros.training.street import HELD_OUT_STREET, rendered_pairs

RESULTS_FILE = 'flow.json'

_TRAIN, _HELD_OUT = 0, 1
"""Streams of the made pairs."""
_HELD_OUT_SHARE = 0.1
_MAX_MAGNIFICATION = 1.5
"""Larger images are shrunk to so many times the pairs' size: bilinear sampling would alias them."""


@dataclass(frozen=True)
class FlowData:
    """Pairs to train on and held-out ones, by kind: `images` (made of them) and `street`."""

    train_images: LayeredPairs | None
    train_street: StreetPairs | None
    held_out: dict[str, ExactPairs]


def train_flow(config: FlowTrainConfig, resume: bool = False) -> int:
    """Train a flow net to the end, evaluate and write it; returns and raises as `loop.run_job`."""
    return run_job(config, lambda: _flow_job(config), resume)


def read_results(run: Path) -> dict[str, object]:
    """The figures that the closing evaluation wrote into a run directory; DataError where there are none."""
    path = run / RESULTS_FILE
    try:
        results: dict[str, object] = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise DataError(f'cannot read {path}: {error}') from error
    return results


def open_flow_data(config: FlowTrainConfig) -> FlowData:
    """Read images, render the street. The last tenth of the images and a street of another seed are held
    out.
    """
    train_images, train_street = None, None
    held_out: dict[str, ExactPairs] = {}
    if config.images:
        images = _read_images(config)
        num_held_out = max(1, round(_HELD_OUT_SHARE * len(images)))
        train_images = _made_pairs(config, images[:-num_held_out], _TRAIN, config.batch * config.steps)
        held_out['images'] = _made_pairs(config, images[-num_held_out:], _HELD_OUT, config.held_out)
    if config.num_street:
        train_street = _street_pairs(config, config.street, config.seed)
        held_out['street'] = _street_pairs(config, config.held_out, config.seed + HELD_OUT_STREET)
    return FlowData(train_images, train_street, held_out)


def _made_pairs(
    config: FlowTrainConfig, images: list[NDArray[np.uint8]], stream: int, num_pairs: int
) -> LayeredPairs:
    textures = [Texture(image) for image in images]
    return LayeredPairs(textures, config.size, config.motion, config.colours, config.seed, stream, num_pairs)


def _street_pairs(config: FlowTrainConfig, num_pairs: int, seed: int) -> StreetPairs:
    return rendered_pairs(
        config.street_cache, num_pairs, seed, config.street_fps, config.max_spacing, config.size
    )


def _read_images(config: FlowTrainConfig) -> list[NDArray[np.uint8]]:
    """Evenly spaced images, at least as large as a pair along both axes of its shape, not much larger."""
    root = Path(config.images)
    paths = [path for found in image_folders(root).values() for path in found]
    if len(paths) < 2:
        raise DataError(f'{root} has only one image: at least one to train on and one held out are needed')
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), config.max_images)).astype(int))
    images = []
    with progress_bar('reading images') as bar:
        for done, index in enumerate(chosen):
            images.append(_shrink(read_image(paths[index]), config.size))
            bar.show(done + 1, len(chosen))
    return images


def _shrink(image_HW3: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = image_HW3.shape[:2]
    factor = _MAX_MAGNIFICATION / min(height / size[0], width / size[1])
    if factor >= 1:
        return image_HW3
    target = round(width * factor), round(height * factor)
    return np.asarray(cv2.resize(image_HW3, target, interpolation=cv2.INTER_AREA), np.uint8)


def _flow_job(config: FlowTrainConfig) -> Job:
    cv2.setNumThreads(1)  # --workers says how many threads make pairs
    if config.photometric:
        find_videos(Path(config.photometric))  # fail now, not after the training
    data = open_flow_data(config)
    trainer = FlowTrainer(config)
    kinds: list[PairKind] = []
    if data.train_images is not None:
        kinds.append(MadePairs(data.train_images, config.batch - config.num_street))
    if data.train_street is not None:
        kinds.append(RenderedPairs(data.train_street, config.num_street, config.seed))
    return Job(trainer, PairBatches(kinds, config.workers), {}, lambda log: _finish(trainer, data, log))


def _finish(trainer: FlowTrainer, data: FlowData, log: run_log.RunLog) -> None:
    """Write the averaged weights, evaluate them, write the figures and the plot."""
    config = trainer.config
    run = Path(config.run)
    model = trainer.trained_model()
    facts = _training_facts(config)
    save_trained(run, model, facts)
    results = _evaluate(config, model, data)
    facts['accuracy'] = results
    save_trained(run, model, facts)
    log.write('evaluation', **results)
    text = json.dumps({'flow_net': config.flow_net, 'steps': config.steps, **results}, indent=2) + '\n'
    replace_file(run / RESULTS_FILE, lambda temporary: _write(temporary, text))
    _print(results)
    print(f'model written to {run / MODEL_FILE}; figures: {run / RESULTS_FILE}; plot: {run_log.plot(run)}')


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding='utf-8')


def _evaluate(config: FlowTrainConfig, model: FlowModel, data: FlowData) -> dict[str, dict[str, Figures]]:
    methods = flow_methods(model, torch.get_num_threads())
    stride = model.flow_net.stride
    results: dict[str, dict[str, Figures]] = {'held_out': {}}
    for kind, pairs in data.held_out.items():
        with progress_bar(f'evaluating {kind}') as bar:
            results['held_out'][kind] = held_out_error(methods, pairs, stride, bar.show)
    if config.photometric:
        with progress_bar('evaluating videos') as bar:
            root = Path(config.photometric)
            results['photometric'] = photometric_error(methods, root, config.size, stride, bar.show)
    return results


def _print(results: dict[str, dict[str, Figures]]) -> None:
    for part, rows in results.items():
        for name, figures in rows.items():
            print(f'{part}, {name}: ' + ', '.join(f'{key} {value:g}' for key, value in figures.items()))


def _training_facts(config: FlowTrainConfig) -> dict[str, object]:
    local = (*LOCAL, 'images', 'light_init', 'photometric')
    settings = {name: value for name, value in to_flat(config).items() if name not in local}
    data = ['made pairs of images'] * bool(config.images) + ['simulated street'] * bool(config.num_street)
    return {
        'kind': 'flow',
        'commit': commit(),
        'data': data,
        'start_weights': Path(config.light_init).name,
        'settings': settings,
    }
