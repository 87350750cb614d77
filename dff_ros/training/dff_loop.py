# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff train dff`: the data of a joint run, held-out measurements, and its closing evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dff_ros.config import to_flat
from dff_ros.data.video_set import VideoSet
from dff_ros.nets.dff import DffModel
from dff_ros.training import run_log
from dff_ros.training.batches import Source
from dff_ros.training.checkpoint import MODEL_FILE, save_trained
from dff_ros.training.dff_config import DffTrainConfig
from dff_ros.training.dff_evaluation import in_words, propagation_scores, summary
from dff_ros.training.dff_trainer import DffTrainer, freeze
from dff_ros.training.evaluation import evaluate_frames, evaluate_splits
from dff_ros.training.learner import choose_device
from dff_ros.training.loop import Job, check_directory, commit, run_job, without_empty
from dff_ros.training.pair_runs import make_validator, open_pairs
from dff_ros.training.processes import Processes, join_processes
from dff_ros.training.progress import progress_bar
from dff_ros.training.sources import class_weights
from dff_ros.training.start import start_model

_PROPAGATION_SPLIT = 'val'


def train_dff(config: DffTrainConfig, resume: bool = False) -> int:
    """Train both streams to the end, evaluate and write the model; returns and raises as `loop.run_job`.

    Under torchrun all its processes train together; they must see the same files, and the first writes them.
    """
    if config.ablation == 'separate':
        return _assemble(config)
    with join_processes(config.device) as processes:
        processes.check_batch(config.batch, config.accumulate)
        return run_job(config, lambda: _job(config, processes), resume, processes)


def _job(config: DffTrainConfig, processes: Processes) -> Job:
    data = processes.first_alone(lambda: open_pairs(config))
    started = start_model(config, data.class_names, data.class_colours, data.box_class_names)
    started.check_fixed(config.ablation)
    num_classes = started.model.spec.num_classes
    weights = np.ones(num_classes, np.float32)
    if data.labelled is not None:
        weights = class_weights([Source(data.labelled, 1)], config.class_balance, num_classes)
    trainer = DffTrainer(config, started, weights, processes)
    share = processes.share(config.batch)
    facts = {'start': list(started.report), 'processes': processes.world}
    return Job(
        trainer,
        data.train,
        {**facts, 'pairs_per_batch': config.data.per_batch(config.batch)},
        lambda log: _finish(config, trainer.trained_model(), started.lineage, log),
        make_validator(config, data, trainer.validate, share),
        share,
        data.close,
    )


def _assemble(config: DffTrainConfig) -> int:
    """The parts as they are, trained apart: the paper's `separate`."""
    config.check_together()
    run = Path(config.run)
    check_directory(run, resume=False)
    with without_empty(run):
        started = start_model(config, ())
        started.check_fixed(config.ablation)
    freeze(started.model, config.ablation)
    log = run_log.RunLog(run)
    log.write('start', step=0, config=to_flat(config), commit=commit(), start=list(started.report))
    model = started.model.folded().requires_grad_(False)
    _finish(config, model.to(choose_device(config.device)), started.lineage, log)
    return 0


def _finish(
    config: DffTrainConfig, model: DffModel, lineage: Sequence[Mapping[str, object]], log: run_log.RunLog
) -> None:
    """Write the model, evaluate it, write the figures and the plot."""
    run = Path(config.run)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    facts = _training_facts(config, lineage)
    save_trained(run, model, facts)
    accuracy = _evaluate(config, model, log)
    if accuracy:
        facts['accuracy'] = accuracy
        save_trained(run, model, facts)
    print(f'model written to {run / MODEL_FILE}')
    if config.ablation != 'separate':
        print(f'plot: {run_log.plot(run)}')


def _training_facts(config: DffTrainConfig, lineage: Sequence[Mapping[str, object]]) -> dict[str, object]:
    return {
        'kind': 'dff',
        'commit': commit(),
        'data': _data_names(config),
        'start_weights': Path(config.init).name,
        'started_from': list(lineage),
        'settings': {name: value for name, value in to_flat(config).items() if name not in config.local},
    }


def _data_names(config: DffTrainConfig) -> list[str]:
    """What it was trained on, without paths."""
    if config.ablation == 'separate':
        return []
    return [f'{kind} pairs' for kind in config.data.per_batch(config.batch)]


def _evaluate(config: DffTrainConfig, model: DffModel, log: run_log.RunLog) -> dict[str, object]:
    """Per frame on the test and val splits of the labelled data, propagated on val, where they fit."""
    found: dict[str, object] = {}
    names, measure = model.spec.class_names, partial(_measure, model)
    for _, _, figures in evaluate_splits(config.labelled_data, 'data.labelled', names, measure):
        found |= figures
    if found:
        log.write('evaluation', **found)
    return found


def _measure(model: DffModel, videos: VideoSet, data: str, split: str) -> dict[str, object]:
    counts = evaluate_frames(model, videos, data, split)
    name = f'{data}_{split}'
    found: dict[str, object] = {name: counts.summary(model.spec.class_names)}
    print(f'{name}: per-frame mIoU {counts.miou():.2f} %')
    if split == _PROPAGATION_SPLIT:
        with progress_bar(f'propagating on {name}') as bar:
            scores = summary(propagation_scores(model, videos, bar.show))
        found[f'{name}_propagated'] = scores
        for method, figures in scores.items():
            print(f'{name}, {method}: {in_words(figures)}')
    return found
