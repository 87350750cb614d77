# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Bundles that somebody else made: nothing outside the directory is read, nothing is executed, nothing hangs,
and a few bytes do not ask for all memory.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
from pathlib import Path

import pytest

from dff_ros.bundle import MANIFEST, WEIGHTS, Bundle, file_facts, open_bundle
from dff_ros.bundle_files import MAX_GRAPH_BYTES, check_graph_file
from dff_ros.config import DffConfig
from dff_ros.errors import BundleError

PACKAGE = Path(__file__).parent.parent / 'dff_ros'
ROAD = PACKAGE.parent / 'models' / 'road-r18'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The graphs and the manifest of road-r18 beside a few bytes of weights, told so in the manifest."""
    folder = tmp_path / 'model'
    folder.mkdir()
    for path in [*ROAD.glob('*.onnx'), ROAD / MANIFEST]:
        shutil.copy(path, folder)
    (folder / WEIGHTS).write_bytes(bytes(100))
    tell(folder, WEIGHTS)
    return folder


def edit(folder: Path, change) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def tell(folder: Path, name: str, size: int | None = None) -> None:
    """Make the manifest say what a file is: whoever changes a bundle changes that too."""
    facts = file_facts(folder / name) if size is None else None
    entry = (
        {'size': size, 'sha256': '0' * 64} if facts is None else {'size': facts.size, 'sha256': facts.sha256}
    )
    edit(folder, lambda manifest: manifest['files'].update({name: entry}))


def test_the_changed_bundle_is_taken_as_long_as_nothing_is_wrong(folder):
    assert open_bundle(folder).files[WEIGHTS].size == 100


# --- the manifest


BAD_NAMES = (
    '../secret', '/etc/passwd', 'a/b', 'a\\b', '..', '.', '', 'a\0b', 'a\nb', '\ud800', '.hidden', 'x' * 300,
    'C:secret', '~', '-rf',
)  # fmt: skip


@pytest.mark.parametrize('name', BAD_NAMES)
def test_a_file_name_that_leads_elsewhere_is_refused(folder, name):
    def as_graph(manifest):
        manifest['graphs']['extract']['file'] = name

    def as_file(manifest):
        manifest['files'][name] = manifest['files'][WEIGHTS]

    for change in (as_graph, as_file):
        kept = (folder / MANIFEST).read_text()
        edit(folder, change)
        with pytest.raises(BundleError, match='is not a plain file name'):
            open_bundle(folder)
        (folder / MANIFEST).write_text(kept)


@pytest.mark.parametrize(
    ('changes', 'complaint'),
    [
        ({'channels': 10**9}, 'channels: got 1000000000, allowed is at most 4096'),
        ({'detection_channels': 10**9}, 'detection_channels: got'),
        ({'max_boxes': 10**12}, 'max_boxes: got'),
        ({'box_bins': 1000}, 'box_bins: got 1000'),
        ({'nominal_size': [10**6, 10**6]}, r'nominal_size: got \(1000000, 1000000\)'),
        ({'anchor_scales': [1.0] * 10**4}, 'anchor_scales: got 10000'),
        ({'class_names': ['\x1b[2Jroad'] * 11}, r'a class is called .*printable'),
        ({'box_class_names': ['c' * 10**4]}, 'at most 100 characters'),
        ({'class_colours': [[0, 0, 300]] * 11}, 'class_colours: got'),
    ],
)
def test_a_model_without_measure_is_refused_before_anything_is_allocated(folder, changes, complaint):
    edit(folder, lambda manifest: manifest['model'].update(changes))
    with pytest.raises(BundleError, match=complaint):
        open_bundle(folder)


def test_other_entries_are_bounded_too(folder):
    edit(folder, lambda manifest: manifest.update(stride=10**12))
    with pytest.raises(BundleError, match='stride is 1000000000000, expected a number from 1 to 64'):
        open_bundle(folder)
    edit(folder, lambda manifest: manifest.update(stride=16, created_by='\x1b]0;mine\x07'))
    with pytest.raises(BundleError, match='created_by must be a printable text'):
        open_bundle(folder)


@pytest.mark.parametrize('text', ['[' * 100_000, '{"format": ' + '9' * 5000 + '}', '"\\ud800"', 'NaN', ''])
def test_json_that_is_no_manifest_is_refused(folder, text):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=MANIFEST):
        open_bundle(folder)


# --- the files


@pytest.mark.parametrize('name', [WEIGHTS, 'predict.onnx', MANIFEST])
def test_a_pipe_or_device_in_the_place_of_a_file_is_not_read(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)  # opening it would wait for a writer
    if name != MANIFEST:
        tell(folder, name, size=0)
    with pytest.raises(BundleError, match=f'{name} is no regular file'):
        open_bundle(folder)
    (folder / name).unlink()
    (folder / name).symlink_to('/dev/zero')  # reading it would never end
    with pytest.raises(BundleError, match=f'{name} is no regular file'):
        open_bundle(folder)


def test_links_to_files_are_followed(folder, tmp_path):
    linked = tmp_path / 'linked'  # as `colcon build --symlink-install` leaves it
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    assert open_bundle(linked).spec == open_bundle(folder).spec


# --- the graphs


def graph(folder: Path, **external: str) -> Path:
    """A graph that adds a tensor of another file to its input."""
    onnx = pytest.importorskip('onnx')
    tensor = onnx.TensorProto(name='w', data_type=onnx.TensorProto.FLOAT, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in external.items():
        tensor.external_data.add(key=key, value=value)
    return save(folder, onnx.helper.make_node('Add', ['x', 'w'], ['y']), tensors=[tensor])


def save(folder: Path, *nodes, tensors=(), domains=('',), functions=()) -> Path:
    import onnx

    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in 'xy']
    made = onnx.helper.make_graph(list(nodes), 'g', values[:1], values[1:], list(tensors))
    opsets = [onnx.helper.make_opsetid(domain, 1 if domain else 20) for domain in domains]
    model = onnx.helper.make_model(made, opset_imports=opsets, functions=list(functions), ir_version=9)
    path = folder / 'graph.onnx'
    path.write_bytes(model.SerializeToString())
    return path


def test_a_graph_may_take_its_weights_from_the_weights_file_only(tmp_path):
    secret = tmp_path.parent / 'secret.bin'
    check_graph_file(graph(tmp_path, location=WEIGHTS, offset='84', length='16'), WEIGHTS, 100)
    for location in ('../secret.bin', str(secret), 'other.bin', f'./{WEIGHTS}', f'x/../{WEIGHTS}', ''):
        with pytest.raises(
            BundleError, match='takes weights from .*; allowed is weights.safetensors beside it'
        ):
            check_graph_file(graph(tmp_path, location=location, length='16'), WEIGHTS, 100)


@pytest.mark.parametrize(
    ('offset', 'length'),
    [('85', '16'), ('-4', '16'), ('0', '101'), ('0', '-1'), ('1e3', '1'), ('9' * 30, '1')],
)
def test_weights_beyond_the_end_of_the_file_are_refused(tmp_path, offset, length):
    with pytest.raises(BundleError, match='from beyond the end of weights.safetensors'):
        check_graph_file(graph(tmp_path, location=WEIGHTS, offset=offset, length=length), WEIGHTS, 100)


def test_tensors_are_found_wherever_a_graph_can_hide_them(tmp_path):
    onnx = pytest.importorskip('onnx')
    outside = onnx.TensorProto(name='w', data_type=onnx.TensorProto.FLOAT, dims=[4])
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key='location', value='../secret.bin')
    constant = onnx.helper.make_node('Constant', [], ['w'], value=outside)
    branch = onnx.helper.make_graph([constant], 'branch', [], [])
    nested = onnx.helper.make_node('If', ['x'], ['y'], then_branch=branch, else_branch=branch)
    function = onnx.helper.make_function('', 'f', [], ['w'], [constant], [])
    sparse = onnx.SparseTensorProto(values=outside)
    hiding = (
        save(tmp_path, constant).read_bytes(),
        save(tmp_path, nested).read_bytes(),
        save(tmp_path, functions=[function]).read_bytes(),
        save(tmp_path, onnx.helper.make_node('Constant', [], ['y'], sparse_value=sparse)).read_bytes(),
    )
    for content in hiding:
        path = tmp_path / 'graph.onnx'
        path.write_bytes(content)
        with pytest.raises(BundleError, match=r"takes weights from '\.\./secret\.bin'"):
            check_graph_file(path, WEIGHTS, 100)


@pytest.mark.parametrize('is_told', [True, False])
def test_operators_that_a_library_would_have_to_bring_are_refused(tmp_path, is_told):
    onnx = pytest.importorskip('onnx')
    node = onnx.helper.make_node('Run', ['x'], ['y'], domain='com.example')
    path = save(tmp_path, node, domains=('', 'com.example') if is_told else ('',))
    with pytest.raises(
        BundleError, match=r"uses operators of 'com\.example'; allowed are those of ONNX itself"
    ):
        check_graph_file(path, WEIGHTS, 100)


def test_bytes_that_are_no_graph_are_refused(tmp_path):
    path = tmp_path / 'graph.onnx'
    good = (ROAD / 'predict.onnx').read_bytes()
    for content in (good[:-5], b'\xff' * 50, b'\x3a\xff\xff\xff\xff\x0f', b'\x3b', b'\x3a\x80'):
        path.write_bytes(content)
        with pytest.raises(BundleError, match=r'graph\.onnx is not accepted: it is no ONNX file'):
            check_graph_file(path, WEIGHTS, 100)
    with path.open('wb') as file:
        file.truncate(MAX_GRAPH_BYTES + 1)  # a hole: takes no room
    with pytest.raises(BundleError, match=f'a graph has {MAX_GRAPH_BYTES} at most'):
        check_graph_file(path, WEIGHTS, 100)


def test_graphs_nested_without_end_are_refused(tmp_path):
    content = b''
    for _ in range(40):  # graph in attribute of node of graph
        for number in (6, 5, 1):
            content = bytes([number << 3 | 2]) + as_varint(len(content)) + content
    (tmp_path / 'graph.onnx').write_bytes(b'\x3a' + as_varint(len(content)) + content)
    with pytest.raises(BundleError, match='nested too deep'):
        check_graph_file(tmp_path / 'graph.onnx', WEIGHTS, 100)


def as_varint(value: int) -> bytes:
    """In three bytes."""
    return bytes([value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14])


def test_every_shipped_graph_passes():
    bundle = open_bundle(ROAD, verify=False)
    assert len(bundle.graphs) == 8
    for name in bundle.graphs:
        check_graph_file(bundle.graph_path(name), WEIGHTS, bundle.files[WEIGHTS].size)


def test_the_backend_refuses_before_the_runtime_opens_anything(dis_bundle, tmp_path):
    from dff_ros.backends.base import open_backend

    folder = tmp_path / 'copy'
    shutil.copytree(dis_bundle.path, folder)
    (tmp_path / 'secret.bin').write_bytes(bytes(16))
    graph(folder, location='../secret.bin', length='16').replace(folder / 'predict.onnx')
    tell(folder, 'predict.onnx')
    with pytest.raises(BundleError, match=r"predict\.onnx takes weights from '\.\./secret\.bin'"):
        open_backend(open_bundle(folder), DffConfig(backend='onnx'))


@pytest.mark.parametrize(
    'content',
    [
        b'\xff\xff\xff\xff\xff\xff\xff\x7f' + b'{}',  # a header of 2^63 bytes
        (60).to_bytes(8, 'little') + b'{"w":{"dtype":"F32","shape":[1099511627776],'.ljust(60),
        b'\x80\x04cos\nsystem\n(S"true"\ntR.',  # a pickle
    ],
)
def test_weights_that_are_no_safetensors_are_refused_by_torch(dis_bundle, tmp_path, content):
    from dff_ros.backends.base import open_backend

    folder = tmp_path / 'copy'
    shutil.copytree(dis_bundle.path, folder)
    (folder / WEIGHTS).write_bytes(content)
    tell(folder, WEIGHTS)
    with pytest.raises(BundleError, match=r'weights\.safetensors cannot be read as safetensors'):
        open_backend(open_bundle(folder), DffConfig(backend='torch'))


# --- the code


def test_nothing_in_the_package_can_execute_what_it_reads():
    """No pickle is read, no text evaluated, no code loaded by a name from outside."""
    found: set[str] = set()
    for path in sorted(PACKAGE.rglob('*.py')):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name, given = ast.unparse(call.func), {key.arg: ast.unparse(key.value) for key in call.keywords}
            where = f'{path.relative_to(PACKAGE)}: {ast.unparse(call)}'
            if (
                name in ('eval', 'exec', 'os.system', 'os.popen', '__import__', 'yaml.unsafe_load')
                or name.endswith(('pickle.load', 'pickle.loads', 'Unpickler', 'register_custom_ops_library'))
                or (name == 'torch.load' and given.get('weights_only') != 'True')
                or (name == 'np.load' and given.get('allow_pickle', 'False') != 'False')
                or (name == 'yaml.load' and given.get('Loader') not in ('yaml.BaseLoader', 'yaml.SafeLoader'))
                or given.get('shell') == 'True'
            ):
                found.add(where)
    assert found == set()


def test_the_bundle_is_read_only_data(folder):
    """Opening writes nothing and leaves no cache beside it."""
    before = sorted(path.name for path in folder.iterdir())
    assert isinstance(open_bundle(folder), Bundle)
    assert sorted(path.name for path in folder.iterdir()) == before
