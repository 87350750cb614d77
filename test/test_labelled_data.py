# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""From a user's folder of frames to a model: classes, colours, sizes, start weights, broken files."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import CLASS_NAMES, texture, tiny_model, tiny_spec
from video_files import write_cityscapes, write_folder, write_frame, write_label

from dff_ros.backends.base import open_backend
from dff_ros.config import DffConfig, replace
from dff_ros.data.classes import CAMVID_CLASSES, CAMVID_COLOURS, class_colours
from dff_ros.data.images import image_folders
from dff_ros.data.video_set import SequenceInfo
from dff_ros.errors import ConfigError, DataError
from dff_ros.nets.dff import load_model, read_spec
from dff_ros.training import checkpoint, dff_evaluation, loop
from dff_ros.training.config import TrainConfig
from dff_ros.training.dff_config import DffTrainConfig
from dff_ros.training.evaluation import predict
from dff_ros.training.flow_config import FlowTrainConfig
from dff_ros.training.flow_trainer import flow_spec
from dff_ros.training.joint_batches import open_joint_data
from dff_ros.training.labelled_data import model_colours, open_labelled
from dff_ros.training.sources import open_sources
from dff_ros.training.start import read_start, start_model

NAMES = ('lawn', 'path')
COLOURS = ((10, 200, 30), (90, 80, 70))
YARD = (
    'classes:\n  - {name: lawn, colour: [10, 200, 30]}\n  - {name: path, colour: [90, 80, 70]}\nvoid: [255]\n'
)
SIZE = (48, 80)
"""Of the yard's frames."""
CROP = (32, 48)


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    """Ten frames for training and three for validation; each third is labelled: lawn left, path right."""
    root = tmp_path / 'yard'
    root.mkdir()
    (root / 'classes.yaml').write_text(YARD)
    for split, count in (('train', 10), ('val', 3)):
        for number in range(count):
            write_frame(root / split / 'walk/frames' / f'{number}.png', 40 + 10 * number, SIZE)
            if number % 3 == 0:
                write_label(root / split / 'walk/labels' / f'{number}.png', 0, 1, size=SIZE)
    return root


def config_of(run: Path, data: Path | str, **changes: object) -> TrainConfig:
    settings = {
        'run': str(run), 'data': str(data), 'steps': 2, 'batch': 2, 'crop_height': CROP[0], 'warmup': 0,
        'crop_width': CROP[1], 'threads': 1, 'device': 'cpu', 'log_every': 1, 'channels': 16,
        'last_stage': 4, 'bf16': False,
    }  # fmt: skip
    return replace(TrainConfig(), {**settings, **changes})


# Classes and colours


def test_classes_and_colours_of_the_folder_reach_the_bundle(yard: Path, tmp_path: Path, capsys):
    run = tmp_path / 'run'
    assert loop.train(config_of(run, yard)) == 0
    spec, facts = read_spec(run / checkpoint.MODEL_FILE)
    assert (spec.class_names, spec.class_colours, spec.nominal_size) == (NAMES, COLOURS, CROP)
    assert facts['data'] == ['yard train']
    assert set(facts['accuracy']) == {'yard_val'}
    assert set(facts['accuracy']['yard_val']['iou_per_class']) == set(NAMES)
    assert str(tmp_path) not in (run / checkpoint.MODEL_FILE).read_text()
    assert 'not evaluated' not in capsys.readouterr().out  # there is no split test: nothing to tell
    assert load_model(spec, run / checkpoint.WEIGHTS_FILE).heads['segmentation'].score.out_channels == 2


def test_frames_are_brought_to_the_area_of_the_crop(yard: Path, tmp_path: Path):
    found = open_sources(config_of(tmp_path, yard))
    assert (found.class_names, found.class_colours) == (NAMES, COLOURS)
    (source,) = found.sources
    assert len(source.samples) == 4
    sample = source.samples[1]
    factor = (CROP[0] * CROP[1] / (SIZE[0] * SIZE[1])) ** 0.5
    assert sample.labels_HW.shape == (round(SIZE[0] * factor), round(SIZE[1] * factor))
    assert (sample.image_HW3 == 70).all()
    assert (np.unique(sample.labels_HW[:, :20]), np.unique(sample.labels_HW[:, 31:])) == ([0], [1])


