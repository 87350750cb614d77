"""One run of the demo: starts camera and node, follows them, accounts for every frame, writes the results."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.progress import track

from dff_ros.bundle import Bundle, open_bundle
from dff_ros.config import DffConfig, to_flat
from dff_ros.draw import Caption, write_png
from dff_ros.errors import DffError
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.recorder import Recorder
from dff_ros.report import LiveView, num_cores, print_report, write_json
from dff_ros.ros.children import Child
from dff_ros.ros.monitor import Answer, Monitor
from dff_ros.ros.process import tune_malloc
from dff_ros.sources import FrameSource
from dff_ros.spool import LabelSpool

_NODE_START_S = 120.0
_CAMERA_START_S = 60.0
_END_S = 60.0
_QUIET_S = 1.0
_SPIN_S = 0.05
_MAX_DOMAIN_ID = 101  # above it, DDS ports run into those the system gives away


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a demo is to do. `rate_hz` 0 waits for each answer; `duration_s` None ends with the source."""

    config: DffConfig
    source: FrameSource
    source_text: str
    split: str
    seed: int
    rate_hz: float
    duration_s: float | None
    out: Path


def run_session(settings: Settings) -> int:
    """Run it; returns 0, or 128 + the number of the signal that ended it early. Results are written in both cases."""
    console = Console()
    bundle = open_bundle(settings.config.bundle)
    with Interrupts() as interrupts, ExitStack() as stack:
        session = Session(settings, bundle, console, interrupts, stack)
        report = session.run()
        print_report(console, 'dff demo', report)
    for path in session.written:
        console.print(f'wrote {path}', soft_wrap=True, highlight=False)
    return 128 + interrupts.number if interrupts.number else 0


