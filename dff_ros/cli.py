# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The `dff` command: runs a subcommand and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from dff_ros.errors import DffError
from dff_ros.memory import tune_malloc

_ANSWERING = ('run', 'bag', 'eval', 'bench', 'calibrate')
"""Those that run the engine frame by frame."""

COMMANDS = (
    'run',
    'bag',
    'eval',
    'bench',
    'info',
    'export',
    'quantise',
    'train',
    'calibrate',
    'data',
    'complexity',
)
"""Subcommands in the order of the help; each is a module of `dff_ros.commands`."""

_EXTRA_OF_MODULE = {
    'PIL': 'tools',
    'av': 'video',
    'cv2': 'opencv',
    'matplotlib': 'tools',
    'onnx': 'export',
    'onnxruntime': 'onnxruntime',
    'onnxscript': 'export',
    'pycocotools': 'tools',
    'rich': 'tools',
    'rosbags': 'bag',
    'safetensors': 'torch',
    'torch': 'torch',
}
"""Modules that pip installs only with an extra of the package, and which."""

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class Command(Protocol):
    """What a module of `dff_ros.commands` offers; it imports heavy packages only inside `run`."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0, the command's own code, 2 on an error the user can mend, 130 on Ctrl-C."""
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except DffError as error:
        print(f'error: {error}', file=sys.stderr)
        return EXIT_ERROR
    except ModuleNotFoundError as error:
        module = (error.name or '').partition('.')[0]
        if module not in _EXTRA_OF_MODULE:
            raise
        print(
            f'error: this needs {module}, which is not installed: '
            f'pip install "dff_ros[{_EXTRA_OF_MODULE[module]}]"',
            file=sys.stderr,
        )
        return EXIT_ERROR
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone; the interpreter's own flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _dispatch(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog='dff',
        description='Deep Feature Flow: perception of video at a fraction of the per-frame cost.',
    )
    parser.add_argument('--version', action='store_true', help='print the version and leave')
    named = argv[0] if argv and argv[0] in COMMANDS else None
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND')
    # Only the command that was named is imported; help and errors need the summaries of all.
    for name in COMMANDS if named is None else (named,):
        command = _load(name)
        subparser = subparsers.add_parser(name, help=command.SUMMARY, description=command.SUMMARY)
        if name == named:
            command.add_arguments(subparser)
            subparser.set_defaults(run=command.run)
    args = parser.parse_args(argv)
    if named in _ANSWERING:
        tune_malloc()
    if args.version:
        print(f'dff_ros {_version()}')
        return 0
    if args.command is None:
        parser.print_help()
        return 0
    return cast(int, args.run(args))


def _load(name: str) -> Command:
    return cast(Command, importlib.import_module(f'dff_ros.commands.{name}'))


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version('dff_ros')
    except metadata.PackageNotFoundError:
        return '(not installed)'


if __name__ == '__main__':
    sys.exit(main())
