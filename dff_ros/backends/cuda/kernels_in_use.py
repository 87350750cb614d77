# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Which kernels a CUDA device runs: those of Triton where they compile and are right, else torch's own."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch

from dff_ros.nets.fused import Kernels

_logger = logging.getLogger(__name__)


@lru_cache(maxsize=8)
def load_kernels(device: torch.device) -> Kernels | None:
    """The fused kernels, after a trial on the device; None where they cannot be used, which is logged.

    The trial compiles them, which takes some seconds the first time (Triton keeps them on disk).
    """
    try:
        from dff_ros.backends.cuda.kernels import TritonKernels, check

        kernels = TritonKernels()
        with torch.cuda.device(device):
            check(kernels, device)
    except Exception as error:  # Triton's have no common base: no compiler, no such chip, wrong numbers
        _logger.warning('no fused kernels, torch computes in several passes: %s', error)
        return None
    return kernels
