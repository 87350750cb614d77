# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The graphs of a bundle in ONNX Runtime on a GPU: what one graph gives and another takes stays there.

A session is made for the sizes that come (backends/onnx_editing.py says why), and kept. Each has a stream of
its own, and `run` returns when its outputs are there: nothing needs to be ordered between sessions, nor
between a runner and that of a refresh worker. The memory of an output is its own, from the arena of its
session: a cached key feature is never written to, and goes back to the arena with the last that holds it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import DTypeLike, NDArray

from dff_ros.backends.choice import choose_precision, choose_provider
from dff_ros.backends.onnx_editing import at_shapes, for_gpu, read_graph
from dff_ros.backends.onnx_providers import Provider, gpu_provider, left_to_cuda
from dff_ros.backends.onnx_sessions import open_session, probe
from dff_ros.backends.runner import Array, HostClock, Size
from dff_ros.bundle import Bundle
from dff_ros.config import DffConfig, to_flat
from dff_ros.engine_cache import EngineCache, EngineKey, Shapes, bundle_hash, default_root
from dff_ros.errors import BackendUnavailableError

HOST_OUTPUTS = frozenset(('label_map', 'confidence', 'validity', 'disagreement', 'boxes', 'num_boxes'))
"""Outputs that no graph takes: they are made on the host."""

MAX_SIZES = 8
"""Sessions kept of one graph, for as many sizes; the one that was not used for longest goes."""

BUILT_FOR = ('precision', 'engines', 'flow', 'correction', 'segmentation.output_size')
"""Settings that say which engines are needed, and where they lie."""

_MIN_ON_DEVICE = 64
"""Arrays with fewer values stay on the host: thresholds are read there, and others come along with a run."""


class DeviceTensor:
    """A tensor of ONNX Runtime, on the device or the host; numpy takes it for its values. `owner`: the
    session whose memory it is, which lives as long.
    """

    __slots__ = ('owner', 'shape', 'value')

    def __init__(
        self, value: onnxruntime.OrtValue, owner: onnxruntime.InferenceSession | None = None
    ) -> None:
        self.value = value
        self.owner = owner
        self.shape: tuple[int, ...] = tuple(value.shape())

    def numpy(self) -> Array:
        """Its values; from a device a copy."""
        array: Array = self.value.numpy()
        return array

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.float32]:
        array = np.asarray(self.numpy(), dtype)
        return array.copy() if copy else array


