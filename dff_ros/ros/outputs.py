# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the demo writes: video, still, figures and accuracy."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dff_ros.backends.base import available_cores
from dff_ros.config import DffConfig
from dff_ros.draw import Caption, write_png
from dff_ros.errors import DffError
from dff_ros.model_spec import ModelSpec
from dff_ros.recorder import Recorder, Shot
from dff_ros.report import write_json
from dff_ros.ros.answer import Answer
from dff_ros.ros.monitor import Monitor
from dff_ros.scoring import score
from dff_ros.sources import FrameSource, SourceRequest
from dff_ros.spool import LabelSpool
from dff_ros.tasks import plan_tasks

_MIN_RATE_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a demo is to do. `rate_hz` 0 waits for each answer; `duration_s` None ends with the source."""

    config: DffConfig
    spec: ModelSpec
    request: SourceRequest
    source: FrameSource
    rate_hz: float
    duration_s: float | None
    out: Path
    node_module: str


class Outputs:
    """Takes the answers of a run and writes demo.mp4, demo.png and demo.json; `stack` closes what is open."""

    def __init__(self, settings: Settings, console: Console, stack: ExitStack) -> None:
        self.written: list[Path] = []
        self._tasks = plan_tasks(settings.config, settings.spec).tasks
        self._settings = settings
        self._console = console
        is_sized = settings.config.segmentation.output_size == 'source'
        self._is_scored = is_sized and settings.source.class_names == settings.spec.class_names
        try:
            settings.out.mkdir(parents=True, exist_ok=True)
            for name in ('demo.mp4', 'demo.json', 'demo.png'):
                # An earlier run's results must not pass for this one's.
                (settings.out / name).unlink(missing_ok=True)
        except OSError as error:
            raise DffError(f'cannot write to {settings.out}: {error.strerror}') from error
        self._spool = stack.enter_context(LabelSpool())
        self._recorder = stack.enter_context(
            Recorder(
                settings.out / 'demo.mp4',
                settings.source.fps,
                settings.spec,
                alpha=settings.config.overlay.alpha,
                interval=settings.config.keyframe.fixed_interval,
            )
        )

    def check(self) -> None:
        """Raise what writing the video failed with, if it did."""
        self._recorder.check()

    def add(self, answer: Answer) -> None:
        """Keep an answered frame for the video and the accuracy; never blocks."""
        if answer.facts is None or answer.index is None:
            return
        if self._is_scored and answer.label_map_HW is not None:
            self._spool.add(answer.index, answer.label_map_HW)
        if answer.image_HW3 is not None:
            caption = Caption(
                number=answer.index,
                is_key=answer.facts['is_key'] == 'true',
                age_frames=int(answer.facts['age_frames']),
                latency_ms=answer.latency_ms,
            )
            shot = Shot(
                image_HW3=answer.image_HW3,
                label_map_HW=answer.label_map_HW,
                detections=answer.detections,
                caption=caption,
                stamp_ns=answer.stamp_ns,
            )
            self._recorder.put(shot)

    def write(self, monitor: Monitor, duration_s: float) -> dict[str, object]:
        """Finish the video, score the label maps, write the figures; the report that demo.json holds."""
        self._recorder.close()
        out = self._settings.out
        self._warn_of_slow_camera(monitor.camera_fps())
        report = self._report(monitor, duration_s)
        write_json(out / 'demo.json', report)
        self.written.append(out / 'demo.json')
        if self._recorder.still is not None:
            write_png(out / 'demo.png', self._recorder.still)
            self.written += [out / 'demo.mp4', out / 'demo.png']
        return report

    def _warn_of_slow_camera(self, fps: float | None) -> None:
        asked = self._settings.rate_hz
        if fps is not None and fps < _MIN_RATE_SHARE * asked:
            self._console.print(
                f'warning: the camera reached {fps:.1f} of the {asked:g} frames/s asked for',
                soft_wrap=True,
                highlight=False,
            )

    def _report(self, monitor: Monitor, duration_s: float) -> dict[str, object]:
        settings = self._settings
        accounts = monitor.accounts()
        return {
            'published': accounts.published,
            **monitor.statistics.summary(),
            'dropped': accounts.drops(),
            'fps': _rounded(monitor.fps()),
            'camera_fps': _rounded(monitor.camera_fps()),
            **self._accuracy(),
            'tasks': list(self._tasks),
            'scheduler': settings.config.keyframe.scheduler,
            'interval': settings.config.keyframe.fixed_interval,
            'source': settings.source.name,
            'size': list(settings.source.size),
            'bundle': settings.config.bundle,
            'backend': monitor.totals.get('backend', settings.config.backend),
            'flow': settings.spec.flow_in_use(settings.config.flow),
            'refresh': settings.config.refresh,
            'cores': available_cores(),
            'rate': settings.rate_hz,
            'seed': settings.request.seed,
            'duration_s': round(duration_s, 2),
            'video_skipped': self._recorder.num_skipped,
        }

    def _accuracy(self) -> dict[str, object]:
        """mIoU over every answered frame, against the labels that the source gives for its number."""
        if not self._is_scored or not len(self._spool):
            return {'miou': None, 'iou_per_class': None}
        spec = self._settings.spec
        confusion = score(self._spool, self._settings.request, spec.num_classes, self._console)
        return confusion.summary(spec.class_names)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
