# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A training that is interrupted from within."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def interrupted_in(trainer: type, index: int, number: int) -> Iterator[None]:
    """The process sends itself a signal within the step `index` of such trainers."""
    step = trainer.step

    def stepping(self, at, batch):
        if at == index:
            os.kill(os.getpid(), number)
        return step(self, at, batch)

    with mock.patch.object(trainer, 'step', stepping):
        yield
