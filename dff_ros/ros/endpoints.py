# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Publishers and subscriptions of the node: overridable, and heard when the other side cannot be matched."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration, Infinite
from rclpy.event_handler import (
    IncompatibleTypeInfo,
    PublisherEventCallbacks,
    QoSRequestedIncompatibleQoSInfo,
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
)
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    qos_check_compatible,
    qos_policy_name_from_kind,
)
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from dff_ros.ros import qos

_NO_COUNT = 2**31 - 1
"""Fast DDS reports so many more where its own count of lost messages went below zero."""

_REPEAT_S = 5.0
_TURN_S, _MAX_TURNS = 0.2, 10
_UNKNOWN = '_NODE_NAME_UNKNOWN_'


@dataclass(slots=True)
class _Untold:
    """A mismatch that is logged as soon as the name of the other node is known: that comes after it."""

    describe: Callable[[], str]
    num_turns: int = 0


class Endpoints:
    """Makes the node's endpoints. An incompatible one on the other side is counted by topic and logged with
    both sides' settings and the remedy, in place of what rclpy logs by itself.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._logged_s: dict[str, float] = {}
        self._untold: list[_Untold] = []
        self._timer = node.create_timer(
            _TURN_S, self._tell_untold, clock=Clock(clock_type=ClockType.STEADY_TIME), autostart=False
        )
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
        **options: Any,
    ) -> Subscription:
        """The same for a subscription; `on_lost` hears how many were lost, where the middleware tells.
        `options` are those of rclpy.
        """
        events: dict[str, Callable[[Any], None]] = {}
        if on_lost is not None:
            events['message_lost'] = lambda event: _tell_lost(event.total_count_change, on_lost)
        try:
            return self._subscribe(kind, topic, callback, profile, events, options)
        except UnsupportedEventTypeError:
            return self._subscribe(kind, topic, callback, profile, {}, options)

    def _subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
        events: Mapping[str, Callable[[Any], None]],
        options: Mapping[str, Any],
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
            **options,
        )

    def _tell_unmatched_publisher(
        self, topic: str, ours: QoSProfile, event: QoSRequestedIncompatibleQoSInfo
    ) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()

        def describe() -> str:
            found = self._node.get_publishers_info_by_topic(topic)
            others = [info for info in found if not _match(info.qos_profile, ours)]
            return (
                f'{topic}: {_names(others, "a publisher")} cannot reach this node ({policy}): '
                f'it offers {_settings(others, policy)}, the subscription asks for '
                f'{qos.in_words(ours, policy)}; '
                f'{_remedy(topic, "subscription", policy, others)}'
            )

        self._tell(topic, event.total_count_change, describe)

    def _tell_unmatched_subscription(
        self, topic: str, ours: QoSProfile, event: QoSRequestedIncompatibleQoSInfo
    ) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()

        def describe() -> str:
            found = self._node.get_subscriptions_info_by_topic(topic)
            others = [info for info in found if not _match(ours, info.qos_profile)]
            return (
                f'{topic}: {_names(others, "a subscription")} gets nothing from this node ({policy}): '
                f'it asks for {_settings(others, policy)}, the publisher offers '
                f'{qos.in_words(ours, policy)}; '
                f'{_remedy(topic, "publisher", policy, others)}'
            )

        self._tell(topic, event.total_count_change, describe)

    def _tell_other_type(self, topic: str, kind: type, event: IncompatibleTypeInfo) -> None:
        ours = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'

        def describe() -> str:
            ends = self._node.get_publishers_info_by_topic(topic)
            ends = [*ends, *self._node.get_subscriptions_info_by_topic(topic)]
            others = [info for info in ends if info.topic_type != ours]
            types = ' and '.join(sorted({info.topic_type for info in others})) or 'another type'
            return (
                f'{topic}: {_names(others, "another node")} uses it with {types}, this node with {ours}: no '
                'message passes between them; remap the topic of one of them'
            )

        self._tell(topic, event.total_count_change, describe)

    def _tell(self, topic: str, number: int, describe: Callable[[], str]) -> None:
        self.mismatches[topic] += number
        self._untold.append(_Untold(describe))
        self._timer.reset()

    def _tell_untold(self) -> None:
        self._untold = [mismatch for mismatch in self._untold if not self._is_told(mismatch)]
        if not self._untold:
            self._timer.cancel()

    def _is_told(self, mismatch: _Untold) -> bool:
        text = mismatch.describe()
        mismatch.num_turns += 1
        if _UNKNOWN in text and mismatch.num_turns < _MAX_TURNS:
            return False
        self._log(text)
        return True

    def _log(self, text: str) -> None:
        """The same not again at once: an endpoint may come and go."""
        now_s = time.monotonic()
        if now_s - self._logged_s.get(text, -_REPEAT_S) >= _REPEAT_S:
            self._logged_s = {text: now_s} if len(self._logged_s) > 100 else {**self._logged_s, text: now_s}
            self._node.get_logger().warning(text)


def is_read(publisher: Publisher) -> bool:
    """Whether someone listens, or may still get what is published now: users can make a topic latched."""
    is_latched = publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    return is_latched or publisher.get_subscription_count() > 0


def _match(offered: QoSProfile, asked: QoSProfile) -> bool:
    compatibility, _ = qos_check_compatible(_without_limits(offered), _without_limits(asked))
    return bool(compatibility != QoSCompatibility.ERROR)


def _without_limits(profile: QoSProfile) -> QoSProfile:
    """The graph tells a time that is not limited as an infinite one, the node's own profiles as 0, and rmw
    takes the two for different.
    """
    plain = copy.copy(profile)
    for name in ('deadline', 'lifespan', 'liveliness_lease_duration'):
        if getattr(plain, name) == Infinite:
            setattr(plain, name, Duration())
    return plain


def _names(ends: list[TopicEndpointInfo], unknown: str) -> str:
    """Paths of the nodes; `unknown` where they have gone again."""
    paths = (f'{info.node_namespace.rstrip("/")}/{info.node_name}' for info in ends)
    return ' and '.join(sorted(set(paths))) or unknown


def _settings(ends: list[TopicEndpointInfo], policy: str) -> str:
    """Of the other side; it may have gone again before it is asked for."""
    return ' and '.join(sorted({qos.in_words(info.qos_profile, policy) for info in ends})) or 'something else'


def _remedy(topic: str, entity: str, policy: str, others: list[TopicEndpointInfo]) -> str:
    remedy = f'give the other side the {policy} of this one'
    if policy not in qos.OVERRIDABLE:
        return remedy
    values = {getattr(info.qos_profile, policy).name.lower() for info in others}
    if len(values) != 1:
        return remedy
    return f'{remedy}, or set qos_overrides.{topic}.{entity}.{policy} to {values.pop()} before configure'


def _tell_lost(num_lost: int, on_lost: Callable[[int], None]) -> None:
    if 0 < num_lost < _NO_COUNT:
        on_lost(num_lost)
