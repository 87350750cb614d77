# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The node over real DDS for half an hour, at 30 Hz, with random faults: `make soak`.

    python benchmarks/soak.py --num_threads 2 --out benchmarks/soak.json --plot docs/images/soak.png

The node is a process of its own; the camera is this one. Every few seconds a fault is drawn from the seed
(benchmarks/soak_faults.py); after each the next good images must be answered. Checked at the end:

- memory: the node's resident memory, median of the last period over that of the first after the warm-up;
- accounts: every image sent was answered, dropped with a reason, or told as lost by the middleware. For this
  the node subscribes reliably and with a queue (`qos_overrides`): of what a best-effort reader of depth 1
  overwrites, the middleware tells nothing;
- latency: p99 of each period after the warm-up, over the median of these; of good images sent while no fault
  was on and none had just been;
- faults: after each an image was answered in time.

Exit code 1 where a check fails; the JSON is written anyway.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import rclpy
from arguments import command
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import Image
from soak_faults import Fault, Turns, draw, noise
from soak_report import Period, Plan, judge, plot, rows, versions
from std_msgs.msg import Header

from dff_ros.backends.base import available_cores
from dff_ros.config import DffConfig, replace, to_flat, walk
from dff_ros.flags import add_flags, given_flags
from dff_ros.frame_facts import ANSWERED
from dff_ros.memory import tune_malloc
from dff_ros.messages import stamp_to_ns
from dff_ros.process_use import resident_mb
from dff_ros.ros.children import own_namespace, set_environment, start_node
from dff_ros.ros.conversions import diagnostic_values, fill_image, ns_to_stamp
from dff_ros.sources import open_source

START_S, RECOVERY_S, SETTLE_S = 120.0, 10.0, 10.0
QUIET_TURNS = 15
"""Good images after a fault before latencies count again."""
QUEUE = 64


class Camera(Node):
    """Sends images, reads what is told of them. `seen` gets (stamp, time, facts) of each status."""

    def __init__(self, namespace: str, images: Sequence[NDArray[np.uint8]], seed: int) -> None:
        super().__init__('camera', namespace=namespace)
        self.random = random.Random(seed)
        self.num_sent = 0
        self.seen: deque[tuple[int, float, Mapping[str, str]]] = deque()
        self.last: Mapping[str, str] = {}
        self._images = images
        self._number = 0
        self._callers: dict[str, object] = {}
        self._publisher = self._make_publisher()
        self.create_subscription(DiagnosticArray, 'dff/status', self._read, QoSProfile(depth=1000))

    def _make_publisher(self) -> object:
        profile = QoSProfile(depth=QUEUE, reliability=ReliabilityPolicy.RELIABLE)
        return self.create_publisher(Image, 'image', profile)

    def _read(self, message: DiagnosticArray) -> None:
        facts = diagnostic_values(message)
        self.last = facts
        self.seen.append((stamp_to_ns(message.header.stamp), time.monotonic(), facts))

    def good(self) -> Image:
        turn = 2 * (len(self._images) - 1)
        place = min(self._number % turn, turn - self._number % turn)  # forward and backward: no cut
        self._number += 1
        header = Header(stamp=ns_to_stamp(time.time_ns()), frame_id='camera')
        return fill_image(Image(), header, self._images[place])

    def send(self, message: Image) -> None:
        """Publish, and count it."""
        self.num_sent += 1
        self._publisher.publish(message)

    def end_camera(self) -> None:
        self._publisher.wait_for_all_acked(Duration(seconds=5))
        self.destroy_publisher(self._publisher)

    def remake_camera(self) -> None:
        self._publisher = self._make_publisher()

    def is_heard(self) -> bool:
        return self._publisher.get_subscription_count() > 0

    def call(self, kind: type, name: str, **fields: object) -> Future:
        if name not in self._callers:
            self._callers[name] = self.create_client(kind, f'dff_node/{name}')
        client = self._callers[name]
        if not client.wait_for_service(RECOVERY_S):
            raise TimeoutError(f'the node has no service {name}')
        return client.call_async(kind.Request(**fields))

    def add_deaf_subscriber(self) -> Callable[[], None]:
        deaf = Node('deaf', namespace=self.get_namespace())  # spun by nobody
        profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        for topic in ('dff/segmentation', 'dff/confidence', 'dff/overlay'):
            deaf.create_subscription(Image, topic, lambda message: None, profile)
        return deaf.destroy_node


