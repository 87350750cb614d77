# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Set-up: which steps run again, which ROS is used, and what is said when something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import setup_env
import setup_ros
from setup_steps import SetupError, Stamps, clean_environ, digest, failure_line, run_logged

ROOT = Path(__file__).parents[1]
GIB = 2**30
PYTHON = f'python{sys.version_info.major}.{sys.version_info.minor}'


class Recorder:
    """An action that counts its runs and can fail."""

    def __init__(self):
        self.num_runs = 0
        self.error = None

    def __call__(self):
        self.num_runs += 1
        if self.error:
            raise self.error


# --- stamps


def test_step_runs_once_per_inputs_even_in_another_process(tmp_path):
    action = Recorder()
    path = tmp_path / 'stamps.json'
    assert Stamps(path, tmp_path).run('packages', 'a', action)
    assert not Stamps(path, tmp_path).run('packages', 'a', action)
    assert Stamps(path, tmp_path).run('packages', 'b', action)
    assert Stamps(path, tmp_path).run('torch', 'b', action)
    assert action.num_runs == 3


def test_failed_step_runs_again_and_leaves_the_others_done(tmp_path):
    action, path = Recorder(), tmp_path / 'stamps.json'
    Stamps(path, tmp_path).run('torch', 'a', action)
    action.error = SetupError('no network')
    with pytest.raises(SetupError, match='no network'):
        Stamps(path, tmp_path).run('packages', 'a', action)
    stamps = Stamps(path, tmp_path)
    assert (stamps.knows('torch'), stamps.knows('packages')) == (True, False)


@pytest.mark.parametrize('content', ['', '{"steps": '])
def test_damaged_stamps_count_as_none(tmp_path, content):
    path = tmp_path / 'stamps.json'
    path.write_text(content)
    assert not Stamps(path, tmp_path).knows('torch')


def test_stamps_of_a_moved_checkout_do_not_count(tmp_path):
    path = tmp_path / 'stamps.json'
    Stamps(path, tmp_path / 'old').run('torch', 'a', Recorder())
    assert not Stamps(path, tmp_path / 'old').was_moved
    moved = Stamps(path, tmp_path / 'new')
    assert moved.was_moved
    assert not moved.knows('torch')


def test_digest_follows_texts_file_contents_and_new_files(tmp_path):
    directory = tmp_path / 'interfaces'
    directory.mkdir()
    (directory / 'A.msg').write_text('float64 x\n')
    seen = {digest('t', directory)}
    assert digest('t', directory) in seen
    seen.add(digest('u', directory))
    (directory / 'A.msg').write_text('float32 x\n')
    seen.add(digest('t', directory))
    (directory / 'B.msg').write_text('')
    seen.add(digest('t', directory))
    assert len(seen) == 4


# --- commands


@pytest.mark.parametrize(
    ('output', 'line'),
    [
        (
            'Collecting a\nERROR: No matching distribution found for a\nhint: no\n',
            'ERROR: No matching distribution found for a',
        ),
        ('CMake Error at CMakeLists.txt:5\n  could not find\n', 'CMake Error at CMakeLists.txt:5'),
        ('$ first\nERROR: old\n\n$ second\nall\nwent wrong\n', 'went wrong'),
        (
            'ERROR: x\nOSError: [Errno 28] No space left on device\n',
            'no space left on the disk: free some gigabytes and run make setup again',
        ),
        ('', 'the command failed'),
    ],
)
def test_failure_line(output, line):
    assert failure_line(output) == line


def test_failing_command_is_reported_by_its_last_error_line_and_logged(tmp_path):
    log = tmp_path / 'setup.log'
    run_logged([sys.executable, '-c', 'print("ERROR: of an earlier, tolerated command")'], log)
    script = 'import sys; print("fine"); print("ERROR: broken wheel"); sys.exit(3)'
    with pytest.raises(SetupError, match=r'^ERROR: broken wheel \(see .*setup.log\)$'):
        run_logged([sys.executable, '-c', script], log)
    assert 'tolerated' in log.read_text()


def test_commands_do_not_inherit_the_mark_of_another_environment():
    environ = {'_ROS_WHEELS_BOOTSTRAP_COMPLETE': '1', 'HOME': '/home/user'}
    assert clean_environ(environ) == {'HOME': '/home/user'}


# --- which ROS


