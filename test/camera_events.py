# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What may happen to cameras on an engine: images, resets, errors, new settings, late jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from dff_ros.config import BUDGET_OVER, SCHEDULERS, DetectionConfig, KeyframeConfig, SegmentationConfig
from dff_ros.tasks import TaskPlan

VERBS = ('extract', 'propagate', 'predict', 'detect')


@dataclass(frozen=True)
class Setup:
    """What may be set while an engine runs."""

    config: KeyframeConfig = field(default_factory=KeyframeConfig)
    plan: TaskPlan = field(default_factory=TaskPlan)
    budget_ms: float = 0.0


@dataclass(frozen=True)
class Event:
    """An image of a camera, `tenths` of a second after its last one, and what happens around it.

    `before`: `reset` or `refresh`, with ` all` of all, or a Setup taken from now on. `change`: what is new
    about the image. `fails_in`: the verb that fails on it, `None` none. `is_begun`: the worker begins its
    next job. `num_done` jobs end before the image; another one while its `during` is computed. `cost_ms` is
    what each verb takes.
    """

    camera: int = 0
    tenths: int = 1
    before: str | Setup = ''
    change: str = ''
    fails_in: str = ''
    is_begun: bool = False
    num_done: int = 0
    during: str = ''
    cost_ms: int = 1


def cadence(tasks: tuple[str, ...], segmentation: int, detection: int) -> TaskPlan:
    """A plan that runs the tasks on every so many frames."""
    return TaskPlan(
        tasks=tasks,
        segmentation=SegmentationConfig(every=segmentation),
        detection=DetectionConfig(every=detection),
    )


thorough = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
"""Of the properties that take a rig."""

CONFIGS = st.builds(
    KeyframeConfig,
    scheduler=st.sampled_from([*SCHEDULERS, 'budget']),
    interval=st.integers(1, 6),
    max_age_s=st.sampled_from([0.35, 1.0, 2.0]),
    max_interval=st.integers(1, 12),
    max_gap_s=st.sampled_from([1.0, 2.0]),
    period_s=st.sampled_from([0.2, 0.5]),
    motion_px=st.sampled_from([30.0, 60.0]),
    residual=st.sampled_from([8.0, 15.0]),
    disagreement=st.sampled_from([0.05, 0.12]),
    budget_over=st.sampled_from(BUDGET_OVER),
    key_ratio=st.sampled_from([0.05, 0.9]),
    compute_per_s=st.sampled_from([0.0, 3.0]),
)
PLANS = st.builds(
    cadence,
    st.sampled_from([('segmentation', 'detection'), ('segmentation', 'detection'), ('detection',)]),
    st.sampled_from([1, 1, 2]),
    st.sampled_from([1, 1, 3]),
)
UNLIMITED = st.builds(Setup, CONFIGS, PLANS)
SETUPS = st.builds(Setup, CONFIGS, PLANS, st.sampled_from([0.0, 0.0, 3.0, 8.0]))
"""With and without a deadline."""


def events(
    setups: st.SearchStrategy[Setup] = SETUPS, size: int = 40, cameras: Sequence[int] = (0, 0, 0, 0, 1, 2, 3)
) -> st.SearchStrategy[list[Event]]:
    """Events of all kinds, `size` in the mean; most are plain images of one of `cameras`."""
    event = st.builds(
        Event,
        camera=st.sampled_from(cameras),
        tenths=st.sampled_from([1] * 40 + [0, 0, 2, 2, 3, 3, 4, 9, 15, 25, -1]),
        before=rarely('reset', 'reset all', 'refresh', 'refresh all', 'setup').flatmap(
            lambda kind: setups if kind == 'setup' else st.just(kind)
        ),
        change=rarely('size', 'encoding', 'frame_id', 'scene', 'scene'),
        fails_in=rarely(*VERBS),
        is_begun=st.booleans(),
        num_done=st.sampled_from([0, 0, 0, 1, 2]),
        during=st.sampled_from(['', '', '', '', *VERBS]),
        cost_ms=st.integers(0, 10),
    )
    return st.lists(event, min_size=size // 2, max_size=2 * size)


def rarely(*kinds: str) -> st.SearchStrategy[str]:
    """One of them, or mostly none."""
    return st.sampled_from([''] * 80 + [*kinds])
