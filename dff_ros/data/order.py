# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The order in which training goes through a data set: a pure function of seed and position."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SHUFFLE = 1


def shuffled(seed: int, number: int, size: int, positions: range) -> list[int]:
    """Which samples of data set `number` (of `size`) come at those positions of the endless training order.

    Every epoch of `size` positions has each sample once, in an order of its own.
    """
    return [int(_order(seed, number, taken // size, size)[taken % size]) for taken in positions]


@lru_cache(maxsize=8)
def _order(seed: int, number: int, epoch: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, _SHUFFLE, number, epoch)).permutation(size)
