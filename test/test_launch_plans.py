# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What each launch file starts, without launch; and that it ends with who started it."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dff_ros.errors import ConfigError
from dff_ros.ros import launch_plans, launching
from dff_ros.ros.ending import ENDS_WITH_PARENT, is_parent_there
from dff_ros.ros.launch_plans import RVIZ_TOPICS, Process, Surroundings

ROOT = Path(__file__).parent.parent
AROUND = Surroundings(ROOT, {}, lambda package: package == 'rviz2')
PLANS = {
    'dff': (launch_plans.node, launching.arguments),
    'multi_camera': (launch_plans.multi_camera, launch_plans.multi_camera_arguments),
    'demo': (launch_plans.demo, launch_plans.demo_arguments),
}
TIMEOUT_S = 30


def start(file: str, around: Surroundings = AROUND, **given: str) -> list[Process]:
    plan, arguments = PLANS[file]
    values = {argument.name: argument.default for argument in arguments(ROOT)}
    assert set(given) <= set(values)
    return plan(values | given, around)


def parameters(process: Process) -> dict[str, object]:
    merged: dict[str, object] = {}
    for entry in process.parameters:
        merged |= entry if isinstance(entry, dict) else {}
    return merged


def test_one_camera_is_one_node():
    (node,) = start('dff', image='/camera/image_raw', namespace='robot', interval='8', log_level='WARN')
    assert (node.package, node.executable, node.namespace) == ('dff_ros', 'dff_node', 'robot')
    assert node.parameters[0] == str(ROOT / 'config' / 'dff.yaml')
    assert parameters(node) == {'use_sim_time': False, 'keyframe.interval': 8}
    assert node.remappings == [('image', '/camera/image_raw')]
    assert node.arguments == ('--ros-args', '--log-level', 'warn')
    assert node.environment == {
        launching.PROFILES_VARIABLE: str(ROOT / 'config' / 'fastdds_shm.xml'),
        ENDS_WITH_PARENT: str(os.getpid()),
    }
    assert not node.is_last


def test_calibration_is_remapped_where_it_is_given():
    (node,) = start('dff', camera_info='/calibration')
    assert node.remappings == [('image', 'image'), ('camera_info', '/calibration')]
    (node,) = start('dff', cameras='front,left', camera_info='/{camera}/info')
    assert node.remappings == [('front/camera_info', '/front/info'), ('left/camera_info', '/left/info')]
    with pytest.raises(
        ConfigError, match=r"camera_info: got '/\{camera\}/info', which is for cameras with names"
    ):
        start('dff', camera_info='/{camera}/info')
    with pytest.raises(
        ConfigError, match='camera_info: got .* for the cameras front, left; give one topic for each'
    ):
        start('dff', cameras='front,left', camera_info='/a')


def test_many_cameras_are_one_node_or_one_each_with_the_same_topics():
    (one,) = start('multi_camera', cameras='front,left', namespace='/robot')
    assert one.remappings == [('front/image', '/front/image_raw'), ('left/image', '/left/image_raw')]
    assert parameters(one)['cameras'] == ['front', 'left']
    front, left = start('multi_camera', cameras='front,left', namespace='/robot', processes='each')
    assert [front.namespace, left.namespace] == ['/robot/front', '/robot/left']
    assert front.remappings == [('image', '/front/image_raw')]
    assert left.remappings == [('image', '/left/image_raw')]
    assert parameters(left)['cameras'] == ''  # whatever the parameter file says
    (alone, _) = start('multi_camera', cameras='a,b', processes='each', image='', camera_info='/x,/y')
    assert alone.remappings == [('image', 'image'), ('camera_info', '/x')]


