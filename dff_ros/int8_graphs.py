# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Graphs whose convolutions compute in 8 bits, written as pairs of QuantizeLinear and DequantizeLinear.

The weights stay where they are, in half precision in the weights file: a pair stands behind the Cast that
widens them, which a runtime folds into int8 when it loads the graph. Activations are uint8 with a zero point,
weights int8 with a scale for each output channel. Convolutions that read the image stay in single precision:
3 channels are too few for the kernels, so nothing would be gained. So do flow, correction and the heads: they
decide positions and labels, and take a small part of the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.helper import make_attribute, make_node

from dff_ros.activation_ranges import LEVELS

QUANTISED_NETS = ('feature_net.', 'light_net.')
"""Names of weights of the nets that are quantised contain one of them."""

_MIN_CHANNELS = 8
"""Of the input of a convolution: fewer gain nothing."""
_MAX_WEIGHT = 127
_MAX_BIAS = 2**31 - 1
_MIN_SCALE = 1e-8
_BEHIND = '_dequantised'

Range = tuple[float, float]
Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Int8Plan:
    """What of a graph is quantised: indices of its nodes, and for each tensor that has 8 bits the index of
    the node that makes it, or None where that one computes in single precision.
    """

    nodes: frozenset[int]
    makers: Mapping[str, int | None]

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors whose ranges are needed."""
        return tuple(self.makers)


def plan_int8(proto: onnx.ModelProto) -> Int8Plan:
    """Convolutions of QUANTISED_NETS, and additions and what stands between them.

    `proto` needs no weights, only their names and shapes.
    """
    graph = proto.graph
    shapes = _weight_shapes(graph)
    users = _users(graph)
    outputs = {value.name for value in graph.output}

    def result(index: int) -> str:
        """The tensor that a node makes, behind its ReLU if that is all that takes it."""
        name = graph.node[index].output[0]
        if name not in outputs and len(users[name]) == 1 and graph.node[users[name][0]].op_type == 'Relu':
            return str(graph.node[users[name][0]].output[0])
        return str(name)

    convolutions = [index for index, node in enumerate(graph.node) if _is_wide(node, shapes)]
    made = {result(index): index for index in convolutions}
    taken = {graph.node[index].input[0] for index in convolutions}
    nodes = list(convolutions)
    for index, node in enumerate(graph.node):
        if node.op_type == 'Add' and _joins(node, made, taken):
            made[result(index)] = index
            nodes.append(index)
    names = dict.fromkeys(name for index in nodes for name in _moving(graph.node[index]))
    names |= dict.fromkeys(made)
    return Int8Plan(frozenset(nodes), {name: made.get(name) for name in names})


def quantised(
    proto: onnx.ModelProto, plan: Int8Plan, weights: Mapping[str, Array], ranges: Mapping[str, Range]
) -> onnx.ModelProto:
    """The graph with the planned nodes in 8 bits, as a copy. `weights`: values of what its convolutions take,
    by name; `ranges`: of each of `plan.tensors`.
    """
    other = onnx.ModelProto()
    other.CopyFrom(proto)
    rewriting = _Rewriting(other.graph, plan, weights, ranges)
    nodes = rewriting.nodes()
    del other.graph.node[:]
    other.graph.node.extend(nodes)
    taken = {name for node in nodes for name in node.input}
    constants = [item for item in (*other.graph.initializer, *rewriting.constants) if item.name in taken]
    del other.graph.initializer[:]
    other.graph.initializer.extend(constants)
    return other


def weight_values(proto: onnx.ModelProto) -> dict[str, Array]:
    """Values in single precision of what the nodes of a graph take, by name: constants, and halves behind
    their Cast. `proto`: with its weights inside.
    """
    stored = {item.name: item for item in proto.graph.initializer}
    names = {name: name for name in stored}
    names |= {node.output[0]: node.input[0] for node in proto.graph.node if _is_widening(node, stored)}
    types = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    return {
        name: numpy_helper.to_array(stored[source]).astype(np.float32)
        for name, source in names.items()
        if stored[source].data_type in types
    }


def _weight_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    stored = {item.name: item for item in graph.initializer}
    halves = {node.output[0]: node.input[0] for node in graph.node if _is_widening(node, stored)}
    return {name: tuple(stored[source].dims) for name, source in halves.items()}


def _is_widening(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> bool:
    return node.op_type == 'Cast' and node.input[0] in stored


def _users(graph: onnx.GraphProto) -> Mapping[str, list[int]]:
    users: dict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(graph.node):
        for name in node.input:
            users[name].append(index)
    return users


def _is_wide(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    if node.op_type != 'Conv' or not any(net in node.input[1] for net in QUANTISED_NETS):
        return False
    shape = shapes.get(node.input[1], (0, 0))
    return shape[1] >= _MIN_CHANNELS


def _joins(node: onnx.NodeProto, made: Mapping[str, int], taken: set[str]) -> bool:
    """Whether it adds what has 8 bits already."""
    return any(name in made for name in node.input) and all(
        name in made or name in taken for name in node.input
    )


def _moving(node: onnx.NodeProto) -> list[str]:
    """The inputs that depend on the image."""
    return list(node.input[:1] if node.op_type == 'Conv' else node.input)


class _Rewriting:
    """One pass over the nodes of a graph, whose pairs come with the tensors they belong to."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        plan: Int8Plan,
        weights: Mapping[str, Array],
        ranges: Mapping[str, Range],
    ) -> None:
        self.constants: list[onnx.TensorProto] = []
        self._graph, self._plan, self._weights = graph, plan, weights
        self._outputs = {value.name for value in graph.output}
        self._scales = {name: self._add_range(name, *ranges[name]) for name in plan.tensors}
        self._nodes: list[onnx.NodeProto] = []
        self._paired: set[str] = set()

    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes of the new graph."""
        for name in {value.name for value in self._graph.input} & set(self._plan.makers):
            self._pair(name, name, f'{name}{_BEHIND}', axis=None)
        for index, node in enumerate(self._graph.node):
            self._take(node, index in self._plan.nodes)
        return self._nodes

    def _take(self, node: onnx.NodeProto, is_quantised: bool) -> None:
        source = node.input[0] if node.input else ''
        for place, name in enumerate(node.input):
            # A tensor made in 8 bits has no other value; one that is not, has for those that take 8 bits.
            if name in self._plan.makers and (is_quantised or self._plan.makers[name] is not None):
                node.input[place] = self._behind(name)
        if is_quantised and node.op_type == 'Conv':
            self._quantise_weights(node, self._scales[source])
        self._nodes.append(node)
        for place, name in enumerate(node.output):
            if name in self._plan.makers:
                behind, before = self._behind(name), name
                if behind == name:  # an output of the graph: it is what the pair gives
                    before = f'{name}_single'
                    node.output[place] = before
                self._pair(name, before, behind, axis=None)

    def _behind(self, name: str) -> str:
        is_output = name in self._outputs and self._plan.makers[name] is not None
        return name if is_output else f'{name}{_BEHIND}'

    def _quantise_weights(self, node: onnx.NodeProto, scale: np.float32) -> None:
        name = node.input[1]
        values = self._weights[name]
        scales = np.abs(values).reshape(len(values), -1).max(1) / _MAX_WEIGHT
        scales = np.maximum(scales, _MIN_SCALE).astype(np.float32)
        if name not in self._paired:
            self._paired.add(name)
            self._add(f'{name}_scale', scales)
            self._add(f'{name}_zero', np.zeros(len(scales), np.int8))
            self._pair(name, name, f'{name}{_BEHIND}', axis=0)
        node.input[1] = f'{name}{_BEHIND}'
        if len(node.input) > 2:
            node.input[2] = self._quantise_bias(node, scales * scale)

    def _quantise_bias(self, node: onnx.NodeProto, scales: NDArray[np.float32]) -> str:
        """Biases as int32 with the scale of the sums; of each use, as it depends on the input's scale."""
        name, made = node.input[2], f'{node.output[0]}_bias'
        sums = np.clip(np.round(self._weights[name] / scales.astype(np.float64)), -_MAX_BIAS, _MAX_BIAS)
        self._add(made, sums.astype(np.int32))
        self._add(f'{made}_scale', scales.astype(np.float32))
        self._nodes.append(
            make_node('DequantizeLinear', [made, f'{made}_scale'], [f'{made}{_BEHIND}'], axis=0)
        )
        return f'{made}{_BEHIND}'

    def _pair(self, name: str, before: str, behind: str, axis: int | None) -> None:
        numbers = [f'{name}_scale', f'{name}_zero']
        pair = [
            make_node('QuantizeLinear', [before, *numbers], [f'{name}_q']),
            make_node('DequantizeLinear', [f'{name}_q', *numbers], [behind]),
        ]
        for node in pair if axis is not None else []:
            node.attribute.append(make_attribute('axis', axis))
        self._nodes.extend(pair)

    def _add_range(self, name: str, lowest: float, highest: float) -> np.float32:
        scale = np.float32(max((highest - lowest) / (LEVELS - 1), _MIN_SCALE))
        self._add(f'{name}_scale', np.array(scale))
        self._add(f'{name}_zero', np.array(np.clip(round(-lowest / float(scale)), 0, LEVELS - 1), np.uint8))
        return scale

    def _add(self, name: str, values: Array) -> None:
        self.constants.append(numpy_helper.from_array(values, name))
