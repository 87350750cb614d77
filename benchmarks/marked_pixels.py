# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How right the pixels are that a label map leaves without an answer, when the camera turns.

    python benchmarks/marked_pixels.py --data camvid:camvid --split val --out benchmarks/marked_pixels.json

Two windows of each labelled image, one so many pixels to the right of the other, are a key frame and the next
frame of a camera that turns: exactly known, with labels, and all that comes into view was not seen before.
Every window is then half as wide as the image. Told are the share of pixels with a validity below 0.5, how
many of them are right, beside the others, and what marking them costs in mIoU.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from arguments import command
from numpy.typing import NDArray

from dff_ros.backends.base import Backend, open_backend
from dff_ros.bundle import Bundle, open_bundle
from dff_ros.confidence import ConfidenceRule
from dff_ros.config import DffConfig, SegmentationConfig
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.evaluation.offsets import rounded
from dff_ros.sources import open_source
from dff_ros.types import UNLABELED

SHIFTS = (16, 48, 96)
KINDS = {
    'flow of the bundle, corrected': {},
    'flow of the bundle': {'correction': False},
    'DIS flow': {'flow': 'dis', 'correction': False},
}
Image = NDArray[np.uint8]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(arguments)
    bundle = open_bundle(args.bundle)
    rows = []
    for kind, settings in KINDS.items():
        config = DffConfig(bundle=args.bundle, num_threads=args.num_threads, tasks='segmentation', **settings)
        with closing(open_backend(bundle, config)) as backend:
            for shift in SHIFTS:
                row = _row(backend, bundle, args, shift)
                rows.append({'flow': kind, 'shift_px': shift, **row})
                print(json.dumps(rows[-1]), flush=True)
    report = {'command': command(Path(__file__).name, arguments), 'rows': rows}
    args.out.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    return 0


def _row(
    backend: Backend[object, object], bundle: Bundle, args: argparse.Namespace, shift: int
) -> dict[str, object]:
    rule = ConfidenceRule(bundle.spec.nominal_size, bundle.stride)
    matrices = {
        name: ConfusionMatrix(bundle.spec.num_classes) for name in ('all', 'decided', 'marked', 'others')
    }
    for key_image, image, labels in _windows(args, shift):
        size = labels.shape
        propagation = backend.propagate(image, backend.extract(key_image))
        found = backend.predict(propagation.feature, size, size)
        final = rule.apply(found, propagation, 0.0, size, SegmentationConfig()).label_map_HW
        is_marked = final == UNLABELED
        matrices['all'].update(labels, found.label_map_HW)
        matrices['decided'].update(labels, final)
        matrices['marked'].update(np.where(is_marked, labels, UNLABELED), found.label_map_HW)
        matrices['others'].update(np.where(is_marked, UNLABELED, labels), found.label_map_HW)
    return {
        'marked': rounded(100 * matrices['marked'].num_pixels / matrices['all'].num_pixels, 3),
        'marked_right': rounded(matrices['marked'].pixel_accuracy()),
        'others_right': rounded(matrices['others'].pixel_accuracy()),
        'miou': rounded(matrices['all'].miou()),
        'miou_with_marks_missed': rounded(matrices['decided'].miou()),
    }


def _windows(args: argparse.Namespace, shift: int) -> Iterator[tuple[Image, Image, Image]]:
    """Key image, current image and its labels: half of the image's width each, around its middle."""
    for item in open_source(args.data, split=args.split):
        if item.labels_HW is None:
            continue
        width = item.labels_HW.shape[1]
        left = width // 4 - shift // 2
        key, current = slice(left, left + width // 2), slice(left + shift, left + shift + width // 2)
        yield (
            np.ascontiguousarray(item.image_HW3[:, key]),
            np.ascontiguousarray(item.image_HW3[:, current]),
            np.ascontiguousarray(item.labels_HW[:, current]),
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--bundle', default='road-r18')
    parser.add_argument('--data', required=True)
    parser.add_argument('--split')
    parser.add_argument('--num-threads', type=int, default=1)
    parser.add_argument('--out', type=Path, required=True)
    return parser


if __name__ == '__main__':
    sys.exit(main())
