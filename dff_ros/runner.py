"""The engine over a frame source, without ROS: every frame is answered in order."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from dff_ros.backends.base import available_cores, open_backend
from dff_ros.bundle import open_bundle
from dff_ros.config import DffConfig
from dff_ros.draw import Caption, Panel, write_png
from dff_ros.engine import Engine
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.report import STAGES, FrameStatistics
from dff_ros.sources import FrameSource, SourceFrame
from dff_ros.types import Frame, StepResult
from dff_ros.video import VideoWriter


class Runner:
    """Answers the frames of a source and keeps what a report needs; a context manager.

    `video` takes the annotated panels, `labels_folder` the label maps as `NUMBER.png` of class ids; None
    writes nothing. Raises the errors of bundle, backend, source and writers as they are.
    """

    def __init__(
        self, config: DffConfig, source: FrameSource, *, video: Path | None, labels_folder: Path | None
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
        is_scored = source.class_names == self._spec.class_names
        self._confusion = ConfusionMatrix(self._spec.num_classes) if is_scored else None
        self._panel = Panel(
            source.size,
            self._spec.class_names,
            np.array(self._spec.class_colours, np.uint8),
            alpha=config.overlay.alpha,
            interval=config.keyframe.interval,
        )
        self._backend = open_backend(bundle, config)
        try:
            self._engine: Engine[Any, Any] = Engine(self._backend, config.keyframe)
            self._backend.warm_up(source.size)
        except BaseException:
            self._backend.close()
            raise

    def answers(self, num_frames: int | None = None) -> Iterator[StepResult]:
        """The results of the first `num_frames` frames (None: all)."""
        start_s = time.perf_counter()
        for index, item in enumerate(itertools.islice(self.source, num_frames)):
            frame = Frame(image_HW3=item.image_HW3, stamp_ns=item.stamp_ns, frame_id=item.sequence)
            result = self._engine.step(frame)
            self._record(index, item, result)
            self._elapsed_s = time.perf_counter() - start_s
            yield result

    def _record(self, index: int, item: SourceFrame, result: StepResult) -> None:
        timings = dataclasses.asdict(result.timings)
        labels = result.segmentation.label_map_HW
        self._statistics.add(
            is_key=result.is_key,
            latency_ms=result.timings.total_ms,
            age_frames=result.age_frames,
            stages_ms={stage: timings[f'{stage}_ms'] for stage in STAGES},
            reset_cause=result.reset_cause.value if result.reset_cause else '',
        )
        if self._confusion is not None and item.labels_HW is not None:
            self._confusion.update(item.labels_HW, labels)
        if self._writer is not None:
            caption = Caption(
                number=index,
                is_key=result.is_key,
                age_frames=result.age_frames,
                latency_ms=result.timings.total_ms,
            )
            self._writer.write(self._panel.draw(item.image_HW3, labels, caption), item.stamp_ns)
        if self._labels_folder is not None:
            write_png(self._labels_folder / f'{index:06d}.png', labels)
            self._num_label_files += 1

    def written(self) -> list[Path]:
        """The outputs that are there: the video once it is closed, the folder with any label map."""
        paths = [self._writer.path] if self._writer is not None and self._writer.is_written else []
        return [*paths, self._labels_folder] if self._labels_folder and self._num_label_files else paths

    def report(self) -> dict[str, object]:
        """The figures so far, with the keys of the demo's JSON where they apply; accuracies in percent."""
        mean_ms = self._statistics.mean_latency_ms()
        info = self._backend.info
        num_frames = self._statistics.num_frames
        accuracy: dict[str, object] = {'miou': None, 'iou_per_class': None}
        if self._confusion is not None and num_frames:
            accuracy = self._confusion.summary(self._spec.class_names)
        return {
            **self._statistics.summary(),
            'fps': round(num_frames / self._elapsed_s, 2) if self._elapsed_s else None,
            'engine_fps': None if not mean_ms else round(1000 / mean_ms, 2),
            **accuracy,
            'interval': self._config.keyframe.interval,
            'source': self.source.name,
            'size': list(self.source.size),
            'bundle': self._config.bundle,
            'backend': info.name,
            'device': info.device,
            'flow': self._spec.flow_in_use(self._config.flow),
            'cores': available_cores(),
            'num_threads': info.num_threads,
        }

    def close(self) -> None:
        """Finish the video and free the backend; calling it twice is harmless."""
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._backend.close()

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
