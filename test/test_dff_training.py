# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Joint training: its loss by value, what learns, parts and processes, resume, files, evaluation, errors."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupting import interrupted_in
from run_checks import check_same_checkpoint
from safetensors.torch import load_file, save_file
from tiny_models import texture
from torch.nn import functional as F

from dff_ros.config import Scalar, replace, to_flat
from dff_ros.data.classes import CAMVID_CLASSES
from dff_ros.data.pair_sample import PairSample
from dff_ros.data.video_set import SequenceInfo, VideoFrame
from dff_ros.errors import ConfigError, DataError
from dff_ros.geometry import upsample_matrix
from dff_ros.nets.dff import DffModel, load_model, read_spec
from dff_ros.nets.looking import split
from dff_ros.nets.segmentation import upsample_scores
from dff_ros.training import checkpoint, dff_loop, loop, pair_runs, run_log
from dff_ros.training.dff_config import DffTrainConfig
from dff_ros.training.dff_evaluation import in_words, propagation_scores, summary
from dff_ros.training.dff_pairs import parts_of, to_pairs
from dff_ros.training.dff_trainer import DffTrainer, scale_conv
from dff_ros.training.evaluation import predict
from dff_ros.training.joint_batches import JointData
from dff_ros.training.loss_totals import Totals
from dff_ros.training.pair_batch import PairBatch, stack_pairs
from dff_ros.training.pair_batches import PairBatches
from dff_ros.training.start import start_model

SIZE = (64, 96)
TINY: dict[str, Scalar] = {
    'steps': 4, 'batch': 4, 'crop_height': SIZE[0], 'crop_width': SIZE[1], 'warmup': 0, 'threads': 1,
    'device': 'cpu', 'log_every': 1, 'channels': 16, 'last_stage': 4, 'light_channels': 16,
    'correction_channels': 8, 'bf16': False, 'frozen_stages': 0, 'data.street': 4, 'held_out': 4,
    'validate_every': 2,
}  # fmt: skip


def config_of(run: Path | str = 'run', **changes: object) -> DffTrainConfig:
    settings = {name.replace('__', '.'): value for name, value in changes.items()}
    return replace(DffTrainConfig(), {**TINY, 'run': str(run), **settings})


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def pair(number: int, offset: int, labelled: bool = True, exact: bool = True) -> PairSample:
    """A window that moves over a texture by 4 `offset` pixels to the left; its bright parts are class 3."""
    canvas = texture((SIZE[0], SIZE[1] + 60), number)
    current, key = (np.ascontiguousarray(canvas[:, x : x + SIZE[1]]) for x in (4 * offset, 0))
    labels = np.where(current.mean(2) > 128, 3, 8).astype(np.uint8)
    labels[:4] = 255
    flow = np.zeros((2, *SIZE), np.float32)
    flow[0] = 4 * offset
    is_visible = np.zeros(SIZE, bool)
    is_visible[:, : SIZE[1] - 4 * offset] = True
    inside = np.ones(SIZE, bool)
    inside[:, : 8 * (number % 3)] = False
    return PairSample(
        f'pair {number}', current, key, labels if labelled else None, flow if exact else None,
        is_visible if exact else None, offset, inside,
    )  # fmt: skip


def mixed_batch() -> PairBatch:
    return stack_pairs([pair(0, 0), pair(1, 2), pair(2, 4, exact=False), pair(3, 1, labelled=False)])


def trainer_of(config: DffTrainConfig, class_weight: np.ndarray | None = None) -> DffTrainer:
    weights = np.linspace(0.5, 2.0, 11, dtype=np.float32) if class_weight is None else class_weight
    return DffTrainer(config, awake(start_model(config, CAMVID_CLASSES)), weights)


