# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The user's own video, as docs/data.md describes it.

ROOT/classes.yaml                       classes, and optionally void and fps
ROOT/SPLIT/SEQUENCE/frames/NAME.jpg     or .jpeg, .png; in the order of their names
ROOT/SPLIT/SEQUENCE/labels/NAME.png     class ids; for any of the frames
ROOT/SPLIT/SEQUENCE/stamps.csv          optional: name,stamp_s
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from dff_ros.config import Validated, param
from dff_ros.data.classes import IGNORE_ID, Colours
from dff_ros.data.file_videos import FrameFile, LabelFile, Scan, cut
from dff_ros.data.label_files import LabelCoding, coding
from dff_ros.data.numbering import frame_number, natural_key, runs, runs_in_time, usual_step
from dff_ros.errors import ConfigError, DataError

CLASSES_FILE, STAMPS_FILE = 'classes.yaml', 'stamps.csv'
FRAMES, LABELS = 'frames', 'labels'
FRAME_SUFFIXES = ('.jpg', '.jpeg', '.png')

_BREAK_GAPS = 3.0
"""With stamps: a gap of more than so many median ones ends the sequence."""


@dataclass(frozen=True, kw_only=True)
class Rate(Validated):
    """The frame rate of sequences without stamps."""

    fps: float = param(30.0, 'Frames per second of sequences without stamps.csv', minimum=1e-3, maximum=1e4)


@dataclass(frozen=True, slots=True)
class Description:
    """classes.yaml: what label values mean, the colours (empty: none given), the frame rate."""

    coding: LabelCoding
    colours: Colours
    fps: float


def matches(root: Path) -> bool:
    """Whether the folder has a classes.yaml."""
    return (root / CLASSES_FILE).is_file()


def splits(root: Path) -> tuple[str, ...]:
    """All folders in it."""
    return tuple(path.name for path in _folders(root))


def read_description(root: Path) -> Description:
    """classes.yaml of a data set; DataError names the file and what is wrong in it."""
    import yaml

    path = root / CLASSES_FILE
    try:
        tree = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f'{path} cannot be read: {" ".join(str(error).split())}') from error
    try:
        return _description(tree)
    except (ConfigError, TypeError, KeyError, ValueError) as error:
        raise DataError(
            f'{path}: {error}. It takes "classes:", a list of names or of {{name, colour: [R, G, B]}} in the '
            f'order of their ids, and if need be "void:", a list of values, and "fps:"'
        ) from error


def _description(tree: object) -> Description:
    if not isinstance(tree, dict) or not isinstance(tree.get('classes'), list) or not tree['classes']:
        raise ValueError('there is no list of classes')
    if unknown := sorted(map(str, tree.keys() - {'classes', 'void', 'fps'})):
        raise ValueError(f'unknown is {", ".join(unknown)}')
    items = [item if isinstance(item, dict) else {'name': item} for item in tree['classes']]
    names = tuple(str(item['name']) for item in items)
    if len(set(names)) != len(names) or len(names) > IGNORE_ID:
        raise ValueError(f'class names must differ, and be at most {IGNORE_ID}')
    colours = [tuple(int(value) for value in item['colour']) for item in items if 'colour' in item]
    if len(colours) not in (0, len(names)) or any(
        len(c) != 3 or not all(0 <= v <= 255 for v in c) for c in colours
    ):
        raise ValueError('either every class has a colour of three values 0 to 255, or none')
    void = tuple(int(value) for value in tree.get('void', [IGNORE_ID]))
    if not void or any(not len(names) <= value <= 255 for value in void):
        raise ValueError(f'void takes values from {len(names)} to 255')
    fps = Rate(fps=tree.get('fps', Rate().fps)).fps
    return Description(coding(names, void=void), tuple((c[0], c[1], c[2]) for c in colours), fps)


def scan(root: Path, split: str) -> Scan:
    """The sequences of a split, cut where frames are missing."""
    try:
        description = read_description(root)
    except DataError as error:
        found = Scan()
        found.report('bad_file', CLASSES_FILE, str(error))
        return found
    found = Scan(description.coding.class_names, class_colours=description.colours)
    for folder in _folders(root / split):
        _Sequence(found, root, folder, description).add()
    if not found.clips and not found.findings:
        found.report('empty_split', split)
    elif found.clips and not any(frame.label for clip in found.clips for frame in clip.frames):
        found.report('no_labels', split)
    return found


