# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A first SIGINT or SIGTERM asks a run to stop after its step; a second one does not wait."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@dataclasses.dataclass
class Stop:
    """Set by SIGINT or SIGTERM: finish the step, write a checkpoint, leave."""

    signal: int = 0


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """For the time of the block, SIGINT and SIGTERM only set the given `Stop`."""
    stop = Stop()

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.signal = number
        print('stopping after this step', file=sys.stderr)
        signal.signal(number, signal.default_int_handler)  # a second one does not wait

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
