# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Too little memory is recognised in the words of every runtime, and in nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip('rclpy')
import numpy as np

from dff_ros import memory

WORDS = {
    'onnxruntime': '[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested '
    'buffer of size 4294967296',
    'torch cuda': 'CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB',
    'torch cpu': "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: "
    'you tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)',
    'cublas': 'CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`',
    'opencv': 'OpenCV(4.9.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 1000 bytes',
    'c++': 'std::bad_alloc',
}


@pytest.mark.parametrize('text', WORDS.values(), ids=WORDS)
def test_every_runtimes_words_are_known(text):
    assert memory.is_out_of_memory(RuntimeError(text))


def spend_torch() -> None:
    pytest.importorskip('torch').empty(10**15)


def spend_onnxruntime() -> None:
    onnx, runtime = pytest.importorskip('onnx'), pytest.importorskip('onnxruntime')
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node('ConstantOfShape', ['size'], ['zeros'])],
        'spender',
        [helper.make_tensor_value_info('size', kinds.INT64, [2])],
        [helper.make_tensor_value_info('zeros', kinds.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString())
    session.run(None, {'size': np.array([10**7, 10**7])})


def spend_opencv() -> None:
    cv2 = pytest.importorskip('cv2')
    cv2.resize(np.zeros((2, 2, 3), np.uint8), (2**30, 2**20))


@pytest.mark.parametrize('spend', [spend_torch, spend_onnxruntime, spend_opencv])
def test_what_the_installed_runtimes_raise_is_known(spend):
    with pytest.raises(Exception, match=r'(?i)memory') as raised:
        spend()
    assert memory.is_out_of_memory(raised.value)


def test_a_memory_error_is_known_by_its_class_and_as_a_cause():
    with pytest.raises(MemoryError) as numpys:
        np.zeros((2**40, 2**20), np.uint8)
    assert memory.is_out_of_memory(numpys.value)
    error = RuntimeError('predict failed')
    error.__cause__ = MemoryError()
    assert memory.is_out_of_memory(error)


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('frame 1 fails'),
        ValueError('bad shape (3, 4)'),
        KeyError('memory_map'),
        ImportError('libgomp.so.1: cannot allocate memory in static TLS block'),
    ],
)
def test_other_errors_are_not(error):
    assert not memory.is_out_of_memory(error)


@pytest.mark.gpu
def test_the_pool_on_the_gpu_is_given_back_and_its_error_is_known():
    torch = pytest.importorskip('torch')
    if not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')
    held = torch.zeros(100_000_000, dtype=torch.uint8, device='cuda')
    assert memory.gpu_mb() >= 100
    with pytest.raises(RuntimeError) as raised:
        torch.zeros(10**13, dtype=torch.uint8, device='cuda')
    assert memory.is_out_of_memory(raised.value)
    del held
    before = memory.gpu_mb()
    memory.release()
    assert memory.gpu_mb() <= before - 100


def test_resident_memory_is_what_the_system_says():
    """A process of 100 MB has 100 MB more than before."""
    script = (
        'from dff_ros import memory; before = memory.resident_mb(); '
        'held = bytearray(b"x") * 100_000_000; print(memory.resident_mb() - before, memory.gpu_mb())'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    grown, gpu = done.stdout.split()
    assert 99 < float(grown) < 110
    assert gpu == 'None'
