"""CamVid in its 11-class layout: `images/SPLIT/NAME.jpg`, `labels/SPLIT/NAME.png` and `splits/SPLIT.txt`.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video: A high-definition ground truth database", 2009.
"""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.data.classes import CAMVID_CLASSES, IGNORE_ID
from dff_ros.data.samples import Sample
from dff_ros.errors import DataError

SPLITS = ('train', 'val', 'test')

_VOID = len(CAMVID_CLASSES)
_RATE_HZ = 30
_SEQUENCE_GAP_NS = 60_000_000_000
_NAME = re.compile(r'(?P<sequence>.+?)_f?(?P<number>\d+)$')


class CamVid:
    """One split (`train`, `val` or `test`) in the order of its list; void is 255.

    Stamps are the frame numbers of the 30 Hz recording; each further sequence begins a minute after the one
    before, so that they never go backward and a stream that plays them sees the pause. Raises DataError on an
    unknown split, a missing folder, list or file, and, when a sample is read, on a damaged file, a label map
    of another size than its image, or a class id that does not exist.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        self.root = Path(root)
        self.split = split
        if split not in SPLITS:
            raise DataError(f'camvid has no split {split!r}; it has ' + ', '.join(SPLITS))
        self.names = self._read_list()
        self._stamps_ns = _stamps_ns(self.names)
        self._find_files()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image = cv2.cvtColor(_read(self.image_path(name), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        labels = _read_labels(self.label_path(name))
        if labels.shape != image.shape[:2]:
            raise DataError(
                f'{self.label_path(name)} is {labels.shape[1]}x{labels.shape[0]} pixels, '
                f'its image {image.shape[1]}x{image.shape[0]}: they must be equal'
            )
        return Sample(name, np.asarray(image, np.uint8), labels, self._stamps_ns[index])

    def image_path(self, name: str) -> Path:
        """Where the image of that name is."""
        return self.root / 'images' / self.split / f'{name}.jpg'

    def label_path(self, name: str) -> Path:
        """Where the label map of that name is."""
        return self.root / 'labels' / self.split / f'{name}.png'

    def _read_list(self) -> list[str]:
        path = self.root / 'splits' / f'{self.split}.txt'
        if not self.root.is_dir():
            raise DataError(
                f'camvid folder {self.root} does not exist: give the one with images/, labels/ and splits/'
            )
        try:
            names = path.read_text(encoding='utf-8').split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f'camvid list {path} cannot be read: {error}') from error
        if not names:
            raise DataError(f'camvid list {path} is empty: it takes one file name without ending per line')
        return names

    def _find_files(self) -> None:
        paths = [path for name in self.names for path in (self.image_path(name), self.label_path(name))]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise DataError(
                f'camvid {self.split}: {len(missing)} of {len(paths)} files are missing, '
                f'the first is {missing[0]}'
            )


def _stamps_ns(names: list[str]) -> list[int]:
    stamps: list[int] = []
    sequence, offset = '', 0
    for index, name in enumerate(names):
        match = _NAME.match(name)
        if match is None:
            raise DataError(f'camvid name {name!r} is not of the form SEQUENCE_NUMBER')
        time = int(match['number']) * 1_000_000_000 // _RATE_HZ
        if match['sequence'] != sequence:
            offset = (stamps[-1] + _SEQUENCE_GAP_NS if index else 0) - time
            sequence = match['sequence']
        stamps.append(time + offset)
    return stamps


def _read(path: Path, flags: int) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(path), flags)
    if pixels is None:
        raise DataError(f'{path} cannot be decoded: it is missing or damaged')
    return np.asarray(pixels)


def _read_labels(path: Path) -> NDArray[np.uint8]:
    labels = _read(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DataError(f'{path} must have one channel of 8 bits, it is {labels.dtype} {labels.shape}')
    if labels.max() > _VOID:
        raise DataError(
            f'{path} has class id {labels.max()}; allowed are 0 to {_VOID - 1}, and {_VOID} for void'
        )
    return np.where(labels == _VOID, np.uint8(IGNORE_ID), labels)