def awake(started):
    """No layer at the zeros it starts with: every part then has a gradient."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in started.model.parameters():
            if parameter.ndim == 4 and not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return started


# The loss


def cross_entropy_sum(model: DffModel, scores: torch.Tensor, labels, weight):
    rows, columns = (torch.from_numpy(upsample_matrix(n, n, model.score_stride).copy()) for n in SIZE)
    return F.cross_entropy(
        upsample_scores(scores, rows, columns.T), labels, weight, ignore_index=255, reduction='sum'
    )


def loss_as_written(trainer: DffTrainer, batch: PairBatch) -> dict[str, torch.Tensor]:
    """The terms, pair by pair, with nothing shared between them."""
    model, weight = trainer.model, torch.linspace(0.5, 2.0, 11)
    labels = torch.from_numpy(batch.labels_BHW).long()
    pixels = weight[labels[labels < 255]].sum()
    images = [
        model.normalise(torch.from_numpy(x).permute(0, 3, 1, 2)) for x in (batch.current_BHW3, batch.key_BHW3)
    ]
    names = ('propagated', 'distill', 'feature', 'agreement')
    all_names = ['per_frame', *(p + name for p in ('', 'warped_', 'new_') for name in names)]
    terms = dict.fromkeys(all_names, torch.zeros(()))
    moving = [number for number, offset in enumerate(batch.offsets_B) if offset != 0]
    inside = torch.from_numpy(batch.is_inside_BHW).float()
    cells = inside[moving][:, ::8, ::8].sum()
    for number in range(len(labels)):
        current, key = (model.look(image[number : number + 1]) for image in images)
        feature = model.feature_net(current.image)
        direct = model.scores(feature, current)
        truth = labels[number : number + 1]
        cost = cross_entropy_sum(model, direct, truth, weight) / pixels
        terms['per_frame'] = terms['per_frame'] + cost
        made = model.propagate(current, key, model.feature_net(key.image))
        for prefix, answer in (('', made.feature), ('warped_', made.warped), ('new_', made.new.relu())):
            if number not in moving:
                terms[f'{prefix}propagated'] = terms[f'{prefix}propagated'] + cost
                continue
            scores = model.scores(answer, current)
            cost_here = cross_entropy_sum(model, scores, truth, weight) / pixels
            teacher, student = direct.detach().log_softmax(1), scores.log_softmax(1)
            divergence = (teacher.exp() * (teacher - student)).sum(1)[0] * inside[number, ::8, ::8]
            equal = (scores.argmax(1) == direct.argmax(1))[0] * inside[number, ::8, ::8]
            counted, target = inside[number, ::16, ::16], feature.detach()
            error = (counted * (answer - target).square()).sum() / (counted * target.square()).sum()
            for name, value in zip(
                names,
                (cost_here, divergence.sum() / cells, error / len(moving), 100 * equal.sum() / cells),
                strict=True,
            ):
                terms[prefix + name] = terms[prefix + name] + value
    return terms


def test_the_loss_is_that_of_its_terms_as_written():
    config = config_of(loss__flow=0.0, loss__feature=0.7, loss__warped=0.3, loss__new=0.6, loss__distill=1.3)
    trainer, batch = trainer_of(config), mixed_batch()
    expected = loss_as_written(trainer, batch)
    loss = expected['per_frame'] + sum(
        share * (expected[f'{p}propagated'] + 1.3 * expected[f'{p}distill'] + 0.7 * expected[f'{p}feature'])
        for p, share in (('', 1.0), ('warped_', 0.3), ('new_', 0.6))
    )
    figures = trainer.backward(batch)
    assert set(figures) == {'loss', *expected}
    for name, value in {'loss': loss, **expected}.items():
        torch.testing.assert_close(figures[name], value.detach(), rtol=1e-4, atol=1e-5, msg=name)
    assert 0 < float(figures['agreement']) < 100
    got = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.optimiser.zero_grad()
    loss.backward()
    expected_grad = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
    largest = max(float(gradient.abs().max()) for gradient in expected_grad.values())
    for name, gradient in expected_grad.items():
        # Where terms cancel, only the rounding of large ones is left.
        atol = 2e-3 * float(gradient.abs().max()) + 1e-6 * largest
        torch.testing.assert_close(got[name], gradient, rtol=0, atol=atol, msg=name)


def test_a_perfect_propagation_costs_what_the_per_frame_network_costs():
    """The same image twice and zero flow: equation (3) is the identity."""
    config = config_of(flow_net='zero', correction_channels=0)
    still = [pair(1, 0), pair(2, 0)]
    batch = stack_pairs(still)
    as_if_moving = PairBatch(**{**fields(batch), 'offsets_B': np.array([3, -1])})
    trainer = trainer_of(config)
    for figures in (trainer.backward(batch), trainer.backward(as_if_moving)):
        torch.testing.assert_close(figures['propagated'], figures['per_frame'], rtol=1e-4, atol=1e-5)
        assert float(figures['distill']) == pytest.approx(0, abs=1e-6)
        assert float(figures['feature']) == pytest.approx(0, abs=1e-6)
    assert float(figures['agreement']) == 100.0


def fields(batch: PairBatch) -> dict[str, np.ndarray]:
    return {name: getattr(batch, name) for name in PairBatch.__slots__}


@pytest.mark.parametrize('num_parts', [2, 3, 4])
def test_parts_of_a_batch_give_its_loss_and_gradient(num_parts: int):
    results = []
    for accumulate in (1, num_parts):
        trainer = trainer_of(config_of(accumulate=accumulate))
        figures = trainer.backward(mixed_batch())
        gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
        results.append((figures, gradient))
    (whole, one), (parts, other) = results
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-5, atol=1e-6, msg=name)
    torch.testing.assert_close(other, one, rtol=0, atol=1e-5 * float(one.abs().max()))


def test_the_teacher_is_not_taught_by_its_student():
    weights = {'loss__per_frame': 0.0, 'loss__propagated': 0.0, 'loss__flow': 0.0, 'loss__warped': 0.0}
    trainer = trainer_of(config_of(**weights))
    net = trainer.model.feature_net
    with_gradient = []
    net.register_forward_hook(lambda module, inputs, output: with_gradient.append(output.requires_grad))
    trainer.backward(mixed_batch())
    assert with_gradient == [True, False]  # key frames, then the direct features
    assert float(net.conv1.weight.grad.abs().max()) > 0


def test_the_dis_flow_of_a_shift_is_handed_in():
    config = config_of(flow_net='dis', detail=False, correction_channels=0)
    made = trainer_of(config)._pairs(stack_pairs([pair(4, 2), pair(5, 4)]))
    flow = made.hand_flow
    assert flow is not None
    np.testing.assert_allclose(flow[:, 0, 1:3, 1:4].mean((1, 2)), [8 / 16, 16 / 16], atol=0.06)
    assert load_spec_of(config).light_channels == 0


def load_spec_of(config: DffTrainConfig):
    return start_model(config, CAMVID_CLASSES).model.spec


def test_propagation_with_correction_has_the_gradient_of_equation_4():
    config = config_of(channels=3, light_channels=8, correction_channels=4)
    model = awake(start_model(config, CAMVID_CLASSES)).model.double().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, 48, 64, generator=generator, dtype=torch.float64)
    current, key = split(model.look(image), 1)
    feature = torch.rand(1, 3, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    # Away from whole cells, where the bilinear kernel has a kink.
    flow = (0.3 + 0.4 * torch.rand(1, 2, 3, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    scale = torch.rand(1, 3, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()

    def propagated(feature, flow, scale, middle):
        look = current._replace(light=current.light._replace(middle=middle))
        return model.propagate_by(look, key, feature, flow, scale).feature

    middle = current.light.middle.clone().requires_grad_()
    assert torch.autograd.gradcheck(propagated, (feature, flow, scale, middle), eps=1e-6, atol=1e-6)


# What learns


@pytest.mark.parametrize(
    ('ablation', 'changes', 'learns', 'fixed'),
    [
        ('joint', {}, {'feature_net', 'heads', 'light_net', 'flow_net', 'correction'}, set()),
        ('fix_n', {}, {'flow_net', 'correction'}, {'feature_net', 'heads', 'light_net'}),
        ('fix_n', {'detail': False}, {'flow_net', 'correction', 'light_net'}, {'feature_net', 'heads'}),
        ('fix_f', {}, {'feature_net', 'heads', 'correction'}, {'flow_net', 'light_net'}),
        ('per_frame', {}, {'feature_net', 'heads', 'light_net'}, {'flow_net', 'correction'}),
    ],
)
def test_an_ablation_trains_its_parts(ablation: str, changes: dict, learns: set, fixed: set):
    trainer = trainer_of(config_of(ablation=ablation, **changes))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    figures = trainer.step(0, mixed_batch())
    changed = {
        name.split('.')[0]
        for name, tensor in trainer.model.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert changed == learns
    assert not changed & fixed
    assert ('propagated' in figures) == (ablation != 'per_frame')
    assert ('flow' in figures) == (ablation not in ('per_frame', 'fix_f'))


def test_without_scale_map_it_stays_1():
    trainer = trainer_of(config_of(ablation='no_scale_map', weight_decay=0.5))
    for number in range(2):
        trainer.step(number, mixed_batch())
    model = trainer.trained_model()
    images = model.normalise(torch.from_numpy(mixed_batch().key_BHW3).permute(0, 3, 1, 2))
    _, scale_map = model.estimate_flow(*split(model.look(images), 2))
    torch.testing.assert_close(scale_map, torch.ones_like(scale_map))
    assert not scale_conv(trainer.model.flow_net).weight.requires_grad


def test_four_pairs_are_learnt():
    """Labels, features and flow of four pairs: the loss falls to a seventh, propagation becomes right."""
    config = config_of(steps=65, lr=4e-3, ema=0.0, feature_lr=1.0, weight_decay=0.0)
    trainer = DffTrainer(config, start_model(config, CAMVID_CLASSES), np.ones(11, np.float32))
    batch = stack_pairs([pair(number, offset) for number, offset in enumerate((1, 2, 3, 4))])
    figures = [trainer.step(number, batch) for number in range(config.steps)]
    first, last = figures[0], figures[-1]
    assert float(last['loss']) < float(first['loss']) / 7
    assert float(last['propagated']) < 0.3 * float(first['propagated'])
    assert float(last['flow']) < 0.3 * float(first['flow'])
    assert float(last['agreement']) > 85


def test_started_layers_learn_slower(tmp_path: Path):
    config = config_of()
    parts = 'feature_net.', 'light_net.', 'flow_net.', 'heads.segmentation.score'
    write_run(tmp_path / 'n', config, *parts)
    started = start_model(replace(config, {'start': str(tmp_path / 'n')}), CAMVID_CLASSES)
    trainer = DffTrainer(config, started, np.ones(11, np.float32))
    slow = [group for group in trainer.optimiser.param_groups if group['lr_multiple'] == config.feature_lr]
    numbers = {id(p) for group in slow for p in group['params']}
    expected = {
        name
        for name, _ in trainer.model.named_parameters()
        if name.startswith(('feature_net.', 'light_net.', 'heads.segmentation.score'))
    }
    assert {name for name, p in trainer.model.named_parameters() if id(p) in numbers} == expected


# Start weights


def write_run(run: Path, config: DffTrainConfig, *parts: str, seed: int = 7, **spec: object) -> DffModel:
    """A run that holds those parts of a model."""
    model = start_model(replace(config, {'seed': seed}), CAMVID_CLASSES).model
    run.mkdir()
    weights = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(parts)}
    save_file(weights, run / checkpoint.WEIGHTS_FILE)
    (run / checkpoint.MODEL_FILE).write_text(json.dumps({**model.spec.to_dict(), **spec}))
    return model


def test_each_part_comes_from_the_last_run_that_has_it(tmp_path: Path):
    config = config_of()
    one = write_run(tmp_path / 'one', config, 'feature_net.', 'flow_net.', seed=1, nominal_size=[72, 104])
    two = write_run(tmp_path / 'two', config, 'flow_net.', 'light_net.', seed=2)
    started = start_model(replace(config, {'start': f'{tmp_path}/one, {tmp_path}/two'}), CAMVID_CLASSES)
    state = started.model.state_dict()
    fresh = start_model(config, CAMVID_CLASSES).model.state_dict()
    source = {'feature_net': one.state_dict(), 'flow_net': two.state_dict(), 'light_net': two.state_dict()}
    for name, tensor in state.items():
        assert torch.equal(tensor, source.get(name.split('.')[0], fresh)[name]), name
    assert started.model.spec.nominal_size == SIZE  # training brings all frames to the area of the crop
    *loaded, without = started.report
    assert [line.split(': ')[1].split(' (')[0] for line in loaded] == ['feature_net', 'flow_net']
    assert 'light_net' in loaded[1]
    assert without == 'without start weights: correction, heads.segmentation, heads.segmentation.detail'


def test_parts_that_the_model_lacks_are_left_out(tmp_path: Path):
    write_run(tmp_path / 'all', config_of(), '')
    paper = config_of(flow_net='dis', detail=False, correction_channels=0, start=str(tmp_path / 'all'))
    started = start_model(paper, CAMVID_CLASSES)
    assert {name.split('.')[0] for name in started.names} == {'feature_net', 'heads'}
    assert started.report[0].endswith('heads (2 tensors)')


def test_scores_of_other_classes_are_left_out(tmp_path: Path):
    write_run(tmp_path / 'all', config_of(), 'feature_net.', 'heads.')
    started = start_model(config_of(start=str(tmp_path / 'all')), ('grass', 'hedge', 'gravel'))
    assert {name.split('.')[0] for name in started.names} == {'feature_net'}
    assert started.model.spec.num_classes == len(set(started.model.spec.class_colours)) == 3


def test_start_weights_that_do_not_fit_are_named(tmp_path: Path):
    config = config_of()
    write_run(tmp_path / 'run', config, 'feature_net.', 'flow_net.')
    path = tmp_path / 'run' / checkpoint.WEIGHTS_FILE

    def start(**changes: object) -> None:
        start_model(config_of(start=str(tmp_path / 'run'), **changes), CAMVID_CLASSES)

    with pytest.raises(DataError, match=rf'{path}: feature_net.reduce.bias is \(16,\), the model takes \(8,'):
        start(channels=8, flow_net='zero')
    with pytest.raises(DataError, match=f'{path}: the model has no place for flow_net.*; another net'):
        start(flow_net='flownet_inception')
    path.write_bytes(b'no weights')
    with pytest.raises(DataError, match=f'weights {path} cannot be read as safetensors'):
        start()
    with pytest.raises(DataError, match='nowhere is neither a run .* nor a bundle'):
        start_model(config_of(start='nowhere'), CAMVID_CLASSES)
    other = write_run(tmp_path / 'other', config, 'flow_net.', mean=[0.1, 0.2, 0.3]).spec
    assert other.mean != (0.1, 0.2, 0.3)
    with pytest.raises(DataError, match='normalises images otherwise'):
        start_model(config_of(start=str(tmp_path / 'other')), CAMVID_CLASSES)


# The run


class Made:
    """A kind of four pairs."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def jobs(self, step: int) -> list[Callable[[], PairSample]]:
        return [lambda n=n: pair(n + step, (n + self._offset) % 5, labelled=n > 0) for n in range(4)]


