# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The `dff` command: subcommands, exit codes, one-line errors, and a quick help."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from dff_ros import cli
from dff_ros.errors import BundleError

ROOT = Path(__file__).parents[1]
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


MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Missing())
from dff_ros import cli
sys.exit(cli.main({argv!r}))
"""


def without(names: tuple[str, ...], *argv: str) -> subprocess.CompletedProcess[str]:
    """The command where packages are not installed."""
    script = MISSING.format(names=names, argv=list(argv))
    return subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    'names, argv, module, extra',
    [
        (('rich', 'torch'), ('info', 'road-r18'), 'rich', 'tools'),
        (('rich', 'torch'), ('export', 'nowhere', '--out', 'nowhere'), 'rich', 'tools'),
        (('torch', 'av'), ('run', 'street', '--num-frames', '1'), 'av', 'video'),
        (('rich', 'torch'), ('run', 'street', '--num-frames', '1'), 'rich', 'tools'),
        (('torch',), ('complexity',), 'torch', 'torch'),
        (('torch',), ('train', 'segmentation', '--run', 'nowhere'), 'torch', 'torch'),
        (('cv2',), ('run', 'street', '--num-frames', '1'), 'cv2', 'opencv'),
    ],
)
def test_a_missing_optional_package_is_one_line_with_its_extra(names, argv, module, extra):
    done = without(names, *argv)
    assert done.stderr == (
        f'error: this needs {module}, which is not installed: pip install "dff_ros[{extra}]"\n'
    )
    assert (done.returncode, done.stdout) == (2, '')


def test_a_missing_package_of_another_kind_keeps_its_traceback():
    done = without(('numpy',), 'complexity')
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'numpy'" in done.stderr


def test_the_extras_named_are_those_of_the_package():
    """EXTRAS of setup.py lists each package under the extra that the message names."""
    tree = ast.parse((ROOT / 'setup.py').read_text(encoding='utf-8'))
    (extras,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ['EXTRAS']
    ]
    package_of = {'cv2': 'opencv-python-headless', 'PIL': 'pillow'}
    for module, extra in cli._EXTRA_OF_MODULE.items():
        packages = [re.split('[<>=]', requirement)[0] for requirement in extras[extra]]
        assert package_of.get(module, module) in packages
    named = {package_of.get(module, module) for module in cli._EXTRA_OF_MODULE}
    own = {'torch', 'onnxruntime', 'export', 'opencv', 'video', 'tools', 'bag'}
    assert named == {re.split('[<>=]', requirement)[0] for extra in own for requirement in extras[extra]}