def test_colours_come_from_the_data_else_the_start_weights_else_are_spread():
    own, start = ((1, 2, 3), (4, 5, 6)), ((7, 8, 9), (10, 11, 12))
    assert model_colours(NAMES, own, NAMES, start) == own
    assert model_colours(NAMES, (), NAMES, start) == start
    spread = model_colours(NAMES, (), ('other', 'names'), start)
    assert spread == class_colours(NAMES) == ((153, 46, 46), (77, 255, 255))
    np.testing.assert_array_equal(class_colours(CAMVID_CLASSES), CAMVID_COLOURS)


def test_sets_of_several_layouts_are_opened(tmp_path: Path):
    write_cityscapes(tmp_path / 'city')
    found = open_labelled([f'cityscapes:{tmp_path}/city'], 'train', 'data')
    assert (len(found.class_names), found.class_colours) == (19, ())


@pytest.mark.parametrize('is_joint', [False, True])
def test_sets_of_other_classes_are_refused_together(yard: Path, tmp_path: Path, is_joint: bool):
    write_folder(tmp_path / 'other')
    text = f'{yard},{tmp_path}/other'
    setting = 'data.labelled' if is_joint else 'data'
    with pytest.raises(
        ConfigError, match=rf'{setting}: .*other has the classes road, car, sky, those before lawn, path'
    ):
        open_labelled(text.split(','), 'train', setting) if is_joint else open_sources(
            config_of(tmp_path, text)
        )


def test_data_that_cannot_teach_is_refused(yard: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match='street: its labels are of the classes sky, .* leave --street out'):
        open_sources(config_of(tmp_path, yard, street=2, street_per_batch=1))
    for path in (yard / 'val/walk/labels').iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match='data: .*yard has no labelled frames in val'):
        open_sources(config_of(tmp_path, yard, split='val'))


# Start weights


def write_flow_run(run: Path, channels: int) -> None:
    config = replace(
        FlowTrainConfig(), {'channels': channels, 'light_channels': 16, 'height': 96, 'width': 128}
    )
    run.mkdir()
    weights = {
        name: tensor
        for name, tensor in tiny_model('correlation', light_channels=16, fine_flow=False).state_dict().items()
        if name.startswith(('light_net.', 'flow_net.'))
    }
    save_file(weights, run / checkpoint.WEIGHTS_FILE)
    (run / checkpoint.MODEL_FILE).write_text(json.dumps(flow_spec(config).to_dict()))


def joint_config(start: str, **changes: object) -> DffTrainConfig:
    settings = {
        'run': 'r', 'start': start, 'channels': 16, 'last_stage': 4, 'light_channels': 16, 'detail': False,
        'correction_channels': 0, 'crop_height': 64, 'crop_width': 96, 'data.street': 4,
    }  # fmt: skip
    return replace(DffTrainConfig(), {**settings, **changes})


def test_classes_of_a_flow_run_do_not_matter(dis_bundle, tmp_path: Path):
    write_flow_run(tmp_path / 'flow', 16)
    start = f'{dis_bundle.path},{tmp_path}/flow'
    of_bundle = start_model(joint_config(start, ablation='separate'), ())
    assert of_bundle.model.spec.class_names == CLASS_NAMES
    assert of_bundle.model.spec.nominal_size == (96, 128)
    own = start_model(joint_config(start), NAMES, COLOURS)
    assert (own.model.spec.class_names, own.model.spec.class_colours) == (NAMES, COLOURS)
    assert own.model.spec.nominal_size == (64, 96)
    assert own.report[0].endswith('; without its segmentation head, which has other classes')
    assert 'head' not in own.report[1]
    assert {name.split('.')[0] for name in own.names} == {'feature_net', 'flow_net', 'light_net'}


