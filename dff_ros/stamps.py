# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the stamps of one camera's images look like, counted by kind. No rclpy.

Nothing here decides anything but which image is a duplicate: key frames depend on stamps by the rules of the
engine (dff_ros/cache.py).
"""

from __future__ import annotations

from collections import Counter

ZERO, DUPLICATE, BACKWARD = 'zero', 'duplicate', 'backward'
PAUSE, FORWARD_JUMP, HELD = 'pause', 'forward_jump', 'held'
FUTURE, PAST = 'future', 'past'
KINDS = {
    ZERO: 'stamp 0: the source gives none',
    DUPLICATE: 'the stamp of the image answered last: dropped',
    BACKWARD: 'a stamp before that of the last image: a bag that loops, or a late image; a key frame follows',
    PAUSE: 'more than keyframe.max_gap_s without an image, by stamps and by arrival; a key frame follows',
    FORWARD_JUMP: 'the same by stamps, but the images came one after the other; a key frame follows',
    HELD: 'the same by arrival, but not by stamps: a bag that was paused; nothing follows',
    FUTURE: "a stamp more than half a second ahead of the node's clock",
    PAST: "a stamp more than five seconds behind the node's clock",
}
"""Every kind that is counted, and what it means."""

MAX_AHEAD_S, MAX_BEHIND_S = 0.5, 5.0
_NS_PER_S = 1_000_000_000

_NO_STAMPS = (
    'images have stamp 0: ages in seconds cannot be known, so keyframe.max_age_s, keyframe.max_gap_s and '
    'keyframe.period_s do nothing, and key frames follow from numbers of frames (keyframe.interval, '
    'keyframe.max_interval); let the camera driver stamp its images'
)
_CLOCKS = (
    "image stamps are {seconds:.1f} s {where} the node's clock: stamps do not tell how late answers are "
    '(latency_ms counts from receipt and holds); synchronise the clocks of the machines, or for a bag: '
    '`ros2 bag play --clock` and use_sim_time:=true'
)


class StampWatch:
    """Counts kinds of stamps. Use from one thread at a time; `counts` may be copied from any."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._last_ns = 0
        self._last_received_ns: int | None = None
        self._answered_ns = 0
        self._noted: set[str] = set()

    def observe(self, stamp_ns: int, received_ns: int, clock_ns: int, max_gap_s: float) -> frozenset[str]:
        """Count an image; its kinds. `received_ns` is by a steady clock; `clock_ns` is the node's, 0: it has
        no time yet.
        """
        kinds = frozenset(self._kinds(stamp_ns, received_ns, clock_ns, max_gap_s * _NS_PER_S))
        self.counts.update(kinds)
        self._last_ns = stamp_ns or self._last_ns
        self._last_received_ns = received_ns
        return kinds

    def answered(self, stamp_ns: int) -> None:
        """An image with this stamp was answered: another one with it is a duplicate."""
        self._answered_ns = stamp_ns

    def notes(self, kinds: frozenset[str], stamp_ns: int, clock_ns: int) -> list[str]:
        """What is to be logged about an image's kinds; each once, and clocks anew on another side."""
        texts = []
        if ZERO in kinds and ZERO not in self._noted:
            self._noted.add(ZERO)
            texts.append(_NO_STAMPS)
        (side,) = kinds & {FUTURE, PAST} or {''}
        if side and side not in self._noted:
            self._noted.add(side)
            seconds = abs(stamp_ns - clock_ns) / _NS_PER_S
            texts.append(_CLOCKS.format(seconds=seconds, where='ahead of' if side == FUTURE else 'behind'))
        return texts

    def _kinds(self, stamp_ns: int, received_ns: int, clock_ns: int, max_gap_ns: float) -> set[str]:
        last_received_ns = self._last_received_ns
        waited_ns = 0 if last_received_ns is None else received_ns - last_received_ns
        gap_ns = stamp_ns - self._last_ns if stamp_ns and self._last_ns else 0
        kinds = _against_clock(stamp_ns, clock_ns)
        if stamp_ns == 0:
            kinds.add(ZERO)
        elif stamp_ns == self._answered_ns:
            kinds.add(DUPLICATE)
        if gap_ns < 0:
            kinds.add(BACKWARD)
        elif gap_ns > max_gap_ns:
            kinds.add(PAUSE if waited_ns > gap_ns / 2 else FORWARD_JUMP)
        elif waited_ns > max_gap_ns:
            kinds.add(HELD)
        return kinds


def _against_clock(stamp_ns: int, clock_ns: int) -> set[str]:
    if not stamp_ns or not clock_ns:
        return set()
    ahead_s = (stamp_ns - clock_ns) / _NS_PER_S
    if ahead_s > MAX_AHEAD_S:
        return {FUTURE}
    return {PAST} if ahead_s < -MAX_BEHIND_S else set()
