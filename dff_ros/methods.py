# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The methods of an evaluation: what is behind each name, and which a bundle and a task have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dff_ros.errors import ConfigError
from dff_ros.evaluation.table import METHODS
from dff_ros.model_spec import HAND_MADE_FLOWS, ModelSpec

CLOCKWORK = 'clockwork'

_FLOWS = {'dff': 'bundle', 'copy': 'zero', 'dis': 'dis', CLOCKWORK: CLOCKWORK}
_PLAIN, _CORRECTED = '-plain', '-corrected'


class Setup(NamedTuple):
    """What a method propagates with: a setting `flow` or stage reuse, and whether the result is corrected."""

    flow: str
    is_corrected: bool


def setups_of(names: Sequence[str] | None, spec: ModelSpec, task: str) -> dict[str, Setup]:
    """What is behind each method of a task; None: the default ones. Raises ConfigError as `setup_of`."""
    if names is None:
        names = [name for name in default_methods(spec) if name != CLOCKWORK or task == 'segmentation']
    elif CLOCKWORK in names and task != 'segmentation':
        raise ConfigError(f'method {CLOCKWORK} is for segmentation, not {task}: leave it out')
    return {name: setup_of(name, spec) for name in names}


def default_methods(spec: ModelSpec) -> tuple[str, ...]:
    """The paper's methods, and the bundle's own without its correction if it has one."""
    plain = (f'dff{_PLAIN}',) if spec.correction_channels else ()
    return ('dff', *plain, 'copy', 'dis', CLOCKWORK)


def setup_of(method: str, spec: ModelSpec) -> Setup:
    """What is behind a method; equal setups run once. Hand-made flow of the bundle is named for that.

    Raises ConfigError for an unknown method, and for one that needs a correction branch which the bundle
    lacks.
    """
    if method not in METHODS:
        raise ConfigError(f'unknown method {method!r}; known are {", ".join(METHODS)}')
    is_named = method.endswith((_PLAIN, _CORRECTED))
    if is_named and not spec.correction_channels:
        raise ConfigError(f'method {method}: the bundle has no correction branch; leave the method out')
    own = method.removesuffix(_PLAIN).removesuffix(_CORRECTED)
    flow = _FLOWS[own]
    if flow == 'bundle' and spec.flow_source in HAND_MADE_FLOWS:
        flow = spec.flow_source
    is_corrected = method == 'dff' or method.endswith(_CORRECTED)
    return Setup(flow, is_corrected and spec.correction_channels > 0)
