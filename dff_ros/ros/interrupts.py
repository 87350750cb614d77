# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Signals that end a program in order."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

REPEAT_S = 1.5
"""One Ctrl-C or SIGTERM may arrive twice (from `ros2 launch`, from `make`): a repeat until then is none."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM, `number`, ends the program without its results."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def interrupt(number: int) -> NoReturn:
    """Raise Interrupted."""
    raise Interrupted(number)


class Interrupts:
    """SIGINT and SIGTERM ask for an orderly end: the first sets `number` and calls `on_first`, one that comes
    REPEAT_S after it calls `on_again`. Both run in the signal handler. A context manager.
    """

    def __init__(
        self,
        on_first: Callable[[int], None] = lambda number: None,
        on_again: Callable[[int], None] = interrupt,
    ) -> None:
        self.number = 0
        self._on_first = on_first
        self._on_again = on_again
        self._first_s = 0.0
        self._before: dict[int, object] = {}

    def install(self) -> None:
        """Take over both signals, from now on."""
        self._before = {
            number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)
        }

    def __enter__(self) -> Interrupts:
        self.install()
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number, self._first_s = number, time.monotonic()
            self._on_first(number)
        elif time.monotonic() - self._first_s >= REPEAT_S:
            self._on_again(number)
