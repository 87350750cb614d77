# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Multiply-add counts: the paper's ratios, hand-counted layers, and the command."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from dff_ros.cli import main
from dff_ros.commands.complexity import PAPER_INV_R
from dff_ros.errors import ConfigError
from dff_ros.evaluation.speed import StageCost
from dff_ros.geometry import grid_size
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.complexity import complexity_table, count_gmac, part_gmac, stage_gmac
from dff_ros.nets.dff import DffModel
from dff_ros.nets.light import LightFeatures
from dff_ros.nets.resnet import make_feature_net

TOLERANCE = {'flownet_s': 0.02, 'flownet_half': 0.02, 'flownet_inception': 0.05}


def run(capsys, *flags):
    assert main(['complexity', *flags]) == 0
    return capsys.readouterr().out


def test_the_papers_table(capsys):
    rows = json.loads(run(capsys, '--json'))
    assert [tuple(row) for row in rows] == [
        ('feature_net', 'flow_net', 'inv_r', 'extract_gmac', 'flow_gmac')
    ] * 6
    found = {(row['feature_net'], row['flow_net']): row['inv_r'] for row in rows}
    assert found.keys() == PAPER_INV_R.keys()
    for nets, inv_r in PAPER_INV_R.items():
        assert found[nets] == pytest.approx(inv_r, rel=TOLERANCE[nets[1]]), nets
    for row in rows:
        assert row['inv_r'] == pytest.approx(row['extract_gmac'] / row['flow_gmac'])


def test_the_papers_ratios_are_the_published_ones():
    assert PAPER_INV_R == {
        ('resnet50', 'flownet_s'): 9.20,
        ('resnet50', 'flownet_half'): 33.56,
        ('resnet50', 'flownet_inception'): 68.97,
        ('resnet101', 'flownet_s'): 12.71,
        ('resnet101', 'flownet_half'): 46.30,
        ('resnet101', 'flownet_inception'): 95.24,
    }


def test_the_parts_count_what_the_layer_lists_give():
    rows = complexity_table((1024, 2048), ['resnet101', 'resnet50'], ['flownet_s', 'flownet_half'], 1024)
    extract = {row.feature_net: row.extract_gmac for row in rows}
    flow = {row.flow_net: row.flow_gmac for row in rows}
    assert extract['resnet101'] == pytest.approx(408 + 155, rel=0.005)
    assert extract['resnet50'] == pytest.approx(253 + 155, rel=0.005)
    assert flow['flownet_s'] == pytest.approx(42 + 1.6, rel=0.005)
    assert flow['flownet_half'] == pytest.approx(11.2 + 0.8, rel=0.005)


@pytest.mark.parametrize(
    'layer, shape, multiply_adds',
    [
        (nn.Conv2d, (1, 6, 20, 30), 20 * 30 * 9 * 6 * 4),
        (nn.ConvTranspose2d, (1, 6, 20, 30), 20 * 30 * 9 * 6 * 4),
    ],
)
def test_single_layers_by_hand(layer, shape, multiply_adds):
    assert count_gmac(lambda: layer(6, 4, 3, padding=1), shape) == pytest.approx(multiply_adds / 1e9)


