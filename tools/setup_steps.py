# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The bookkeeping of set-up: steps that run again only when their inputs changed, and logged commands."""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path


class SetupError(Exception):
    """Set-up cannot go on; the message is one line that names the remedy."""


def digest(*inputs: str | Path) -> str:
    """Return a hash of texts, of files (name and content) and of every file below directories."""
    total = hashlib.sha256()
    for item in inputs:
        if isinstance(item, str):
            total.update(item.encode() + b'\0')
            continue
        files = sorted(item.rglob('*')) if item.is_dir() else [item]
        for path in files:
            if path.is_file():
                total.update(path.name.encode() + b'\0' + path.read_bytes() + b'\0')
    return total.hexdigest()


class Stamps:
    """Remembers in a file with which inputs each step last succeeded, and for which checkout."""

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._root = str(root)
        try:
            stored = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            stored = {}
        self.was_moved = stored.get('root', self._root) != self._root
        self._steps: dict[str, str] = {} if self.was_moved else stored.get('steps', {})

    def is_current(self, step: str, inputs_digest: str) -> bool:
        """Whether the step succeeded with exactly these inputs."""
        return self._steps.get(step) == inputs_digest

    def knows(self, step: str) -> bool:
        """Whether the step ever succeeded."""
        return step in self._steps

    def run(self, step: str, inputs_digest: str, action: Callable[[], None]) -> bool:
        """Run the action unless the step is current, record its success, return whether it ran."""
        if self.is_current(step, inputs_digest):
            return False
        start_s = time.monotonic()
        print(f'setup: {step} ...', flush=True)
        action()
        self._steps[step] = inputs_digest
        self._path.write_text(json.dumps({'root': self._root, 'steps': self._steps}, indent=2) + '\n')
        print(f'setup: {step} done in {time.monotonic() - start_s:.0f} s', flush=True)
        return True

    def forget(self) -> None:
        """Drop everything that was remembered."""
        self._steps = {}


def clean_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables for commands in a new environment: without the mark that another one was entered.

    The ROS wheels set the library path once per process tree and leave this mark.
    """
    return {name: value for name, value in environ.items() if name != '_ROS_WHEELS_BOOTSTRAP_COMPLETE'}


def run_logged(command: Iterable[str | Path], log: Path, environ: Mapping[str, str] | None = None) -> None:
    """Run a command, append its output to the log; raise SetupError with its error line when it fails."""
    words = [str(word) for word in command]
    with log.open('a') as sink:
        sink.write(f'\n$ {" ".join(words)}\n')
        sink.flush()
        result = subprocess.run(words, stdout=sink, stderr=subprocess.STDOUT, env=environ or clean_environ())
    if result.returncode != 0:
        raise SetupError(f'{failure_line(log.read_text(errors="replace"))} (see {log})')


def failure_line(output: str) -> str:
    """Return the line of a command's output that says best why it failed."""
    lines = [line.strip() for line in output.split('\n$ ')[-1].splitlines() if line.strip()]
    if any('No space left on device' in line for line in lines):
        return 'no space left on the disk: free some gigabytes and run make setup again'
    errors = [line for line in lines if line.lower().startswith(('error', 'cmake error', 'fatal'))]
    return (errors or lines or ['the command failed'])[-1]