@pytest.fixture
def made_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data of a run are made pairs."""

    def open_made(*_args: object) -> JointData:
        held_out = {'made': PairBatches([Made(2)], 1)}
        return JointData(PairBatches([Made(0)], 1), held_out, None, CAMVID_CLASSES)

    monkeypatch.setattr(pair_runs, 'open_joint_data', open_made)


def test_a_run_writes_model_log_and_plot(tmp_path: Path, made_data):
    assert dff_loop.train_dff(config_of(tmp_path / 'run', ema=0.0)) == 0
    run = tmp_path / 'run'
    spec, facts = read_spec(run / checkpoint.MODEL_FILE)
    assert (spec.flow_source, spec.correction_channels, spec.detail, spec.nominal_size) == (
        'correlation', 8, True, SIZE,
    )  # fmt: skip
    assert facts['settings']['loss.feature'] == 0.5
    assert str(tmp_path) not in (run / checkpoint.MODEL_FILE).read_text()
    trained = torch.load(run / checkpoint.CHECKPOINT_FILE, weights_only=True)['state']['model']
    model = load_model(spec, run / checkpoint.WEIGHTS_FILE)
    torch.testing.assert_close(model.state_dict(), trained)
    entries = run_log.read_log(run)
    steps = run_log.steps_of(entries)
    assert [entry['step'] for entry in steps] == [1, 2, 3, 4]
    for entry in steps:
        total = entry['per_frame'] + 0.5 * entry['flow']
        for prefix, share in (('', 1.0), ('warped_', 0.5), ('new_', 0.5)):
            terms = [entry[prefix + name] for name in ('propagated', 'distill', 'feature')]
            total += share * float(np.dot(terms, (1.0, 1.0, 0.5)))
        assert entry['loss'] == pytest.approx(total, rel=1e-5, abs=1e-4)
    validations = [entry for entry in entries if entry['event'] == 'validation']
    assert [entry['step'] for entry in validations] == [2, 4]
    assert validations[0]['loss'] == validations[0]['made_loss'] > 0
    assert (run / run_log.PLOT_FILE).read_bytes()[:4] == b'\x89PNG'


def test_resume_equals_an_uninterrupted_run_bit_for_bit(tmp_path: Path, made_data):
    settings = {'bf16': True, 'patience': 3, 'accumulate': 2, 'correction_channels': 16}
    assert dff_loop.train_dff(config_of(tmp_path / 'whole', **settings)) == 0
    interrupted = config_of(tmp_path / 'parts', **settings)
    with interrupted_in(DffTrainer, 2, signal.SIGTERM):
        assert dff_loop.train_dff(interrupted) == 128 + signal.SIGTERM
    with pytest.raises(ConfigError, match=r'loss\.distill was 1\.0, is 2\.0'):
        dff_loop.train_dff(replace(interrupted, {'loss.distill': 2.0}), resume=True)
    assert dff_loop.train_dff(interrupted, resume=True) == 0
    check_same_checkpoint(tmp_path / 'whole', tmp_path / 'parts', step=4)
    best = [
        torch.load(tmp_path / name / checkpoint.CHECKPOINT_FILE, weights_only=True)['state']['best']
        for name in ('whole', 'parts')
    ]
    assert best[0]['loss'] == best[1]['loss'] < float('inf')
    for name, tensor in best[0]['weights'].items():
        assert torch.equal(tensor, best[1]['weights'][name]), name


def test_a_run_without_progress_ends_early_with_its_best_weights(tmp_path: Path, made_data, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.0, 1.0])
    kept: list[dict[str, torch.Tensor]] = []

    def measure(self, held_out):
        kept.append({name: tensor.clone() for name, tensor in self.ema.items()})
        loss = next(losses)
        self._note(loss)
        return {'loss': loss}

    monkeypatch.setattr(DffTrainer, 'validate', measure)
    config = config_of(tmp_path / 'run', steps=9, validate_every=1, patience=2, lr=1e-3)
    assert dff_loop.train_dff(config) == 0
    content = torch.load(tmp_path / 'run' / checkpoint.CHECKPOINT_FILE, weights_only=True)
    assert content['step'] == 4
    weights = load_file(tmp_path / 'run' / checkpoint.WEIGHTS_FILE)
    torch.testing.assert_close(weights, kept[1])
    assert not torch.equal(weights['feature_net.conv1.weight'], kept[3]['feature_net.conv1.weight'])
    # What ended goes on to its evaluation, not to more steps.
    assert dff_loop.train_dff(config, resume=True) == 0
    assert len(kept) == 4


def test_a_full_disk_and_a_lost_loss_leave_the_last_checkpoint(tmp_path: Path, made_data, monkeypatch):
    config = config_of(tmp_path / 'run', steps=6, checkpoint_s=1.0, log_every=100, validate_every=100)
    clock = iter(range(0, 10_000, 100))  # a checkpoint is due at every step
    monkeypatch.setattr(loop.time, 'monotonic', lambda: float(next(clock)))
    save, path = torch.save, tmp_path / 'run' / checkpoint.CHECKPOINT_FILE

    def full(content, file):
        if content['step'] == 3:
            Path(file).write_bytes(b'half')
            raise OSError(28, 'No space left on device')
        save(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', full)
        with pytest.raises(DataError, match='No space left on device; what was there before is unchanged'):
            dff_loop.train_dff(config)
    assert checkpoint.load_checkpoint(path, to_flat(config), ())[0] == 2
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Totals, 'unpacked', lambda vector: Totals(*(vector[:5] * np.nan), vector[5:]))
        with pytest.raises(DataError, match='the loss is not finite within the 1 steps before step 3'):
            dff_loop.train_dff(config, resume=True)
    assert path.read_bytes() == before


def test_separate_assembles_and_trains_nothing(tmp_path: Path):
    config = config_of()
    write_run(tmp_path / 'n', config, 'feature_net.', 'heads.', seed=1)
    write_run(tmp_path / 'f', config, 'flow_net.', 'light_net.', seed=2)
    start = f'{tmp_path}/n,{tmp_path}/f'
    apart = config_of(
        tmp_path / 'run', ablation='separate', start=start, data__street=0, correction_channels=0
    )
    assert dff_loop.train_dff(apart) == 0
    weights = load_file(tmp_path / 'run' / checkpoint.WEIGHTS_FILE)
    for source in ('n', 'f'):
        for name, tensor in load_file(tmp_path / source / checkpoint.WEIGHTS_FILE).items():
            assert torch.equal(weights[name], tensor), name
    assert not (tmp_path / 'run' / checkpoint.CHECKPOINT_FILE).exists()


@pytest.mark.parametrize(
    ('ablation', 'given', 'untrained'),
    [
        ('separate', ('feature_net.', 'heads.'), 'light_net, flow_net, flow_net.scale'),
        ('fix_f', ('feature_net.', 'heads.', 'light_net.'), 'flow_net, flow_net.scale'),
        ('fix_n', ('flow_net.', 'light_net.', 'heads.'), 'feature_net, heads.detection'),
    ],
)
def test_a_part_that_is_neither_trained_nor_started_is_refused(tmp_path: Path, ablation, given, untrained):
    write_run(tmp_path / 'start', config_of(), *given)
    config = config_of(
        tmp_path / 'run', ablation=ablation, start=str(tmp_path / 'start'), correction_channels=0
    )
    with pytest.raises(ConfigError, match=f'{ablation} does not train {untrained}, and no start weights'):
        dff_loop.train_dff(config)
    assert not (tmp_path / 'run').exists()


def test_a_refused_run_leaves_files_that_were_there(tmp_path: Path):
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'notes.txt').write_text('mine')
    with pytest.raises(DataError, match='is neither a run'):
        dff_loop.train_dff(config_of(run, start=str(tmp_path / 'nowhere')))
    assert [path.name for path in run.iterdir()] == ['notes.txt']


def test_a_model_tells_what_it_started_from(tmp_path: Path):
    """Name and training of each start, those of its own starts inside, and no path."""
    flow = {'kind': 'flow', 'commit': 'c0ffee', 'data': ['simulated street'], 'start_weights': 'light.npz'}
    write_run(
        tmp_path / 'f', config_of(), 'flow_net.', 'light_net.',
        training={**flow, 'settings': {'seed': 0, 'steps': 40, 'lr': 0.1}, 'accuracy': {'epe': 1.0}},
    )  # fmt: skip
    older = {'name': 'road', 'kind': 'segmentation', 'steps': 9}
    write_run(
        tmp_path / 'n', config_of(), 'feature_net.', 'heads.',
        training={'kind': 'segmentation', 'commit': '', 'data': ['yard train'], 'started_from': [older],
                  'settings': {'seed': 5, 'steps': 30, 'crop_height': 64}},
    )  # fmt: skip
    write_run(tmp_path / 'unknown', config_of(), 'light_net.')
    start = f'{tmp_path}/unknown,{tmp_path}/n/,{tmp_path}/f'
    apart = config_of(
        tmp_path / 'run', ablation='separate', start=start, data__street=0, correction_channels=0, seed=2
    )
    assert dff_loop.train_dff(apart) == 0
    path = tmp_path / 'run' / checkpoint.MODEL_FILE
    facts = read_spec(path)[1]
    expected = [
        {'name': 'unknown'},
        {'name': 'n', 'kind': 'segmentation', 'seed': 5, 'steps': 30, 'data': ['yard train'],
         'started_from': [older]},
        {'name': 'f', **flow, 'seed': 0, 'steps': 40},
    ]  # fmt: skip
    assert (facts['kind'], facts['started_from']) == ('dff', expected)
    assert str(tmp_path) not in path.read_text()
    (lineage,) = start_model(config_of(start=str(tmp_path / 'run')), CAMVID_CLASSES).lineage
    commit = {'commit': facts['commit']} if facts['commit'] else {}
    own = {'name': 'run', 'kind': 'dff', 'ablation': 'separate', 'seed': 2, 'steps': 4, **commit}
    assert lineage == {**own, 'started_from': expected}


def test_settings_that_do_not_go_together():
    for changes, text in (
        ({'data__street': 0}, 'data: nothing to train on'),
        ({'accumulate': 5}, 'a batch of 4 has no more parts'),
        (
            {'bf16': True, 'correction_channels': 88},
            'correction_channels: got 88, with bf16 allowed is a multiple of 16',
        ),
        ({'frozen_stages': 5}, 'frozen_stages: got 5, the feature net ends with stage 4'),
        ({'augment__scale_min': 3.0}, 'augment.scale_min: got 3.0, above'),
    ):
        with pytest.raises(ConfigError, match=text):
            config_of(**changes).check_together()


# Evaluation


class StillVideo:
    """Twelve times the same frame; its labels are what a model says of it, those of frame 11 of another."""

    class_names = CAMVID_CLASSES
    box_class_names = ()

    def __init__(self, labels_HW: np.ndarray) -> None:
        self._image, self._labels = texture(SIZE, 3), labels_HW
        self.sequences = (SequenceInfo('still', tuple(range(12)), (4, 10, 11)),)

    def frame(self, sequence: int, index: int) -> VideoFrame:
        return VideoFrame(str(index), self._image, index)

    def labels(self, sequence: int, index: int) -> np.ndarray:
        return self._labels if index < 11 else (self._labels + 1) % 11

    def boxes(self, sequence: int, index: int) -> None:
        return None


def test_propagation_is_scored_by_offset_at_labelled_frames():
    """Copied features of a still video are exact; all labels of frame 11 are wrong."""
    config = config_of(flow_net='zero', correction_channels=0)
    model = awake(start_model(config, CAMVID_CLASSES)).model.eval()
    labels = predict(model, texture(SIZE, 3), torch.device('cpu'))
    assert len(np.unique(labels)) > 1
    scores = propagation_scores(model, StillVideo(labels))
    assert set(scores) == {'warped'}
    by_offset = scores['warped'].by_offset
    area = SIZE[0] * SIZE[1]
    # Labels are sparse, so all frames before them are keys: 4 has offsets 0 to 4, 10 and 11 have 0 to 9.
    assert [matrix.num_pixels // area for matrix in by_offset] == [3] * 5 + [2] * 5
    right = [2 / 3] * 5 + [1 / 2] * 5
    assert [matrix.pixel_accuracy() / 100 for matrix in by_offset] == pytest.approx(right)
    fewer = propagation_scores(model, StillVideo(labels), num_offsets=2)['warped'].by_offset
    assert [matrix.num_pixels // area for matrix in fewer] == [3, 3]
    found = summary(scores)['warped']
    assert found['by_offset'][0] == pytest.approx(by_offset[0].miou(), abs=0.01)
    assert in_words(found).startswith(f'mIoU {found["miou_l5"]:.1f} at interval 5, ')
    assert in_words({**found, 'miou_l5': None}).startswith('mIoU - at interval 5, ')


def test_both_answers_of_a_correction_are_scored():
    model = awake(start_model(config_of(), CAMVID_CLASSES)).model.eval()
    labels = predict(model, texture(SIZE, 3), torch.device('cpu'))
    scores = propagation_scores(model, StillVideo(labels))
    assert set(scores) == {'corrected', 'warped'}
    for offsets in scores.values():
        # A key frame is answered directly; the labels of one of three are wrong.
        assert offsets.by_offset[0].pixel_accuracy() == pytest.approx(200 / 3)
    counts = [offsets.by_offset[2].counts_KK1 for offsets in scores.values()]
    assert not np.array_equal(*counts)


# Processes


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path):
    """The same batches, losses and weights: denominators and gradients are those of the whole batch."""
    settings = {'steps': 3, 'street_cache': str(tmp_path / 'cache'), 'workers': 1, 'held_out': 4}
    assert dff_loop.train_dff(config_of(tmp_path / 'one', **settings)) == 0
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    flat = {**to_flat(config_of(tmp_path / 'two', **settings))}
    flags = [
        text
        for name, value in flat.items()
        if value != ''
        for text in (f'--{name}', str(value).lower() if isinstance(value, bool) else str(value))
    ]
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_addr', '127.0.0.1',
        '--master_port', str(port), '-m', '--', 'dff_ros.cli', 'train', 'dff', *flags,
    ]  # fmt: skip
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parent.parent), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    logs = [run_log.read_log(tmp_path / name) for name in ('one', 'two')]
    assert [entry['event'] for entry in logs[0]] == [entry['event'] for entry in logs[1]]
    assert logs[1][0]['processes'] == 2
    for one, two in zip(*logs, strict=True):
        for name in one:
            if one['event'] in ('step', 'validation') and name not in ('event', 'step_s'):
                assert two[name] == pytest.approx(one[name], rel=2e-4, abs=2e-4), (one['step'], name)
    one, two = (
        torch.load(tmp_path / name / checkpoint.CHECKPOINT_FILE, weights_only=True)['state']
        for name in ('one', 'two')
    )
    means = [
        torch.cat([state['exp_avg'].flatten() for state in run['optimiser']['state'].values()])
        for run in (one, two)
    ]
    torch.testing.assert_close(means[1], means[0], rtol=0, atol=1e-5 * float(means[0].abs().max()))
    # AdamW makes whole steps even of gradients that are 0 but for rounding; nearly all weights have others.
    equal = [(two['model'][name] - tensor).abs() < 1e-6 for name, tensor in one['model'].items()]
    assert float(torch.cat([part.flatten() for part in equal]).float().mean()) > 0.99


def test_a_batch_without_moving_or_labelled_pairs_still_has_a_gradient():
    """Every process takes part in every step, whatever its share of the batch is."""
    trainer = trainer_of(config_of())
    figures = trainer.backward(stack_pairs([pair(0, 0, labelled=False)]))
    assert float(figures['loss']) == 0.0
    assert set(figures) == set(trainer.backward(mixed_batch()))


def test_pairs_that_move_come_first():
    batch = mixed_batch()
    pairs = to_pairs(batch, torch.from_numpy, None)
    assert pairs.num_moving == 3
    np.testing.assert_array_equal(pairs.key.numpy(), batch.key_BHW3[[1, 2, 3, 0]])
    np.testing.assert_array_equal(pairs.current.numpy(), batch.current_BHW3[[1, 2, 3]])
    assert (pairs.labelled, pairs.exact) == ([0, 1, 3], [0, 2])
    np.testing.assert_array_equal(pairs.flow.numpy(), batch.flow_B2HW[[1, 3]])
    alone = to_pairs(batch, torch.from_numpy, None, is_per_frame=True)
    assert alone.num_moving == 0
    np.testing.assert_array_equal(alone.key.numpy(), batch.current_BHW3)
    assert [len(part.offsets_B) for part in parts_of(batch, 3)] == [2, 1, 1]
