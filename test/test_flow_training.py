# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Flow pre-training: batches, learning, resume, files, evaluation, flags and errors."""

import argparse
import json
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from interrupting import interrupted_in
from made_layers import smooth_texture
from run_checks import check_same_checkpoint

from dff_ros import cli
from dff_ros.config import replace, walk
from dff_ros.data.images import image_folders
from dff_ros.data.layers import Layer, Motion, render
from dff_ros.data.pair_sample import PairSample
from dff_ros.errors import ConfigError, DataError
from dff_ros.nets.dff import DffModel, read_spec
from dff_ros.training import checkpoint, flow_evaluation, flow_loop, run_log
from dff_ros.training.flow_config import FlowTrainConfig
from dff_ros.training.flow_trainer import FlowModel, FlowTrainer, flow_spec
from dff_ros.training.pair_batch import stack_pairs
from dff_ros.training.pair_batches import MadePairs, PairBatches, RenderedPairs

SIZE = (64, 96)


def translation(x: float, y: float, seed: int = 0) -> PairSample:
    """A pair whose flow is (x, y) everywhere."""
    matrix = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)
    texture = smooth_texture(seed, (140, 180))
    return render([Layer(texture, np.array([[1, 0, 40], [0, 1, 40]], float), Motion(matrix))], SIZE)


class Pairs(list):
    """A finite set of pairs."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images in two folders."""
    for number in range(5):
        path = tmp_path / 'images' / str(number % 2) / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), smooth_texture(number, (100, 150)))
    return tmp_path / 'images'


def config_of(run: Path, **changes: object) -> FlowTrainConfig:
    settings = {
        'run': str(run), 'steps': 6, 'batch': 2, 'height': SIZE[0], 'width': SIZE[1], 'warmup': 0,
        'threads': 1, 'device': 'cpu', 'log_every': 2, 'channels': 8, 'flow_net': 'flownet_inception',
        'held_out': 2, 'bf16': False,
    }  # fmt: skip
    return replace(FlowTrainConfig(), {**settings, **changes})


# Batches


def batches_of(num_made: int, num_rendered: int, seed: int = 1) -> PairBatches:
    made = Pairs(translation(k, 0, seed=k) for k in range(12))
    rendered = Pairs(translation(0, k, seed=k) for k in range(3))
    return PairBatches([MadePairs(made, num_made), RenderedPairs(rendered, num_rendered, seed)], workers=2)


def test_made_pairs_come_in_order_and_rendered_ones_in_epochs():
    batches = batches_of(2, 1)
    run = list(batches.ahead(0, 6))
    assert [list(batch.flow_B2HW[:2, 0, 0, 0]) for batch in run] == [[2 * k, 2 * k + 1] for k in range(6)]
    rendered = [float(batch.flow_B2HW[2, 1, 0, 0]) for batch in run]
    assert sorted(rendered[:3]) == sorted(rendered[3:]) == [0, 1, 2]
    later = next(iter(batches_of(2, 1).ahead(4, 5)))
    for name in ('current_BHW3', 'key_BHW3', 'flow_B2HW', 'is_visible_BHW'):
        np.testing.assert_array_equal(getattr(later, name), getattr(run[4], name))


def test_rendered_pairs_are_mirrored_at_random():
    pair = translation(5, 0)
    batches = PairBatches([RenderedPairs(Pairs([pair]), 8, 0)], workers=1)
    batch = batches.batch(0)
    signs = batch.flow_B2HW[:, 0, 0, 0]
    assert set(signs) == {5.0, -5.0}
    mirrored = int(np.argmin(signs))
    np.testing.assert_array_equal(batch.current_BHW3[mirrored], pair.current_HW3[:, ::-1])


# Learning


