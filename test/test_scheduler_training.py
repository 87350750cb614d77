# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Training of the quality net: targets by hand, what is frozen, learning, resume, files, errors."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupting import interrupted_in
from run_checks import check_same_checkpoint
from tiny_models import CLASS_NAMES, LIGHT, QUALITY, moving_clip, texture, tiny_model

from dff_ros.cli import main
from dff_ros.config import replace
from dff_ros.data.pair_sample import PairSample
from dff_ros.data.video_set import SequenceInfo, VideoFrame
from dff_ros.errors import ConfigError, DataError
from dff_ros.nets.dff import load_model, read_spec
from dff_ros.training import checkpoint, pair_runs, run_log, scheduler_loop
from dff_ros.training.dff_pairs import to_pairs
from dff_ros.training.disagreement import cases_of, share_of_cells
from dff_ros.training.joint_batches import JointData
from dff_ros.training.pair_batch import stack_pairs
from dff_ros.training.pair_batches import PairBatches
from dff_ros.training.scheduler_config import SchedulerTrainConfig
from dff_ros.training.scheduler_evaluation import CALIBRATION_FILE, _filled, video_calibration
from dff_ros.training.scheduler_trainer import SchedulerTrainer, start_scheduler

SIZE = (64, 96)
TINY = {
    'steps': 4, 'batch': 4, 'crop_height': SIZE[0], 'crop_width': SIZE[1], 'warmup': 0, 'threads': 1,
    'device': 'cpu', 'log_every': 1, 'quality_channels': 8, 'data.street': 4, 'held_out': 4,
    'validate_every': 2, 'bf16': False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def write_run(folder: Path, flow_source: str = 'correlation', **changes: object) -> Path:
    model = tiny_model(flow_source, **(changes or LIGHT)).folded()
    checkpoint.save_trained(folder, model, {'kind': 'dff', 'accuracy': {'val': 50.0}})
    return folder


@pytest.fixture(scope='module')
def start(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp('start') / 'run')


def config_of(start: Path | str, run: Path | str = 'run', **changes: object) -> SchedulerTrainConfig:
    settings = {name.replace('__', '.'): value for name, value in changes.items()}
    return replace(SchedulerTrainConfig(), {**TINY, 'run': str(run), 'start': str(start), **settings})


def pair(number: int, offset: int) -> PairSample:
    """A window that moves over a texture; of every second one the right half changes too."""
    canvas = texture((SIZE[0], SIZE[1] + 60), number)
    current, key = (np.ascontiguousarray(canvas[:, x : x + SIZE[1]]) for x in (4 * offset, 0))
    if number % 2:
        current[:, 48:] = texture((SIZE[0], 48), number + 100)
    inside = np.ones(SIZE, bool)
    inside[:, : 8 * (number % 3)] = False
    return PairSample(f'pair {number}', current, key, None, None, None, offset, inside)


def batch_of(*numbers: int):
    return stack_pairs([pair(number, number % 3) for number in numbers])


class Made:
    """A kind of four pairs."""

    def jobs(self, step: int) -> list[Callable[[], PairSample]]:
        return [lambda n=n: pair(4 * step + n, 1 + n % 3) for n in range(4)]


@pytest.fixture
def made_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data of a run are made pairs."""

    def open_made(*_args: object) -> JointData:
        return JointData(PairBatches([Made()], 1), {'made': PairBatches([Made()], 1)}, None, CLASS_NAMES)

    monkeypatch.setattr(pair_runs, 'open_joint_data', open_made)


# What is learnt


def test_the_share_of_a_cell_is_that_of_the_score_cells_around_it():
    differs = torch.zeros(1, 5, 6)
    differs[0, 2, 2] = differs[0, 1, 5] = 1.0
    share, weight = share_of_cells(differs, torch.ones(1, 5, 6), 2)
    expected = torch.zeros(3, 3)
    expected[1, 1] = 1 / 4
    expected[0, 2] = (1 / 16) / (3 / 4)  # of the score cells around it, a quarter is outside
    expected[1, 2] = 1 / 16
    torch.testing.assert_close(share[0, 0], expected)
    rows, columns = torch.tensor([0.75, 1, 0.75]), torch.tensor([0.75, 1, 1])
    torch.testing.assert_close(weight[0, 0], torch.outer(rows, columns))
    # Every score cell counts once in all, but those at an edge that no cell lies on.
    inner = torch.zeros(1, 9, 9)
    inner[0, 3:6, 2:7] = torch.rand(3, 5)
    share, weight = share_of_cells(inner, torch.ones(1, 9, 9), 2)
    torch.testing.assert_close(4 * (share * weight).sum(), inner.sum())


def test_padding_does_not_count():
    differs = torch.ones(1, 4, 4)
    inside = torch.ones(1, 4, 4)
    inside[..., :3] = 0
    differs[..., 3] = 0
    share, weight = share_of_cells(differs, inside, 2)
    torch.testing.assert_close(share[0, 0], torch.zeros(2, 2))
    torch.testing.assert_close(weight[0, 0, :, 0], torch.zeros(2))
    share, weight = share_of_cells(differs, inside, 1)
    torch.testing.assert_close(share[:, 0], differs * inside)
    torch.testing.assert_close(weight[:, 0], inside)


def test_the_truth_is_what_differs_from_per_frame_inference(start):
    started, _ = start_scheduler(config_of(start))
    model = started.model.eval()
    batch = batch_of(0, 1, 2, 5)  # 0 does not move
    cases = cases_of(model, to_pairs(batch, torch.from_numpy, None))
    assert list(cases) == ['corrected', 'warped']
    assert len(cases['corrected'].share) == 3
    with torch.no_grad():
        for row, number in enumerate((1, 2, 3)):
            images = [
                model.normalise(torch.from_numpy(x[number]).permute(2, 0, 1)[None])
                for x in (batch.current_BHW3, batch.key_BHW3)
            ]
            current, key = map(model.look, images)
            direct = model(images[0]).argmax(1)
            inside = torch.from_numpy(batch.is_inside_BHW[number, ::8, ::8])[None].float()
            for name, case in cases.items():
                is_corrected = name == 'corrected'
                made = model.propagate(current, key, model.feature_net(images[1]), correct=is_corrected)
                differs = (model.scores(made.feature, current).argmax(1) != direct).float()
                share, weight = share_of_cells(differs, inside, 2)
                torch.testing.assert_close(case.share[row : row + 1], share)
                torch.testing.assert_close(case.weight[row : row + 1], weight)
                found = torch.sigmoid(model.quality(*case.seen))
                torch.testing.assert_close(found[row : row + 1], made.disagreement)
    assert 0.02 < float(cases['corrected'].share.mean()) < 0.98


def test_the_loss_is_the_mean_cross_entropy_of_both_answers(start):
    started, _ = start_scheduler(config_of(start))
    trainer = SchedulerTrainer(config_of(start), started.model)
    batch = batch_of(1, 2, 5)
    figures = trainer.backward(batch)
    expected = []
    for case in cases_of(started.model, to_pairs(batch, torch.from_numpy, None)).values():
        # At the start 0.1 is predicted everywhere.
        error = -(case.share * np.log(0.1) + (1 - case.share) * np.log(0.9))
        expected.append(float((error * case.weight).sum() / case.weight.sum()))
        if len(expected) == 1:
            true = float((case.share * case.weight).sum() / case.weight.sum())
    assert float(figures['loss']) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(figures['predicted']) == pytest.approx(0.1)
    assert float(figures['true']) == pytest.approx(true)


def test_pairs_that_do_not_move_teach_nothing(start):
    trainer = SchedulerTrainer(config_of(start), start_scheduler(config_of(start))[0].model)
    still = batch_of(0, 3)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    assert float(trainer.step(0, still)['loss']) == 0.0
    torch.testing.assert_close(trainer.model.state_dict(), before)


@pytest.mark.parametrize('bf16', [False, True])
def test_only_the_quality_net_learns_and_it_does(start, bf16):
    config = config_of(start, steps=60, lr=5e-3, ema=0.0, weight_decay=0.0, bf16=bf16)
    started, _ = start_scheduler(config)
    trainer = SchedulerTrainer(config, started.model)
    frozen = {
        name: tensor.clone()
        for name, tensor in started.model.state_dict().items()
        if not name.startswith('quality.')
    }
    batch = batch_of(1, 2, 5, 7)
    losses = [float(trainer.step(number, batch)['loss']) for number in range(60)]
    assert losses[-1] < 0.8 * losses[0]
    state = trainer.trained_model().state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in frozen.items())
    _, found = trainer.measure([batch])
    # It tells the pairs whose content changes from those that only move.
    assert found['corrected'].summary()['correlation'] > 0.8
    assert found['warped'].summary()['num_frames'] == 4


def test_hand_made_flow_and_no_correction(tmp_path):
    folder = write_run(tmp_path / 'dis', 'dis', light_channels=16, detail=False)
    started, _ = start_scheduler(config_of(folder))
    trainer = SchedulerTrainer(config_of(folder), started.model)
    loss, found = trainer.measure([batch_of(1, 2)])
    assert list(found) == ['warped'] and 0 < loss < 3
    assert float(trainer.backward(batch_of(1, 2))['true']) > 0


# The run


def test_a_run_writes_a_model_with_its_calibration(tmp_path, start, made_data):
    config = config_of(start, tmp_path / 'run', ema=0.0)
    assert scheduler_loop.train_scheduler(config) == 0
    run = tmp_path / 'run'
    spec, facts = read_spec(run / checkpoint.MODEL_FILE)
    assert spec.quality_channels == 8 and spec.nominal_size == (96, 128)
    # What is known of the model stays; what it was extended with is added.
    assert (facts['kind'], facts['accuracy']) == ('dff', {'val': 50.0})
    own = facts['scheduler']
    assert own['settings']['data.pairs.max_offset'] == 30 and own['data'] == ['street pairs']
    assert own['calibration'].keys() == {'held-out made pairs, corrected', 'held-out made pairs, warped'}
    assert own['calibration']['held-out made pairs, corrected']['num_frames'] == 4
    assert str(tmp_path) not in (run / checkpoint.MODEL_FILE).read_text()
    assert (run / CALIBRATION_FILE).read_bytes()[:4] == b'\x89PNG'
    validations = [entry for entry in run_log.read_log(run) if entry['event'] == 'validation']
    assert [entry['step'] for entry in validations] == [2, 4]
    assert 0 < validations[1]['made_corrected_mean_predicted'] < 1
    model = load_model(spec, run / checkpoint.WEIGHTS_FILE)
    before = load_model(*_spec_and_weights(start))
    for name, tensor in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    looks = [model.look(model.normalise(torch.from_numpy(x).permute(2, 0, 1)[None])) for x in _clip(2)]
    made = model.propagate(looks[1], looks[0], model.feature_net(looks[0].image))
    assert 0 < float((made.disagreement - 0.1).abs().max()) < 0.9


def _clip(num_frames: int):
    return moving_clip((96, 128), num_frames, (5, -3))


def _spec_and_weights(run: Path):
    return read_spec(run / checkpoint.MODEL_FILE)[0], run / checkpoint.WEIGHTS_FILE


def test_resume_equals_an_uninterrupted_run_bit_for_bit(tmp_path, start, made_data):
    assert scheduler_loop.train_scheduler(config_of(start, tmp_path / 'whole')) == 0
    interrupted = config_of(start, tmp_path / 'parts')
    with interrupted_in(SchedulerTrainer, 2, signal.SIGTERM):
        assert scheduler_loop.train_scheduler(interrupted) == 128 + signal.SIGTERM
    with pytest.raises(ConfigError, match='quality_channels was 8, is 4'):
        scheduler_loop.train_scheduler(replace(interrupted, {'quality_channels': 4}), resume=True)
    assert scheduler_loop.train_scheduler(interrupted, resume=True) == 0
    check_same_checkpoint(tmp_path / 'whole', tmp_path / 'parts', step=4)


def test_one_that_has_a_net_goes_on_with_it_unless_another_width_is_asked_for(tmp_path):
    folder = write_run(tmp_path / 'has', **QUALITY)
    has = load_model(*_spec_and_weights(folder)).quality
    same, _ = start_scheduler(config_of(folder, quality_channels=6))
    assert torch.equal(same.model.quality.join.weight, has.join.weight)
    other, _ = start_scheduler(config_of(folder, quality_channels=8))
    assert other.model.quality.width == 8 and not other.model.quality.answer.weight.any()
    assert 'without its quality, which has another size' in other.report[0]


class Clip:
    """A video of one sequence without labels."""

    class_names = CLASS_NAMES

    def __init__(self, images) -> None:
        self._images = images
        self.sequences = [SequenceInfo('clip', tuple(range(len(images))), ())]

    def frame(self, sequence: int, index: int) -> VideoFrame:
        return VideoFrame(f'frame {index}', self._images[index], index)


def test_videos_are_measured_at_every_offset(start):
    model = start_scheduler(config_of(start))[0].model.eval()
    images = _clip(7)
    found = video_calibration(model, Clip(images), max_offset=3, key_every=2)
    # Keys 0, 2, 4, 6: of frames 1..6 those 1 to 3 before.
    assert {offset: len(item) for offset, item in found['corrected'].items()} == {1: 3, 2: 3, 3: 2}
    with torch.no_grad():
        key, current = (model.normalise(torch.from_numpy(images[i]).permute(2, 0, 1)[None]) for i in (0, 1))
        looks = model.look(current), model.look(key)
        made = model.propagate(*looks, model.feature_net(key))
        differs = (model.scores(made.feature, looks[0]).argmax(1) != model(current).argmax(1)).float()
        share, weight = share_of_cells(differs, torch.ones_like(differs), 2)
    frames = found['corrected'][1].frames
    assert frames[0, 1] == pytest.approx(float((share * weight).sum() / weight.sum()), abs=1e-5)
    np.testing.assert_allclose(frames[:, 0], 0.1, atol=1e-6)  # before any training


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'start': ''}, "start: got ''; give one run"),
        ({'start': 'a,b'}, "start: got 'a,b'; give one run"),
        ({'data.pairs.max_offset': 0}, 'max_offset: got 0'),
        ({'data.street': 0}, 'nothing to train on'),
    ],
)
def test_settings_that_do_not_go_together(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(config_of('start'), changes).check_together()


def test_a_model_that_cannot_have_one_is_refused(tmp_path, start):
    with pytest.raises(ConfigError, match='has no light net'):
        start_scheduler(config_of(write_run(tmp_path / 'paper', 'dis', detail=False)))
    with pytest.raises(DataError, match='neither a run .* nor a bundle'):
        start_scheduler(config_of(tmp_path / 'nowhere'))
    spec, weights = _spec_and_weights(start)
    state = load_model(spec, weights).state_dict()
    part = {name: tensor for name, tensor in state.items() if name.startswith('light_net.')}
    checkpoint.save_model(tmp_path / 'part', part, json.loads((start / checkpoint.MODEL_FILE).read_text()))
    with pytest.raises(DataError, match='has no feature_net, .*: give a model that is whole'):
        start_scheduler(config_of(tmp_path / 'part'))


def test_the_command_tells_what_is_wrong(capsys, tmp_path):
    flags = ['--run', str(tmp_path / 'x'), '--start', 'nowhere', '--data.street', '9']
    assert main(['train', 'scheduler', *flags]) == 2
    assert 'nowhere is neither a run' in capsys.readouterr().err
    assert not (tmp_path / 'x').exists()


def test_bins_of_a_few_cells_are_not_drawn():
    many, some, few = [0.02, 0.03, 9_900.0], [0.2, 0.1, 92.0], [0.9, 0.0, 8.0]
    assert _filled([many, some, few]) == [many, some]
