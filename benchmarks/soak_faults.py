# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The faults of benchmarks/soak.py. Each is a generator: what the camera sends in each of its turns."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.task import Future
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

S = 1_000_000_000
MAX_TURNS = 300
"""A service that has not answered by then, at 30 turns a second, is a failure."""


class Rig(Protocol):
    """What faults may do."""

    random: random.Random

    def good(self) -> Image:
        """The next good image, stamped now; the message is the caller's."""
        ...

    def remake_camera(self) -> None:
        """A new publisher in place of the old one."""
        ...

    def end_camera(self) -> None:
        """No publisher any more, after all it sent has arrived."""
        ...

    def is_heard(self) -> bool:
        """The node subscribes to the camera."""
        ...

    def call(self, kind: type, name: str, **fields: object) -> Future:
        """Call a service of the node."""
        ...

    def add_deaf_subscriber(self) -> Callable[[], None]:
        """A reliable subscriber that never reads; what ends it."""
        ...


Turns = Iterator[list[Image]]


def _changed(message: Image, **changes: object) -> Image:
    for name, value in changes.items():
        setattr(message, name, value)
    return message


BAD: tuple[dict[str, object], ...] = (
    {'data': b''},
    {'data': bytes(100)},
    {'height': 0},
    {'width': 0},
    {'height': 2**32 - 1, 'width': 2**32 - 1, 'step': 2**32 - 1},
    {'height': 60_000, 'width': 60_000, 'step': 180_000},
    {'encoding': 'rgb9'},
    {'encoding': ''},
    {'encoding': '32FC1'},
    {'encoding': 'nv12', 'height': 33},
    {'encoding': 'x' * 10_000},
    {'step': 0},
    {'step': 1},
    {'step': 2**32 - 1},
    {'encoding': 'mono16', 'is_bigendian': 7},
)


def bad_images(rig: Rig) -> Turns:
    """Images that no node can take."""
    for _ in range(rig.random.randint(1, 10)):
        yield [_changed(rig.good(), **rig.random.choice(BAD))]


def random_bytes(rig: Rig) -> Turns:
    """Random fields and data: some are images."""
    names = ('rgb8', 'bgr8', 'mono8', 'bgra8', 'mono16', 'nv12', 'uyvy', 'bayer_rggb8', '8UC3', '16UC1')
    for _ in range(rig.random.randint(1, 10)):
        height, width, depth = (
            rig.random.randint(0, 200),
            rig.random.randint(0, 200),
            rig.random.randint(0, 4),
        )
        yield [
            _changed(
                rig.good(),
                height=height,
                width=width,
                step=width * depth,
                encoding=rig.random.choice(names),
                is_bigendian=rig.random.randint(0, 2),
                data=rig.random.randbytes(height * width * depth),
            )
        ]


def _stamped(rig: Rig, later_ns: int | None) -> Image:
    message = rig.good()
    now_ns = message.header.stamp.sec * S + message.header.stamp.nanosec
    stamp_ns = 0 if later_ns is None else now_ns + later_ns
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, S)
    return message


