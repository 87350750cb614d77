# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Other nodes with this node's name: ROS lets them run, and gives each of them a part of what comes."""

from __future__ import annotations

from rclpy.node import Node


class Namesakes:
    """Looks for them in the graph; a change is logged."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._path = node.get_fully_qualified_name()
        self._number = 0

    def look(self) -> int:
        """How many there are now. One that was killed counts until the middleware forgets it, some 20 s."""
        paths = (
            f'{namespace.rstrip("/")}/{name}'
            for name, namespace in self._node.get_node_names_and_namespaces()
        )
        number = max(0, sum(path == self._path for path in paths) - 1)
        if number > self._number:
            self._node.get_logger().warning(self.describe(number))
        elif number < self._number:
            self._node.get_logger().info(f'{number} other nodes are named {self._path} now')
        self._number = number
        return number

    def describe(self, number: int) -> str:
        """What is wrong with `number` of them, and the remedy."""
        nodes = f'{number} other node is' if number == 1 else f'{number} other nodes are'
        return (
            f'{nodes} named {self._path} (or was killed less than 20 s ago): each answers the same images on '
            'the same topics, and a service or parameter call reaches any of them; end all but one, or start '
            'each with a name or namespace of its own (-r __node:=NAME, -r __ns:=/NAMESPACE)'
        )
