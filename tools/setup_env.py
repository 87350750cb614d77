# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Make .venv, the environment of every make target; each step runs again only when its inputs changed.

Without ROS 2 the environment holds the ROS 2 Jazzy wheels and the packages built from interfaces/.
With a ROS 2 installation sourced it sees that installation's Python packages, and nothing of ROS is
installed or built. The variable TORCH gives the pip arguments that install torch instead of the default.
"""

import fcntl
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from setup_ros import BUILD_WHEELS, WHEELS, SourcedRos, adapt_constraints, build_interfaces, find_ros
from setup_steps import SetupError, Stamps, clean_environ, digest, failure_line, run_logged

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / '.venv'
VENV_PYTHON = VENV / 'bin' / 'python'
LOG = VENV / 'setup.log'

TORCH = 'torch==2.13.0'
EXTRAS = 'onnxruntime,export,video,tools,test,lint'
INTERFACES = ('vision_msgs', 'dff_msgs')
INCLUDE = Path(sysconfig.get_path('include'))
GIB = 2**30
FREE_GIB = 4
FREE_GIB_CUDA = 12


def missing_requirements(
    *,
    builds: bool,
    free_bytes: int,
    which: Callable[[str], str | None] = shutil.which,
    has_module: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
    include: Path = INCLUDE,
) -> list[str]:
    """Return one line for each thing that set-up needs and this machine lacks.

    `builds` says whether interfaces will be compiled, which needs a compiler and Python's headers.
    """
    python = f'python{sys.version_info.major}.{sys.version_info.minor}'
    lines = []
    if not (has_module('venv') and has_module('ensurepip')):
        lines.append(f'{python} cannot make environments: sudo apt install {python}-venv')
    if builds and not (which(os.environ.get('CC', 'cc')) and which(os.environ.get('CXX', 'c++'))):
        lines.append('no C and C++ compiler found: sudo apt install build-essential')
    if builds and not (include / 'Python.h').is_file():
        lines.append(f'the headers of {python} are missing: sudo apt install {python}-dev')
    if free_bytes < FREE_GIB * GIB:
        lines.append(f'{free_bytes / GIB:.1f} GiB of disk free, {FREE_GIB} GiB needed: free some disk space')
    return lines


def is_usable(venv: Path, *, on_ros: bool) -> bool:
    """Whether an environment exists, starts, and sees the system's packages exactly when ROS is sourced."""
    config = venv / 'pyvenv.cfg'
    if not config.is_file():
        return False
    options = dict(line.split(' = ', 1) for line in config.read_text().splitlines() if ' = ' in line)
    if (options.get('include-system-site-packages') == 'true') != on_ros:
        return False
    if 'PYTHON' in os.environ and not options.get('version', '').startswith(sysconfig.get_python_version()):
        return False
    command = [str(venv / 'bin' / 'python'), '-c', 'import pip']
    try:
        return subprocess.run(command, capture_output=True, env=clean_environ()).returncode == 0
    except OSError:
        return False


def make_venv(*, on_ros: bool) -> None:
    """Replace .venv by an empty environment."""
    if VENV.exists():
        print(f'setup: {VENV.name} does not fit this machine, ROS or checkout any more: making a new one')
        shutil.rmtree(VENV)
    command = [sys.executable, '-m', 'venv', *(['--system-site-packages'] if on_ros else []), str(VENV)]
    result = subprocess.run(command, capture_output=True, text=True, env=clean_environ())
    if result.returncode != 0:
        raise SetupError(f'{" ".join(command)}: {failure_line(result.stderr or result.stdout)}')


def pip_install(*arguments: str) -> None:
    """Install into the environment under the project's constraints."""
    pip = [str(VENV_PYTHON), '-m', 'pip', 'install', '--disable-pip-version-check', '--no-input']
    run_logged([*pip, '--constraint', str(VENV / 'constraints.txt'), *arguments], LOG)


def chosen_torch(environ: Mapping[str, str], remembered: Path) -> str:
    """Return the pip arguments for torch: the user's, else those used last time, else the default."""
    if environ.get('TORCH'):
        return environ['TORCH']
    return remembered.read_text().strip() if remembered.exists() else TORCH


def install_torch(spec: str, remembered: Path) -> None:
    """Install the torch that was asked for and remember the request."""
    if spec == TORCH:
        install_default_torch()
    else:
        pip_install(*shlex.split(spec))
    remembered.write_text(f'{spec}\n')


