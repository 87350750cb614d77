# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The engine over a frame source, without ROS: every frame is answered in order."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from dff_ros.backends.base import available_cores
from dff_ros.box_file import BoxWriter
from dff_ros.bundle import open_bundle
from dff_ros.closing import Closing
from dff_ros.config import DffConfig
from dff_ros.draw import Caption, Panel, write_png
from dff_ros.errors import ConfigError
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.opening import open_engine
from dff_ros.overlay import Overlay
from dff_ros.report import STAGES, FrameStatistics
from dff_ros.sources import FrameSource, SourceFrame
from dff_ros.tasks import DETECTION, SEGMENTATION, TaskPlan, plan_tasks
from dff_ros.types import Frame, StepResult
from dff_ros.video import VideoWriter


class Runner(Closing):
    """Answers the frames of a source and keeps what a report needs; a context manager.

    `video` takes the annotated panels, `labels_folder` the label maps as `NUMBER.png` of class ids, `boxes`
    the detections (`BoxWriter`); None writes nothing. Raises the errors of bundle, backend, source and
    writers as they are, and ConfigError where a task is off whose answers are to be written.

    Label maps are scored where the source has labels of the bundle's classes, and at its size; pixels without
    an answer (255) count as missed.
    """

    def __init__(
        self,
        config: DffConfig,
        source: FrameSource,
        *,
        video: Path | None,
        labels_folder: Path | None,
        boxes: Path | None = None,
    ) -> None:
        self.source = source
        self._config = config
        self._writer = None if video is None else VideoWriter(video, source.fps)
        self._labels_folder = labels_folder
        self._num_label_files = 0
        self._elapsed_s = 0.0
        self._statistics = FrameStatistics()
        bundle = open_bundle(config.bundle)
        self._spec = bundle.spec
        self._plan = plan_tasks(config, self._spec)
        _check_is_on(SEGMENTATION, self._plan, labels_folder)
        _check_is_on(DETECTION, self._plan, boxes)
        self._box_writer = None if boxes is None else BoxWriter(boxes, self._spec.box_class_names)
        is_scored = SEGMENTATION in self._plan.tasks and source.class_names == self._spec.class_names
        is_scored &= config.segmentation.output_size == 'source'
        self._confusion = ConfusionMatrix(self._spec.num_classes) if is_scored else None
        self._unread = self._unread_tasks() if config.pause_unread else ()
        overlay = Overlay(self._spec, config.overlay.alpha)
        self._panel = Panel(source.size, overlay, interval=config.keyframe.fixed_interval)
        self._engine = open_engine(bundle, config)
        try:
            self._engine.warm_up(source.size)
        except BaseException:
            self._engine.close()
            raise

    def answers(self, num_frames: int | None = None) -> Iterator[StepResult]:
        """The results of the first `num_frames` frames (None: all)."""
        start_s = time.perf_counter()
        for index, item in enumerate(itertools.islice(self.source, num_frames)):
            frame = Frame(image_HW3=item.image_HW3, stamp_ns=item.stamp_ns, frame_id=item.sequence)
            result = self._engine.step(frame, self._unread)
            self._record(index, item, result)
            self._elapsed_s = time.perf_counter() - start_s
            yield result

    def _unread_tasks(self) -> tuple[str, ...]:
        """Tasks whose answers are neither written nor scored."""
        is_read = {
            SEGMENTATION: self._labels_folder is not None or self._confusion is not None,
            DETECTION: self._box_writer is not None,
        }
        return tuple(task for task, is_so in is_read.items() if not is_so and self._writer is None)

    def _record(self, index: int, item: SourceFrame, result: StepResult) -> None:
        timings = dataclasses.asdict(result.timings)
        self._statistics.add(
            is_key=result.is_key,
            latency_ms=result.timings.total_ms,
            age_frames=result.age_frames,
            stages_ms={stage: timings[f'{stage}_ms'] for stage in STAGES},
            reason=result.reason,
            reset_cause=result.reset_cause.value if result.reset_cause else '',
            num_boxes=None if result.detections is None else len(result.detections),
            is_idle=result.is_idle,
            is_refreshed=result.is_refreshed,
            is_skipped=result.is_skipped,
        )
        labels = None if result.segmentation is None else result.segmentation.label_map_HW
        if self._confusion is not None and item.labels_HW is not None and labels is not None:
            self._confusion.update(item.labels_HW, labels)
        if self._writer is not None:
            caption = Caption(
                number=index,
                is_key=result.is_key,
                age_frames=result.age_frames,
                latency_ms=result.timings.total_ms,
            )
            panel = self._panel.draw(item.image_HW3, labels, caption, result.detections)
            self._writer.write(panel, item.stamp_ns)
        if self._labels_folder is not None and labels is not None:
            write_png(self._labels_folder / f'{index:06d}.png', labels)
            self._num_label_files += 1
        if self._box_writer is not None:
            self._box_writer.write(index, (item.image_HW3.shape[0], item.image_HW3.shape[1]), result)

    def written(self) -> list[Path]:
        """The outputs that are there: the video once it is closed, the folder with any label map."""
        writers = (self._writer, self._box_writer)
        paths = [writer.path for writer in writers if writer is not None and writer.is_written]
        return [*paths, self._labels_folder] if self._labels_folder and self._num_label_files else paths

    def report(self) -> dict[str, object]:
        """The figures so far, with the keys of the demo's JSON where they apply; accuracies in percent."""
        mean_ms = self._statistics.mean_latency_ms()
        info, worker = self._engine.backend.info, self._engine.worker
        num_frames = self._statistics.num_frames
        accuracy: dict[str, object] = {'miou': None, 'iou_per_class': None}
        if self._confusion is not None and num_frames:
            accuracy = self._confusion.summary(self._spec.class_names)
        return {
            **self._statistics.summary(),
            'fps': round(num_frames / self._elapsed_s, 2) if self._elapsed_s else None,
            'engine_fps': None if not mean_ms else round(1000 / mean_ms, 2),
            **accuracy,
            'tasks': list(self._plan.tasks),
            'scheduler': self._config.keyframe.scheduler,
            'interval': self._config.keyframe.fixed_interval,
            'source': self.source.name,
            'size': list(self.source.size),
            'bundle': self._config.bundle,
            'backend': info.name,
            'device': info.device,
            'provider': info.provider,
            'precision': info.precision,
            'fallback': info.fallback,
            'flow': self._spec.flow_in_use(self._config.flow),
            'cores': available_cores(),
            'num_threads': info.num_threads,
            'refresh': self._config.refresh,
            'refresh_threads': None if worker is None else worker.info.num_threads,
        }

    def close(self) -> None:
        """Finish the files and free the backend; calling it twice is harmless."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._engine.close)
            for writer in (self._writer, self._box_writer):
                if writer is not None:
                    stack.callback(writer.close)


def _check_is_on(task: str, plan: TaskPlan, target: Path | None) -> None:
    if target is not None and task not in plan.tasks:
        raise ConfigError(f'nothing to write to {target}: {task} does not run, only {", ".join(plan.tasks)}')
