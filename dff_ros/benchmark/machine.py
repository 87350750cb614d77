# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The machine under a benchmark: its name, and what a process takes of it."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dff_ros.backends.base import available_cores

_POWERCAP = Path('/sys/class/powercap')
_PACKAGE = re.compile(r'intel-rapl:\d+')
_CPU_INFO = Path('/proc/cpuinfo')


def machine_name(device: str = 'cpu') -> str:
    """What computes, for the name of a folder: `amd-epyc-4-cores`, `nvidia-h100`. `device`: BackendInfo's."""
    found = re.fullmatch(r'[^(]*\((.+)\)', device)
    words = found[1] if found else f'{_cpu_model()} {available_cores()} cores'
    return re.sub(r'[^a-z0-9]+', '-', words.lower()).strip('-')


def _cpu_model() -> str:
    try:
        text = _CPU_INFO.read_text(encoding='utf-8')
    except OSError:
        return 'cpu'
    found = re.search(r'^(?:model name|Model)\s*:\s*(.+)$', text, re.MULTILINE)
    return re.sub(r'\((R|TM)\)|CPU|Processor|@.*', '', found[1]).strip() if found else 'cpu'


def peak_memory_mb() -> float:
    """The most physical memory that this process held so far, 10^6 bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == 'darwin' else most * 1024 / 1e6


def device_memory_mb() -> float | None:
    """The most that torch held on a CUDA device, 10^6 bytes; None where it holds nothing there."""
    torch = sys.modules.get('torch')
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return float(torch.cuda.max_memory_reserved()) / 1e6


def warp_bandwidth(backend: str, device: str) -> dict[str, float | None] | None:
    """How near equation (3) comes to a copy within a CUDA device on which torch computes: 10^9 bytes per
    second, and the share of the copy's (backends/cuda/bandwidth.py); None elsewhere.
    """
    if backend != 'torch' or not device.startswith('cuda'):
        return None
    import torch

    from dff_ros.backends.cuda.bandwidth import warp_bandwidth

    found = warp_bandwidth(torch.device('cuda'))
    figures = {
        'copy_gb_s': found.copy,
        'fused_gb_s': found.fused,
        'grid_sample_gb_s': found.grid_sample,
        'fused_fraction': found.fused_fraction,
        'grid_sample_fraction': found.grid_sample_fraction,
    }
    return {name: None if value is None else round(value, 3) for name, value in figures.items()}


def energy_counters() -> Sequence[Callable[[], float]]:
    """Joules so far, of each CPU package (RAPL) and NVIDIA GPU (NVML) that tells them: the whole machine's,
    so run nothing beside.
    """
    return [*_packages(), *_gpus()]


def _packages() -> list[Callable[[], float]]:
    if not _POWERCAP.is_dir():
        return []
    folders = sorted(path for path in _POWERCAP.iterdir() if _PACKAGE.fullmatch(path.name))
    return [counter for counter in map(_package, folders) if counter is not None]


def _package(folder: Path) -> Callable[[], float] | None:
    """Its counter goes back to 0 at a maximum: what is told only grows."""
    try:
        span = int((folder / 'max_energy_range_uj').read_text(encoding='ascii'))
        last, laps = int((folder / 'energy_uj').read_text(encoding='ascii')), 0
    except (OSError, ValueError):  # for root alone on many systems
        return None

    def joules() -> float:
        nonlocal last, laps
        now = int((folder / 'energy_uj').read_text(encoding='ascii'))
        laps += now < last
        last = now
        return (laps * span + now) / 1e6

    return joules


def _gpus() -> list[Callable[[], float]]:
    try:
        import pynvml  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return []
    return [_gpu(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle) for handle in handles]


def _gpu(read: Callable[[object], int], handle: object) -> Callable[[], float]:
    return lambda: read(handle) / 1e3
