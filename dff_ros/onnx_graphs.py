# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The graphs of a model as ONNX files: dynamic in every size, their weights in the bundle's safetensors file.

ONNX allows a tensor to lie in another file of the same directory, at an offset. So the weights exist once, in
half precision, and both runtimes compute with the same numbers.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save
from torch import Tensor, nn

from dff_ros.backends.runner import TAP_NAMES, image_taps, score_matrices
from dff_ros.bundle import WEIGHTS, GraphFile
from dff_ros.errors import DffError
from dff_ros.geometry import grid_size
from dff_ros.nets.dff import DffModel
from dff_ros.nets.graphs import make_graphs
from dff_ros.nets.light import LightFeatures
from dff_ros.nets.task_graphs import Graph
from dff_ros.onnx_operators import translations

OPSET = 20

_EXAMPLE_SOURCE, _EXAMPLE_NETWORK = (211, 333), (136, 232)
"""Sizes for tracing: all differ, and no side or grid is 1, which an exporter would take for a constant."""
_MIN_STORED_HALF = 256
"""Arrays with fewer values stay in single precision: biases and constants, where half would save nothing."""


def write_graphs(model: DffModel, folder: Path) -> dict[str, GraphFile]:
    """Write weights.safetensors and NAME.onnx for each graph; returns what the manifest says of the graphs.

    `model`: folded, in evaluation mode. Its weights are rounded to what is stored, in place. Raises DffError
    naming the graph and input where a size would be fixed.
    """
    places = _write_weights(model, folder / WEIGHTS)
    graphs: dict[str, GraphFile] = {}
    examples = example_inputs(model)
    for name, graph in make_graphs(model).items():
        proto = export_graph(name, graph, examples)
        _check_dynamic(name, proto)
        _forget_origin(proto)
        _refer_to_weights(proto, places)
        path = folder / f'{name}.onnx'
        path.write_bytes(proto.SerializeToString(deterministic=True))
        onnx.checker.check_model(path)  # of the file: only so the checker finds the weights
        graphs[name] = GraphFile(f'{name}.onnx', graph.inputs, graph.outputs)
    return graphs


def _write_weights(model: nn.Module, path: Path) -> dict[bytes, tuple[int, int]]:
    """Write the state dict; returns (offset, length) in the file for the content of each tensor in half
    precision.
    """
    tensors: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, value in model.state_dict().items():
            is_half = _is_stored_half(value.dim(), value.numel())
            tensors[name] = value.half().contiguous() if is_half else value.contiguous()
            value.copy_(tensors[name])
    path.write_bytes(save(tensors))
    content = path.read_bytes()
    header_size = int.from_bytes(content[:8], 'little')
    header = json.loads(content[8 : 8 + header_size])
    places: dict[bytes, tuple[int, int]] = {}
    for facts in header.values():
        begin, end = (8 + header_size + offset for offset in facts['data_offsets'])
        if facts['dtype'] == 'F16':
            places[content[begin:end]] = (begin, end - begin)
    return places


def _is_stored_half(num_dims: int, num_values: int) -> bool:
    return num_dims >= 2 and num_values >= _MIN_STORED_HALF


