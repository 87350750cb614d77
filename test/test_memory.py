# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Too little memory is recognised in the words of every runtime, and in nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip('rclpy')
import numpy as np

from dff_ros.ros import memory

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


def test_a_memory_error_is_known_by_its_class_and_as_a_cause():
    with pytest.raises(MemoryError) as numpys:
        np.zeros((2**40, 2**20), np.uint8)
    assert memory.is_out_of_memory(numpys.value)
    error = RuntimeError('predict failed')
    error.__cause__ = MemoryError()
    assert memory.is_out_of_memory(error)


@pytest.mark.parametrize(
    'error', [RuntimeError('frame 1 fails'), ValueError('bad shape (3, 4)'), KeyError('memory_map')]
)
def test_other_errors_are_not(error):
    assert not memory.is_out_of_memory(error)


def test_resident_memory_is_what_the_system_says():
    """A process of 100 MB has 100 MB more than before."""
    script = (
        'from dff_ros.ros import memory; before = memory.resident_mb(); '
        'held = bytearray(b"x") * 100_000_000; print(memory.resident_mb() - before, memory.gpu_mb())'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    grown, gpu = done.stdout.split()
    assert 99 < float(grown) < 110
    assert gpu == 'None'
