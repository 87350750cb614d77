# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A model that learns something else is held to what an earlier one answers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('torch')

import torch
from test_dff_training import awake, config_of, mixed_batch, write_run

from dff_ros.data.classes import CAMVID_CLASSES
from dff_ros.errors import ConfigError
from dff_ros.nets.dff import load_model, read_spec
from dff_ros.training.dff_trainer import DffTrainer
from dff_ros.training.start import start_model

ALL = ('feature_net.', 'flow_net.', 'light_net.', 'correction.', 'heads.segmentation.')


def trainer_of(config, classes=CAMVID_CLASSES):
    started = awake(start_model(config, classes))
    return DffTrainer(config, started, np.ones(len(classes), np.float32))


@pytest.fixture
def earlier(tmp_path):
    write_run(tmp_path / 'earlier', config_of(), *ALL, seed=1)
    return tmp_path / 'earlier'


def test_the_loss_is_the_divergence_of_the_direct_output(earlier):
    """As written: of all current frames, over their cells that are no padding."""
    trainer, batch = trainer_of(config_of(teacher=str(earlier), loss__keep=3.0)), mixed_batch()
    teacher = load_model(read_spec(earlier / 'model.json')[0], earlier / 'model.safetensors')
    current = torch.from_numpy(batch.current_BHW3).permute(0, 3, 1, 2)
    with torch.no_grad():
        student, kept = (
            model.scores(model.feature_net(model.normalise(current)), model.look(model.normalise(current)))
            for model in (trainer.model, teacher)
        )
        inside = torch.from_numpy(batch.is_inside_BHW)[:, ::8, ::8].float()
        divergence = (kept.softmax(1) * (kept.log_softmax(1) - student.log_softmax(1))).sum(1)
        expected, total = float((divergence * inside).sum()), float(inside.sum())
    figures = trainer.backward(batch)
    assert float(figures['keep']) == pytest.approx(expected / total, rel=1e-4)
    assert expected / total > 0.01
    without = trainer_of(config_of()).backward(batch)
    assert 'keep' not in without
    assert float(figures['loss'] - without['loss']) == pytest.approx(3 * expected / total, rel=1e-3)


def test_a_model_goes_back_to_its_teacher(earlier):
    """With nothing but the term, the answers become the teacher's; the teacher stays as it was."""
    zero = {f'loss__{name}': 0.0 for name in ('per_frame', 'propagated', 'distill', 'feature', 'flow')}
    config = config_of(teacher=str(earlier), steps=30, lr=5e-3, feature_lr=1.0, ablation='per_frame', **zero)
    trainer = trainer_of(config)
    before = (earlier / 'model.safetensors').read_bytes()
    costs = [float(trainer.step(number, mixed_batch())['keep']) for number in range(25)]
    assert costs[-1] < 0.3 * costs[0]
    assert (earlier / 'model.safetensors').read_bytes() == before
    assert not any('teacher' in name for name in trainer.state_dict()['model'])


def test_a_model_that_is_its_own_teacher_loses_nothing(earlier):
    config = config_of(teacher=str(earlier), start=str(earlier))
    started = start_model(config, CAMVID_CLASSES)
    figures = DffTrainer(config, started, np.ones(11, np.float32)).backward(mixed_batch())
    assert float(figures['keep']) == pytest.approx(0.0, abs=1e-6)


def test_a_teacher_of_other_classes_is_refused(earlier):
    config = config_of(teacher=str(earlier))
    with pytest.raises(ConfigError, match='teacher: .*earlier does not have the classes of the model'):
        trainer_of(config, CAMVID_CLASSES[:10])
