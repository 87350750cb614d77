# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a model is made of: enough to rebuild its networks, written into checkpoints and bundles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args, get_origin, get_type_hints

from dff_ros.errors import ConfigError

HAND_MADE_FLOWS = ('dis', 'zero')
"""Flow sources that are no networks and have scale map 1; `zero` copies the feature."""

PAPER_FLOW_NETS = ('flownet_s', 'flownet_half', 'flownet_inception')
"""Flow networks of the paper: they look at both images."""

FLOW_SOURCES = (*HAND_MADE_FLOWS, *PAPER_FLOW_NETS, 'correlation')
"""What a model can propagate with. `correlation` matches the features of the light net."""

LIGHT_STRIDE = 8
"""Stride of the fine features of the light net, and of class scores that take detail from them."""

POOL_PADDINGS = ('both', 'end')

BOX_POOLINGS = ('cells', 'smooth')
"""What a bin of a box is the mean of: `cells`, the whole cells that it touches (the paper's); `smooth`, the
bilinear interpolation between cell centres over the bin itself.
"""

TASKS = ('segmentation', 'detection')
"""What a model can be for, in the order of `ModelSpec.tasks`."""

_MOST = {
    'channels': 4096,
    'light_channels': 1024,
    'correction_channels': 1024,
    'quality_channels': 1024,
    'detection_channels': 4096,
    'box_bins': 15,
    'proposals_before_nms': 100_000,
    'num_proposals': 10_000,
    'max_boxes': 10_000,
}
"""Far above every model known: a few bytes of a manifest must not ask for all memory."""
_MAX_SIDE = 8192
_MAX_ANCHORS = 32
_MAX_NAME = 100


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Architecture and input convention of a model.

    `feature_net` is a name of nets.resnet.FEATURE_NETS; `last_stage` 5 is the paper's trunk, 4 leaves stage
    5 out; `stride_in_1x1` and `pool_padding` are those of nets.resnet.ResNetFeature. `light_channels` is
    the width of the light net that looks at every frame (0: there is none, as in the paper); with it,
    `detail` lets the head see its fine features, and `correction_channels` is the width of the correction
    branch (0: none), `quality_channels` that of the net that predicts where propagation gives other labels
    than per-frame inference (0: none). `fine_flow`: the correlation flow net also searches at stride 8, as
    it always did in older models.
    `nominal_size` is the (height, width) the model was trained at. `mean` and `std` are
    RGB on a 0..1 scale. `class_colours` are RGB 0..255, one for each name.

    `class_names` empty: no segmentation head; `box_class_names` empty: no detection head; what follows is
    the latter's. `detection_channels`: width of the layers before it, which see the light net's `middle`
    features of the current frame too (0: none, the paper's head on the feature itself). Anchors are
    `anchor_ratios` (height / width) x `anchor_scales` x 16 px. `box_bins`: the paper's k; `box_pooling` is
    one of BOX_POOLINGS. `proposals_before_nms` anchors are left with at most `num_proposals`, those with at
    most `max_boxes` boxes. `cell_centre`: where cell 0 of the feature is centred, as an edge coordinate in
    pixels (0.5, the middle of pixel 0, is the grid convention; 8 is that of the paper's release).
    """

    class_names: tuple[str, ...]
    class_colours: tuple[tuple[int, int, int], ...]
    feature_net: str = 'resnet18'
    channels: int = 256
    last_stage: int = 5
    stride_in_1x1: bool = False
    pool_padding: str = 'both'
    light_channels: int = 0
    detail: bool = False
    correction_channels: int = 0
    quality_channels: int = 0
    flow_source: str = 'dis'
    fine_flow: bool = True
    nominal_size: tuple[int, int] = (360, 480)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    box_class_names: tuple[str, ...] = ()
    detection_channels: int = 0
    anchor_scales: tuple[float, ...] = (8.0, 16.0, 32.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    box_bins: int = 7
    box_pooling: str = 'cells'
    proposals_before_nms: int = 6000
    num_proposals: int = 300
    max_boxes: int = 300
    cell_centre: float = 0.5

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(ModelSpec).items():
            if not _has_type(getattr(self, name), hint):
                raise ConfigError(f'model: {name} is {getattr(self, name)!r}, expected {_in_words(hint)}')
        self._check_limits()
        if not self.tasks:
            raise ConfigError('a model needs class_names (segmentation), box_class_names (detection) or both')
        if len(self.class_names) != len(self.class_colours):
            raise ConfigError(
                f'a model needs one colour for each class: got {len(self.class_names)} names '
                f'and {len(self.class_colours)} colours'
            )
        if len(self.class_names) > 255:
            raise ConfigError(f'at most 255 classes fit a mono8 label map, got {len(self.class_names)}')
        if self.flow_source not in FLOW_SOURCES:
            raise ConfigError(
                f'flow_source: got {self.flow_source!r}, allowed is one of {", ".join(FLOW_SOURCES)}'
            )
        self._check_light_net()
        self._check_detection()
        if self.pool_padding not in POOL_PADDINGS:
            raise ConfigError(
                f'pool_padding: got {self.pool_padding!r}, allowed is one of {", ".join(POOL_PADDINGS)}'
            )
        if self.last_stage not in (4, 5):
            raise ConfigError(f'last_stage: got {self.last_stage!r}, allowed is 4 or 5')
        if self.channels < 1 or min(self.nominal_size) < 16:
            raise ConfigError(
                'channels must be positive and nominal_size at least 16x16, '
                f'got {self.channels}, {self.nominal_size}'
            )

    def _check_limits(self) -> None:
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise ConfigError(f'{name}: got {getattr(self, name)}, allowed is at most {most}')
        if max(self.nominal_size) > _MAX_SIDE:
            raise ConfigError(f'nominal_size: got {self.nominal_size}, allowed is at most {_MAX_SIDE} a side')
        for name in ('anchor_scales', 'anchor_ratios'):
            if len(getattr(self, name)) > _MAX_ANCHORS:
                raise ConfigError(
                    f'{name}: got {len(getattr(self, name))}, allowed are {_MAX_ANCHORS} at most'
                )
        for name in (*self.class_names, *self.box_class_names):
            if not name.isprintable() or len(name) > _MAX_NAME:
                raise ConfigError(
                    f'a class is called {name[:_MAX_NAME]!r}; a name is a printable text of at most '
                    f'{_MAX_NAME} characters'
                )
        for colour in self.class_colours:
            if not all(0 <= value <= 255 for value in colour):
                raise ConfigError(f'class_colours: got {colour}, allowed are three numbers from 0 to 255')

    def _check_light_net(self) -> None:
        if self.light_channels < 0 or self.light_channels % 8:
            raise ConfigError(f'light_channels: got {self.light_channels}, allowed is 0 or a multiple of 8')
        if self.correction_channels < 0:
            raise ConfigError(f'correction_channels: got {self.correction_channels}, allowed is 0 or more')
        if self.quality_channels < 0:
            raise ConfigError(f'quality_channels: got {self.quality_channels}, allowed is 0 or more')
        if self.quality_channels and not self.class_names:
            raise ConfigError('quality_channels: the net predicts labels that differ; it needs class_names')
        needing = {
            'flow_source correlation': self.flow_source == 'correlation',
            'detail': self.detail,
            'correction_channels': self.correction_channels > 0,
            'quality_channels': self.quality_channels > 0,
        }
        asked = [name for name, is_asked in needing.items() if is_asked]
        if asked and not self.light_channels:
            raise ConfigError(f'{asked[0]} needs the light net: set light_channels, 64 for example')

    def _check_detection(self) -> None:
        if self.box_pooling not in BOX_POOLINGS:
            raise ConfigError(
                f'box_pooling: got {self.box_pooling!r}, allowed is one of {", ".join(BOX_POOLINGS)}'
            )
        for name in ('box_bins', 'proposals_before_nms', 'num_proposals', 'max_boxes'):
            if getattr(self, name) < 1:
                raise ConfigError(f'{name}: got {getattr(self, name)}, allowed is 1 or more')
        for name in ('anchor_scales', 'anchor_ratios'):
            values = getattr(self, name)
            if not values or not all(0 < value < math.inf for value in values):
                raise ConfigError(f'{name}: got {values}, allowed are positive numbers, at least one')
        if not math.isfinite(self.cell_centre):
            raise ConfigError(f'cell_centre: got {self.cell_centre}, allowed is a finite number of pixels')
        if len(set(self.box_class_names)) < len(self.box_class_names) or '' in self.box_class_names:
            raise ConfigError(f'box_class_names: got {self.box_class_names}; each needs a name of its own')
        if self.detection_channels < 0 or (self.box_class_names and self._detection_width % 2):
            raise ConfigError(
                f'a detection head takes an even number of channels in halves, not {self._detection_width}: '
                'change detection_channels, or channels where that is 0'
            )

    @property
    def _detection_width(self) -> int:
        return self.detection_channels or self.channels

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the model is for, of TASKS, in their order."""
        is_there = bool(self.class_names), bool(self.box_class_names)
        return tuple(task for task, has_head in zip(TASKS, is_there, strict=True) if has_head)

    @property
    def num_classes(self) -> int:
        """Number of classes of the segmentation head."""
        return len(self.class_names)

    @property
    def light_outputs(self) -> tuple[str, ...]:
        """Which light features a frame hands on, to flow net, correction, quality net and head."""
        needed = {*self.matched, *self.head_light}
        if self.quality_channels > 0:
            needed.add('middle')
        if self.correction_channels > 0:
            needed |= {'middle', 'coarse'}
        return tuple(name for name in ('fine', 'middle', 'coarse') if name in needed)

    @property
    def head_light(self) -> tuple[str, ...]:
        """Which light features of a frame the heads take."""
        is_seen = 'detection' in self.tasks and self.detection_channels > 0 and self.light_channels > 0
        return (('fine',) if self.detail else ()) + (('middle',) if is_seen else ())

    @property
    def matched(self) -> tuple[str, ...]:
        """Which light features of two frames the flow net compares."""
        if self.flow_source != 'correlation':
            return ()
        return ('fine', 'middle', 'coarse') if self.fine_flow else ('middle', 'coarse')

    def flow_in_use(self, asked: str) -> str:
        """The flow source that a setting `flow` leads to: this model's own where it asks for `bundle`."""
        return self.flow_source if asked == 'bundle' else asked

    def to_dict(self) -> dict[str, object]:
        """As JSON stores it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> ModelSpec:
        """Back from `to_dict`; ConfigError on unknown or missing names or wrong types."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = set(values) - known
        if unknown:
            raise ConfigError(
                f'model: unknown entries {", ".join(sorted(unknown))}; known are {", ".join(sorted(known))}'
            )
        try:
            return cls(**{name: _tuples(value) for name, value in values.items()})  # type: ignore[arg-type]
        except TypeError as error:
            raise ConfigError(f'model: {error}') from error


def _has_type(value: object, hint: object) -> bool:
    """Whether a value is of an annotated type: int, float, str, and tuples of them; an int is no bool."""
    if get_origin(hint) is not tuple:
        return type(value) is hint or (hint is float and type(value) is int)
    if not isinstance(value, tuple):
        return False
    kinds: tuple[object, ...] = get_args(hint)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    return len(value) == len(kinds) and all(map(_has_type, value, kinds))


def _in_words(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else str(hint)


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value
