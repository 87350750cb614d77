# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`python -m dff_ros.ros.bench`: the running node, measured over real DDS.

The node is a process of its own, as `ros2 run` starts it; images are made before, serialized, and played from
this process. `dff bench --node` runs this module and takes its JSON over.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from dff_ros.backends.base import available_cores
from dff_ros.bundle import open_bundle
from dff_ros.config import DffConfig, replace, to_flat
from dff_ros.errors import BackendUnavailableError, ConfigError, DffError
from dff_ros.flags import above_zero, add_flags, given_flags, image_size, seed
from dff_ros.model_spec import ModelSpec
from dff_ros.ros.shots import BOXES, LABELS
from dff_ros.sources import STREET, FrameSource, open_source
from dff_ros.tasks import DETECTION, SEGMENTATION, plan_tasks

if TYPE_CHECKING:
    from dff_ros.ros.rig import Rig

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130

_ROS = ('rclpy', 'sensor_msgs', 'diagnostic_msgs', 'vision_msgs', 'rcl_interfaces')
ENCODINGS = ('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'bayer_rggb8')
_IMAGES_PER_TURN = 30


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print: 0, 2 on an error the user can mend, 130 on Ctrl-C."""
    args = make_parser().parse_args(argv)
    try:
        with nothing_on_stdout():
            report = {'command': _command(sys.argv[1:] if argv is None else argv), **run(args)}
    except DffError as error:
        print(f'error: {error}', file=sys.stderr)
        return EXIT_USER_ERROR
    except TimeoutError as error:
        print(f'error: {error}: is the machine overloaded?', file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    print(json.dumps(report, indent=2, allow_nan=False) if args.json else _in_words(report))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The flags, with those of DffConfig."""
    parser = argparse.ArgumentParser(
        prog='python -m dff_ros.ros.bench',
        description='The node over real DDS: peak rate with at most 5 % missed, latencies, overhead.',
    )
    parser.add_argument(
        '--size', type=image_size, default=(720, 1280), help='of the street (default: 1280x720)'
    )
    parser.add_argument('--encoding', choices=ENCODINGS, default='rgb8', help='of the images (default: rgb8)')
    parser.add_argument(
        '--data', default=STREET, help='what the camera sees, as in dff run (default: street)'
    )
    parser.add_argument('--split', help='split of a data set (default: val, or the only one)')
    parser.add_argument('--seed', type=seed, default=0, help='seed of the street (default: 0)')
    parser.add_argument(
        '--rates', type=_rates, default=(10.0, 30.0, 60.0), help='fixed rates, Hz (default: 10,30,60)'
    )
    parser.add_argument(
        '--seconds', type=above_zero, default=5.0, help='for each rate, at least 20 images (default: 5)'
    )
    parser.add_argument('--no_peak', action='store_true', help='leave the search for the peak rate out')
    parser.add_argument(
        '--steady', type=above_zero, default=0.0, help='at 30 Hz for so many seconds too, told by tenths'
    )
    parser.add_argument(
        '--switches',
        action='store_true',
        help='what each task, confidence and overlay cost, instead of rates',
    )
    parser.add_argument(
        '--cores',
        type=int,
        default=0,
        help='cores of the node, of which the player takes none (default: all share)',
    )
    parser.add_argument('--node_module', default='dff_ros.ros.node', help=argparse.SUPPRESS)  # for tests
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    add_flags(parser.add_argument_group('settings'), DffConfig)
    return parser


def run(args: argparse.Namespace) -> dict[str, object]:
    """The report. DffError where ROS is missing, a setting is wrong, or the node fails."""
    require_ros()
    from dff_ros.memory import tune_malloc
    from dff_ros.ros.children import set_environment
    from dff_ros.ros.node_bench import NodeBench, Plan
    from dff_ros.ros.prepared import prepare
    from dff_ros.ros.rig import Rig
    from dff_ros.ros.switches import run_switches, switches_of

    config = replace(DffConfig(), given_flags(args))
    spec = open_bundle(config.bundle, verify=False).spec
    outputs = outputs_of(config, spec)
    cores = _split_cores(args.cores)
    source = _open_source(args)
    set_environment()
    tune_malloc()
    with ExitStack() as stack:
        images = prepare(source, args.encoding)
        module = args.node_module
        rig = Rig(stack, to_flat(config), images, module=module, outputs=outputs, cores=cores)
        if args.switches:
            rig.player.greet(rig.child.check)
            rows = run_switches(rig, switches_of(spec), _IMAGES_PER_TURN)
            return {'switches': rows, 'node': _setup(args, config, source, rig)}
        found = NodeBench(rig).run(Plan(args.rates, args.seconds, not args.no_peak, args.steady))
        found['node'] = {**_setup(args, config, source, rig), **_mapping(found['node'])}
        return found


@contextmanager
def nothing_on_stdout() -> Iterator[None]:
    """What libraries print (Fast DDS does) goes to stderr: stdout is for the figures."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def require_ros() -> None:
    """BackendUnavailableError where what the node needs of ROS 2 cannot be imported."""
    import importlib

    for name in _ROS:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise BackendUnavailableError(
                f'the node needs ROS 2, and {name} cannot be imported ({error}): '
                'source the setup file of a ROS 2 installation (Jazzy or later) in this shell'
            ) from error


def outputs_of(config: DffConfig, spec: ModelSpec) -> tuple[str, ...]:
    """The answers of the tasks that are on."""
    topics = {SEGMENTATION: LABELS, DETECTION: BOXES}
    return tuple(topics[task] for task in plan_tasks(config, spec).tasks)


def _open_source(args: argparse.Namespace) -> FrameSource:
    """The street at the size asked for, any other source at its own."""
    size = args.size if args.data == STREET else None
    return open_source(args.data, split=args.split, seed=args.seed, size=size, fps=30.0)


def _split_cores(number: int) -> list[int] | None:
    """Those of the node; this process keeps the others. None: all share all."""
    if not number:
        return None
    cores = sorted(os.sched_getaffinity(0))
    if not 0 < number < len(cores):
        raise ConfigError(f'--cores: got {number}, of {len(cores)} cores at least one is for the player')
    os.sched_setaffinity(0, cores[number:])
    return cores[:number]


def _setup(args: argparse.Namespace, config: DffConfig, source: FrameSource, rig: Rig) -> dict[str, object]:
    """What was measured, on what."""
    facts = next((shot.facts for shot in reversed(rig.player.shots) if shot.facts), {})
    height, width = source.size
    return {
        'bundle': config.bundle,
        **{name: facts[name] for name in ('backend', 'device', 'provider', 'precision') if name in facts},
        'size': [width, height],
        'encoding': args.encoding,
        'source': args.data,
        'cores': available_cores(),
        'node_cores': args.cores or available_cores(),
        'num_threads': config.num_threads or args.cores or available_cores(),
        'scheduler': config.keyframe.scheduler,
        'interval': config.keyframe.fixed_interval,
        'refresh': config.refresh,
        'tasks': config.tasks,
        'output_size': config.segmentation.output_size,
        'outputs': list(rig.player.outputs),
        'rmw': os.environ.get('RMW_IMPLEMENTATION', ''),
        'profile': os.path.basename(os.environ.get('FASTRTPS_DEFAULT_PROFILES_FILE', '')),
    }


def _command(arguments: Sequence[str]) -> str:
    """How this was called; of absolute paths only the last name, the rest is one machine's."""
    words = [os.path.basename(word) if word.startswith('/') else word for word in arguments]
    return f'python -m dff_ros.ros.bench {shlex.join(words)}'.strip()


def _in_words(report: Mapping[str, object]) -> str:
    """The figures as lines for people."""
    if 'switches' in report:
        return '\n'.join(map(_switch_line, _rows(report['switches'])))
    node = _mapping(report['node'])
    overhead = _mapping(node['overhead'])
    lines = [
        f'peak {report["peak_fps"]} frames/s with at most 5 % missed',
        f'overhead {report["node_overhead_ms"]} ms (convert {overhead["convert_ms"]}, inside '
        f'{overhead["inside_ms"]}, transport {overhead["transport_ms"]}), engine {overhead["engine_ms"]} ms',
    ]
    for rate, found in _mapping(node['rates']).items():
        row = _mapping(found)
        latency = ', '.join(f'{name} {value}' for name, value in _mapping(row['latency_ms']).items())
        lines.append(f'{rate} Hz: {row["missed"]} of {row["sent"]} missed; {latency} ms')
    return '\n'.join(lines)


def _switch_line(row: Mapping[str, object]) -> str:
    return (
        f'{row["name"]}: answer {row["answer_ms"]} ms, engine {row["engine_ms"]} ms, '
        f'processor {row["cpu_ms_per_image"]} ms'
    )


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)
    return value


def _rows(value: object) -> Sequence[Mapping[str, object]]:
    assert isinstance(value, list)
    return value


def _rates(text: str) -> tuple[float, ...]:
    return tuple(sorted({above_zero(part) for part in text.split(',')}))


if __name__ == '__main__':
    sys.exit(main())
