# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The key-frame scheduler that a config asks for, and whether a bundle can serve it."""

from __future__ import annotations

from collections.abc import Callable

from dff_ros.budget import Allowance, BudgetScheduler
from dff_ros.config import BUDGET_OVER, SCHEDULERS, DffConfig, KeyframeConfig
from dff_ros.errors import ConfigError
from dff_ros.model_spec import ModelSpec
from dff_ros.rules import FixedRule, LearnedRule, MotionRule, PeriodRule, ResidualRule
from dff_ros.scheduling import KeyFrameScheduler, Limits, Rule, RuleScheduler

BUDGET = 'budget'


def make_scheduler(config: KeyframeConfig) -> KeyFrameScheduler:
    """A new scheduler, for one stream."""
    if config.scheduler != BUDGET:
        return RuleScheduler(_RULES[config.scheduler](config))
    allowance = Allowance(
        key_ratio=config.key_ratio,
        compute_per_s=config.compute_per_s,
        propagate_cost=config.propagate_cost,
    )
    return BudgetScheduler(_RULES[config.budget_over](config), allowance)


def check_scheduler(config: DffConfig, spec: ModelSpec) -> None:
    """ConfigError where a bundle, with the flow that is set, cannot serve the scheduler."""
    keyframe = config.keyframe
    lacking = _lacking(spec, spec.flow_in_use(config.flow))
    choices: dict[str, tuple[str, ...]] = {'scheduler': SCHEDULERS}
    if keyframe.scheduler == BUDGET:
        choices['budget_over'] = BUDGET_OVER
    for setting, known in choices.items():
        asked = getattr(keyframe, setting)
        if asked in lacking:
            served = ', '.join(name for name in known if name not in lacking)
            raise ConfigError(
                f'keyframe.{setting}: got {asked!r}, but {lacking[asked]}; it can serve {served}'
            )


def _lacking(spec: ModelSpec, flow: str) -> dict[str, str]:
    """The schedulers that a bundle cannot serve, and why."""
    lacking = {}
    if flow == 'zero':
        lacking['motion'] = 'with flow zero there is no motion to see'
    if not spec.quality_channels:
        lacking['learned'] = 'the bundle has no net that predicts disagreement'
    return lacking


def _fixed(config: KeyframeConfig) -> Rule:
    return FixedRule(limits=Limits(max_age_s=config.max_age_s), interval=config.interval)


def _period(config: KeyframeConfig) -> Rule:
    return PeriodRule(
        limits=Limits(max_age_s=config.max_age_s),
        period_s=config.period_s,
        max_interval=config.max_interval,
    )


def _motion(config: KeyframeConfig) -> Rule:
    limits = Limits.of(config)
    return MotionRule(limits=limits, motion_px=config.motion_px, min_coverage=config.min_coverage)


def _residual(config: KeyframeConfig) -> Rule:
    return ResidualRule(limits=Limits.of(config), residual=config.residual)


def _learned(config: KeyframeConfig) -> Rule:
    return LearnedRule(limits=Limits.of(config), disagreement=config.disagreement)


_RULES: dict[str, Callable[[KeyframeConfig], Rule]] = {
    'fixed': _fixed,
    'period': _period,
    'motion': _motion,
    'residual': _residual,
    'learned': _learned,
}
