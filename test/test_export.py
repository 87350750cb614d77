# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Export: a run becomes a verified bundle or nothing; graphs hold no sizes, paths or second weights."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('cv2')
import cv2
import onnx
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays
from tiny_models import moving_clip, tiny_model

from dff_ros import export
from dff_ros.bundle import open_bundle
from dff_ros.cli import main
from dff_ros.errors import DataError, DffError
from dff_ros.export import export_run
from dff_ros.training.checkpoint import save_model
from dff_ros.training.start import read_start
from dff_ros.types import Detections
from dff_ros.verification import ClipComparison, check_comparisons, compare_backends, num_equal_boxes

SIZE = (96, 128)


@pytest.fixture(scope='module')
def finished_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs') / 'street'
    folder.mkdir()
    model = tiny_model().folded()
    save_model(folder, model.state_dict(), {**model.spec.to_dict(), 'training': {'steps': 7}})
    return folder


@pytest.fixture
def run(finished_run, tmp_path):
    """A training run's directory, free to be damaged."""
    return Path(shutil.copytree(finished_run, tmp_path / 'runs' / 'street'))


@pytest.fixture
def fast_graphs(monkeypatch, dis_bundle):
    """The graphs of the session's bundle instead of another slow export."""

    def copy(model, folder):
        for name in dis_bundle.files:
            shutil.copyfile(dis_bundle.path / name, folder / name)
        return dis_bundle.graphs

    monkeypatch.setattr(export, 'write_graphs', copy)


def frames() -> list[np.ndarray]:
    return moving_clip(SIZE, 4, (2, 1))


