# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The services of the node: `~/reset`, `~/refresh`, `~/enable`.

Callbacks only store: what is asked for is done on the engine thread, before the next image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from dff_ros.engine import Engine

DISABLED = 'disabled'
"""Drop reason of an image that came while the node was disabled."""

Request = Callable[[Engine[Any, Any]], None]


class Services:
    """Takes requests of operators. `state` tells the lifecycle state of the node, `set_enabled` is told of a
    change.
    """

    def __init__(
        self, node: Node, num_cameras: int, state: Callable[[], str], set_enabled: Callable[[bool], None]
    ) -> None:
        self._cameras = f'{num_cameras} camera' + ('s' if num_cameras > 1 else '')
        self._state = state
        self._set_enabled = set_enabled
        self._requests: deque[Request] = deque()
        self.is_enabled = True
        node.create_service(Trigger, '~/reset', self._reset)
        node.create_service(Trigger, '~/refresh', self._refresh)
        node.create_service(SetBool, '~/enable', self._enable)

    def apply(self, engine: Engine[Any, Any]) -> None:
        """Do what was asked for so far; on the engine thread."""
        while self._requests:
            self._requests.popleft()(engine)

    def forget(self) -> None:
        """Leave undone what was asked for: the engine it was meant for is gone."""
        self._requests.clear()

    def begin_afresh(self) -> None:
        """Drop the key frames before the next image: after a pause they may be of another scene."""
        self._requests.append(lambda engine: engine.reset())

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        done = f'{self._cameras}: key frames are dropped, the next image of each begins afresh'
        return self._ask(response, lambda engine: engine.reset(), done)

    def _refresh(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        done = f'{self._cameras}: the next image of each becomes a key frame'
        return self._ask(response, lambda engine: engine.refresh(), done)

    def _ask(self, response: Trigger.Response, request: Request, done: str) -> Trigger.Response:
        state = self._state()
        if state != 'active':
            response.message = f'nothing was done: the node is {state}, not active'
        elif not self.is_enabled:
            response.message = 'nothing was done: the node is disabled (~/enable), and goes on afresh anyway'
        else:
            self._requests.append(request)
            response.success, response.message = True, done
        return response

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        is_change = request.data != self.is_enabled
        if is_change and request.data:
            self.begin_afresh()
        if is_change:
            self.is_enabled = request.data
            self._set_enabled(request.data)
        word = 'enabled' if request.data else DISABLED
        response.success = True
        response.message = f'{self._cameras}: {word}' + ('' if is_change else ' already')
        state = self._state()
        if state != 'active':
            response.message += f'; the node is {state}: it holds once it is active'
        return response
