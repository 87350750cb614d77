# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The seam between the engine and everything numeric, and the choice of what stands behind it."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from dff_ros.bundle import Bundle
from dff_ros.config import DffConfig
from dff_ros.errors import BackendUnavailableError
from dff_ros.types import ContextT, Detections, FeatureT, KeyFeature, Propagation, Segmentation

if TYPE_CHECKING:
    from dff_ros.backends.flow import FlowSource
    from dff_ros.backends.runner import GraphRunner, Shaped

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What really runs, for logs and reports; `choice` says why this backend was taken."""

    name: str
    device: str
    runtime: str
    num_threads: int
    choice: str


class Backend(Protocol[FeatureT, ContextT]):
    """Three verbs over opaque handles, called from one thread at a time. `detect` is the `predict` of the
    task detection.

    Images are (H, W, 3) uint8 RGB, C-contiguous, of any size from MIN_SIDE up. Handles own their memory: a
    cached key feature stays valid until the caller drops it, whatever is computed in between.
    """

    @property
    def info(self) -> BackendInfo:
        """What runs where."""
        ...

    def extract(self, image_HW3: NDArray[np.uint8]) -> KeyFeature[FeatureT, ContextT]:
        """Run the feature network (N_feat) on a key image."""
        ...

    def adopt(
        self, image_HW3: NDArray[np.uint8], key: KeyFeature[FeatureT, ContextT]
    ) -> KeyFeature[FeatureT, ContextT]:
        """A key frame that another backend of the same bundle and runtime extracted from this image, with
        what this one's flow and correction need of it added; the feature is shared. Both can propagate from
        the result.
        """
        ...

    def propagate(
        self, image_HW3: NDArray[np.uint8], key: KeyFeature[FeatureT, ContextT]
    ) -> Propagation[FeatureT]:
        """Equation (3): flow from the current image to the key image, warp, scale map; then the correction
        branch, if the bundle has one and the settings do not leave it out.

        The current image must have the size of the key image; ShapeError otherwise.
        """
        ...

    def predict(
        self, feature: FeatureT, source_size: tuple[int, int], output_size: tuple[int, int]
    ) -> Segmentation:
        """Run the segmentation head; the label map has `output_size`. `source_size` is the image's (height,
        width). ConfigError where the bundle has no segmentation.
        """
        ...

    def detect(
        self, feature: FeatureT, source_size: tuple[int, int], nms_iou: float, score_threshold: float
    ) -> Detections:
        """Run the detection head: objects with a score above the threshold, in pixels of the source image,
        at most the model's `max_boxes`. Of two of a class that overlap by more than `nms_iou` the better one
        stays. ConfigError where the bundle has no detection.
        """
        ...

    def warm_up(self, size: tuple[int, int]) -> None:
        """Run each verb once at an image size, so that the first real frame is not slower than the others."""
        ...

    def close(self) -> None:
        """Free sessions and memory; the backend is unusable afterwards. Calling it twice is harmless."""
        ...


def open_backend(
    bundle: Bundle, config: DffConfig, *, is_background: bool = False
) -> Backend[object, object]:
    """Load a bundle into the runtime that `backend`, `device`, `flow` and `correction` of the config ask
    for.

    `is_background`: it works beside another backend, on a CUDA stream of its own, and what it returns is
    finished.

    Logs one line that says what was chosen and why. Raises BackendUnavailableError naming what to install
    where a runtime or device is missing, BundleError for files that the runtime does not take.
    """
    from dff_ros.backends.graph import GraphBackend
    from dff_ros.backends.use import GraphUse

    name, choice = choose_backend(config)
    num_threads = config.num_threads or available_cores()
    use = GraphUse.of(bundle.spec, config)
    runner = _open_runner(bundle, name, config, num_threads, use.graphs, is_background)
    info = BackendInfo(name, runner.device, runner.runtime, num_threads, choice)
    source = _open_dis(bundle.stride, num_threads) if use.flow == 'dis' else None
    _logger.info(
        'bundle %s: %s on %s, %d threads, flow %s%s (%s)',
        bundle.name,
        info.runtime,
        info.device,
        num_threads,
        use.flow,
        ', corrected' if use.is_correcting else '',
        choice,
    )
    backend = GraphBackend(runner, bundle, info, use, source)
    return cast(Backend[object, object], backend)


def choose_backend(config: DffConfig) -> tuple[str, str]:
    """Name of the backend that a config leads to ('onnx' or 'torch'), and why."""
    if config.backend != 'auto':
        if config.backend == 'onnx' and config.device == 'cuda':
            raise BackendUnavailableError(
                'the onnx backend runs on the CPU: use backend torch for device cuda'
            )
        return config.backend, f'backend {config.backend} was asked for'
    if config.device == 'cuda':
        return 'torch', 'auto: device cuda was asked for, which the torch backend has'
    if _is_installed('onnxruntime'):
        return 'onnx', 'auto: onnxruntime is installed'
    if _is_installed('torch'):
        return 'torch', 'auto: onnxruntime is not installed, torch is'
    raise BackendUnavailableError(
        'no runtime for the networks is installed: '
        'pip install "dff_ros[onnxruntime,opencv]" or "dff_ros[torch,opencv]"'
    )


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # hidden by an import hook, or set to None in sys.modules
        return False


def _open_runner(
    bundle: Bundle,
    name: str,
    config: DffConfig,
    num_threads: int,
    graphs: Sequence[str],
    is_background: bool,
) -> GraphRunner[Shaped]:
    try:
        if name == 'onnx':
            from dff_ros.backends.onnx import OnnxRunner

            # Two sessions at a time: threads that wait busily would take the cores of the other's.
            is_alone = config.refresh == 'inline'
            return cast('GraphRunner[Shaped]', OnnxRunner(bundle, num_threads, graphs, is_alone))
        from dff_ros.backends.torch import TorchRunner

        runner = TorchRunner(bundle, num_threads, graphs, config.device, is_background=is_background)
        return cast('GraphRunner[Shaped]', runner)
    except ImportError as error:
        extra = {'onnx': 'onnxruntime', 'torch': 'torch'}[name]
        raise BackendUnavailableError(
            f'backend {name} cannot be loaded ({error}): pip install "dff_ros[{extra}]"'
        ) from error


def _open_dis(stride: int, num_threads: int) -> FlowSource:
    try:
        from dff_ros.backends.dis import DisFlow
    except ImportError as error:
        raise BackendUnavailableError(
            f'DIS flow needs OpenCV ({error}): pip install "dff_ros[opencv]", or set flow to zero'
        ) from error
    return DisFlow(stride, num_threads)
