# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Accuracy of spooled label maps against the ground truth of their source."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from dff_ros.backends.base import available_cores
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.sources import FrameSource, SourceRequest
from dff_ros.spool import LabelSpool, Packed

_CHUNK = 16
"""Frames per task: enough to make up for sending them, few enough to fill all cores."""

_source: FrameSource | None = None  # of a worker process


def score(spool: LabelSpool, request: SourceRequest, num_classes: int, console: Console) -> ConfusionMatrix:
    """The confusion matrix of all frames that have a ground truth, with a progress bar.

    Frames whose truth must be rendered are shared among the cores.
    """
    confusion = ConfusionMatrix(num_classes)
    source = request.open()
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task('scoring', total=len(spool))
        with contextlib.closing(_counts(spool, source, request, num_classes)) as results:
            for chunk, counts in results:
                confusion.counts_KK1 += counts
                progress.update(bar, advance=len(chunk))
    return confusion


def _counts(
    spool: LabelSpool, source: FrameSource, request: SourceRequest, num_classes: int
) -> Generator[tuple[list[Packed], NDArray[np.int64]]]:
    chunks = list(_chunks(spool))
    if not source.is_rendered or available_cores() == 1 or len(chunks) == 1:
        for chunk in chunks:
            yield chunk, _score_chunk(source, chunk, num_classes)
        return
    context = multiprocessing.get_context('spawn')  # fork would copy the threads of DDS
    num_workers = min(available_cores(), len(chunks))
    with _pool(ProcessPoolExecutor(num_workers, context, _open_in_worker, (request,))) as pool:
        with _signals_held_back():  # the workers inherit it: Ctrl-C goes to all of a terminal's processes
            tasks = [pool.submit(_score_in_worker, chunk, num_classes) for chunk in chunks]
        for chunk, task in zip(chunks, tasks, strict=True):
            yield chunk, task.result()


@contextlib.contextmanager
def _pool(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """Shuts the pool down; where that is not its regular end (a second Ctrl-C), without waiting for tasks."""
    others = set(multiprocessing.active_children())
    try:
        yield pool
    except BaseException:
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _chunks(spool: LabelSpool) -> Iterator[list[Packed]]:
    items = iter(spool)
    while chunk := list(itertools.islice(items, _CHUNK)):
        yield chunk


def _score_chunk(source: FrameSource, chunk: list[Packed], num_classes: int) -> NDArray[np.int64]:
    confusion = ConfusionMatrix(num_classes)
    for packed in chunk:
        labels = source.labels(packed.key)
        if labels is not None:
            confusion.update(labels, packed.unpack())
    return confusion.counts_KK1


def _open_in_worker(request: SourceRequest) -> None:
    global _source
    _source = request.open()


def _score_in_worker(chunk: list[Packed], num_classes: int) -> NDArray[np.int64]:
    if _source is None:
        raise RuntimeError('the worker has no source')
    return _score_chunk(_source, chunk, num_classes)
