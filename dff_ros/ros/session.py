# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""One run of the demo: starts camera and node, follows them until the end, and accounts for every frame."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rich.console import Console

from dff_ros.config import to_flat
from dff_ros.errors import DffError
from dff_ros.memory import tune_malloc
from dff_ros.report import LiveView, print_report
from dff_ros.ros.accounts import node_drops
from dff_ros.ros.children import Child, own_namespace, set_environment, start_node
from dff_ros.ros.interrupts import Interrupts, interrupt
from dff_ros.ros.monitor import Monitor
from dff_ros.ros.outputs import Outputs, Settings
from dff_ros.ros.publishers import TASK_TOPICS

_NODE_START_S = 120.0
_CAMERA_START_S = 60.0
_END_S = 60.0
_SIGNAL_END_S = 5.0
_STALL_S = 3.0
_QUIET_S = 1.0
_SPIN_S = 0.05


def run_session(settings: Settings) -> int:
    """Run it and write the results, also after a signal or where the camera fails; 0, 2 where the camera
    failed, or 128 + the number of the signal.

    Raises DffError where the node fails or an output cannot be written; no process is left in any case.
    """
    console = Console()
    with Interrupts() as interrupts, ExitStack() as stack:
        outputs = Outputs(settings, console, stack)
        session = Session(settings, outputs, console, interrupts, stack)
        report = session.run()
        print_report(console, 'dff demo', report)
    for path in outputs.written:
        console.print(f'wrote {path}', soft_wrap=True, highlight=False)
    if session.camera_failure:
        print(f'error: {session.camera_failure}', file=sys.stderr)
        return 2
    return 128 + interrupts.number if interrupts.number else 0