class DeviceRunner(HostClock):
    """The sessions of `graphs`, opened at their first run for a size; with `is_building` engines are built
    for it, otherwise only found in `engines`, if the provider has any.

    Raises BackendUnavailableError for a provider that does not load, leaves work of a graph to the CPU, or
    has no engine of it; BundleError for graphs that are refused.
    """

    def __init__(
        self,
        bundle: Bundle,
        graphs: Sequence[str],
        provider: Provider,
        engines: EngineCache | None = None,
        *,
        is_building: bool = False,
    ) -> None:
        self._provider = provider
        self._engines = engines
        self._is_building = is_building
        probe(provider)
        is_half = provider.precision == 'fp16'
        self._graphs = {name: for_gpu(read_graph(bundle, name), is_half=is_half) for name in graphs}
        self._sessions: dict[str, OrderedDict[Shapes, onnxruntime.InferenceSession]] = {
            name: OrderedDict() for name in graphs
        }

    @property
    def device(self) -> str:
        """Where it runs: 'cpu' or the name of the CUDA device."""
        return self._provider.device

    @property
    def runtime(self) -> str:
        """Names and versions."""
        version = self._provider.version
        return f'onnxruntime {onnxruntime.__version__}' + (f', TensorRT {version}' if version else '')

    @property
    def provider(self) -> str:
        """Execution provider of ONNX Runtime."""
        return self._provider.name

    @property
    def precision(self) -> str:
        """Of the networks, as the setting `precision` names it."""
        return self._provider.precision

    @property
    def sizes(self) -> tuple[Size, ...]:
        """See GraphRunner."""
        return () if self._engines is None or self._is_building else self._engines.sizes

    @property
    def engine_folder(self) -> Path:
        """Where the engines of this GPU, bundle and precision lie; of provider tensorrt."""
        if self._engines is None:
            raise BackendUnavailableError(
                f'provider {self.provider} has no engines: set provider to tensorrt'
            )
        return self._engines.folder

    def tensor(self, array: Array) -> DeviceTensor:
        """See GraphRunner."""
        # The driver stages pageable memory; a pinned buffer of our own would cost the same copy once more.
        where = 'cpu' if array.size < _MIN_ON_DEVICE else self._provider.memory
        return DeviceTensor(onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), where, 0))

    def arrays(self, tensors: Sequence[DeviceTensor]) -> list[Array]:
        """See GraphRunner."""
        return [tensor.numpy() for tensor in tensors]

    def wait(self) -> None:
        """See GraphRunner."""

    def run(
        self, graph: str, inputs: Mapping[str, DeviceTensor], outputs: Sequence[str]
    ) -> list[DeviceTensor]:
        """See GraphRunner."""
        session = self._session(graph, tuple(sorted((name, one.shape) for name, one in inputs.items())))
        # A new binding for each run: one that is used again writes to the outputs of the run before.
        binding = session.io_binding()
        for name, tensor in inputs.items():
            binding.bind_ortvalue_input(name, tensor.value)
        for name in outputs:
            binding.bind_output(name, 'cpu' if name in HOST_OUTPUTS else self._provider.memory)
        session.run_with_iobinding(binding)
        return [DeviceTensor(value, session) for value in binding.get_outputs()]

    def close(self) -> None:
        """See GraphRunner."""
        self._sessions = {name: OrderedDict() for name in self._sessions}

    def _session(self, graph: str, shapes: Shapes) -> onnxruntime.InferenceSession:
        kept = self._sessions[graph]
        if shapes not in kept:
            kept[shapes] = self._open(graph, shapes)
            if len(kept) > MAX_SIZES:
                kept.popitem(last=False)
        kept.move_to_end(shapes)
        return kept[shapes]

    def _open(self, graph: str, shapes: Shapes) -> onnxruntime.InferenceSession:
        fixed = at_shapes(self._graphs[graph], dict(shapes))
        content = fixed.SerializeToString()
        if self._engines is None:
            return open_session(graph, content, self._provider)
        left = left_to_cuda(node.op_type for node in fixed.graph.node)
        if self._is_building:
            with self._engines.building(graph, shapes) as folder:
                return open_session(graph, content, self._provider, {**left, **_cache_options(folder)})
        folder = self._engines.require(graph, shapes)
        session = open_session(graph, content, self._provider, {**left, **_cache_options(folder)})
        if self._engines.new_files(folder):
            raise BackendUnavailableError(
                f'TensorRT did not take the engines in {folder} and built others: delete '
                f'{self._engines.folder} and build them again (dff export --tensorrt)'
            )
        return session


def open_device_runner(
    bundle: Bundle, config: DffConfig, graphs: Sequence[str], *, is_building: bool = False
) -> DeviceRunner:
    """The runner that a config with provider cuda or tensorrt asks for. `is_building`: with engines that are
    still to be built.
    """
    name, precision = choose_provider(config), choose_precision(config)
    provider = gpu_provider(name, precision)
    if name != 'tensorrt':
        return DeviceRunner(bundle, graphs, provider)
    engines = engine_cache(bundle, config, provider)
    if not is_building:
        engines.require_any()
    return DeviceRunner(bundle, graphs, provider, engines, is_building=is_building)


def engine_cache(bundle: Bundle, config: DffConfig, provider: Provider) -> EngineCache:
    """The engines of a bundle for a TensorRT provider."""
    if provider.gpu is None:
        raise BackendUnavailableError('TensorRT engines are of a GPU, and there is none')
    key = EngineKey(
        gpu=provider.gpu.name,
        capability=provider.gpu.capability,
        tensorrt=provider.version,
        onnxruntime=onnxruntime.__version__,
        bundle=bundle_hash(bundle),
        precision=provider.precision,
    )
    given, usual = to_flat(config), to_flat(DffConfig())
    changed = (f' --{name} {given[name]}' for name in BUILT_FOR if given[name] != usual[name])
    remedy = (
        f'build on this machine: dff export {bundle.path} --tensorrt --size WIDTHxHEIGHT{"".join(changed)}'
    )
    return EngineCache(Path(config.engines or default_root()).expanduser(), key, remedy)


def _cache_options(folder: Path) -> dict[str, str]:
    return {'trt_engine_cache_path': str(folder), 'trt_timing_cache_path': str(folder.parent)}
