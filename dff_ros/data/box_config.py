# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Which boxes training takes, and which it leaves undecided; apart, so that flags need no data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dff_ros.config import Validated, param
from dff_ros.errors import ConfigError

ALL = 'all'


@dataclass(frozen=True, kw_only=True)
class BoxConfig(Validated):
    """Boxes that are too hard to find are ignored: neither objects nor background."""

    classes: str = param(
        ALL,
        'Classes of boxes that the model finds, separated by commas; all: those of the data, in the order in '
        'which they appear; empty: no detection',
    )
    min_share: float = param(
        0.35,
        'A box of which the crop leaves less than this share of its area is ignored',
        minimum=0.0,
        maximum=1.0,
    )
    min_visibility: float = param(
        0.2,
        'One of which others hide more than all but this share is ignored, where the data tells',
        minimum=0.0,
        maximum=1.0,
    )
    min_side: float = param(
        4.0,
        'One whose shorter side in the crop is below this is ignored',
        minimum=0.0,
        maximum=1000.0,
        unit='px',
    )

    @property
    def is_used(self) -> bool:
        """Whether there is detection at all."""
        return bool(self.classes.strip())

    def chosen(self, known: Iterable[str]) -> tuple[str, ...]:
        """The classes of the model, `known` being those of the data in order, each maybe several times.

        ConfigError where one of those asked for is in no data, or is given twice.
        """
        there = tuple(dict.fromkeys(known))
        if self.classes.strip() == ALL:
            return there
        names = tuple(name.strip() for name in self.classes.split(',') if name.strip())
        unknown = [name for name in names if name not in there]
        if unknown or len(set(names)) != len(names):
            raise ConfigError(
                f'boxes.classes: got {self.classes!r}; the data has boxes of '
                f'{", ".join(there) or "no class"}: give each of those wanted once, or {ALL!r}'
            )
        return names
