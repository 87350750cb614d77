# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Shared memory that processes left behind: a node that is killed cannot give its segment back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path

FOLDER = Path('/dev/shm')
_LOCK = re.compile(r'(fastrtps_[0-9a-f]{16})_el')
"""Fast DDS holds the lock on this file for as long as the process of the segment beside it lives."""


def remove_abandoned(folder: Path = FOLDER) -> int:
    """Remove the segments of Fast DDS whose processes have ended, as `fastdds shm clean` does; how many.

    Those of other users, and whatever cannot be removed, stay.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # no such folder: no such transport
        return 0
    found = [match for match in map(_LOCK.fullmatch, names) if match]
    return sum(_remove(folder / match[0], folder / match[1]) for match in found)


def _remove(lock: Path, segment: Path) -> bool:
    try:
        with lock.open('rb+') as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError while the process lives
            with contextlib.suppress(FileNotFoundError):
                segment.unlink()
            lock.unlink()
    except OSError:
        return False
    return True
