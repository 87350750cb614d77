# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The boxes of a frame of ImageNet VID in their XML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from dff_ros.data.boxes import boxes_of
from dff_ros.data.video_set import Boxes
from dff_ros.errors import DataError

_NAME_OF = {
    'n02691156': 'airplane',
    'n02419796': 'antelope',
    'n02131653': 'bear',
    'n02834778': 'bicycle',
    'n01503061': 'bird',
    'n02924116': 'bus',
    'n02958343': 'car',
    'n02402425': 'cattle',
    'n02084071': 'dog',
    'n02121808': 'domestic cat',
    'n02503517': 'elephant',
    'n02118333': 'fox',
    'n02510455': 'giant panda',
    'n02342885': 'hamster',
    'n02374451': 'horse',
    'n02129165': 'lion',
    'n01674464': 'lizard',
    'n02484322': 'monkey',
    'n03790512': 'motorcycle',
    'n02324045': 'rabbit',
    'n02509815': 'red panda',
    'n02411705': 'sheep',
    'n01726692': 'snake',
    'n02355227': 'squirrel',
    'n02129604': 'tiger',
    'n04468005': 'train',
    'n01662784': 'turtle',
    'n04530566': 'watercraft',
    'n02062744': 'whale',
    'n02391049': 'zebra',
}
CLASSES = tuple(_NAME_OF.values())
"""In the order of the development kit."""

_NUMBER_OF = {wnid: number for number, wnid in enumerate(_NAME_OF)}
_OCCLUDED = 0.5
"""Visibility of a box that is marked as occluded: the file does not tell by how much."""
_MOST_BYTES = 2**22


@dataclass(frozen=True, slots=True)
class VidFile:
    """An annotation file; its boxes count pixels from 0, the last one included."""

    path: Path

    def read(self) -> Boxes:
        """The boxes, with class ids of CLASSES; DataError where the file is damaged, has a class that is none
        of VID's, a box without area or outside the frame, or declares entities.
        """
        try:
            tree = _parse(self.path)
            width, height = (int(_text(tree, f'size/{side}')) for side in ('width', 'height'))
            objects = [_Object.of(item) for item in tree.findall('object')]
        except (OSError, ElementTree.ParseError, expat.ExpatError, ValueError) as error:
            raise DataError(f'{self.path} cannot be used: {error}') from error
        edges = np.array([item.edges for item in objects], np.float32).reshape(-1, 4)
        edges = np.clip(edges, 0, np.array([width, height, width, height], np.float32))
        if not (edges[:, 2:] > edges[:, :2]).all():
            raise DataError(f'{self.path} has a box without area in its {width}x{height} pixels')
        return boxes_of(
            edges,
            [item.class_id for item in objects],
            track_ids_N=[item.track_id for item in objects],
            visibility_N=[_OCCLUDED if item.is_occluded else 1.0 for item in objects],
        )


@dataclass(frozen=True, slots=True)
class _Object:
    class_id: int
    track_id: int
    edges: tuple[float, float, float, float]
    is_occluded: bool

    @staticmethod
    def of(item: ElementTree.Element) -> _Object:
        """One object; ValueError says what is wrong with it."""
        wnid = _text(item, 'name')
        if wnid not in _NUMBER_OF:
            raise ValueError(f'{wnid!r} is none of the {len(CLASSES)} classes')
        x1, y1, x2, y2 = (float(_text(item, f'bndbox/{side}')) for side in ('xmin', 'ymin', 'xmax', 'ymax'))
        if not np.isfinite([x1, y1, x2, y2]).all():
            raise ValueError('a box has an edge that is no number')
        edges = x1, y1, x2 + 1, y2 + 1
        return _Object(_NUMBER_OF[wnid], int(_text(item, 'trackid')), edges, _text(item, 'occluded') == '1')


def _text(item: ElementTree.Element, path: str) -> str:
    text = item.findtext(path)
    if text is None:
        raise ValueError(f'<{path}> is missing')
    return text.strip()


def _parse(path: Path) -> ElementTree.Element:
    """The file's tree. Entities can make a small file fill the memory or read other files; they need a
    document type declaration, which no file of VID has.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError('it is too large for the boxes of one frame')
    data = path.read_bytes()

    def refuse(*_: object) -> None:
        raise ValueError('it declares a document type, which may hide entities; remove <!DOCTYPE ...>')

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(data, True)
    return ElementTree.fromstring(data)
