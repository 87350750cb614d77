# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How near the warp comes to what the memory of a device can carry: to a copy of as many bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dff_ros.backends.cuda.kernels_in_use import load_kernels
from dff_ros.nets.warp import propagate

_CELLS = (64, 128)
"""Of an image of 1024x2048 at stride 16."""
_CHANNELS = 1024
_NUM_SETS = 6
"""Inputs in turn: together they do not fit the cache of a device."""
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class WarpBandwidth:
    """10^9 bytes per second that equation (3) needs to read and write, per second that it takes.

    `fused`: in one kernel, None where there are none (kernels_in_use.py); `grid_sample`: by torch's
    operators; `copy`: a copy within the device, its bytes read and written counted alike.
    """

    copy: float
    grid_sample: float
    fused: float | None

    @property
    def grid_sample_fraction(self) -> float:
        """Of the copy's."""
        return self.grid_sample / self.copy

    @property
    def fused_fraction(self) -> float | None:
        """Of the copy's."""
        return None if self.fused is None else self.fused / self.copy


@torch.inference_mode()
def warp_bandwidth(
    device: torch.device,
    dtype: torch.dtype = torch.float16,
    cells: tuple[int, int] = _CELLS,
    channels: int = _CHANNELS,
) -> WarpBandwidth:
    """Measure them, with the feature of a ResNet-101 at 1024x2048 and a smooth flow of a few cells."""
    sets = [_inputs(device, dtype, cells, channels, seed) for seed in range(_NUM_SETS)]
    feature, flow, scale = sets[0]
    # Feature and scale map are read once, the flow too, and the answer is written.
    num_bytes = 3 * feature.numel() * feature.element_size() + flow.numel() * flow.element_size()
    halves = [torch.empty((2, num_bytes // 2), dtype=torch.uint8, device=device) for _ in sets]

    def rate(steps: Sequence[Callable[[], object]]) -> float:
        return num_bytes / _seconds(device, steps) / 1e9

    kernels = load_kernels(device) if device.type == 'cuda' else None
    fused = None if kernels is None else rate([partial(kernels.propagate, *given) for given in sets])
    return WarpBandwidth(
        copy=rate([partial(pair[1].copy_, pair[0]) for pair in halves]),
        grid_sample=rate([partial(propagate, *given) for given in sets]),
        fused=fused,
    )


def _inputs(
    device: torch.device, dtype: torch.dtype, cells: tuple[int, int], channels: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    feature, scale = (
        torch.rand((1, channels, *cells), generator=generator)
        .to(device, dtype)
        .contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    )
    coarse = 4 * torch.randn((1, 2, 4, 4), generator=generator)
    flow = torch.nn.functional.interpolate(coarse, size=cells, mode='bilinear')
    return feature, flow.to(device), scale


def _seconds(device: torch.device, steps: Sequence[Callable[[], object]]) -> float:
    """Time of one step, the best of several rounds of all of them."""
    for step in steps:
        step()
    if device.type != 'cuda':
        return min(_timed(steps) for _ in range(3)) / len(steps)
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        torch.cuda.synchronize(device)
        for step in steps:
            step()
        # Captured, or Python would be what is timed.
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for step in steps:
                step()
        graph.replay()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        times_ms = []
        for _ in range(_ROUNDS):
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            times_ms.append(begin.elapsed_time(end))
    return min(times_ms) / 1e3 / len(steps)


def _timed(steps: Sequence[Callable[[], object]]) -> float:
    start_s = time.perf_counter()
    for step in steps:
        step()
    return time.perf_counter() - start_s
