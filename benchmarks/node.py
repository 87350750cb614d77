# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The node over real DDS in two hard cases: a machine slowed to half its speed, and four cameras at once.

    python benchmarks/node.py load --cores 2 --out benchmarks/node_load.json --plot docs/images/node_load.png
    python benchmarks/node.py cameras --out benchmarks/node_cameras.json

`load`: one camera; after a third of the time a busy process starts on each of the node's cores, after
another third they end. `cameras`: four cameras; in the second third one of them is silent. The images are
the street's, rendered before; each is published when it is due, and its latency runs from there to the
receipt of its status. Needs ROS 2, as the node does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from arguments import command

from dff_ros.backends.base import available_cores
from dff_ros.config import DffConfig, replace, to_flat, walk
from dff_ros.evaluation.metrics import percentiles
from dff_ros.flags import add_flags, given_flags
from dff_ros.frame_facts import ANSWERED
from dff_ros.ros.children import set_environment
from dff_ros.ros.player import Player
from dff_ros.ros.prepared import prepare
from dff_ros.ros.rig import Rig
from dff_ros.ros.shots import Shot, drops
from dff_ros.sources import open_source

NAMES = ('front', 'left', 'right', 'rear')
PHASES = ('before', 'during', 'after')
_WARM_UP_S = 3.0
_SETTLE_S = 1.0


class Camera:
    """A player of the street, and the figures of what the node told of its frames in parts of a run."""

    def __init__(self, player: Player) -> None:
        self.name = player.camera
        self.player = player
        self.start_s = 0.0
        self._before: Mapping[str, str] = {}

    def begin(self) -> None:
        """Forget the warm-up: what was dropped in it does not count."""
        self._before = next((shot.facts for shot in reversed(self.player.shots) if shot.facts), {})
        self.player.begin()

    def due_s(self, shot: Shot) -> float:
        """When a frame was due, since the start of the run."""
        return shot.due_s - self.start_s

    @property
    def seen(self) -> list[Shot]:
        """The frames that the node told of."""
        return [shot for shot in self.player.shots if shot.told_s is not None]

    def row(self, start_s: float, end_s: float) -> dict[str, object]:
        """The figures of the frames that were due in a part of the run."""
        sent = [shot for shot in self.player.shots if start_s <= self.due_s(shot) < end_s]
        seen = [shot for shot in sent if shot.told_s is not None]
        answered = [shot for shot in seen if shot.facts['state'] in ANSWERED]
        refreshed = [n for n, shot in enumerate(answered) if shot.facts['is_refreshed'] == 'true']
        spacings = [later - earlier for earlier, later in zip(refreshed, refreshed[1:], strict=False)]
        latency = percentiles([latency_ms(shot) for shot in answered], (50, 90, 99, 100))
        return {
            'sent': len(sent),
            'answered': len(answered),
            'dropped': self._drops(start_s, end_s),
            'latency_ms': {name: _rounded(value) for name, value in latency.items()},
            'frames_from_refresh_to_refresh': statistics.median(spacings) if spacings else None,
            'refreshes_put_off': sum(shot.facts['reason'] == 'deadline' for shot in answered),
            'most_pending': max((int(shot.facts['pending']) for shot in seen), default=0),
            'age_ms_mean': _rounded(1e3 * statistics.fmean(float(shot.facts['age_s']) for shot in answered))
            if answered
            else None,
        }

    def _drops(self, start_s: float, end_s: float) -> dict[str, int]:
        """By reason, as the node counts them."""
        before, after = (
            next((shot.facts for shot in reversed(self.seen) if self.due_s(shot) < limit_s), self._before)
            for limit_s in (start_s, end_s)
        )
        return drops(before, after)

    def balance(self) -> dict[str, int]:
        """Over the whole run, as the node counts."""
        facts = self.seen[-1].facts
        names = ('received', 'processed', 'dropped', 'pending', 'lost')
        counts = {name: int(facts[name]) - int(self._before.get(name, 0)) for name in names}
        return {'sent': len(self.player.shots)} | counts


def latency_ms(shot: Shot) -> float:
    """From when a frame was due to its status."""
    return 1e3 * (cast(float, shot.told_s) - shot.due_s)


class Bench:
    """The node as a process of its own, and its cameras in this one."""

    def __init__(
        self, config: DffConfig, names: Sequence[str], cores: Sequence[int], stack: ExitStack
    ) -> None:
        parameters = to_flat(config) | {'cameras': ','.join(names)}
        images = prepare(open_source('street', fps=30.0))
        self._rig = Rig(stack, parameters, images, cameras=names, cores=cores)
        self.cameras = [Camera(player) for player in self._rig.players]
        self.play(_WARM_UP_S, 10.0, lambda at_s: self.cameras)
        for camera in self.cameras:
            camera.begin()

    def play(self, seconds: float, rate_hz: float, awake: Callable[[float], Sequence[Camera]]) -> None:
        """Publish an image of each camera that is awake at every tick; the last is answered at the end."""
        start_s = time.perf_counter()
        for camera in self.cameras:
            camera.start_s = start_s
        for tick in range(round(seconds * rate_hz)):
            due_s = start_s + tick / rate_hz
            time.sleep(max(0.0, due_s - time.perf_counter()))
            for camera in awake(due_s - start_s):
                camera.player.publish(due_s)
            self._rig.child.check()
        time.sleep(_SETTLE_S)