def install_default_torch() -> None:
    """Install the CPU build of the default torch where one is on offer, else the build that is."""
    try:
        pip_install(f'{TORCH}+cpu')
    except SetupError as error:
        if 'No matching distribution' not in str(error):
            raise
        print(
            f'setup: no CPU build of {TORCH} on offer: installing the default build, several GB with CUDA '
            '(CONTRIBUTING.md says how to choose another)',
            flush=True,
        )
        if shutil.disk_usage(ROOT).free < FREE_GIB_CUDA * GIB:
            raise SetupError(
                f'{TORCH} with CUDA needs {FREE_GIB_CUDA} GiB: free disk space or set TORCH (CONTRIBUTING.md)'
            ) from None
        pip_install(TORCH)


def install_packages(ros: SourcedRos | None) -> None:
    """Install this package editable and all it needs but torch; the wheels when no ROS is sourced."""
    extras = EXTRAS if ros and ros.has_cv2 else f'{EXTRAS},opencv'
    pip_install('setuptools', 'wheel')
    wheels = () if ros else WHEELS + BUILD_WHEELS
    pip_install('--no-build-isolation', '--editable', f'{ROOT}[{extras}]', *wheels)


def share_links(root: Path, venv: Path) -> dict[Path, Path]:
    """Return link -> target of what ros2 launch and ros2 run look up.

    An editable install makes none of it. Every file has its own link: ros2 launch does not follow links
    to directories.
    """
    files = [root / 'package.xml']
    for name in ('launch', 'config', 'models'):
        found = (root / name).rglob('*')
        files += [path for path in found if path.is_file() and '__pycache__' not in path.parts]
    links = {venv / 'share/dff_ros' / path.relative_to(root): path for path in files}
    links[venv / 'share/ament_index/resource_index/packages/dff_ros'] = root / 'resource/dff_ros'
    for script in venv.glob('bin/dff*'):
        links[venv / 'lib/dff_ros' / script.name] = Path('../../bin') / script.name
    return links


def update_links(links: dict[Path, Path], directories: list[Path]) -> None:
    """Make the links, and remove every other one below the directories."""
    for directory in directories:
        for path in directory.rglob('*'):
            if path.is_symlink() and links.get(path) != path.readlink():
                path.unlink()
    for path, target in links.items():
        if not path.is_symlink():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)


def build_package(name: str, *, is_ours: bool) -> None:
    """Build an interface package unless the environment already has one that did not come from here."""
    probe = [str(VENV_PYTHON), '-c', f'import {name}.msg']
    if not is_ours and subprocess.run(probe, capture_output=True, env=clean_environ()).returncode == 0:
        return
    build_interfaces(ROOT / 'interfaces' / name, VENV, LOG)


def set_up() -> None:
    """Bring .venv up to date; raise SetupError with the remedy where that is impossible."""
    ros = find_ros(os.environ)
    if ros and not ros.has_vision_msgs:
        raise SetupError(f'vision_msgs is missing: sudo apt install ros-{ros.distro}-vision-msgs')
    stamps = Stamps(VENV / 'dff_ros_setup.json', ROOT)
    if stamps.was_moved or not is_usable(VENV, on_ros=ros is not None):
        missing = missing_requirements(builds=ros is None, free_bytes=shutil.disk_usage(ROOT).free)
        if missing:
            raise SetupError('\nerror: '.join(missing))
        make_venv(on_ros=ros is not None)
        stamps.forget()
    constraints = (ROOT / 'constraints.txt').read_text()
    (VENV / 'constraints.txt').write_text(adapt_constraints(constraints, ros) if ros else constraints)

    remembered = VENV / 'torch.txt'
    torch = chosen_torch(os.environ, remembered)
    tools = [ROOT / 'tools' / name for name in ('setup_env.py', 'setup_ros.py')]
    package = [ROOT / name for name in ('setup.py', 'setup.cfg', 'pyproject.toml')]
    stamps.run('torch', digest(torch), lambda: install_torch(torch, remembered))
    stamps.run('packages', digest(constraints, repr(ros), *package, *tools), lambda: install_packages(ros))
    for name in () if ros else INTERFACES:
        build = partial(build_package, name, is_ours=stamps.knows(name))
        stamps.run(name, digest(ROOT / 'interfaces' / name), build)
    update_links(share_links(ROOT, VENV), [VENV / 'share/dff_ros', VENV / 'lib/dff_ros'])


def main() -> int:
    """Run set-up, one at a time in a checkout."""
    with (ROOT / '.setup.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            set_up()
        except SetupError as error:
            print(f'error: {error}', file=sys.stderr)
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
