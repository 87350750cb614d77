# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Where a camera's images come from, by `image_transport`: raw on `image`, or jpeg and png beside it."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from dff_ros.cameras import topic_of
from dff_ros.compressed import require_opencv
from dff_ros.errors import ConfigError

IMAGE = 'image'
COMPRESSED = 'compressed'


@dataclass(frozen=True, slots=True)
class ImageInput:
    """A topic and the type of its messages."""

    topic: str
    kind: type[Image] | type[CompressedImage]


def is_remapped(node: Node, topic: str) -> bool:
    """Whether a rule of the command line or a launch file names the topic."""
    return bool(node.resolve_topic_name(topic) != node.resolve_topic_name(topic, only_expand=True))


def image_topic(node: Node, camera: str, transport: str) -> str:
    """The topic of a camera's images as image_transport names it: compressed ones are below the raw topic,
    also where `image` is remapped. A remapping of `image/compressed` itself goes before.
    """
    raw = topic_of(camera, IMAGE)
    if transport != COMPRESSED:
        return raw
    below = f'{raw}/{COMPRESSED}'
    if is_remapped(node, below):
        return below
    return f'{node.resolve_topic_name(raw)}/{COMPRESSED}'


def image_input(node: Node, camera: str, transport: str) -> ImageInput:
    """What to subscribe to. ConfigError where `image` is remapped to the compressed topic itself;
    BackendUnavailableError where compressed images come and OpenCV is missing.
    """
    base = node.resolve_topic_name(topic_of(camera, IMAGE))
    if base.endswith(f'/{COMPRESSED}'):
        raise ConfigError(
            f'image is remapped to {base}: remap it to {base.removesuffix(f"/{COMPRESSED}")} and set '
            f'image_transport to {COMPRESSED}, which adds /{COMPRESSED}'
        )
    if transport == COMPRESSED:
        require_opencv()
    kind = CompressedImage if transport == COMPRESSED else Image
    return ImageInput(image_topic(node, camera, transport), kind)
