# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Image files: which there are in a folder, in which order, and their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.numbering import natural_key
from dff_ros.errors import DataError

IMAGE_SUFFIXES = frozenset({'.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm'})

_LABELS, _FRAMES = 'labels', ('frames', 'images')
"""Folder names of the layouts `folder` and `camvid`."""


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder in natural order (2 before 10); OSError where it cannot be read."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return sorted(found, key=lambda path: natural_key(path.name))


def image_folders(root: Path) -> dict[Path, list[Path]]:
    """{folder: its images} of every folder with images at and below `root`, in natural order, without the
    label maps of a data set: a folder `labels` beside `frames` or `images`, with all in it.

    DataError where `root` is not a readable folder or nothing below it is an image.
    """
    if not root.is_dir():
        raise DataError(f'image folder {root} does not exist')
    try:
        below = [path for path in root.rglob('*') if path.is_dir()]
        maps = {path for path in below if path.name == _LABELS and _has_frames(path.parent)}
        folders = [root, *(path for path in below if maps.isdisjoint((path, *path.parents)))]
        found = {folder: images_in(folder) for folder in sorted(folders, key=lambda p: natural_key(str(p)))}
    except OSError as error:
        raise DataError(f'cannot read {root}: {error}') from error
    found = {folder: paths for folder, paths in found.items() if paths}
    if not found:
        raise DataError(
            f'{root} holds no image, nor does any folder in it; known are {", ".join(sorted(IMAGE_SUFFIXES))}'
        )
    return found


def _has_frames(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in _FRAMES)


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as uint8 RGB (H, W, 3), turned upright as its EXIF says; of 16 bits the upper 8.

    DataError names a file that is missing, cut short, or no image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith('I;16'):  # Pillow would clip, not scale, 16 bits to 8
                grey = (np.asarray(upright) >> 8).astype(np.uint8)
                return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
            return np.array(upright.convert('RGB'))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f'{path} cannot be decoded as an image: {error}') from error
