# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Memory of the process: how much it has, when an error means that there is none left, and giving it back."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource
import sys
from pathlib import Path

_STATM = Path('/proc/self/statm')
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MMAP_THRESHOLD_BYTES = 32 << 20
_TRIM_THRESHOLD_BYTES = 1 << 30
_SIGNS = (
    'out of memory',  # CUDA, torch
    'outofmemory',  # the class names of torch
    'failed to allocate memory',  # ONNX Runtime
    'bad_alloc',
    'bad allocation',
    'allocate memory',  # torch on the CPU, errno 12
    'not enough memory',
    'insufficient memory',  # OpenCV
    'alloc_failed',  # cuBLAS, cuDNN
    'cudaerrormemoryallocation',
)

_OTHER = 'static tls block'
"""Of the loader, which says `cannot allocate memory in` it of a library that is loaded too late (on ARM)."""

REMEDY = 'use a smaller image, fewer cameras or tasks, or refresh: inline'
"""Against too little memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, says that memory could not be had; runtimes have no
    common class for it, so its name and text are looked at too.
    """
    seen: BaseException | None = error
    while seen is not None:
        text = f'{type(seen).__name__}: {seen}'.lower()
        is_said = _OTHER not in text and any(sign in text for sign in _SIGNS)
        if isinstance(seen, MemoryError) or is_said:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def release() -> None:
    """Give back what nobody holds any more, in Python and in torch's pool on the GPU."""
    gc.collect()
    torch = sys.modules.get('torch')  # never loaded for this
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def resident_mb() -> float:
    """Physical memory of the process in 10^6 bytes; where the system does not tell, the most it ever had."""
    if _STATM.is_file():
        return int(_STATM.read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e6
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def gpu_mb() -> float | None:
    """What torch holds of the GPU's memory in 10^6 bytes; None where it runs on none."""
    torch = sys.modules.get('torch')
    if torch is None or not torch.cuda.is_initialized():
        return None
    return float(torch.cuda.memory_reserved()) / 1e6


def tune_malloc() -> bool:
    """Keep image-sized blocks on the heap: else glibc maps and faults in each image anew (2x the latency).

    Only on glibc, and not where the user set a threshold by environment; whether it was done.
    """
    if platform.libc_ver()[0] != 'glibc' or 'MALLOC_MMAP_THRESHOLD_' in os.environ:
        return False
    libc = ctypes.CDLL(None)
    return bool(
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        and libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
    )
