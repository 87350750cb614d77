# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""When the node warns on `/diagnostics`: the settings `diagnostics.*`; dff_ros.config has them too."""

from __future__ import annotations

from dataclasses import dataclass

from dff_ros.settings import Validated, param


@dataclass(frozen=True, kw_only=True)
class DiagnosticsConfig(Validated):
    """When `/diagnostics` warns."""

    latency_warn_ms: float = param(
        0.0,
        'WARN where the 99th percentile of the latency is above; 0 for two budgets (budget_ms), without a '
        'budget two periods of the camera',
        minimum=0.0,
        maximum=60000.0,
        unit='ms',
        runtime=True,
    )
    latency_error_ms: float = param(
        0.0,
        'ERROR where the 99th percentile of the latency is above; 0 for two and a half times what WARN takes',
        minimum=0.0,
        maximum=60000.0,
        unit='ms',
        runtime=True,
    )
    stale_s: float = param(
        2.0,
        'STALE where no image has come for longer, ERROR where images come and none was answered for longer',
        minimum=0.1,
        maximum=3600.0,
        unit='s',
        runtime=True,
    )
