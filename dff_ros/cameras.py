# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The cameras of a node: their names, and the topics that follow from a name. No rclpy."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dff_ros.config import Parameter
from dff_ros.errors import ConfigError
from dff_ros.settings import names_in

CAMERAS = Parameter(
    'cameras',
    str,
    '',
    'Cameras by name, as a list or separated by commas: images on NAME/image are answered below NAME/dff; '
    'empty for one camera without a name',
)
"""The parameter of the node that names its topics; only ROS knows it."""

NO_NAME = ''
"""The name of the one camera of a node without `cameras`: its topics have no name before them."""

_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*')


def topic_of(camera: str, topic: str) -> str:
    """A topic of a camera, relative to the node's namespace."""
    return f'{camera}/{topic}' if camera else topic


def camera_names(value: object) -> tuple[str, ...]:
    """The names in a value of `cameras`, a text or a list of texts; (NO_NAME,) where there are none.

    Raises ConfigError on what cannot be a name, or comes twice.
    """
    found = names_in(value) if isinstance(value, str) else [] if value is None else value
    if not isinstance(found, Sequence) or not all(isinstance(name, str) for name in found):
        raise ConfigError(f'cameras: got {value!r}, expected names: [front, left] or front,left')
    names = tuple(name for name in found if name)
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f'cameras: got {name!r}; a name has letters, digits and _, begins with a letter, and may '
                'have parts separated by /; an image topic of another name is reached by remapping NAME/image'
            )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f'cameras: got {", ".join(twice)} twice; each camera needs a name of its own')
    return names or (NO_NAME,)
