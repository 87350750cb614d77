# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Executors without a thread of their own: the test says when a background job runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import NamedTuple


class Job(NamedTuple):
    """What was submitted, and its outcome."""

    future: Future
    fn: Callable
    args: tuple[object, ...]
    kwargs: dict[str, object]


class ManualExecutor(Executor):
    """Runs what was submitted in `run_next`; `is_instant`: at once. `log` tells of shutdowns."""

    def __init__(self, *, is_instant: bool = True) -> None:
        self.is_instant = is_instant
        self.log: list[str] = []
        self._waiting: list[Job] = []

    def submit(self, fn: Callable, /, *args: object, **kwargs: object) -> Future:
        job = Job(Future(), fn, args, kwargs)
        self._waiting.append(job)
        if self.is_instant:
            self.run_next()
        return job.future

    @property
    def unfinished(self) -> list[Job]:
        """Those that wait or have begun, oldest first; not those that were cancelled."""
        return [job for job in self._waiting if not job.future.cancelled()]

    def begin_next(self) -> None:
        """Let the oldest job begin, so that it cannot be cancelled any more."""
        self._waiting = self.unfinished
        if self._waiting and not self._waiting[0].future.running():
            self._waiting[0].future.set_running_or_notify_cancel()

    def run_next(self) -> Job | None:
        """Run the oldest job that nobody has cancelled to its end."""
        self.begin_next()
        if not self._waiting:
            return None
        job = self._waiting.pop(0)
        try:
            job.future.set_result(job.fn(*job.args, **job.kwargs))
        except BaseException as error:
            job.future.set_exception(error)
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.log.append(f'shutdown wait={wait} cancel={cancel_futures}')