def test_a_net_learns_opposite_translations(tmp_path: Path):
    """Nothing but the images can tell which pair has which flow."""
    config = config_of(tmp_path, steps=100, batch=2, lr=2e-3, ema=0.0)
    pairs = Pairs(translation(x, 0, seed) for seed, x in enumerate([12, -12]))
    trainer = FlowTrainer(config)
    batch = stack_pairs(pairs)
    scale_map = trainer.model.flow_net.Convolution5_scale.weight.detach().clone()
    losses = [float(trainer.step(number, batch)['loss']) for number in range(config.steps)]
    assert losses[0] == pytest.approx(2.25 * 12 / 40, rel=0.05)
    methods = {'net': trainer.trained_model().flow, 'zero': lambda *_: np.zeros((2, 4, 6), np.float32)}
    figures = flow_evaluation.held_out_error(methods, pairs, 16, lambda *_: None)
    assert figures['zero_epe_px'] == pytest.approx(12.0)
    assert figures['net_epe_px'] < 3.0
    torch.testing.assert_close(trainer.model.flow_net.Convolution5_scale.weight, scale_map)


def test_a_constant_flow_is_exact_at_the_cells():
    pairs = Pairs(translation(12, 0, seed) for seed in range(2))
    methods = {'zero': lambda *_: np.zeros((2, 4, 6), np.float32)}
    figures = flow_evaluation.held_out_error(methods, pairs, 16, lambda *_: None)
    assert figures['zero_epe_px'] == pytest.approx(12.0)
    assert figures['exact_epe_px'] == pytest.approx(0.0, abs=1e-3)


# The run


