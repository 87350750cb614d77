# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A node as a process of its own in a namespace of its own, and the cameras that it is measured with."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import rclpy
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.signals import SignalHandlerOptions

from dff_ros.errors import ConfigError, DffError
from dff_ros.ros.children import own_namespace, start_node
from dff_ros.ros.player import Player
from dff_ros.ros.process import Spinning

NODE = 'dff_node'
START_S = 120.0
_ANSWER_S = 20.0
_POLL_S = 0.02


class Rig:
    """Starts the node and waits until it and the cameras have found each other; `stack` ends it all.

    `images` are serialized; `cores` those that the node runs on, None: all that this process may use.
    `start_s` is the time from the start of the process until all were found. DffError, with its last lines,
    where it fails to come up.
    """

    def __init__(
        self,
        stack: ExitStack,
        parameters: Mapping[str, object],
        images: Sequence[bytes],
        *,
        module: str = 'dff_ros.ros.node',
        cameras: Sequence[str] = ('',),
        outputs: Sequence[str] = (),
        cores: Sequence[int] | None = None,
        has_status: bool = True,
    ) -> None:
        namespace = own_namespace('bench')  # no other node may answer, or be answered
        context = Context()
        rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown, context=context)
        self._node = Node('cameras', namespace=namespace, context=context)
        stack.callback(self._node.destroy_node)
        self._setter = self._node.create_client(SetParametersAtomically, f'{NODE}/set_parameters_atomically')
        self._spinning = Spinning(self._node, context=context)
        stack.callback(self._spinning.end)
        self.players = [Player(self._node, images, name, has_status=has_status) for name in cameras]
        for player in self.players:
            player.listen(outputs)
        begin_s = time.perf_counter()
        with _on_cores(cores):
            self.child = start_node(stack, NODE, module, namespace, parameters, '--log-level', 'warn')
        self._spinning.start()
        self._wait_until_found()
        self.start_s = time.perf_counter() - begin_s

    @property
    def player(self) -> Player:
        """The first camera."""
        return self.players[0]

    def set(self, values: Mapping[str, object]) -> None:
        """Set parameters of the node; ConfigError where it refuses one."""
        if not self._setter.wait_for_service(_ANSWER_S):
            raise DffError(f'the node has no service to set parameters; it wrote last:\n{self.child.tail()}')
        found = [RosParameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        answered = threading.Event()
        future = self._setter.call_async(SetParametersAtomically.Request(parameters=found))
        future.add_done_callback(lambda done: answered.set())
        if not answered.wait(_ANSWER_S):
            self.child.check()
            raise DffError(f'the node did not set {", ".join(values)} in {_ANSWER_S:g} s')
        result = future.result().result
        if not result.successful:
            raise ConfigError(result.reason)

    def _wait_until_found(self) -> None:
        end_s = time.monotonic() + START_S
        while not all(player.is_found for player in self.players):  # ROS has no event for a matched graph
            self.child.check()
            if time.monotonic() > end_s:
                raise DffError(
                    f'the node did not come up in {START_S:g} s; it wrote last:\n{self.child.tail()}'
                )
            time.sleep(_POLL_S)


@contextmanager
def _on_cores(cores: Sequence[int] | None) -> Iterator[None]:
    """What is started within runs on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if cores is None else cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
