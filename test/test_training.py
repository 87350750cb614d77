# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Training: batches, class weights, checkpoints, resume, stop and the errors a user meets."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupting import interrupted_in
from run_checks import check_same_checkpoint

from dff_ros.config import replace, to_flat, walk
from dff_ros.data import street_set
from dff_ros.data.augment_config import AugmentConfig
from dff_ros.data.classes import CAMVID_CLASSES
from dff_ros.data.samples import Sample
from dff_ros.data.street import Street
from dff_ros.errors import BackendUnavailableError, ConfigError, DataError
from dff_ros.nets.dff import load_model, read_spec
from dff_ros.training import checkpoint, loop, run_log, sources, trainer
from dff_ros.training.batches import Batches, Source
from dff_ros.training.config import CHANGEABLE, TrainConfig
from dff_ros.training.evaluation import evaluate

SIZE = (48, 64)


class Samples:
    """Made frames: the left part is sky, the right part road, their border wanders."""

    def __init__(self, count: int = 4) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        labels = np.zeros(SIZE, np.uint8)
        labels[:, 16 + 8 * (index % 4) :] = 3
        labels[:2] = 255
        image = np.where(labels[..., None] == 3, (60, 60, 60), (150, 180, 230)).astype(np.uint8)
        image[..., 0] += np.uint8(index)
        return Sample(f'made_{index}', image, labels)


STILL = {
    f'augment.{name}': value
    for name, value in {
        'scale_min': 1.0, 'scale_max': 1.0, 'flip': 0.0, 'brightness': 0.0, 'contrast': 0.0,
        'saturation': 0.0, 'hue': 0.0, 'gamma': 0.0, 'blur': 0.0, 'noise': 0.0,
    }.items()
}  # fmt: skip


def config_of(run: Path, **changes: object) -> TrainConfig:
    settings = {
        'run': str(run), 'street': 1, 'steps': 6, 'batch': 2, 'crop_height': SIZE[0], 'crop_width': SIZE[1],
        'warmup': 0, 'threads': 1, 'device': 'cpu', 'log_every': 2, 'channels': 16, 'last_stage': 4,
        'bf16': False,
    }  # fmt: skip
    return replace(TrainConfig(), {**settings, **changes})


def made_sources(config: TrainConfig) -> sources.TrainingData:
    return sources.TrainingData((Source(Samples(), config.batch),), CAMVID_CLASSES, ())


@pytest.fixture(autouse=True)
def made_data(monkeypatch: pytest.MonkeyPatch):
    """The loop's data are the made frames."""
    monkeypatch.setattr(loop, 'open_sources', made_sources)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run / checkpoint.WEIGHTS_FILE)


# Batches


def batches_of(config: AugmentConfig, seed: int = 5, batch: int = 3) -> Batches:
    return Batches([Source(Samples(7), batch)], config, SIZE, seed, workers=2)


def test_every_epoch_shows_each_sample_once_in_another_order():
    batches = batches_of(AugmentConfig())
    indices = [index for step in range(7) for _, index in batches.picks(step)]
    epochs = [indices[start : start + 7] for start in (0, 7, 14)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_depends_on_seed_and_step_only():
    first, second = batches_of(AugmentConfig()), batches_of(AugmentConfig())
    run = list(first.ahead(0, 5))
    later = list(second.ahead(3, 5))
    for expected, got in zip(run[3:], later, strict=True):
        np.testing.assert_array_equal(expected.images_BHW3, got.images_BHW3)
        np.testing.assert_array_equal(expected.labels_BHW, got.labels_BHW)
    assert not np.array_equal(run[3].images_BHW3, batches_of(AugmentConfig(), seed=6).batch(3).images_BHW3)
    assert not np.array_equal(run[0].images_BHW3, run[1].images_BHW3)


def test_each_source_fills_its_share_of_a_batch():
    batches = Batches([Source(Samples(3), 3), Source(Samples(2), 1)], AugmentConfig(), SIZE, 0, workers=1)
    assert [[number for number, _ in batches.picks(step)] for step in (0, 9)] == [[0, 0, 0, 1]] * 2


# Class weights and learning rate


def test_class_weights_are_powers_of_the_frequency_with_pixel_mean_one():
    labels = np.repeat(np.array([0, 1, 255], np.uint8), [160, 40, 56]).reshape(16, 16)
    source = Source([Sample('a', np.zeros((16, 16, 3), np.uint8), labels)], 1)  # type: ignore[arg-type]
    weights = sources.class_weights([source], 0.5, 3)
    # frequencies 0.8 and 0.2: weights 0.8^-0.5 and 0.2^-0.5 over their pixel mean 0.8^0.5 + 0.2^0.5
    scale = 0.8**0.5 + 0.2**0.5
    np.testing.assert_allclose(weights, [0.8**-0.5 / scale, 0.2**-0.5 / scale, 1.0], rtol=1e-6)
    np.testing.assert_allclose(sources.class_weights([source], 0.0, 3), [1, 1, 1], rtol=1e-6)


def test_class_weights_count_sources_by_their_share_of_a_batch():
    one, two = (np.full((16, 16), k, np.uint8) for k in (0, 1))
    image = np.zeros((16, 16, 3), np.uint8)
    both = [Source([Sample('a', image, one)], 3), Source([Sample('b', image, two)] * 9, 1)]  # type: ignore[arg-type]
    weights = sources.class_weights(both, 1.0, 2)
    assert weights[1] / weights[0] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ('step', 'expected'),
    [(0, 0.25), (3, (1 - 3 / 100) ** 0.9), (50, 0.5**0.9), (99, 0.01**0.9)],
)
def test_learning_rate_warms_up_and_decays(step: int, expected: float):
    config = replace(TrainConfig(), {'steps': 100, 'warmup': 3, 'poly_power': 0.9})
    assert trainer.lr_schedule(config, step) == pytest.approx(expected)


