# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Start weights of models with other heads: what fits is loaded, the rest starts afresh and is told."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('torch')
import torch
from tiny_models import BOTH, DETECTION, ONLY_DETECTION, tiny_model, tiny_spec

from dff_ros.errors import DataError
from dff_ros.nets.dff import DffModel
from dff_ros.training.start import Start, in_words, load_start

BARE = {'light_channels': 16}


def start_of(**changes) -> Start:
    model = tiny_model(seed=1, **changes).folded()
    return Start(Path('runs/first/model.safetensors'), model.spec, model.state_dict(), {})


def started(start: Start, **changes) -> tuple[DffModel, set[str], str]:
    model = DffModel(tiny_spec(**changes), batch_norm=False)
    loaded = load_start(model, start)
    for name in loaded:
        assert torch.equal(model.state_dict()[name], start.weights[name])
    return model, loaded, in_words(loaded, model, start)


def heads_in(names: set[str]) -> set[str]:
    return {'.'.join(name.split('.')[:2]) for name in names if name.startswith('heads.')}


@pytest.mark.parametrize(
    ('before', 'after', 'heads'),
    [
        ({}, DETECTION, {'heads.segmentation'}),
        (DETECTION, {}, {'heads.segmentation'}),
        (DETECTION, DETECTION, {'heads.segmentation', 'heads.detection'}),
        (DETECTION, ONLY_DETECTION, {'heads.detection'}),
        (ONLY_DETECTION, DETECTION, {'heads.detection'}),
        ({}, ONLY_DETECTION, set()),
        (BOTH, {**BOTH, 'num_proposals': 9}, {'heads.segmentation', 'heads.detection'}),
        (BOTH, {**DETECTION, 'detection_channels': 24}, {'heads.segmentation', 'heads.detection'}),
    ],
)
def test_heads_that_both_have_are_loaded(before, after, heads):
    model, loaded, words = started(start_of(**before), **after)
    assert heads_in(loaded) == heads
    expected = {name for name in model.state_dict() if not name.startswith('heads.')}
    assert {name for name in loaded if not name.startswith('heads.')} == expected
    assert 'without' not in words


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({'box_class_names': ('person', 'car')}, 'other classes'),
        ({'box_bins': 3}, 'another size'),
        ({'anchor_scales': (1.0, 2.0, 4.0)}, 'another size'),
        ({'detection_channels': 8}, 'another size'),
    ],
)
def test_a_detection_head_of_another_kind_starts_afresh(changes, told):
    _, loaded, words = started(start_of(**DETECTION), **{**DETECTION, **changes})
    assert heads_in(loaded) == {'heads.segmentation'}
    assert words.endswith(f'; without its detection head, which has {told}')


def test_other_classes_of_one_head_leave_the_other():
    changes = {'class_names': ('a', 'b'), 'class_colours': ((0, 0, 0), (1, 1, 1)), **DETECTION}
    _, loaded, words = started(start_of(**DETECTION), **changes)
    assert heads_in(loaded) == {'heads.detection'}
    assert words.endswith('; without its segmentation head, which has other classes')


def test_what_has_no_place_is_still_refused():
    start = start_of()
    start.weights['heads.other.weight'] = torch.zeros(1)
    with pytest.raises(DataError, match='no place for heads.other.weight'):
        started(start)
