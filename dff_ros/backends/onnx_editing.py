# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The graphs of a bundle made ready for a GPU as they are loaded: fixed sizes, operators it has, halves.

A bundle's graphs are dynamic in every size, which costs a GPU: shapes are computed on the CPU, a node at a
time, and brought over. With fixed sizes ONNX Runtime folds all of that into constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from dff_ros.bundle import WEIGHTS, Bundle
from dff_ros.bundle_files import check_graph_file
from dff_ros.errors import BundleError

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

HALF_TENSORS = frozenset(
    ('feature', 'key_feature', 'warped', 'propagated', 'corrected')
    + ('fine', 'middle', 'coarse', 'key_fine', 'key_middle', 'key_coarse')
)
"""What graphs hand on in half precision; flow, validity, images and matrices stay as they are."""

_NETWORK = ('Conv', 'ConvTranspose', 'Gemm')
"""Computed in half where their weights are stored so."""
_FOLLOWING = {'Relu': None, 'LeakyRelu': None, 'MaxPool': (0,), 'Add': None, 'Concat': None, 'Pad': (0, 2)}
"""Computed in half between two of those, and which of their inputs are numbers (None: all)."""
_MOVING = ('Slice', 'Transpose', 'Reshape', 'Squeeze', 'Unsqueeze', 'Split', 'Gather', 'Expand', 'Identity')
"""Move what their first input holds, whatever it is."""
_OF_ANY_TYPE = ('Cast', 'Shape', 'Size')


def read_graph(bundle: Bundle, name: str) -> onnx.ModelProto:
    """A graph of a bundle, its weights inside; BundleError for a file that is refused."""
    path = bundle.graph_path(name)
    check_graph_file(path, WEIGHTS, bundle.files[WEIGHTS].size)
    try:
        return onnx.load(path)
    except Exception as error:  # what it raises has no common base
        raise BundleError(f'{path} cannot be read: {error}') from error


def for_gpu(proto: onnx.ModelProto, *, is_half: bool) -> onnx.ModelProto:
    """The same graph, changed in place: rows gathered by an operator that takes uint8, and with `is_half` the
    networks in half precision. Geometry, resizing, decoding and suppression stay in single precision.
    """
    _gather_rows(proto.graph)
    if is_half:
        _Halving(proto.graph).run()
    return proto


def at_shapes(proto: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """A copy whose inputs have these shapes, by name."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    for value in fixed.graph.input:
        for dim, length in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            dim.dim_value = length
    for value in fixed.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField('dim_value'):
                dim.Clear()  # an expression of names that the inputs no longer have
    return fixed


def _gather_rows(graph: onnx.GraphProto) -> None:
    """GatherND by an index per row becomes Gather: CUDA has no GatherND of uint8, so the image would be
    gathered on the CPU, and many times its size brought over.
    """
    constants = {item.name: item for item in graph.initializer}
    columns = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == 'Unsqueeze' and _is_last_axis(constants.get(node.input[1]))
    }
    for node in graph.node:
        if node.op_type == 'GatherND' and node.input[1] in columns and not _int_attribute(node, 'batch_dims'):
            node.op_type = 'Gather'
            node.input[1] = columns[node.input[1]]
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute('axis', 0))


def _is_last_axis(axes: onnx.TensorProto | None) -> bool:
    return axes is not None and numpy_helper.to_array(axes).tolist() == [-1]


def _int_attribute(node: onnx.NodeProto, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


class _Halving:
    """Goes through the nodes once, in their order, and keeps which tensors are half by then."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {item.name: item for item in graph.initializer}
        self._half = {name for name, item in self._constants.items() if item.data_type == HALF}
        self._stored: dict[str, str] = {}
        """By the name behind a Cast: the weight before it."""
        self._others: dict[str, str] = {}
        """The same value in the other precision."""
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        for value in self._graph.input:
            if value.name in HALF_TENSORS:
                value.type.tensor_type.elem_type = HALF
                self._half.add(value.name)
        for node in list(self._graph.node):
            self._take(node)
        for value in self._graph.output:
            self._finish(value)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        self._drop_unused()

    def _take(self, node: onnx.NodeProto) -> None:
        is_weight = node.op_type == 'Cast' and node.input[0] in self._constants
        if is_weight and node.input[0] in self._half and _int_attribute(node, 'to') == FLOAT:
            self._stored[node.output[0]] = node.input[0]
            return
        for index, name in enumerate(node.input):
            node.input[index] = self._stored.get(name, name)
        places = list(self._in_half(node))
        for index in places:
            node.input[index] = self._as_half(node.input[index])
        if places:
            self._half.update(node.output)
        elif node.op_type not in _OF_ANY_TYPE:
            for index, name in enumerate(node.input):
                node.input[index] = self._as_float(name)
        self._nodes.append(node)

    def _in_half(self, node: onnx.NodeProto) -> Iterator[int]:
        """Which inputs a node takes in half; none of one that computes otherwise."""
        kind = node.op_type
        if kind in _MOVING and node.input[0] in self._half:
            yield 0
        elif kind in _NETWORK and node.input[1] in self._half:
            yield from range(len(node.input))
        elif kind in _FOLLOWING:
            places = _FOLLOWING[kind] or range(len(node.input))
            names = {index: node.input[index] for index in places if index < len(node.input)}
            moving = [name for name in names.values() if name and name not in self._constants]
            if moving and all(name in self._half for name in moving):
                yield from (index for index, name in names.items() if name)

    def _as_half(self, name: str) -> str:
        if name in self._half:
            return name
        constant = self._constants.get(name)
        if constant is None or constant.data_type != FLOAT:
            return self._cast(name, HALF)
        if name not in self._others:
            other = numpy_helper.from_array(
                numpy_helper.to_array(constant).astype(np.float16), f'{name}_half'
            )
            self._graph.initializer.append(other)
            self._others[name] = other.name
            self._half.add(other.name)
        return self._others[name]

    def _as_float(self, name: str) -> str:
        return self._cast(name, FLOAT) if name in self._half else name

    def _cast(self, name: str, to: int) -> str:
        if name not in self._others:
            other = f'{name}_{"half" if to == HALF else "single"}'
            self._nodes.append(onnx.helper.make_node('Cast', [name], [other], f'cast_{other}', to=to))
            self._others[name] = other
            if to == HALF:
                self._half.add(other)
        return self._others[name]

    def _finish(self, value: onnx.ValueInfoProto) -> None:
        """Let an output have the precision that its name asks for."""
        name, wanted = value.name, HALF if value.name in HALF_TENSORS else FLOAT
        element = value.type.tensor_type
        if element.elem_type != FLOAT:
            return
        element.elem_type = wanted
        if (name in self._half) == (wanted == HALF):
            return
        made = f'{name}_made'
        for node in self._nodes:
            for names in (node.input, node.output):
                for index, found in enumerate(names):
                    names[index] = made if found == name else found
        self._nodes.append(onnx.helper.make_node('Cast', [made], [name], f'cast_{made}', to=wanted))

    def _drop_unused(self) -> None:
        used = {name for node in self._nodes for name in node.input}
        kept = [item for item in self._graph.initializer if item.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
