# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Images are taken on a thread of their own, and as they came off the wire.

rclpy's executor makes a list of everything that the node waits for, anew for each message: on one core 1.5 ms
for an image, half of it while the engine waits for the interpreter. A subscription alone takes half as much.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

from builtin_interfaces.msg import Time
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dff_ros.errors import ConversionError
from dff_ros.messages import ImageMessage
from dff_ros.serialized_image import UnreadableImage, is_plain_cdr, read_image

_FOR_EVER = -1
_PAUSE_S = 0.1
"""After an error, which may be there to stay."""


class NoExecutor(MutuallyExclusiveCallbackGroup):
    """A subscription in this group, and its events, are a Receiver's."""

    def can_execute(self, entity: object) -> bool:
        """Never by an executor."""
        return False


class Receiver:
    """Calls `callback` for each message of a subscription in NoExecutor, on a thread of its own, from now to
    `end`. Its events go to the executor of the node. An error costs one message.
    """

    def __init__(self, node: Node, subscription: Subscription, callback: Callable[[Any], None]) -> None:
        self._node = node
        self._subscription = subscription
        self._callback = callback
        self._events = list(subscription.event_handlers)
        self._guard = GuardCondition(None, None, context=node.context)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name='receiver', daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Take no more; a callback that runs is waited for. The subscription may then be destroyed."""
        self._is_over.set()
        self._guard.trigger()
        self._thread.join()
        self._guard.destroy()

    def _run(self) -> None:
        context = self._node.context
        with ExitStack() as in_use:
            for handle in (context.handle, self._subscription.handle, self._guard.handle, *self._events):
                in_use.enter_context(handle)
            waiting = rclpy_implementation.WaitSet(1, 1, 0, 0, 0, len(self._events), context.handle)
            while not self._is_over.is_set():
                try:
                    self._turn(waiting)
                except Exception:
                    traceback.print_exc()
                    self._is_over.wait(_PAUSE_S)

    def _turn(self, waiting: Any) -> None:
        """Wait for a message, an event or the end."""
        waiting.clear_entities()
        index = waiting.add_subscription(self._subscription.handle)
        waiting.add_guard_condition(self._guard.handle)
        for event in self._events:
            event.add_to_wait_set(waiting)
        waiting.wait(_FOR_EVER)
        for event in self._events:
            if event.is_ready(waiting):
                self._hand_over(event.callback, event.take_data())
        if waiting.is_ready('subscription', index) and not self._is_over.is_set():
            subscription = self._subscription
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is not None:
                self._callback(taken[0])

    def _hand_over(self, callback: Callable[[Any], None], event: Any) -> None:
        executor = self._node.executor
        if event and executor is not None:
            executor.create_task(callback, event)


def image_of(message: bytes) -> ImageMessage:
    """A serialized sensor_msgs/Image with a Header of rclpy; `to_frame` raises what is wrong with it."""
    if not is_plain_cdr(message):
        return cast(ImageMessage, deserialize_message(message, Image))
    try:
        fields = read_image(message)
    except ConversionError as error:
        return cast(ImageMessage, UnreadableImage(Header(), error))
    sec, nanosec = fields.stamp
    fields.header = Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=fields.frame_id)
    return fields
