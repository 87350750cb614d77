# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Graphs in 8 bits: what `dff quantise` writes, what ONNX Runtime makes of it, how near it is to torch."""

from __future__ import annotations

import dataclasses
import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('cv2')
import cv2
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tiny_models import moving_clip

from dff_ros import quantisation
from dff_ros.activation_ranges import ActivationRange
from dff_ros.backends.base import open_backend
from dff_ros.backends.cpu_facts import has_bf16, lacks_wide_sums
from dff_ros.bundle import open_bundle
from dff_ros.cli import main
from dff_ros.config import DffConfig, replace
from dff_ros.errors import BackendUnavailableError, BundleError, DffError
from dff_ros.int8_graphs import plan_int8, quantised, weight_values
from dff_ros.quantisation import Frames, check_target, quantise_bundle
from dff_ros.verification import ClipComparison, check_int8

SIZE = (96, 128)
HAS_OPENVINO = 'OpenVINOExecutionProvider' in onnxruntime.get_available_providers()


def clip(num_frames: int = 20) -> list[np.ndarray]:
    return moving_clip(SIZE, num_frames, (3, 2))


@pytest.fixture(scope='module')
def made(light_bundle, tmp_path_factory):
    """(report, bundle) of `dff quantise` on a folder of images, of a bundle with every kind of net."""
    folder = tmp_path_factory.mktemp('int8')
    (folder / 'clip').mkdir()
    for index, image in enumerate(clip()):
        cv2.imwrite(str(folder / 'clip' / f'{index}.png'), image[..., ::-1])
    flags = ['--data', str(folder / 'clip'), '--num-images', '8', '--out', str(folder / 'int8')]
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr('builtins.print', lambda *texts, **options: printed.append(*texts))
        assert main(['quantise', str(light_bundle.path), *flags, '--num_threads', '1', '--json']) == 0
    assert sorted(path.name for path in folder.iterdir()) == ['clip', 'int8']  # nothing temporary is left
    return json.loads(printed[0]), open_bundle(folder / 'int8')


@pytest.fixture(scope='module')
def int8_bundle(made):
    return made[1]


def test_only_graphs_are_added(made, light_bundle):
    report, bundle = made
    assert list(bundle.int8) == ['extract', 'propagate', 'look']
    assert bundle.version == 6
    assert {name: bundle.files[name] for name in light_bundle.files} == light_bundle.files
    added = set(bundle.files) - set(light_bundle.files)
    assert added == {'extract.int8.onnx', 'propagate.int8.onnx', 'look.int8.onnx'}
    assert (
        sum(bundle.files[name].size for name in added) < 0.5 * light_bundle.files['weights.safetensors'].size
    )
    assert report['files'] == {name: bundle.files[name].size for name in bundle.int8.values()}
    assert (report['num_images'], report['data']) == (8, bundle.figures['int8']['data'])
    assert [item['size'] for item in report['verification']] == [[96, 128], [64, 86]] * 2
    assert bundle.figures['int8']['verification'] == report['verification']
    assert dataclasses.replace(bundle, int8={}).version == light_bundle.version


def optimised(bundle, graph: str, folder: Path) -> list[onnx.NodeProto]:
    """The nodes of the graph as ONNX Runtime runs it with the settings of the backend."""
    from dff_ros.backends.onnx import session_options

    options = session_options(1, is_spinning=False)
    options.optimized_model_filepath = str(folder / 'optimised.onnx')
    path = str(bundle.graph_path(graph, 'int8'))
    onnxruntime.InferenceSession(
        path, options, providers=['CPUExecutionProvider'], disabled_optimizers=['QDQPropagationTransformer']
    )
    return list(onnx.load(options.optimized_model_filepath, load_external_data=False).graph.node)