def test_the_command_writes_a_verified_bundle(run, tmp_path, capsys, dis_bundle):
    clip = tmp_path / 'clip'
    clip.mkdir()
    for index, image in enumerate(frames()):
        cv2.imwrite(str(clip / f'{index}.png'), image)
    card = tmp_path / 'card.md'
    card.write_text('# Street')
    out = tmp_path / 'models' / 'street'
    flags = ['--frames', str(clip), '--card', str(card), '--json']
    assert main(['export', str(run), '--out', str(out), *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['bundle'] == str(out)
    assert [(item['size'], item['num_frames']) for item in report['verification']] == [
        ([96, 128], 4),
        ([64, 86], 4),
    ]
    assert all(item['agreement'] >= 0.999 for item in report['verification'])
    assert sorted(path.name for path in out.parent.iterdir()) == ['street']  # nothing temporary is left
    assert (out / 'MODEL_CARD.md').read_text() == '# Street'
    bundle = open_bundle(out)
    assert bundle.created_by == 'dff export street --out street'
    assert bundle.figures['training'] == {'steps': 7}
    assert bundle.files == dis_bundle.files  # the same model in another export: equal to the last bit
    assert set(bundle.graphs) == {'extract', 'propagate', 'predict'}
    assert main(['info', str(out), '--json']) == 0
    info = json.loads(capsys.readouterr().out)
    assert info['files_match_manifest'] is True
    assert info['model']['class_names'] == list(bundle.spec.class_names)
    assert main(['info', str(out)]) == 0
    text = capsys.readouterr().out
    assert 'resnet18, stages 1 to 4, 16 channels' in text
    assert 'weights.safetensors' in text
    assert 'the manifest itself is not signed' in ' '.join(text.split())


@pytest.mark.parametrize('name', ['dis_bundle', 'flow_bundle', 'light_bundle'])
def test_graphs_hold_no_size_no_path_and_no_second_copy_of_the_weights(request, name):
    bundle = request.getfixturevalue(name)
    stored = load_file(bundle.weights_path)
    assert stored['feature_net.conv1.weight'].dtype == np.float16
    assert stored['feature_net.conv1.bias'].dtype == np.float32
    for graph in bundle.graphs:
        path = bundle.graph_path(graph)
        assert path.stat().st_size < 100_000
        content = path.read_bytes()
        assert b'site-packages' not in content
        assert str(Path(export.__file__).parent).encode() not in content
        for value in onnx.load(path, load_external_data=False).graph.input:
            dims = value.type.tensor_type.shape.dim
            fixed = [dim.dim_value for dim in dims if not dim.dim_param]
            assert fixed in (
                [],
                [3],
                [1, 2],
                [1, 3],
                [1, 16],
                [1, 24],
                [1, 32],
                [1, 64],
            )  # batch and channels only


def test_a_bundle_tells_what_its_run_started_from(run, tmp_path, fast_graphs, monkeypatch):
    monkeypatch.setattr(export, 'compare_backends', lambda bundle, clip: [ClipComparison(SIZE, 4, 1.0, 0.0)])
    started_from = [{'name': 'flow', 'kind': 'flow', 'steps': 40}, {'name': 'road', 'data': ['yard train']}]
    training = {'kind': 'dff', 'started_from': started_from, 'settings': {'seed': 3, 'steps': 8}}
    facts = json.loads((run / 'model.json').read_text())
    (run / 'model.json').write_text(json.dumps({**facts, 'training': training}))
    export_run(run, tmp_path / 'yard', frames())
    start = read_start(tmp_path / 'yard')
    assert start.training == training
    expected = {'name': 'yard', 'kind': 'dff', 'seed': 3, 'steps': 8, 'started_from': started_from}
    assert start.lineage == expected


def test_a_target_that_exists_is_kept_unless_told(run, tmp_path, fast_graphs, monkeypatch):
    monkeypatch.setattr(export, 'compare_backends', lambda bundle, clip: [ClipComparison(SIZE, 4, 1.0, 0.0)])
    out = tmp_path / 'street'
    export_run(run, out, frames())
    before = (out / 'manifest.json').read_bytes()
    with pytest.raises(DffError, match='street exists: choose another --out, or give --overwrite'):
        export_run(run, out, frames())
    facts = json.loads((run / 'model.json').read_text())
    (run / 'model.json').write_text(json.dumps({**facts, 'training': {'steps': 8}}))
    bundle, _ = export_run(run, out, frames(), overwrite=True)
    assert bundle.figures['training'] == {'steps': 8}
    assert (out / 'manifest.json').read_bytes() != before
    assert [path.name for path in tmp_path.iterdir() if 'street' in path.name] == ['street']
    other = tmp_path / 'precious'
    other.mkdir()
    with pytest.raises(DffError, match='precious is no bundle and will not be overwritten'):
        export_run(run, other, frames(), overwrite=True)


def test_a_failed_comparison_leaves_nothing_and_says_what_differed(run, tmp_path, fast_graphs, monkeypatch):
    out = tmp_path / 'models' / 'street'
    wrong = [ClipComparison(SIZE, 4, 0.9, 0.0)]
    monkeypatch.setattr(export, 'compare_backends', lambda bundle, clip: wrong)
    with pytest.raises(DffError, match='4 frames of 128x96: 90.0000% of labels agree, 99.9% are needed'):
        export_run(run, out, frames())
    assert list(out.parent.iterdir()) == []


def test_a_full_disk_leaves_nothing_and_is_named(run, tmp_path, monkeypatch):
    def full(model, folder):
        (folder / 'weights.safetensors').write_bytes(b'half of it')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(export, 'write_graphs', full)
    out = tmp_path / 'models' / 'street'
    with pytest.raises(DffError, match=r'models/street \(No space left on device\): free some space'):
        export_run(run, out, frames())
    assert list(out.parent.iterdir()) == []


def test_an_unusable_run_is_named(run, tmp_path):
    (run / 'model.safetensors').unlink()
    with pytest.raises(DataError, match='model.safetensors do not exist'):
        export_run(run, tmp_path / 'out', frames())
    (run / 'model.json').unlink()
    with pytest.raises(DataError, match='cannot read .*model.json'):
        export_run(run, tmp_path / 'out', frames())
    assert not (tmp_path / 'out').exists()


def test_a_card_that_is_missing_is_named(run, tmp_path):
    with pytest.raises(DffError, match='model card .*nowhere.md does not exist'):
        export_run(run, tmp_path / 'out', frames(), card=tmp_path / 'nowhere.md')


def test_a_correction_is_compared_on_and_off(light_bundle, dis_bundle):
    found = compare_backends(light_bundle, frames(), num_threads=1)
    check_comparisons(found)
    assert [(item.size, item.correction) for item in found] == [
        ((96, 128), True),
        ((64, 86), True),
        ((96, 128), False),
        ((64, 86), False),
    ]
    assert all(0 < item.feature_error < 1e-3 for item in found)
    assert not any(item.correction for item in compare_backends(dis_bundle, frames(), num_threads=1))
    with pytest.raises(DffError, match='4 frames of 128x96 with correction: features by 1'):
        check_comparisons([dataclasses.replace(found[0], feature_error=1.0)])


def test_info_tells_of_the_light_net_and_its_users(light_bundle, dis_bundle, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    assert main(['info', str(light_bundle.path)]) == 0
    text = ' '.join(capsys.readouterr().out.split())
    assert '16 channels, looks at every frame' in text
    assert 'scores at stride 8' in text
    assert '8 channels; the setting correction switches it off' in text
    assert main(['info', str(dis_bundle.path)]) == 0
    assert 'none: the setting correction has no effect' in ' '.join(capsys.readouterr().out.split())


def test_what_the_quality_net_says_is_compared(light_bundle, capsys, monkeypatch):
    found = compare_backends(light_bundle, frames(), num_threads=1)
    check_comparisons(found)
    assert [item.correction for item in found] == [True, True, False, False]
    assert all(0 < item.disagreement_error < 1e-4 for item in found)
    with pytest.raises(DffError, match='predicted disagreement by 0.01, allowed is 0.001'):
        check_comparisons([dataclasses.replace(found[0], disagreement_error=0.01)])
    monkeypatch.setenv('COLUMNS', '200')
    assert main(['info', str(light_bundle.path)]) == 0
    text = ' '.join(capsys.readouterr().out.split())
    assert '6 channels; the scheduler learned can use it' in text


def test_comparison_sees_other_weights(dis_bundle, tmp_path):
    # The ONNX graphs of one model beside the biases of another: torch reads them from the weights file.
    shutil.copytree(dis_bundle.path, tmp_path / 'mixed')
    weights = tmp_path / 'mixed' / 'weights.safetensors'
    state = load_file(weights)
    state['feature_net.reduce.bias'] = state['feature_net.reduce.bias'] + np.float32(0.5)
    save_arrays(state, weights)
    mixed = dataclasses.replace(dis_bundle, path=tmp_path / 'mixed')
    with pytest.raises(DffError, match='differ on 4 frames of 128x96: features by'):
        check_comparisons(compare_backends(mixed, frames(), num_threads=1))


def test_limits_of_the_comparison():
    good = ClipComparison((96, 128), 6, 0.9991, 1e-4)
    check_comparisons([good])
    for bad in ({'agreement': 0.9989}, {'feature_error': 2e-3}, {'feature_error': float('nan')}):
        with pytest.raises(DffError, match='torch and ONNX Runtime differ on 6 frames of 128x96'):
            check_comparisons([good, dataclasses.replace(good, **bad)])


def test_boxes_are_compared(detection_bundle):
    found = compare_backends(detection_bundle, frames(), num_threads=1)
    check_comparisons(found)
    assert min(item.num_boxes for item in found) >= 40
    assert found[0].facts().keys() >= {'agreement', 'num_boxes', 'box_agreement'}
    bad = dataclasses.replace(found[0], num_boxes=50, box_agreement=0.98)
    with pytest.raises(DffError, match='4 frames of 128x96: 98.00% of 50 boxes agree, 99% are needed'):
        check_comparisons([bad])
    check_comparisons([dataclasses.replace(bad, num_boxes=0, box_agreement=None, agreement=None)])


def test_boxes_are_equal_within_limits_and_of_one_class():
    def boxes(shift=0.0, score=0.7, number=1):
        return Detections(
            np.array([[10, 10, 20, 20], [0, 0, 5, 5 + shift]], np.float32),
            np.array([0, number]),
            np.array([0.9, score], np.float32),
        )

    assert num_equal_boxes(boxes(), boxes(0.45, 0.7009)) == 2
    assert num_equal_boxes(boxes(), boxes(shift=0.55)) == 1
    assert num_equal_boxes(boxes(), boxes(score=0.702)) == 1
    assert num_equal_boxes(boxes(), boxes(number=0)) == 1
    assert num_equal_boxes(boxes(), Detections.none()) == num_equal_boxes(Detections.none(), boxes()) == 0


def test_facts_of_a_model_without_detection_are_those_of_before():
    facts = ClipComparison(SIZE, 4, 1.0, 0.0).facts()
    assert facts.keys() == {'size', 'num_frames', 'agreement', 'feature_error', 'correction'}


def test_no_frames_is_an_error(dis_bundle):
    with pytest.raises(DffError, match='there are no frames'):
        compare_backends(dis_bundle, [])