# The loop


def test_four_made_frames_are_learnt(tmp_path: Path):
    config = config_of(tmp_path / 'run', steps=80, batch=4, lr=2e-3, ema=0.9, **STILL)
    assert loop.train(config) == 0
    losses = [
        float(entry['loss']) for entry in run_log.read_log(tmp_path / 'run') if entry['event'] == 'step'
    ]
    assert losses[0] > 1.0
    assert losses[-1] < 0.25
    run = tmp_path / 'run'
    model = load_model(read_spec(run / 'model.json')[0], run / 'model.safetensors')
    counts = evaluate(model, Samples())
    assert counts.pixel_accuracy() > 90
    assert counts.num_pixels == 4 * 46 * 64


def test_resume_equals_an_uninterrupted_run_bit_for_bit(tmp_path: Path):
    assert loop.train(config_of(tmp_path / 'whole', bf16=True)) == 0
    interrupted = config_of(tmp_path / 'parts', bf16=True)
    with interrupted_in(trainer.Trainer, 2, signal.SIGTERM):
        assert loop.train(interrupted) == 128 + signal.SIGTERM
    assert not (tmp_path / 'parts' / checkpoint.MODEL_FILE).exists()
    assert loop.train(interrupted, resume=True) == 0
    check_same_checkpoint(tmp_path / 'whole', tmp_path / 'parts', step=6)
    losses = [
        [e['loss'] for e in run_log.steps_of(run_log.read_log(tmp_path / n))][-1] for n in ('whole', 'parts')
    ]
    assert losses[0] == losses[1]
    assert (tmp_path / 'parts' / 'log.png').read_bytes()[:4] == b'\x89PNG'


def test_ctrl_c_leaves_a_checkpoint_of_the_steps_done(tmp_path: Path, capsys):
    with interrupted_in(trainer.Trainer, 1, signal.SIGINT):
        assert loop.train(config_of(tmp_path)) == 130
    assert checkpoint.load_checkpoint(tmp_path / 'checkpoint.pt', to_flat(config_of(tmp_path)), ())[0] == 2
    assert 'stopped after step 2 of 6; the same command with --resume goes on' in capsys.readouterr().out


def test_the_kept_weights_are_the_moving_average(tmp_path: Path):
    config = config_of(tmp_path, ema=0.0)
    made = trainer.Trainer(config, trainer.model_spec(config, CAMVID_CLASSES), np.ones(11, np.float32))
    batches = batches_of(config.augment, batch=2)
    made.step(0, batches.batch(0))
    for name, tensor in made.model.state_dict().items():
        assert torch.equal(made.ema[name], tensor), name  # a decay of 0 follows at once
    averaging = trainer.Trainer(replace(config, {'ema': 0.5}), made.model.spec, np.ones(11, np.float32))
    # The ramp makes the decays 1/10, then 2/11; both are below 0.5.
    history = [averaging.model.heads['segmentation'].score.bias.detach().clone()]
    for number in range(2):
        averaging.step(number, batches.batch(number))
        history.append(averaging.model.heads['segmentation'].score.bias.detach().clone())
    expected = history[0]
    for decay, value in zip((1 / 10, 2 / 11), history[1:], strict=True):
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(averaging.trained_model().heads['segmentation'].score.bias, expected)
    torch.testing.assert_close(averaging.model.heads['segmentation'].score.bias.detach(), history[-1])