def example_inputs(model: DffModel) -> dict[str, Tensor]:
    """A value for each input that a graph can have."""
    spec, widths = model.spec, (0, 0, 0) if model.light_net is None else model.light_net.widths
    examples = {'image': torch.zeros((*_EXAMPLE_SOURCE, 3), dtype=torch.uint8)}
    for name, array in zip(TAP_NAMES, image_taps(_EXAMPLE_SOURCE, _EXAMPLE_NETWORK), strict=True):
        examples[name] = torch.from_numpy(np.array(array))
    grids = {stride: grid_size(_EXAMPLE_NETWORK, stride) for stride in (8, 16, 32)}
    channels = dict(zip(grids, widths, strict=True))
    strides = dict(zip(LightFeatures._fields, grids, strict=True))
    light = {**strides, **{f'key_{name}': stride for name, stride in strides.items()}}
    # Each its own tensor: what is one tensor at export is one input's in the graph.
    features = {
        name: torch.zeros(1, spec.channels, *grids[model.stride])
        for name in ('feature', 'key_feature', 'warped')
    }
    matrices = score_matrices(_EXAMPLE_SOURCE, _EXAMPLE_NETWORK, model.score_stride)
    row_matrix, col_matrix = (torch.from_numpy(matrix.copy()) for matrix in matrices)
    return {
        **examples,
        **features,
        **{name: torch.zeros(1, channels[stride], *grids[stride]) for name, stride in light.items()},
        **{
            'flow': torch.zeros(1, 2, *grids[model.stride]),
            'key_image': torch.zeros(1, 3, *(-(-side // 2) for side in _EXAMPLE_NETWORK)),
        },
        **{'row_matrix': row_matrix, 'col_matrix': col_matrix},
        **_detect_examples(),
    }


def _detect_examples() -> dict[str, Tensor]:
    sizes = {
        'network_size': _EXAMPLE_NETWORK,
        'scale': (1.5, 1.5),
        'nms_iou': (0.5,),
        'score_threshold': (0.5,),
    }
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in sizes.items()}


def export_graph(name: str, graph: Graph, examples: Mapping[str, Tensor]) -> onnx.ModelProto:
    """A graph in ONNX, its weights inside. `examples` has a value for each of its inputs."""
    shapes = tuple(
        {axis: torch.export.Dim.AUTO for axis in _free_axes(key, examples[key])} for key in graph.inputs
    )
    # Where every shape is symbolic, torch's cache of the shapes that operators make costs a tenth of the
    # export more than it saves.
    with _quiet(), torch._dynamo.config.patch(fake_tensor_cache_enabled=False):
        program = torch.onnx.export(
            graph.eval(),
            tuple(examples[key] for key in graph.inputs),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=shapes,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            custom_translation_table=translations(),
            verbose=False,
        )
    if program is None:
        raise DffError(f'torch did not export the graph {name}')
    return program.model_proto


def _free_axes(name: str, value: Tensor) -> range:
    """The axes whose size may differ: all but batch and channels; none of a few numbers."""
    if value.dim() == 4:
        return range(2, 4)
    return range(2) if name == 'image' else range(value.dim() if value.dim() > 1 else 0)


def _check_dynamic(name: str, proto: onnx.ModelProto) -> None:
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        free = range(2, 4) if len(dims) == 4 else range(2 if len(dims) > 1 else 0)
        for axis in free:
            if not dims[axis].dim_param:
                raise DffError(
                    f'graph {name}: axis {axis} of {value.name} became fixed at {dims[axis].dim_value}'
                )


def _forget_origin(proto: onnx.ModelProto) -> None:
    """Drop what tells of the exporting machine: stack traces, file names."""
    del proto.metadata_props[:]
    graph = proto.graph
    for item in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.doc_string = ''
        del item.metadata_props[:]
    del graph.value_info[:]


def _refer_to_weights(proto: onnx.ModelProto, places: Mapping[bytes, tuple[int, int]]) -> None:
    """Let large weights lie in the weights file, a Cast behind them, which a runtime folds when it loads the
    graph.
    """
    casts = []
    for initializer in proto.graph.initializer:
        array = numpy_helper.to_array(initializer)
        if array.dtype != np.float32 or not _is_stored_half(array.ndim, array.size):
            continue
        name, half = (
            initializer.name,
            numpy_helper.from_array(array.astype(np.float16), f'{initializer.name}_half'),
        )
        if half.raw_data not in places and (array == array.flat[0]).all():
            continue  # filling
        if half.raw_data not in places:
            raise DffError(f'{name} of the exported graph is none of the weights of the model')
        offset, length = places[half.raw_data]
        half.ClearField('raw_data')
        half.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (('location', WEIGHTS), ('offset', offset), ('length', length)):
            half.external_data.add(key=key, value=str(value))
        initializer.CopyFrom(half)
        casts.append(onnx.helper.make_node('Cast', [half.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress and its notes on packages that are not needed."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
