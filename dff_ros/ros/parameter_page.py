# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The page docs/parameters.md, from the definitions of the parameters.

`python -m dff_ros.ros.parameter_page > docs/parameters.md`
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from typing import get_type_hints

from dff_ros.config import DffConfig, Parameter, walk
from dff_ros.ros import diagnostics, qos
from dff_ros.ros.camera import CameraConfig
from dff_ros.ros.mask import MaskConfig
from dff_ros.ros.parameters import NODE_PARAMETERS, when_allowed
from dff_ros.ros.publishers import Publishers

_INTRODUCTION = """# Parameters

Made by `python -m dff_ros.ros.parameter_page` from `dff_ros/config.py` and `dff_ros/keyframe_config.py`,
as is [`config/dff.yaml`](../config/dff.yaml), the parameter file to copy and change. What stands under
*General* and in the groups below it are flags of the command line too (`dff run --keyframe.interval 8`), and
what has no dot is a launch argument.

```
ros2 param describe /dff_node keyframe.interval   # the same as here, from the running node
ros2 param set /dff_node keyframe.interval 8      # refused, with the reason, where the value does not fit
ros2 param dump /dff_node > mine.yaml             # loads back: params_file:=mine.yaml
```

When a parameter may change: *running*, at any time, from the next frame on; *unconfigured*, after
`ros2 lifecycle set /dff_node deactivate` and `cleanup`; *start*, only where the node is started.
"""

_QOS = """## Quality of service

The QoS of each topic below can be overridden, at start or while the node is unconfigured, by
`qos_overrides.TOPIC.KIND.history`, `.depth`, `.reliability` and `.durability`; TOPIC is the full name after
namespace and remapping, KIND is `subscription` or `publisher`:

```yaml
/**/dff_node:
  ros__parameters:
    qos_overrides:
      /camera/image_raw:
        subscription: {reliability: reliable, depth: 2}
```

| topic | kind | reliability | depth | durability |
|---|---|---|---|---|
"""

_WHEN = {
    'may change while running': 'running',
    'may change while the node is unconfigured': 'unconfigured',
    'read at start': 'start',
}
_TYPES = {bool: 'bool', int: 'integer', float: 'double', str: 'string'}


def to_markdown() -> str:
    """The whole page."""
    known = list(walk(DffConfig))
    sections = [_section('Node', 'What only ROS knows.', NODE_PARAMETERS, is_read_only=True)]
    plain = [parameter for parameter in known if '.' not in parameter.name]
    sections.append(_section('General', 'Model, runtime, and what is computed.', plain))
    for name, doc in _groups():
        group = [parameter for parameter in known if parameter.name.startswith(f'{name}.')]
        sections.append(_section(f'`{name}.*`', doc, group))
    camera = 'Parameters of `dff_camera`, which plays the simulated street, a video or images.'
    sections.append(_section('dff_camera', camera, walk(CameraConfig), is_read_only=True))
    sections.append(
        _section('dff_mask', 'Parameters of `dff_mask` ([nvblox.md](nvblox.md)).', walk(MaskConfig))
    )
    return '\n'.join([_INTRODUCTION, *sections, _QOS + '\n'.join(_qos_rows()) + '\n'])


def _groups() -> Iterator[tuple[str, str]]:
    hints = get_type_hints(DffConfig)
    for field in dataclasses.fields(DffConfig):
        if dataclasses.is_dataclass(hints[field.name]):
            yield field.name, (hints[field.name].__doc__ or '').split('\n')[0]


def _section(title: str, doc: str, parameters: Iterable[Parameter], *, is_read_only: bool = False) -> str:
    lines = [
        f'## {title}',
        '',
        doc,
        '',
        '| name | type | default | allowed | unit | change | meaning |',
        '|---' * 7 + '|',
    ]
    lines += [_row(parameter, is_read_only) for parameter in parameters]
    return '\n'.join(lines) + '\n'


def _row(parameter: Parameter, is_read_only: bool) -> str:
    cells = (
        f'`{parameter.name}`',
        _TYPES[parameter.kind],
        _default(parameter),
        _allowed(parameter),
        parameter.unit,
        _WHEN[when_allowed(parameter, is_read_only)],
        parameter.description,
    )
    return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'


def _default(parameter: Parameter) -> str:
    if parameter.kind is bool:
        return str(parameter.default).lower()
    return 'empty' if parameter.default == '' else f'{parameter.default}'


def _allowed(parameter: Parameter) -> str:
    if parameter.choices:
        return ', '.join(parameter.choices)
    if parameter.minimum is not None and parameter.maximum is not None:
        return f'{parameter.minimum:g} to {parameter.maximum:g}'
    return ''


def _qos_rows() -> Iterator[str]:
    profiles = {(topic, 'subscription'): qos.newest_image() for topic in ('image', 'image/compressed')}
    profiles['camera_info', 'subscription'] = qos.sensor_input()
    profiles |= {(topic, 'publisher'): profile() for topic, profile in Publishers.PROFILES.items()}
    profiles[diagnostics.TOPIC, 'publisher'] = qos.diagnostics_output()
    for (topic, kind), profile in profiles.items():
        reliability, durability = (
            policy.name.lower().replace('_', ' ') for policy in (profile.reliability, profile.durability)
        )
        yield f'| `{topic}` | {kind} | {reliability} | {profile.depth} | {durability} |'


if __name__ == '__main__':
    sys.stdout.write(to_markdown())
