# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""From configurations to rows of figures."""

from __future__ import annotations

import dataclasses
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from dff_ros.backends.base import Backend, available_cores, open_backend
from dff_ros.benchmark.conversions import conversions_ms
from dff_ros.benchmark.machine import (
    device_memory_mb,
    energy_counters,
    machine_name,
    peak_memory_mb,
    warp_bandwidth,
)
from dff_ros.benchmark.models import PREFIX, untrained_bundle
from dff_ros.benchmark.rates import take_images
from dff_ros.benchmark.stages import Bench, Image, Turns, stage_cost, stage_medians
from dff_ros.bundle import Bundle, open_bundle
from dff_ros.config import DffConfig, replace
from dff_ros.contenders import count_gmac
from dff_ros.errors import BackendUnavailableError, ConfigError
from dff_ros.methods import Setup
from dff_ros.model_spec import HAND_MADE_FLOWS
from dff_ros.opening import open_engine
from dff_ros.sources import STREET, open_source
from dff_ros.tasks import plan_tasks

_MIN_TURNS = 5
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is measured: each of `configs` at each of `sizes`, (height, width), and at each of `intervals`.

    `data`, `split`, `seed`: the source of the images; one that is no street has a size of its own, and
    `sizes` is empty. `seconds`: for each config and size.
    """

    configs: Sequence[DffConfig]
    sizes: Sequence[tuple[int, int]]
    intervals: Sequence[int]
    seconds: float
    data: str = STREET
    split: str | None = None
    seed: int = 0


Tell = Callable[[str, float], None]
"""Is told what is measured, and the share of it that is done."""


def run_sweep(sweep: Sweep, tell: Tell) -> list[dict[str, object]]:
    """A row for each configuration. Raises the errors of bundle, backend and source."""
    rows: list[dict[str, object]] = []
    sizes: Sequence[tuple[int, int] | None] = sweep.sizes or [None]
    cases = list(itertools.product(sizes, sweep.configs))
    for number, (size, config) in enumerate(cases):
        images = _images(sweep, size)
        name = f'{config.bundle} {images[0].shape[1]}x{images[0].shape[0]}'

        def told(share: float, number: int = number, name: str = name) -> None:
            tell(name, (number + share) / len(cases))

        told(0.0)
        with opened(config, images, sweep.intervals, lambda text: tell(text, 0.0)) as (bench, bundle):
            bench.warm_up()
            _take_turns(bench, sweep.seconds, told)
            rows += [_row(bench, bundle, config, interval) for interval in sweep.intervals]
    return rows


def run_minutes(config: DffConfig, sweep: Sweep, minutes: int, tell: Tell) -> dict[str, object]:
    """The engine without a pause: what a frame costs in each minute."""
    found = []
    images = _images(sweep, sweep.sizes[0] if sweep.sizes else None)
    with opened(config, images, [config.keyframe.interval], lambda text: tell(text, 0.0)) as (bench, bundle):
        bench.warm_up()
        start_s = time.monotonic()
        for minute in range(minutes):
            turns = Turns()
            bench.dff = {config.keyframe.interval: turns}
            while time.monotonic() - start_s < (minute + 1) * _MINUTE_S:
                bench.engine_turn(config.keyframe.interval)
                tell(f'minute {minute + 1}', (time.monotonic() - start_s) / (minutes * _MINUTE_S))
            found.append(
                {
                    'minute': minute + 1,
                    'frames': len(turns.frames_ms),
                    'ms_per_frame': round(turns.ms, 3),
                    'latency_ms': turns.latency_ms(),
                    'memory_mb': round(peak_memory_mb(), 1),
                }
            )
        facts = _facts(bench, bundle, config, config.keyframe.interval)
    costs = [float(str(row['ms_per_frame'])) for row in found]
    return {**facts, 'minutes': found, 'last_over_first': round(costs[-1] / costs[0], 3)}


@contextmanager
def opened(
    config: DffConfig, images: Sequence[Image], intervals: Sequence[int], report: Callable[[str], None]
) -> Iterator[tuple[Bench, Bundle]]:
    """A bench of a configuration, closed at the end."""
    if config.keyframe.scheduler != 'fixed':
        raise ConfigError(
            f'keyframe.scheduler: got {config.keyframe.scheduler!r}; equation (7) and the turns of '
            'dff bench take fixed, and other schedules are compared by `dff eval --schedulers`'
        )
    size = images[0].shape[0], images[0].shape[1]
    path = config.bundle
    if path.startswith(PREFIX):
        path = str(untrained_bundle(path, size, report))
    bundle = open_bundle(path)
    config = replace(config, {'bundle': path})
    with ExitStack() as stack:
        engine = open_engine(bundle, config)
        stack.callback(engine.close)
        backend: Backend[Any, Any] = engine.backend
        if engine.worker is not None:
            backend = open_backend(bundle, replace(config, {'refresh': 'inline'}))
            stack.callback(backend.close)
        warper = _open_warper(bundle, config)
        if warper is not None:
            stack.callback(warper.close)
        plan = plan_tasks(config, bundle.spec)
        yield (
            Bench(engine, backend, plan, config.keyframe, intervals, images, warper, energy_counters()),
            bundle,
        )


def _open_warper(bundle: Bundle, config: DffConfig) -> Backend[Any, Any] | None:
    """Flow of DIS goes to the graph `warp`. None where the flow in use does so too, and without OpenCV."""
    if bundle.spec.flow_in_use(config.flow) in HAND_MADE_FLOWS:
        return None
    try:
        return open_backend(
            bundle, replace(config, {'flow': 'dis', 'correction': False, 'refresh': 'inline'})
        )
    except BackendUnavailableError:
        return None


def _take_turns(bench: Bench, seconds: float, told: Callable[[float], None]) -> None:
    start_s = time.monotonic()
    for number in itertools.count(1):
        bench.turn()
        share = (time.monotonic() - start_s) / seconds
        told(min(1.0, share))
        if share >= 1.0 and number >= _MIN_TURNS:
            return


def _images(sweep: Sweep, size: tuple[int, int] | None) -> list[Image]:
    fps = 30.0 if sweep.data == STREET else None
    return take_images(open_source(sweep.data, split=sweep.split, seed=sweep.seed, size=size, fps=fps))


def _row(bench: Bench, bundle: Bundle, config: DffConfig, interval: int) -> dict[str, object]:
    """The figures of an interval."""
    dff = bench.dff[interval]
    stages = stage_medians(bench.stages_ms)
    cost = stage_cost(stages)
    speedup, eq7 = bench.per_frame.ms / dff.ms, cost.speedup(interval)
    propagated_ms = statistics.median(bench.propagated_ms) if bench.propagated_ms else None
    overhead = None if propagated_ms is None else round(propagated_ms - cost.propagate - cost.predict, 3)
    return {
        **_facts(bench, bundle, config, interval),
        'stages_ms': stages,
        'per_frame_fps': round(bench.per_frame.fps, 2),
        'dff_fps': round(dff.fps, 2),
        'speedup': round(speedup, 3),
        'eq7': round(eq7, 3),
        'speedup_over_eq7': round(speedup / eq7, 3),
        'latency_ms': dff.latency_ms(),
        'per_frame_latency_ms': bench.per_frame.latency_ms(),
        'conversions_ms': conversions_ms((bench.images[0].shape[0], bench.images[0].shape[1])),
        'engine_overhead_ms': overhead,
        'frames': len(dff.frames_ms),
        'memory_mb': round(peak_memory_mb(), 1),
        'device_memory_mb': _rounded(device_memory_mb()),
        'joules_per_frame': _joules(bench, interval),
        'warp_bandwidth': warp_bandwidth(bench.backend.info.name, bench.backend.info.device),
    }


def _facts(bench: Bench, bundle: Bundle, config: DffConfig, interval: int) -> dict[str, object]:
    """What was measured, on what."""
    info = bench.backend.info
    size = bench.images[0].shape[0], bench.images[0].shape[1]
    return {
        'machine': machine_name(info.device),
        'cores': available_cores(),
        'backend': info.name,
        'precision': info.precision,
        'size': [size[1], size[0]],
        'interval': interval,
        'bundle': config.bundle,
        'is_untrained': config.bundle.startswith(PREFIX),
        'feature_net': bundle.spec.feature_net,
        'flow': bundle.spec.flow_in_use(config.flow),
        'tasks': list(bench.plan.tasks),
        'confidence': bench.plan.segmentation.confidence,
        'refresh': config.refresh,
        'threads': info.num_threads,
        'device': info.device,
        'runtime': info.runtime,
        'provider': info.provider,
        'gmac': _gmac(bundle, config, size, bench.plan.tasks),
    }


def _gmac(
    bundle: Bundle, config: DffConfig, size: tuple[int, int], tasks: Sequence[str]
) -> dict[str, float] | None:
    """10^9 multiply-adds of each stage; None where torch, which counts them, is not installed."""
    setup = Setup(config.flow, config.correction)
    counted = [count_gmac(bundle.spec, size, setup, task) for task in tasks]
    if not counted or counted[0] is None:
        return None
    cost = dataclasses.asdict(counted[0])
    cost['predict'] = sum(one.predict for one in counted if one is not None)
    return {name: round(value, 3) for name, value in cost.items()}


def _joules(bench: Bench, interval: int) -> dict[str, float] | None:
    """Of a frame, per frame and by Deep Feature Flow; None where the platform does not tell."""
    if not bench.energy:
        return None
    dff = bench.dff[interval]
    return {
        'per_frame': round(bench.per_frame.joules / len(bench.per_frame.frames_ms), 3),
        'dff': round(dff.joules / len(dff.frames_ms), 3),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def header(command: str) -> dict[str, object]:
    """What goes before the rows of a file: the command, and when and with what it was run."""
    return {
        'command': command,
        'version': version('dff_ros'),
        'date': time.strftime('%Y-%m-%d'),
        'load_average': round(os.getloadavg()[0], 2),
    }