def test_layers_with_start_weights_learn_slower_and_biases_do_not_decay(tmp_path: Path):
    config = config_of(tmp_path)
    model, _ = trainer.new_model(config, trainer.model_spec(config, CAMVID_CLASSES))
    started = {name for name, _ in model.named_parameters() if name.startswith('feature_net.layer1')}
    groups = list(trainer._groups(model, started, config))
    facts = [
        (group['lr_multiple'], group['weight_decay'], {p.ndim for p in group['params']}) for group in groups
    ]
    assert facts == [(0.25, 0.02, {4}), (0.25, 0.0, {1}), (1.0, 0.02, {4}), (1.0, 0.0, {1})]
    assert len(groups[0]['params']) == 4  # two blocks of two convs
    assert sum(len(group['params']) for group in groups) == len(list(model.parameters()))


def test_start_weights_are_loaded_and_their_layers_named(tmp_path: Path):
    config = config_of(tmp_path)
    source, _ = trainer.new_model(config, trainer.model_spec(config, CAMVID_CLASSES))
    arrays = {
        name: np.full_like(value.numpy(), 0.125)
        for name, value in source.feature_net.state_dict().items()
        if name.startswith(('conv1', 'layer1'))
    }
    np.savez(tmp_path / 'start.npz', **arrays)
    started = replace(config, {'init': str(tmp_path / 'start.npz')})
    model, names = trainer.new_model(started, trainer.model_spec(started, CAMVID_CLASSES))
    assert names == {f'feature_net.{name}' for name in arrays}
    assert float(model.feature_net.conv1.weight.detach().mean()) == 0.125


# Errors


def test_settings_that_do_not_go_together():
    for changes, text in (
        ({}, 'run: give the directory'),
        ({'run': 'r'}, 'nothing to train on: give --data PATH, or --street N'),
        (
            {'run': 'r', 'camvid': 'c', 'street': 9, 'batch': 2, 'street_per_batch': 2},
            'must leave room for the data in a batch of 2',
        ),
    ):
        with pytest.raises(ConfigError, match=text):
            replace(TrainConfig(), changes).check_together()
    with pytest.raises(ConfigError, match='lr: got -1.0, allowed is from 0 to 10'):
        replace(TrainConfig(), {'lr': -1.0})


def test_a_used_run_directory_is_not_overwritten(tmp_path: Path):
    (tmp_path / checkpoint.CHECKPOINT_FILE).write_bytes(b'precious')
    with pytest.raises(ConfigError, match='already holds a run; go on with --resume'):
        loop.train(config_of(tmp_path))
    assert (tmp_path / checkpoint.CHECKPOINT_FILE).read_bytes() == b'precious'


def test_resume_errors(tmp_path: Path):
    path = tmp_path / checkpoint.CHECKPOINT_FILE
    config = config_of(tmp_path)
    with pytest.raises(DataError, match='nothing to resume: .*checkpoint.pt does not exist'):
        loop.train(config, resume=True)
    path.write_bytes(b'not a checkpoint')
    with pytest.raises(DataError, match='checkpoint.pt is damaged'):
        loop.train(config, resume=True)
    checkpoint.save_checkpoint(path, 3, to_flat(config), {})
    other = to_flat(replace(config, {'lr': 1e-3, 'threads': 2, 'augment.hue': 3.0}))
    with pytest.raises(ConfigError, match=r'lr was 0.0006, is 0.001; augment.hue was 10.0, is 3.0'):
        checkpoint.load_checkpoint(path, other, CHANGEABLE)
    assert checkpoint.load_checkpoint(path, to_flat(replace(config, {'threads': 2})), CHANGEABLE) == (3, {})
    torch.save({**torch.load(path, weights_only=True), 'version': 99}, path)
    with pytest.raises(DataError, match='version 99; this program reads 1'):
        checkpoint.load_checkpoint(path, to_flat(config), ())


def test_a_loss_that_is_not_finite_stops_and_leaves_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = config_of(tmp_path, log_every=100, checkpoint_s=1.0)
    checkpoint.save_checkpoint(tmp_path / 'checkpoint.pt', 2, to_flat(config), new_state(config))
    before = (tmp_path / 'checkpoint.pt').read_bytes()
    clock = iter(
        range(0, 10_000, 100)
    )  # each look at the clock is 100 s later: a checkpoint is due at every step
    monkeypatch.setattr(loop.time, 'monotonic', lambda: float(next(clock)))
    monkeypatch.setattr(trainer.Trainer, '_loss', lambda self, images, labels: nan_loss(self.model))
    with pytest.raises(
        DataError, match='the loss is not finite within the 1 steps before step 3: lower --lr'
    ):
        loop.train(config, resume=True)
    assert (tmp_path / 'checkpoint.pt').read_bytes() == before


def new_state(config: TrainConfig) -> dict[str, object]:
    return trainer.Trainer(
        config, trainer.model_spec(config, CAMVID_CLASSES), np.ones(11, np.float32)
    ).state_dict()