def bad_stamps(rig: Rig) -> Turns:
    """Zero, backward, far future."""
    for _ in range(rig.random.randint(1, 5)):
        yield [_stamped(rig, rig.random.choice((None, -S // 2, -3600 * S, 3 * S, 86400 * S)))]


def duplicates(rig: Rig) -> Turns:
    """The same image several times, at once."""
    message = rig.good()
    yield [message] * rig.random.randint(2, 4)


def other_size(rig: Rig) -> Turns:
    """The camera changes its size, and back."""
    height, width = rig.random.choice(((120, 160), (240, 320), (64, 640)))
    for _ in range(rig.random.randint(3, 15)):
        data = rig.random.randbytes(width * 3) * height
        yield [_changed(rig.good(), height=height, width=width, step=3 * width, data=data)]


def other_encoding(rig: Rig) -> Turns:
    """Blue and red change places, or the frame of the camera its name."""
    is_encoding = rig.random.random() < 0.5
    for _ in range(rig.random.randint(3, 10)):
        message = rig.good()
        if is_encoding:
            message.encoding = 'bgr8'
        else:
            message.header.frame_id = 'other'
        yield [message]


def pause(rig: Rig) -> Turns:
    """The camera is silent for up to 4 s."""
    for _ in range(rig.random.randint(10, 120)):
        yield []


def restart(rig: Rig) -> Turns:
    """The camera's publisher goes and comes back, and sends again once the node has seen it: in a second."""
    rig.end_camera()
    yield from ([] for _ in range(rig.random.randint(5, 60)))
    rig.remake_camera()
    yield from ([] for _ in range(30))


def flood(rig: Rig) -> Turns:
    """As many images as the node's queue takes, at once."""
    for _ in range(rig.random.randint(1, 3)):
        yield [rig.good() for _ in range(rig.random.randint(5, 20))]


def _until(rig: Rig, future: Future) -> Turns:
    for _ in range(MAX_TURNS):
        if future.done():
            return
        yield [rig.good()]
    raise TimeoutError('a service of the node did not answer')


def parameter_storm(rig: Rig) -> Turns:
    """Atomic sets, some of which are refused, a few with each image."""
    for _ in range(rig.random.randint(5, 30)):
        asked = [_set_pair(rig) for _ in range(4)]
        for is_good, future in asked:
            yield from _until(rig, future)
            if future.result().result.successful != is_good:
                raise AssertionError(f'a set of parameters: {future.result().result}')


def _set_pair(rig: Rig) -> tuple[bool, Future]:
    """Whether a set is good, and its result."""
    is_good = rig.random.random() < 0.7
    alpha = rig.random.random() if is_good else rig.random.choice((math.nan, 2.0, -1.0))
    values = {'detection.score_threshold': rig.random.uniform(0.2, 0.6), 'overlay.alpha': alpha}
    sets = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    return is_good, rig.call(SetParametersAtomically, 'set_parameters_atomically', parameters=sets)


def services(rig: Rig) -> Turns:
    """Reset or refresh, or off and on again."""
    name = rig.random.choice(('reset', 'refresh', 'enable'))
    if name != 'enable':
        yield from _until(rig, rig.call(Trigger, name))
        return
    for value in (False, True):
        yield from _until(rig, rig.call(SetBool, name, data=value))
        yield from ([rig.good()] for _ in range(rig.random.randint(1, 20)))


def inactive(rig: Rig) -> Turns:
    """The node is deactivated, and activated again while the camera waits."""
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        future = rig.call(ChangeState, 'change_state', transition=Transition(id=transition))
        for _ in range(MAX_TURNS):
            if future.done() and rig.is_heard() == (transition == Transition.TRANSITION_ACTIVATE):
                break
            yield []
        else:
            raise TimeoutError(f'transition {transition} did not happen')
    yield from ([] for _ in range(30))


def deaf_subscriber(rig: Rig) -> Turns:
    """A consumer that never reads."""
    end = rig.add_deaf_subscriber()
    yield from ([rig.good()] for _ in range(rig.random.randint(15, 90)))
    end()


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A fault and its name in the results."""

    name: str
    turns: Callable[[Rig], Turns]


FAULTS = (
    Fault('bad images', bad_images),
    Fault('random bytes', random_bytes),
    Fault('bad stamps', bad_stamps),
    Fault('duplicate stamps', duplicates),
    Fault('other size', other_size),
    Fault('other encoding or frame_id', other_encoding),
    Fault('pause', pause),
    Fault('camera restarted', restart),
    Fault('flood', flood),
    Fault('parameter storm', parameter_storm),
    Fault('services', services),
    Fault('deactivate and activate', inactive),
    Fault('deaf subscriber', deaf_subscriber),
)


def draw(rig: Rig) -> Iterator[Fault]:
    """One fault after the other, in rounds: each comes once before any comes again."""
    while True:
        yield from rig.random.sample(FAULTS, len(FAULTS))


def noise(size: tuple[int, int], number: int) -> list[np.ndarray]:
    """A picture that moves: for a backend that does not look."""
    scene = np.random.default_rng(0).integers(0, 100, (size[0], size[1] + 2 * number, 3), dtype=np.uint8)
    return [np.ascontiguousarray(scene[:, 2 * i : 2 * i + size[1]]) for i in range(number)]
