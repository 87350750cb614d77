# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Answers a recording on the fake backend and is killed where the environment says: SOURCE OUT STORAGE."""

from __future__ import annotations

import sys
from pathlib import Path

from made_bags import open_fake

from dff_ros.bag_job import BagJob, BagOptions
from dff_ros.bag_run import answer_bag
from dff_ros.config import DffConfig, KeyframeConfig

CONFIG = DffConfig(keyframe=KeyframeConfig(scheduler='budget', budget_over='motion', key_ratio=0.3, cut=1.0))
"""A scheduler with a state, which follows from all that was measured before."""

PART_FRAMES = 4

if __name__ == '__main__':
    source, out, storage = sys.argv[1:]
    options = BagOptions(part_frames=PART_FRAMES, storage=storage)
    answer_bag(BagJob(Path(source), Path(out), CONFIG, options), open_model=open_fake)
