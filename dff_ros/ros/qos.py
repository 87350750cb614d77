# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Quality of service of every topic; users override it by `qos_overrides.<topic>...` parameters."""

from __future__ import annotations

import enum

from rclpy.duration import Duration, Infinite
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from dff_ros.config import Parameter

MAX_DEPTH = 10_000


def _keep_last(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability
    )


def newest_image() -> QoSProfile:
    """Sensor data at depth 1: the newest image wins, and both kinds of publisher match."""
    return _keep_last(1, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)


def sensor_input() -> QoSProfile:
    """Sensor data that is small: none of the last few is missed, and both kinds of publisher match."""
    return _keep_last(5, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)


def image_output() -> QoSProfile:
    """Reliable and shallow: both kinds of subscriber match, and a slow one holds few images."""
    return _keep_last(5, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)


def status_output() -> QoSProfile:
    """Reliable, a second of small messages; who subscribes by this profile also gets those just before."""
    return _keep_last(30, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def history_output() -> QoSProfile:
    """Reliable, and a late subscriber gets the messages before it too."""
    return _keep_last(1000, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def diagnostics_output() -> QoSProfile:
    """As every publisher of `/diagnostics` does."""
    return _keep_last(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)


def latched() -> QoSProfile:
    """Reliable and transient local: a late subscriber gets the last message."""
    return _keep_last(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


OVERRIDABLE = ('history', 'depth', 'reliability', 'durability')
"""The settings that parameters may override."""


def overridable() -> QoSOverridingOptions:
    """Parameters may override OVERRIDABLE."""
    return QoSOverridingOptions([QoSPolicyKind[name.upper()] for name in OVERRIDABLE])


def in_words(profile: QoSProfile, policy: str = '') -> str:
    """What has to match between two sides: `reliable, transient_local`, and what `policy` (deadline or
    liveliness, which hardly anybody sets) is.
    """
    words = [profile.reliability.name, profile.durability.name]
    if policy == 'deadline':
        words.append(f'deadline {_seconds(profile.deadline)}')
    elif policy == 'liveliness':
        words.append(f'{profile.liveliness.name} within {_seconds(profile.liveliness_lease_duration)}')
    return ', '.join(words).lower()


def _seconds(duration: Duration) -> str:
    is_set = 0 < duration.nanoseconds < Infinite.nanoseconds
    return f'{duration.nanoseconds / 1e9:g} s' if is_set else 'infinite'


def override_parameters(node: Node, entity: str, topic: str, profile: QoSProfile) -> list[Parameter]:
    """The parameters by which `overridable` lets users override the profile of a topic; names as in rclpy.

    `entity` is `publisher` or `subscription`; the topic is resolved as the node resolves it.
    """
    prefix = f'qos_overrides.{node.resolve_topic_name(topic)}.{entity}'
    of = f'of the {entity} of {topic}'
    found = [
        Parameter(f'{prefix}.depth', int, profile.depth, f'Queue depth {of}', minimum=1, maximum=MAX_DEPTH)
    ]
    for policy in (profile.history, profile.reliability, profile.durability):
        name = type(policy).__name__.removeprefix('QoS').removesuffix('Policy')
        found.append(
            Parameter(
                f'{prefix}.{name.lower()}',
                str,
                policy.name.lower(),
                f'{name} {of}',
                choices=_names(type(policy)),
            )
        )
    return found


def _names(policies: type[enum.IntEnum]) -> tuple[str, ...]:
    return tuple(name.lower() for name in policies.__members__ if name != 'UNKNOWN')
