# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a frame costs with either task and with both: a key frame, and one that is propagated to.

    python benchmarks/tasks.py --bundle road-r18 --data mot:PATH --threads 1,2,4 --out benchmarks/tasks.json

Every frame is extracted, propagated to from a key frame before it, and answered by both heads. The numbers of
threads take turns, several rounds over the same frames; medians over all of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from arguments import command
from numpy.typing import NDArray

from dff_ros.backends.base import Backend, available_cores, open_backend
from dff_ros.bundle import open_bundle
from dff_ros.config import DffConfig
from dff_ros.evaluation.offsets import rounded
from dff_ros.evaluation.speed import StageCost
from dff_ros.sources import open_source
from dff_ros.tasks import DETECTION, SEGMENTATION

HEADS = {'segmentation': (SEGMENTATION,), 'detection': (DETECTION,), 'both': (SEGMENTATION, DETECTION)}


class Stopwatch:
    """Milliseconds of each stage."""

    def __init__(self) -> None:
        self._ms: defaultdict[str, list[float]] = defaultdict(list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the block."""
        start = time.perf_counter()
        yield
        self._ms[name].append((time.perf_counter() - start) * 1e3)

    def medians(self) -> dict[str, float]:
        """Of each stage."""
        return {name: statistics.median(values) for name, values in self._ms.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the JSON."""
    arguments = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(arguments)
    source = open_source(args.data, split=args.split)
    images = [item.image_HW3 for item in itertools.islice(source, args.num_frames)]
    watches = {int(number): Stopwatch() for number in args.threads.split(',')}
    bundle, runtime = open_bundle(args.bundle), ''
    for _ in range(args.rounds):
        for number, watch in watches.items():
            config = DffConfig(num_threads=number)
            with closing(open_backend(bundle, config)) as backend:
                _run(backend, images, args.interval, config, watch)
                runtime = backend.info.runtime
    report = {
        'command': command(Path(__file__).name, arguments),
        'bundle': bundle.name,
        'runtime': runtime,
        'cores': available_cores(),
        'size': list(images[0].shape[:2]),
        'num_frames': len(images),
        'rounds': args.rounds,
        'interval': args.interval,
        'rows': [
            row for number, watch in watches.items() for row in _rows(number, watch.medians(), args.interval)
        ],
    }
    text = json.dumps(report, indent=2) + '\n'
    args.out.write_text(text, encoding='utf-8')
    print(text, end='')
    return 0


def _run(
    backend: Backend[object, object],
    images: Sequence[NDArray[np.uint8]],
    interval: int,
    config: DffConfig,
    watch: Stopwatch,
) -> None:
    """One pass over the images."""
    size = images[0].shape[0], images[0].shape[1]
    limits = config.detection
    backend.warm_up(size)
    key = backend.extract(images[0])
    for number, image in enumerate(images[1:], 1):
        with watch.stage('extract'):
            own = backend.extract(image)
        with watch.stage('propagate'):
            moved = backend.propagate(image, key)
        with watch.stage(SEGMENTATION):
            backend.predict(moved.feature, size, size)
        with watch.stage(DETECTION):
            backend.detect(moved.feature, size, limits.nms_iou, limits.score_threshold)
        key = own if number % interval == 0 else key


def _rows(num_threads: int, ms: dict[str, float], interval: int) -> Iterator[dict[str, object]]:
    for name, tasks in HEADS.items():
        cost = StageCost(ms['extract'], ms['propagate'], sum(ms[task] for task in tasks))
        yield {
            'num_threads': num_threads,
            'tasks': name,
            'ms_extract': rounded(cost.extract),
            'ms_propagate': rounded(cost.propagate),
            'ms_predict': rounded(cost.predict),
            'percent_of_key_frame': rounded(100 * cost.ratio, 1),
            'speedup_eq7': rounded(cost.speedup(interval)),
        }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--bundle', default='road-r18', help='with both heads')
    parser.add_argument('--data', required=True, metavar='SOURCE', help='frames, as "dff eval" takes them')
    parser.add_argument('--split', help='split of a data set')
    parser.add_argument('--num-frames', type=int, default=60)
    parser.add_argument('--interval', type=int, default=10, help='key frame every this many frames')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', default='1,2,4', help='numbers of threads, separated by commas')
    parser.add_argument('--out', type=Path, required=True)
    return parser


if __name__ == '__main__':
    raise SystemExit(main())
