# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Writes the simulated street as a data set of the folder layout."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from dff_ros.data.classes import CAMVID_CLASSES, CAMVID_COLOURS
from dff_ros.data.layouts.folder import CLASSES_FILE, FRAMES, LABELS
from dff_ros.data.street_config import RenderConfig, StreetVideosConfig
from dff_ros.data.street_videos import StreetVideos
from dff_ros.data.whole_folder import whole_folder
from dff_ros.errors import DataError

ShowProgress = Callable[[int, int], None]

_JPEG_QUALITY = 95


def write_street(
    root: Path, config: RenderConfig, show: ShowProgress | None = None, processes: int | None = None
) -> None:
    """Write the splits train and val, each of streets of its own.

    `root` must not exist or be empty; it appears as a whole. `show(done, total)` counts streets. Raises
    DataError where the folder is in use or the disk refuses.
    """
    root = root.absolute()
    with whole_folder(root, 'write the street to') as temporary:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DataError(f'{root} is not empty: give a new folder, nothing was written')
        (temporary / CLASSES_FILE).write_text(_classes_yaml(config.fps), encoding='utf-8')
        _write_sequences(temporary, config, show or (lambda done, total: None), processes)


def _write_sequences(root: Path, config: RenderConfig, show: ShowProgress, processes: int | None) -> None:
    splits = ['train'] * config.sequences + ['val'] * config.val_sequences
    tasks = []
    for number, split in enumerate(splits):
        street = replace(config, sequences=1, seed=config.seed + number)
        tasks.append((root / split / f'street_{street.seed:04d}', street))
    workers = min(processes or len(os.sched_getaffinity(0)), len(tasks))
    if workers <= 1:
        for done, (folder, street) in enumerate(tasks, 1):
            _write_sequence(folder, street)
            show(done, len(tasks))
        return
    # spawn: forking a process that has threads can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context('spawn')) as pool:
        futures = [pool.submit(_write_sequence, folder, street) for folder, street in tasks]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                show(done, len(tasks))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _write_sequence(folder: Path, config: StreetVideosConfig) -> None:
    import cv2

    cv2.setNumThreads(1)
    videos = StreetVideos(config)
    (folder / FRAMES).mkdir(parents=True)
    (folder / LABELS).mkdir()
    for index in range(config.frames):
        image = np.ascontiguousarray(videos.frame(0, index).image_HW3[..., ::-1])
        _, jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        (folder / FRAMES / f'{index:06d}.jpg').write_bytes(jpeg.tobytes())
        labels = videos.labels(0, index)
        if labels is not None:
            (folder / LABELS / f'{index:06d}.png').write_bytes(cv2.imencode('.png', labels)[1].tobytes())


def _classes_yaml(fps: float) -> str:
    lines = [
        f'  - {{name: {name}, colour: [{", ".join(map(str, colour))}]}}'
        for name, colour in zip(CAMVID_CLASSES, CAMVID_COLOURS.tolist(), strict=True)
    ]
    return '\n'.join(['classes:', *lines, 'void: [255]', f'fps: {fps:g}', ''])
