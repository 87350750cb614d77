"""Quality of service of every topic; users override it by `qos_overrides.<topic>...` parameters."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions


def _keep_last(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability
    )


def newest_image() -> QoSProfile:
    """Sensor data at depth 1: the newest image wins, and both kinds of publisher match."""
    return _keep_last(1, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)


def image_output() -> QoSProfile:
    """Reliable and shallow: both kinds of subscriber match, and a slow one holds few images."""
    return _keep_last(5, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)


def status_output() -> QoSProfile:
    """Reliable, a second of small messages; who subscribes by this profile also gets those just before."""
    return _keep_last(30, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def history_output() -> QoSProfile:
    """Reliable, and a late subscriber gets the messages before it too."""
    return _keep_last(1000, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def latched() -> QoSProfile:
    """Reliable and transient local: a late subscriber gets the last message."""
    return _keep_last(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def overridable() -> QoSOverridingOptions:
    """History, depth and reliability may be overridden by parameters."""
    return QoSOverridingOptions.with_default_policies()
