# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Graphs that are recorded once for a set of shapes and then repeated as a whole, as CUDA graphs are.

Hundreds of kernels of a few microseconds each would otherwise wait for Python to ask for them one by one.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_logger = logging.getLogger(__name__)

_MAX_RECORDED = 32
"""Each keeps its inputs, outputs and what lies between in the memory of the device."""

_one_at_a_time = threading.RLock()
"""Runs that choose kernels or are captured: a capture bears no synchronisation of the device beside it."""

Compute = Callable[[Mapping[str, Tensor]], Sequence[Tensor]]
Record = Callable[[Callable[[], Sequence[Tensor]]], tuple[Sequence[Tensor], Callable[[], None]]]
"""Runs what it is given once, and returns its outputs and what computes them again in the same memory."""

_Key = tuple[object, ...]


class CudaRecord:
    """A `Record` by CUDA graphs, captured on the current stream; one of the runner's own, never the default
    one. All share a memory pool: what one leaves there, the next may overwrite.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(
        self, compute: Callable[[], Sequence[Tensor]]
    ) -> tuple[Sequence[Tensor], Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        with _without_collection():
            # Not the context manager torch.cuda.graph: it synchronises the device, under another thread's
            # work. What torch keeps from its first capture on must not be tied to inference mode.
            with torch.inference_mode(False):
                graph.capture_begin(pool=self._pool, capture_error_mode='thread_local')
            try:
                outputs = compute()
            finally:
                graph.capture_end()
        graph.replay()
        return outputs, graph.replay


class _Recording:
    """One recorded graph: inputs and outputs at fixed places."""

    def __init__(self, compute: Compute, inputs: Mapping[str, Tensor], record: Record) -> None:
        self._places = {name: tensor.clone() for name, tensor in inputs.items()}
        # What lies in the places: a key frame's inputs stay there for all frames of its interval.
        self._sources = dict(inputs)
        self._outputs, self._repeat = record(lambda: compute(self._places))

    def first(self) -> list[Tensor]:
        """The outputs for the inputs it was recorded with."""
        return [tensor.clone() for tensor in self._outputs]

    def run(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs, each in memory of its own."""
        for name, tensor in inputs.items():
            if tensor is not self._sources[name]:
                self._places[name].copy_(tensor, non_blocking=True)
                self._sources[name] = tensor
        self._repeat()
        return self.first()


class Recordings:
    """Graphs by name and shapes: run as they are the first time, recorded the second, then repeated.

    The first run lets libraries choose their kernels, so warming up takes two. A size that was not warmed up
    goes the same way, with its first two frames. What cannot be recorded runs on as it is; that is logged.
    Use from one thread.
    """

    def __init__(self, record: Record, max_recorded: int = _MAX_RECORDED) -> None:
        self._record = record
        self._max_recorded = max_recorded
        self._known: OrderedDict[_Key, _Recording | None] = OrderedDict()
        self._refused: set[str] = set()

    def run(
        self, name: str, compute: Compute, inputs: Mapping[str, Tensor], outputs: Sequence[str]
    ) -> list[Tensor]:
        """What `compute` makes of the inputs; `outputs` names it. The inputs must not be written to later."""
        key = (name, *outputs, *((item, *_layout(tensor)) for item, tensor in sorted(inputs.items())))
        recording = self._known.get(key)
        if recording is not None:
            self._known.move_to_end(key)
            return recording.run(inputs)
        if name in self._refused:
            return list(compute(inputs))
        with _one_at_a_time, _choosing_kernels():
            if key not in self._known:
                self._known[key] = None
                self._drop_oldest()
                return list(compute(inputs))
            try:
                recording = _Recording(compute, inputs, self._record)
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                _logger.warning('graph %s cannot be captured and runs step by step: %s', name, error)
                self._refused.add(name)
                return list(compute(inputs))
        self._known[key] = recording
        return recording.first()

    def names(self) -> set[str]:
        """Of the graphs that are repeated at some size."""
        return {str(key[0]) for key, recording in self._known.items() if recording is not None}

    def clear(self) -> None:
        """Let go of all of them."""
        self._known.clear()

    def _drop_oldest(self) -> None:
        while len(self._known) > self._max_recorded:
            self._known.popitem(last=False)


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tuple(tensor.shape), tensor.dtype, tensor.stride()


@contextmanager
def _without_collection() -> Iterator[None]:
    """A CUDA graph that is collected while another is captured ends the process."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _choosing_kernels() -> Iterator[None]:
    """cuDNN times its convolutions at a shape that is new to it."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
