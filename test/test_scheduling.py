"""The fixed scheduler, decision by decision."""

from __future__ import annotations

import pytest

from dff_ros.config import KeyframeConfig
from dff_ros.scheduling import Signal, make_scheduler
from dff_ros.types import Action, Decision


@pytest.mark.parametrize(
    ('signal', 'decision'),
    [
        (None, Decision(Action.REFRESH_NOW, 'no_key')),
        (Signal(1, 0.1), Decision(Action.PROPAGATE, 'within_interval')),
        (Signal(4, 0.4), Decision(Action.PROPAGATE, 'within_interval')),
        (Signal(5, 0.5), Decision(Action.REFRESH, 'interval')),
        (Signal(9, 0.5), Decision(Action.REFRESH, 'interval')),
        (Signal(1, 1.0), Decision(Action.PROPAGATE, 'within_interval')),
        (Signal(1, 1.001), Decision(Action.REFRESH_NOW, 'max_age')),
        (Signal(5, 1.001), Decision(Action.REFRESH_NOW, 'max_age')),  # waiting wins over the background
    ],
)
def test_fixed_interval(signal, decision):
    assert make_scheduler(KeyframeConfig(interval=5, max_age_s=1.0)).decide(signal) == decision
