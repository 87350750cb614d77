# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What can be wrong with the files of a data set, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """`fix` says what to do; only errors must be mended before training."""

    title: str
    fix: str
    is_error: bool = True


KINDS: dict[str, Kind] = {
    'missing_file': Kind('files that must be there are missing', 'put them there, or take them off the list'),
    'bad_file': Kind('lists or descriptions cannot be used', 'correct the file as the message says'),
    'empty_split': Kind('splits without frames', 'put sequences there, or remove the folder or list'),
    'empty_sequence': Kind(
        'sequences without frames', 'put the frames into its frames/, or remove the folder'
    ),
    'unreadable': Kind(
        'images that cannot be decoded', 'copy them again from where they came, or delete them'
    ),
    'frame_size': Kind(
        'frames of another size than their sequence', 'resize them, or give them a sequence of their own'
    ),
    'label_size': Kind('labels of another size than their frame', 'resize them without interpolation'),
    'label_format': Kind(
        'label maps that are not one channel of 8 bits',
        'save class ids as 8-bit grey or palette PNG, not colours',
    ),
    'label_value': Kind(
        'label values outside the classes', 'map them to class ids, or to the value for unlabelled pixels'
    ),
    'label_without_frame': Kind(
        'labels without a frame', 'give both the same name without ending, or delete the label'
    ),
    'numbering': Kind(
        'frames with holes or doubles in their numbers',
        'put the missing ones there, move those behind a hole into their own sequence, or write stamps.csv',
    ),
    'missing_frames_before': Kind(
        'labelled frames without the frames before them', 'download the frames before each labelled one too'
    ),
    'bad_stamps': Kind('stamps that cannot be used', 'give one ascending stamp for each frame'),
    'bad_box': Kind('boxes that cannot be used', 'correct the row or the file, or delete it'),
    'stray_file': Kind('files that are not used', 'rename them if they are meant to be used', is_error=False),
    'unnumbered': Kind(
        'frame names that do not count frames evenly',
        'stamps are taken from fps and the order; write a stamps.csv if the frames are not evenly spaced',
        is_error=False,
    ),
    'no_boxes': Kind(
        'labelled frames without boxes, unlike others', 'they teach nothing of objects', is_error=False
    ),
    'no_labels': Kind('splits without labels', 'only training without labels can use them', is_error=False),
    'recording_pause': Kind('pauses within a recording', 'no pair is taken across them', is_error=False),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: a key of KINDS, the file or folder, and what is wrong with it."""

    kind: str
    where: str
    detail: str = ''

    @property
    def is_error(self) -> bool:
        """Whether it must be mended."""
        return KINDS[self.kind].is_error

    def __str__(self) -> str:
        return f'{self.where}: {self.detail}' if self.detail else self.where
