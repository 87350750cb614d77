# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Instructions of the CPU that decide how, and whether, a precision is computed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_CPU_INFO = Path('/proc/cpuinfo')
_BF16 = {'avx512_bf16', 'amx_bf16', 'avx_ne_convert', 'bf16'}


def lacks_wide_sums(flags: frozenset[str] | None = None) -> bool:
    """Whether an x86 CPU sums products of uint8 and int8 in 16 bits (no VNNI), where they can overflow: 8-bit
    graphs then have to take the slower way. `flags`: those of this machine by default.
    """
    flags = cpu_flags() if flags is None else flags
    return 'sse2' in flags and not any('vnni' in flag for flag in flags)


def has_bf16(flags: frozenset[str] | None = None) -> bool:
    """Whether the CPU multiplies bfloat16, x86 or ARM. `flags`: those of this machine by default."""
    return not _BF16.isdisjoint(cpu_flags() if flags is None else flags)


@cache
def cpu_flags() -> frozenset[str]:
    """Features of the first core as Linux names them; none where it does not tell."""
    try:
        lines = _CPU_INFO.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, values = line.partition(':')
        if name.strip() in ('flags', 'Features'):
            return frozenset(values.split())
    return frozenset()
