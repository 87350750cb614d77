# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`make demo`: camera and node as two processes over real DDS, watched by a third that writes video and
figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.bundle import open_bundle
from dff_ros.errors import ConfigError, DffError
from dff_ros.flags import add_config_flags, config_from_flags
from dff_ros.model_spec import ModelSpec
from dff_ros.ros.interrupts import Interrupted
from dff_ros.sources import STREET, FrameSource, SourceRequest

if TYPE_CHECKING:
    from dff_ros.ros.outputs import Settings

NODE_MODULE = 'dff_ros.ros.node'
_DEFAULT_DURATION_S = 20.0
_MAX_RATE_HZ = 1000.0
_MAX_SEED = 2**31 - 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo: 0 at its end, 2 on an error the user can mend, 128 + number after a signal."""
    args = make_parser().parse_args(argv)
    try:
        from dff_ros.ros.session import run_session

        return run_session(read_settings(args))
    except DffError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except Interrupted as error:
        return 128 + error.number
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The demo's flags and those of DffConfig."""
    parser = argparse.ArgumentParser(
        prog='demo',
        description='A camera and the node over real ROS 2, with a live table, a video and a JSON file.',
    )
    parser.add_argument(
        '--source',
        default=STREET,
        help=f'{STREET}, video file, folder of images, CamVid folder or /dev/videoN',
    )
    parser.add_argument('--split', default='val', help='split of a CamVid folder (default: val)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the simulated street (default: 0)')
    parser.add_argument(
        '--rate',
        type=float,
        help="frames/s of the camera (default: the source's own); 0 waits for each answer",
    )
    parser.add_argument(
        '--duration',
        type=float,
        help=f'seconds until the end (default: {_DEFAULT_DURATION_S:g}; with --rate 0 until the source ends)',
    )
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder of the results (default: out)')
    add_config_flags(parser)
    return parser


def read_settings(args: argparse.Namespace) -> Settings:
    """What parsed flags ask for; DffError where a value, source or bundle is wrong."""
    from dff_ros.ros.outputs import Settings

    if args.rate is not None and not 0 <= args.rate <= _MAX_RATE_HZ:
        raise ConfigError(
            f'--rate: got {args.rate:g}, allowed is 0 (wait for each answer) to {_MAX_RATE_HZ:g}'
        )
    if args.duration is not None and not args.duration > 0:
        raise ConfigError(f'--duration: got {args.duration:g}, must be above 0 seconds')
    if not 0 <= args.seed <= _MAX_SEED:
        raise ConfigError(f'--seed: got {args.seed}, allowed is 0 to {_MAX_SEED}')
    config = config_from_flags(args)
    request = SourceRequest(text=args.source, split=args.split, seed=args.seed, fps=args.rate or None)
    source = request.open()
    return Settings(
        config=config,
        spec=read_spec(config.bundle),
        request=request,
        source=source,
        rate_hz=source.fps if args.rate is None else args.rate,
        duration_s=_duration_s(args, source),
        out=args.out,
        node_module=NODE_MODULE,
    )


def read_spec(bundle: str) -> ModelSpec:
    """Class names and colours of a bundle; BundleError as `open_bundle`. The node checks its files."""
    return open_bundle(bundle, verify=False).spec


def _duration_s(args: argparse.Namespace, source: FrameSource) -> float | None:
    """None where the source's own end ends the demo: accuracy counts on every frame."""
    if args.duration is None and args.rate == 0 and source.num_frames is not None:
        return None
    return args.duration or _DEFAULT_DURATION_S


if __name__ == '__main__':
    sys.exit(main())
