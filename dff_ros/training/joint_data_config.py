# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What joint training is fed with; its flags are derived from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from dff_ros.config import Validated, param
from dff_ros.data.box_config import BoxConfig
from dff_ros.data.motion_config import MotionConfig
from dff_ros.data.pair_config import PairConfig
from dff_ros.errors import ConfigError

LABELLED, BOXED, UNLABELLED, MADE, STREET = KINDS = ('labelled', 'boxed', 'unlabelled', 'made', 'street')
"""Kinds of pairs, in their order in a batch."""


@dataclass(frozen=True, kw_only=True)
class JointDataConfig(Validated):
    """Where pairs come from, and how many of each kind a batch has."""

    labelled: str = param(
        '',
        'Data sets with labels or boxes, LAYOUT:PATH or PATH, separated by commas; label maps all of the '
        'same classes; PATH#FIRST-LAST takes some frames of each sequence (from 1)',
    )
    boxed: str = param(
        '', 'Further ones, given alike, with a share of their own: those that have boxes and no label maps'
    )
    split: str = param('train', 'The split of both; a set that is not divided is taken whole')
    unlabelled: str = param(
        '',
        'Videos without labels, separated by commas: files, folders of frames, folders of such folders; '
        'PATH#FIRST-LAST takes some frames of each (from 1), PATH@FPS tells the rate of a folder, '
        'PATH=BOXES.json has boxes that a teacher found',
    )
    made_images: str = param('', 'Further images, given alike, to make pairs of besides the labelled ones')
    street: int = param(
        0, 'Pairs of the simulated street to train on, rendered once', minimum=0, maximum=1_000_000
    )
    street_fps: float = param(30.0, 'Their frame rate', minimum=1.0, maximum=1000.0, unit='Hz')
    labelled_share: int = param(
        2, 'Labelled pairs in a batch, relative to the other kinds', minimum=0, maximum=4096
    )
    boxed_share: int = param(2, 'Pairs of data.boxed, likewise', minimum=0, maximum=4096)
    unlabelled_share: int = param(2, 'Pairs of unlabelled video, likewise', minimum=0, maximum=4096)
    made_share: int = param(3, 'Pairs made of images, likewise', minimum=0, maximum=4096)
    street_share: int = param(1, 'Pairs of the simulated street, likewise', minimum=0, maximum=4096)
    held_out: float = param(
        0.1,
        'Share of the labelled frames of each set, and of each unlabelled video, that is never trained on',
        minimum=0.0,
        maximum=0.9,
    )
    memory_mib: int = param(
        2048, 'Decoded frames are kept in memory up to so much', minimum=0, maximum=1_000_000, unit='MiB'
    )
    video_cache: str = param('runs/cache/videos', 'Folder for unpacked video files')
    boxes: BoxConfig = dataclasses.field(default_factory=BoxConfig)
    pairs: PairConfig = dataclasses.field(default_factory=PairConfig)
    motion: MotionConfig = dataclasses.field(default_factory=MotionConfig)

    def per_batch(self, batch: int) -> dict[str, int]:
        """How many pairs of each kind that there is a batch has; ConfigError where it has no room for one."""
        is_there = {
            LABELLED: bool(self.labelled),
            BOXED: bool(self.boxed),
            UNLABELLED: bool(self.unlabelled),
            MADE: bool(self.labelled or self.made_images),
            STREET: self.street > 0,
        }
        shares: dict[str, int] = {kind: getattr(self, f'{kind}_share') for kind in KINDS if is_there[kind]}
        shares = {kind: share for kind, share in shares.items() if share > 0}
        if not shares:
            raise ConfigError(
                'data: nothing to train on: give --data.labelled PATH, --data.boxed PATH, '
                '--data.unlabelled PATH, --data.made_images PATH or --data.street N, with a share of the '
                'batch above 0'
            )
        exact = {kind: batch * share / sum(shares.values()) for kind, share in shares.items()}
        counts = {kind: int(wanted) for kind, wanted in exact.items()}
        by_rest = sorted(exact, key=lambda kind: counts[kind] - exact[kind])
        for kind in by_rest[: batch - sum(counts.values())]:
            counts[kind] += 1
        if empty := [kind for kind, count in counts.items() if count == 0]:
            raise ConfigError(
                f'batch: {batch} has no room for {" and ".join(empty)} pairs beside the others; choose a '
                f'larger batch or other shares ({", ".join(f"data.{kind}_share" for kind in shares)})'
            )
        return counts
