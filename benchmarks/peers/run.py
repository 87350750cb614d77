# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a user would run instead, beside dff_ros: the same images, network, threads and machine, in turns.

    python benchmarks/peers/run.py --size 1280x720 --interval 10 --out benchmarks/MACHINE/peers.json

`plain node` (plain_node.py) and `dff node` get each image over DDS as soon as they have answered the one
before; `plain onnx` (plain_onnx.py) and `dff engine` get it as an array in this process. All give label maps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from plain_onnx import PlainNetwork
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from dff_ros.backends.base import available_cores
from dff_ros.bundle import open_bundle
from dff_ros.config import DffConfig, replace, to_flat
from dff_ros.evaluation.metrics import percentiles
from dff_ros.flags import add_flags, given_flags, image_size, positive
from dff_ros.memory import tune_malloc
from dff_ros.messages import to_frame
from dff_ros.opening import open_engine
from dff_ros.process_use import processor_s, resident_mb
from dff_ros.ros.bench import ENCODINGS, nothing_on_stdout
from dff_ros.ros.children import set_environment
from dff_ros.ros.prepared import prepare
from dff_ros.ros.rig import Rig
from dff_ros.ros.shots import LABELS
from dff_ros.sources import open_source
from dff_ros.types import Frame

HERE = Path(__file__).resolve().parent
PLAIN_NODE, DFF_NODE, PLAIN_ONNX, DFF_ENGINE = 'plain node', 'dff node', 'plain onnx', 'dff engine'
_FRAME_NS = 10**9 // 30
_WARM_UP = 20


@dataclass
class Contender:
    """`play(n)` answers the next n images and gives the milliseconds of each; `pid` is its own process, None
    where it is this one.
    """

    name: str
    play: Callable[[int], list[float]]
    pid: int | None = None
    times_ms: list[float] = field(default_factory=list)
    turn_fps: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def turn(self, number: int) -> None:
        """Answer so many images, and note how long it took."""
        pid = self.pid or os.getpid()
        cpu_s = processor_s(pid)
        times_ms = self.play(number)
        self.cpu_s += processor_s(pid) - cpu_s
        self.times_ms += times_ms
        self.turn_fps.append(1e3 * number / sum(times_ms))

    def row(self) -> dict[str, object]:
        """Its figures; `fps` is the median over the turns."""
        found = percentiles(self.times_ms, (50, 90, 99, 100))
        found['max'] = found.pop('p100')
        return {
            'name': self.name,
            'images': len(self.times_ms),
            'fps': round(statistics.median(self.turn_fps), 2),
            'latency_ms': {name: round(value or 0.0, 2) for name, value in found.items()},
            'cpu_ms_per_image': round(1e3 * self.cpu_s / len(self.times_ms), 1),
            'rss_mb': None if self.pid is None else round(resident_mb(self.pid), 1),
        }


def plain_onnx(config: DffConfig, images: Sequence[NDArray[np.uint8]]) -> Contender:
    """The network on every image, in this process."""
    network = PlainNetwork(config.bundle, config.num_threads)
    numbers = _forward_and_backward(len(images))
    return Contender(
        PLAIN_ONNX, lambda n: [_timed(network.label_map, images[next(numbers)]) for _ in range(n)]
    )


def dff_engine(config: DffConfig, images: Sequence[NDArray[np.uint8]], stack: ExitStack) -> Contender:
    """The engine in this process."""
    engine = open_engine(open_bundle(config.bundle), config)
    stack.callback(engine.close)
    numbers = _forward_and_backward(len(images))
    stamps = iter(range(_FRAME_NS, 2**62, _FRAME_NS))

    def play(number: int) -> list[float]:
        frames = (Frame(image_HW3=images[next(numbers)], stamp_ns=next(stamps)) for _ in range(number))
        return [_timed(engine.step, frame) for frame in frames]

    return Contender(DFF_ENGINE, play)


def over_dds(name: str, rig: Rig) -> Contender:
    """A node that answers one image at a time; from right before each is sent to its label map."""
    player, check = rig.player, rig.child.check
    player.greet(check)

    def play(number: int) -> list[float]:
        return [1e3 * (shot.answered_s - shot.sent_s) for shot in player.ask(number, check)]

    return Contender(name, play, rig.child.pid)