def run_load(config: DffConfig, args: argparse.Namespace) -> dict[str, object]:
    """One camera; in the second third of the time the machine has half its speed."""
    cores = sorted(os.sched_getaffinity(0))
    own, others = cores[: args.cores], cores[args.cores :]
    if not others:
        raise SystemExit(
            f'--cores {args.cores}: the cameras need one of the {len(cores)} cores besides the node'
        )
    config = replace(config, {'num_threads': args.cores, 'budget_ms': config.budget_ms or 1e3 / args.rate})
    part_s = args.seconds / 3
    with ExitStack() as stack:
        bench = Bench(config, [''], own, stack)
        os.sched_setaffinity(0, others)
        threading.Timer(part_s, _busy, (own, part_s)).start()
        bench.play(args.seconds, args.rate, lambda at_s: bench.cameras)
        (camera,) = bench.cameras
    rows = {phase: camera.row(n * part_s, (n + 1) * part_s) for n, phase in enumerate(PHASES)}
    if args.plot is not None:
        _plot(camera, part_s, config.budget_ms, args.plot)
    return {'budget_ms': round(config.budget_ms, 1), 'rows': rows, 'balance': camera.balance()}


def run_cameras(config: DffConfig, args: argparse.Namespace) -> dict[str, object]:
    """Four cameras; in the second third of the time `left` is silent."""
    part_s = args.seconds / 3
    with ExitStack() as stack:
        bench = Bench(config, NAMES, sorted(os.sched_getaffinity(0)), stack)

        def awake(at_s: float) -> list[Camera]:
            is_silent = part_s <= at_s < 2 * part_s
            return [camera for camera in bench.cameras if camera.name != 'left' or not is_silent]

        bench.play(args.seconds, args.rate, awake)
    rows = {
        phase: {camera.name: camera.row(n * part_s, (n + 1) * part_s) for camera in bench.cameras}
        for n, phase in enumerate(PHASES)
    }
    return {'rows': rows, 'balance': {camera.name: camera.balance() for camera in bench.cameras}}


SCENARIOS = {'load': run_load, 'cameras': run_cameras}
RATES_HZ = {'load': 30.0, 'cameras': 10.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a scenario, write and print its JSON."""
    arguments = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(arguments)
    args.rate = args.rate or RATES_HZ[args.scenario]
    set_environment()
    config = replace(DffConfig(), given_flags(args))
    report: dict[str, object] = {
        'command': command(Path(__file__).name, arguments),
        'cores': available_cores(),
        'node_threads': args.cores if args.scenario == 'load' else config.num_threads or available_cores(),
        'size': [480, 360],
        'rate': args.rate,
        'seconds': args.seconds,
        'interval': config.keyframe.interval,
        'refresh': config.refresh,
    }
    text = json.dumps(report | SCENARIOS[args.scenario](config, args), indent=2) + '\n'
    args.out.write_text(text, encoding='utf-8')
    print(text, end='')
    return 0


def _busy(cores: Sequence[int], seconds: float) -> None:
    """A process on each core that takes half of it."""
    for core in cores:
        multiprocessing.get_context('spawn').Process(target=_burn, args=(core, seconds), daemon=True).start()


def _burn(core: int, seconds: float) -> None:
    os.sched_setaffinity(0, [core])
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        pass


def _plot(camera: Camera, part_s: float, budget_ms: float, path: Path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    answered = [shot for shot in camera.seen if shot.facts['state'] in ANSWERED]
    refreshed = [shot for shot in answered if shot.facts['is_refreshed'] == 'true']
    skipped = [camera.due_s(shot) for shot in camera.seen if shot.facts['state'] == 'skipped']
    due_s = [camera.due_s(shot) for shot in answered]
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(8, 5), sharex=True, layout='constrained')
    for axes in (top, bottom):
        axes.axvspan(part_s, 2 * part_s, color='0.9', label='busy processes on its cores')
    top.plot(due_s, [latency_ms(shot) for shot in answered], '.', ms=3, label='answered')
    top.plot(
        [camera.due_s(shot) for shot in refreshed],
        [latency_ms(shot) for shot in refreshed],
        '.',
        ms=5,
        label='new key',
    )
    top.plot(skipped, [0.0] * len(skipped), '|', color='tab:red', label='skipped')
    top.axhline(budget_ms, color='0.5', lw=0.8, label='budget')
    top.set(ylabel='latency, ms', ylim=(0, None))
    top.legend(fontsize=8, ncols=5, loc='upper center', bbox_to_anchor=(0.5, 1.2), frameon=False)
    bottom.plot(due_s, [1e3 * float(shot.facts['age_s']) for shot in answered], lw=0.8)
    bottom.set(xlabel='time, s', ylabel='age of the key frame, ms', ylim=(0, None))
    figure.savefig(path, dpi=110)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('scenario', choices=SCENARIOS)
    parser.add_argument('--rate', type=float, help='of each camera, Hz (default: 30; four: 10)')
    parser.add_argument('--seconds', type=float, default=60.0, help='of the whole run (default: 60)')
    parser.add_argument('--cores', type=int, default=2, help='cores of the node under load (default: 2)')
    parser.add_argument('--plot', type=Path, help='of load: latency and age over time')
    parser.add_argument('--out', type=Path, required=True)
    names = [parameter.name for parameter in walk(DffConfig)]
    add_flags(parser.add_argument_group('settings of the node'), DffConfig, names)
    return parser


if __name__ == '__main__':
    raise SystemExit(main())
