# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What lies in config/: every file loads, and names topics, parameters and classes that there are."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dff_ros.bundle import open_bundle
from dff_ros.config import DffConfig, flatten, replace
from dff_ros.ros.launch_plans import RVIZ_TOPICS

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / 'config'
SPEC = open_bundle('road-r18', verify=False).spec

# The parameters that the layer declares (kiwicampus/semantic_segmentation_layer at a70cf6e).
LAYER = {'plugin', 'enabled', 'combination_method', 'observation_sources', 'publish_debug_topics',
         'use_approximate_time_sync'}  # fmt: skip
LAYER_SOURCE = {'segmentation_topic', 'confidence_topic', 'labels_topic', 'pointcloud_topic', 'class_types',
                'observation_persistence', 'expected_update_rate', 'max_obstacle_distance',
                'min_obstacle_distance', 'tile_map_decay_time', 'visualize_tile_map',
                'use_cost_selection'}  # fmt: skip
LAYER_CLASS = {
    'classes',
    'base_cost',
    'max_cost',
    'mark_confidence',
    'samples_to_max_cost',
    'dominant_priority',
}
# Those of nvblox_node that the recipe sets (NVIDIA-ISAAC-ROS/isaac_ros_nvblox 4.3, node_params.hpp).
NVBLOX = {'mapping_type', 'use_segmentation', 'use_lidar', 'num_cameras', 'input_qos'}


def load(name: str):
    text = (CONFIG / name).read_text()
    return json.loads(text) if name.endswith(('.json', '.perspective')) else yaml.safe_load(text)


def profiles():
    pytest.importorskip('rclpy')
    from dff_ros.ros.publishers import Publishers

    return {f'/{topic}': profile() for topic, profile in Publishers.PROFILES.items()}


def strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def named_topics(text: str) -> set[str]:
    return {f'/{topic}' for topic in re.findall(r'(?<![\w/])/?(dff/[a-z_]+)', text)}


def test_the_files_are_those_that_are_tested():
    assert {path.name for path in CONFIG.iterdir()} == {
        'dff.yaml', 'dff.rviz', 'dff.perspective', 'fastdds_shm.xml', 'foxglove.json', 'nav2_semantic.yaml',
        'nvblox_people.yaml', 'sros2_policy.xml',
    }  # fmt: skip


@pytest.mark.parametrize(
    'name', ['dff.rviz', 'dff.perspective', 'foxglove.json', 'nav2_semantic.yaml', 'nvblox_people.yaml']
)
def test_every_topic_is_one_of_ours(name):
    known = {*profiles(), '/dff/mask'}
    named = set().union(*(named_topics(text) for text in strings(load(name)) if 'sourceCode' not in text))
    assert named - known == set()
    if not name.startswith('nvblox'):
        assert named


@pytest.mark.parametrize(
    'path', [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))], ids=lambda p: p.name
)
def test_the_pages_name_topics_that_there_are(path):
    # As code, and not files such as dff/x.py.
    named = set().union(*(named_topics(code) for code in re.findall(r'`([^`\n]+)`', path.read_text())))
    assert named - {*profiles(), '/dff/mask'} == set()


# --- RViz


def displays() -> list[dict]:
    return [
        display for display in load('dff.rviz')['Visualization Manager']['Displays'] if 'Topic' in display
    ]


def test_rviz_asks_for_what_is_published():
    for display in displays():
        topic = display['Topic']
        asked = topic['Reliability Policy'], topic['Durability Policy'], topic['History Policy']
        if topic['Value'] == '/image':
            assert asked == ('Best Effort', 'Volatile', 'Keep Last')  # as cameras publish
            continue
        profile = profiles()[topic['Value']]
        assert profile.reliability.name == 'RELIABLE'  # best effort loses large images
        assert asked == ('Reliable', 'Volatile', 'Keep Last')
        assert topic['Depth'] == profile.depth


