# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff train scheduler`: the data of a run, held-out measurements, and its closing evaluation."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

from dff_ros.config import to_flat
from dff_ros.data.video_set import VideoSet
from dff_ros.evaluation.calibration import sum_of
from dff_ros.nets.dff import DffModel
from dff_ros.training import run_log
from dff_ros.training.checkpoint import MODEL_FILE, save_trained
from dff_ros.training.evaluation import evaluate_splits
from dff_ros.training.loop import Job, commit, run_job
from dff_ros.training.pair_runs import held_out_pairs, make_validator, open_pairs
from dff_ros.training.progress import progress_bar
from dff_ros.training.scheduler_config import SchedulerTrainConfig
from dff_ros.training.scheduler_evaluation import plot_calibration, video_calibration
from dff_ros.training.scheduler_trainer import SchedulerTrainer, start_scheduler
from dff_ros.training.start import Start

_SPLIT = 'val'


def train_scheduler(config: SchedulerTrainConfig, resume: bool = False) -> int:
    """Train a model's quality net to the end, measure its calibration and write the model; returns and raises
    as `loop.run_job`.
    """
    return run_job(config, lambda: _job(config), resume)


def _job(config: SchedulerTrainConfig) -> Job:
    started, start = start_scheduler(config)
    data = open_pairs(config)
    trainer = SchedulerTrainer(config, started.model)
    return Job(
        trainer,
        data.train,
        {'start': list(started.report), 'pairs_per_batch': config.data.per_batch(config.batch)},
        lambda log: _finish(trainer, start, log),
        make_validator(config, data, trainer.validate),
        close=data.close,
    )


def _finish(trainer: SchedulerTrainer, start: Start, log: run_log.RunLog) -> None:
    """Write the model, measure its calibration on held-out pairs and val splits, write figures and plots."""
    config, model = trainer.config, trainer.trained_model()
    run = Path(config.run)
    own = _training_facts(config)
    save_trained(run, model, {**start.training, 'scheduler': own})
    calibration: dict[str, dict[str, object]] = {}
    with closing(open_pairs(config)) as data:
        for kind, batches in held_out_pairs(config, data).items():
            _, found = trainer.measure(batches)
            calibration |= {f'held-out {kind} pairs, {name}': item.summary() for name, item in found.items()}
    names, measure = model.spec.class_names, partial(_measure, config, model)
    for _, _, summaries in evaluate_splits(config.labelled_data, 'data.labelled', names, measure):
        calibration |= summaries
    for name, summary in calibration.items():
        print(_in_words(name, summary))
    if calibration:
        log.write('evaluation', **calibration)
        save_trained(run, model, {**start.training, 'scheduler': {**own, 'calibration': calibration}})
        print(f'calibration: {plot_calibration(run, calibration)}')
    print(f'model written to {run / MODEL_FILE}; plot: {run_log.plot(run)}')


def _measure(
    config: SchedulerTrainConfig, model: DffModel, videos: VideoSet, data: str, split: str
) -> dict[str, dict[str, object]]:
    """Over all offsets of a split that nothing was trained on or chosen by."""
    if split != _SPLIT:
        return {}
    with progress_bar(f'propagating on {data} {split}') as bar:
        found = video_calibration(model, videos, bar.show, max_offset=config.data.pairs.max_offset)
    return {
        f'{data} {split}, {name}': sum_of(by_offset.values()).summary() for name, by_offset in found.items()
    }


def _training_facts(config: SchedulerTrainConfig) -> dict[str, object]:
    return {
        'commit': commit(),
        'data': [f'{kind} pairs' for kind in config.data.per_batch(config.batch)],
        'settings': {name: value for name, value in to_flat(config).items() if name not in config.local},
    }


def _in_words(name: str, summary: dict[str, object]) -> str:
    return (
        f'{name}: {summary["num_frames"]} frames, {summary["mean_true"]} of labels differ, predicted '
        f'{summary["mean_predicted"]}; correlation {summary["correlation"]}, '
        f'calibration error {summary["frame_error"]}'
    )
