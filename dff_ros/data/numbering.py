# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Frame numbers in file names: their order, their step, and the uninterrupted runs among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import median_low

_TRAILING = re.compile(r'(\d+)\D*$')
_MOST_STEPS = 1.5


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key by which frame 2 comes before frame 10."""
    parts = re.split(r'(\d+)', name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def frame_number(stem: str) -> int | None:
    """The last number in a file name without ending; None where there is none."""
    match = _TRAILING.search(stem)
    return int(match[1]) if match else None


def usual_step(numbers: Sequence[int]) -> int | None:
    """The difference that at least half of the neighbours have; None where the names do not count frames.

    Of several that are equally common it is the smallest; fewer than two numbers have step 1.
    """
    differences = Counter(later - earlier for earlier, later in pairwise(numbers))
    if not differences:
        return 1
    most = max(differences.values())
    step = min(difference for difference, count in differences.items() if count == most)
    return step if step > 0 and 2 * most >= len(numbers) - 1 else None


def median_step(numbers: Sequence[int]) -> int:
    """The lower median of the differences between neighbours; 1 for fewer than two numbers."""
    return median_low([later - earlier for earlier, later in pairwise(numbers)] or [1])


def runs(numbers: Sequence[int], step: int) -> list[range]:
    """Positions of the stretches in which each number is about `step` above the one before."""
    cuts = [at for at, (a, b) in enumerate(pairwise(numbers), 1) if not 0 < b - a <= _MOST_STEPS * step]
    return split_at(cuts, len(numbers))


def runs_in_time(stamps_ns: Sequence[int], most_gaps: float) -> list[range]:
    """Positions of the stretches without a gap longer than `most_gaps` times the median one."""
    gaps = [later - earlier for earlier, later in pairwise(stamps_ns)]
    longest = most_gaps * median_low(gaps) if gaps else 0
    return split_at([position + 1 for position, gap in enumerate(gaps) if gap > longest], len(stamps_ns))


def split_at(cuts: Sequence[int], size: int) -> list[range]:
    """0 .. size - 1 in parts that begin at 0 and at each cut; no part is empty."""
    edges = [0, *cuts, size]
    return [range(start, end) for start, end in pairwise(edges) if end > start]