def test_rviz_shows_the_topics_that_the_launch_file_remaps():
    shown = {display['Topic']['Value'] for display in displays()}
    # A display of the class Camera takes the camera_info beside its image.
    beside = {'/dff/camera_info' for display in displays() if display['Class'].endswith('/Camera')}
    assert shown | beside == {'/image', *(f'/{topic}' for topic in RVIZ_TOPICS)}
    assert load('dff.rviz')['Visualization Manager']['Global Options']['Fixed Frame'] == 'camera'


# --- Foxglove


def script() -> str:
    (node,) = load('foxglove.json')['userNodes'].values()
    return node['sourceCode']


def test_foxglove_shows_the_classes_in_the_colours_of_the_bundle():
    rows = re.findall(r'^  \[(\d+), (\d+), (\d+)\], // (.+)$', script(), re.M)
    assert [tuple(map(int, row[:3])) for row in rows] == list(SPEC.class_colours)
    assert [row[3] for row in rows] == list(SPEC.class_names)


def test_the_script_for_foxglove_colours_a_label_map():
    node = shutil.which('node')
    if node is None:
        pytest.skip('needs node')
    code = (
        re.sub(r'^import .*$', '', script(), flags=re.M).replace('export default ', '').replace('export ', '')
    )
    code = re.sub(r'\(event: Input<.*?>\): Message<.*?> \{', '(event) {', code)
    code += """
const header = {stamp: {sec: 1, nsec: 2}, frame_id: 'camera'};
const data = new Uint8Array([0, 3, 9, 255, 1, 9]);
const {data: rgb, ...rest} = script({message: {header, width: 2, height: 2, step: 3, data}});
console.log(JSON.stringify({rgb: [...rgb], ...rest}));
"""
    done = subprocess.run([node, '-e', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sky, building, road = (list(SPEC.class_colours[index]) for index in (0, 1, 3))
    assert json.loads(done.stdout) == {
        'rgb': sky + road + [0, 0, 0] + building,
        'timestamp': {'sec': 1, 'nsec': 2}, 'frame_id': 'camera',
        'width': 2, 'height': 2, 'encoding': 'rgb8', 'step': 6,
    }  # fmt: skip


def leaves(layout: object) -> Iterator[str]:
    if isinstance(layout, str):
        yield layout
    else:
        assert layout['direction'] in ('row', 'column')
        for side in ('first', 'second'):
            yield from leaves(layout[side])


def test_every_panel_of_foxglove_is_placed_once_and_plots_fields_of_the_message():
    found = load('foxglove.json')
    assert Counter(leaves(found['layout'])) == Counter(list(found['configById']))
    fields = message_fields()
    plotted = [path['value'] for panel in found['configById'].values() for path in panel.get('paths', [])]
    assert len(plotted) == 4
    for path in plotted:
        topic, _, field = path.partition('.')
        assert (topic, field in fields) == ('/dff/frame_status', True)
    shown = [
        panel['imageMode']['imageTopic'] for panel in found['configById'].values() if 'imageMode' in panel
    ]
    assert {'/image', '/dff/overlay', '/dff/confidence'} < set(shown)
    (output,) = re.findall(r'output = "(.+?)"', script())
    assert output in shown
    diagnostics = found['configById']['DiagnosticSummary!all']['topicToRender']
    assert diagnostics == '/diagnostics'


def message_fields() -> set[str]:
    text = (ROOT / 'interfaces' / 'dff_msgs' / 'msg' / 'FrameStatus.msg').read_text()
    return set(re.findall(r'^[\w/\[\]]+ +([a-z_]+)(?: |$)', text, re.M))


# --- rqt


def test_the_plugins_of_rqt_have_their_settings():
    manager = load('dff.perspective')['groups']['pluginmanager']
    running = ast.literal_eval(manager['keys']['running-plugins']['repr'])
    instances = {
        f'plugin__{name.replace("/", "__")}__{serial}'
        for name, serials in running.items()
        for serial in serials
    }
    assert instances == set(manager['groups'])
    plot = manager['groups']['plugin__rqt_plot__Plot__1']['groups']['plugin']['keys']
    for path in ast.literal_eval(plot['topics']['repr']):
        topic, _, field = path.rpartition('/')
        assert (topic, field in message_fields()) == ('/dff/frame_status', True)


# --- Nav2 and nvblox


def nav2() -> tuple[dict, dict]:
    """The layer, and its one source."""
    parameters = load('nav2_semantic.yaml')['local_costmap']['local_costmap']['ros__parameters']
    layer = parameters['semantic_layer']
    assert 'semantic_layer' in parameters['plugins']
    assert parameters['plugins'].index('semantic_layer') < parameters['plugins'].index('inflation_layer')
    return layer, layer[layer['observation_sources']]


def test_nav2_gets_parameters_that_its_layer_has():
    layer, source = nav2()
    types = source['class_types']
    assert set(layer) - {layer['observation_sources']} <= LAYER
    assert set(source) - set(types) <= LAYER_SOURCE
    for name in types:
        assert set(source[name]) == LAYER_CLASS


def test_nav2_gets_every_class_of_the_bundle_once_with_costs_that_it_takes():
    _, source = nav2()
    classes = [name for kind in source['class_types'] for name in source[kind]['classes']]
    assert sorted(classes) == sorted(SPEC.class_names)
    for kind in source['class_types']:
        facts = source[kind]
        assert 0 <= facts['base_cost'] <= facts['max_cost'] <= 254
        assert 0 <= facts['mark_confidence'] < 255  # strictly above is asked, 255 would never be reached
    assert source['danger']['max_cost'] == 254
    assert {'pedestrian', 'bicyclist', 'car'} <= set(source['danger']['classes'])
    assert source['free'] == {**source['free'], 'classes': ['road', 'pavement'], 'max_cost': 0}


def test_nav2_subscribes_to_what_the_node_publishes():
    _, source = nav2()
    offered = profiles()
    for key in ('segmentation_topic', 'confidence_topic'):
        assert offered[source[key]].reliability.name == 'RELIABLE'  # matches its best effort too
    assert offered[source['labels_topic']].durability.name == 'TRANSIENT_LOCAL'


def test_nav2_s_lifecycle_manager_asks_for_no_bond():
    manager = load('nav2_semantic.yaml')['lifecycle_manager_perception']['ros__parameters']
    assert manager == {'autostart': True, 'node_names': ['dff_node'], 'bond_timeout': 0.0}


def test_nvblox_gets_parameters_that_it_has():
    found = load('nvblox_people.yaml')
    assert set(found['nvblox_node']['ros__parameters']) == NVBLOX
    classes = found['/**/dff_mask']['ros__parameters']['classes'].split(',')
    assert set(classes) <= set(SPEC.class_names)


@pytest.mark.parametrize('name', ['nav2_semantic.yaml', 'nvblox_people.yaml'])
def test_the_node_takes_the_parameters_that_go_with_them(name):
    given = flatten(load(name)['/**/dff_node']['ros__parameters'])
    autostart = given.pop('autostart', True)
    assert isinstance(autostart, bool)
    assert replace(DffConfig(), given).tasks == 'segmentation'  # raises where a name or value is wrong


@pytest.mark.parametrize(
    ('name', 'size'), [('nav2_semantic.yaml', '424x240'), ('nvblox_people.yaml', 'source')]
)
def test_ros_reads_the_files_for_our_nodes(graph, name, size):
    from rclpy.node import Node

    from dff_ros.ros.mask import MaskNode
    from dff_ros.ros.parameters import read_config

    arguments = ['--ros-args', '--params-file', str(CONFIG / name)]
    node = Node('dff_node', context=graph.context, cli_args=arguments, namespace='robot')
    mask = MaskNode(context=graph.context, cli_args=arguments, namespace='robot')
    try:
        config = read_config(node)
        assert (config.tasks, config.segmentation.output_size) == ('segmentation', size)
        expected = 'pedestrian,bicyclist' if name.startswith('nvblox') else 'pedestrian'
        assert mask.get_parameter('classes').value == expected
    finally:
        node.destroy_node()
        mask.destroy_node()
