"""The `dff` command: subcommands, exit codes, one-line errors, and a quick help."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types

import pytest

from dff_ros import cli
from dff_ros.errors import BundleError

HEAVY = ('torch', 'onnxruntime', 'rclpy', 'cv2', 'av', 'rich')


@pytest.fixture
def command(monkeypatch):
    """A module that stands in for the subcommand `run`; its `action` decides what running it does."""
    module = types.SimpleNamespace(
        SUMMARY='Stands in.',
        add_arguments=lambda parser: parser.add_argument('--number', type=int, default=3),
        run=lambda args: module.action(args),
        action=lambda args: args.number,
    )
    real = importlib.import_module
    monkeypatch.setattr(
        importlib, 'import_module', lambda name: module if name == 'dff_ros.commands.run' else real(name)
    )
    return module


def raising(error):
    def action(args):
        raise error

    return action


@pytest.mark.parametrize('argv, code', [(['run'], 3), (['run', '--number', '0'], 0)])
def test_exit_code_is_the_commands_own(command, argv, code):
    assert cli.main(argv) == code


def test_dff_error_is_one_line_and_exit_code_2(command, capsys):
    command.action = raising(BundleError('models/x/manifest.json is missing'))
    assert cli.main(['run']) == 2
    assert capsys.readouterr().err == 'error: models/x/manifest.json is missing\n'


def test_ctrl_c_is_130_without_a_traceback(command, capsys):
    command.action = raising(KeyboardInterrupt())
    assert cli.main(['run']) == 130
    assert capsys.readouterr().err == 'interrupted\n'


def test_programming_error_keeps_its_traceback(command):
    command.action = raising(ZeroDivisionError('a bug'))
    with pytest.raises(ZeroDivisionError, match='a bug'):
        cli.main(['run'])


def test_unknown_command_names_the_known_ones(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(['rum'])
    assert exit_info.value.code == 2
    assert "'rum'" in capsys.readouterr().err


def test_every_command_has_a_summary_and_a_help(capsys):
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert importlib.import_module(f'dff_ros.commands.{name}').SUMMARY in ' '.join(text.split())
        with pytest.raises(SystemExit) as exit_info:
            cli.main([name, '--help'])
        assert exit_info.value.code == 0


@pytest.mark.parametrize('argv', [['--help'], ['--version'], ['run', '--help']])
def test_help_loads_no_heavy_package(argv):
    script = (
        'import sys\nfrom dff_ros import cli\n'
        f'try:\n    cli.main({argv!r})\nexcept SystemExit:\n    pass\n'
        f'loaded = [name for name in {HEAVY!r} if name in sys.modules]\n'
        'sys.exit(f"loaded: {loaded}" if loaded else 0)'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('dff_ros ' if argv == ['--version'] else 'usage: dff')


def test_a_reader_that_leaves_is_no_error():
    process = subprocess.Popen(
        [sys.executable, '-m', 'dff_ros.cli', 'run', '--help'], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    _, errors = process.communicate()
    assert errors == b''