@pytest.mark.parametrize(('graph', 'num_convolutions'), [('extract', 30), ('look', 15), ('propagate', 15)])
def test_onnx_runtime_computes_the_convolutions_in_8_bits(int8_bundle, tmp_path, graph, num_convolutions):
    plain = onnx.load(int8_bundle.graph_path(graph), load_external_data=False)
    planned = plan_int8(plain)
    kinds = [plain.graph.node[index].op_type for index in planned.nodes]
    nodes = optimised(int8_bundle, graph, tmp_path)
    found = [node.op_type for node in nodes]
    assert found.count('QLinearConv') == kinds.count('Conv') == num_convolutions
    assert found.count('QLinearAdd') == kinds.count('Add') > 0
    # Weights are folded: what is left is where 8 bits begin and end.
    assert found.count('QuantizeLinear') <= 4
    assert not any(node.op_type == 'Cast' and node.input[0].endswith('_half') for node in nodes)


@pytest.mark.parametrize('correction', [True, False])
def test_answers_are_near_those_of_torch_and_not_the_same(int8_bundle, correction):
    key_image, *others = clip(3)
    config = DffConfig(num_threads=1, correction=correction)
    ways = ({'backend': 'torch'}, {'backend': 'onnx', 'precision': 'int8'})
    answers = []
    for changes in ways:
        with closing(open_backend(int8_bundle, replace(config, changes))) as backend:
            key = backend.extract(key_image)
            moved = [backend.propagate(image, key).feature for image in others]
            labels = [backend.predict(feature, SIZE, SIZE).label_map_HW for feature in (key.feature, *moved)]
            answers.append((np.asarray(key.feature), [np.asarray(one) for one in moved], labels))
            precision = backend.info.precision
    assert precision == 'int8'
    (expected, expected_moved, truth), (found, found_moved, labels) = answers
    assert 1e-4 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.03
    for one, other in zip(found_moved, expected_moved, strict=True):
        assert 1e-4 < np.linalg.norm(one - other) / np.linalg.norm(other) < 0.1
    agreement = [float((one == other).mean()) for one, other in zip(labels, truth, strict=True)]
    assert min(agreement) > 0.95
    assert len(np.unique(truth[0])) > 2


