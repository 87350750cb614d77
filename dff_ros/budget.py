# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A scheduler that holds a mean share of key frames, or a mean of compute per second, over another's rule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dff_ros.scheduling import Limits, Reason, Rule, RuleScheduler, Signal
from dff_ros.types import Action, Decision

_STEP = 0.2
"""Change of the logarithm of the threshold by a key frame too many. A larger one follows the content less."""

_NS_PER_S = 1e9

_MIN_THRESHOLD, _MAX_THRESHOLD = 1 / 8, 64.0
"""In multiples of the rule's own limit. What a still camera saves up has an end; its noise stays below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What frames may cost: a share `key_ratio` of key frames, or, if `compute_per_s` is above 0, so much
    compute in a second of image stamps, in key frames, of which a propagated frame is `propagate_cost`.
    """

    key_ratio: float
    compute_per_s: float = 0.0
    propagate_cost: float = 0.0

    def excess(self, is_key: bool, seconds: float) -> float:
        """By how much a frame cost more than it may, in key frames; the frame after it came `seconds`
        later.
        """
        if self.compute_per_s > 0:
            return (1.0 if is_key else self.propagate_cost) - self.compute_per_s * seconds
        return float(is_key) - self.key_ratio


class BudgetScheduler:
    """Refreshes where the pressure of a rule reaches a threshold that each frame moves: up by a key frame,
    down by a frame without one, so that in the mean they cost what is allowed.

    The sum of what frames cost above the allowance is the logarithm of the threshold, so the mean over N
    frames is off by a constant over N, unless the limits force more key frames or there is nothing to refresh
    for. It knows what frames cost from the signals, never from a clock, and a stream
    without a key frame begins anew: a replay gives the same decisions.
    """

    def __init__(self, rule: Rule, allowance: Allowance) -> None:
        self._rule = rule
        self._allowance = allowance
        self._scheduler = RuleScheduler(rule)
        self._last: Signal | None = None
        self._log_threshold = 0.0

    @property
    def threshold(self) -> float:
        """In multiples of the rule's own limit."""
        return math.exp(self._log_threshold)

    @property
    def limits(self) -> Limits:
        """What forces a key frame."""
        return self._rule.limits

    def decide(self, signal: Signal | None) -> Decision:
        """As the rule alone, with the threshold in place of 1."""
        self._account(signal)
        decision = self._scheduler.decide(signal)
        if signal is None or self.limits.forced(signal) is not None:
            return decision
        pressure = self._rule.pressure(signal)
        if pressure.value >= self.threshold:
            reason = pressure.reason if pressure.value >= 1 else Reason.SPARE_BUDGET
            return Decision(Action.REFRESH, reason)
        return Decision(Action.PROPAGATE, Reason.OVER_BUDGET if pressure.value >= 1 else self._rule.within)

    def _account(self, signal: Signal | None) -> None:
        """Move the threshold by what the frame before cost."""
        last, self._last = self._last, signal
        if signal is None:
            self._log_threshold = 0.0
        elif last is not None:
            # Seen from the outcome: a refresh may have been put off, or have ended in the background.
            is_key = signal.key_number != last.key_number
            seconds = (signal.stamp_ns - last.stamp_ns) / _NS_PER_S
            moved = self._log_threshold + _STEP * self._allowance.excess(is_key, seconds)
            self._log_threshold = min(max(moved, math.log(_MIN_THRESHOLD)), math.log(_MAX_THRESHOLD))
