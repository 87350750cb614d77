# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The log of a run: one JSON object per line, and a plot of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.errors import DataError
from dff_ros.training.checkpoint import LOG_FILE, PLOT_FILE, replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Entry = dict[str, object]

_NOT_TERMS = ('event', 'step', 'loss', 'lr', 'grad_norm', 'step_s', 'agreement')


class RunLog:
    """Appends entries to `log.jsonl` of a run directory; each is on disk when `write` returns.

    One that is not on writes nothing: of several processes of a run, one writes.
    """

    def __init__(self, directory: Path, is_on: bool = True) -> None:
        self.path = directory / LOG_FILE
        self._is_on = is_on

    def write(self, event: str, **facts: object) -> None:
        """Append `{"event": ..., ...}`; DataError where the disk refuses."""
        if not self._is_on:
            return
        try:
            with self.path.open('a', encoding='utf-8') as file:
                file.write(json.dumps({'event': event, **facts}) + '\n')
        except OSError as error:
            raise DataError(f'cannot write {self.path}: {error}') from error


def read_log(directory: Path) -> list[Entry]:
    """The entries in order; a last line that a crash cut off is left out. DataError where there is no log."""
    path = directory / LOG_FILE
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except OSError as error:
        raise DataError(f'cannot read the log {path}: {error}') from error
    entries: list[Entry] = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise DataError(f'{path}, line {number}, is not JSON: {error}') from error
    return entries


def steps_of(entries: list[Entry]) -> list[Entry]:
    """The `step` entries in order; of steps that a resumed run repeated, the later entries."""
    kept: list[Entry] = []
    for entry in entries:
        if entry['event'] == 'step':
            while kept and float(str(kept[-1]['step'])) >= float(str(entry['step'])):
                kept.pop()
            kept.append(entry)
    return kept


def plot(directory: Path) -> Path:
    """Draw loss and its terms, learning rate and gradient norm over the steps into `log.png`; returns its
    path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    log = read_log(directory)
    entries = steps_of(log)
    if not entries:
        raise DataError(f'the log in {directory} has no steps to plot yet')
    terms = sorted({name for entry in entries for name in entry} - set(_NOT_TERMS))
    panels = (
        [('loss',), tuple(terms), ('lr',), ('grad_norm',)] if terms else [('loss',), ('lr',), ('grad_norm',)]
    )
    figure = Figure(figsize=(8, 2.4 * len(panels)), layout='constrained')
    FigureCanvasAgg(figure)
    for axes, names in zip(figure.subplots(len(panels), 1, sharex=True), panels, strict=True):
        for name in names:
            _draw(axes, entries, name)
        axes.grid(alpha=0.3)
        if names == tuple(terms):
            axes.set_yscale('log')
            axes.set_ylabel('terms of the loss')
            axes.legend(fontsize='small', ncols=3)
        else:
            axes.set_ylabel(names[0].replace('_', ' '))
            validations = [entry for entry in log if entry['event'] == 'validation' and names[0] in entry]
            if validations:
                _draw(axes, validations, names[0], 'o', label='held-out pairs')
                axes.legend(fontsize='small')
    axes.set_xlabel('step')
    path = directory / PLOT_FILE
    replace_file(path, lambda temporary: figure.savefig(temporary, format='png', dpi=100))
    return path


def _draw(axes: Axes, entries: list[Entry], name: str, *style: str, label: str = '') -> None:
    known = [entry for entry in entries if name in entry]
    values = [float(str(entry[name])) for entry in known]
    axes.plot(
        [float(str(entry['step'])) for entry in known], values, *style, label=label or name.replace('_', ' ')
    )
