# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Graphs as sessions on a GPU get them: what CUDA has kernels for, what is half, what TensorRT may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
import onnx
import onnxruntime

from dff_ros.backends.onnx_editing import at_shapes, for_gpu, read_graph
from dff_ros.backends.onnx_providers import NAMES, NETWORK_OPERATORS, left_to_cuda
from dff_ros.backends.runner import TAP_NAMES, image_taps, score_matrices
from dff_ros.bundle import Bundle
from dff_ros.geometry import grid_size, network_size

BUNDLES = ('dis_bundle', 'flow_bundle', 'light_bundle', 'detection_bundle')
SIZE = (96, 128)


@pytest.fixture(params=BUNDLES)
def bundle(request):
    return request.getfixturevalue(request.param)


CUDA_KERNELS = {
    **dict.fromkeys(('Gather', 'Transpose', 'Reshape', 'Squeeze', 'Unsqueeze', 'Slice', 'Concat'), 'any'),
    **dict.fromkeys(('Split', 'Cast', 'Expand', 'GatherElements', 'ScatterND', 'Shape'), 'any'),
    **dict.fromkeys(('Ceil', 'Floor'), 'fh'), 'NonMaxSuppression': 'any',
    **dict.fromkeys(('Conv', 'Relu', 'LeakyRelu', 'MaxPool', 'MatMul', 'Sigmoid', 'Exp', 'Sqrt'), 'fh'),
    **dict.fromkeys(('Reciprocal', 'Round', 'Softmax', 'ConvTranspose', 'Pad', 'AveragePool'), 'fh'),
    **dict.fromkeys(('Add', 'Sub', 'Mul', 'Div', 'Min', 'Max', 'Pow', 'Abs', 'Mod', 'TopK'), 'fhil'),
    **dict.fromkeys(('ReduceSum', 'ReduceMax', 'ReduceMin', 'Greater', 'Less'), 'fhil'),
    **dict.fromkeys(('LessOrEqual', 'GreaterOrEqual'), 'fhil'),
    'Equal': 'fhilb', 'GatherND': 'fhlb', 'Clip': 'fhlu', 'GridSample': 'f', 'And': 'b',
}  # fmt: skip
"""Types of the first input (of Where the second) for which ONNX Runtime has kernels for CUDA: float, half,
int32, int64, uint8, bool (docs/OperatorKernels.md of ONNX Runtime).
"""
WHERE = 'fhilu'
LETTERS = {'float': 'f', 'float16': 'h', 'int32': 'i', 'int64': 'l', 'uint8': 'u', 'bool': 'b'}


