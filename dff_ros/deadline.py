# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Keeps the mean time per frame of a stream within a budget: by a longer interval, then by skipping frames.

It is fed with measured times and knows nothing else. Let P be the time of a plain frame and E what a refresh
costs beyond it: a frame at interval l takes P + E / l on average (equation (7) solved for l).
"""

from __future__ import annotations

import math
import statistics
from collections import deque

_NUM_PLAIN = 15
"""Frames whose median is P: one slow frame among them does nothing."""

_NUM_REFRESHES = 2
"""The cheaper of so many refreshes is E: one slow refresh does nothing, and one quick one lets go."""

_STEP = 1.5
_RAISE_FRAMES, _LOWER_FRAMES = 8, 30
"""Frames from one step to the next: it gives way quickly and comes back slowly."""

_RELIEF = 0.8
"""It comes back only to an interval that takes this share of the budget, so it does not swing."""

_MAX_SKIPPED = 3
"""Most frames skipped in a row."""

_MAX_DEBT = 8
"""In budgets: more than a key frame costs; what one frame took beyond it, as in a stall, is forgiven."""

_NUM_CAPS = 2
"""So many refreshes in a row that age forced tell how long an interval can be: one may have met a pause."""


class DeadlineController:
    """`min_interval` is the fewest frames between two refreshes, 1 where the schedule is left alone.

    Raised step by step to at most `max_interval`, or to what the cap on age allows; there frames are left out
    (`is_skipping`): what the answered ones took beyond their budgets is paid back, up to three in a row. Both
    come back by themselves.
    """

    def __init__(self, budget_ms: float, max_interval: int) -> None:
        self._plain_ms: deque[float] = deque(maxlen=_NUM_PLAIN)
        self._excess_ms: deque[float] = deque(maxlen=_NUM_REFRESHES)
        self._refresh_ms = 0.0
        self._since_refresh = 0
        self._spacing = 1
        self._since_raise = self._since_relief = 0
        self._num_skipped = 0
        self._caps: deque[int] = deque(maxlen=_NUM_CAPS)
        self._debt_ms = 0.0
        self._budget_ms = 0.0
        self._max_interval = max_interval
        self.min_interval = 1
        self.configure(budget_ms, max_interval)

    def configure(self, budget_ms: float | None, max_interval: int) -> None:
        """Use another budget (0: none; None: the same) and longest interval from now on; the times measured
        are kept.
        """
        if budget_ms is not None:
            self._budget_ms = budget_ms
        if max_interval != self._max_interval:
            self._caps.clear()
        self._max_interval = max_interval
        self.min_interval = min(self.min_interval, max_interval) if self._budget_ms else 1
        if not self._is_exhausted:
            self._debt_ms = 0.0

    @property
    def is_skipping(self) -> bool:
        """The next frame is to be left out."""
        is_due = self._is_exhausted and self._debt_ms >= self._budget_ms
        return is_due and self._num_skipped < _MAX_SKIPPED

    def rest(self, *, is_skipped: bool = True, is_refreshed: bool = False) -> None:
        """A frame was skipped, or else idle: it gives its budget to the others. `is_refreshed`: a key frame
        came into use on it.
        """
        if not self._budget_ms:
            return
        self._debt_ms = max(0.0, self._debt_ms - self._budget_ms)
        self._since_refresh += 1
        self._num_skipped += is_skipped
        if is_refreshed:
            self._end_refresh(is_too_old=False)

    def spent(
        self, time_ms: float, *, is_refresh: bool, is_refreshed: bool, is_too_old: bool = False
    ) -> None:
        """An answered frame took so long. `is_refresh`: a key frame was being computed during it;
        `is_refreshed`: it is the first with a new key frame in use; `is_too_old`: because the one before had
        come to the cap on age.
        """
        self._num_skipped = 0
        if not self._budget_ms:
            return
        self._measure(time_ms, is_refresh)
        if is_refreshed:
            self._end_refresh(is_too_old)
        self._since_raise += 1
        wanted = self._interval_within(self._budget_ms)
        if wanted > self.min_interval and self._since_raise >= _RAISE_FRAMES:
            self._since_raise = 0
            step = math.ceil(_STEP * max(self.min_interval, self._spacing))
            self.min_interval = min(wanted, step)
        self.min_interval = min(self.min_interval, self._longest)
        relieved = self._interval_within(_RELIEF * self._budget_ms)
        self._since_relief = self._since_relief + 1 if relieved < self.min_interval else 0
        if self._since_relief >= _LOWER_FRAMES:
            self._since_relief = 0
            self.min_interval = max(relieved, math.floor(self.min_interval / _STEP))
        owed_ms = max(0.0, self._debt_ms + time_ms - self._budget_ms)
        self._debt_ms = min(owed_ms, _MAX_DEBT * self._budget_ms) if self._is_exhausted else 0.0

    @property
    def _is_exhausted(self) -> bool:
        """A longer interval is not to be had."""
        return self._budget_ms > 0 and self.min_interval >= self._longest

    @property
    def _longest(self) -> int:
        """The longest interval to be had."""
        is_capped = len(self._caps) == _NUM_CAPS
        return min(self._max_interval, max(self._caps)) if is_capped else self._max_interval

    def _measure(self, time_ms: float, is_refresh: bool) -> None:
        self._since_refresh += 1
        if is_refresh:
            self._refresh_ms += max(0.0, time_ms - self._plain())
        else:
            self._plain_ms.append(time_ms)

    def _end_refresh(self, is_too_old: bool) -> None:
        self._excess_ms.append(self._refresh_ms)
        self._refresh_ms = 0.0
        self._spacing, self._since_refresh = self._since_refresh, 0
        self._caps.append(self._spacing if is_too_old else self._max_interval)

    def _interval_within(self, budget_ms: float) -> int:
        """The shortest interval whose mean time is within a budget, at most the longest allowed."""
        spare_ms = budget_ms - self._plain()
        if spare_ms <= 0:
            return self._longest
        excess_ms = min(self._excess_ms) if len(self._excess_ms) == _NUM_REFRESHES else 0.0
        return min(self._longest, max(1, math.ceil(excess_ms / spare_ms)))

    def _plain(self) -> float:
        """P; 0, the least it can be, while it is not known."""
        return statistics.median(self._plain_ms) if len(self._plain_ms) > _NUM_PLAIN // 2 else 0.0