@pytest.mark.parametrize('environ', [{}, {'AMENT_PREFIX_PATH': ''}, {'PATH': '/opt/ros/jazzy/bin'}])
def test_without_a_sourced_ros_the_wheels_are_used_and_nothing_is_asked(environ):
    asked = Recorder()
    assert setup_ros.find_ros(environ, asked) is None
    assert asked.num_runs == 0


@pytest.mark.parametrize('environ', [{'AMENT_PREFIX_PATH': '/opt/ros/jazzy'}, {'ROS_DISTRO': 'jazzy'}])
def test_sourced_ros_is_used_when_its_rclpy_imports(environ):
    ros = setup_ros.find_ros(environ, lambda: '1.26.4,True,False')
    assert (ros.numpy, ros.has_cv2, ros.has_vision_msgs) == ('1.26.4', True, False)
    assert ros.distro == environ.get('ROS_DISTRO', 'unknown')


def test_prefix_of_an_environment_with_ros_wheels_is_no_installation():
    assert setup_ros.find_ros({'AMENT_PREFIX_PATH': '/home/user/.venv'}, lambda: None) is None


def test_sourced_ros_of_another_python_is_refused_with_the_remedy():
    with pytest.raises(SetupError, match='humble is sourced.*set PYTHON.*not sourced'):
        setup_ros.find_ros({'ROS_DISTRO': 'humble'}, lambda: None)


def test_probe_answers_in_the_form_that_find_ros_expects(tmp_path):
    for name in ('rclpy', 'cv2', 'numpy'):
        (tmp_path / f'{name}.py').write_text("__version__ = '1.26.4'\n")
    environ = clean_environ(os.environ) | {'PYTHONPATH': str(tmp_path)}
    command = [sys.executable, '-S', '-c', setup_ros._PROBE]
    answer = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    ros = setup_ros.find_ros({'ROS_DISTRO': 'jazzy'}, lambda: answer.strip())
    assert ros == setup_ros.SourcedRos(distro='jazzy', numpy='1.26.4', has_cv2=True, has_vision_msgs=False)


@pytest.mark.parametrize(('numpy', 'line'), [('1.26.4', 'numpy==1.26.4'), ('', 'numpy<2')])
def test_constraints_on_a_ros_machine_keep_its_numpy_and_leave_opencv_to_it(numpy, line):
    ros = setup_ros.SourcedRos(distro='jazzy', numpy=numpy, has_cv2=True, has_vision_msgs=True)
    pinned = 'numpy==2.4.6\nopencv-python-headless==5.0\nros-rclpy==7.1.6\nrosbags==0.11.9\nav==18.1.0\n'
    assert setup_ros.adapt_constraints(pinned, ros).split() == ['rosbags==0.11.9', 'av==18.1.0', line]


def test_paths_of_the_build_image_are_dropped_from_the_wheels_cmake_files(tmp_path):
    path = tmp_path / 'share' / 'std_msgs' / 'cmake' / 'export_std_msgs__rosidl_generator_pyExport.cmake'
    path.parent.mkdir(parents=True)
    path.write_text('"/opt/python/cp311-cp311/include/python3.11;${_IMPORT_PREFIX}/include/std_msgs"')
    for _ in range(2):
        setup_ros.drop_foreign_paths(tmp_path)
        assert path.read_text() == '"${_IMPORT_PREFIX}/include/std_msgs"'


# --- what is missing


def lacking(tmp_path, *, builds=True, free_gib=50, tools=True, modules=True, headers=True):
    include = tmp_path / 'include'
    include.mkdir()
    if headers:
        (include / 'Python.h').touch()
    return setup_env.missing_requirements(
        builds=builds,
        free_bytes=int(free_gib * GIB),
        include=include,
        which=lambda name: f'/usr/bin/{name}' if tools else None,
        has_module=lambda name: modules,
    )


@pytest.mark.parametrize(
    ('lack', 'lines'),
    [
        ({}, []),
        ({'modules': False}, [f'{PYTHON} cannot make environments: sudo apt install {PYTHON}-venv']),
        ({'tools': False}, ['no C and C++ compiler found: sudo apt install build-essential']),
        ({'headers': False}, [f'the headers of {PYTHON} are missing: sudo apt install {PYTHON}-dev']),
        ({'free_gib': 1.5}, ['1.5 GiB of disk free, 4 GiB needed: free some disk space']),
        ({'builds': False, 'tools': False, 'headers': False}, []),  # on a ROS machine nothing is built
    ],
)
def test_each_missing_thing_is_one_line_with_the_remedy(tmp_path, lack, lines):
    assert lacking(tmp_path, **lack) == lines


