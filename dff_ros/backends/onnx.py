# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The graphs of a bundle in ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnxruntime

from dff_ros.backends.runner import Array
from dff_ros.bundle import WEIGHTS, Bundle
from dff_ros.bundle_files import check_graph_file
from dff_ros.errors import BackendUnavailableError, BundleError

_PROVIDER = 'CPUExecutionProvider'
_LOG_ERRORS_ONLY = 3


class OnnxRunner:
    """One session for each of `graphs`. Raises BundleError naming one that ONNX Runtime does not take.

    `is_spinning`: idle threads of a running session wait busily for their next step.
    """

    def __init__(
        self, bundle: Bundle, num_threads: int, graphs: Sequence[str], is_spinning: bool = True
    ) -> None:
        self._sessions = {name: _open_session(bundle, name, num_threads, is_spinning) for name in graphs}

    @property
    def device(self) -> str:
        """Where it runs."""
        return 'cpu'

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f'onnxruntime {onnxruntime.__version__}'

    def tensor(self, array: Array) -> Array:
        """See GraphRunner."""
        return array

    def array(self, tensor: Array) -> Array:
        """See GraphRunner."""
        return tensor

    def run(self, graph: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """See GraphRunner."""
        arrays: list[Array] = self._sessions[graph].run(list(outputs), dict(inputs))
        return arrays

    def close(self) -> None:
        """See GraphRunner."""
        self._sessions = {}


def _open_session(
    bundle: Bundle, graph: str, num_threads: int, is_spinning: bool
) -> onnxruntime.InferenceSession:
    path = bundle.graph_path(graph)
    check_graph_file(path, WEIGHTS, bundle.files[WEIGHTS].size)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # Threads that spin between the many small steps of a run halve its time; those that spin after it would
    # take the cores from the next stage, the camera and the publisher.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    options.add_session_config_entry('session.intra_op.allow_spinning', str(int(is_spinning)))
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[_PROVIDER])
    except Exception as error:  # its exceptions have no common base of their own
        raise BundleError(
            f'{path} is not accepted by ONNX Runtime {onnxruntime.__version__}: {error}'
        ) from error
    if session.get_providers() != [_PROVIDER]:
        raise BackendUnavailableError(
            f'ONNX Runtime uses {session.get_providers()} instead of {_PROVIDER}: '
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
