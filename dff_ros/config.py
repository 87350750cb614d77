# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""All settings, defined once: ROS parameters, command-line flags and docs are derived from these dataclasses.

`dff_ros.settings` says what a setting is; its names are to be had here too.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from dff_ros.diagnostics_config import DiagnosticsConfig
from dff_ros.errors import ConfigError
from dff_ros.image_limits import MAX_16BIT, MAX_PIXELS, ImageLimits
from dff_ros.keyframe_config import BUDGET_OVER, SCHEDULERS, KeyframeConfig
from dff_ros.settings import (
    Parameter,
    Scalar,
    Validated,
    flatten,
    other_default,
    param,
    replace,
    to_flat,
    walk,
)

__all__ = [
    'BACKENDS', 'BUDGET_OVER', 'DEVICES', 'FLOWS', 'MAX_OUTPUT_SIDE', 'OUTPUT_SIZES', 'PRECISIONS',
    'PROVIDERS', 'REFRESHES', 'SCHEDULERS', 'SHORT_NAMES', 'TRANSPORTS', 'DetectionConfig', 'DffConfig',
    'DiagnosticsConfig', 'KeyframeConfig', 'OverlayConfig', 'Parameter', 'Scalar', 'SegmentationConfig',
    'Validated', 'flatten', 'named_size', 'other_default', 'param', 'replace', 'to_flat', 'walk',
]  # fmt: skip

BACKENDS = ('auto', 'onnx', 'torch')
DEVICES = ('auto', 'cpu', 'cuda')
PROVIDERS = ('auto', 'cpu', 'cuda', 'tensorrt', 'openvino')
PRECISIONS = ('auto', 'fp32', 'fp16', 'bf16', 'int8')
FLOWS = ('bundle', 'dis', 'zero')
TRANSPORTS = ('raw', 'compressed')
REFRESHES = ('inline', 'worker')
OUTPUT_SIZES = ('source', 'network')
"""Sizes of label maps that have a name."""

MAX_OUTPUT_SIDE = 4096
"""Longest side of a label map whose size is given in pixels."""