def nan_loss(model: torch.nn.Module) -> torch.Tensor:
    return sum(parameter.sum() for parameter in model.parameters()) * float('nan')


def test_a_refused_write_keeps_the_last_checkpoint(tmp_path: Path):
    path = tmp_path / 'checkpoint.pt'
    checkpoint.save_checkpoint(path, 1, {}, {})

    def full_disk(temporary: Path) -> None:
        temporary.write_bytes(b'half')
        raise OSError(28, 'No space left on device')

    with pytest.raises(
        DataError, match='cannot write .*No space left on device; what was there before is unchanged'
    ):
        checkpoint.replace_file(path, full_disk)
    assert checkpoint.load_checkpoint(path, {}, ())[0] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ['checkpoint.pt']


@pytest.mark.skipif(torch.cuda.is_available(), reason='has a GPU')
def test_cuda_without_a_gpu_is_an_error():
    with pytest.raises(BackendUnavailableError, match='device: cuda was asked for'):
        trainer.choose_device('cuda')


# Log, model.json and flags


def test_model_json_tells_how_it_was_trained_without_paths(tmp_path: Path):
    config = config_of(tmp_path / 'run', steps=1)
    loop.train(config)
    spec, facts = read_spec(tmp_path / 'run' / 'model.json')
    assert (spec.channels, spec.last_stage, spec.nominal_size) == (16, 4, SIZE)
    assert facts['data'] == ['simulated street']
    assert facts['kind'] == 'segmentation'
    assert facts['settings']['lr'] == 6e-4
    assert str(tmp_path) not in (tmp_path / 'run' / 'model.json').read_text()


def test_steps_repeated_after_a_resume_count_once(tmp_path: Path):
    lines = [{'event': 'step', 'step': n, 'loss': v} for n, v in ((1, 9), (2, 8), (3, 7), (2, 6), (3, 5))]
    text = '\n'.join(json.dumps(line) for line in lines) + '\n{"event": "st'
    (tmp_path / 'log.jsonl').write_text(text)
    kept = run_log.steps_of(run_log.read_log(tmp_path))
    assert [(entry['step'], entry['loss']) for entry in kept] == [(1, 9), (2, 6), (3, 5)]
    with pytest.raises(DataError, match='cannot read the log'):
        run_log.read_log(tmp_path / 'missing')


def test_every_setting_is_a_flag():
    import argparse

    from dff_ros.commands import train
    from dff_ros.flags import given_flags

    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    for parameter in walk(TrainConfig):
        text = {bool: 'false', int: '3', float: '0.5', str: 'cpu'}[parameter.kind]
        if parameter.name in ('feature_net', 'last_stage', 'crop_height', 'crop_width', 'checkpoint_s'):
            text = {'feature_net': 'resnet50', 'last_stage': '4'}.get(parameter.name, '40')
        given = given_flags(parser.parse_args(['segmentation', f'--{parameter.name}', text]))
        assert given == {parameter.name: parameter.kind(text) if parameter.kind is not bool else False}
    assert given_flags(parser.parse_args(['segmentation', '--bf16'])) == {'bf16': True}


def test_the_street_is_rendered_once_for_each_renderer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shown: list[tuple[int, int]] = []

    def open_set() -> street_set.StreetSet:
        return street_set.open_street_set(
            tmp_path, 2, 4, lambda *done: shown.append(done), size=(48, 64), processes=1
        )

    monkeypatch.setattr(street_set, '_renderer_digest', lambda: 'one')
    made = open_set()
    assert shown == [(2, 2)]
    frame = Street(4 * 1_000_003 + 1, (48, 64)).frame(90)
    np.testing.assert_array_equal(made[1].image_HW3, frame.image_HW3)
    np.testing.assert_array_equal(made[1].labels_HW, frame.labels_HW)
    np.testing.assert_array_equal(open_set()[1].image_HW3, frame.image_HW3)
    assert shown == [(2, 2)]  # not rendered again
    monkeypatch.setattr(street_set, '_renderer_digest', lambda: 'two')
    open_set()
    assert shown == [(2, 2)] * 2
    folder = next(path for path in tmp_path.iterdir() if path.name.endswith('two'))
    (folder / 'labels.npy').write_bytes(b'broken')
    with pytest.raises(DataError, match='is unusable.*Delete the folder'):
        open_set()


def test_a_broken_off_rendering_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(street_set, '_render_street', interrupt)
    with pytest.raises(KeyboardInterrupt):
        street_set.open_street_set(tmp_path / 'cache', 2, 4, size=(48, 64), processes=1)
    assert list((tmp_path / 'cache').iterdir()) == []
    with pytest.raises(ConfigError, match='at least 1 frame, got 0'):
        street_set.open_street_set(tmp_path / 'cache', 0, 4)
