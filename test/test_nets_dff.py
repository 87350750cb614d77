# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The model and its graphs against direct computations; weights and specs from files."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip('torch')
import torch
from safetensors.torch import save_file
from tiny_models import BOTH, DETECTION, ONLY_DETECTION, texture, tiny_model, tiny_spec

from dff_ros.backends.runner import image_taps, score_matrices
from dff_ros.errors import ConfigError, DataError
from dff_ros.geometry import resample_taps
from dff_ros.nets.dff import DffModel, load_model, load_weights, read_spec
from dff_ros.nets.flownet import halve
from dff_ros.nets.graphs import ExtractGraph, PropagateGraph, WarpGraph, halved
from dff_ros.nets.segmentation import upsample_scores
from dff_ros.nets.task_graphs import PredictGraph
from dff_ros.nets.warp import propagate


@pytest.fixture(scope='module')
def model():
    return tiny_model('flownet_half').folded()


def tensors(arrays):
    return tuple(torch.from_numpy(np.array(array)) for array in arrays)


def resize(image: np.ndarray, network: tuple[int, int]) -> np.ndarray:
    """The resize as two dense matrices in float64."""
    result = image.astype(np.float64)
    for axis in (0, 1):
        index, weight = resample_taps(network[axis], image.shape[axis])
        matrix = np.zeros((network[axis], image.shape[axis]))
        for taps, weights in zip(index, weight, strict=True):
            matrix[np.arange(network[axis]), taps] += weights
        result = np.moveaxis(np.tensordot(matrix, result, (1, axis)), 0, axis)
    return result


def test_images_are_normalised_with_mean_and_deviation_of_the_spec():
    model = DffModel(tiny_spec(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2)))
    pixel = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [-0.2, 0.0, (1 - 0.3) / 0.2]
    np.testing.assert_allclose(model.normalise(pixel).flatten(), expected, atol=1e-6)


def test_folding_keeps_the_function_and_gives_the_network_without_batch_norm():
    model = tiny_model()
    image = model.normalise(torch.from_numpy(texture((96, 128))).permute(2, 0, 1)[None])
    folded = model.folded()
    np.testing.assert_allclose(folded(image).detach(), model(image).detach(), rtol=1e-4, atol=1e-4)
    DffModel(model.spec, batch_norm=False).load_state_dict(folded.state_dict())


def test_a_model_has_the_heads_of_its_tasks():
    both, alone = (DffModel(tiny_spec(**changes)).eval() for changes in (DETECTION, ONLY_DETECTION))
    assert (list(both.heads), list(alone.heads)) == (['segmentation', 'detection'], ['detection'])
    look = alone.look(torch.zeros(1, 3, 32, 48))
    with pytest.raises(ConfigError, match='no head for segmentation, only for detection'):
        alone.scores(torch.zeros(1, 16, 2, 3), look)
    with pytest.raises(ConfigError, match='no head for detection, only for segmentation'):
        DffModel(tiny_spec()).detect(torch.zeros(1, 16, 2, 3), look)


def test_detection_is_the_head_on_the_feature_and_the_look():
    model = tiny_model(**BOTH)
    look = model.look(model.normalise(torch.from_numpy(texture((96, 128))).permute(2, 0, 1)[None]))
    with torch.no_grad():
        feature = model.feature_net(look.image)
        raw = model.detect(feature, look)
        for part, other in zip(raw, model.heads['detection'](feature, look.light.middle), strict=True):
            np.testing.assert_array_equal(part, other)
        blind = model.heads['detection'](feature)
    assert float((raw.class_maps - blind.class_maps).abs().max()) > 0.1


def test_hand_made_flow_has_no_flow_net():
    model = DffModel(tiny_spec('zero'))
    assert model.flow_net is None
    look = model.look(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ConfigError, match="flow_source 'zero' is no network: hand in a flow"):
        model.propagate(look, look, torch.zeros(1, 16, 2, 2))
    with pytest.raises(ConfigError, match='use WarpGraph'):
        PropagateGraph(model)


@pytest.mark.parametrize('source', [(96, 128), (211, 333), (40, 60), (97, 129)])
def test_extract_resizes_and_normalises(model, source):
    image, network = texture(source), (96, 128)
    with torch.no_grad():
        feature, half = ExtractGraph(model)(*tensors((image, *image_taps(source, network))))
    resized = resize(image, network)
    expected = (resized / 255 - np.array(model.spec.mean)) / np.array(model.spec.std)
    means = expected.reshape(48, 2, 64, 2, 3).mean((1, 3))
    np.testing.assert_allclose(half[0].permute(1, 2, 0), means, atol=2e-5)
    with torch.no_grad():
        direct = model.feature_net(torch.from_numpy(expected).float().permute(2, 0, 1)[None])
    np.testing.assert_allclose(feature, direct, atol=1e-4)


