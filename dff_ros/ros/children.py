# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Processes that the demo and the benchmarks start: each in a group of its own, its output kept, ended for
certain.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import yaml

from dff_ros.errors import DffError
from dff_ros.ros.ending import end_with_parent
from dff_ros.ros.launching import PROFILES_VARIABLE, SHARED_MEMORY_PROFILE
from dff_ros.share import find_share_file

_TAIL_LINES = 12
_GRACE_S = 5.0
_MAX_DOMAIN_ID = 101  # above it, DDS ports run into those the system gives away


class Child:
    """A Python module run as a process in a new group; a context manager that ends it.

    Should this process be killed outright, the kernel sends the child SIGTERM (Linux).
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str]) -> None:
        self.name = name
        self._was_told = False
        self._output = tempfile.TemporaryFile(prefix=f'dff_{name}_')  # noqa: SIM115 (closed by stop)
        self._process = subprocess.Popen(
            [sys.executable, '-m', module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )

    @property
    def pid(self) -> int:
        """Process id, also the id of its group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def tail(self) -> str:
        """The last lines it wrote."""
        size = os.fstat(self._output.fileno()).st_size
        start = max(0, size - 16384)
        text = os.pread(self._output.fileno(), size - start, start).decode(errors='replace')
        return '\n'.join(deque(text.splitlines(), _TAIL_LINES))

    def check(self) -> None:
        """DffError, with its last lines, where it has failed rather than done what it was told."""
        failure = self.failure()
        if failure:
            raise DffError(failure)

    def failure(self) -> str:
        """How it failed, with its last lines; empty where it runs or has done what it was told."""
        code = self.exit_code
        if code is None or code == 0 or (self._was_told and code < 0):
            return ''
        how = f'was ended by {signal.Signals(-code).name}' if code < 0 else f'ended with exit code {code}'
        return f'the {self.name} {how}; its last lines:\n{self.tail()}'

    def interrupt(self) -> None:
        """Ask it to end (SIGINT); harmless where it has ended."""
        self._was_told = True
        self._signal(signal.SIGINT)

    def stop(self, grace_s: float = _GRACE_S) -> None:
        """End it and whatever it started: SIGINT, then SIGTERM, then SIGKILL, each `grace_s` after the other.

        Calling it twice is harmless.
        """
        if self._output.closed:
            return
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            self._signal(number)
            try:
                self._process.wait(grace_s)
                break
            except subprocess.TimeoutExpired:
                continue
        self._signal(signal.SIGKILL)  # what it may have left in its group
        self._output.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # the whole group has ended
            os.killpg(self.pid, number)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_node(
    stack: ExitStack,
    name: str,
    module: str,
    namespace: str,
    parameters: Mapping[str, object],
    *arguments: str,
) -> Child:
    """A node as a process, in a namespace and with parameters; `arguments` are further ones of ROS. `stack`
    ends it.
    """
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=f'dff_{name}_'))
    path = Path(folder) / f'{name}.yaml'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': dict(parameters)}}), encoding='utf-8')
    own = ['-r', f'__ns:={namespace}']
    words = ['--ros-args', *own, '--params-file', str(path), *arguments]
    return stack.enter_context(Child(name, module, words))


def own_namespace(purpose: str) -> str:
    """A namespace in which no other node of the domain answers, or is answered."""
    return f'/dff_{purpose}_{secrets.token_hex(4)}'


def set_environment() -> None:
    """A ROS graph of its own, on this machine and over shared memory, here and in child processes, unless
    the user set another.
    """
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, _MAX_DOMAIN_ID)))
    profile = find_share_file(f'config/{SHARED_MEMORY_PROFILE}')
    if profile is not None:
        os.environ.setdefault(PROFILES_VARIABLE, str(profile))