def test_all_missing_things_are_named_at_once(tmp_path):
    assert len(lacking(tmp_path, free_gib=0, tools=False, modules=False, headers=False)) == 4


@pytest.mark.parametrize(
    ('environ', 'remembered', 'spec'),
    [
        ({}, None, setup_env.TORCH),
        ({'TORCH': ''}, None, setup_env.TORCH),
        ({'TORCH': 'torch==2.11.0'}, None, 'torch==2.11.0'),
        ({}, 'torch==2.11.0', 'torch==2.11.0'),  # make demo after make setup TORCH=...
        ({'TORCH': setup_env.TORCH}, 'torch==2.11.0', setup_env.TORCH),
    ],
)
def test_torch_is_the_one_asked_for_now_or_last_time(tmp_path, environ, remembered, spec):
    path = tmp_path / 'torch.txt'
    if remembered:
        path.write_text(f'{remembered}\n')
    assert setup_env.chosen_torch(environ, path) == spec


@pytest.mark.parametrize('offers_cpu_build', [True, False])
def test_default_torch_is_the_cpu_build_where_there_is_one(tmp_path, monkeypatch, offers_cpu_build):
    installed = []

    def pip_install(*arguments):
        if arguments == (f'{setup_env.TORCH}+cpu',) and not offers_cpu_build:
            raise SetupError('ERROR: No matching distribution found')
        installed.append(arguments)

    monkeypatch.setattr(setup_env, 'pip_install', pip_install)
    monkeypatch.setattr(setup_env, 'FREE_GIB_CUDA', 0)
    setup_env.install_torch(setup_env.TORCH, tmp_path / 'torch.txt')
    assert installed == [(f'{setup_env.TORCH}+cpu' if offers_cpu_build else setup_env.TORCH,)]
    assert (tmp_path / 'torch.txt').read_text() == f'{setup_env.TORCH}\n'


def test_default_torch_is_not_replaced_by_another_build_when_the_network_fails(tmp_path, monkeypatch):
    def pip_install(*arguments):
        assert arguments == (f'{setup_env.TORCH}+cpu',)
        raise SetupError('ERROR: Could not install packages due to an OSError: timed out')

    monkeypatch.setattr(setup_env, 'pip_install', pip_install)
    with pytest.raises(SetupError, match='timed out'):
        setup_env.install_torch(setup_env.TORCH, tmp_path / 'torch.txt')


def test_cuda_build_is_not_begun_without_the_space_for_it(tmp_path, monkeypatch):
    def pip_install(*arguments):
        raise SetupError('ERROR: No matching distribution found')

    monkeypatch.setattr(setup_env, 'pip_install', pip_install)
    monkeypatch.setattr(setup_env, 'FREE_GIB_CUDA', 2**40)
    with pytest.raises(SetupError, match='free disk space or set TORCH'):
        setup_env.install_torch(setup_env.TORCH, tmp_path / 'torch.txt')
    assert not (tmp_path / 'torch.txt').exists()


def test_environment_is_kept_only_if_it_starts_and_sees_what_it_should(tmp_path, monkeypatch):
    monkeypatch.delenv('PYTHON', raising=False)
    venv = tmp_path / 'venv'
    assert not setup_env.is_usable(venv, on_ros=False)
    (venv / 'bin').mkdir(parents=True)
    (venv / 'pyvenv.cfg').write_text('include-system-site-packages = false\nversion = 3.10.2\n')
    assert not setup_env.is_usable(venv, on_ros=False)  # no interpreter
    (venv / 'bin' / 'python').symlink_to('/bin/true')
    assert setup_env.is_usable(venv, on_ros=False)
    assert not setup_env.is_usable(venv, on_ros=True)
    monkeypatch.setenv('PYTHON', sys.executable)
    assert not setup_env.is_usable(venv, on_ros=False)  # another version than the one asked for


