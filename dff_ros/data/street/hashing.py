# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Random numbers addressed by content: the same keys give the same numbers, whatever was asked before."""

from functools import lru_cache

import numpy as np


def rng_of(*keys: int) -> np.random.Generator:
    """A generator seeded by integers of any sign."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([_fold(k) for k in keys])))


@lru_cache(maxsize=65536)
def uniforms(count: int, *keys: int) -> tuple[float, ...]:
    """`count` cached uniform numbers in [0, 1) that belong to the keys."""
    return tuple(float(x) for x in rng_of(*keys).random(count))


def _fold(key: int) -> int:
    return 2 * key if key >= 0 else -2 * key - 1