class Soak:
    """One run."""

    def __init__(self, args: argparse.Namespace, config: DffConfig, stack: ExitStack) -> None:
        self._args = args
        self.plan = Plan.of(args.seconds)
        images = noise((72, 96), 8) if args.source == 'noise' else street_images()
        tune_malloc()
        rclpy.init(args=[])
        stack.callback(rclpy.try_shutdown)
        namespace = own_namespace('soak')
        self.camera = Camera(namespace, images, args.seed)
        stack.callback(self.camera.destroy_node)
        executor = SingleThreadedExecutor()
        executor.add_node(self.camera)
        thread = threading.Thread(target=_spin, args=(executor,), daemon=True)
        begin_s = time.monotonic()
        parameters = _parameters(config, namespace)
        words = ('--log-level', 'error')
        self.child = start_node(stack, 'dff_node', args.node_module, namespace, parameters, *words)
        thread.start()
        stack.callback(thread.join, 5.0)
        stack.callback(executor.shutdown)
        self._wait(self.camera.is_heard, START_S, 'the node to subscribe')
        self.start_s = self._first_answer() - begin_s
        self.before = self.camera.last
        self.camera.num_sent = 0
        self.periods: list[Period] = []
        self.recovery_ms: dict[str, list[float]] = {}
        self.failures: list[str] = []
        self._sent_s: dict[int, tuple[float, bool]] = {}
        self._begin_s = time.monotonic()
        self._recovering: tuple[str, float] | None = None
        self._num_quiet = 0

    def _wait(self, condition: Callable[[], object], limit_s: float, what: str) -> None:
        end_s = time.monotonic() + limit_s
        while not condition():
            self.child.check()
            if time.monotonic() > end_s:
                raise TimeoutError(
                    f'waited {limit_s:g} s for {what}; the node wrote last:\n{self.child.tail()}'
                )
            time.sleep(0.01)

    def _first_answer(self) -> float:
        """When the first image was answered; those before may be lost, for the two have just met."""
        end_s = time.monotonic() + START_S
        while not (self.camera.seen and self.camera.seen[0][2]['state'] in ANSWERED):
            self.child.check()
            if time.monotonic() > end_s:
                raise TimeoutError(f'no answer in {START_S:g} s; the node wrote last:\n{self.child.tail()}')
            self.camera.send(self.camera.good())
            time.sleep(0.1)
        time.sleep(1.0)  # until what is under way has come
        found_s = self.camera.seen[0][1]
        self.camera.seen.clear()
        return found_s

    def play(self) -> None:
        """Send an image each turn, and faults now and then, until the time is up and all is settled."""
        camera, turns, fault = self.camera, None, None
        faults = draw(camera)
        next_s = 2.0
        for tick in range(round(self._args.seconds * self._args.rate)):
            due_s = tick / self._args.rate
            time.sleep(max(0.0, self._begin_s + due_s - time.monotonic()))
            self.child.check()
            self._look(due_s)
            is_room = due_s < self._args.seconds - RECOVERY_S
            if turns is None and self._recovering is None and due_s >= next_s and is_room:
                fault = next(faults)
                turns = fault.turns(camera)
                self._period(due_s).faults[fault.name] += 1
            turns = self._turn(turns, fault, due_s)
            if turns is None and due_s >= next_s and self._recovering is not None:
                next_s = due_s + min(6.0, max(1.0, camera.random.expovariate(1 / 3.0)))
        self._settle()

    def _turn(self, turns: Turns | None, fault: Fault | None, due_s: float) -> Turns | None:
        """Send what is due; what is left of the fault."""
        if turns is not None and fault is not None:
            try:
                messages = next(turns)
            except StopIteration:
                turns, self._recovering, self._num_quiet = None, (fault.name, time.monotonic()), 0
            else:
                for message in messages:
                    self._send(message, due_s, is_quiet=False)
                return turns
        self._num_quiet += 1
        self._send(self.camera.good(), due_s, is_quiet=self._num_quiet > QUIET_TURNS)
        return None

    def _send(self, message: Image, due_s: float, is_quiet: bool) -> None:
        self._sent_s[stamp_to_ns(message.header.stamp)] = (time.monotonic(), is_quiet)
        self._period(due_s).sent += 1
        self.camera.send(message)

    def _period(self, due_s: float) -> Period:
        number = int(due_s / self.plan.period_s)
        while len(self.periods) <= number:
            self.periods.append(Period())
        return self.periods[number]

    def _look(self, due_s: float) -> None:
        """Take in what was told since the last turn."""
        period = self._period(due_s)
        if len(period.rss_mb) < 1 + (due_s % self.plan.period_s):
            period.rss_mb.append(resident_mb(self.child.pid))
        while self.camera.seen:
            stamp_ns, seen_s, facts = self.camera.seen.popleft()
            sent_s, is_quiet = self._sent_s.pop(stamp_ns, (0.0, False))
            if facts['state'] not in ANSWERED:
                continue
            period.answered += 1
            if is_quiet:
                period.latency_ms.append(1e3 * (seen_s - sent_s))
            if self._recovering is not None and sent_s >= self._recovering[1]:
                name, end_s = self._recovering
                self.recovery_ms.setdefault(name, []).append(1e3 * (seen_s - end_s))
                self._recovering = None
        if self._recovering is not None and time.monotonic() - self._recovering[1] > RECOVERY_S:
            self.failures.append(
                f'no answer in {RECOVERY_S:g} s after {self._recovering[0]} at {due_s:.0f} s'
            )
            self._recovering = None
        if len(self._sent_s) > 10_000:  # what was superseded is never told by itself
            self._sent_s = dict(islice(self._sent_s.items(), 5_000, None))

    def _settle(self) -> None:
        """Until every image is accounted for, or time is up; one more image brings the newest counts."""
        end_s = time.monotonic() + SETTLE_S
        while time.monotonic() < end_s and self.balance()['unaccounted']:
            self._send(self.camera.good(), self._args.seconds - 1e-3, is_quiet=False)
            time.sleep(0.2)
            self._look(self._args.seconds - 1e-3)

    def balance(self) -> dict[str, int]:
        """Since the first answer, as the node counts."""
        names = ('received', 'processed', 'dropped', 'pending', 'lost')
        counts = {name: int(self.camera.last[name]) - int(self.before[name]) for name in names}
        told = counts['processed'] + counts['dropped'] + counts['lost']
        return {'sent': self.camera.num_sent, **counts, 'unaccounted': self.camera.num_sent - told}

    def by(self, prefix: str) -> dict[str, int]:
        """Counts of the node by reason, cause or kind."""
        found = {name for name in self.camera.last if name.startswith(prefix)}
        counts = {name: int(self.camera.last[name]) - int(self.before.get(name, 0)) for name in sorted(found)}
        return {name.removeprefix(prefix): number for name, number in counts.items() if number}


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        return