def test_interface_packages_are_built_by_their_own_names(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(setup_env, 'build_interfaces', lambda source, *others: built.append(source))
    monkeypatch.setattr(setup_env, 'VENV_PYTHON', Path(sys.executable))
    for name in setup_env.INTERFACES:
        assert f'<name>{name}</name>' in (ROOT / 'interfaces' / name / 'package.xml').read_text()
        setup_env.build_package(name, is_ours=True)
    assert [source.name for source in built] == ['vision_msgs', 'dff_msgs']
    setup_env.build_package('email', is_ours=False)  # no email.msg: it is built
    assert built[-1].name == 'email'
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'msg.py').touch()
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    setup_env.build_package('other', is_ours=False)  # of the environment, and not from here
    assert len(built) == 3


def test_share_has_a_link_to_every_file_and_follows_changes(tmp_path):
    root, venv = tmp_path / 'root', tmp_path / 'venv'
    for name in ('package.xml', 'launch/dff.launch.py', 'config/dff.yaml', 'models/road/manifest.json'):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (venv / 'bin').mkdir(parents=True)
    (venv / 'bin' / 'dff_node').write_text('node')
    share, lib = venv / 'share' / 'dff_ros', venv / 'lib' / 'dff_ros'

    def visible():
        setup_env.update_links(setup_env.share_links(root, venv), [share, lib])
        return {str(Path(d, f).relative_to(share)) for d, _, files in os.walk(share) for f in files}

    assert visible() == {
        'package.xml',
        'launch/dff.launch.py',
        'config/dff.yaml',
        'models/road/manifest.json',
    }
    assert (share / 'models' / 'road' / 'manifest.json').read_text() == 'models/road/manifest.json'
    assert (lib / 'dff_node').read_text() == 'node'
    (root / 'config' / 'dff.yaml').rename(root / 'config' / 'other.yaml')
    assert visible() == {
        'package.xml',
        'launch/dff.launch.py',
        'config/other.yaml',
        'models/road/manifest.json',
    }


# --- the entry script


def run_setup_sh(tmp_path, environ):
    """Run tools/setup.sh where the only interpreters are those in tmp_path/bin."""
    for tool in ('dirname', 'tr', 'grep', 'paste'):
        source = next(Path(d) / tool for d in ('/usr/bin', '/bin') if (Path(d) / tool).exists())
        (tmp_path / 'bin').mkdir(exist_ok=True)
        (tmp_path / 'bin' / tool).symlink_to(source)
    return subprocess.run(
        ['/bin/sh', ROOT / 'tools' / 'setup.sh'],
        env={'PATH': str(tmp_path / 'bin')} | environ,
        capture_output=True,
        text=True,
    )


def add_interpreter(tmp_path, name, *, suits=True, has_rclpy=False):
    """A stand-in that answers the script's questions and prints its name when handed the set-up."""
    path = tmp_path / 'bin' / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f'#!/bin/sh\ncase "$2" in *version_info*) exit {int(not suits)};; '
        f'*rclpy*) exit {int(not has_rclpy)};; *) echo {name} "$@";; esac\n'
    )
    path.chmod(0o755)


@pytest.mark.parametrize(
    ('interpreters', 'environ', 'chosen'),
    [
        ({'python3': {}, 'python3.11': {}}, {}, 'python3'),
        ({'python3': {'suits': False}, 'python3.11': {}}, {}, 'python3.11'),
        ({'python3': {}, 'python3.12': {'has_rclpy': True}}, {'ROS_DISTRO': 'jazzy'}, 'python3.12'),
        ({'python3': {}, 'python3.11': {}}, {'ROS_DISTRO': 'jazzy'}, 'python3'),
        ({'python3': {}, 'python3.11': {}}, {'PYTHON': 'python3.11'}, 'python3.11'),
    ],
)
def test_first_suitable_interpreter_is_chosen(tmp_path, interpreters, environ, chosen):
    for name, traits in interpreters.items():
        add_interpreter(tmp_path, name, **traits)
    done = run_setup_sh(tmp_path, environ)
    assert (done.stdout, done.stderr) == (f'{chosen} tools/setup_env.py\n', '')


def test_missing_python_is_one_line_that_says_what_to_install(tmp_path):
    done = run_setup_sh(tmp_path, {})
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert done.stderr.startswith('error: no Python 3.11 or 3.12 found: sudo apt install python3.11 ')


def test_unsuitable_python_that_was_asked_for_is_named(tmp_path):
    add_interpreter(tmp_path, 'python3.10', suits=False)
    done = run_setup_sh(tmp_path, {'PYTHON': 'python3.10'})
    assert (done.returncode, done.stderr) == (1, 'error: PYTHON=python3.10 is not a Python 3.11 or 3.12\n')
