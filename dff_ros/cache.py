# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The key frame of one camera, and the rules by which it is dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from dff_ros.scheduling import Measured, Signal, above
from dff_ros.thumbnails import Thumbnail, change, make_thumbnail
from dff_ros.types import ContextT, FeatureT, Frame, KeyFrame, Propagation, ResetCause

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Arrival:
    """What is remembered of a frame: a thumbnail in place of its image. `stamp_ns` is the last one the source
    gave, 0 where it gave none so far.
    """

    size: tuple[int, int]
    encoding: str
    frame_id: str
    stamp_ns: int
    thumbnail: Thumbnail


class KeyFrameCache(Generic[FeatureT, ContextT]):
    """One slot and a running frame number. Nothing of before a drop is handed out after it."""

    def __init__(self) -> None:
        self._slot: KeyFrame[FeatureT, ContextT] | None = None
        self._last: _Arrival | None = None
        self._key_ns = 0
        self._number = -1
        self._is_first = False
        self._change = 0.0
        self._measured: Measured | None = None
        self._disagreement_sum = 0.0

    @property
    def key(self) -> KeyFrame[FeatureT, ContextT] | None:
        """The key frame in use, or None."""
        return self._slot

    @property
    def is_first_key(self) -> bool:
        """Whether the key frame in use is the first since the beginning, or since a drop."""
        return self._is_first

    @property
    def number(self) -> int:
        """Running number of the frame admitted last, from 0; drops do not change it."""
        return self._number

    def drop(self) -> None:
        """Forget the key frame and everything known of earlier frames."""
        self._slot = None
        self._last = None
        self._forget_measured()
        self._change = 0.0

    def admit(self, frame: Frame, max_gap_s: float) -> ResetCause | None:
        """Count a frame in; the cause where it cannot follow the one before, whose key frame is dropped."""
        thumbnail = make_thumbnail(frame.image_HW3)
        known_ns = frame.stamp_ns or (0 if self._last is None else self._last.stamp_ns)
        arrival = _Arrival(frame.size, frame.encoding, frame.frame_id, known_ns, thumbnail)
        cause = None if self._last is None else _break_between(self._last, arrival, max_gap_s)
        if cause is not None:
            self.drop()
        if self._last is not None:
            self._change = max(self._change, change(thumbnail, self._last.thumbnail))
        self._last = arrival
        self._number += 1
        return cause

    @property
    def thumbnail(self) -> Thumbnail:
        """Of the frame admitted last; RuntimeError before the first."""
        if self._last is None:
            raise RuntimeError('no frame was admitted')
        return self._last.thumbnail

    def store(self, key: KeyFrame[FeatureT, ContextT]) -> None:
        """Use another key frame: the frame just admitted, or one before it."""
        self._is_first = self._slot is None
        self._slot = key
        self._key_ns = key.stamp_ns or (0 if self._last is None else self._last.stamp_ns)
        self._forget_measured()
        if key.number == self._number:
            self._change = 0.0

    @property
    def seconds_since_key(self) -> float:
        """From the key frame to the frame admitted last, by the last stamps that the source gave."""
        return 0.0 if self._last is None else (self._last.stamp_ns - self._key_ns) / _NS_PER_S

    def measure(self, propagation: Propagation[FeatureT], disagreement_floor: float = 0.0) -> None:
        """Remember what the propagation of the frame just admitted showed; of its disagreement what is above
        the floor is added to the sum.
        """
        self._measured = Measured.of(propagation)
        self._disagreement_sum += above(disagreement_floor, propagation.disagreement)
        self._change = 0.0

    @property
    def disagreement_sum(self) -> float:
        """Of the key frame in use; see Signal."""
        return self._disagreement_sum

    def _forget_measured(self) -> None:
        self._measured = None
        self._disagreement_sum = 0.0

    def signal(self, frame: Frame, is_refreshing: bool = False) -> Signal | None:
        """What a scheduler may know of the frame just admitted; None where there is no key frame."""
        if self._slot is None or self._last is None:
            return None
        return Signal(
            frames_since_key=self._number - self._slot.number,
            seconds_since_key=self.seconds_since_key,
            change=self._change,
            key_change=change(self._last.thumbnail, self._slot.thumbnail),
            measured=self._measured,
            disagreement_sum=self._disagreement_sum,
            is_refreshing=is_refreshing,
            key_number=self._slot.number,
            stamp_ns=frame.stamp_ns,
        )


def _break_between(last: _Arrival, frame: _Arrival, max_gap_s: float) -> ResetCause | None:
    if frame.size != last.size:
        return ResetCause.SIZE
    if frame.encoding != last.encoding:
        return ResetCause.ENCODING
    if frame.frame_id != last.frame_id:
        return ResetCause.FRAME_ID
    if frame.stamp_ns < last.stamp_ns:
        return ResetCause.BACKWARD_STAMP
    if frame.stamp_ns - last.stamp_ns > max_gap_s * _NS_PER_S:
        return ResetCause.GAP
    return None
