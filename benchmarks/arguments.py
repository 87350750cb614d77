# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Arguments that a script passes on to `dff train dff`, and the command as its results tell it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ABSOLUTE = re.compile(r'(?<![\w.])/(?:[^/,:#@\s]+/)*([^/,:#@\s]+/[^/,:#@\s]+)')


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The script's own, and those after `--`."""
    words = list(arguments)
    if '--' not in words:
        return words, []
    at = words.index('--')
    return words[:at], words[at + 1 :]


def command(script: str, arguments: Sequence[str]) -> str:
    """How the script was called; of absolute paths only the last two names, the rest is one machine's."""
    words = [_ABSOLUTE.sub(r'\1', word) for word in arguments]
    return ' '.join(['python', f'benchmarks/{script}', *words])