def test_parts_of_another_size_start_afresh(light_bundle, capsys):
    changes = {'detail': True, 'correction_channels': 16, 'street_cache': ''}
    started = start_model(joint_config(str(light_bundle.path), **changes), ())
    parts = {name.rpartition('.')[0] for name in started.names}
    assert {'flow_net.coarse.flow', 'flow_net.middle.flow', 'heads.segmentation.score'} <= parts
    afresh = ('flow_net.fine', 'flow_net.scale', 'correction')
    assert not any(part.startswith(afresh) for part in parts)
    assert not started.model.flow_net.scale.weight.any()
    assert started.report[1] == 'without start weights: flow_net.scale, correction'
    assert started.report[0].endswith(
        '; without its flow_net.scale, which has another size; without its correction, which has another size'
    )
    kept = start_model(joint_config(str(light_bundle.path), fine_flow=True, correction_channels=8), ())
    assert len(kept.report) == 1
    assert {'flow_net.fine.flow.weight', 'flow_net.scale.weight', 'correction.new.weight'} <= kept.names


def test_a_run_starts_with_a_bundle(dis_bundle, yard: Path, tmp_path: Path, capsys):
    config = config_of(tmp_path / 'run', yard, start=str(dis_bundle.path), lr=0.0, ema=0.0)
    assert loop.train(config) == 0
    assert 'weights.safetensors: feature_net' in capsys.readouterr().out
    from safetensors.torch import load_file

    expected, found = (
        load_file(dis_bundle.weights_path),
        load_file(tmp_path / 'run' / checkpoint.WEIGHTS_FILE),
    )
    for name, tensor in expected.items():
        if name.startswith('feature_net.'):
            assert torch.equal(tensor.float(), found[name]), name
    assert found['heads.segmentation.score.weight'].shape[0] == len(NAMES)


def test_a_shipped_bundle_is_found_by_its_name():
    start = read_start('road-r18')
    assert start.spec.class_names == CAMVID_CLASSES
    assert start.has_feature_net
    with pytest.raises(DataError, match='nowhere is neither a run .* come with the package: .*road-r18'):
        read_start('nowhere')


def test_a_part_of_a_model_is_not_taken_for_one(tmp_path: Path):
    write_flow_run(tmp_path / 'flow', 16)
    with pytest.raises(DataError, match='have no feature_net, only flow_net, light_net: a part of a model'):
        spec = tiny_spec('correlation', light_channels=16, fine_flow=False)
        load_model(spec, tmp_path / 'flow' / checkpoint.WEIGHTS_FILE)


# Evaluation at the end of a run


@pytest.mark.parametrize('size', [(96, 128), (150, 170), (60, 90)])
def test_images_of_any_size_are_answered_as_by_the_backend(dis_bundle, size: tuple[int, int]):
    image = texture(size, 5)
    backend = open_backend(dis_bundle, DffConfig(backend='torch', device='cpu', num_threads=1))
    expected = backend.predict(backend.extract(image).feature, size, size).label_map_HW
    backend.close()
    model = load_model(dis_bundle.spec, dis_bundle.weights_path)
    found = predict(model, image, torch.device('cpu'))
    assert found.shape == size
    assert (found == expected).mean() > 0.999


def test_every_frame_before_a_sparse_label_is_a_key_frame():
    sparse = SequenceInfo('s', tuple(range(30)), (0, 20))
    assert dff_evaluation._key_indices(sparse, 10, 2) == {0, *range(11, 21)}
    dense = SequenceInfo('d', tuple(range(12)), tuple(range(12)))
    assert dff_evaluation._key_indices(dense, 10, 2) == {0, 2, 4, 6, 8, 10}


def test_label_maps_are_no_images(yard: Path):
    assert [folder.name for folder in image_folders(yard)] == ['frames', 'frames']
    (yard / 'labels').mkdir()  # beside no frames: a folder like any other
    write_frame(yard / 'labels/a.png', 1)
    assert [folder.name for folder in image_folders(yard)] == ['labels', 'frames', 'frames']


