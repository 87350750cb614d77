# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The graphs of a bundle in eager torch, on the CPU or a CUDA device, from the safetensors weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dff_ros.backends.runner import Array
from dff_ros.bundle import Bundle
from dff_ros.errors import BackendUnavailableError, BundleError, DataError
from dff_ros.nets.dff import DffModel, load_model
from dff_ros.nets.graphs import make_graphs
from dff_ros.nets.task_graphs import Graph


class TorchRunner:
    """The modules that were exported as `graphs`. `num_threads` is set for torch on the calling thread, and
    for those that begin to use torch later.

    `make`: other graphs of the same model than those. `is_background`: on a CUDA device it has a stream of
    its own, and `run` returns when the outputs are there, so that another stream may read them.

    Raises BackendUnavailableError for a CUDA device that is not there, BundleError for weights that do not
    fit.
    """

    def __init__(
        self,
        bundle: Bundle,
        num_threads: int,
        graphs: Sequence[str],
        device: str = 'auto',
        make: Callable[[DffModel], Mapping[str, Graph]] = make_graphs,
        *,
        is_background: bool = False,
    ) -> None:
        if device == 'auto':
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
        if device == 'cuda' and not torch.cuda.is_available():
            raise BackendUnavailableError(
                'torch finds no CUDA device: install its CUDA build and the driver, or set device to cpu'
            )
        torch.set_num_threads(num_threads)
        self._device = torch.device(device)
        has_stream = is_background and device == 'cuda'
        # Its memory is freed only between frames, when what reads it has been waited for (`array`).
        self._stream = torch.cuda.Stream(self._device) if has_stream else None
        made = make(_load_model(bundle).to(self._device))
        self._graphs = {name: made[name] for name in graphs}

    @property
    def device(self) -> str:
        """Where it runs: 'cpu' or the name of the CUDA device."""
        return 'cpu' if self._device.type == 'cpu' else f'cuda ({torch.cuda.get_device_name(self._device)})'

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f'torch {torch.__version__}'

    def tensor(self, array: Array) -> Tensor:
        """See GraphRunner."""
        if (
            not array.flags.writeable
        ):  # torch has no read-only tensors and warns; nothing here writes to its inputs
            array = array.copy()
        with torch.cuda.stream(self._stream):
            return torch.from_numpy(array).to(self._device)

    def array(self, tensor: Tensor) -> Array:
        """See GraphRunner."""
        with torch.cuda.stream(self._stream):
            array: Array = tensor.cpu().numpy()
        return array

    @torch.inference_mode()
    def run(self, graph: str, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """See GraphRunner."""
        module = self._graphs[graph]
        with torch.cuda.stream(self._stream):
            values = dict(zip(module.outputs, module(**inputs), strict=True))
        if self._stream is not None:
            self._stream.synchronize()
        return [values[name] for name in outputs]

    def outputs(self, graph: str) -> tuple[str, ...]:
        """Names of what a graph gives."""
        return self._graphs[graph].outputs

    def close(self) -> None:
        """See GraphRunner."""
        self._graphs = {}


def _load_model(bundle: Bundle) -> DffModel:
    try:
        return load_model(bundle.spec, bundle.weights_path)
    except DataError as error:
        raise BundleError(f'bundle {bundle.path}: {error}') from error
