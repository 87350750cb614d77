"""What every node process does around its node: memory settings, signals, spinning, exit code."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from types import FrameType
from typing import Protocol

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from dff_ros.errors import DffError

EXIT_OK, EXIT_FAILURE, EXIT_USER_ERROR = 0, 1, 2

_REPEAT_S = 1.5

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MMAP_THRESHOLD_BYTES = 32 << 20
_TRIM_THRESHOLD_BYTES = 1 << 30


class Startable(Protocol):
    """A node with a start of its own."""

    def start(self, finish: Callable[[int], None]) -> None:
        """Begin to work; `finish(exit_code)` ends the process, from any thread, now or later."""
        ...


def tune_malloc() -> bool:
    """Keep image-sized blocks on the heap: else glibc maps and faults in each image anew (2x the latency).

    Only on glibc, and not where the user set a threshold by environment; whether it was done.
    """
    if platform.libc_ver()[0] != 'glibc' or 'MALLOC_MMAP_THRESHOLD_' in os.environ:
        return False
    libc = ctypes.CDLL(None)
    return bool(
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        and libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
    )


def signals_into(exits: SimpleQueue[int]) -> None:
    """SIGINT and SIGTERM put exit code 0; one that comes _REPEAT_S after the first ends the process at once.

    One Ctrl-C may arrive twice: from the terminal and from `ros2 launch`. For the rest of the process's life.
    """
    first_s: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        first_s.append(time.monotonic())
        if first_s[-1] - first_s[0] >= _REPEAT_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        exits.put(EXIT_OK)  # SimpleQueue may be used from a signal handler, an Event may not

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


def run(make_node: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Run a Startable node until a signal or its own end; the exit code of the process."""
    tune_malloc()
    exits: SimpleQueue[int] = SimpleQueue()
    signals_into(exits)
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


def _report(error: Exception) -> int:
    print(f'error: {error}', file=sys.stderr)
    return EXIT_USER_ERROR


def _run_node(make_node: Callable[[], Node], exits: SimpleQueue[int]) -> int:
    node = make_node()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=_spin, args=(executor, exits), name='executor', daemon=True)
    try:
        node.start(exits.put)
        thread.start()
        return exits.get()
    finally:
        executor.shutdown()
        if thread.is_alive():
            thread.join()
        node.destroy_node()


def _spin(executor: SingleThreadedExecutor, exits: SimpleQueue[int]) -> None:
    try:
        executor.spin()
    except BaseException:
        traceback.print_exc()
        exits.put(EXIT_FAILURE)
