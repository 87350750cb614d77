# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Training sets of the simulated street: frames of many streets, rendered once and mapped from a folder.

Kept as plain arrays (.npy): a batch then costs a few page reads, where decoding PNG would cost more than
the whole augmentation.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from dff_ros.data.samples import Sample
from dff_ros.data.whole_folder import whole_folder
from dff_ros.errors import ConfigError, DataError

IMAGES_FILE = 'images.npy'
LABELS_FILE = 'labels.npy'
FACTS_FILE = 'street_set.json'

_FRAMES_PER_STREET = 10
_FRAMES_APART = 90
"""At 30 Hz: three seconds, after which a driver sees another scene."""
_SEED_STEP = 1_000_003
"""Streets of different set seeds are different ones."""

ShowProgress = Callable[[int, int], None]
SpecT = TypeVar('SpecT', bound='StreetSetSpec')


@dataclass(frozen=True, kw_only=True)
class StreetSetSpec:
    """What a set holds; `renderer` is a digest of the renderer's source: a change of it makes a new set."""

    num_frames: int
    size: tuple[int, int]
    seed: int
    renderer: str = field(default_factory=lambda: _renderer_digest())

    @property
    def folder_name(self) -> str:
        """Unique name of the set's folder."""
        height, width = self.size
        return f'{width}x{height}-{self.num_frames}-seed{self.seed}-{self.renderer[:12]}'

    def street_seed(self, street: int) -> int:
        """The seed of the street of that number."""
        return self.seed * _SEED_STEP + street + 1

    def frames(self, street: int) -> range:
        """Which samples of the set are frames of the street of that number."""
        first = street * _FRAMES_PER_STREET
        return range(first, min(first + _FRAMES_PER_STREET, self.num_frames))

    def place(self, sample: int) -> tuple[int, int]:
        """(street, position in it) of a sample."""
        return divmod(sample, _FRAMES_PER_STREET)

    @property
    def num_streets(self) -> int:
        """How many streets the frames come from."""
        return -(-self.num_frames // _FRAMES_PER_STREET)


class StreetSet:
    """The rendered samples in a folder; DataError where files are missing, damaged or of another set."""

    def __init__(self, folder: Path, spec: StreetSetSpec) -> None:
        try:
            self._images = np.load(folder / IMAGES_FILE, mmap_mode='r')
            self._labels = np.load(folder / LABELS_FILE, mmap_mode='r')
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f'the rendered street in {folder} is unusable: {error}. Delete the folder'
            ) from error
        expected = (spec.num_frames, *spec.size)
        if self._labels.shape != expected or self._images.shape != (*expected, 3):
            raise DataError(f'{folder} has labels {self._labels.shape}, not {expected}. Delete the folder')

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        image: NDArray[np.uint8] = np.array(self._images[index])
        labels: NDArray[np.uint8] = np.array(self._labels[index])
        return Sample(f'street_{index:06d}', image, labels)


def open_street_set(
    cache: Path,
    num_frames: int,
    seed: int,
    show: ShowProgress | None = None,
    size: tuple[int, int] = (360, 480),
    processes: int | None = None,
) -> StreetSet:
    """The set in `cache`, rendered now if it is not there; `show(done, total)` is called as frames are done.

    The frames depend on `seed`, `size` and the renderer only. A broken-off rendering leaves nothing behind
    that a later call would take for a set. Raises ConfigError on fewer than 1 frame, DataError where the disk
    refuses.
    """
    if num_frames < 1:
        raise ConfigError(f'a street set needs at least 1 frame, got {num_frames}')
    spec = StreetSetSpec(num_frames=num_frames, size=size, seed=seed)
    folder = cache / spec.folder_name
    arrays = {IMAGES_FILE: ('uint8', (*size, 3)), LABELS_FILE: ('uint8', size)}
    render_once(folder, spec, arrays, _render_street, show, processes)
    return StreetSet(folder, spec)


def render_once(
    folder: Path,
    spec: SpecT,
    arrays: Mapping[str, tuple[str, tuple[int, ...]]],
    render: Callable[[Path, SpecT, int], int],
    show: ShowProgress | None = None,
    processes: int | None = None,
) -> None:
    """Fill `folder` with a set, unless it holds one: all of it or nothing.

    `arrays`: file name -> dtype and shape of one frame; `render(folder, spec, street)`, which other processes
    call, writes the frames of one street into them and tells how many. DataError where the disk refuses.
    """
    if (folder / FACTS_FILE).is_file():
        return
    show, processes = show or (lambda done, total: None), processes or len(os.sched_getaffinity(0))
    with whole_folder(folder, 'render the street into', is_shared=True) as temporary:
        for name, (dtype, shape) in arrays.items():
            open_memmap(temporary / name, 'w+', np.dtype(dtype), (spec.num_frames, *shape)).flush()
        done = 0
        for rendered in _render_all(temporary, spec, render, processes):
            done += rendered
            show(done, spec.num_frames)
        (temporary / FACTS_FILE).write_text(json.dumps(asdict(spec)) + '\n', encoding='utf-8')


def _render_all(
    folder: Path, spec: SpecT, render: Callable[[Path, SpecT, int], int], processes: int
) -> Iterator[int]:
    """Yields the number of frames of each street that is done."""
    if processes == 1 or spec.num_streets == 1:
        yield from (render(folder, spec, street) for street in range(spec.num_streets))
        return
    # spawn: forking a process that has torch's threads can hang.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context('spawn')) as pool:
        futures = [pool.submit(render, folder, spec, street) for street in range(spec.num_streets)]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _render_street(folder: Path, spec: StreetSetSpec, street: int) -> int:
    import cv2

    from dff_ros.data.street import Street

    cv2.setNumThreads(1)
    images = open_memmap(folder / IMAGES_FILE, 'r+')
    labels = open_memmap(folder / LABELS_FILE, 'r+')
    drive = Street(spec.street_seed(street), spec.size)
    samples = spec.frames(street)
    for position, sample in enumerate(samples):
        frame = drive.frame(position * _FRAMES_APART)
        images[sample] = frame.image_HW3
        labels[sample] = frame.labels_HW
    return len(samples)


def _renderer_digest() -> str:
    """Digest of all that frames of the street depend on besides a set's spec."""
    package = Path(__file__).parent
    digest = hashlib.sha256(f'{_FRAMES_PER_STREET} {_FRAMES_APART} {_SEED_STEP}'.encode())
    for path in sorted((package / 'street').glob('*.py')):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
