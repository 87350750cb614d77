# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Build the TensorRT engines of a bundle for images of some sizes, on the machine that will run them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from dff_ros.backends.base import backend_over
from dff_ros.backends.onnx_device import open_device_runner
from dff_ros.backends.use import GraphUse
from dff_ros.bundle import Bundle
from dff_ros.confidence import ConfidenceRule
from dff_ros.config import DffConfig, replace
from dff_ros.tasks import DETECTION, SEGMENTATION

if TYPE_CHECKING:
    from dff_ros.backends.runner import GraphRunner, Shaped

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class BuiltEngines:
    """For one size, (height, width), of source images: where its engines lie, and how long they took."""

    size: Size
    folder: Path
    seconds: float


def build_engines(
    bundle: Bundle,
    config: DffConfig,
    sizes: Sequence[Size],
    report: Callable[[str], None] = lambda stage: None,
) -> list[BuiltEngines]:
    """The engines of the graphs that a config needs, which has provider tensorrt; those that are there are
    built again. Raises BackendUnavailableError where GPU, TensorRT or ONNX Runtime's provider lack, DffError
    where they cannot be written.

    Each graph is run, so a key frame, a propagation and the tasks of each size show that the engines work.
    """
    config = replace(config, {'provider': 'tensorrt'})
    use = GraphUse.of(bundle.spec, config)
    runner = open_device_runner(bundle, config, use.graphs, is_building=True)
    shaped = cast('GraphRunner[Shaped]', runner)
    backend = backend_over(shaped, bundle, config, 'onnx', 'its engines are built')
    rule = ConfidenceRule(bundle.spec.nominal_size, bundle.stride)
    built = []
    try:
        for size in sizes:
            report(f'building engines for {size[1]}x{size[0]}: minutes')
            begin_s = time.monotonic()
            image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
            feature = backend.propagate(image, backend.extract(image)).feature
            if SEGMENTATION in bundle.spec.tasks:
                backend.predict(feature, size, rule.output_size(config.segmentation, size))
            if DETECTION in bundle.spec.tasks:
                backend.detect(feature, size, nms_iou=0.5, score_threshold=0.5)
            built.append(BuiltEngines(size, runner.engine_folder, time.monotonic() - begin_s))
    finally:
        backend.close()
    return built
