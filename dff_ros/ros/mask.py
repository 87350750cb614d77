# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A mask of some classes: 255 where the label map has one of them, 0 elsewhere, with the label map's header.

For consumers that take every number but 0 as masked (nvblox). Topics, relative
to the node's namespace: `dff/segmentation` and `dff/label_info` in, `dff/mask` out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo

from dff_ros.config import Validated, param, replace, walk
from dff_ros.errors import ConfigError
from dff_ros.ros import process, qos
from dff_ros.ros.conversions import fill_image
from dff_ros.ros.endpoints import is_read
from dff_ros.ros.parameters import declare, usage
from dff_ros.settings import names_in

MASK_TOPIC = 'dff/mask'
MASKED = 255


@dataclass(frozen=True, kw_only=True)
class MaskConfig(Validated):
    """Which classes are masked."""

    classes: str = param('pedestrian', 'Names of the classes to mask, separated by commas', runtime=True)


class MaskNode(Node):
    """Publishes a mask for each label map while someone listens; none before the names of its classes have
    come.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('dff_mask', **options)
        self._config = replace(MaskConfig(), declare(self, walk(MaskConfig)))
        self._ids: dict[str, int] = {}
        self._table_256: NDArray[np.uint8] | None = None
        self._message = Image()
        self._mask = self.create_publisher(
            Image, MASK_TOPIC, qos.image_output(), qos_overriding_options=qos.overridable()
        )
        self.create_subscription(LabelInfo, 'dff/label_info', self._on_names, qos.latched())
        self.create_subscription(
            Image,
            'dff/segmentation',
            self._on_label_map,
            qos.image_output(),
            qos_overriding_options=qos.overridable(),
        )
        self.add_on_set_parameters_callback(self._check)
        self.add_post_set_parameters_callback(self._apply)

    def start(self, finish: Callable[[int], None]) -> None:
        """Nothing to begin: it works on what comes."""

    def _on_names(self, message: LabelInfo) -> None:
        self._ids = {entry.class_name: entry.class_id for entry in message.class_map}
        self._fill_table()

    def _fill_table(self) -> None:
        try:
            self._table_256 = mask_table(self._config.classes, self._ids)
        except ConfigError as error:
            self._table_256 = None
            self.get_logger().error(f'no masks: {error}')

    def _on_label_map(self, message: Image) -> None:
        if self._table_256 is None or message.encoding != 'mono8' or not is_read(self._mask):
            return
        label_map_HW = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        mask_HW = self._table_256[label_map_HW[:, : message.width]]
        self._mask.publish(fill_image(self._message, message.header, mask_HW))

    def _check(self, parameters: list[RosParameter]) -> SetParametersResult:
        try:
            config = self._changed(parameters)
            if self._ids:
                mask_table(config.classes, self._ids)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list[RosParameter]) -> None:
        self._config = self._changed(parameters)
        if self._ids:
            self._fill_table()

    def _changed(self, parameters: list[RosParameter]) -> MaskConfig:
        known = {parameter.name for parameter in walk(MaskConfig)}
        return replace(self._config, {p.name: p.value for p in parameters if p.name in known})


def mask_table(classes: str, ids: dict[str, int]) -> NDArray[np.uint8]:
    """(256,) the mask's value of each class id; ConfigError for a class that the label map does not have."""
    table_256 = np.zeros(256, np.uint8)
    for name in names_in(classes):
        if name not in ids:
            raise ConfigError(f'classes: got {name!r}, the label map has {", ".join(ids)}')
        table_256[ids[name]] = MASKED
    return table_256


def main(args: Sequence[str] | None = None) -> int:
    """Entry point `dff_mask`: 0 after a signal, 2 where a parameter is wrong."""
    summary = 'A mask (0 or 255) of some classes of dff/segmentation.'
    return process.run(MaskNode, args, usage('dff_mask', summary, walk(MaskConfig)))


if __name__ == '__main__':
    raise SystemExit(main())
