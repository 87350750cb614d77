# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What pip and colcon install, and the commands of the Makefile."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import copyright_lines
import pytest

from dff_ros.backends.base import available_cores

ROOT = Path(__file__).parents[1]
DEMO_VARIABLES = {
    'DURATION',
    'SOURCE',
    'SPLIT',
    'INTERVAL',
    'RATE',
    'BUNDLE',
    'BACKEND',
    'FLOW',
    'SEED',
    'OUT',
}
needs_make = pytest.mark.skipif(not shutil.which('make'), reason='needs make')


def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def setup_py(*arguments: str) -> str:
    """The output of setup.py, in the project's directory as colcon runs it."""
    command = [sys.executable, 'setup.py', *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope='module')
def data_files() -> dict[str, list[str]]:
    script = (
        'import setuptools, runpy, json; setuptools.setup = lambda **options: '
        'print(json.dumps(dict(options["data_files"]))); runpy.run_path("setup.py")'
    )
    command = [sys.executable, '-c', script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_package_xml_and_setup_py_agree():
    assert setup_py('--name', '--version', '--license').split() == [
        package_xml().findtext(tag) for tag in ('name', 'version', 'license')
    ]


def test_package_xml_is_valid_ament_python():
    manifest = package_xml()
    assert manifest.get('format') == '3'
    assert manifest.findtext('export/build_type') == 'ament_python'
    # catkin_pkg is what colcon validates with: an invalid file silently makes this a plain Python package.
    catkin_pkg = pytest.importorskip('catkin_pkg.package')
    package = catkin_pkg.parse_package(str(ROOT / 'package.xml'))
    package.validate()
    depends = {depend.name for depend in package.exec_depends}
    assert {'rclpy', 'sensor_msgs', 'vision_msgs', 'launch_ros', 'python3-numpy'} <= depends
    assert not depends & {'python3-torch', 'torch', 'onnxruntime'}


def test_every_ros_package_that_the_code_imports_is_declared():
    declared = {element.text for element in package_xml().iter('exec_depend')}
    imported = set()
    for path in [*ROOT.glob('dff_ros/**/*.py'), *ROOT.glob('launch/*.py')]:
        imported |= set(re.findall(r'^\s*(?:from|import) (\w+)', path.read_text(), re.M))
    is_ros = re.compile(r'_(msgs|srvs|interfaces)$|^(rclpy|launch|ament_index)')
    ros = {name for name in imported if is_ros.search(name)}
    assert {'rclpy', 'sensor_msgs', 'vision_msgs'} <= ros
    assert ros - declared == set()


def test_share_holds_every_launch_config_and_model_file(data_files):
    assert data_files['share/ament_index/resource_index/packages'] == ['resource/dff_ros']
    assert data_files['share/dff_ros'] == ['package.xml']
    tracked = subprocess.run(
        ['git', 'ls-files', 'launch', 'config', 'models'], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    installed = {file for files in data_files.values() for file in files}
    assert {file for file in tracked if not file.endswith('.gitkeep')} <= installed
    for directory, files in data_files.items():
        for file in files:
            if file.startswith(('launch/', 'config/', 'models/')):
                assert directory == f'share/dff_ros/{Path(file).parent}'


def test_every_source_file_tells_copyright_and_licence():
    assert copyright_lines.files_without(ROOT) == [], 'run: python tools/copyright_lines.py'


@pytest.mark.parametrize(
    ('text', 'marked'),
    [
        ('"""Doc."""\n', f'{copyright_lines.HEADER}\n"""Doc."""\n'),
        ('import os\n', f'{copyright_lines.HEADER}import os\n'),
        ('#!/bin/sh\necho\n', f'#!/bin/sh\n{copyright_lines.HEADER}echo\n'),
    ],
)
def test_the_lines_go_first_but_for_the_interpreter(text, marked):
    assert copyright_lines.add_header(text) == marked


PAGES = [*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('models/*/*.md')]


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_every_link_between_pages_leads_somewhere(page):
    links = re.findall(r'\]\(([^)\s]+)\)', page.read_text())
    for link in links:
        path, _, anchor = link.partition('#')
        if re.match(r'[a-z]+:', link):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            titles = re.findall(r'^#+ (.*)$', target.read_text(), re.M)
            assert anchor in {re.sub(r'[^\w -]', '', title).lower().replace(' ', '-') for title in titles}, (
                link
            )


def test_the_quality_declaration_is_of_this_version():
    version = package_xml().findtext('version')
    declared = (ROOT / 'QUALITY_DECLARATION.md').read_text()
    assert f'| {version}: not released yet |' in declared
    for element in package_xml().iter('exec_depend'):
        name = element.text or ''
        assert name in declared or name.startswith('python3-'), name


def test_commands_are_registered():
    scripts = {script.name: script.value for script in entry_points(group='console_scripts')}
    assert scripts['dff'] == 'dff_ros.cli:main'
    assert scripts['dff_node'] == 'dff_ros.ros.node:main'
    assert scripts['dff_camera'] == 'dff_ros.ros.camera:main'
    assert scripts['dff_mask'] == 'dff_ros.ros.mask:main'


def test_every_requirement_is_pinned():
    lines = (ROOT / 'constraints.txt').read_text().splitlines()
    pinned = {line.split('==')[0].lower().replace('_', '-') for line in lines}
    setup_text = (ROOT / 'setup.py').read_text()
    extras = re.search(r'EXTRAS = \{(.*?)\n\}', setup_text, re.S).group(1)
    required = set(re.findall(r"[\[,] ?'([\w-]+)", extras)) - {'torch'}
    assert len(required) > 10
    assert {name.lower() for name in required} - pinned == set()


def test_setuptools_stays_below_the_version_that_breaks_symlink_install():
    with (ROOT / 'pyproject.toml').open('rb') as file:
        requires = tomllib.load(file)['build-system']['requires']
    assert any(re.fullmatch(r'setuptools.*<80', requirement) for requirement in requires)


# --- Makefile


def make(*arguments: str) -> str:
    """The output of make, as if it was not started by another make or with the demo's variables set."""
    ours = {'MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'PYTEST_ARGS', *DEMO_VARIABLES}
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    command = ['make', *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout


@needs_make
@pytest.mark.parametrize(
    ('variables', 'flags'),
    [
        ([], ''),
        (['DURATION=20', 'RATE=0'], " --duration '20' --rate '0'"),
        (['SOURCE=my videos/a.mp4', 'SPLIT=val'], " --source 'my videos/a.mp4' --split 'val'"),
        (
            ['INTERVAL=5', 'BUNDLE=models/b', 'BACKEND=torch', 'FLOW=zero', 'SEED=3', 'OUT=o'],
            " --interval '5' --bundle 'models/b' --backend 'torch' --flow 'zero' --seed '3' --out 'o'",
        ),
    ],
)
def test_demo_passes_the_variables_that_are_set(variables, flags):
    assert [line.strip() for line in make('-n', 'demo', *variables).splitlines()] == [
        'tools/setup.sh',
        f'exec .venv/bin/python -m dff_ros.ros.demo{flags}',
    ]


@needs_make
def test_test_target_sets_up_lints_and_tests():
    python = '.venv/bin/python -m'
    assert [line.strip() for line in make('-n', 'test').splitlines()] == [
        'tools/setup.sh',
        f'{python} ruff check .',
        f'{python} mypy',
        f'{python} pytest -n {min(available_cores() + 1, 4)} --dist loadfile',
    ]


@needs_make
def test_help_lists_every_target():
    listed = set(re.findall(r'make (\w+) ', make('help')))
    phony = re.search(r'\.PHONY: (.*)', (ROOT / 'Makefile').read_text()).group(1).split()
    assert set(phony) <= listed
