# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The node measured from outside, over real DDS, by the method of ros2_benchmark: peak rate, then latency at
fixed rates.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dff_ros.errors import DffError
from dff_ros.frame_facts import DROPPED
from dff_ros.process_use import processor_s, resident_mb
from dff_ros.ros import shots as figures
from dff_ros.ros.peak import Probe, find_peak
from dff_ros.ros.rig import Rig
from dff_ros.ros.shots import Shot

CAMERA_HZ = 30.0
"""`missed` is told of the fixed rate next to this one, and `steady` of this."""

_MIN_IMAGES = 20
_MIN_LONE_IMAGES = 60
_WARM_UP_IMAGES = 24
_IDLE_S = 2.0
_PARTS = 10
_SETTLE_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: each rate for `seconds`, the peak unless `has_peak` is false, and for `steady_s`, if
    it is above 0, whether the cost of an image stays what it was.
    """

    rates_hz: Sequence[float]
    seconds: float
    has_peak: bool = True
    steady_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Use:
    """Processor time (s) and physical memory (10^6 bytes) of the node's process at a moment."""

    at_s: float
    processor_s: float
    resident_mb: float

    @classmethod
    def of(cls, pid: int) -> Use:
        """Now."""
        return cls(time.perf_counter(), processor_s(pid), resident_mb(pid))


class NodeBench:
    """Measures the node of a rig."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._facts: Mapping[str, str] = {}
        self._probes: list[dict[str, object]] = []

    def run(self, plan: Plan) -> dict[str, object]:
        """`node_overhead_ms`, `missed` and `peak_fps`, and under `node` all else; see docs/benchmarks.md."""
        idle = self._idle()
        lone = self._one_at_a_time(plan.seconds)
        rates = {f'{rate_hz:g}': self.at_rate(rate_hz, plan.seconds) for rate_hz in plan.rates_hz}
        overhead = figures.overhead(lone)
        lone_fps = figures.answered_hz(lone)
        peak = self._peak(plan.seconds, lone_fps) if plan.has_peak else None
        camera = min(plan.rates_hz, key=lambda rate_hz: abs(rate_hz - CAMERA_HZ))
        return {
            'node_overhead_ms': overhead['overhead_ms'],
            'missed': rates[f'{camera:g}']['missed'],
            'peak_fps': None if peak is None else round(peak.fps, 1),
            'node': {
                'missed_at_hz': camera,
                'overhead': overhead,
                'rates': rates,
                'peak': None if peak is None else _told(peak),
                'probes': self._probes,
                'one_at_a_time': {'images': len(lone), 'fps': round(lone_fps, 1)},
                'start_s': round(self._rig.start_s, 2),
                **idle,
                'rss_mb': round(resident_mb(self._rig.child.pid), 1),
                'seconds': plan.seconds,
                'steady': [self.at_rate(CAMERA_HZ, plan.steady_s / _PARTS) for _ in range(_PARTS)]
                if plan.steady_s
                else [],
            },
        }

    def _one_at_a_time(self, seconds: float) -> list[Shot]:
        """Images that the node is free for, after some by which the runtime has met their size; what became
        of each.
        """
        player, check = self._rig.player, self._rig.child.check
        player.greet(check)
        guess_hz = figures.answered_hz(player.ask(_WARM_UP_IMAGES, check)[_WARM_UP_IMAGES // 2 :])
        shots = player.ask(max(_MIN_LONE_IMAGES, round(guess_hz * seconds)), check)
        self._facts = shots[-1].facts
        for facts in (shot.facts for shot in shots if shot.facts['state'] == DROPPED):
            raise DffError(f'the node dropped an image ({facts["reason"]}): {facts["detail"]}')
        return shots

    def at_rate(self, rate_hz: float, seconds: float) -> dict[str, object]:
        """The figures of images sent at a rate."""
        before, use = self._facts, Use.of(self._rig.child.pid)
        shots = self._play(rate_hz, seconds)
        after = Use.of(self._rig.child.pid)
        counts = figures.count(shots)
        return {
            **counts,
            'dropped': figures.drops(before, self._facts),
            'received': _difference(before, self._facts, 'received'),
            'played_hz': round(figures.played_hz(shots), 1),
            'latency_ms': figures.latency_ms(shots),
            'overhead': figures.overhead(shots),
            'cpu_s': round(after.processor_s - use.processor_s, 2),
            'cpu_ms_per_image': figures.ms_per(after.processor_s - use.processor_s, counts['answered']),
            'rss_mb': round(after.resident_mb, 1),
        }

    def _play(self, rate_hz: float, seconds: float) -> list[Shot]:
        number = max(_MIN_IMAGES, round(rate_hz * seconds))
        shots = self._rig.player.play(rate_hz, number, self._rig.child.check, _SETTLE_S)
        self._facts = next((shot.facts for shot in reversed(shots) if shot.facts), self._facts)
        return shots

    def _peak(self, seconds: float, guess_fps: float) -> Probe | None:
        return find_peak(lambda rate_hz: self._probe(rate_hz, seconds), 0.5 * guess_fps, 1.5 * guess_fps)

    def _probe(self, rate_hz: float, seconds: float) -> Probe:
        shots = self._play(rate_hz, seconds)
        counts = figures.count(shots)
        found = Probe(rate_hz, counts['sent'], counts['missed'], figures.played_hz(shots))
        self._probes.append(_told(found))
        return found

    def _idle(self) -> dict[str, object]:
        """What the node takes while there are no images."""
        before = Use.of(self._rig.child.pid)
        time.sleep(_IDLE_S)
        after = Use.of(self._rig.child.pid)
        share = (after.processor_s - before.processor_s) / (after.at_s - before.at_s)
        return {'idle_cpu_percent': round(100 * share, 1), 'idle_rss_mb': round(after.resident_mb, 1)}


def _told(probe: Probe) -> dict[str, object]:
    return {
        'rate_hz': round(probe.rate_hz, 1),
        'sent': probe.num_sent,
        'missed': probe.num_missed,
        'played_hz': round(probe.played_hz, 1),
        'is_held': probe.is_held,
    }


def _difference(before: Mapping[str, str], after: Mapping[str, str], name: str) -> int:
    return int(after.get(name, 0)) - int(before.get(name, 0))
