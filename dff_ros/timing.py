# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Time spent, in milliseconds."""

import time


def ms_since(start_ns: int) -> float:
    """Milliseconds since a reading of `time.perf_counter_ns`."""
    return (time.perf_counter_ns() - start_ns) / 1e6
