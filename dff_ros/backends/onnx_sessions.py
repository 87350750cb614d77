# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Sessions of ONNX Runtime on a GPU, and what of a graph their providers really compute."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from dff_ros.backends.onnx_providers import NAMES, Options, Provider
from dff_ros.errors import BackendUnavailableError

SHAPE_OPERATORS = frozenset(
    ('Shape', 'Size', 'Gather', 'Slice', 'Squeeze', 'Unsqueeze', 'Concat', 'Cast', 'Reshape', 'Expand')
)
"""What may run on the CPU: of numbers that say how many boxes were found."""

_logger = logging.getLogger(__name__)
_RECORD = 'session.record_ep_graph_assignment_info'
_LOG_ERRORS_ONLY = 3
_OPSET, _IR_VERSION = 20, 10


def open_session(
    graph: str, content: bytes, provider: Provider, own: Options | None = None
) -> onnxruntime.InferenceSession:
    """A session for a graph whose sizes are fixed; `own`: further options of its first provider.

    Raises BackendUnavailableError where the provider does not load, or leaves more than SHAPE_OPERATORS to
    the CPU.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.intra_op_num_threads = 1  # a thread hands the work to the GPU; others would wait
    options.add_session_config_entry(_RECORD, '1')
    try:
        # With its fallback it would print the error, and go on by CUDA or the CPU.
        session = onnxruntime.InferenceSession(
            content, options, providers=provider.chain(own or {}), enable_fallback=False
        )
    except Exception as error:  # its exceptions have no common base of their own
        raise BackendUnavailableError(
            f'graph {graph} with provider {provider.name}: {error}; {provider.remedy}'
        ) from error
    if NAMES[provider.name] not in session.get_providers():
        raise BackendUnavailableError(
            f'provider {provider.name} does not load: ONNX Runtime goes on with '
            f'{", ".join(session.get_providers())}; {provider.remedy}'
        )
    _check_assignment(graph, session, provider)
    return session


def node_counts(session: onnxruntime.InferenceSession) -> dict[str, Counter[str]]:
    """How many nodes of each operator each provider computes, by its name as ONNX Runtime has it; empty where
    the version (before 1.24) does not tell.
    """
    if not hasattr(session, 'get_provider_graph_assignment_info'):
        return {}
    counts: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        counts.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return counts


def probe(provider: Provider) -> None:
    """Compute a convolution with a provider: only then its libraries are loaded. BackendUnavailableError
    saying what to install.
    """
    # No engine is built for so small a graph.
    own = {'trt_min_subgraph_size': '1000'} if provider.name == 'tensorrt' else {}
    session = open_session('of a test', _probe_graph(), provider, own)
    ones = onnxruntime.OrtValue.ortvalue_from_numpy(np.ones((1, 1, 3, 3), np.float32), provider.memory, 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input('x', ones)
    binding.bind_output('y', provider.memory)
    try:
        session.run_with_iobinding(binding)
        found = binding.get_outputs()[0].numpy().item()
    except Exception as error:
        raise BackendUnavailableError(
            f'provider {provider.name} computes nothing: {error}; {provider.remedy}'
        ) from error
    if found != 9.0:
        raise BackendUnavailableError(
            f'provider {provider.name} computes 9 ones as {found}; {provider.remedy}'
        )


def _check_assignment(graph: str, session: onnxruntime.InferenceSession, provider: Provider) -> None:
    counts = node_counts(session)
    told = ', '.join(f'{sum(of.values())} by {name}' for name, of in counts.items())
    _logger.info('graph %s: nodes computed: %s', graph, told or 'not told by this version of ONNX Runtime')
    left = {} if provider.name == 'cpu' else counts.get(NAMES['cpu'], Counter())
    kept = {kind: number for kind, number in sorted(left.items()) if kind not in SHAPE_OPERATORS}
    if kept:
        listed = ', '.join(f'{number} {kind}' for kind, number in kept.items())
        raise BackendUnavailableError(
            f'provider {provider.name} of onnxruntime {onnxruntime.__version__} leaves nodes of graph '
            f'{graph} to the CPU ({listed}): install a newer onnxruntime-gpu, or set backend to torch'
        )


def _probe_graph() -> bytes:
    weight = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), 'w')
    node = helper.make_node('Conv', ['x', 'w'], ['y'])
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, n, n])
        for name, n in (('x', 3), ('y', 1))
    ]
    graph = helper.make_graph([node], 'probe', values[:1], values[1:], [weight])
    opset = helper.make_opsetid('', _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