class Session:
    """Owns the processes and the monitor of one run; `stack` ends them."""

    def __init__(
        self,
        settings: Settings,
        outputs: Outputs,
        console: Console,
        interrupts: Interrupts,
        stack: ExitStack,
    ) -> None:
        self._settings = settings
        self._outputs = outputs
        self._console = console
        self._interrupts = interrupts
        self._stack = stack
        self._children: list[Child] = []
        self._namespace = own_namespace('demo')
        self.camera_failure = ''
        set_environment()
        tune_malloc()
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        self._monitor = Monitor(
            outputs.add,
            is_live=settings.rate_hz > 0,
            box_class_names=settings.spec.box_class_names,
            namespace=self._namespace,
        )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._monitor)
        stack.callback(self._monitor.destroy_node)
        stack.callback(self._executor.shutdown)

    def run(self) -> dict[str, object]:
        """Start, follow, drain, score; the report. DffError, with its last lines, where a process fails to
        start, or the node later; a camera that fails later ends the run and is told in `camera_failure`.
        """
        domain = os.environ['ROS_DOMAIN_ID']
        self._console.print(
            f'ROS_DOMAIN_ID={domain}, topics in {self._namespace}', soft_wrap=True, highlight=False
        )
        with self._console.status('starting the node'):
            node = self._start('dff_node', self._settings.node_module, to_flat(self._settings.config))
            self._wait_for(self._is_node_up, 'dff_node subscribed to image', _NODE_START_S, node)
        # Only now: what the node answers before the monitor has found its outputs would be lost.
        with self._console.status('starting the camera'):
            camera = self._start('dff_camera', 'dff_ros.ros.camera', self._camera_parameters())
            self._wait_for(self._has_begun, 'the first image', _CAMERA_START_S, camera)
        start_s = time.monotonic()
        self._follow(camera)
        duration_s = time.monotonic() - start_s
        crash = camera.failure()
        camera.interrupt()
        self._drain(camera)
        self.camera_failure = self._monitor.camera_error or crash
        if not self._monitor.is_finished:
            camera.stop(_QUIET_S)  # it has had its time to end in order
        self._stop_children()
        self._monitor.flush()
        return self._outputs.write(self._monitor, duration_s)

    def _camera_parameters(self) -> dict[str, object]:
        settings = self._settings
        return {
            'source': settings.request.text,
            'split': settings.request.split,
            'seed': settings.request.seed,
            'rate': float(settings.rate_hz),
            'min_subscribers': 2,  # the node and the monitor
        }

    def _start(self, name: str, module: str, parameters: Mapping[str, object]) -> Child:
        child = start_node(self._stack, name, module, self._namespace, parameters)
        self._children.append(child)
        return child

    def _is_node_up(self) -> bool:
        names = {info.node_name for info in self._monitor.get_subscriptions_info_by_topic('image')}
        outputs = (TASK_TOPICS[task] for task in self._settings.spec.tasks)
        return 'dff_node' in names and self._monitor.has_found('dff/status', *outputs)

    def _has_begun(self) -> bool:
        return self._monitor.num_published > 0

    def _spin(self) -> None:
        self._executor.spin_once(timeout_sec=_SPIN_S)
        self._children[0].check()  # the node; what the camera published counts even where it has failed
        self._outputs.check()

    def _wait_for(self, condition: Callable[[], bool], what: str, limit_s: float, child: Child) -> None:
        deadline_s = time.monotonic() + limit_s
        while not condition():
            self._spin()
            if self._interrupts.number:
                interrupt(self._interrupts.number)
            if child.exit_code is not None:
                deadline_s = min(deadline_s, time.monotonic() + _QUIET_S)
            if time.monotonic() > deadline_s:
                child.check()
                raise DffError(
                    f'no sign of {what} in {limit_s:g} s; {child.name} wrote last:\n{child.tail()}'
                )

    def _follow(self, camera: Child) -> None:
        """Until the time is up, the source has ended, the camera has failed, or a signal came."""
        limit_s = self._settings.duration_s
        end_s = math.inf if limit_s is None else time.monotonic() + limit_s
        with LiveView(self._console, 'dff demo') as view:
            while camera.exit_code is None and not self._interrupts.number and time.monotonic() < end_s:
                self._spin()
                if self._monitor.is_finished:
                    return
                view.update(self._facts())

    def _facts(self) -> dict[str, str]:
        monitor = self._monitor
        statistics = monitor.statistics
        latency = statistics.latency_ms()
        num_frames = statistics.num_frames
        ratio = f'{100 * statistics.num_keys / num_frames:.0f} %' if num_frames else '-'
        facts = {
            'published': monitor.num_published,
            'processed': monitor.num_processed,
            'dropped': sum(node_drops(monitor.totals).values()),
            'frames/s': monitor.fps(recent=True),
            'keys': ratio,
            'p50 ms': latency['p50'],
            'p99 ms': latency['p99'],
            'mean age': statistics.age_frames_mean(),
        }
        return {name: _text(value) for name, value in facts.items()}

    def _drain(self, camera: Child) -> None:
        """Until the camera has told how many images it published and the node has settled all it received;
        a few seconds at most after a signal or where the camera has stalled.
        """
        start_s = time.monotonic()
        while time.monotonic() < start_s + (_SIGNAL_END_S if self._interrupts.number else _END_S):
            self._spin()
            quiet_s = time.monotonic() - max(start_s, self._monitor.last_news_s)
            if self._monitor.is_finished:
                if self._monitor.is_settled or quiet_s > self._patience_s():
                    return
            elif quiet_s > (_STALL_S if camera.exit_code is None else _QUIET_S):
                return

    def _patience_s(self) -> float:
        """Silence after which what is missing was lost: an image in work takes no longer than the slowest
        did.
        """
        slowest_ms = self._monitor.statistics.latency_ms()['p99'] or 0.0
        return max(_QUIET_S, 3 * slowest_ms / 1000)

    def _stop_children(self) -> None:
        for child in reversed(self._children):
            child.stop()
        self._children.clear()


def _text(value: object) -> str:
    if isinstance(value, float):
        return f'{value:.1f}'
    return '-' if value is None else str(value)
