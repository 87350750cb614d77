# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Many recordings: found, spread over processes or machines, each failure told and kept to its recording."""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from dff_ros.bag_input import is_bag
from dff_ros.bag_job import BagJob, Progress
from dff_ros.bag_run import answer_bag
from dff_ros.config import DffConfig
from dff_ros.errors import BackendUnavailableError, ConfigError, DffError
from dff_ros.model import Model, open_model

Opener = Callable[[DffConfig], Model]

_TELL_S = 0.2
_INTERRUPTED = 'interrupted'


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recording: its summary, or why there is none."""

    job: BagJob
    summary: dict[str, object] | None = None
    failure: str = ''


TellOf = Callable[[BagJob, Progress | str | Outcome], None]
"""Is told what happens to a recording."""


def find_bags(inputs: Sequence[Path]) -> tuple[list[Path], bool]:
    """The recordings that inputs name, themselves or as folders of them; whether there may be many.

    ConfigError where one is missing or a folder holds none.
    """
    found: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise ConfigError(f'{path} does not exist')
        if is_bag(path):
            found.append(path)
            continue
        inside = sorted(child for child in path.iterdir() if is_bag(child)) if path.is_dir() else []
        if not inside:
            raise ConfigError(
                f'{path} is no recording: give a folder with metadata.yaml, a .mcap or .db3 file, or a '
                'folder of recordings'
            )
        found += inside
    return found, len(inputs) > 1 or found != list(inputs)


def output_paths(bags: Sequence[Path], out: Path, *, are_many: bool) -> list[Path]:
    """OUT itself for one recording, else a folder in it by each one's name. ConfigError where two have one
    name, or the output would be inside an input.
    """
    names = [bag.stem if bag.is_file() else bag.resolve().name for bag in bags]
    twice = sorted({name for name in names if names.count(name) > 1})
    if are_many and twice:
        raise ConfigError(f'several recordings are named {", ".join(twice)}: answer them one by one')
    for bag in bags:
        if bag.is_dir() and out.resolve().is_relative_to(bag.resolve()):
            raise ConfigError(f'--out {out} is inside the input {bag}: choose another place')
    return [out / name for name in names] if are_many else [out]


def answer_in_processes(
    jobs: Sequence[BagJob], num_processes: int, tell: TellOf, opener: Opener = open_model
) -> list[Outcome]:
    """Answer each recording in a process of its own, `num_processes` at a time; in the order of the jobs."""
    context = multiprocessing.get_context('spawn')
    waiting, outcomes = deque(enumerate(jobs)), {}
    running: dict[Connection, tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < num_processes:
                number, job = waiting.popleft()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_serve, args=(job, theirs, opener))
                process.start()
                theirs.close()
                running[ours] = number, process
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                number, process = running[ready]
                told = _received(ready, process)
                if isinstance(told, tuple):
                    told = outcomes[number] = Outcome(jobs[number], *told)
                    ready.close()
                    process.join()
                    del running[ready]
                tell(jobs[number], told)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()
    return [outcomes[number] for number in range(len(jobs))]


def _received(ready: Connection, process: Any) -> Any:
    """What a process told; (None, why) where it ended without a word."""
    try:
        return ready.recv()
    except EOFError:
        process.join()
        code = process.exitcode
        how = signal.Signals(-code).name if code < 0 else f'exit code {code}'
        hint = ': is there enough memory? Try fewer --jobs' if code == -signal.SIGKILL else ''
        return None, f'its process was ended by {how}{hint}'


def _serve(job: BagJob, pipe: Connection, opener: Opener) -> None:
    last_s = 0.0

    def tell(told: Progress | str) -> None:
        nonlocal last_s
        if isinstance(told, str) or time.monotonic() - last_s > _TELL_S:
            last_s = time.monotonic()
            pipe.send(told)

    pipe.send(_answered(job, tell, opener))


def _answered(
    job: BagJob, tell: Callable[[Progress | str], None], opener: Opener
) -> tuple[dict[str, object] | None, str]:
    """(summary, '') or (None, why not)."""
    try:
        return answer_bag(job, tell, opener, keep_finished=True), ''
    except DffError as error:
        return None, str(error)
    except KeyboardInterrupt:
        return None, _INTERRUPTED
    except Exception as error:  # kept to this recording
        return None, f'{type(error).__name__}: {error}'


def answer_on_cluster(
    jobs: Sequence[BagJob], address: str, num_threads: int, tell: TellOf, opener: Opener = open_model
) -> list[Outcome]:
    """Answer each recording as a task of Ray; paths must mean the same on every machine. In the order of the
    jobs. BackendUnavailableError without Ray.
    """
    try:
        ray = importlib.import_module('ray')
    except ImportError as error:
        raise BackendUnavailableError(f'--cluster needs Ray ({error}): pip install ray') from error
    try:
        ray.init(address=address, log_to_driver=False)
    except Exception as error:  # Ray raises many kinds
        raise DffError(f'no Ray cluster at {address}: {error}; start one: `ray start --head`') from error
    try:
        # A task that ended is not tried again by Ray: the same command goes on where it was.
        task = ray.remote(num_cpus=num_threads, max_retries=0)(_answered_remotely)
        references = {task.remote(job, opener): number for number, job in enumerate(jobs)}
        outcomes: dict[int, Outcome] = {}
        while len(outcomes) < len(jobs):
            waiting = [reference for reference, number in references.items() if number not in outcomes]
            (ready, *_), _ = ray.wait(waiting, num_returns=1)
            number = references[ready]
            try:
                told = ray.get(ready)
            except Exception as error:  # the machine or the process is lost
                told = None, f'{type(error).__name__}: {" ".join(str(error).split())}'
            outcomes[number] = Outcome(jobs[number], *told)
            tell(jobs[number], outcomes[number])
    finally:
        ray.shutdown()
    return [outcomes[number] for number in range(len(jobs))]


def _answered_remotely(job: BagJob, opener: Opener) -> tuple[dict[str, object] | None, str]:
    return _answered(job, lambda told: None, opener)


def with_threads(jobs: Sequence[BagJob], num_threads: int) -> list[BagJob]:
    """The jobs with so many threads each, where the settings do not say how many."""
    return [
        job
        if job.config.num_threads
        else dataclasses.replace(job, config=dataclasses.replace(job.config, num_threads=num_threads))
        for job in jobs
    ]
