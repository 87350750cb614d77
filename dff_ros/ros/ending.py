# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A process that ends with the one that started it, however that ends (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping

ENDS_WITH_PARENT = 'DFF_ENDS_WITH_PARENT'
"""Environment variable that asks a node for it; its value is the process id of the parent.

The launch files set it: `ros2 launch` leaves its nodes running where it is ended by SIGTERM (by a service
manager, by `timeout`) or SIGKILL.
"""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Loaded here: a child between fork and exec must not import.
_libc = ctypes.CDLL(None) if sys.platform == 'linux' else None


def end_with_parent() -> None:
    """Let the kernel send this process SIGTERM when the thread that started it ends; nothing elsewhere."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def is_parent_there(environ: Mapping[str, str]) -> bool:
    """Whether there is still somebody to run for: not where ENDS_WITH_PARENT names a process that has ended.

    Where it is set this process ends with its parent from now on.
    """
    parent = environ.get(ENDS_WITH_PARENT, '')
    if not parent.isdecimal():
        return True
    end_with_parent()
    # Looked at after the kernel was told: who ended before then is missed by the one, not by the other.
    return os.getppid() == int(parent) or os.path.exists(f'/proc/{parent}')
