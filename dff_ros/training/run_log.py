"""The log of a run: one JSON object per line, and a plot of it."""

from __future__ import annotations

import json
from pathlib import Path

from dff_ros.errors import DataError
from dff_ros.training.checkpoint import LOG_FILE, PLOT_FILE, replace_file

Entry = dict[str, object]


class RunLog:
    """Appends entries to `log.jsonl` of a run directory; each is on disk when `write` returns."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOG_FILE

    def write(self, event: str, **facts: object) -> None:
        """Append `{"event": ..., ...}`; DataError where the disk refuses."""
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
    """Draw loss, learning rate and gradient norm over the steps into `log.png`; returns its path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    entries = steps_of(read_log(directory))
    if not entries:
        raise DataError(f'the log in {directory} has no steps to plot yet')
    figure = Figure(figsize=(8, 7), layout='constrained')
    FigureCanvasAgg(figure)
    steps = [entry['step'] for entry in entries]
    for axes, name in zip(figure.subplots(3, 1, sharex=True), ('loss', 'lr', 'grad_norm'), strict=True):
        axes.plot(steps, [entry[name] for entry in entries])
        axes.set_ylabel(name.replace('_', ' '))
        axes.grid(alpha=0.3)
    axes.set_xlabel('step')
    path = directory / PLOT_FILE
    replace_file(path, lambda temporary: figure.savefig(temporary, format='png', dpi=100))
    return path
