# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What benchmarks/soak.py makes of a run: checks, rows, plot."""

from __future__ import annotations

import platform
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import rclpy

from dff_ros.evaluation.metrics import percentiles

MAX_P99_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Lengths and limits: of a long run by the minute, of a short one by ten seconds."""

    period_s: float
    warm_up_s: float
    max_growth: float

    @classmethod
    def of(cls, seconds: float) -> Plan:
        """From 10 minutes on: 5 of warm-up, 2 %. Below: a third of it, 5 %: memory pools still fill."""
        return cls(60.0, 300.0, 0.02) if seconds >= 600 else cls(10.0, seconds / 3, 0.05)


@dataclass(slots=True)
class Period:
    """What happened in one period."""

    rss_mb: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    sent: int = 0
    answered: int = 0
    faults: Counter[str] = field(default_factory=Counter)


def judge(
    plan: Plan,
    periods: Sequence[Period],
    balance: Mapping[str, int],
    recovery_ms: Mapping[str, Sequence[float]],
    failures: Sequence[str],
) -> dict[str, dict[str, object]]:
    """The checks: what was found, what is allowed."""
    steady = [p for n, p in enumerate(periods) if n * plan.period_s >= plan.warm_up_s and p.rss_mb]
    memory = [statistics.median(period.rss_mb) for period in steady]
    growth = memory[-1] / memory[0] - 1
    p99 = [percentiles(p.latency_ms, (99,))['p99'] for p in steady if len(p.latency_ms) >= 50]
    ratio = max(p99) / statistics.median(p99) if p99 else None
    missing = balance['unaccounted']
    num_faults = sum(sum(period.faults.values()) for period in periods)
    num_recovered = sum(map(len, recovery_ms.values()))
    return {
        'memory_growth': {
            'found': round(growth, 4), 'allowed': plan.max_growth, 'is_good': growth <= plan.max_growth
        },
        'unaccounted': {'found': missing, 'allowed': 0, 'is_good': missing == 0},
        'p99_over_its_median': {
            'found': None if ratio is None else round(ratio, 2),
            'allowed': MAX_P99_RATIO,
            'is_good': ratio is not None and ratio <= MAX_P99_RATIO,
        },
        'faults_without_an_answer_after': {
            'found': num_faults - num_recovered,
            'allowed': 0,
            'is_good': num_faults == num_recovered and not failures,
        },
    }  # fmt: skip


def rows(plan: Plan, periods: Sequence[Period]) -> list[dict[str, object]]:
    """One for each period."""
    found = []
    for number, period in enumerate(periods):
        latency = percentiles(period.latency_ms, (50, 99)) if period.latency_ms else {}
        found.append(
            {
                'from_s': number * plan.period_s,
                'rss_mb': round(statistics.median(period.rss_mb), 1) if period.rss_mb else None,
                **{name: None if value is None else round(value, 1) for name, value in latency.items()},
                'sent': period.sent,
                'answered': period.answered,
                'faults': dict(sorted(period.faults.items())),
            }
        )
    return found


def versions() -> dict[str, str]:
    """Of what may matter."""
    found = {'python': platform.python_version()}
    for name in ('numpy', 'onnxruntime', 'torch', 'dff_ros'):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found | {'rmw': rclpy.get_rmw_implementation_identifier()}


def plot(found: Mapping[str, object], path: Path) -> None:
    """Memory, latency and faults over time."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    entries = [row for row in found['rows'] if row.get('p99') is not None]  # type: ignore[attr-defined]
    at = [row['from_s'] / 60 for row in entries]
    figure, (top, middle, bottom) = pyplot.subplots(3, 1, figsize=(8, 6.5), sharex=True, layout='constrained')
    top.plot(at, [row['rss_mb'] for row in entries], marker='.')
    top.set(ylabel='memory, MB', ylim=(0, 1.1 * max(row['rss_mb'] for row in entries)))
    for name in ('p50', 'p99'):
        middle.plot(at, [row[name] for row in entries], marker='.', label=name)
    middle.set(ylabel='latency, ms', ylim=(0, None))
    middle.legend(frameon=False, fontsize=8)
    kinds = sorted({name for row in entries for name in row['faults']})
    below = np.zeros(len(entries))
    colours = pyplot.get_cmap('tab20')
    for index, kind in enumerate(kinds):
        heights = np.array([row['faults'].get(kind, 0) for row in entries], float)
        width = 0.8 * (at[1] - at[0]) if len(at) > 1 else 0.1
        bottom.bar(at, heights, width, bottom=below, label=kind, color=colours(index))
        below += heights
    bottom.set(xlabel='time, minutes', ylabel='faults')
    bottom.legend(frameon=False, fontsize=7, ncols=4, loc='upper center', bbox_to_anchor=(0.5, -0.35))
    figure.savefig(path, dpi=110)
