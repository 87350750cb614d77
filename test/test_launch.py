# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The launch arguments, the launch file, and the life of the process: start, signals, exit codes."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dff_ros.config import DffConfig, walk
from dff_ros.errors import ConfigError
from dff_ros.ros import launch_files, launch_plans, launching
from dff_ros.ros.ending import ENDS_WITH_PARENT

ROOT = Path(__file__).parent.parent
DEFAULTS = {argument.name: argument.default for argument in launching.arguments(ROOT)}
TIMEOUT_S = 30


def test_without_arguments_only_the_parameter_file_counts():
    assert launching.parameters(DEFAULTS) == {'use_sim_time': False}
    assert DEFAULTS['params_file'] == str(ROOT / 'config' / 'dff.yaml')
    assert (DEFAULTS['image'], DEFAULTS['namespace'], DEFAULTS['log_level']) == ('image', '', 'info')


def test_every_setting_that_is_read_at_start_has_an_argument_with_its_description():
    described = {argument.name: argument.description for argument in launching.arguments(ROOT)}
    for parameter in walk(DffConfig):
        if '.' not in parameter.name:
            assert parameter.description in described[parameter.name]


def test_arguments_become_typed_parameters():
    given = {'interval': '10', 'device': 'cpu', 'num_threads': '2', 'bundle': '7', 'autostart': 'false',
             'use_sim_time': 'True'}  # fmt: skip
    given['cameras'] = 'front,left'
    assert launching.parameters(DEFAULTS | given) == {
        'cameras': ['front', 'left'],
        'use_sim_time': True,
        'autostart': False,
        'bundle': '7',
        'device': 'cpu',
        'num_threads': 2,
        'keyframe.interval': 10,
    }


@pytest.mark.parametrize(
    ('given', 'complaint'),
    [
        ({'interval': '0'}, 'keyframe.interval: got 0, allowed is from 1 to 1000 frames'),
        ({'interval': 'five'}, "keyframe.interval: got 'five', expected int"),
        ({'device': 'tpu'}, "device: got 'tpu', allowed is one of auto, cpu, cuda"),
        ({'use_sim_time': 'yes'}, "use_sim_time: got 'yes', allowed is true or false"),
        (
            {'model': 'a', 'bundle': 'b'},
            "model and bundle are one setting, got 'a' and 'b': give one of them",
        ),
    ],
)
def test_a_bad_argument_is_refused_by_name(given, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        launching.parameters(DEFAULTS | given)


def test_model_is_another_name_of_bundle():
    for given in ({'model': 'mine'}, {'bundle': 'mine'}, {'model': 'mine', 'bundle': 'mine'}):
        assert launching.parameters(DEFAULTS | given)['bundle'] == 'mine'


def test_shared_memory_is_on_unless_switched_off_or_set_by_the_user():
    variable = launching.PROFILES_VARIABLE
    profile = launching.environment(DEFAULTS, ROOT, {})
    assert profile == {variable: str(ROOT / 'config' / 'fastdds_shm.xml')}
    assert launching.environment(DEFAULTS, ROOT, {variable: '/mine.xml'}) == {}
    assert launching.environment(DEFAULTS | {'shared_memory': 'false'}, ROOT, {}) == {}


def test_the_profile_is_there():
    assert (ROOT / 'config' / launching.SHARED_MEMORY_PROFILE).is_file()


def test_the_launch_files_declare_the_arguments_of_their_plans(monkeypatch):
    pytest.importorskip('launch_ros')
    wanted = {
        'dff': launching.arguments(ROOT),
        'multi_camera': launch_plans.multi_camera_arguments(ROOT),
        'demo': launch_plans.demo_arguments(ROOT),
    }
    assert {path.name for path in (ROOT / 'launch').iterdir()} == {f'{name}.launch.py' for name in wanted}
    for name, arguments in wanted.items():
        file = importlib.util.spec_from_file_location(name, ROOT / 'launch' / f'{name}.launch.py')
        module = importlib.util.module_from_spec(file)
        file.loader.exec_module(module)
        declared = module.generate_launch_description().get_launch_arguments()
        assert [argument.name for argument in declared] == [argument.name for argument in arguments]


def test_the_launch_file_builds_the_command_of_the_node(monkeypatch):
    pytest.importorskip('launch_ros')
    import launch
    from launch.utilities import perform_substitutions

    monkeypatch.delenv(launching.PROFILES_VARIABLE, raising=False)
    context = launch.LaunchContext()
    context.launch_configurations.update(DEFAULTS | {'image': '/camera/image_raw', 'interval': '10'})

    def actions():
        return launch_files.actions(context, ROOT, launching.arguments(ROOT), launch_plans.node)

    (node,) = actions()
    assert node.node_package == 'dff_ros'
    assert node.node_executable == 'dff_node'
    variables = dict(
        [perform_substitutions(context, part) for part in variable] for variable in node.additional_env
    )
    assert variables[launching.PROFILES_VARIABLE] == str(ROOT / 'config' / 'fastdds_shm.xml')
    assert variables[ENDS_WITH_PARENT] == str(os.getpid())
    with pytest.raises(ConfigError, match='image: got.*front, left'):
        context.launch_configurations['cameras'] = 'front,left'
        actions()
    context.launch_configurations['image'] = '/{camera}/image_raw'
    assert len(actions()) == 1
    with pytest.raises(ConfigError, match='interval'):
        context.launch_configurations['interval'] = '0'
        actions()


def example() -> str:
    """The launch file in docs/launch.md."""
    (code,) = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'launch.md').read_text(), re.S)
    return code


