# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How data sets lie in folders: one module for each layout; `open_videos` reads a split of any of them."""

from __future__ import annotations

from pathlib import Path

from dff_ros.data.file_videos import FileVideos, Layout
from dff_ros.data.layouts import camvid, cityscapes, folder, mot, vid
from dff_ros.errors import DataError

LAYOUTS: dict[str, Layout] = {
    'folder': folder,
    'camvid': camvid,
    'cityscapes': cityscapes,
    'mot': mot,
    'vid': vid,
}

_USUAL_SPLIT = 'val'


def layout_named(name: str) -> Layout:
    """The layout of that name; DataError lists the known ones."""
    if name not in LAYOUTS:
        raise DataError(f'there is no layout {name!r}; known are {", ".join(LAYOUTS)}')
    return LAYOUTS[name]


def find_layout(root: Path) -> str | None:
    """The name of the first layout that the folder looks like; None where it looks like none."""
    return next((name for name, layout in LAYOUTS.items() if layout.matches(root)), None)


def detect_layout(root: Path) -> str:
    """The name of the layout that the folder has; DataError where it is missing or looks like none."""
    if not root.is_dir():
        raise DataError(f'the data folder {root} does not exist')
    found = find_layout(root)
    if found is None:
        raise DataError(
            f'{root} has no known layout. Known are: folder (classes.yaml), camvid (images/ and splits/), '
            f'cityscapes (leftImg8bit_sequence/), mot (img1/), vid (Data/VID/). See docs/data.md'
        )
    return found


def named_root(text: str) -> tuple[Path, str]:
    """The folder that `LAYOUT:PATH` or a path names, and its layout; DataError where there is none."""
    name, separator, path = text.partition(':')
    is_named = bool(separator) and name in LAYOUTS
    root = Path(path if is_named else text).expanduser()
    found = name if is_named else detect_layout(root)
    if not root.is_dir():
        raise DataError(f'the data folder {root} does not exist')
    return root, found


def usual_split(text: str) -> str:
    """The split to take where none is named: `val`, or the only one; DataError lists them otherwise."""
    root, layout = named_root(text)
    splits = layout_named(layout).splits(root)
    if len(splits) != 1 and _USUAL_SPLIT not in splits:
        raise DataError(f'{root} has no split {_USUAL_SPLIT!r}: choose one of {", ".join(splits) or "none"}')
    return _USUAL_SPLIT if _USUAL_SPLIT in splits else splits[0]


def open_videos(text: str, split: str) -> FileVideos:
    """One split of the data set that `LAYOUT:PATH` or a path names.

    DataError where the folder, layout or split is unknown or the files are not as they must be; it names the
    first finding, and `dff data check` lists all.
    """
    root, found = named_root(text)
    layout = layout_named(found)
    splits = layout.splits(root)
    if split not in splits:
        raise DataError(f'{root} has no split {split!r}; it has {", ".join(splits) or "none"}')
    scan = layout.scan(root, split)
    errors = [finding for finding in scan.findings if finding.is_error]
    if errors:
        raise DataError(
            f'{root}: {errors[0]} ({len(errors)} such findings: "dff data check {root} --layout {found}" '
            f'lists them)'
        )
    return FileVideos(scan)