def test_a_run_writes_the_flow_net_its_spec_and_its_figures(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(flow_evaluation, 'PHOTOMETRIC_SPACINGS', (1,))
    config = config_of(tmp_path / 'run', images=str(images), photometric=str(images), ema=0.0)
    assert flow_loop.train_flow(config) == 0
    run = tmp_path / 'run'
    spec, facts = read_spec(run / 'model.json')
    assert (spec.flow_source, spec.channels, spec.nominal_size) == ('flownet_inception', 8, SIZE)
    assert spec.mean == (0.485, 0.456, 0.406)
    assert (facts['kind'], facts['data']) == ('flow', ['made pairs of images'])
    assert str(tmp_path) not in (run / 'model.json').read_text()
    from safetensors.torch import load_file

    weights = load_file(run / checkpoint.WEIGHTS_FILE)
    assert set(weights) == {name for name in DffModel(spec).state_dict() if name.startswith('flow_net.')}
    missing = DffModel(spec).load_state_dict(weights, strict=False)
    assert missing.unexpected_keys == []
    trained = torch.load(run / 'checkpoint.pt', weights_only=True)['state']['model']
    torch.testing.assert_close(weights, {name: trained[name] for name in weights})
    results = flow_loop.read_results(run)
    assert results['held_out'] == facts['accuracy']['held_out']
    assert set(results['held_out']) == {'images'}
    assert (
        results['photometric']['spacing 1']['num_pairs'] == 3
    )  # two frames in one folder, three in the other
    assert [entry['step'] for entry in run_log.steps_of(run_log.read_log(run))] == [2, 4, 6]


def test_resume_equals_an_uninterrupted_run_bit_for_bit(tmp_path: Path, images: Path):
    assert flow_loop.train_flow(config_of(tmp_path / 'whole', images=str(images), bf16=True)) == 0
    interrupted = config_of(tmp_path / 'parts', images=str(images), bf16=True)
    with interrupted_in(FlowTrainer, 2, signal.SIGTERM):
        assert flow_loop.train_flow(interrupted) == 128 + signal.SIGTERM
    assert not (tmp_path / 'parts' / flow_loop.RESULTS_FILE).exists()
    assert flow_loop.train_flow(interrupted, resume=True) == 0
    check_same_checkpoint(tmp_path / 'whole', tmp_path / 'parts', step=6)
    assert flow_loop.read_results(tmp_path / 'whole') == flow_loop.read_results(tmp_path / 'parts')


def test_the_street_trains_too(tmp_path: Path, images: Path):
    config = config_of(
        tmp_path / 'run', images=str(images), street=2, street_per_batch=1, steps=1,
        street_cache=str(tmp_path / 'cache'),
    )  # fmt: skip
    data = flow_loop.open_flow_data(config)
    assert set(data.held_out) == {'images', 'street'}
    assert not np.array_equal(data.held_out['street'][0].key_HW3, data.train_street[0].key_HW3)
    assert not np.array_equal(data.held_out['images'][0].key_HW3, data.train_images[0].key_HW3)
    assert flow_loop.train_flow(config) == 0
    held_out = flow_loop.read_results(tmp_path / 'run')['held_out']
    assert held_out['street']['num_pairs'] == 2
    assert 0 < held_out['street']['exact_epe_px'] < held_out['street']['zero_epe_px']


# Evaluation


def test_pixel_flow_lies_on_the_cells_grid():
    cells = np.zeros((2, 4, 6), np.float32)
    cells[0], cells[1] = np.arange(6), np.arange(4)[:, None]
    flow = flow_evaluation.pixel_flow(cells, SIZE, 16)
    np.testing.assert_allclose(flow[0, 0, [0, 8, 16, 40, 80, 95]], [0, 8, 16, 40, 80, 80], atol=1e-4)
    np.testing.assert_allclose(flow[1, [0, 24, 48, 63], 0], [0, 24, 48, 48], atol=1e-4)


def test_photometric_error_compares_the_same_pixels(tmp_path: Path):
    """A video that moves by 16 pixels, one cell, with each frame: that flow explains it, zero does not."""
    texture = smooth_texture(5, (64, 400))
    for index in range(7):
        path = tmp_path / 'video' / f'{index}.png'
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), texture[:, 16 * index : 16 * index + 96, ::-1])
    exact = np.zeros((2, 4, 6), np.float32)
    exact[0] = 1.0
    methods = {'net': lambda *_: exact, 'zero': lambda *_: 0 * exact}
    rows = flow_evaluation.photometric_error(methods, tmp_path, SIZE, 16, lambda *_: None)
    assert set(rows) == {'spacing 1', 'spacing 5'}
    assert rows['spacing 1']['num_pairs'] == 6
    assert rows['spacing 1']['net_error'] == 0.0
    frames = [texture[:, 16 * k : 16 * k + 96].astype(float) for k in range(7)]
    # The last 16 columns come from outside of the key image: they count for no method.
    by_hand = np.mean([np.abs(frames[k + 1] - frames[k])[:, :80].mean() for k in range(6)])
    assert rows['spacing 1']['zero_error'] == pytest.approx(by_hand, abs=2e-3)


def test_videos_that_are_too_short_are_refused_before_the_training(tmp_path: Path, images: Path):
    config = config_of(tmp_path / 'run', images=str(images), photometric=str(images))
    with pytest.raises(DataError, match='no folder in .*images has more than 5 images'):
        flow_loop.train_flow(config)
    assert not (tmp_path / 'run').exists()


def test_the_hand_made_flows_have_the_units_of_the_net():
    config = config_of(Path('unused'))
    methods = flow_evaluation.flow_methods(FlowModel(flow_spec(config)).eval(), 1)
    pair = translation(8, -4)
    dis = methods['dis'](pair.current_HW3, pair.key_HW3)
    assert dis.shape == methods['zero'](pair.current_HW3, pair.key_HW3).shape == (2, 4, 6)
    assert methods['net'](pair.current_HW3, pair.key_HW3).shape == (2, 4, 6)
    np.testing.assert_allclose(dis[:, 1:-1, 1:-1].mean(axis=(1, 2)), [0.5, -0.25], atol=0.05)


# Settings and errors