class Interrupts:
    """SIGINT and SIGTERM ask for an orderly end; a second one raises KeyboardInterrupt. A context manager."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number


class Session:
    """Owns the processes, the monitor and the outputs of one run; `stack` ends them."""

    def __init__(
        self, settings: Settings, bundle: Bundle, console: Console, interrupts: Interrupts, stack: ExitStack
    ) -> None:
        self.written: list[Path] = []
        self._settings = settings
        self._spec = bundle.spec
        self._console = console
        self._interrupts = interrupts
        self._children: list[Child] = []
        self._is_scored = settings.source.class_names == bundle.spec.class_names
        settings.out.mkdir(parents=True, exist_ok=True)
        for name in ('demo.mp4', 'demo.json', 'demo.png'):
            (settings.out / name).unlink(missing_ok=True)  # an earlier run's results must not pass for this one's
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='dff_demo_')))
        self._spool = stack.enter_context(LabelSpool())
        self._env = _set_environment()
        config = settings.config
        self._recorder = stack.enter_context(
            Recorder(
                settings.out / 'demo.mp4',
                settings.source.fps,
                self._spec,
                alpha=config.overlay.alpha,
                interval=config.keyframe.interval,
            )
        )
        self._stack = stack
        tune_malloc()
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        self._monitor = Monitor(self._on_answer, is_live=settings.rate_hz > 0)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._monitor)
        stack.callback(self._monitor.destroy_node)
        stack.callback(self._executor.shutdown)

    def run(self) -> dict[str, object]:
        """Start, follow, drain, score; the report. DffError, with its last lines, where a process fails."""
        with self._console.status('starting the node'):
            node = self._start('dff_node', 'dff_ros.ros.node', to_flat(self._settings.config))
            self._wait_for(self._is_node_up, 'dff_node to subscribe to the images', _NODE_START_S, node)
        with self._console.status('starting the camera'):
            camera = self._start('dff_camera', 'dff_ros.ros.camera', self._camera_parameters())
            self._wait_for(lambda: self._monitor.num_published > 0, 'the first image', _CAMERA_START_S, camera)
        start_s = time.monotonic()
        self._follow()
        duration_s = time.monotonic() - start_s
        camera.interrupt()
        self._drain(camera)
        self._stop_children()
        self._monitor.flush()
        self._recorder.close()
        return self._write_results(duration_s)

    def _camera_parameters(self) -> dict[str, object]:
        settings = self._settings
        return {
            'source': settings.source_text,
            'split': settings.split,
            'seed': settings.seed,
            'rate': float(settings.rate_hz),
            'duration_s': float(settings.duration_s or 0.0),
            'min_subscribers': 2,  # the node and the monitor
        }

    def _start(self, name: str, module: str, parameters: Mapping[str, object]) -> Child:
        path = self._folder / f'{name}.yaml'
        path.write_text(yaml.safe_dump({'/**': {'ros__parameters': dict(parameters)}}), encoding='utf-8')
        child = Child(name, module, ['--ros-args', '--params-file', str(path)], self._env)
        self._stack.enter_context(child)
        self._children.append(child)
        return child

    def _is_node_up(self) -> bool:
        names = {info.node_name for info in self._monitor.get_subscriptions_info_by_topic('image')}
        outputs = ('dff/segmentation', 'dff/status')
        return 'dff_node' in names and all(self._monitor.count_publishers(topic) for topic in outputs)

    def _spin(self) -> None:
        self._executor.spin_once(timeout_sec=_SPIN_S)
        for child in self._children:
            child.check()
        self._recorder.check()

    def _wait_for(self, condition: Callable[[], bool], what: str, limit_s: float, child: Child) -> None:
        deadline_s = time.monotonic() + limit_s
        while not condition():
            self._spin()
            if self._interrupts.number:
                raise KeyboardInterrupt
            if time.monotonic() > deadline_s:
                raise DffError(
                    f'waited {limit_s:g} s in vain for {what}; the last lines of {child.name}:\n{child.tail()}'
                )

    def _follow(self) -> None:
        """Until the camera has ended by itself, or a signal came."""
        with LiveView(self._console, 'dff demo') as view:
            while not self._monitor.is_finished and not self._interrupts.number:
                self._spin()
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
            'dropped': sum(monitor.node_drops().values()),
            'frames/s': monitor.fps(recent=True),
            'keys': ratio,
            'p50 ms': latency['p50'],
            'p99 ms': latency['p99'],
            'mean age': statistics.age_frames_mean(),
        }
        return {name: _text(value) for name, value in facts.items()}

    def _drain(self, camera: Child) -> None:
        """Until the camera has told how many images it published and the node has settled all it received."""
        deadline_s = time.monotonic() + _END_S
        while time.monotonic() < deadline_s:
            self._spin()
            if not self._monitor.is_finished:
                if camera.exit_code is not None and self._quiet_s() > _QUIET_S:
                    return
            elif self._monitor.is_settled or self._quiet_s() > self._patience_s():
                return

    def _quiet_s(self) -> float:
        return time.monotonic() - self._monitor.last_news_s

    def _patience_s(self) -> float:
        """Silence after which what is missing was lost: an image in work takes no longer than the slowest did."""
        slowest_ms = self._monitor.statistics.latency_ms()['p99'] or 0.0
        return max(_QUIET_S, 3 * slowest_ms / 1000)

    def _stop_children(self) -> None:
        for child in reversed(self._children):
            child.stop()
        self._children.clear()

    def _on_answer(self, answer: Answer) -> None:
        if answer.label_map_HW is None or answer.facts is None or answer.index is None:
            return
        if self._is_scored:
            self._spool.add(answer.index, answer.label_map_HW)
        if answer.image_HW3 is not None:
            caption = Caption(
                number=answer.index,
                is_key=answer.facts['is_key'] == 'true',
                age_frames=int(answer.facts['age_frames']),
                latency_ms=answer.latency_ms,
            )
            self._recorder.put(answer.image_HW3, answer.label_map_HW, caption, answer.stamp_ns)

    def _write_results(self, duration_s: float) -> dict[str, object]:
        out = self._settings.out
        report = self._report(duration_s)
        write_json(out / 'demo.json', report)
        self.written.append(out / 'demo.json')
        if self._recorder.still is not None:
            write_png(out / 'demo.png', self._recorder.still)
            self.written += [out / 'demo.mp4', out / 'demo.png']
        return report

    def _report(self, duration_s: float) -> dict[str, object]:
        monitor, settings = self._monitor, self._settings
        fps = monitor.fps()
        return {
            'published': monitor.num_published,
            **monitor.statistics.summary(),
            'dropped': monitor.drops(),
            'fps': None if fps is None else round(fps, 2),
            **self._accuracy(),
            'interval': settings.config.keyframe.interval,
            'source': settings.source.name,
            'size': list(settings.source.size),
            'bundle': settings.config.bundle,
            'backend': monitor.totals.get('backend', settings.config.backend),
            'flow': settings.config.flow,
            'cores': num_cores(),
            'rate': settings.rate_hz,
            'seed': settings.seed,
            'duration_s': round(duration_s, 2),
            'video_skipped': self._recorder.num_skipped,
        }

    def _accuracy(self) -> dict[str, object]:
        """mIoU over every answered frame, against the labels that the source gives for its number."""
        if not self._is_scored or not len(self._spool):
            return {'miou': None, 'iou_per_class': None}
        confusion = ConfusionMatrix(self._spec.num_classes)
        for index, label_map in track(self._spool, 'scoring', len(self._spool), console=self._console):
            labels = self._settings.source.labels(index)
            if labels is not None:
                confusion.update(labels, label_map)
        return confusion.summary(self._spec.class_names)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f'{value:.1f}'
    return '-' if value is None else str(value)


def _set_environment() -> dict[str, str]:
    """Set up this process for its own ROS graph over shared memory, where the user has not; the same for children."""
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, _MAX_DOMAIN_ID)))
    profile = find_share_file('config/fastdds_shm.xml')
    if profile is not None:
        os.environ.setdefault('FASTRTPS_DEFAULT_PROFILES_FILE', str(profile))
    return dict(os.environ)