@pytest.mark.parametrize(
    ('file', 'given', 'complaint'),
    [
        ('multi_camera', {}, 'cameras: got none; name them, as cameras:=front,left'),
        (
            'multi_camera',
            {'cameras': 'a,b', 'processes': 'two'},
            "processes: got 'two', allowed is one or each",
        ),
        ('multi_camera', {'cameras': 'a,a'}, 'cameras: got a twice'),
        ('demo', {'rate': 'fast'}, "rate: got 'fast', expected a number"),
        ('demo', {'duration': 'true'}, "duration: got 'true', expected a number"),
        ('dff', {'log_level': 'loud'}, "log_level: got 'loud', allowed is one of debug, info"),
        ('dff', {'rviz': 'please'}, "rviz: got 'please', allowed is true or false"),
        ('dff', {'params_file': '/nope.yaml'}, "params_file: there is no file '/nope.yaml'"),
    ],
)
def test_a_wrong_argument_is_named(file, given, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        start(file, **given)


def test_the_demo_is_camera_and_node_in_one_namespace_and_ends_with_either():
    camera, node = start('demo', source='drive.mp4', rate='15', duration='2.5', seed='3', namespace='demo')
    assert (camera.executable, camera.namespace, camera.is_last) == ('dff_camera', 'demo', True)
    assert parameters(camera) == {
        'source': 'drive.mp4',
        'rate': 15.0,
        'duration_s': 2.5,
        'seed': 3,
        'use_sim_time': False,
    }
    assert (node.executable, node.namespace, node.is_last) == ('dff_node', 'demo', True)
    assert node.remappings == [('image', 'image')]
    assert parameters(node)['autostart'] is True
    assert camera.environment == node.environment


def test_the_parameters_of_the_demo_s_camera_are_those_of_dff_camera():
    pytest.importorskip('rclpy')
    from dff_ros.config import replace
    from dff_ros.ros.camera import CameraConfig

    camera, _ = start('demo', duration='5')
    given = {name: value for name, value in parameters(camera).items() if name != 'use_sim_time'}
    config = replace(CameraConfig(), given)
    assert (config.source, config.rate, config.duration_s, config.seed) == ('street', 30.0, 5.0, 0)


def test_rviz_shows_the_topics_of_this_launch():
    *_, rviz = start('dff', rviz='true')
    assert (rviz.package, rviz.executable) == ('rviz2', 'rviz2')
    assert rviz.arguments == ('-d', str(ROOT / 'config' / 'dff.rviz'))
    assert rviz.remappings == [('/image', '/image')]
    *_, rviz = start('dff', rviz='true', namespace='robot', image='/camera/image_raw')
    assert ('/image', '/camera/image_raw') in rviz.remappings
    assert {f'/{topic}': f'/robot/{topic}' for topic in RVIZ_TOPICS}.items() <= dict(rviz.remappings).items()
    for processes in ('one', 'each'):
        *_, rviz = start('multi_camera', cameras='front,left', rviz='true', processes=processes)
        assert ('/image', '/front/image_raw') in rviz.remappings
        assert ('/dff/overlay', '/front/dff/overlay') in rviz.remappings
    *_, rviz = start('demo', rviz='true', namespace='/demo')
    assert ('/image', '/demo/image') in rviz.remappings
    assert ('/dff/overlay', '/demo/dff/overlay') in rviz.remappings


def test_rviz_that_is_not_installed_is_told_before_anything_starts():
    bare = Surroundings(ROOT, {}, lambda package: False)
    with pytest.raises(
        ConfigError, match='rviz: rviz2 is not installed; install ros-.*-rviz2, or leave rviz:=false'
    ):
        start('demo', bare, rviz='true')
    assert len(start('demo', bare)) == 2


# --- the end


def test_a_process_without_the_variable_has_nobody_to_end_with():
    assert is_parent_there({})
    assert is_parent_there({ENDS_WITH_PARENT: 'no number'})


PARENT = """
import os, subprocess, sys, time
variables = dict(os.environ, **({sys.argv[1]: str(os.getpid())} if len(sys.argv) > 1 else {}))
child = subprocess.Popen([sys.executable, '-c', CHILD], env=variables, stdout=subprocess.PIPE, text=True)
print(child.stdout.readline(), end='', flush=True)
time.sleep(600)
"""
CHILD = """
import os, signal, sys, time
from dff_ros.ros.ending import is_parent_there
told = is_parent_there(os.environ)
signal.signal(signal.SIGTERM, lambda number, frame: (print('ended', flush=True), os._exit(0)))
print(os.getpid(), told, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='the kernel tells of it on Linux only')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_a_node_ends_with_the_launch_that_started_it_however_that_ends(number):
    code = f'CHILD = {CHILD!r}\n{PARENT}'
    environ = {**os.environ, 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', code, ENDS_WITH_PARENT]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as parent:
        pid, told = parent.stdout.readline().split()
        assert told == 'True'
        child = os.pidfd_open(int(pid))
        try:
            parent.send_signal(number)

            assert select.select([child], [], [], TIMEOUT_S)[0], 'the node was left running'
        finally:
            os.close(child)


@pytest.mark.skipif(sys.platform != 'linux', reason='the kernel tells of it on Linux only')
def test_a_node_whose_launch_has_ended_before_it_began_does_not_begin():
    with subprocess.Popen([sys.executable, '-c', '']) as ended:
        ended.wait()
    code = (
        'import sys; from dff_ros.ros import process;'
        "sys.exit(process.run(lambda: sys.exit('the node was made'), ['dff_node']))"
    )
    environ = {**os.environ, 'PYTHONPATH': str(ROOT), ENDS_WITH_PARENT: str(ended.pid)}
    pytest.importorskip('rclpy')
    done = subprocess.run([sys.executable, '-c', code], env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '')
