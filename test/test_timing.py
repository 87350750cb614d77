# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Elapsed time in milliseconds."""

from __future__ import annotations

import time

from dff_ros import timing


def test_nanoseconds_become_milliseconds(monkeypatch):
    monkeypatch.setattr(time, 'perf_counter_ns', lambda: 5_250_000)
    assert timing.ms_since(1_000_000) == 4.25
