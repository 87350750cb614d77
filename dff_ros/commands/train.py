"""`dff train`: train a model; one subcommand for each kind of training."""

from __future__ import annotations

import argparse
from pathlib import Path

from dff_ros.config import replace
from dff_ros.flags import add_flags, given_flags
from dff_ros.training.config import TrainConfig

SUMMARY = 'Train the feature net and the segmentation head per frame.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    tasks = parser.add_subparsers(dest='task', metavar='TASK', required=True)
    task = tasks.add_parser('segmentation', help=SUMMARY, description=SUMMARY)
    task.add_argument('--resume', action='store_true', help='go on from the checkpoint in the run directory')
    add_flags(task.add_argument_group('settings'), TrainConfig)
    plot = tasks.add_parser('plot', help='Draw the log of a run into its log.png.')
    plot.add_argument('run_directory', metavar='RUN', type=Path, help='directory of the run')


def run(args: argparse.Namespace) -> int:
    """Train, or draw the log."""
    if args.task == 'plot':
        from dff_ros.training import run_log

        print(f'wrote {run_log.plot(args.run_directory)}')
        return 0
    from dff_ros.training.loop import train

    return train(replace(TrainConfig(), given_flags(args)), args.resume)
