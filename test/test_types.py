"""Frames refuse images that nothing behind them could take."""

from __future__ import annotations

import numpy as np
import pytest

from dff_ros.errors import ConfigError, ShapeError
from dff_ros.model_spec import ModelSpec
from dff_ros.types import Frame


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((32, 32), np.uint8), r'\(32, 32\)'),
        (np.zeros((32, 32, 4), np.uint8), r'\(32, 32, 4\)'),
        (np.zeros((32, 32, 3), np.float32), 'float32'),
        (np.zeros((32, 15, 3), np.uint8), '15x32'),
        (np.zeros((32, 64, 3), np.uint8)[:, ::2], 'C-contiguous'),
    ],
)
def test_bad_image_is_named(image, message):
    with pytest.raises(ShapeError, match=message):
        Frame(image_HW3=image, stamp_ns=0)


def test_size_is_height_width():
    assert Frame(image_HW3=np.zeros((20, 30, 3), np.uint8), stamp_ns=0).size == (20, 30)


def spec(**changes: object) -> ModelSpec:
    values: dict[str, object] = {'class_names': ('a', 'b'), 'class_colours': ((0, 0, 0), (255, 0, 0))}
    return ModelSpec(**{**values, **changes})  # type: ignore[arg-type]


def test_spec_survives_json():
    import json

    before = spec(nominal_size=(96, 128), flow_source='flownet_half')
    assert ModelSpec.from_dict(json.loads(json.dumps(before.to_dict()))) == before
    assert before.num_classes == 2


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'class_names': ('a',)}, '1 names and 2 colours'),
        ({'flow_source': 'raft'}, "'raft'.*dis, zero, flownet_s"),
        ({'last_stage': 3}, 'last_stage'),
        ({'nominal_size': (8, 480)}, 'nominal_size'),
    ],
)
def test_bad_spec_names_the_entry(changes, message):
    with pytest.raises(ConfigError, match=message):
        spec(**changes)


def test_spec_with_unknown_or_missing_entries_is_refused():
    with pytest.raises(ConfigError, match='unknown entries depth'):
        ModelSpec.from_dict({**spec().to_dict(), 'depth': 18})
    with pytest.raises(ConfigError, match='class_names'):
        ModelSpec.from_dict({'channels': 4})
