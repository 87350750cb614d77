# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The seam between the engine and everything numeric, and the choice of what stands behind it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.choice import (
    ON_GPU,
    choose_backend,
    choose_cpu_precision,
    choose_provider,
    may_fall_back,
    on_cpu,
)
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
    """What really runs, for logs and reports; `choice` says why this backend was taken.

    `provider`: execution provider of ONNX Runtime, empty of other runtimes. `precision`: of the networks.
    `fallback`: why the CPU computes in place of what was asked for, empty where it does not.
    """

    name: str
    device: str
    runtime: str
    num_threads: int
    choice: str
    provider: str = ''
    precision: str = 'fp32'
    fallback: str = ''


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

    `is_background`: it works beside another backend, to which it gives way on a CUDA device.

    Logs one line that says what was chosen and why. Raises BackendUnavailableError naming what to install
    where a runtime, device or provider is missing, BundleError for files that the runtime does not take. With
    `fallback` the CPU takes the place of a device or provider, which is logged as a warning.
    """
    try:
        return _open_backend(bundle, config, is_background)
    except BackendUnavailableError as error:
        if not may_fall_back(config):
            raise
        reason = str(error)
    _logger.warning('the CPU computes, as fallback is set: %s', reason)
    return _open_backend(bundle, on_cpu(config), is_background, reason)


def _open_backend(
    bundle: Bundle, config: DffConfig, is_background: bool, fallback: str = ''
) -> Backend[object, object]:
    from dff_ros.backends.use import GraphUse

    name, choice = choose_backend(config)
    num_threads = config.num_threads or available_cores()
    use = GraphUse.of(bundle.spec, config)
    runner = _open_runner(bundle, name, config, num_threads, use.graphs, is_background)
    return backend_over(runner, bundle, config, name, choice, fallback)


def backend_over(
    runner: GraphRunner[Shaped],
    bundle: Bundle,
    config: DffConfig,
    name: str,
    choice: str,
    fallback: str = '',
) -> Backend[object, object]:
    """The backend over a runner that has the graphs of a config; the other values are BackendInfo's."""
    from dff_ros.backends.finishing import FinishingBackend
    from dff_ros.backends.graph import GraphBackend
    from dff_ros.backends.use import GraphUse

    num_threads = config.num_threads or available_cores()
    use = GraphUse.of(bundle.spec, config)
    info = BackendInfo(
        name,
        runner.device,
        runner.runtime,
        num_threads,
        choice,
        provider=runner.provider,
        precision=runner.precision,
        fallback=fallback,
    )
    source = _open_dis(bundle.stride, num_threads) if use.flow == 'dis' else None
    _logger.info(
        'bundle %s: %s on %s, %s%s, %d threads, flow %s%s (%s)',
        bundle.name,
        info.runtime,
        info.device,
        info.provider and f'provider {info.provider}, ',
        info.precision,
        num_threads,
        use.flow,
        ', corrected' if use.is_correcting else '',
        choice,
    )
    # Beside a GPU the host would take longer for the last step of an answer than the networks.
    is_finishing = name == 'torch' and runner.device != 'cpu'
    kind = FinishingBackend if is_finishing else GraphBackend
    backend = kind(runner, bundle, info, use, source)
    return cast(Backend[object, object], backend)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


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
            from dff_ros.backends.onnx_providers import require_provider

            provider = choose_provider(config)
            require_provider(provider)
            if provider in ON_GPU:
                from dff_ros.backends.onnx_device import open_device_runner

                return cast('GraphRunner[Shaped]', open_device_runner(bundle, config, graphs))
            precision = choose_cpu_precision(config, bundle)
            # Two sessions at a time: threads that wait busily would take the cores of the other's.
            is_alone = config.refresh == 'inline'
            onnx = OnnxRunner(bundle, num_threads, graphs, is_alone, provider=provider, precision=precision)
            return cast('GraphRunner[Shaped]', onnx)
        from dff_ros.backends.torch import TorchRunner

        runner = TorchRunner(
            bundle,
            num_threads,
            graphs,
            config.device,
            precision=config.precision,
            is_background=is_background,
        )
        return cast('GraphRunner[Shaped]', runner)
    except ImportError as error:
        extra = {'onnx': 'onnxruntime', 'torch': 'torch'}[name]
        if name == 'onnx' and choose_provider(config) in ON_GPU:
            extra = 'onnxruntime-gpu'
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