def test_settings_that_do_not_go_together():
    for changes, text in (
        ({}, 'run: give the directory'),
        ({'run': 'r'}, 'nothing to train on: give --images DIR, or --street N'),
        (
            {'run': 'r', 'images': 'i', 'street': 9, 'batch': 2, 'street_per_batch': 2},
            'must leave room for pairs made of images in a batch of 2',
        ),
    ):
        with pytest.raises(ConfigError, match=text):
            replace(FlowTrainConfig(), changes).check_together()
    with pytest.raises(ConfigError, match='flow_net: got .dis., allowed is one of flownet_s, flownet_half'):
        replace(FlowTrainConfig(), {'flow_net': 'dis'})
    with pytest.raises(ConfigError, match='motion.shift: got -1.0, allowed is from 0 to 1000 px'):
        replace(FlowTrainConfig(), {'motion.shift': -1.0})


def test_every_setting_is_a_flag():
    from dff_ros.commands import train
    from dff_ros.flags import given_flags

    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    texts = {bool: 'false', int: '100', float: '0.1', str: 'x'}
    for parameter in walk(FlowTrainConfig):
        text = parameter.choices[-1] if parameter.choices else texts[parameter.kind]
        text = '2' if parameter.name in ('checkpoint_s', 'street_fps') else text
        given = given_flags(parser.parse_args(['flow', f'--{parameter.name}', text]))
        assert given == {parameter.name: parameter.kind(text) if parameter.kind is not bool else False}
    assert FlowTrainConfig().lr == 3e-4  # its own default under the shared range


def test_unusable_images_are_named(tmp_path: Path, images: Path):
    with pytest.raises(DataError, match='image folder .*missing does not exist'):
        flow_loop.train_flow(config_of(tmp_path / 'a', images=str(tmp_path / 'missing')))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='holds no image'):
        flow_loop.train_flow(config_of(tmp_path / 'b', images=str(tmp_path / 'empty')))
    cv2.imwrite(str(tmp_path / 'empty' / 'a.png'), smooth_texture(0))
    with pytest.raises(DataError, match='has only one image'):
        flow_loop.train_flow(config_of(tmp_path / 'c', images=str(tmp_path / 'empty')))
    assert [path.name for paths in image_folders(images).values() for path in paths] == [
        '0.png', '2.png', '4.png', '1.png', '3.png',
    ]  # fmt: skip


def test_large_images_are_shrunk_to_what_the_pairs_need():
    shrunk = flow_loop._shrink(np.zeros((640, 1200, 3), np.uint8), SIZE)
    assert shrunk.shape == (96, 180, 3)  # 1.5 times 64, and wider than 1.5 times 96
    assert flow_loop._shrink(shrunk, SIZE) is shrunk


def test_resume_with_other_settings_is_refused(tmp_path: Path, images: Path):
    config = config_of(tmp_path / 'run', images=str(images), steps=1)
    flow_loop.train_flow(config)
    with pytest.raises(ConfigError, match='already holds a run'):
        flow_loop.train_flow(config)
    with pytest.raises(ConfigError, match='motion.shift was 40.0, is 5.0'):
        flow_loop.train_flow(replace(config, {'motion.shift': 5.0}), resume=True)


def test_the_command_prints_its_figures_as_json(tmp_path: Path, images: Path, capsys):
    flags = {
        'run': tmp_path / 'run', 'images': images, 'steps': 2, 'batch': 1, 'height': 64, 'width': 96,
        'threads': 1, 'device': 'cpu', 'channels': 8, 'held_out': 1, 'flow_net': 'flownet_inception',
        'motion.shift': 6.0,
    }  # fmt: skip
    command = [text for name, value in flags.items() for text in (f'--{name}', str(value))]
    assert cli.main(['train', 'flow', '--json', *command]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / 'run' / 'flow.json').read_text())
    assert printed['flow_net'] == 'flownet_inception'
    assert printed['held_out']['images']['num_pairs'] == 1
    assert (
        cli.main(['train', 'flow', '--resume', '--run', str(tmp_path / 'none'), '--images', str(images)]) == 2
    )
    assert 'nothing to resume' in capsys.readouterr().err
