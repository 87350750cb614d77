# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Looks through all files of a data set: what is wrong with them, and what is in them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.classes import IGNORE_ID
from dff_ros.data.file_videos import BoxFile, Clip, FrameFile, LabelFile, Scan
from dff_ros.data.findings import KINDS, Finding
from dff_ros.data.label_files import read_values
from dff_ros.data.layouts import detect_layout, layout_named
from dff_ros.data.video_set import Boxes
from dff_ros.errors import DataError

ShowProgress = Callable[[int, int], None]
Size = tuple[int, int]

_MAX_EXAMPLES = 5


@dataclass(slots=True)
class SplitFacts:
    """What is in a split: `sizes` counts frames by (height, width), `pixels` those of each class.

    The last of the `pixels` (K + 1,) are unlabelled. `num_boxes` leaves out ignored ones.
    """

    class_names: tuple[str, ...]
    num_sequences: int = 0
    num_frames: int = 0
    num_labelled: int = 0
    num_boxes: int = 0
    num_ignored_boxes: int = 0
    sizes: Counter[Size] = field(default_factory=Counter)
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def class_shares(self) -> list[float]:
        """Percent of the labelled pixels that each class has."""
        shares: list[float] = (100 * self.pixels[:-1] / max(int(self.pixels[:-1].sum()), 1)).tolist()
        return shares

    def unlabelled_share(self) -> float:
        """Percent of the pixels of all label maps that have no class."""
        return 100 * float(self.pixels[-1]) / max(int(self.pixels.sum()), 1)

    def to_dict(self) -> dict[str, object]:
        """For JSON; shares in percent."""
        shares = [round(share, 3) for share in self.class_shares()]
        return {
            'sequences': self.num_sequences,
            'frames': self.num_frames,
            'labelled': self.num_labelled,
            'boxes': self.num_boxes,
            'ignored_boxes': self.num_ignored_boxes,
            'sizes': {f'{width}x{height}': count for (height, width), count in sorted(self.sizes.items())},
            'class_share': dict(zip(self.class_names, shares, strict=True)) if self.num_labelled else {},
            'unlabelled_share': round(self.unlabelled_share(), 3) if self.num_labelled else None,
        }


