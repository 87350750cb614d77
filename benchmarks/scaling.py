# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Cost of a frame against its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench_rows import Row, size_text


def pixels(row: Row) -> int:
    """Of the image."""
    return int(row['size'][0]) * int(row['size'][1])


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many times as many pixels the largest image has, and how many times as much its frame costs."""

    pixels: float
    cost: float
    text: str

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Scaling | None:
        """Of rows that differ in size alone; None where all have one size."""
        ordered = sorted(rows, key=pixels)
        first, last = ordered[0], ordered[-1]
        if pixels(first) == pixels(last):
            return None
        more, cost = pixels(last) / pixels(first), first['dff_fps'] / last['dff_fps']
        return cls(more, cost, f'{size_text(first["size"])} to {size_text(last["size"])}: {more:.1f} times '
                   f'the pixels, {cost:.1f} times the cost')  # fmt: skip
