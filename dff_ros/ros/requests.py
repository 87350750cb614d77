# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Requests to set parameters that rclpy cannot read are refused: else it raises, the caller waits for ever,
and ten in a row end the node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rcl_interfaces.msg import Parameter, SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

Answer = Callable[[Any, Any], Any]

_TYPES = {kind.value for kind in RosParameter.Type}


def refuse_malformed_sets(node: Node) -> None:
    """Let `set_parameters` and `set_parameters_atomically` answer, with the reason, where a value has a type
    that there is not; nothing of such a request is set.
    """
    for service in node.services:
        if service.srv_type is SetParameters:
            service.callback = _one_by_one(service.callback)
        elif service.srv_type is SetParametersAtomically:
            service.callback = _atomically(service.callback)


def _one_by_one(answer: Answer) -> Answer:
    def checked(request: SetParameters.Request, response: SetParameters.Response) -> SetParameters.Response:
        refusal = _refusal(request.parameters)
        if refusal is None:
            return answer(request, response)
        response.results = [refusal] * len(request.parameters)
        return response

    return checked


def _atomically(answer: Answer) -> Answer:
    def checked(
        request: SetParametersAtomically.Request, response: SetParametersAtomically.Response
    ) -> SetParametersAtomically.Response:
        refusal = _refusal(request.parameters)
        if refusal is None:
            return answer(request, response)
        response.result = refusal
        return response

    return checked


def _refusal(parameters: Iterable[Parameter]) -> SetParametersResult | None:
    for parameter in parameters:
        if parameter.value.type not in _TYPES:
            reason = f'{parameter.name!r} has a value of type {parameter.value.type}, which ROS does not have'
            return SetParametersResult(successful=False, reason=reason)
    return None
