# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The training loop with checkpoints and log, and `dff train segmentation`, which runs in it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dff_ros.config import to_flat
from dff_ros.errors import ConfigError, DataError
from dff_ros.training import run_log
from dff_ros.training.batch_stream import BatchStream
from dff_ros.training.batches import Batches
from dff_ros.training.checkpoint import (
    CHECKPOINT_FILE,
    MODEL_FILE,
    load_checkpoint,
    save_checkpoint,
    save_trained,
)
from dff_ros.training.config import LOCAL, RunConfig, TrainConfig, path_list
from dff_ros.training.evaluation import evaluate_frames, evaluate_splits
from dff_ros.training.labelled_data import data_name
from dff_ros.training.learner import Figures, Learner, lr_schedule
from dff_ros.training.processes import ALONE, Processes
from dff_ros.training.progress import progress_bar
from dff_ros.training.sources import class_weights, open_sources
from dff_ros.training.stop import Stop, stop_on_signals
from dff_ros.training.trainer import Trainer, model_spec


@dataclass(frozen=True)
class Job:
    """What a kind of training hands to the loop.

    `facts` go into the log's first line; `finish` evaluates and writes the model once all steps are done;
    `validate`, called after each step, may end the training early (the learner's `is_over`);
    `slots` are those of each batch that this process takes; `close` frees what else was opened.
    """

    learner: Learner[Any, Any, Any]
    batches: BatchStream[Any, Any]
    facts: dict[str, object]
    finish: Callable[[run_log.RunLog], None]
    validate: Callable[[int, run_log.RunLog], None] | None = None
    slots: range | None = None
    close: Callable[[], None] | None = None


def train(config: TrainConfig, resume: bool = False) -> int:
    """Train per-frame segmentation to the end; returns and raises as `run_job`."""
    return run_job(config, lambda: _segmentation_job(config), resume)


def run_job(config: RunConfig, prepare: Callable[[], Job], resume: bool, processes: Processes = ALONE) -> int:
    """Train to the end, evaluate and write the model; returns 0, or 128 + signal where one stopped it.

    Of several `processes` that train together, the first one writes the files.

    `prepare` is called once settings and run directory are known to be good. Raises ConfigError on a run
    directory in use or other settings than those of the run that is resumed, DataError on unusable data, a
    full disk or a loss that is not finite; the last checkpoint stays as it was.
    """
    config.check_together()
    run = Path(config.run)
    check_directory(run, resume)
    torch.set_num_threads(config.threads or len(os.sched_getaffinity(0)))
    with without_empty(run):
        job = prepare()
    try:
        first = _load(job.learner, run) if resume else 0
        log = run_log.RunLog(run, processes.is_first)
        facts = {**_facts(job.learner), **job.facts}
        log.write('resume' if resume else 'start', step=first, config=to_flat(config), **facts)
        with stop_on_signals() as stop:
            done = _loop(job, first, log, stop, processes)
    finally:
        (job.close or job.batches.close)()
    if done < config.steps and not job.learner.is_over:
        print(
            f'stopped after step {done} of {config.steps}; the same command with --resume goes on from there'
        )
        return 128 + stop.signal
    if processes.is_first:
        job.finish(log)
    return 0


def _loop(job: Job, first: int, log: run_log.RunLog, stop: Stop, processes: Processes) -> int:
    """Steps first .. end; returns the number of steps done."""
    config = job.learner.config
    save = _checkpointer(job.learner) if processes.is_first else lambda done: None
    if job.learner.is_over:
        return first
    window = _Window(config, log)
    done, saved_at = first, time.monotonic()
    with progress_bar('training') as bar:
        for batch in job.batches.ahead(first, config.steps, job.slots):
            window.add(job.learner.step(done, batch))
            done += 1
            # All processes must leave after the same step: a signal may reach them in different ones.
            is_last = done == config.steps or processes.any(bool(stop.signal))
            if done % config.log_every == 0 or is_last:
                bar.note(window.flush(done))
            bar.show(done, config.steps)
            if job.validate is not None:
                job.validate(done, log)
            if is_last or job.learner.is_over:
                break
            if time.monotonic() - saved_at >= config.checkpoint_s:
                window.check(done)
                save(done)
                saved_at = time.monotonic()
    window.check(done)
    save(done)
    return done