def test_the_example_gives_arguments_that_there_are():
    (given,) = re.findall(r'launch_arguments=(\{.*?\})', example(), re.S)
    values = ast.literal_eval(given)
    assert set(values) <= set(DEFAULTS)
    assert launching.parameters(DEFAULTS | values)['keyframe.interval'] == 8
    assert launching.remappings(DEFAULTS | values) == [
        ('image', '/camera/image_raw'),
        ('camera_info', '/camera/camera_info'),
    ]


def test_the_example_includes_the_launch_file(tmp_path, monkeypatch):
    pytest.importorskip('launch_ros')
    import launch

    index = tmp_path / 'share' / 'ament_index' / 'resource_index' / 'packages'
    index.mkdir(parents=True)
    (index / 'dff_ros').touch()
    (tmp_path / 'share' / 'dff_ros').symlink_to(ROOT)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    names: dict[str, object] = {}
    exec(compile(example(), 'docs/launch.md', 'exec'), names)
    (included,) = names['generate_launch_description']().entities
    context = launch.LaunchContext()
    *settings, description = included.visit(context)
    for setting in settings:
        setting.visit(context)
    assert context.launch_configurations['namespace'] == 'perception'
    declared = {argument.name for argument in description.get_launch_arguments()}
    assert {'image', 'interval', 'rviz'} <= declared


def test_a_missing_parameter_file_is_refused_by_name():
    assert launching.parameter_file(DEFAULTS) == DEFAULTS['params_file']
    with pytest.raises(ConfigError, match=r"params_file: there is no file '/nope\.yaml'"):
        launching.parameter_file({'params_file': '/nope.yaml'})


def test_a_launch_with_a_missing_parameter_file_starts_nothing_and_fails():
    pytest.importorskip('launch_ros')
    launch = (
        'import sys; from launch import LaunchService; from launch.actions import IncludeLaunchDescription;'
        'from launch.launch_description_sources import PythonLaunchDescriptionSource as Source;'
        'from launch import LaunchDescription; service = LaunchService();'
        'included = IncludeLaunchDescription(Source(sys.argv[1]),'
        " launch_arguments={'params_file': '/nope.yaml'}.items());"
        'service.include_launch_description(LaunchDescription([included])); sys.exit(service.run())'
    )
    done = run_to_end('-c', launch, str(ROOT / 'launch' / 'dff.launch.py'))
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert "params_file: there is no file '/nope.yaml'" in output
    assert 'process started' not in output


