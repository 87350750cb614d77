# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The network of a bundle on every frame, in ONNX Runtime, without ROS and without key frames.

    python benchmarks/peers/plain_onnx.py --bundle road-r18 --size 1280x720 --num_threads 4

Prints the milliseconds of a frame as JSON. Sessions have the options of ONNX Runtime, but the threads
do not spin after a run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import islice

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dff_ros.backends.base import available_cores
from dff_ros.backends.runner import TAP_NAMES, image_taps, score_matrices
from dff_ros.bundle import open_bundle
from dff_ros.flags import image_size, positive
from dff_ros.geometry import network_size
from dff_ros.sources import open_source

_NUM_WARM_UP = 5


class PlainNetwork:
    """`extract` and `predict` of a bundle, one after the other."""

    def __init__(self, bundle: str, num_threads: int = 0) -> None:
        self._bundle = open_bundle(bundle)
        self._num_threads = num_threads or available_cores()
        self._sessions = {name: self._open(name) for name in ('extract', 'predict')}
        self._light = [name for name in self._names('predict') if name in self._outputs('extract')]
        self._size = (0, 0)
        self._constants: dict[str, NDArray[np.generic]] = {}

    def label_map(self, image_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Class ids at the size of an RGB image."""
        if image_HW3.shape[:2] != self._size:
            self._size = (image_HW3.shape[0], image_HW3.shape[1])
            self._constants = self._constants_of(self._size)
        features = self._run('extract', {'image': image_HW3}, self._light)
        (found,) = self._run('predict', dict(zip(self._light, features, strict=True)), ['label_map'])
        return found

    def _open(self, graph: str) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._num_threads
        options.log_severity_level = 3
        # The bundle's two graphs would spin against each other, which one graph for both would not.
        options.add_session_config_entry('session.force_spinning_stop', '1')
        path = str(self._bundle.graph_path(graph))
        return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])

    def _names(self, graph: str) -> list[str]:
        return [item.name for item in self._sessions[graph].get_inputs()]

    def _outputs(self, graph: str) -> list[str]:
        return [item.name for item in self._sessions[graph].get_outputs()]

    def _constants_of(self, size: tuple[int, int]) -> dict[str, NDArray[np.generic]]:
        """What the graphs need of a size: made once, as anybody would."""
        network = network_size(size, self._bundle.spec.nominal_size)
        rows, columns = score_matrices(size, network, self._bundle.score_stride)
        taps = dict(zip(TAP_NAMES, image_taps(size, network), strict=True))
        return {**taps, 'row_matrix': rows, 'col_matrix': columns}

    def _run(self, graph: str, inputs: dict[str, NDArray], outputs: list[str]) -> list[NDArray]:
        known = {name: self._constants[name] for name in self._names(graph) if name in self._constants}
        return self._sessions[graph].run(outputs, {**inputs, **known})


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--bundle', default='road-r18')
    parser.add_argument('--size', type=image_size, default=(720, 1280), help='default: 1280x720')
    parser.add_argument('--images', type=positive, default=60)
    parser.add_argument('--num_threads', type=int, default=0)
    args = parser.parse_args(argv)
    images = [frame.image_HW3 for frame in islice(open_source('street', size=args.size), 20)]
    network = PlainNetwork(args.bundle, args.num_threads)
    times_ms = []
    for number in range(_NUM_WARM_UP + args.images):
        start_s = time.perf_counter()
        network.label_map(images[number % len(images)])
        times_ms.append(1e3 * (time.perf_counter() - start_s))
    median_ms = statistics.median(times_ms[_NUM_WARM_UP:])
    print(json.dumps({'ms': round(median_ms, 2), 'fps': round(1e3 / median_ms, 2), 'images': args.images}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