SHORT_NAMES = {'interval': 'keyframe.interval'}
"""Settings with a second name, on the command line and as launch arguments."""


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig(Validated):
    """How often label maps are made, of which size, and which of their pixels are left without an answer."""

    every: int = param(
        1,
        'Label maps on every n-th image of a camera, from its first',
        minimum=1,
        maximum=1000,
        unit='frames',
        runtime=True,
    )
    output_size: str = param(
        'source',
        "Size of label map and confidence: the image's (source), that of the image as the networks see it "
        '(network), or WIDTHxHEIGHT as 400x200; the head decides at these pixels, no label map is resized',
        runtime=True,
    )
    min_validity: float = param(
        0.5,
        'Pixels of which a smaller share was warped from inside the key frame are 255 with confidence 0; 0 '
        'marks none',
        minimum=0.0,
        maximum=1.0,
        runtime=True,
    )
    min_confidence: float = param(
        0.0,
        'Pixels less sure than this are 255 with confidence 0; 0 marks none',
        minimum=0.0,
        maximum=1.0,
        runtime=True,
    )
    confidence: bool = param(
        True,
        'Compute and publish how sure each pixel is; false leaves it out, and min_confidence has to be 0',
        runtime=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_size not in OUTPUT_SIZES:
            named_size(self.output_size)
        if self.min_confidence > 0 and not self.confidence:
            raise ConfigError(
                f'segmentation.min_confidence: got {self.min_confidence:g}, which takes the confidence: set '
                'it to 0, or segmentation.confidence to true'
            )


def named_size(text: str) -> tuple[int, int]:
    """(height, width) of a `segmentation.output_size` of the form WIDTHxHEIGHT; ConfigError of any other."""
    found = re.fullmatch('([0-9]{1,5})x([0-9]{1,5})', text)
    width, height = map(int, found.groups()) if found else (0, 0)
    if not (1 <= width <= MAX_OUTPUT_SIDE and 1 <= height <= MAX_OUTPUT_SIDE):
        raise ConfigError(
            f'segmentation.output_size: got {text!r}, allowed is {", ".join(OUTPUT_SIZES)} or WIDTHxHEIGHT '
            f'in pixels, each from 1 to {MAX_OUTPUT_SIDE}, as 400x200'
        )
    return height, width


@dataclass(frozen=True, kw_only=True)
class DetectionConfig(Validated):
    """How often boxes are made, and which of them are told."""

    every: int = param(
        1,
        'Boxes on every n-th image of a camera, from its first',
        minimum=1,
        maximum=1000,
        unit='frames',
        runtime=True,
    )
    score_threshold: float = param(
        0.3, 'Boxes with a lower score are left out', minimum=0.0, maximum=1.0, runtime=True
    )
    nms_iou: float = param(
        0.3,
        'Of two boxes of a class that overlap by more (intersection over union) the better one is kept',
        minimum=0.0,
        maximum=1.0,
        runtime=True,
    )
    max_detections: int = param(
        100,
        'Most boxes of an image, the best ones; the bundle has a limit of its own (max_boxes)',
        minimum=1,
        maximum=1000,
        unit='boxes',
        runtime=True,
    )
    classes: str = param(
        '', 'Names of the classes to detect, separated by commas; empty for all', runtime=True
    )


@dataclass(frozen=True, kw_only=True)
class OverlayConfig(Validated):
    """How the overlay picture is drawn."""

    alpha: float = param(
        0.5, 'Weight of the class colours over the image', minimum=0.0, maximum=1.0, runtime=True
    )


@dataclass(frozen=True, kw_only=True)
class DffConfig(Validated):
    """Everything `dff run` and the node take."""

    bundle: str = param('road-r18', 'Model bundle: a directory, or the name of one shipped in models/')
    backend: str = param(
        'auto',
        'Runtime of the networks; auto takes ONNX Runtime where it is installed, else torch',
        choices=BACKENDS,
    )
    device: str = param('auto', 'Where the networks run', choices=DEVICES)
    provider: str = param(
        'auto',
        'Execution provider of ONNX Runtime; auto takes cuda where device is cuda, else cpu',
        choices=PROVIDERS,
    )
    precision: str = param(
        'auto',
        'Precision of the networks; auto takes fp32 on the CPU, fp16 on a CUDA device. One that the runtime '
        'or the bundle does not have is an error',
        choices=PRECISIONS,
    )
    fallback: bool = param(
        False,
        'Compute on the CPU, and say so, where the device or provider asked for is not there; otherwise that '
        'is an error',
    )
    engines: str = param(
        '',
        'Directory of the TensorRT engines that `dff export --tensorrt` built; empty for dff_ros/tensorrt '
        "below the user's directory for caches",
    )
    flow: str = param(
        'bundle',
        "Flow source: the bundle's own, DIS optical flow, or none (the key feature is copied)",
        choices=FLOWS,
    )
    correction: bool = param(
        True, 'Let the correction branch of a bundle that has one replace what the warp got wrong'
    )
    num_threads: int = param(
        0, 'Threads of the runtime; 0 takes one for each core this process may use', minimum=0, maximum=1024
    )
    refresh: str = param(
        'inline',
        'Who makes key frames: the frame waits for it (inline), or a second session does while frames go on '
        'from the older one (worker)',
        choices=REFRESHES,
    )
    refresh_threads: int = param(
        0,
        'Threads of the runtime that make key frames with refresh worker, taken off num_threads; 0 takes a '
        'quarter of them, at least one',
        minimum=0,
        maximum=1024,
    )
    budget_ms: float = param(
        0.0,
        'Longest mean time per frame of a camera: above it the interval is lengthened up to '
        'keyframe.max_interval, then frames are skipped; 0 for no limit',
        minimum=0.0,
        maximum=60000.0,
        unit='ms',
        runtime=True,
    )
    tasks: str = param(
        'all',
        'Tasks to run: all that the bundle has, or names separated by commas (segmentation, detection)',
        runtime=True,
    )
    pause_unread: bool = param(
        False,
        'Do not run tasks whose topics nobody reads; without any the images are idle. A task goes on with '
        'the first image after someone subscribes',
        runtime=True,
    )
    image_transport: str = param(
        'raw',
        'Images that the node subscribes to: sensor_msgs/Image on `image` (raw), or jpeg and png on '
        '`image`/compressed (compressed)',
        choices=TRANSPORTS,
    )
    max_pixels: int = param(
        MAX_PIXELS,
        'Largest image taken, height x width; one that claims more is dropped before memory is taken for it',
        minimum=256,
        maximum=10**9,
        unit='pixels',
        runtime=True,
    )
    black_level: int = param(
        0,
        'Value of 16-bit images that becomes black, for thermal cameras; below white_level',
        minimum=0,
        maximum=MAX_16BIT - 1,
        runtime=True,
    )
    white_level: int = param(
        MAX_16BIT,
        'Value of 16-bit images that becomes white: 1023 for a camera of 10 bits, 4095 for one of 12',
        minimum=1,
        maximum=MAX_16BIT,
        runtime=True,
    )
    keyframe: KeyframeConfig = dataclasses.field(default_factory=KeyframeConfig)
    segmentation: SegmentationConfig = dataclasses.field(default_factory=SegmentationConfig)
    detection: DetectionConfig = dataclasses.field(default_factory=DetectionConfig)
    overlay: OverlayConfig = dataclasses.field(default_factory=OverlayConfig)
    diagnostics: DiagnosticsConfig = dataclasses.field(default_factory=DiagnosticsConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.black_level >= self.white_level:
            raise ConfigError(
                f'black_level: got {self.black_level}, which must be below white_level ({self.white_level}); '
                'raise white_level or lower black_level first'
            )

    @property
    def image_limits(self) -> ImageLimits:
        """What of it the conversion of images takes."""
        return ImageLimits(self.max_pixels, self.black_level, self.white_level)
