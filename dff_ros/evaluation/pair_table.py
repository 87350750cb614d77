# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What every pair of a key frame and a later frame gives, measured once: any schedule can be read off it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.scheduling import Measured, Signal, above

_NS_PER_S = 1_000_000_000

Counts = NDArray[np.int32]
"""Those of a ConfusionMatrix, of one frame."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How good the labels of one frame are. `counts_KK1` against the ground truth, None where the frame has
    none; `disagreement` is the share (0..1) of pixels labelled otherwise than by per-frame inference.
    """

    counts_KK1: Counts | None
    disagreement: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A frame propagated from a key frame: what a scheduler may know of it, and how good it is."""

    key_change: float
    measured: Measured
    answer: Answer


@dataclass(frozen=True, slots=True)
class PairRow:
    """One frame: per-frame inference, and the pairs with the key frames 1, 2, ... frames before it.

    `change` is that of the thumbnail to the frame before; `is_cut` whether another scene begins here.
    """

    stamp_ns: int
    change: float
    is_cut: bool
    direct: Answer
    pairs: tuple[Pair, ...]


Rows = Sequence[PairRow]
"""The frames of a sequence, or of any stretch of one, in order."""


def signal_of(rows: Rows, now: int, key: int, floor: float = 0.0) -> Signal:
    """What the stream tells a scheduler about frame `now` of a sequence with its key frame at `key`; `floor`
    is `keyframe.disagreement_floor`.

    Where the table has no such pair, as beyond the longest interval, `key_change` is 0.
    """
    pair = _pair(rows, now, key)
    before = _pair(rows, now - 1, key)
    return Signal(
        frames_since_key=now - key,
        seconds_since_key=(rows[now].stamp_ns - rows[key].stamp_ns) / _NS_PER_S,
        change=rows[now].change,
        key_change=0.0 if pair is None else pair.key_change,
        measured=None if before is None else before.measured,
        disagreement_sum=sum(
            above(floor, pair.measured.disagreement) for pair in _pairs(rows, key + 1, now, key)
        ),
        key_number=key,
        stamp_ns=rows[now].stamp_ns,
    )


def oracle_signal(rows: Rows, now: int, key: int, floor: float = 0.0) -> Signal:
    """The same to one that knows the frame itself: its propagation, and the true disagreement."""
    pair, signal = _pair(rows, now, key), signal_of(rows, now, key, floor)
    if pair is None:
        return signal
    known = dataclasses.replace(pair.measured, disagreement=pair.answer.disagreement)
    true = sum(above(floor, pair.answer.disagreement) for pair in _pairs(rows, key + 1, now + 1, key))
    return dataclasses.replace(signal, measured=known, disagreement_sum=true)


def _pairs(rows: Rows, first: int, end: int, key: int) -> Iterator[Pair]:
    """Those there are with a key frame, of the frames from `first` to before `end`."""
    return filter(None, (_pair(rows, frame, key) for frame in range(first, end)))


def _pair(rows: Rows, now: int, key: int) -> Pair | None:
    offset = now - key
    return rows[now].pairs[offset - 1] if 0 < offset <= len(rows[now].pairs) else None