def optimised(content: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """A graph as ONNX Runtime hands it to its providers: constants folded, no kernels fused yet."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / 'optimised.onnx')
    onnxruntime.InferenceSession(content.SerializeToString(), options, providers=[NAMES['cpu']])
    return onnx.shape_inference.infer_shapes(onnx.load(folder / 'optimised.onnx'), data_prop=True)


def element_types(model) -> dict[str, str]:
    typed = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    numbers_of = {value.name: value.type.tensor_type.elem_type for value in typed}
    numbers_of |= {item.name: item.data_type for item in model.graph.initializer}
    name = onnx.TensorProto.DataType.Name
    return {key: LETTERS[name(number).lower()] for key, number in numbers_of.items()}


def test_at_fixed_sizes_nothing_is_left_that_cuda_has_no_kernel_for(bundle, tmp_path):
    for graph, content in fixed_graphs(bundle, 'fp32'):
        model = optimised(content, tmp_path)
        types = element_types(model)
        counts = Counter(node.op_type for node in model.graph.node)
        for node in model.graph.node:
            letter = types[node.input[1 if node.op_type == 'Where' else 0]]
            kernels = WHERE if node.op_type == 'Where' else CUDA_KERNELS[node.op_type]
            assert kernels == 'any' or letter in kernels, f'{graph}: {node.op_type} of {letter}'
        # Lengths of axes are computed while a session is made, but for how many boxes are kept.
        assert counts['Shape'] == (counts['NonMaxSuppression'] if graph == 'detect' else 0)
        assert not counts['Range'] and not counts['ConstantOfShape']


def fixed_graphs(bundle: Bundle, precision: str) -> Iterator[tuple[str, onnx.ModelProto]]:
    """What sessions are made of for one image size."""
    for graph in bundle.graphs:
        proto = for_gpu(read_graph(bundle, graph), is_half=precision == 'fp16')
        shapes = {value.name: shape_of(value, bundle) for value in proto.graph.input}
        yield graph, at_shapes(proto, shapes)


def shape_of(value: onnx.ValueInfoProto, bundle: Bundle) -> tuple[int, ...]:
    """Of an input for images of SIZE."""
    network = network_size(SIZE, bundle.spec.nominal_size)
    known = {'image': (*SIZE, 3)}
    known |= {name: array.shape for name, array in zip(TAP_NAMES, image_taps(SIZE, network), strict=True)}
    rows, columns = score_matrices(SIZE, network, bundle.score_stride)
    known |= {'row_matrix': rows.shape, 'col_matrix': columns.shape}
    if value.name in known:
        return known[value.name]
    strides = {'fine': 8, 'middle': 16, 'coarse': 32, 'key_image': 2}
    stride = strides.get(value.name.removeprefix('key_'), strides.get(value.name, bundle.stride))
    grid = grid_size(network, stride)
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value for dim in dims[:2]) + grid if len(dims) == 4 else (dims[0].dim_value,)


def test_networks_are_computed_in_half_and_geometry_is_not(bundle):
    for graph, content in fixed_graphs(bundle, 'fp16'):
        model = onnx.shape_inference.infer_shapes(content, data_prop=True, strict_mode=True)
        types = element_types(model)
        weights = {item.name: int(np.prod(item.dims)) for item in model.graph.initializer}
        for node in model.graph.node:
            is_network = node.op_type == 'Conv' and weights.get(node.input[1], 0) >= 256
            half = [name for name in node.input if types.get(name) == 'h']
            if is_network:
                assert len(half) == len(node.input) and types[node.output[0]] == 'h', graph
            elif node.op_type not in ('Cast', 'Shape'):
                kernels = CUDA_KERNELS[node.op_type] if half else 'any'
                assert kernels == 'any' or 'h' in kernels, f'{graph}: {node.op_type}'
            if node.op_type in ('GridSample', 'Exp', 'Sqrt', 'ReduceSum', 'MatMul', 'Div', 'Mul', 'Sub'):
                assert not half, f'{graph}: {node.op_type}'


def test_the_graph_of_a_bundle_is_not_changed(dis_bundle):
    graph = read_graph(dis_bundle, 'extract')
    before = graph.SerializeToString()
    shapes = {
        value.name: tuple(range(2, 2 + len(value.type.tensor_type.shape.dim))) for value in graph.graph.input
    }
    fixed = at_shapes(graph, shapes)
    assert graph.SerializeToString() == before
    dims = fixed.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [2, 3, 4]
    kinds = Counter(node.op_type for node in for_gpu(graph, is_half=False).graph.node)
    assert (kinds['Gather'], kinds['GatherND']) == (2, 0)


def test_tensorrt_gets_networks_of_fixed_shapes_and_nothing_else(bundle, tmp_path):
    taken: Counter[str] = Counter()
    for graph, content in fixed_graphs(bundle, 'fp16'):
        excluded = left_to_cuda(node.op_type for node in content.graph.node)['trt_op_types_to_exclude']
        model = optimised(content, tmp_path)
        values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
        static = {
            value.name: all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim) for value in values
        }
        for node in model.graph.node:
            if node.op_type in excluded.split(','):
                continue
            taken[node.op_type] += 1
            if node.op_type == 'Conv':  # engines of fixed shapes are built when a session is made
                assert static[node.input[0]] and static[node.output[0]], graph
    assert taken.keys() <= NETWORK_OPERATORS
    assert taken['Conv'] > 10
