# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Streams that begin together make their key frames at different times: pure functions of a signal."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from dff_ros.errors import ConfigError
from dff_ros.scheduling import Signal


@dataclass(frozen=True, slots=True)
class Phase:
    """The place of a stream among `count` with equal schedulers; `index` counts from 0.

    The first interval, after a key frame that no other came before, is `(count - index) / count` of a whole
    one: streams that begin or are reset together then never refresh together, as far as there are enough
    frames in the interval. Raises ConfigError unless 0 <= index < count.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f'phase {self.index} of {self.count}: the first is 0, the last {self.count - 1}'
            )

    def in_first_interval(self, signal: Signal) -> Signal:
        """The signal with the key frame so much older that every limit on its age comes early."""
        left = self.count - self.index
        return dataclasses.replace(
            signal,
            frames_since_key=signal.frames_since_key * self.count // left,
            seconds_since_key=signal.seconds_since_key * self.count / left,
        )
