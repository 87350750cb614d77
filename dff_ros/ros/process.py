# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What every node process does around its node: memory settings, signals, spinning, exit code."""

from __future__ import annotations

import ast
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from dff_ros.errors import DffError
from dff_ros.memory import tune_malloc
from dff_ros.ros.ending import is_parent_there
from dff_ros.ros.interrupts import Interrupts
from dff_ros.ros.requests import refuse_malformed_sets
from dff_ros.ros.segments import remove_abandoned

EXIT_OK, EXIT_FAILURE, EXIT_USER_ERROR = 0, 1, 2

USAGE = """arguments: [--help] [--ros-args [-p NAME:=VALUE]... [--params-file FILE] [-r FROM:=TO]...]
`ros2 param describe` tells the parameters of a running node.
"""

_TURN_S = 0.2
_MAX_FAILURES = 10
"""So many callbacks in a row that raise are no bad requests."""


class Startable(Protocol):
    """A node with a start of its own."""

    def start(self, finish: Callable[[int], None]) -> None:
        """Begin to work; `finish(exit_code)` ends the process, from any thread, now or later."""
        ...


def signals_into(exits: SimpleQueue[int]) -> None:
    """The first SIGINT or SIGTERM puts exit code 0, a later one ends the process at once (see Interrupts).

    For the rest of the process's life.
    """
    # SimpleQueue may be used from a signal handler, an Event may not.
    Interrupts(lambda number: exits.put(EXIT_OK), _end_at_once).install()


def _end_at_once(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def run(make_node: Callable[[], Node], args: Sequence[str] | None = None, usage: str = USAGE) -> int:
    """Run a Startable node until a signal or its own end; the exit code of the process.

    `args` begin with the program's name, as sys.argv does; arguments that ROS does not know, and `--help`,
    print `usage` instead.
    """
    unknown = _unknown_arguments(sys.argv if args is None else args)
    if unknown:
        return _help(unknown, usage)
    tune_malloc()
    exits: SimpleQueue[int] = SimpleQueue()
    signals_into(exits)
    if not is_parent_there(os.environ):
        return EXIT_OK
    remove_abandoned()
    try:
        rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # rcl's errors on arguments and parameter files
        return _report(error)
    try:
        return _run_node(make_node, exits)
    except DffError as error:
        return _report(error)
    finally:
        rclpy.try_shutdown()


def _unknown_arguments(args: Sequence[str]) -> list[str]:
    try:
        return remove_ros_args(list(args))[1:]
    except rclpy_implementation.UnknownROSArgsError as error:
        return [str(text) for text in ast.literal_eval(str(error))]  # its message is the list's repr
    except RuntimeError:  # a malformed argument of ROS's own: rclpy.init says which
        return []


def _help(unknown: Sequence[str], usage: str) -> int:
    if '--help' in unknown or '-h' in unknown:
        print(usage, end='')
        return EXIT_OK
    print(f'error: unknown arguments {" ".join(unknown)}\n{usage}', end='', file=sys.stderr)
    return EXIT_USER_ERROR


def _report(error: Exception) -> int:
    print(f'error: {error}', file=sys.stderr)
    return EXIT_USER_ERROR


class Spinning:
    """A node's callbacks, run by an executor in a thread of its own from `start` to `end`."""

    def __init__(
        self, node: Node, on_error: Callable[[], None] = lambda: None, context: Context | None = None
    ) -> None:
        self._executor = SingleThreadedExecutor(context=context)
        refuse_malformed_sets(node)
        self._executor.add_node(node)
        self._context, self._on_error = context, on_error
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._spin, name='executor', daemon=True)

    def start(self) -> None:
        """Begin to run callbacks."""
        self._thread.start()

    def end(self) -> None:
        """Run no more; a callback that runs is waited for."""
        self._is_over.set()
        # A task wakes the executor, wherever it is. Its `shutdown` takes away what would wake it, after which
        # it may wait for ever: so only once it has ended.
        self._executor.create_task(lambda: None)
        if self._thread.is_alive():
            self._thread.join()
        self._executor.shutdown()

    def _spin(self) -> None:
        """An error in one callback, as of a malformed request, costs that callback alone."""
        num_failed = 0
        while rclpy.ok(context=self._context) and not self._is_over.is_set():
            try:
                self._executor.spin_once()
                num_failed = 0
            except BaseException as error:
                traceback.print_exc()
                num_failed += 1
                if num_failed == _MAX_FAILURES or not isinstance(error, Exception):
                    self._on_error()
                    return


def _wait_for(exits: SimpleQueue[int]) -> int:
    """The first exit code. A signal that comes just before a wait begins does not end it, and its handler
    would never run: so the wait is in short turns.
    """
    while True:
        try:
            return exits.get(timeout=_TURN_S)
        except Empty:
            continue


def _run_node(make_node: Callable[[], Node], exits: SimpleQueue[int]) -> int:
    node = make_node()
    spinning = Spinning(node, lambda: exits.put(EXIT_FAILURE))
    try:
        node.start(exits.put)
        spinning.start()
        return _wait_for(exits)
    finally:
        spinning.end()
        node.destroy_node()