# Broken files


def joint_data(root: Path, tmp_path: Path):
    config = replace(
        joint_config('').data, {'labelled': str(root), 'street': 0, 'held_out': 0.0, 'made_share': 0}
    )
    return open_joint_data(config, DffTrainConfig().augment, CROP, 0, 4, 1, tmp_path)


def read_all(root: Path, tmp_path: Path) -> None:
    data = joint_data(root, tmp_path)
    try:
        for step in range(20):
            data.train.batch(step)
    finally:
        data.close()


def resize_label(root: Path) -> None:
    write_label(root / 'train/walk/labels/6.png', 0, 1, size=(20, 30))


def cut_frame_short(root: Path) -> None:
    path = root / 'train/walk/frames/3.png'
    path.write_bytes(path.read_bytes()[:60])


def remove_key_frame(root: Path) -> None:
    (root / 'train/walk/frames/5.png').unlink()


@pytest.mark.parametrize(
    ('damage', 'text'),
    [
        (resize_label, r'the labels of .*6\.png are 30x20 pixels, the frame 80x48: they must be equal'),
        (cut_frame_short, r'3\.png cannot be decoded as an image'),
        (remove_key_frame, r'6\.png: 4 is followed by 6, the step is 1 .*dff data check'),
    ],
)
def test_damaged_files_end_a_run_in_one_line_that_names_them(yard: Path, tmp_path: Path, damage, text: str):
    damage(yard)
    with pytest.raises(DataError, match=text):
        read_all(yard, tmp_path)
    run = tmp_path / 'run'
    with pytest.raises(DataError, match=text):
        loop.train(config_of(run, yard))
    assert not (run / checkpoint.CHECKPOINT_FILE).exists()


def test_a_frame_that_breaks_during_a_run_leaves_the_last_checkpoint(
    yard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / 'run'
    assert loop.train(config_of(run, yard)) == 0
    before = (run / checkpoint.CHECKPOINT_FILE).read_bytes()
    config = config_of(run, yard)
    resize_label(yard)
    with pytest.raises(DataError, match='they must be equal'):
        loop.train(config, resume=True)
    assert (run / checkpoint.CHECKPOINT_FILE).read_bytes() == before


@contextmanager
def no_file_above(num_bytes: int) -> Iterator[None]:
    """The system refuses to let any file grow further, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_refuses_keeps_checkpoint_and_model(tmp_path: Path):
    state = {'weights': torch.arange(50_000.0)}
    path = tmp_path / checkpoint.CHECKPOINT_FILE
    checkpoint.save_checkpoint(path, 1, {}, state)
    checkpoint.save_model(tmp_path, state, {'a': 1})
    with no_file_above(100_000):
        with pytest.raises(
            DataError,
            match=r'cannot write .*checkpoint\.pt: the disk is full or refuses .*before is unchanged',
        ):
            checkpoint.save_checkpoint(path, 2, {}, state)
        with pytest.raises(DataError, match=r'cannot write .*model\.safetensors: .*before is unchanged'):
            checkpoint.save_model(tmp_path, {'weights': torch.zeros(50_000)}, {'a': 2})
    step, kept = checkpoint.load_checkpoint(path, {}, ())
    assert step == 1
    assert torch.equal(kept['weights'], state['weights'])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        'checkpoint.pt', 'model.json', 'model.safetensors',
    ]  # fmt: skip
    assert json.loads((tmp_path / checkpoint.MODEL_FILE).read_text()) == {'a': 1}


def test_a_label_map_in_place_of_a_frame_is_still_read(yard: Path, tmp_path: Path):
    """A grey frame is an image as any other."""
    assert cv2.imwrite(str(yard / 'train/walk/frames/3.png'), np.full(SIZE, 70, np.uint8))
    (source,) = open_sources(config_of(tmp_path, yard)).sources
    assert (source.samples[1].image_HW3 == 70).all()
