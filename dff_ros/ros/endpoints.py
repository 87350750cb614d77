"""Publishers and subscriptions of the node: overridable, and heard when the other side cannot be matched."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.event_handler import (
    IncompatibleTypeInfo,
    PublisherEventCallbacks,
    QoSRequestedIncompatibleQoSInfo,
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
)
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible, qos_policy_name_from_kind
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from dff_ros.ros import qos

_REPEAT_S = 5.0


class Endpoints:
    """Makes the node's endpoints. An incompatible one on the other side is counted by topic and logged with
    both sides' settings and the remedy, in place of what rclpy logs by itself.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._logged_s: dict[str, float] = {}
        self.mismatches: Counter[str] = Counter()
        """Endpoints met that cannot be matched, by resolved topic."""

    def publisher(self, kind: type, topic: str, profile: QoSProfile) -> Publisher:
        """A publisher whose quality of service users may override; raises what rclpy raises."""
        name = self._node.resolve_topic_name(topic)
        events = PublisherEventCallbacks(
            incompatible_qos=lambda event: self._tell_unmatched_subscription(name, profile, event),
            incompatible_type=lambda event: self._tell_other_type(name, kind, event),
        )
        # rclpy writes the overrides into the profile, so that it is the one in use.
        return self._node.create_publisher(
            kind, topic, profile, event_callbacks=events, qos_overriding_options=qos.overridable()
        )

    def subscription(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
        on_lost: Callable[[int], None] | None = None,
    ) -> Subscription:
        """The same for a subscription; `on_lost` hears how many were lost, where the middleware tells."""
        events: dict[str, Callable[[Any], None]] = {}
        if on_lost is not None:
            events['message_lost'] = lambda event: on_lost(event.total_count_change)
        try:
            return self._subscribe(kind, topic, callback, profile, events)
        except UnsupportedEventTypeError:
            return self._subscribe(kind, topic, callback, profile, {})

    def _subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
        events: Mapping[str, Callable[[Any], None]],
    ) -> Subscription:
        name = self._node.resolve_topic_name(topic)
        callbacks = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._tell_unmatched_publisher(name, profile, event),
            incompatible_type=lambda event: self._tell_other_type(name, kind, event),
            **events,
        )
        return self._node.create_subscription(
            kind,
            topic,
            callback,
            profile,
            event_callbacks=callbacks,
            qos_overriding_options=qos.overridable(),
        )

    def _tell_unmatched_publisher(
        self, topic: str, ours: QoSProfile, event: QoSRequestedIncompatibleQoSInfo
    ) -> None:
        found = self._node.get_publishers_info_by_topic(topic)
        others = [info for info in found if not _match(info.qos_profile, ours)]
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        self._tell(
            topic,
            event.total_count_change,
            f'{topic}: {_names(others) or "a publisher"} cannot reach this node ({policy}): '
            f'it offers {_settings(others)}, the subscription asks for {qos.in_words(ours)}; '
            f'{_remedy(topic, "subscription", policy, others)}',
        )

    def _tell_unmatched_subscription(
        self, topic: str, ours: QoSProfile, event: QoSRequestedIncompatibleQoSInfo
    ) -> None:
        found = self._node.get_subscriptions_info_by_topic(topic)
        others = [info for info in found if not _match(ours, info.qos_profile)]
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        self._tell(
            topic,
            event.total_count_change,
            f'{topic}: {_names(others) or "a subscription"} gets nothing from this node ({policy}): '
            f'it asks for {_settings(others)}, the publisher offers {qos.in_words(ours)}; '
            f'{_remedy(topic, "publisher", policy, others)}',
        )

    def _tell_other_type(self, topic: str, kind: type, event: IncompatibleTypeInfo) -> None:
        ours = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
        ends = self._node.get_publishers_info_by_topic(topic)
        ends = [*ends, *self._node.get_subscriptions_info_by_topic(topic)]
        others = [info for info in ends if info.topic_type != ours]
        types = ' and '.join(sorted({info.topic_type for info in others})) or 'another type'
        self._tell(
            topic,
            event.total_count_change,
            f'{topic}: {_names(others) or "another node"} uses it with {types}, this node with {ours}: no '
            'message passes between them; remap the topic of one of them',
        )

    def _tell(self, topic: str, number: int, text: str) -> None:
        """Count, and log; the same not again at once (an endpoint that comes and goes)."""
        self.mismatches[topic] += number
        now_s = time.monotonic()
        if now_s - self._logged_s.get(text, -_REPEAT_S) >= _REPEAT_S:
            self._logged_s = {text: now_s} if len(self._logged_s) > 100 else {**self._logged_s, text: now_s}
            self._node.get_logger().warning(text)


def _match(offered: QoSProfile, asked: QoSProfile) -> bool:
    compatibility, _ = qos_check_compatible(offered, asked)
    return bool(compatibility != QoSCompatibility.ERROR)


def _names(ends: list[TopicEndpointInfo]) -> str:
    paths = (f'{info.node_namespace.rstrip("/")}/{info.node_name}' for info in ends)
    return ' and '.join(sorted(set(paths)))


def _settings(ends: list[TopicEndpointInfo]) -> str:
    """Of the other side; it may have gone again before it is asked for."""
    return ' and '.join(sorted({qos.in_words(info.qos_profile) for info in ends})) or 'something else'


def _remedy(topic: str, entity: str, policy: str, others: list[TopicEndpointInfo]) -> str:
    remedy = f'give the other side the {policy} of this one'
    values = {getattr(info.qos_profile, policy).name.lower() for info in others}
    if policy not in qos.OVERRIDABLE or len(values) != 1:
        return remedy
    return f'{remedy}, or set qos_overrides.{topic}.{entity}.{policy} to {values.pop()} before configure'
