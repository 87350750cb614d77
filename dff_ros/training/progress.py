# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Progress on the terminal: a bar with the time left, or now and then a line where the output is a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINE_EVERY_S = 30.0


class Bar:
    """Shows how much of a task is done."""

    def __init__(self, title: str, progress: Progress) -> None:
        self._title = title
        self._progress = progress
        self._task = progress.add_task(title, total=None, note='')
        self._note = ''
        self._start: tuple[float, int] | None = None
        self._last_line = monotonic()

    def note(self, text: str) -> None:
        """A few words beside the bar."""
        self._note = text
        self._progress.update(self._task, note=text)

    def show(self, done: int, total: int) -> None:
        """`done` of `total` are done."""
        if self._start is None:
            self._start = monotonic(), done
        self._progress.update(self._task, completed=done, total=total)
        if self._progress.console.is_terminal:
            return
        now = monotonic()
        if now - self._last_line >= _LINE_EVERY_S or done == total:
            self._last_line = now
            self._print(done, total, now)

    def _print(self, done: int, total: int, now: float) -> None:
        began, first = self._start or (now, done)
        left = (now - began) / (done - first) * (total - done) if done > first else 0.0
        note = f', {self._note}' if self._note else ''
        print(f'{self._title}: {done}/{total}{note}, {timedelta(seconds=round(left))} left', flush=True)


@contextmanager
def progress_bar(title: str) -> Iterator[Bar]:
    """A bar on standard error for the time of the block."""
    console = Console(stderr=True)
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
        TextColumn('{task.fields[note]}'),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Bar(title, progress)
