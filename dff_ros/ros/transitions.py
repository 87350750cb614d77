# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A request for a transition that the lifecycle does not have is refused: rclpy raises, and the node ends."""

from __future__ import annotations

from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """Let `change_state` answer with success false, and log why, where the present state has no such
    transition.
    """
    service = node._service_change_state  # rclpy has no hook for it
    change_state = service.callback

    def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        state = node._state_machine.current_state[1]
        try:
            return change_state(request, response)
        except rclpy_implementation.RCLError:
            asked = request.transition.label or f'number {request.transition.id}'
            possible = [transition[1] for transition in node._state_machine.available_transitions]
            node.get_logger().warning(
                f'transition {asked} is not possible while {state}; possible are {", ".join(possible)}'
            )
            response.success = False
            return response

    service.callback = answer
