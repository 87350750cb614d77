# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Bundles: what is written is read back, and everything that is not as it was is refused naming the file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from dff_ros import bundle as bundles
from dff_ros import cli
from dff_ros.bundle import Bundle, GraphFile, bundle_names, file_facts, open_bundle, write_manifest
from dff_ros.confidence import ConfidenceCalibration
from dff_ros.errors import BundleError
from dff_ros.model_spec import ModelSpec

SPEC = ModelSpec(class_names=('road', 'car'), class_colours=((1, 2, 3), (4, 5, 6)), channels=8)
GRAPHS = {
    'extract': GraphFile('extract.onnx', ('image', 'taps'), ('feature',)),
    'propagate': GraphFile('propagate.onnx', ('feature', 'flow'), ('warped', 'validity')),
    'predict': GraphFile('predict.onnx', ('feature',), ('label_map', 'confidence')),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle whose graphs and weights are arbitrary bytes: nothing here runs them."""
    folder = tmp_path / 'model'
    folder.mkdir()
    names = ['weights.safetensors', *(graph.file for graph in GRAPHS.values())]
    for index, name in enumerate(names):
        (folder / name).write_bytes(bytes(range(index, index + 100)))
    files = {name: file_facts(folder / name) for name in names}
    facts = {'created_by': 'x', 'figures': {'miou': 59.5}}
    write_manifest(Bundle(path=folder, spec=SPEC, stride=16, graphs=GRAPHS, files=files, **facts))
    return folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / 'manifest.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_written_is_read_back(folder):
    bundle = open_bundle(folder)
    assert bundle.spec == SPEC
    assert bundle.graphs == GRAPHS
    assert (bundle.stride, bundle.name, bundle.created_by) == (16, 'model', 'x')
    assert bundle.figures == {'miou': 59.5}
    assert bundle.graph_path('predict') == folder / 'predict.onnx'
    assert bundle.files['extract.onnx'].size == 100
    assert bundle.files['extract.onnx'].sha256 == hashlib.sha256(bytes(range(1, 101))).hexdigest()


def test_a_model_of_the_paper_is_written_as_version_1(folder):
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest['version'] == 1
    assert not manifest['model'].keys() & {'light_channels', 'detail', 'correction_channels'}
    assert not manifest['model'].keys() & {'box_class_names', 'num_proposals', 'box_pooling', 'cell_centre'}
    assert open_bundle(folder).score_stride == 16


DETECTION = {'box_class_names': ('car',), 'anchor_scales': (1.0, 2.5), 'num_proposals': 50}


@pytest.mark.parametrize('changes', [{}, {'class_names': (), 'class_colours': ()}])
def test_a_detection_head_makes_it_version_3_with_a_graph_for_each_task(folder, changes):
    bundle = open_bundle(folder)
    spec = dataclasses.replace(SPEC, **DETECTION, **changes)
    detect = GraphFile('extract.onnx', ('feature',), ('boxes', 'num_boxes'))
    write_manifest(dataclasses.replace(bundle, spec=spec, graphs={**GRAPHS, 'detect': detect}))
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert (manifest['version'], manifest['model']['anchor_scales']) == (3, [1.0, 2.5])
    assert open_bundle(folder).spec == spec
    write_manifest(dataclasses.replace(bundle, spec=spec))
    with pytest.raises(BundleError, match='graphs has no detect'):
        open_bundle(folder)
    without = {name: graph for name, graph in GRAPHS.items() if name != 'predict'}
    write_manifest(dataclasses.replace(bundle, spec=spec, graphs={**without, 'detect': detect}))
    if spec.class_names:
        with pytest.raises(BundleError, match='graphs has no predict'):
            open_bundle(folder)
    else:
        assert open_bundle(folder).spec.tasks == ('detection',)


LIGHT = {'light_channels': 16, 'detail': True, 'correction_channels': 4}


def test_a_light_net_makes_it_version_2_with_graphs_of_its_own(folder):
    bundle = open_bundle(folder)
    looking = {
        name: GraphFile('extract.onnx', ('image',), ('fine', 'middle', 'coarse'))
        for name in ('look', 'correct')
    }
    spec = dataclasses.replace(SPEC, **LIGHT)
    write_manifest(dataclasses.replace(bundle, spec=spec, graphs={**GRAPHS, **looking}))
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert (manifest['version'], 'box_class_names' in manifest['model']) == (2, False)
    read = open_bundle(folder)
    assert (read.spec, read.graphs, read.score_stride) == (spec, {**GRAPHS, **looking}, 8)
    for name in looking:
        graphs = {key: graph for key, graph in {**GRAPHS, **looking}.items() if key != name}
        write_manifest(dataclasses.replace(bundle, spec=spec, graphs=graphs))
        with pytest.raises(BundleError, match=f'graphs has no {name}'):
            open_bundle(folder)


def test_a_quality_net_makes_it_version_4_with_a_graph_of_its_own(folder):
    bundle = open_bundle(folder)
    spec = dataclasses.replace(SPEC, light_channels=16, quality_channels=4)
    graphs = {**GRAPHS, 'look': GraphFile('extract.onnx', ('image',), ('middle',))}
    write_manifest(dataclasses.replace(bundle, spec=spec, graphs=graphs))
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert (manifest['version'], manifest['model']['quality_channels']) == (4, 4)
    with pytest.raises(BundleError, match='graphs has no quality'):
        open_bundle(folder)
    graphs['quality'] = GraphFile('extract.onnx', ('warped',), ('disagreement',))
    write_manifest(dataclasses.replace(bundle, spec=spec, graphs=graphs))
    assert open_bundle(folder).spec == spec


def test_a_calibration_makes_it_version_5_and_comes_back(folder):
    bundle = open_bundle(folder)
    assert bundle.confidence is None
    calibration = ConfidenceCalibration(gain=0.75, offset=-0.125, disagreement_weight=0.5, known_age_s=2.0)
    write_manifest(dataclasses.replace(bundle, confidence=calibration))
    read = open_bundle(folder)
    assert (read.version, read.confidence) == (5, calibration)
    assert dataclasses.replace(read, confidence=None) == bundle
    write_manifest(dataclasses.replace(read, confidence=None))
    assert 'confidence' not in json.loads((folder / 'manifest.json').read_text())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'gain': -1.0}, r'manifest.json: confidence.gain: got -1.0, allowed is from 0.01 to 100'),
        ({'offset': None}, 'confidence.offset: got None'),
        ({'slope': 1.0}, r'confidence: unknown or missing entries \(slope\)'),
        (None, 'confidence must be a JSON object, not list'),
    ],
)
def test_a_calibration_out_of_range_is_refused(folder, changes, message):
    values = json.loads((folder / 'manifest.json').read_text())
    values['confidence'] = [] if changes is None else ConfidenceCalibration().to_dict() | changes
    (folder / 'manifest.json').write_text(json.dumps(values))
    with pytest.raises(BundleError, match=message):
        open_bundle(folder)


def test_a_propagate_that_does_not_look_at_the_image_is_refused(folder):
    bundle = open_bundle(folder)
    spec = dataclasses.replace(SPEC, light_channels=16, flow_source='correlation')
    graphs = {**GRAPHS, 'look': GraphFile('extract.onnx', ('image',), ('fine', 'middle', 'coarse'))}
    for inputs, is_usable in ((('image', 'key_feature'), True), (('middle', 'key_feature'), False)):
        graphs['propagate'] = dataclasses.replace(GRAPHS['propagate'], inputs=inputs)
        write_manifest(dataclasses.replace(bundle, spec=spec, graphs=graphs))
        if is_usable:
            assert open_bundle(folder).graphs == graphs
        else:
            with pytest.raises(
                BundleError, match='propagate is of an older version .* export the model again'
            ):
                open_bundle(folder)


def test_a_graph_that_is_not_there_is_named(folder):
    with pytest.raises(BundleError, match="no graph 'warp'; it has extract, propagate, predict"):
        open_bundle(folder).graph_path('warp')


@pytest.mark.parametrize('name', ['weights.safetensors', 'extract.onnx', 'predict.onnx'])
def test_a_file_that_differs_is_named(folder, name):
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[:50])
    with pytest.raises(BundleError, match=f'{name} has 50 bytes, the manifest says 100'):
        open_bundle(folder)
    path.write_bytes(content[:50] + b'\xff' + content[51:])
    with pytest.raises(BundleError, match=f'{name} is not the file of the manifest'):
        open_bundle(folder)
    path.unlink()
    with pytest.raises(BundleError, match=f'{name} cannot be read .No such file'):
        open_bundle(folder)


def test_verification_can_be_left_out(folder):
    (folder / 'extract.onnx').unlink()
    assert open_bundle(folder, verify=False).spec == SPEC


def test_texts_for_people_may_change(folder):
    (folder / 'MODEL_CARD.md').write_text('new')
    assert open_bundle(folder).spec == SPEC


@pytest.mark.parametrize(
    'text, message',
    [
        (None, 'manifest.json is missing'),
        ('{"format": ', 'manifest.json is not valid JSON'),
        ('[' * 100_000, 'manifest.json is not valid JSON'),
        ('[]', 'the manifest must be a JSON object, not list'),
        ('{}', 'is not the manifest of a dff_ros bundle'),
        (' ' * (2 << 20), 'manifest.json is larger than'),
    ],
)
def test_a_manifest_that_is_none_is_refused(folder, text, message):
    path = folder / 'manifest.json'
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(BundleError, match=message):
        open_bundle(folder)


def test_a_manifest_that_is_no_text_is_refused(folder):
    (folder / 'manifest.json').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(BundleError, match=r'manifest.json is not valid JSON'):
        open_bundle(folder)


SHA = '0' * 64


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'format': 'other'}, 'is not the manifest of a dff_ros bundle'),
        ({'version': 7}, 'has format version 7, this program reads up to 6: update dff_ros'),
        ({'version': '1'}, 'is not the manifest of a dff_ros bundle'),
        ({'version': True}, 'is not the manifest of a dff_ros bundle'),
        ({'hook': 'rm'}, r'unknown or missing entries \(hook\)'),
        ({'stride': 0}, 'stride is 0'),
        ({'model': {**SPEC.to_dict(), 'depth': 3}}, 'unknown entries depth'),
        ({'model': {'channels': 3}}, 'manifest.json: model'),
        ({'model': {**SPEC.to_dict(), 'channels': 'many'}}, 'manifest.json: model: channels'),
        ({'model': {**SPEC.to_dict(), 'mean': 0.5}}, 'manifest.json: model: mean'),
        ({'model': {**SPEC.to_dict(), 'nominal_size': [96]}}, 'manifest.json: model: nominal_size'),
        ({'model': {**SPEC.to_dict(), 'class_names': 'ab'}}, 'manifest.json: model: class_names'),
        ({'model': 7}, 'model must be a JSON object, not int'),
        ({'graphs': {}}, 'graphs has no extract'),
        ({'graphs': {'train': {'file': 'a', 'inputs': [], 'outputs': []}}}, "unknown graph 'train'"),
        ({'graphs': {'extract': {'file': 'a', 'inputs': 'image', 'outputs': []}}}, 'inputs must be a list'),
        ({'files': {}}, 'files has no entry for extract.onnx'),
        ({'files': {'a': {'size': 1}}}, 'files.a needs size'),
        ({'files': {'a': {'size': True, 'sha256': SHA}}}, 'files.a needs size'),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(BundleError, match=message):
        open_bundle(folder)


@pytest.mark.parametrize(
    'name', ['../secret', '/etc/passwd', 'sub/extract.onnx', '..', '.', '', 'a\\b', 'C:\\x', 3]
)
def test_a_file_outside_of_the_bundle_is_refused(folder, name):
    graphs = {key: {'file': graph.file, 'inputs': [], 'outputs': []} for key, graph in GRAPHS.items()}
    edit(folder, graphs={**graphs, 'extract': {'file': name, 'inputs': [], 'outputs': []}})
    with pytest.raises(BundleError, match='is not a plain file name'):
        open_bundle(folder)


def test_a_listed_file_outside_of_the_bundle_is_refused(folder):
    edit(folder, files={'../secret': {'size': 1, 'sha256': SHA}})
    with pytest.raises(BundleError, match="'../secret' is not a plain file name"):
        open_bundle(folder)


def test_names_are_looked_up_beside_the_package(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(bundles, '_model_folders', lambda: [tmp_path / 'none', tmp_path])
    assert bundle_names() == ['model']
    assert open_bundle('model').path == folder
    with pytest.raises(BundleError, match=r"no bundle 'modle': .*known: model"):
        open_bundle('modle')
    with pytest.raises(BundleError, match='no bundle'):
        open_bundle(tmp_path / 'nowhere' / 'model')


def test_only_a_bundle_in_the_working_directory_hides_one_of_its_name(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(bundles, '_model_folders', lambda: [tmp_path])
    here = tmp_path / 'here'
    (here / 'model').mkdir(parents=True)
    monkeypatch.chdir(here)
    assert open_bundle('model').path == folder
    shutil.copytree(folder, here / 'model', dirs_exist_ok=True)
    assert open_bundle('model').path.resolve() == here / 'model'


def test_names_are_found_below_an_install_prefix(folder, monkeypatch, tmp_path):
    share = tmp_path / 'prefix' / 'share' / 'dff_ros' / 'models'
    share.mkdir(parents=True)
    folder.rename(share / 'installed')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'prefix'))
    assert 'installed' in bundle_names()
    assert open_bundle('installed').path == share / 'installed'


def test_info_says_that_a_manifest_is_not_proof_of_anything(folder, capsys):
    path = folder / 'manifest.json'
    path.write_text(path.read_text().replace(f'"{SPEC.class_names[0]}"', '"renamed"'))
    assert cli.main(['info', str(folder)]) == 0
    text = ' '.join(capsys.readouterr().out.split())
    assert 'renamed' in text
    assert 'files match the manifest; the manifest itself is not signed' in text
    assert 'all as in the manifest' not in text
    assert cli.main(['info', str(folder), '--json']) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts['files_match_manifest'] is True and 'files_intact' not in facts


@pytest.mark.parametrize(
    ('changes', 'expected', 'num_tables'),
    [
        ({}, 'tasks segmentation detects nothing', 1),
        (DETECTION, 'tasks segmentation, detection detects car', 1),
        ({**DETECTION, 'class_names': (), 'class_colours': ()}, 'tasks detection detects car', 0),
    ],
)
def test_info_lists_tasks_and_the_classes_of_boxes(folder, capsys, changes, expected, num_tables):
    detect = GraphFile('extract.onnx', ('feature',), ('boxes', 'num_boxes'))
    spec = dataclasses.replace(SPEC, **changes)
    write_manifest(dataclasses.replace(open_bundle(folder), spec=spec, graphs={**GRAPHS, 'detect': detect}))
    assert cli.main(['info', str(folder)]) == 0
    text = capsys.readouterr().out
    assert expected in ' '.join(text.replace('│', ' ').split())
    assert text.count('classes of the label map') == num_tables