class _Window:
    """Figures of the steps since the last log line, read only then: a GPU is not waited for at every step."""

    def __init__(self, config: RunConfig, log: run_log.RunLog) -> None:
        self._config = config
        self._log = log
        self._figures: list[Figures] = []
        self._since = time.monotonic()

    def add(self, figures: Figures) -> None:
        """Keep one step's figures."""
        self._figures.append(figures)

    def check(self, step: int) -> None:
        """DataError where a loss or gradient is not finite."""
        values = [figures[name] for figures in self._figures for name in ('loss', 'grad_norm')]
        if values and not bool(torch.isfinite(torch.stack(values)).all()):
            raise DataError(
                f'the loss is not finite within the {len(self._figures)} steps before step {step}: '
                'lower --lr or --clip_norm, or set --bf16 false, in another --run; the last checkpoint is '
                'from before that'
            )

    def flush(self, step: int) -> str:
        """Write the log line; returns it in words."""
        self.check(step)
        seconds = (time.monotonic() - self._since) / len(self._figures)
        means = {
            name: float(torch.stack([figures[name] for figures in self._figures]).mean())
            for name in self._figures[0]
        }
        loss, norm = means.pop('loss'), means.pop('grad_norm')
        rate = self._config.lr * lr_schedule(self._config, step - 1)
        terms = {name: round(value, 5) for name, value in means.items()}
        self._log.write(
            'step',
            step=step,
            loss=round(loss, 5),
            lr=rate,
            grad_norm=round(norm, 4),
            step_s=round(seconds, 4),
            **terms,
        )
        self._figures.clear()
        self._since = time.monotonic()
        return f'loss {loss:.3f}, {seconds:.2f} s/step'


def check_directory(run: Path, resume: bool) -> None:
    """Make the run directory; ConfigError where it cannot be made, or holds a run that is not resumed."""
    if not resume and any((run / name).exists() for name in (CHECKPOINT_FILE, MODEL_FILE)):
        raise ConfigError(f'run: {run} already holds a run; go on with --resume, or give another directory')
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'run: cannot make the directory {run}: {error.strerror}') from error


@contextmanager
def without_empty(run: Path) -> Iterator[None]:
    """Remove a run directory that is still empty when the block fails."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it holds something, or another process of this run has removed it
            run.rmdir()
        raise


def _checkpointer(learner: Learner[Any, Any, Any]) -> Callable[[int], None]:
    path = Path(learner.config.run) / CHECKPOINT_FILE
    flat = to_flat(learner.config)
    return lambda done: save_checkpoint(path, done, flat, learner.state_dict())


def _load(learner: Learner[Any, Any, Any], run: Path) -> int:
    config = learner.config
    step, state = load_checkpoint(run / CHECKPOINT_FILE, to_flat(config), config.changeable)
    learner.load_state_dict(state)
    return step


def _facts(learner: Learner[Any, Any, Any]) -> dict[str, object]:
    return {
        'commit': commit(),
        'torch': torch.__version__,
        'device': str(learner.device),
        'num_threads': torch.get_num_threads(),
    }


def commit() -> str:
    """The version of this source tree as git names it ('-dirty': with changes); empty without git."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ''
    return answer.stdout.strip() if answer.returncode == 0 else ''


def _segmentation_job(config: TrainConfig) -> Job:
    data = open_sources(config)
    spec = model_spec(config, data.class_names, data.class_colours)
    trainer = Trainer(config, spec, class_weights(data.sources, config.class_balance, spec.num_classes))
    batches = Batches(data.sources, config.augment, config.crop, config.seed, config.workers)
    facts: dict[str, object] = {'samples': [len(source.samples) for source in data.sources]}
    return Job(trainer, batches, facts, lambda log: _finish(trainer, log))


def _finish(trainer: Trainer, log: run_log.RunLog) -> None:
    """Evaluate the averaged weights, write the model and the plot."""
    config = trainer.config
    run = Path(config.run)
    model = trainer.trained_model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    facts = _training_facts(config)
    save_trained(run, model, facts)
    accuracy: dict[str, object] = {}
    names = model.spec.class_names
    measure = partial(evaluate_frames, model)
    for name, split, counts in evaluate_splits(config.labelled_data, 'data', names, measure):
        accuracy[f'{name}_{split}'] = summary = counts.summary(names)
        log.write('evaluation', data=f'{name}:{split}', **summary)
        print(f'{name} {split}: mIoU {counts.miou():.2f} %')
    if accuracy:
        facts['accuracy'] = accuracy
        save_trained(run, model, facts)
    print(f'model written to {run / MODEL_FILE}; plot: {run_log.plot(run)}')


def _training_facts(config: TrainConfig) -> dict[str, object]:
    settings = {name: value for name, value in to_flat(config).items() if name not in LOCAL}
    data = [f'{data_name(path)} {config.split}' for path in config.labelled_data]
    start = [Path(path).name for path in (*path_list(config.init), *path_list(config.start))]
    return {
        'kind': 'segmentation',
        'commit': commit(),
        'data': [*data, *(['simulated street'] if config.street else [])],
        'start_weights': ', '.join(start),
        'settings': settings,
    }