def compare(config: DffConfig, args: argparse.Namespace) -> list[dict[str, object]]:
    """The rows of all four, measured in turns."""
    messages = prepare(open_source('street', size=args.size, seed=args.seed, fps=30.0), args.encoding)
    decoded = [to_frame(deserialize_message(message, Image)).image_HW3 for message in messages]
    with ExitStack() as stack:
        plain = {'bundle': config.bundle, 'num_threads': config.num_threads}
        untold = Rig(stack, plain, messages, module='plain_node', outputs=('segmentation',), has_status=False)
        told = Rig(stack, to_flat(config), messages, outputs=(LABELS,))
        contenders = [
            over_dds(PLAIN_NODE, untold),
            over_dds(DFF_NODE, told),
            plain_onnx(config, decoded),
            dff_engine(config, decoded, stack),
        ]
        for contender in contenders:
            contender.play(_WARM_UP)
        for _ in range(args.turns):
            for contender in contenders:
                contender.turn(args.images)
        return [contender.row() for contender in contenders]


def ratios(rows: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """How many times as many frames, and what each node adds to what it computes (ms of a mean frame)."""
    fps = {str(row['name']): cast(float, row['fps']) for row in rows}
    return {
        'dff_node_over_plain_node': round(fps[DFF_NODE] / fps[PLAIN_NODE], 2),
        'dff_engine_over_plain_onnx': round(fps[DFF_ENGINE] / fps[PLAIN_ONNX], 2),
        'plain_node_adds_ms': round(1e3 / fps[PLAIN_NODE] - 1e3 / fps[PLAIN_ONNX], 2),
        'dff_node_adds_ms': round(1e3 / fps[DFF_NODE] - 1e3 / fps[DFF_ENGINE], 2),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write and print the JSON."""
    sys.path.insert(0, str(HERE.parent))
    from arguments import command

    arguments = sys.argv[1:] if argv is None else list(argv)
    args = _parser().parse_args(arguments)
    asked = {'tasks': 'segmentation', 'segmentation.confidence': False, 'keyframe.interval': 10}
    config = replace(DffConfig(), {**asked, **given_flags(args)})
    set_environment()
    os.environ['PYTHONPATH'] = os.pathsep.join([str(HERE), os.environ.get('PYTHONPATH', '')])
    tune_malloc()
    with nothing_on_stdout():
        rows = compare(config, args)
    report = {
        'command': command(f'peers/{Path(__file__).name}', arguments),
        'bundle': config.bundle,
        'size': [args.size[1], args.size[0]],
        'encoding': args.encoding,
        'cores': available_cores(),
        'num_threads': config.num_threads or available_cores(),
        'onnxruntime': onnxruntime.__version__,
        'cv_bridge': bool(find_spec('cv_bridge')),
        'interval': config.keyframe.fixed_interval,
        'refresh': config.refresh,
        'turns': args.turns,
        'rows': rows,
        **ratios(rows),
    }
    text = json.dumps(report, indent=2) + '\n'
    if args.out is not None:
        args.out.write_text(text, encoding='utf-8')
    print(text, end='')
    return 0


def _timed(function: Callable[[Any], object], argument: object) -> float:
    start_s = time.perf_counter()
    function(argument)
    return 1e3 * (time.perf_counter() - start_s)


def _forward_and_backward(number: int) -> Iterator[int]:
    """The places of a list over and over, so that no step is a cut."""
    return cycle([*range(number), *range(number - 2, 0, -1)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument(
        '--size', type=image_size, default=(720, 1280), help='of the images (default: 1280x720)'
    )
    parser.add_argument('--encoding', choices=ENCODINGS[:5], default='rgb8', help='of the messages')
    parser.add_argument('--seed', type=int, default=0, help='of the simulated street')
    parser.add_argument('--turns', type=positive, default=7, help='of each contender (default: 7)')
    parser.add_argument(
        '--images', type=positive, default=40, help='in a turn; a multiple of the interval (default: 40)'
    )
    parser.add_argument('--out', type=Path, help='JSON file to write too')
    add_flags(parser.add_argument_group('settings of dff_ros'), DffConfig)
    return parser


if __name__ == '__main__':
    sys.exit(main())