def test_a_graph_in_8_bits_computes_what_integers_do():
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(4, 8, 1, 1)).astype(np.float16)
    bias = rng.normal(size=4).astype(np.float32)
    nodes = [
        helper.make_node('Cast', ['half'], ['a.feature_net.w'], to=TensorProto.FLOAT),
        helper.make_node('Conv', ['x', 'a.feature_net.w', 'bias'], ['sum']),
        helper.make_node('Relu', ['sum'], ['y']),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n, 5, 5])
        for name, n in (('x', 8), ('y', 4))
    ]
    constants = [numpy_helper.from_array(weight, 'half'), numpy_helper.from_array(bias, 'bias')]
    graph = helper.make_graph(nodes, 'one', ends[:1], ends[1:], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
    plan = plan_int8(proto)
    assert plan.makers == {'x': None, 'y': 1}
    x = rng.uniform(-1, 3, (1, 8, 5, 5)).astype(np.float32)
    ranges = {'x': (-1.0, 3.0), 'y': (0.0, 6.0)}
    other = quantised(proto, plan, weight_values(proto), ranges)
    onnx.checker.check_model(other)
    [found] = onnxruntime.InferenceSession(other.SerializeToString()).run(['y'], {'x': x})
    x_scale, y_scale = np.float32(4 / 255), np.float32(6 / 255)
    x_8 = np.clip(np.round(x / x_scale) + 64, 0, 255) - 64
    scales = np.abs(weight.astype(np.float32)).max((1, 2, 3)) / 127
    w_8 = np.round(weight.astype(np.float32)[..., 0, 0] / scales[:, None])
    sums = np.einsum('oc,nchw->nohw', w_8, x_8) + np.round(bias / (scales * x_scale))[:, None, None]
    values = sums * (scales * x_scale)[:, None, None]
    expected = np.clip(np.round(values / y_scale), 0, 255) * y_scale
    np.testing.assert_allclose(found, expected, atol=1.01 * y_scale)
    assert np.mean(np.abs(found - expected) > 1e-4) < 0.05  # rounding of a tie at most
    assert found.max() > 1


def test_what_is_not_a_net_to_quantise_stays_in_single_precision(light_bundle, dis_bundle):
    for name in ('predict', 'correct', 'warp', 'quality'):
        proto = onnx.load(light_bundle.graph_path(name), load_external_data=False)
        assert plan_int8(proto).nodes == frozenset()
    extract = onnx.load(dis_bundle.graph_path('extract'), load_external_data=False)
    inputs = [extract.graph.node[index].input[1] for index in plan_int8(extract).nodes]
    assert not any(name.endswith('feature_net.conv1.weight') for name in inputs)  # it reads the image


def test_the_range_of_activations_leaves_rare_values_out():
    found = ActivationRange()
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    found.add(np.maximum(values, 0))
    lowest, highest = found.limits()
    assert lowest == 0.0
    assert 3.0 < highest <= 4.6
    found.add(np.array([40.0], np.float32))  # the histogram grows to eight times its range
    every = np.append(np.maximum(values, 0), 40.0)
    tops = np.geomspace(4, 40, 100)
    steps = tops / 255
    errors = [((np.clip(np.round(every / step), 0, 255) * step - every) ** 2).sum() for step in steps]
    best = tops[int(np.argmin(errors))]
    assert found.limits() == (0.0, pytest.approx(best, rel=0.1))
    assert 10 < best < 39
    both = ActivationRange()
    both.add(values)
    lowest, highest = both.limits()
    assert -4.6 < lowest < -3.0 < 3.0 < highest < 4.6
    nothing = ActivationRange()
    nothing.add(np.zeros((2, 3), np.float32))
    assert nothing.limits() == (0.0, 1.0)


def test_few_images_and_bad_answers_change_nothing(light_bundle, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(light_bundle.path, tmp_path / 'road'))
    bundle = open_bundle(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def quantise(num_frames: int, known: int | None = None) -> None:
        quantise_bundle(bundle, Frames(clip(num_frames), known, 8), folder, num_threads=1)

    with pytest.raises(DffError, match='takes 8 images, and 6 more to compare; besides those there were 2'):
        quantise(8, 8)
    with pytest.raises(DffError, match='there were 1: give a longer source'):
        quantise(9)  # of one whose end is not known every tenth is taken
    wrong = [ClipComparison(SIZE, 6, 0.9, 0.01)]
    monkeypatch.setattr(quantisation, 'compare_backends', lambda *of, **options: wrong)
    with pytest.raises(DffError, match='6 frames of 128x96: 90.0000% of labels agree, 97.0% are needed'):
        quantise(14, 14)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ['road']


def test_quantising_again_replaces_the_graphs_in_place(int8_bundle, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(int8_bundle.path, tmp_path / 'road'))
    (folder / 'MODEL_CARD.md').write_text('# Road')
    good = [ClipComparison(SIZE, 6, 0.99, 0.01)]
    monkeypatch.setattr(quantisation, 'compare_backends', lambda *of, **options: good)
    dark = [image // 4 for image in clip(14)]
    stages: list[tuple[str, int, int]] = []
    again, _ = quantise_bundle(
        open_bundle(folder),
        Frames(dark, 14, 8),
        folder,
        facts={'data': 'dark'},
        num_threads=1,
        report=lambda *of: stages.append(of),
    )
    assert again.figures['int8']['data'] == 'dark'
    assert again.files['extract.int8.onnx'] != int8_bundle.files['extract.int8.onnx']
    assert again.files['extract.onnx'] == int8_bundle.files['extract.onnx']
    assert (folder / 'MODEL_CARD.md').read_text() == '# Road'
    assert stages[:8] == [('calibrating', number, 8) for number in range(1, 9)]
    assert [path.name for path in tmp_path.iterdir()] == ['road']


def test_the_limits_of_int8():
    good = ClipComparison(SIZE, 6, 0.971, 0.2)
    check_int8([good, dataclasses.replace(good, agreement=None)])
    for bad in ({'agreement': 0.969}, {'feature_error': 0.3}, {'feature_error': float('nan')}):
        with pytest.raises(DffError, match='int8 and single precision differ on 6 frames of 128x96'):
            check_int8([good, dataclasses.replace(good, **bad)])


def test_a_target_that_exists_is_kept(int8_bundle, tmp_path):
    with pytest.raises(DffError, match='exists: choose another --out'):
        check_target(int8_bundle, tmp_path)
    assert check_target(int8_bundle, None) == int8_bundle.path.resolve()
    assert check_target(int8_bundle, tmp_path / 'new') == tmp_path / 'new'


def test_a_manifest_whose_int8_graphs_are_not_there_is_refused(int8_bundle, tmp_path):
    folder = Path(shutil.copytree(int8_bundle.path, tmp_path / 'road'))
    manifest = json.loads((folder / 'manifest.json').read_text())

    def refused(changes: dict[str, object], message: str) -> None:
        (folder / 'manifest.json').write_text(json.dumps({**manifest, **changes}))
        with pytest.raises(BundleError, match=message):
            open_bundle(folder)

    refused({'int8': {'blur': 'blur.onnx'}}, "int8 has 'blur', which is none of its graphs")
    refused({'int8': {'extract': '../extract.onnx'}}, 'is not a plain file name')
    refused({'int8': {'extract': 'other.onnx'}}, 'files has no entry for other.onnx')
    refused({'int8': []}, 'int8 must be a JSON object, not list')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'precision': 'int8'}, 'has no graphs in 8 bits: make them with `dff quantise .*light_bundle.*`'),
        ({'precision': 'fp16'}, 'provider cpu of ONNX Runtime computes fp32 or int8; .* device to cuda'),
        ({'precision': 'bf16'}, 'computes fp32 or int8; .* backend to torch or provider to openvino'),
    ],
)
def test_a_precision_that_cannot_be_had_says_what_to_do(light_bundle, changes, message):
    with pytest.raises(BackendUnavailableError, match=message):
        open_backend(light_bundle, DffConfig(backend='onnx', **changes))


