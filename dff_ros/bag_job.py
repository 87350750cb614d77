# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What is to be done with one recording, and all that its answers follow from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.config import DffConfig, to_flat

if TYPE_CHECKING:
    from dff_ros.bag_input import Bag, Camera
    from dff_ros.model import Model

STORAGES = ('mcap', 'sqlite3')
PART_FRAMES = 1000
_NOT_OF_THE_ANSWERS = ('num_threads', 'refresh_threads', 'image_transport', 'diagnostics.')


@dataclass(frozen=True, slots=True, kw_only=True)
class BagOptions:
    """What is read and written. `topics` empty: the only image topic; `storage` empty: that of the input."""

    topics: tuple[str, ...] = ()
    storage: str = ''
    outputs_only: bool = False
    overlay: bool = False
    part_frames: int = PART_FRAMES
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class BagJob:
    """One recording to answer, and where the new one goes."""

    source: Path
    out: Path
    config: DffConfig
    options: BagOptions


@dataclass(frozen=True, slots=True)
class Progress:
    """Messages of the input so far and in all."""

    done: int
    total: int


Tell = Callable[[Progress | str], None]
"""Is told the progress, and warnings as text."""


def run_settings(job: BagJob, bag: Bag, cameras: list[Camera], model: Model) -> dict[str, object]:
    """All that the new recording follows from, by name."""
    config = {
        name: value for name, value in to_flat(job.config).items() if not name.startswith(_NOT_OF_THE_ANSWERS)
    }
    options = job.options
    return {
        **{f'input {name}': value for name, value in bag.fingerprint().items()},
        **config,
        'bundle manifest': model.identity,
        '--topic': [camera.topic for camera in cameras],
        '--storage': options.storage or bag.storage,
        '--outputs-only': options.outputs_only,
        '--overlay': options.overlay,
        '--part-frames': options.part_frames,
    }
