# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The graphs of a bundle in torch, on the CPU or a CUDA device, from the safetensors weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from dff_ros.backends.cuda.kernels_in_use import load_kernels
from dff_ros.backends.cuda.recording import CudaRecord, Recordings
from dff_ros.backends.cuda.transfer import download, shared, upload
from dff_ros.backends.runner import Array, HostClock, Size
from dff_ros.bundle import Bundle
from dff_ros.errors import BackendUnavailableError, BundleError, DataError
from dff_ros.nets.dff import DffModel, load_model
from dff_ros.nets.finish import FinishGraph
from dff_ros.nets.fused import use_kernels
from dff_ros.nets.graphs import make_graphs
from dff_ros.nets.precision import narrow
from dff_ros.nets.task_graphs import Graph

_DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
_FIRST, _SECOND = -1, 0
"""Priorities of streams, the lower the more urgent: blocks of a frame's kernels go before a key frame's."""


class TorchRunner(HostClock):
    """The modules that were exported as `graphs`. `num_threads` is set for torch on the calling thread, and
    for those that begin to use torch later.

    On a CUDA device it has a stream of its own: what it returns may not be computed yet, and is to be read by
    another stream only after `wait`. Graphs are recorded (cuda/recording.py). `make`: other graphs of the
    same model than those. `is_background`: it gives way to another runner. `precision`: as the setting.

    Raises BackendUnavailableError for a CUDA device that is not there and a precision that torch does not
    compute in on the device, BundleError for weights that do not fit.
    """

    def __init__(
        self,
        bundle: Bundle,
        num_threads: int,
        graphs: Sequence[str],
        device: str = 'auto',
        make: Callable[[DffModel], Mapping[str, Graph]] = make_graphs,
        *,
        precision: str = 'auto',
        is_background: bool = False,
    ) -> None:
        self._device = _device(device)
        is_cuda = self._device.type == 'cuda'
        self._precision = _precision(precision, is_cuda)
        torch.set_num_threads(num_threads)
        priority = _SECOND if is_background else _FIRST
        self._stream = torch.cuda.Stream(self._device, priority=priority) if is_cuda else None
        self._recordings = Recordings(CudaRecord()) if is_cuda else None
        model = _load_model(bundle).to(self._device)
        if is_cuda or self._precision != 'fp32':
            model = narrow(model, _DTYPES[self._precision])
        made = make(model)
        self._graphs = {name: made[name] for name in graphs}
        if 'predict' in graphs:
            self._graphs['finish'] = FinishGraph()
        kernels = load_kernels(self._device) if is_cuda else None
        if kernels is not None:
            for graph in self._graphs.values():
                use_kernels(graph, kernels)
        if self._stream is not None:  # the weights came by the default one
            self._stream.wait_stream(torch.cuda.current_stream(self._device))

    @property
    def device(self) -> str:
        """Where it runs: 'cpu' or the name of the CUDA device."""
        return 'cpu' if self._device.type == 'cpu' else f'cuda ({torch.cuda.get_device_name(self._device)})'

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f'torch {torch.__version__}'

    @property
    def provider(self) -> str:
        """Execution provider of ONNX Runtime; empty of other runtimes."""
        return ''

    @property
    def precision(self) -> str:
        """Of the networks, as the setting `precision` names it."""
        return self._precision

    @property
    def sizes(self) -> tuple[Size, ...]:
        """See GraphRunner."""
        return ()

    def tensor(self, array: Array) -> Tensor:
        """See GraphRunner."""
        if self._stream is None:
            return shared(array)
        with torch.cuda.stream(self._stream):
            return upload(array, self._device)

    def arrays(self, tensors: Sequence[Tensor]) -> list[Array]:
        """See GraphRunner."""
        with torch.cuda.stream(self._stream):
            copies = download(tensors)
        self.wait()
        return [copy.numpy() for copy in copies]

    def wait(self) -> None:
        """See GraphRunner."""
        if self._stream is not None:
            self._stream.synchronize()

    def mark(self) -> object:
        """See GraphRunner."""
        if self._stream is None:
            return super().mark()
        return self._stream.record_event(torch.cuda.Event(enable_timing=True))

    def ms_between(self, marks: Sequence[object]) -> list[float]:
        """See GraphRunner."""
        if self._stream is None:
            return super().ms_between(marks)
        events = cast(Sequence[torch.cuda.Event], marks)
        return [earlier.elapsed_time(later) for earlier, later in pairwise(events)]

    @torch.inference_mode()
    def run(self, graph: str, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """See GraphRunner."""
        module = self._graphs[graph]
        compute = partial(_compute, module, outputs)
        with torch.cuda.stream(self._stream):
            if self._stream is not None:
                for tensor in inputs.values():
                    tensor.record_stream(self._stream)  # the key frame of a worker is of its stream
            if self._recordings is None or not module.is_static:
                return compute(inputs)
            return self._recordings.run(graph, compute, inputs, outputs)

    def outputs(self, graph: str) -> tuple[str, ...]:
        """Names of what a graph gives."""
        return self._graphs[graph].outputs

    def close(self) -> None:
        """See GraphRunner."""
        self._graphs = {}
        if self._recordings is not None:
            self._recordings.clear()


def _compute(module: Graph, outputs: Sequence[str], inputs: Mapping[str, Tensor]) -> list[Tensor]:
    values = dict(zip(module.outputs, module(**inputs), strict=True))
    return [values[name] for name in outputs]


def _device(name: str) -> torch.device:
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    if name == 'cuda' and not torch.cuda.is_available():
        raise BackendUnavailableError(
            'torch finds no CUDA device: install its CUDA build and the driver, or set device to cpu'
        )
    return torch.device(name)


def _precision(name: str, is_cuda: bool) -> str:
    if name == 'auto':
        return 'fp16' if is_cuda else 'fp32'
    if name not in _DTYPES:
        raise BackendUnavailableError(
            f'torch does not compute in precision {name}: set backend to onnx, or precision to fp32 or bf16'
        )
    if name == 'fp16' and not is_cuda:
        raise BackendUnavailableError(
            'torch computes in precision fp16 on a CUDA device only: set precision to fp32 or bf16'
        )
    return name


def _load_model(bundle: Bundle) -> DffModel:
    try:
        return load_model(bundle.spec, bundle.weights_path)
    except DataError as error:
        raise BundleError(f'bundle {bundle.path}: {error}') from error
