"""The graphs of a bundle in ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dff_ros.backends.graph import Size, image_taps, score_matrices
from dff_ros.bundle import Bundle
from dff_ros.errors import BackendUnavailableError, BundleError

Array = NDArray[np.float32]

_PROVIDER = 'CPUExecutionProvider'
_LOG_ERRORS_ONLY = 3


class OnnxRunner:
    """One session per graph. `has_flow_net`: load the bundle's flow net instead of the plain warp.

    Raises BundleError naming a graph that ONNX Runtime does not take.
    """

    def __init__(self, bundle: Bundle, num_threads: int, has_flow_net: bool) -> None:
        self._stride = bundle.stride
        self._has_flow_net = has_flow_net
        names = ['extract', 'predict', 'propagate']
        if not has_flow_net and 'warp' in bundle.graphs:
            names[2] = 'warp'
        self._sessions = {name: _open_session(bundle, name, num_threads) for name in names}
        self._propagate = names[2]
        self._inputs = {name: bundle.graphs[name].inputs for name in names}
        self._outputs = {name: bundle.graphs[name].outputs for name in names}

    @property
    def device(self) -> str:
        """Where it runs."""
        return 'cpu'

    @property
    def runtime(self) -> str:
        """Name and version."""
        return f'onnxruntime {onnxruntime.__version__}'

    def extract(self, image_HW3: NDArray[np.uint8], network: Size) -> tuple[Array, Array | None]:
        """See GraphRunner."""
        num_outputs = 2 if self._has_flow_net else 1
        outputs = self._run(
            'extract', image_HW3, *image_taps(image_HW3.shape[:2], network), num_outputs=num_outputs
        )
        return outputs[0], outputs[1] if self._has_flow_net else None

    def warp(self, feature: Array, flow_2hw: Array) -> tuple[Array, Array]:
        """See GraphRunner."""
        warped, validity = self._run(self._propagate, feature, flow_2hw[None])
        return warped, validity

    def propagate(
        self, image_HW3: NDArray[np.uint8], network: Size, key_image: Array, key_feature: Array
    ) -> tuple[Array, Array, Array]:
        """See GraphRunner."""
        taps = image_taps(image_HW3.shape[:2], network)
        feature, validity, flow = self._run(self._propagate, image_HW3, *taps, key_image, key_feature)
        return feature, validity, flow[0]

    def predict(
        self, feature: Array, network: Size, output: Size
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See GraphRunner."""
        label_map, confidence = self._run('predict', feature, *score_matrices(output, network, self._stride))
        return label_map, confidence

    def grid(self, feature: Array) -> Size:
        """See GraphRunner."""
        return feature.shape[2], feature.shape[3]

    def close(self) -> None:
        """See GraphRunner."""
        self._sessions = {}

    def _run(self, graph: str, *arrays: NDArray[np.generic], num_outputs: int | None = None) -> list[NDArray]:
        feed = dict(zip(self._inputs[graph], arrays, strict=True))
        outputs: list[NDArray] = self._sessions[graph].run(list(self._outputs[graph][:num_outputs]), feed)
        return outputs


def _open_session(bundle: Bundle, graph: str, num_threads: int) -> onnxruntime.InferenceSession:
    path = bundle.graph_path(graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # Threads that spin after a run take the cores from the next stage, the camera and the publisher.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
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
