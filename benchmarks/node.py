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
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import rclpy
import yaml
from arguments import command
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dff_ros.backends.base import available_cores
from dff_ros.cameras import topic_of
from dff_ros.config import DffConfig, replace, to_flat, walk
from dff_ros.evaluation.metrics import percentiles
from dff_ros.flags import add_flags, given_flags
from dff_ros.frame_facts import ANSWERED
from dff_ros.messages import stamp_to_ns
from dff_ros.ros.children import Child
from dff_ros.ros.conversions import diagnostic_values, fill_image, ns_to_stamp
from dff_ros.ros.session import set_environment
from dff_ros.sources import open_source

NAMES = ('front', 'left', 'right', 'rear')
PHASES = ('before', 'during', 'after')
_NUM_IMAGES = 150
_START_S = 60.0
_WARM_UP_S = 3.0
_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the node told of a frame that was due so many seconds after the start."""

    due_s: float
    latency_ms: float
    facts: Mapping[str, str]


class Camera:
    """A simulated camera, and the reader of what the node tells of its frames."""

    def __init__(self, name: str, node: Node, images: Sequence[NDArray[np.uint8]]) -> None:
        self.name = name
        self.seen: list[Seen] = []
        self.sent_s: list[float] = []
        self._before: Mapping[str, str] = {}
        self._images = images
        self._message = Image()
        self._due: dict[int, tuple[float, float]] = {}
        self._publisher = node.create_publisher(Image, topic_of(name, 'image'), 1)
        topic = topic_of(name, 'dff/status')
        self._reader = node.create_subscription(DiagnosticArray, topic, self._read, QoSProfile(depth=200))

    @property
    def is_found(self) -> bool:
        """The node listens, and is listened to."""
        return self._publisher.get_subscription_count() > 0 and self._reader.get_publisher_count() > 0

    def begin(self) -> None:
        """Forget the warm-up: what was dropped in it does not count."""
        self._before = self.seen[-1].facts if self.seen else {}
        self.seen.clear()
        self.sent_s.clear()

    def publish(self, due_s: float, start_s: float) -> None:
        """Send the next image. They run forward and backward, so none is a cut."""
        turn = 2 * (len(self._images) - 1)
        place = min(len(self.sent_s) % turn, turn - len(self.sent_s) % turn)
        stamp_ns = time.time_ns()
        self._due[stamp_ns] = (start_s, due_s)
        self.sent_s.append(due_s)
        header = Header(stamp=ns_to_stamp(stamp_ns), frame_id=self.name or 'camera')
        self._publisher.publish(fill_image(self._message, header, self._images[place]))

    def _read(self, message: DiagnosticArray) -> None:
        start_s, due_s = self._due.pop(stamp_to_ns(message.header.stamp), (0.0, -1.0))
        if due_s >= 0.0:
            latency_ms = 1e3 * (time.monotonic() - start_s - due_s)
            self.seen.append(Seen(due_s, latency_ms, diagnostic_values(message)))

    def row(self, start_s: float, end_s: float) -> dict[str, object]:
        """The figures of the frames that were due in a part of the run."""
        seen = [one for one in self.seen if start_s <= one.due_s < end_s]
        answered = [one for one in seen if one.facts['state'] in ANSWERED]
        refreshed = [index for index, one in enumerate(answered) if one.facts['is_refreshed'] == 'true']
        spacings = [later - earlier for earlier, later in zip(refreshed, refreshed[1:], strict=False)]
        latency = percentiles([one.latency_ms for one in answered], (50, 90, 99, 100))
        return {
            'sent': sum(start_s <= due_s < end_s for due_s in self.sent_s),
            'answered': len(answered),
            'dropped': self._drops(start_s, end_s),
            'latency_ms': {name: _rounded(value) for name, value in latency.items()},
            'frames_from_refresh_to_refresh': statistics.median(spacings) if spacings else None,
            'refreshes_put_off': sum(one.facts['reason'] == 'deadline' for one in answered),
            'most_pending': max((int(one.facts['pending']) for one in seen), default=0),
            'age_ms_mean': _rounded(1e3 * statistics.fmean(float(one.facts['age_s']) for one in answered))
            if answered
            else None,
        }

    def _drops(self, start_s: float, end_s: float) -> dict[str, int]:
        """By reason, as the node counts them."""

        def until(limit_s: float) -> dict[str, int]:
            facts = next((one.facts for one in reversed(self.seen) if one.due_s < limit_s), self._before)
            prefix = 'dropped.'
            return {name.removeprefix(prefix): int(n) for name, n in facts.items() if name.startswith(prefix)}

        before = until(start_s)
        return {reason: count - before.get(reason, 0) for reason, count in until(end_s).items()}

    def balance(self) -> dict[str, int]:
        """Over the whole run, as the node counts."""
        facts = self.seen[-1].facts
        names = ('received', 'processed', 'dropped', 'pending', 'lost')
        counts = {name: int(facts[name]) - int(self._before.get(name, 0)) for name in names}
        return {'sent': len(self.sent_s)} | counts


class Bench:
    """The node as a process of its own, and its cameras in this one."""

    def __init__(
        self, config: DffConfig, names: Sequence[str], cores: Sequence[int], stack: ExitStack
    ) -> None:
        images = _street_images()
        rclpy.init(args=[])
        stack.callback(rclpy.try_shutdown)
        namespace = f'/dff_bench_{secrets.token_hex(4)}'  # no other node may answer, or be answered
        self._peer = Node('cameras', namespace=namespace)
        stack.callback(self._peer.destroy_node)
        self.cameras = [Camera(name, self._peer, images) for name in names]
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._peer)
        with tempfile.NamedTemporaryFile('w', suffix='.yaml') as file, _on_cores(cores):
            parameters = to_flat(config) | {'cameras': ','.join(names)}
            yaml.safe_dump({'/**': {'ros__parameters': parameters}}, file)
            file.flush()
            remap = ['-r', f'__ns:={namespace}']
            arguments = ['--ros-args', *remap, '--params-file', file.name, '--log-level', 'warn']
            self._child = stack.enter_context(Child('dff_node', 'dff_ros.ros.node', arguments))
            self._wait_until_found()
        thread = threading.Thread(target=self._executor.spin, daemon=True)
        thread.start()
        stack.callback(thread.join, 5.0)
        stack.callback(self._executor.shutdown)
        self.play(_WARM_UP_S, 10.0, lambda at_s: self.cameras)
        for camera in self.cameras:
            camera.begin()

    def play(self, seconds: float, rate_hz: float, awake: Callable[[float], Sequence[Camera]]) -> None:
        """Publish an image of each camera that is awake at every tick; the last is answered at the end."""
        start_s = time.monotonic()
        for tick in range(round(seconds * rate_hz)):
            due_s = tick / rate_hz
            time.sleep(max(0.0, start_s + due_s - time.monotonic()))
            for camera in awake(due_s):
                camera.publish(due_s, start_s)
            self._child.check()
        time.sleep(_SETTLE_S)

    def _wait_until_found(self) -> None:
        end_s = time.monotonic() + _START_S
        while not all(camera.is_found for camera in self.cameras):
            self._child.check()
            if time.monotonic() > end_s:
                raise TimeoutError(f'the node did not come up in {_START_S:g} s:\n{self._child.tail()}')
            time.sleep(0.05)


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


def _street_images() -> list[NDArray[np.uint8]]:
    return [frame.image_HW3 for frame in islice(open_source('street', fps=30.0), _NUM_IMAGES)]


@contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
    """What is started within runs on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


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

    answered = [one for one in camera.seen if one.facts['state'] in ANSWERED]
    refreshed = [one for one in answered if one.facts['is_refreshed'] == 'true']
    skipped = [one.due_s for one in camera.seen if one.facts['state'] == 'skipped']
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(8, 5), sharex=True, layout='constrained')
    for axes in (top, bottom):
        axes.axvspan(part_s, 2 * part_s, color='0.9', label='busy processes on its cores')
    top.plot(
        [one.due_s for one in answered], [one.latency_ms for one in answered], '.', ms=3, label='answered'
    )
    top.plot(
        [one.due_s for one in refreshed], [one.latency_ms for one in refreshed], '.', ms=5, label='new key'
    )
    top.plot(skipped, [0.0] * len(skipped), '|', color='tab:red', label='skipped')
    top.axhline(budget_ms, color='0.5', lw=0.8, label='budget')
    top.set(ylabel='latency, ms', ylim=(0, None))
    top.legend(fontsize=8, ncols=5, loc='upper center', bbox_to_anchor=(0.5, 1.2), frameon=False)
    spacing = [1e3 * float(one.facts['age_s']) for one in answered]
    bottom.plot([one.due_s for one in answered], spacing, lw=0.8)
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
