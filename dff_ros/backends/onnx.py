# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The graphs of a bundle in ONNX Runtime, on the CPU: by its own kernels, or by OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnxruntime

from dff_ros.backends.cpu_facts import lacks_wide_sums
from dff_ros.backends.onnx_providers import NAMES, openvino_options
from dff_ros.backends.runner import Array, HostClock, Size
from dff_ros.bundle import WEIGHTS, Bundle
from dff_ros.bundle_files import check_graph_file
from dff_ros.errors import BackendUnavailableError, BundleError

Chain = list[tuple[str, dict[str, str]]]
"""Providers and their options, as a session takes them."""

_LOG_ERRORS_ONLY = 3
_HARMFUL_TO_INT8 = 'QDQPropagationTransformer'
"""It moves quantisation in front of a pooling, which ONNX Runtime has fast in single precision only."""
_FOR_OPENVINO = ('extract', 'look')
"""The graphs that are a network and no more. OpenVINO (2026.4) does not read the sampling in the others
(GridSample of operator set 20): ONNX Runtime's own kernels compute those.
"""


class OnnxRunner(HostClock):
    """One session for each of `graphs`. Raises BundleError naming one that ONNX Runtime does not take.

    `is_spinning`: idle threads of a running session wait busily for their next step. `provider`: 'cpu' or
    'openvino'; `precision`: as the setting, one that it has. With 'int8' graphs that are not in 8 bits run in
    single precision.
    """

    def __init__(
        self,
        bundle: Bundle,
        num_threads: int,
        graphs: Sequence[str],
        is_spinning: bool = True,
        *,
        provider: str = 'cpu',
        precision: str = 'fp32',
    ) -> None:
        self._provider, self._precision = provider, precision
        self._sessions = {}
        for name in graphs:
            options = session_options(num_threads, is_spinning)
            chain: Chain = [(NAMES['cpu'], {})]
            if provider == 'openvino' and name in _FOR_OPENVINO:
                chain.insert(0, (NAMES[provider], openvino_options(precision, num_threads)))
                # Its own optimiser takes the graph as it was exported.
                options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            self._sessions[name] = _open_session(bundle, name, precision, options, chain)

    @property
    def device(self) -> str:
        """Where it runs."""
        return 'cpu'

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f'onnxruntime {onnxruntime.__version__}'

    @property
    def provider(self) -> str:
        """Execution provider of ONNX Runtime; empty of other runtimes."""
        return self._provider

    @property
    def precision(self) -> str:
        """Of the networks, as the setting `precision` names it."""
        return self._precision

    @property
    def sizes(self) -> tuple[Size, ...]:
        """See GraphRunner."""
        return ()

    def tensor(self, array: Array) -> Array:
        """See GraphRunner."""
        return array

    def arrays(self, tensors: Sequence[Array]) -> list[Array]:
        """See GraphRunner."""
        return list(tensors)

    def wait(self) -> None:
        """See GraphRunner."""

    def run(self, graph: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """See GraphRunner."""
        arrays: list[Array] = self._sessions[graph].run(list(outputs), dict(inputs))
        return arrays

    def close(self) -> None:
        """See GraphRunner."""
        self._sessions = {}


def session_options(num_threads: int, is_spinning: bool) -> onnxruntime.SessionOptions:
    """As every session on the CPU has them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # Threads that spin between the many small steps of a run halve its time; those that spin after it would
    # take the cores from the next stage, the camera and the publisher.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    options.add_session_config_entry('session.intra_op.allow_spinning', str(int(is_spinning)))
    if lacks_wide_sums():
        options.add_session_config_entry('session.x64quantprecision', '1')
    return options


def _open_session(
    bundle: Bundle,
    graph: str,
    precision: str,
    options: onnxruntime.SessionOptions,
    chain: Chain,
) -> onnxruntime.InferenceSession:
    path = bundle.graph_path(graph, precision)
    check_graph_file(path, WEIGHTS, bundle.files[WEIGHTS].size)
    left_out = [_HARMFUL_TO_INT8] if precision == 'int8' else []
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=chain, disabled_optimizers=left_out
        )
    except Exception as error:  # its exceptions have no common base of their own
        raise BundleError(
            f'{path} is not accepted by ONNX Runtime {onnxruntime.__version__}: {error}'
        ) from error
    expected = [name for name, _ in chain]
    if session.get_providers() != expected:
        raise BackendUnavailableError(
            f'ONNX Runtime uses {session.get_providers()} instead of {expected}: '
            'reinstall the package onnxruntime'
        )
    _check_names(bundle, graph, session)
    return session


def _check_names(bundle: Bundle, graph: str, session: onnxruntime.InferenceSession) -> None:
    facts = bundle.graphs[graph]
    found: Mapping[str, tuple[str, ...]] = {
        'inputs': tuple(item.name for item in session.get_inputs()),
        'outputs': tuple(item.name for item in session.get_outputs()),
    }
    for kind, expected in (('inputs', facts.inputs), ('outputs', facts.outputs)):
        if found[kind] != expected:
            raise BundleError(
                f'{bundle.graph_path(graph)} has the {kind} {found[kind]}, the manifest says {expected}: '
                'export the model again (dff export)'
            )
