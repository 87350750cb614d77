# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What it takes to make RGB of an image in each encoding, raw and compressed.

    python benchmarks/encodings.py --size 1280x720 --out benchmarks/encodings.json

One thread; the median of --runs conversions of one random image (smoothed for jpeg and png, as pictures are).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
from arguments import command
from numpy.typing import NDArray

from dff_ros.benchmark.conversions import raw_image, times_ms
from dff_ros.compressed import decode_compressed
from dff_ros.encodings import ENCODINGS, decode_raw
from dff_ros.opencv_layouts import convert


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write JSON."""
    arguments = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(arguments)
    width, height = map(int, args.size.split('x'))
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    rows = []
    for encoding in ENCODINGS:
        message = raw_image(encoding, (height, width), rng)
        row = {'encoding': encoding} | _time(lambda message=message: decode_raw(message), args.runs)
        found = _time(lambda message=message: decode_raw(message, convert=convert), args.runs)
        rows.append(row | {f'opencv_{name}': value for name, value in found.items()})
    picture = _picture(height, width, rng)
    for suffix in ('.jpg', '.png'):
        data = cv2.imencode(suffix, picture)[1].tobytes()
        file = SimpleNamespace(format='', data=data)
        row = {'encoding': 'jpeg' if suffix == '.jpg' else 'png', 'num_bytes': len(data)}
        rows.append(row | _time(lambda file=file: decode_compressed(file), args.runs))
    report = {
        'command': command(Path(__file__).name, arguments),
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'cores': os.cpu_count(),
        'size': [height, width],
        'rows': rows,
    }
    args.out.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    print(args.out.read_text(encoding='utf-8'))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', default='1280x720', help='width x height in pixels')
    parser.add_argument('--runs', type=int, default=50, help='conversions of each')
    parser.add_argument('--out', type=Path, required=True, help='JSON file to write')
    return parser


def _picture(height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    small = rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    smooth = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, 2, smooth.shape)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def _time(convert: Callable[[], object], num_runs: int) -> dict[str, float]:
    found = times_ms(convert, num_runs)
    return {'ms': round(statistics.median(found), 3), 'ms_min': round(min(found), 3)}


if __name__ == '__main__':
    raise SystemExit(main())
