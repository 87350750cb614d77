# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""CamVid in its 11-class layout: `images/SPLIT/NAME.jpg`, `labels/SPLIT/NAME.png` and `splits/SPLIT.txt`.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video: A high-definition ground truth database", 2009.
"""

from __future__ import annotations

import re
from pathlib import Path

from dff_ros.data.classes import CAMVID_CLASSES
from dff_ros.data.images import read_image
from dff_ros.data.label_files import coding, read_values
from dff_ros.data.samples import Sample
from dff_ros.errors import DataError

SPLITS = ('train', 'val', 'test')

CODING = coding(CAMVID_CLASSES, void=(len(CAMVID_CLASSES),))
"""Files have class ids, and 11 for void."""

RATE_HZ = 30
"""Frame numbers count at this rate."""

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
        self.names = read_list(self.root, split)
        self._stamps_ns = _stamps_ns(self.names)
        self._find_files()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image = read_image(self.image_path(name))
        labels = CODING.decode(read_values(self.label_path(name)), self.label_path(name))
        if labels.shape != image.shape[:2]:
            raise DataError(
                f'{self.label_path(name)} is {labels.shape[1]}x{labels.shape[0]} pixels, '
                f'its image {image.shape[1]}x{image.shape[0]}: they must be equal'
            )
        return Sample(name, image, labels, self._stamps_ns[index])

    def image_path(self, name: str) -> Path:
        """Where the image of that name is."""
        return image_path(self.root, self.split, name)

    def label_path(self, name: str) -> Path:
        """Where the label map of that name is."""
        return label_path(self.root, self.split, name)

    def _find_files(self) -> None:
        paths = [path for name in self.names for path in (self.image_path(name), self.label_path(name))]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise DataError(
                f'camvid {self.split}: {len(missing)} of {len(paths)} files are missing, '
                f'the first is {missing[0]}'
            )


def image_path(root: Path, split: str, name: str) -> Path:
    """Where the image of that name is."""
    return root / 'images' / split / f'{name}.jpg'


def label_path(root: Path, split: str, name: str) -> Path:
    """Where the label map of that name is."""
    return root / 'labels' / split / f'{name}.png'


def read_list(root: Path, split: str) -> list[str]:
    """The names of a split in order; DataError where the list is missing or empty."""
    path = root / 'splits' / f'{split}.txt'
    if not root.is_dir():
        raise DataError(
            f'camvid folder {root} does not exist: give the one with images/, labels/ and splits/'
        )
    try:
        names = path.read_text(encoding='utf-8').split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'camvid list {path} cannot be read: {error}') from error
    if not names:
        raise DataError(f'camvid list {path} is empty: it takes one file name without ending per line')
    return names


def recording_and_number(name: str) -> tuple[str, int]:
    """Which recording a name is of, and its frame number there; DataError on another form of name."""
    match = _NAME.match(name)
    if match is None:
        raise DataError(f'camvid name {name!r} is not of the form SEQUENCE_NUMBER')
    return match['sequence'], int(match['number'])


def _stamps_ns(names: list[str]) -> list[int]:
    stamps: list[int] = []
    sequence, offset = '', 0
    for index, name in enumerate(names):
        recording, number = recording_and_number(name)
        time = number * 1_000_000_000 // RATE_HZ
        if recording != sequence:
            offset = (stamps[-1] + _SEQUENCE_GAP_NS if index else 0) - time
            sequence = recording
        stamps.append(time + offset)
    return stamps
