# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff train`: train a model; one subcommand for each kind of training."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from dff_ros.config import replace
from dff_ros.flags import add_flags, given_flags
from dff_ros.training.config import TrainConfig
from dff_ros.training.dff_config import DffTrainConfig
from dff_ros.training.flow_config import FlowTrainConfig
from dff_ros.training.scheduler_config import SchedulerTrainConfig

SUMMARY = 'Train the networks.'

_SEGMENTATION = 'Train the feature net and the segmentation head per frame.'
_DFF = 'Train feature net, head, flow net, scale map and correction together on pairs of frames.'
_SCHEDULER = 'Train the net that predicts where propagation differs from per-frame inference.'
_FLOW = 'Pre-train a flow net on made image pairs whose flow is known exactly.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    tasks = parser.add_subparsers(dest='task', metavar='TASK', required=True)
    _add_task(tasks.add_parser('segmentation', help=_SEGMENTATION, description=_SEGMENTATION), TrainConfig)
    flow = tasks.add_parser('flow', help=_FLOW, description=_FLOW)
    flow.add_argument(
        '--json',
        action='store_true',
        help='print the figures, which are in flow.json of the run too, as JSON; all else goes to stderr',
    )
    _add_task(flow, FlowTrainConfig)
    _add_task(tasks.add_parser('dff', help=_DFF, description=_DFF), DffTrainConfig)
    scheduler = tasks.add_parser('scheduler', help=_SCHEDULER, description=_SCHEDULER)
    _add_task(scheduler, SchedulerTrainConfig)
    plot = tasks.add_parser('plot', help='Draw the log of a run into its log.png.')
    plot.add_argument('run_directory', metavar='RUN', type=Path, help='directory of the run')


def run(args: argparse.Namespace) -> int:
    """Train, or draw the log."""
    if args.task == 'plot':
        from dff_ros.training import run_log

        print(f'wrote {run_log.plot(args.run_directory)}')
        return 0
    if args.task == 'dff':
        from dff_ros.training.dff_loop import train_dff

        return train_dff(replace(DffTrainConfig(), given_flags(args)), args.resume)
    if args.task == 'scheduler':
        from dff_ros.training.scheduler_loop import train_scheduler

        return train_scheduler(replace(SchedulerTrainConfig(), given_flags(args)), args.resume)
    if args.task == 'flow':
        return _train_flow(replace(FlowTrainConfig(), given_flags(args)), args.resume, args.json)
    from dff_ros.training.loop import train

    return train(replace(TrainConfig(), given_flags(args)), args.resume)


def _add_task(parser: argparse.ArgumentParser, config_type: type) -> None:
    parser.add_argument(
        '--resume', action='store_true', help='go on from the checkpoint in the run directory'
    )
    add_flags(parser.add_argument_group('settings'), config_type)


def _train_flow(config: FlowTrainConfig, resume: bool, as_json: bool) -> int:
    import json

    from dff_ros.training.flow_loop import read_results, train_flow

    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        status = train_flow(config, resume)
    if as_json and status == 0:
        print(json.dumps(read_results(Path(config.run)), indent=2))
    return status