def test_single_precision_is_the_default_with_8_bits_there(int8_bundle):
    with closing(open_backend(int8_bundle, DffConfig(backend='onnx', num_threads=1))) as backend:
        assert backend.info.precision == 'fp32'


def test_info_and_run_tell_the_precision(int8_bundle, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    assert main(['info', str(int8_bundle.path)]) == 0
    text = ' '.join(capsys.readouterr().out.split())
    assert 'fp32, int8 (extract, propagate, look)' in text
    clip_folder = int8_bundle.path.parent / 'clip'
    flags = ['--precision', 'int8', '--num-frames', '2', '--num_threads', '1', '--json']
    assert main(['run', str(clip_folder), '--bundle', str(int8_bundle.path), *flags]) == 0
    assert json.loads(capsys.readouterr().out)['precision'] == 'int8'


def test_what_the_cpu_has_decides():
    avx2, vnni = frozenset(('sse2', 'avx2')), frozenset(('sse2', 'avx512_vnni', 'avx512_bf16'))
    arm = frozenset(('asimd', 'bf16'))
    assert [lacks_wide_sums(flags) for flags in (avx2, vnni, arm, frozenset())] == [True, False, False, False]
    assert [has_bf16(flags) for flags in (avx2, vnni, arm)] == [False, True, True]


@pytest.mark.skipif(not HAS_OPENVINO, reason='onnxruntime-openvino is not installed')
@pytest.mark.parametrize(('precision', 'error'), [('fp32', 1e-3), ('bf16', 0.03), ('int8', 0.1)])
def test_openvino_computes_the_same(int8_bundle, precision, error):
    image, current = clip(2)
    if precision == 'bf16' and not has_bf16():
        pytest.skip('the CPU has no bf16')
    config = DffConfig(backend='onnx', num_threads=1)
    answers = []
    for changes in ({'provider': 'cpu'}, {'provider': 'openvino', 'precision': precision}):
        with closing(open_backend(int8_bundle, replace(config, changes))) as backend:
            key = backend.extract(image)
            moved = backend.propagate(current, key).feature
            labels = backend.predict(moved, SIZE, SIZE).label_map_HW
            answers.append((np.asarray(key.feature), labels))
            info = backend.info
    assert (info.provider, info.precision) == ('openvino', precision)
    (expected, truth), (found, labels) = answers
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < error
    assert (labels == truth).mean() > 0.9
