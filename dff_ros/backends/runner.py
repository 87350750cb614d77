# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What runs the graphs of a bundle, and the inputs that are known from image sizes alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from dff_ros.geometry import resample_taps, upsample_matrix

TAP_NAMES = ('row_index', 'row_weight', 'col_index', 'col_weight')
"""Inputs of the graphs that take a source image, in the order of `image_taps`."""

Size = tuple[int, int]
Array = NDArray[np.uint8] | NDArray[np.int64] | NDArray[np.float32] | NDArray[np.float16]
"""What the graphs take and give."""
Taps = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]


class Shaped(Protocol):
    """An array of any runtime."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...


TensorT = TypeVar('TensorT', bound=Shaped)
Tensors = dict[str, TensorT]


class GraphRunner(Protocol[TensorT]):
    """The graphs of nets/graphs.py in one runtime."""

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    @property
    def runtime(self) -> str:
        """Name and version."""
        ...

    @property
    def provider(self) -> str:
        """Execution provider of ONNX Runtime; empty of other runtimes."""
        ...

    @property
    def precision(self) -> str:
        """Of the networks, as the setting `precision` names it."""
        ...

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Sizes of source images that it is made for, which are to be warmed up; empty: any."""
        ...

    def tensor(self, array: Array) -> TensorT:
        """The array where the graphs take it; may share its memory, is not written to."""
        ...

    def arrays(self, tensors: Sequence[TensorT]) -> list[Array]:
        """Back as numpy has them; may share their memory. On a device it waits once for all of them."""
        ...

    def wait(self) -> None:
        """Until what was asked for is computed; `run` of a device returns before."""
        ...

    def mark(self) -> object:
        """The moment at which what was asked for so far is computed."""
        ...

    def ms_between(self, marks: Sequence[object]) -> list[float]:
        """From each mark to the next; on a device after `arrays` or `wait`."""
        ...

    def run(self, graph: str, inputs: Mapping[str, TensorT], outputs: Sequence[str]) -> list[TensorT]:
        """Those outputs of a graph, each owning its memory; never written to again."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class HostClock:
    """The marks of a GraphRunner whose `run` returns when its outputs are there."""

    def mark(self) -> object:
        """See GraphRunner."""
        return time.perf_counter_ns()

    def ms_between(self, marks: Sequence[object]) -> list[float]:
        """See GraphRunner."""
        return [(later - earlier) / 1e6 for earlier, later in pairwise(cast(Sequence[int], marks))]


@lru_cache(maxsize=16)
def image_taps(source: Size, network: Size) -> Taps:
    """Inputs row_index, row_weight, col_index, col_weight of the graphs: (outputs, taps), C-contiguous."""
    taps = [array for axis in (0, 1) for array in resample_taps(network[axis], source[axis])]
    row_index, row_weight, col_index, col_weight = (np.ascontiguousarray(array.T) for array in taps)
    return row_index, row_weight, col_index, col_weight  # type: ignore[return-value]


@lru_cache(maxsize=16)
def score_matrices(
    output: Size, network: Size, stride: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Inputs row_matrix (H, gh) and col_matrix (gw, W) of the predict graph."""
    rows, columns = (upsample_matrix(output[axis], network[axis], stride) for axis in (0, 1))
    return rows, np.ascontiguousarray(columns.T)
