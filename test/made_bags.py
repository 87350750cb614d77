# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Small recordings for tests, what is in them, and models to answer them."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fake_backend import FakeBackend
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

from dff_ros.bag_messages import CAMERA_INFO, IMAGE, quality, typestore
from dff_ros.config import DffConfig
from dff_ros.engine import Engine
from dff_ros.model import Model
from dff_ros.model_spec import ModelSpec
from dff_ros.tasks import plan_tasks

SPEC = ModelSpec(
    class_names=('road', 'car'),
    class_colours=((10, 20, 30), (200, 100, 0)),
    nominal_size=(32, 48),
    box_class_names=('car', 'pedestrian'),
)
START_NS = 1_000_000_000
PERIOD_NS = 100_000_000
KILL_AT = 'DFF_TEST_KILL_AT'


@dataclass(frozen=True, slots=True)
class Item:
    """A message of a recording; `data` may be anything."""

    topic: str
    kind: str
    time_ns: int
    data: bytes


def make(kind: str, **fields: Any) -> Any:
    """A message."""
    return typestore().types[kind](**fields)


def header(stamp_ns: int, frame_id: str = 'camera') -> Any:
    sec, nanosec = divmod(stamp_ns, 10**9)
    stamp = make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)
    return make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)


def stamp_of(number: int) -> int:
    return START_NS + number * PERIOD_NS


def image(
    number: int,
    *,
    size: tuple[int, int] = (32, 48),
    padding: int = 0,
    stamp_ns: int | None = None,
    encoding: str = 'rgb8',
) -> Any:
    """All pixels hold the number; rows are padded by other bytes."""
    rows = np.full((size[0], 3 * size[1] + padding), 255, np.uint8)
    rows[:, : 3 * size[1]] = number
    return make(
        IMAGE,
        header=header(stamp_of(number) if stamp_ns is None else stamp_ns),
        height=size[0],
        width=size[1],
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def camera_info(number: int, *, size: tuple[int, int] = (32, 48), focal: float = 40.0) -> Any:
    """A calibration stamped like the image of the number."""
    region = make('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0,
                  do_rectify=False)  # fmt: skip
    k = np.array([focal, 0, 23, 0, 41, 15, 0, 0, 1.0])
    p = np.array([focal, 0, 23, -4, 0, 41, 15, 0, 0, 0, 1.0, 0])
    return make(
        CAMERA_INFO,
        header=header(stamp_of(number)),
        height=size[0],
        width=size[1],
        distortion_model='plumb_bob',
        d=np.array([-0.25, 0.125, 0, 0, 0.5]),
        k=k,
        r=np.eye(3).reshape(-1),
        p=p,
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def item(topic: str, message: Any, time_ns: int) -> Item:
    """A message that was received at a time."""
    kind = message.__msgtype__
    return Item(topic, kind, time_ns, bytes(typestore().serialize_cdr(message, kind)))


def plain_items(num_images: int, topic: str = '/camera/image_raw') -> list[Item]:
    """Images, each with a text beside it."""
    items = []
    for number in range(num_images):
        time_ns = stamp_of(number) + 5_000_000
        items.append(item(topic, image(number), time_ns))
        items.append(
            item('/chatter', make('std_msgs/msg/String', data=f'text {number}'), time_ns + 1_000_000)
        )
    return items


def write_bag(path: Path, items: Sequence[Item], storage: str = 'mcap', compression: str = '') -> Path:
    """A recording of these messages; `compression` is message, file or storage."""
    writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
    if compression:
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for one in items:
            if one.topic not in connections:
                connections[one.topic] = writer.add_connection(
                    one.topic,
                    one.kind,
                    typestore=typestore(),
                    offered_qos_profiles=[quality(7, is_latched=False)],
                )
            writer.write(connections[one.topic], one.time_ns, one.data)
    return path


def read_bag(path: Path) -> list[Item]:
    """All messages in their order."""
    with Reader(path) as reader:
        return [Item(c.topic, c.msgtype, time_ns, bytes(data)) for c, time_ns, data in reader.messages()]


def content(one: Item) -> Any:
    return typestore().deserialize_cdr(one.data, one.kind)


def on(items: Sequence[Item], topic: str) -> list[Any]:
    """The messages of a topic."""
    return [content(one) for one in items if one.topic == topic]


def facts(items: Sequence[Item], topic: str = '/dff/status') -> list[dict[str, str]]:
    """The values of each status."""
    return [{pair.key: pair.value for pair in m.status[0].values} for m in on(items, topic)]


def without_times(items: Sequence[Item]) -> list[Item]:
    """The same messages, with the measured times of a status left out."""
    kept = []
    for one in items:
        if one.topic.endswith('dff/status'):
            message = content(one)
            message.status[0].values = [v for v in message.status[0].values if not v.key.endswith('_ms')]
            one = item(one.topic, message, one.time_ns)
        kept.append(one)
    return kept


class KilledBackend(FakeBackend):
    """Ends the process by SIGKILL at the n-th call of extract or propagate; what it measures depends on both
    images, and image 5 fails.
    """

    def __init__(self, at: int) -> None:
        super().__init__(fail_on={5})
        self._left = at

    def propagate(self, image_HW3: Any, key: Any) -> Any:
        made = super().propagate(image_HW3, key)
        apart = int(image_HW3[0, 0, 0]) - int(key.feature)
        return dataclasses.replace(made, motion_px=23.1 * apart, residual=apart / 7, coverage=0.9)

    def _number(self, image_HW3: Any) -> int:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._number(image_HW3)


def open_fake(config: DffConfig, backend: FakeBackend | None = None) -> Model:
    """A model on a fake backend, by default one that ends the process where the environment says so."""
    # In processes of their own this is called by its name.
    backend = backend or KilledBackend(int(os.environ.get(KILL_AT, '0')))
    plan = plan_tasks(config, SPEC)
    return Model('fake', Engine(backend, config.keyframe, plan, budget_ms=config.budget_ms), SPEC, 'a test')