def _parameters(config: DffConfig, namespace: str) -> dict[str, object]:
    override = f'qos_overrides.{namespace}/image.subscription'
    return {**to_flat(config), f'{override}.reliability': 'reliable', f'{override}.depth': QUEUE}


def street_images() -> list[NDArray[np.uint8]]:
    """Five seconds of the simulated street."""
    return [frame.image_HW3 for frame in islice(open_source('street', fps=30.0), 150)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run, write the JSON, print the checks."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = _parser().parse_args(arguments)
    set_environment()
    config = replace(DffConfig(), given_flags(args))
    with ExitStack() as stack:
        soak = Soak(args, config, stack)
        soak.play()
        report = {
            'command': command(Path(__file__).name, arguments),
            'bundle': config.bundle if args.node_module == 'dff_ros.ros.node' else args.node_module,
            'cores': available_cores(),
            'versions': versions(),
            'seed': args.seed,
            'seconds': args.seconds,
            'rate': args.rate,
            'start_s': round(soak.start_s, 1),
            'warm_up_s': soak.plan.warm_up_s,
            'checks': judge(soak.plan, soak.periods, soak.balance(), soak.recovery_ms, soak.failures),
            'balance': soak.balance(),
            'dropped': soak.by('dropped.'),
            'resets': soak.by('resets.'),
            'stamps': soak.by('stamps.'),
            'recovery_ms': {
                name: {'times': len(values), 'longest': round(max(values), 1)}
                for name, values in sorted(soak.recovery_ms.items())
            },
            'failures': soak.failures,
            'rows': rows(soak.plan, soak.periods),
        }
    args.out.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    if args.plot is not None:
        plot(report, args.plot)
    checks = report['checks']
    for name, check in checks.items():
        print(
            f'{"good" if check["is_good"] else "BAD "} {name}: {check["found"]} (allowed {check["allowed"]})'
        )
    return 0 if all(check['is_good'] for check in checks.values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--seconds', type=float, default=1800.0, help='of the run (default: 1800)')
    parser.add_argument('--rate', type=float, default=30.0, help='of the camera, Hz (default: 30)')
    parser.add_argument('--seed', type=int, default=0, help='of the faults (default: 0)')
    parser.add_argument('--source', choices=('street', 'noise'), default='street', help='of the images')
    parser.add_argument('--node-module', default='dff_ros.ros.node', help='what is run as the node')
    parser.add_argument('--plot', type=Path, help='memory, latency and faults over time')
    parser.add_argument('--out', type=Path, required=True)
    names = [parameter.name for parameter in walk(DffConfig)]
    add_flags(parser.add_argument_group('settings of the node'), DffConfig, names)
    return parser


if __name__ == '__main__':
    raise SystemExit(main())