def environment() -> dict[str, str]:
    paths = [str(ROOT), str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')]
    return os.environ | {
        'PYTHONPATH': os.pathsep.join(path for path in paths if path),
        'RCUTILS_LOGGING_BUFFERED_STREAM': '0',
        'PYTHONUNBUFFERED': '1',
    }


def run_to_end(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S
    )


class Running:
    """A process whose output is read line by line."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()

    def wait_for(self, text: str) -> None:
        with self._news:
            assert self._news.wait_for(lambda: any(text in line for line in self.lines), TIMEOUT_S), (
                self.lines
            )

    def end_by(self, *numbers: signal.Signals) -> tuple[int, str]:
        for number in numbers:
            self.process.send_signal(number)
        code = self.process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        return code, ''.join(self.lines)


@contextmanager
def running(*command: str) -> Iterator[Running]:
    child = Running(*command)
    try:
        yield child
    finally:
        child.process.kill()
        child.process.wait()
        child._reader.join()
        child.process.stdout.close()


FAKE_NODE = str(Path(__file__).parent / 'fake_node.py')


@pytest.mark.parametrize(
    'numbers',
    [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)],
    ids=['SIGINT', 'SIGTERM', 'twice', 'both'],
)
def test_a_signal_ends_the_node_with_code_0_and_no_traceback(numbers):
    pytest.importorskip('rclpy')
    with running(FAKE_NODE) as node:
        node.wait_for('key frame every 5 frames')
        code, output = node.end_by(*numbers)
    assert code == 0
    assert 'Traceback' not in output
    assert 'bundle fake, fake (none) on cpu, fp32, 1 threads: asked for by a test; flow dis; key' in output
    assert 'topics /image, /camera_info, /dff/segmentation, /dff/confidence, /dff/label_info, ' in output
    assert '/dff/label_info, /dff/camera_info, /dff/overlay, /dff/status' in output


@pytest.mark.parametrize(
    ('given', 'topics'),
    [
        ('[front, left]', 'topics /front/image, /front/camera_info, /front/dff/segmentation, '),
        ('front,left', ', /left/image, /left/camera_info, /left/dff/segmentation, '),
        ('[]', 'topics /image, /camera_info, /dff/segmentation, '),
    ],
)
def test_a_parameter_file_names_the_cameras(tmp_path, given, topics):
    pytest.importorskip('rclpy')
    path = tmp_path / 'cameras.yaml'
    path.write_text(f'/**:\n  ros__parameters:\n    cameras: {given}\n')
    with running(FAKE_NODE, '--ros-args', '--params-file', str(path)) as node:
        node.wait_for('key frame every 5 frames')
        code, output = node.end_by(signal.SIGINT)
    assert code == 0
    assert topics in output


def test_a_signal_ends_a_node_that_was_never_configured():
    pytest.importorskip('rclpy')
    with running(FAKE_NODE, '--ros-args', '-p', 'autostart:=false', '-p', 'keyframe.intervall:=3') as node:
        node.wait_for("did you mean 'keyframe.interval'?")  # the last line of its start
        code, output = node.end_by(signal.SIGINT)
    assert code == 0
    assert 'Traceback' not in output


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['-p', 'keyframe.interval:=0'], 'keyframe.interval'),
        (['-p', 'backend:=tensorflow'], "backend: got 'tensorflow', allowed is one of auto, onnx, torch"),
        (['--params-file', 'missing.yaml'], 'missing.yaml'),
        (['-p', 'cameras:=[1, 2]'], 'cameras: got [1, 2], expected names: [front, left] or front,left'),
        (['-p', 'cameras:=/front'], "cameras: got '/front'; a name has letters, digits and _"),
    ],
)
def test_a_user_error_is_one_line_and_code_2(arguments, complaint):
    pytest.importorskip('rclpy')
    done = run_to_end(FAKE_NODE, '--ros-args', *arguments)
    assert done.returncode == 2, done.stderr
    assert complaint in done.stderr
    ours = [line for line in done.stderr.splitlines() if '[rcl]' not in line]  # rcl adds a line of its own
    assert len(ours) == 1


def test_a_missing_bundle_is_one_fatal_line_and_code_2(tmp_path):
    pytest.importorskip('rclpy')
    missing = tmp_path / 'no_such_model'
    done = run_to_end('-m', 'dff_ros.ros.node', '--ros-args', '-p', f'bundle:={missing}')
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert '[FATAL]' in line
    assert str(missing) in line


@pytest.mark.parametrize('arguments', [['--help'], ['-h'], ['--ros-args', '--help']], ids=' '.join)
def test_help_lists_every_parameter_and_starts_no_node(arguments):
    pytest.importorskip('rclpy')
    done = run_to_end('-m', 'dff_ros.ros.node', *arguments)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith('usage: dff_node [--help] [--ros-args [-p NAME:=VALUE]')
    text = ' '.join(done.stdout.split())
    for parameter in walk(DffConfig):
        assert f' {parameter.name}:=' in text
        assert f'{parameter.description}: {parameter.allowed}' in text
    assert 'autostart:=true' in text
    assert "cameras:=''" in text


@pytest.mark.parametrize(
    'arguments',
    [['--bogus'], ['--ros-args', '--bogus'], ['--ros-args', '-p', 'backend:=onnx', '--', '--bogus']],
    ids=' '.join,
)
def test_an_unknown_argument_is_named_with_the_usage_and_code_2(arguments):
    pytest.importorskip('rclpy')
    done = run_to_end('-m', 'dff_ros.ros.node', *arguments)
    assert (done.returncode, done.stdout) == (2, '')
    first, second = [line for line in done.stderr.splitlines() if '[rcl]' not in line][:2]
    assert first == 'error: unknown arguments --bogus'
    assert second.startswith('usage: dff_node ')


@pytest.mark.parametrize(('argument', 'code'), [('--help', 0), ('--bogus', 2)])
def test_a_program_without_a_usage_text_of_its_own_tells_how_to_pass_parameters(argument, code):
    pytest.importorskip('rclpy')
    done = run_to_end('-m', 'dff_ros.ros.camera', argument)
    assert done.returncode == code
    assert '--ros-args [-p NAME:=VALUE]' in done.stdout + done.stderr


@pytest.mark.parametrize(
    'override',
    ['/dff/segmentation.publisher.depth:=abc', '/dff/status.publisher.depth:=-3',
     '/image.subscription.reliability:=foo'],
)  # fmt: skip
def test_a_bad_qos_override_is_one_fatal_line_and_code_2(override):
    pytest.importorskip('rclpy')
    done = run_to_end(FAKE_NODE, '--ros-args', '-p', f'qos_overrides.{override}')
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert '[FATAL]' in line
    assert 'qos_overrides.' + override.split(':=')[0] in line
    assert 'from 1 to 10000' in line or 'one of system_default, reliable, best_effort' in line