@dataclass(slots=True)
class CheckReport:
    """All findings and the facts of each split."""

    root: Path
    layout: str
    splits: dict[str, SplitFacts] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether nothing must be mended."""
        return not any(finding.is_error for finding in self.findings)

    def to_dict(self) -> dict[str, object]:
        """For JSON: findings are grouped by kind, errors first, with a few examples each."""
        return {
            'root': str(self.root),
            'layout': self.layout,
            'ok': self.is_ok,
            'splits': {name: facts.to_dict() for name, facts in self.splits.items()},
            'findings': [
                {
                    'kind': kind,
                    'must_fix': KINDS[kind].is_error,
                    'what': KINDS[kind].title,
                    'fix': KINDS[kind].fix,
                    'count': len(group),
                    'examples': [str(finding) for finding in group[:_MAX_EXAMPLES]],
                }
                for kind, group in self.groups()
            ],
        }

    def groups(self) -> list[tuple[str, list[Finding]]]:
        """The findings of each kind, errors first."""
        kinds = sorted({finding.kind for finding in self.findings}, key=list(KINDS).index)
        kinds.sort(key=lambda kind: not KINDS[kind].is_error)
        return [(kind, [finding for finding in self.findings if finding.kind == kind]) for kind in kinds]


def check(
    root: Path, layout: str | None = None, show: ShowProgress | None = None, workers: int | None = None
) -> CheckReport:
    """Every file of a data set, decoded; `show(done, total)` is called after each frame.

    Without `layout` it is recognised. DataError where the folder is missing or no layout fits.
    """
    name = layout or detect_layout(root)
    chosen = layout_named(name)
    if not root.is_dir():
        raise DataError(f'the data folder {root} does not exist')
    report = CheckReport(root, name)
    scans = {split: chosen.scan(root, split) for split in chosen.splits(root)}
    if not scans:
        report.findings.append(Finding('empty_split', '.', 'there is no split at all'))
    total, done = sum(len(clip.frames) for scan in scans.values() for clip in scan.clips), 0
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        for split, scan in scans.items():
            report.findings += scan.findings
            facts = report.splits[split] = _facts_of(scan)
            for clip in scan.clips:
                looks = pool.map(_look_at, clip.frames)
                for finding in _check_clip(root, clip, looks, facts):
                    report.findings.append(finding)
                done += len(clip.frames)
                if show is not None:
                    show(done, total)
    report.findings = list(dict.fromkeys(report.findings))  # what concerns all splits was found in each
    return report


def _facts_of(scan: Scan) -> SplitFacts:
    frames = [frame for clip in scan.clips for frame in clip.frames]
    return SplitFacts(
        class_names=scan.class_names,
        num_sequences=len(scan.clips),
        num_frames=len(frames),
        num_labelled=sum(frame.label is not None for frame in frames),
        pixels=np.zeros(len(scan.class_names) + 1, np.int64),
    )


@dataclass(slots=True)
class _Look:
    """What the files of a frame hold: sizes where they can be read, pixels by class, boxes, what is wrong."""

    size: Size | None = None
    label_size: Size | None = None
    pixels: NDArray[np.int64] | None = None
    boxes: Boxes | None = None
    problems: list[tuple[str, Path, str]] = field(default_factory=list)


def _look_at(frame: FrameFile) -> _Look:
    look = _Look()
    look.size = _decoded_size(look, frame.path)
    if frame.label is not None:
        _look_at_label(look, frame.label)
    if not look.problems:
        _look_at_boxes(look, frame.boxes)
    return look


def _look_at_boxes(look: _Look, boxes: Boxes | BoxFile | None) -> None:
    if boxes is None or isinstance(boxes, Boxes):
        look.boxes = boxes
        return
    if not boxes.path.is_file():
        return  # the layout has reported it
    try:
        look.boxes = boxes.read()
    except DataError as error:
        look.problems.append(('bad_box', boxes.path, str(error).removeprefix(f'{boxes.path} ')))


def _look_at_label(look: _Look, label: LabelFile) -> None:
    if _decoded_size(look, label.path) is None:
        return
    try:
        values = read_values(label.path)
    except DataError as error:
        look.problems.append(('label_format', label.path, str(error).removeprefix(f'{label.path} ')))
        return
    look.label_size = values.shape[0], values.shape[1]
    if unknown := label.coding.unknown(values):
        listed = ', '.join(map(str, unknown[:_MAX_EXAMPLES]))
        look.problems.append(('label_value', label.path, f'has {listed}; allowed are {label.coding.allowed}'))
    counts = np.bincount(label.coding.ids[values].ravel(), minlength=IGNORE_ID + 1)
    num_classes = len(label.coding.class_names)
    look.pixels = np.append(counts[:num_classes], counts[IGNORE_ID])


def _decoded_size(look: _Look, path: Path) -> Size | None:
    """Decodes the whole file: OpenCV would take a truncated one."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image.load()
            width, height = ImageOps.exif_transpose(image).size
    except FileNotFoundError:
        return None  # the layout has reported it
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        look.problems.append(('unreadable', path, str(error).replace(f' {str(path)!r}', '')))
        return None
    return height, width


def _check_clip(root: Path, clip: Clip, looks: Iterator[_Look], facts: SplitFacts) -> Iterator[Finding]:
    expected = clip.size
    for frame, look in zip(clip.frames, looks, strict=True):
        for kind, path, detail in look.problems:
            yield Finding(kind, str(path.relative_to(root)), detail)
        if look.pixels is not None:
            facts.pixels += look.pixels
        if look.boxes is not None:
            num_ignored = int(look.boxes.is_ignored_N.sum())
            facts.num_ignored_boxes += num_ignored
            facts.num_boxes += len(look.boxes.is_ignored_N) - num_ignored
        if look.size is None:
            continue
        facts.sizes[look.size] += 1
        expected = expected or look.size
        if look.size != expected:
            yield _size_finding(root, 'frame_size', frame.path, look.size, expected)
        if frame.label is not None and look.label_size not in (None, look.size):
            yield _size_finding(root, 'label_size', frame.label.path, look.label_size or (0, 0), look.size)


def _size_finding(root: Path, kind: str, path: Path, size: Size, expected: Size) -> Finding:
    detail = f'{size[1]}x{size[0]} instead of {expected[1]}x{expected[0]}'
    return Finding(kind, str(path.relative_to(root)), detail)
