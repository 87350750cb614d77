# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""config/sros2_policy.xml allows what the node has, and nothing else."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from rclpy.node import Node
from ros_helpers import BOX_SPEC, wait_until

from dff_ros.ros.publishers import Publishers

POLICY = Path(__file__).parent.parent / 'config' / 'sros2_policy.xml'
NAME = 'dff_node'
OPTIONAL = {'/clock', '/image/compressed', '/dff/frame_status'}
"""With use_sim_time, with image_transport compressed, and where dff_msgs is installed."""


def allowed(kind: str, rule: str) -> set[str]:
    found = set()
    for rules in ElementTree.parse(POLICY).iter(kind):
        if rules.get(rule) == 'ALLOW':
            found |= {(entry.text or '').replace('~', f'/{NAME}') for entry in rules}
    return found


def test_the_policy_has_the_form_that_sros2_reads():
    policy = ElementTree.parse(POLICY).getroot()
    assert (policy.tag, policy.attrib) == ('policy', {'version': '0.2.0'})
    ((enclave,),) = policy
    ((profile,),) = enclave
    assert enclave.attrib == {'path': f'/perception/{NAME}'}
    assert profile.attrib == {'ns': '/', 'node': NAME}
    assert [(rules.tag, dict(rules.attrib)) for rules in profile] == [
        ('topics', {'subscribe': 'ALLOW'}),
        ('topics', {'publish': 'ALLOW'}),
        ('services', {'reply': 'ALLOW'}),
    ]
    for rules in profile:
        assert {entry.tag for entry in rules} == {rules.tag.removesuffix('s')}


def test_every_output_may_be_published():
    assert {f'/{topic}' for topic in Publishers.PROFILES} <= allowed('topics', 'publish')


def test_the_node_has_what_the_policy_allows_and_no_more(graph):
    graph.start_node(FakeBackend(), BOX_SPEC)
    probe = Node('probe', context=graph.context)
    graph.spin(probe)

    def names(kind: str) -> set[str]:
        return {name for name, _ in getattr(probe, f'get_{kind}_names_and_types_by_node')(NAME, '/')}

    wanted = {
        'publisher': allowed('topics', 'publish'),
        'subscriber': allowed('topics', 'subscribe'),
        'service': allowed('services', 'reply'),
        'client': set(),
    }
    for kind, expected in wanted.items():
        wait_until(lambda kind=kind, expected=expected: expected - OPTIONAL <= names(kind), f'{kind}s')
        assert names(kind) - expected == set()