class _Sequence:
    """One sequence folder on its way into a scan."""

    def __init__(self, found: Scan, root: Path, folder: Path, description: Description) -> None:
        self._found, self._root, self._folder, self._description = found, root, folder, description

    def add(self) -> None:
        frames = self._frames()
        if not frames:
            self._report('empty_sequence', self._folder, f'no image in {FRAMES}/')
            return
        labels = self._labels({path.stem for path in frames})
        stamps_ns, parts = self._times(frames)
        files = [
            FrameFile(path, stamp_ns, labels.get(path.stem))
            for path, stamp_ns in zip(frames, stamps_ns, strict=True)
        ]
        self._found.clips += cut(self._folder.name, files, parts)

    def _frames(self) -> list[Path]:
        frames: dict[str, Path] = {}
        for path in self._images(FRAMES, FRAME_SUFFIXES):
            if path.stem in frames:
                self._report('numbering', path, f'the same name as {frames[path.stem].name}')
            frames.setdefault(path.stem, path)
        return list(frames.values())

    def _labels(self, stems: set[str]) -> dict[str, LabelFile]:
        labels = {}
        for path in self._images(LABELS, ('.png',)):
            if path.stem in stems:
                labels[path.stem] = LabelFile(path, self._description.coding)
            else:
                self._report('label_without_frame', path)
        return labels

    def _images(self, name: str, suffixes: tuple[str, ...]) -> list[Path]:
        paths = [path for path in (self._folder / name).glob('*') if not path.name.startswith('.')]
        for path in paths:
            if path.suffix.lower() not in suffixes:
                is_lossy_label = name == LABELS and path.suffix.lower() in FRAME_SUFFIXES
                kind = 'label_format' if is_lossy_label else 'stray_file'
                self._report(kind, path, f'{name}/ takes {", ".join(suffixes)}')
        used = [path for path in paths if path.suffix.lower() in suffixes]
        return sorted(used, key=lambda path: (natural_key(path.name), path.name))

    def _times(self, frames: list[Path]) -> tuple[list[int], list[range]]:
        """Stamps of the frames, and the uninterrupted parts."""
        if (self._folder / STAMPS_FILE).is_file():
            try:
                stamps_ns = read_stamps(self._folder / STAMPS_FILE, [path.stem for path in frames])
                return stamps_ns, runs_in_time(stamps_ns, _BREAK_GAPS)
            except DataError as error:
                self._report('bad_stamps', self._folder / STAMPS_FILE, str(error))
        numbers = [number for path in frames if (number := frame_number(path.stem)) is not None]
        step = usual_step(numbers) if len(numbers) == len(frames) else None
        if step is None:
            self._report('unnumbered', self._folder)
            numbers, step = list(range(len(frames))), 1
        parts = runs(numbers, step)
        for part in parts[1:]:
            after = numbers[part.start]
            self._report(
                'numbering',
                frames[part.start],
                f'{numbers[part.start - 1]} is followed by {after}, the step is {step}',
            )
        per_second = step * self._description.fps
        return [round((number - numbers[0]) * 1e9 / per_second) for number in numbers], parts

    def _report(self, kind: str, where: Path, detail: str = '') -> None:
        self._found.report(kind, where.relative_to(self._root), detail)


def read_stamps(path: Path, stems: list[str]) -> list[int]:
    """The stamps of the frames in nanoseconds from the first; DataError where one is missing or goes back."""
    try:
        with path.open(encoding='utf-8', newline='') as file:
            stamp_of = {row['name']: float(row['stamp_s']) for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f'{path} cannot be read: {error!r}; it takes the header name,stamp_s and a row for each frame'
        ) from error
    missing = [stem for stem in stems if stem not in stamp_of]
    if missing:
        raise DataError(f'{len(missing)} of {len(stems)} frames have no stamp, the first is {missing[0]}')
    stamps_ns = [round((stamp_of[stem] - stamp_of[stems[0]]) * 1e9) for stem in stems]
    for index in range(1, len(stems)):
        if stamps_ns[index] <= stamps_ns[index - 1]:
            raise DataError(f'the stamp of {stems[index]} is not after that of {stems[index - 1]}')
    return stamps_ns


def _folders(parent: Path) -> list[Path]:
    found = [path for path in parent.glob('*') if path.is_dir() and not path.name.startswith('.')]
    return sorted(found, key=lambda path: natural_key(path.name))