def test_other_sizes_and_channels(capsys):
    flags = ['--size', '480x352', '--feature-nets', 'resnet18', '--flow-nets', 'flownet_half', '--json']
    (small,) = json.loads(run(capsys, *flags, '--channels', '256'))
    (large,) = json.loads(run(capsys, *flags, '--channels', '512'))
    cells = (480 // 16) * (352 // 16)
    assert large['extract_gmac'] - small['extract_gmac'] == pytest.approx(cells * 9 * 512 * 256 / 1e9)
    assert large['flow_gmac'] - small['flow_gmac'] == pytest.approx(cells * 98 * 256 / 1e9)


def test_the_table_for_people(capsys):
    text = run(capsys)
    assert 'resnet101' in text and 'flownet_inception' in text
    assert '95.24' in text and '12.71' in text and 'paper' in text
    other = run(capsys, '--size', '512x512', '--flow-nets', 'flownet_half')
    assert 'paper' not in other and '512x512' in other


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--size', '1024'], "error: --size '1024' is not HEIGHTxWIDTH"),
        (['--size', '0x16'], 'error: image size is 0x16'),
        (['--flow-nets', 'raft'], "error: unknown flow net 'raft'; known are flownet_s, flownet_half"),
        (['--feature-nets', 'vgg'], "error: unknown feature net 'vgg'; known are resnet18"),
        (['--channels', '0'], 'error: feature channels is 0; at least 1'),
    ],
)
def test_bad_flags_are_one_line(capsys, flags, message):
    assert main(['complexity', *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count('\n') == 1


SIZE = (96, 160)
CELLS = {8: 12 * 20, 16: 6 * 10, 32: 3 * 5}


def light_spec(**changes):
    names = tuple(f'class {index}' for index in range(5))
    values = {'channels': 24, 'light_channels': 16, 'flow_source': 'correlation', **changes}
    return ModelSpec(class_names=names, class_colours=((0, 0, 0),) * 5, **values)


def test_the_parts_of_the_light_net_by_hand():
    parts = part_gmac(light_spec(detail=True, correction_channels=8), SIZE)
    # Stride of the output, channels in and out, side of the kernel.
    layers = [(2, 3, 4, 3), (4, 4, 8, 3), (8, 8, 8, 3), (2, 1, 3, 3), (4, 3, 16, 7), *[(8, 16, 16, 3)] * 4]
    layers += [(16, 16, 32, 3), *[(16, 32, 32, 3)] * 3, (16, 16, 32, 1)]
    layers += [(32, 32, 64, 3), *[(32, 64, 64, 3)] * 3, (32, 32, 64, 1)]
    macs = sum(96 * 160 // s**2 * side**2 * num_in * num_out for s, num_in, num_out, side in layers)
    assert parts.light == pytest.approx(macs / 1e9)
    convs = CELLS[16] * (2 * 32 * 32 + (32 + 24 + 32 + 1) * 8 + 4 * 9 * 8 * 8 + 8 + 8 * 24)
    assert parts.correction == pytest.approx((convs + CELLS[32] * 64 * 8) / 1e9)
    head = CELLS[16] * (24 * 5 + 24 * 64) + CELLS[8] * (24 * 64 + 9 * 64 * 64 + 64 * 5)
    assert parts.head == pytest.approx(head / 1e9)
    image = (1, 3, *SIZE)
    assert parts.feature == pytest.approx(count_gmac(lambda: make_feature_net('resnet18', 24), image))
    model = DffModel(light_spec()).flow_net
    light = LightFeatures(*(torch.zeros(1, n, *grid_size(SIZE, s)) for n, s in ((24, 8), (32, 16), (64, 32))))
    convs = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(
                lambda conv, _, out: convs.append(out[0, 0].numel() * conv.weight.numel())
            )
    model(light, light)
    assert parts.flow > sum(convs) / 1e9  # and the products of the correlation


DETECTION = {'box_class_names': ('car', 'person'), 'box_bins': 3, 'anchor_scales': (1.0, 2.0)}


def test_the_detection_head_by_hand():
    num_anchors, maps = 6, 9 * 3 + 9 * 4
    bare = part_gmac(light_spec(**DETECTION), SIZE)
    assert bare.detection == pytest.approx(CELLS[16] * 12 * (6 * num_anchors + maps) / 1e9)
    spec = light_spec(**DETECTION, detection_channels=8)
    parts = part_gmac(spec, SIZE)
    stem = 8 * (24 + 32) + 9 * 8 * 8
    assert parts.detection == pytest.approx(CELLS[16] * (stem + 4 * (6 * num_anchors + maps)) / 1e9)
    assert stage_gmac(spec, SIZE).predict == parts.head + parts.detection
    # What it sees of each frame is computed, whatever the flow.
    assert stage_gmac(spec, SIZE, 'zero').propagate == parts.light
    assert stage_gmac(light_spec(**DETECTION), SIZE, 'zero').propagate == 0
    alone = dataclasses.replace(spec, class_names=(), class_colours=())
    assert part_gmac(alone, SIZE) == dataclasses.replace(parts, head=0.0)
    assert part_gmac(light_spec(), SIZE).detection == 0


def test_stages_count_what_the_settings_run():
    spec = light_spec(correction_channels=8)
    parts = part_gmac(spec, SIZE)
    assert stage_gmac(spec, SIZE) == StageCost(
        parts.feature + parts.light, parts.light + parts.flow + parts.correction, parts.head
    )
    assert stage_gmac(spec, SIZE, 'zero').propagate == parts.light + parts.correction
    assert stage_gmac(spec, SIZE, 'dis', correction=False) == StageCost(parts.feature, 0.0, parts.head)
    assert stage_gmac(spec, SIZE, correction=False).propagate == parts.light + parts.flow
    paper = light_spec(light_channels=0, flow_source='flownet_half')
    half = part_gmac(paper, SIZE)
    assert (half.light, half.correction) == (0, 0)
    assert stage_gmac(paper, SIZE) == StageCost(half.feature, half.flow, half.head)


def test_the_quality_net_by_hand():
    spec = light_spec(correction_channels=8, quality_channels=8)
    without = stage_gmac(dataclasses.replace(spec, quality_channels=0), SIZE)
    convs = CELLS[16] * (2 * 32 * 8 + 24 * 8 + (3 * 8 + 4) * 8 + 2 * 9 * 8 * 8 + 8)
    assert part_gmac(spec, SIZE).quality == pytest.approx(convs / 1e9)
    found = stage_gmac(spec, SIZE)
    assert found.propagate - without.propagate == pytest.approx(convs / 1e9)
    assert (found.extract, found.predict) == (without.extract, without.predict)
    assert part_gmac(light_spec(), SIZE).quality == 0


def test_each_task_has_the_cost_of_its_head():
    spec = light_spec(box_class_names=('car', 'person'))
    parts = part_gmac(spec, SIZE)
    halves = 12 * 9 * (2 + 4) + 12 * 49 * (3 + 4)  # 9 anchors; 49 bins of 2 classes, background and a box
    assert parts.detection == pytest.approx(CELLS[16] * halves / 1e9)
    assert stage_gmac(spec, SIZE).predict == pytest.approx(parts.head + parts.detection)
    assert stage_gmac(spec, SIZE, tasks=['detection']).predict == parts.detection
    assert stage_gmac(spec, SIZE, tasks=['segmentation']).predict == parts.head
    only = dataclasses.replace(spec, class_names=(), class_colours=())
    assert part_gmac(only, SIZE).head == 0 < part_gmac(only, SIZE).detection


def test_the_parts_of_a_bundle(light_bundle, capsys):
    (facts,) = [json.loads(run(capsys, '--bundle', str(light_bundle.path), '--json'))]
    parts = part_gmac(light_bundle.spec, (96, 128))
    assert facts['size'] == [96, 128]
    assert facts['parts'] == dataclasses.asdict(parts)
    assert facts['r'] == pytest.approx(stage_gmac(light_bundle.spec, (96, 128)).ratio)
    text = run(capsys, '--bundle', str(light_bundle.path), '--size', '192x256')
    assert 'at 96x128' in ' '.join(text.split())  # what the network sees of such an image
    for line in ('light', 'flow', 'correction', f'{parts.light:.4g}', f'{parts.correction:.4g}'):
        assert line in text


def test_library_errors_are_config_errors():
    with pytest.raises(ConfigError, match='both sides must be at least 1'):
        complexity_table((0, 5), ['resnet18'], ['flownet_s'], 8)