@pytest.mark.parametrize('number', [1, 2, 7, 8])
def test_halved_taps_give_the_means_of_neighbours(number):
    values = torch.arange(20.0) ** 2
    index = torch.arange(number)[:, None] + torch.tensor([0, 3])
    weight = torch.full((number, 2), 0.25) + torch.tensor([0.0, 0.5])
    whole = (values[index] * weight).sum(1)
    found_index, found_weight = halved(index, weight)
    found = (values[found_index] * found_weight).sum(1)
    # The last of an odd number is the mean of itself: what an average pool with rounding up gives.
    expected = halve(whole.reshape(1, 1, 1, -1).expand(1, 1, 2, -1))[0, 0, 0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('size', [(96, 128), (97, 131)])
def test_propagate_is_equation_3_with_the_flow_net(model, size):
    clip = [texture(size, seed) for seed in (0, 1)]
    taps = tensors(image_taps(size, size))
    current, key = (model.normalise(torch.from_numpy(image).permute(2, 0, 1)[None]) for image in clip)
    with torch.no_grad():
        feature, image = model.feature_net(key), torch.from_numpy(clip[0])
        propagated, validity, flow = PropagateGraph(model)(image, *taps, halve(key), feature)
        expected_flow, scale_map = model.flow_net(current, key)
        np.testing.assert_allclose(flow, expected_flow, atol=1e-5)
        np.testing.assert_allclose(propagated, propagate(feature, expected_flow, scale_map), atol=1e-4)
    assert (scale_map - 1).abs().max() > 0.01  # else the scale map could be left out unnoticed
    assert validity.shape == tuple(-(-side // 16) for side in size)


def test_validity_is_the_share_that_comes_from_inside():
    feature = torch.ones(1, 2, 3, 4)
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 0] = -1.25
    warped, validity = WarpGraph()(feature, flow)
    np.testing.assert_allclose(validity, [[0, 0.75, 1, 1]] * 3, atol=1e-6)
    np.testing.assert_allclose(warped[0, 0], validity, atol=1e-6)


@pytest.mark.parametrize('output', [(96, 128), (45, 301)])
def test_predict_decides_at_the_pixels_of_the_output(model, output):
    feature = torch.rand(1, 16, 6, 8, generator=torch.Generator().manual_seed(1)) * 4
    matrices = tensors(score_matrices(output, (96, 128), 16))
    head = model.heads['segmentation']
    with torch.no_grad():
        label_map, confidence = PredictGraph(model)(feature, *matrices)
        probability, labels = upsample_scores(head(feature), *matrices).softmax(1).max(1)
    assert len(np.unique(label_map)) >= 3
    np.testing.assert_array_equal(label_map, labels[0])
    np.testing.assert_allclose(confidence, 255 * probability[0], atol=0.501)
    assert label_map.dtype == confidence.dtype == torch.uint8


def test_the_first_of_equal_scores_wins_with_the_confidence_of_both(model):
    graph = PredictGraph(tiny_model().folded())
    with torch.no_grad():
        graph.head.score.weight.zero_()
        graph.head.score.bias.copy_(torch.tensor([-50.0, 3.0, -50.0, 3.0, -50.0]))
        matrices = tensors(score_matrices((96, 128), (96, 128), 16))
        label_map, confidence = graph(torch.zeros(1, 16, 6, 8), *matrices)
    assert np.all(label_map.numpy() == 1)
    assert np.all(confidence.numpy() == 128)  # 127.5 rounds to even


def test_weights_are_loaded_from_single_and_half_precision(tmp_path):
    model = tiny_model().folded()
    save_file(model.state_dict(), tmp_path / 'single.safetensors')
    loaded = load_model(model.spec, tmp_path / 'single.safetensors')
    assert not loaded.training
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], value)
    state = model.state_dict()
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file(half, tmp_path / 'half.safetensors')
    load_weights(loaded, tmp_path / 'half.safetensors')
    weight = loaded.feature_net.conv1.weight
    assert weight.dtype == torch.float32
    np.testing.assert_array_equal(weight.detach(), model.feature_net.conv1.weight.detach().half().float())


def test_weights_that_do_not_fit_are_refused_naming_file_and_key(tmp_path):
    path = tmp_path / 'w.safetensors'
    model = tiny_model()
    state = model.state_dict()
    with pytest.raises(DataError, match='w.safetensors do not exist'):
        load_weights(model, path)
    path.write_bytes(b'\x10' * 40)
    with pytest.raises(DataError, match='w.safetensors cannot be read as safetensors'):
        load_weights(model, path)
    name = 'feature_net.reduce.weight'
    save_file({key: value for key, value in state.items() if key != name}, path)
    with pytest.raises(DataError, match=f'w.safetensors lack {name}'):
        load_weights(model, path)
    save_file({**state, name: torch.zeros(3)}, path)
    with pytest.raises(DataError, match=rf'w.safetensors: {name} is \(3,\), the model takes \(16, 256,'):
        load_weights(model, path)
    save_file({**state, 'extra': torch.zeros(3)}, path)
    with pytest.raises(DataError, match='w.safetensors: the model has no place for extra'):
        load_weights(model, path)


def test_the_spec_of_a_run_is_read_with_its_facts(tmp_path):
    path = tmp_path / 'model.json'
    path.write_text(json.dumps({**tiny_spec().to_dict(), 'training': {'steps': 3}}))
    assert read_spec(path) == (tiny_spec(), {'steps': 3})


@pytest.mark.parametrize(
    'text, message',
    [
        (None, 'cannot read .*model.json: No such file'),
        ('{', 'model.json is not valid JSON'),
        ('[]', 'model.json must hold an object, not a list'),
        ('{"training": 5}', 'model.json: training must be an object, not a int'),
        ('{"class_names": ["a"]}', 'model.json: model'),
        ('{"depth": 3}', 'model.json: model: unknown entries depth'),
    ],
)
def test_an_unusable_spec_is_refused_naming_the_file(tmp_path, text, message):
    path = tmp_path / 'model.json'
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_spec(path)
