# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a process takes of the machine, as Linux tells it."""

from __future__ import annotations

import os
from pathlib import Path


def resident_mb(pid: int) -> float:
    """Physical memory of a process, 10^6 bytes."""
    pages = int(Path(f'/proc/{pid}/statm').read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def processor_s(pid: int) -> float:
    """Processor time that all threads of a process have taken, in seconds, to 10 ms on most machines."""
    text = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8')
    fields = text.rpartition(')')[2].split()  # the name before may hold spaces
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf('SC_CLK_TCK')
