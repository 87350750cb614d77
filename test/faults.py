# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A running node that faults are tried on: after each, the next good frame must be answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fake_backend import FakeBackend
from ros_helpers import SPEC, Graph, Peer, image_message, ros_graph, wait_until
from sensor_msgs.msg import CompressedImage, Image

from dff_ros.messages import stamp_to_ns
from dff_ros.model_spec import ModelSpec
from dff_ros.ros.node import DffNode

_NAMESPACES = (f'line{number}' for number in itertools.count())
"""Lines may run side by side: each hears its own camera only."""

SIZE = (32, 48)
ANSWERED = ('key', 'propagated', 'degraded')


def raw_message(number: int, stamp_ns: int) -> Image:
    """A good image."""
    return image_message(number, size=SIZE, stamp_ns=stamp_ns)


class Line:
    """A camera, the node, and a consumer. Frames are numbered and a tenth of a second apart."""

    def __init__(
        self,
        graph: Graph,
        node: DffNode,
        peer: Peer,
        backend: FakeBackend,
        make_message: Callable[[int, int], Image | CompressedImage] = raw_message,
    ) -> None:
        self.graph, self.node, self.peer, self.backend = graph, node, peer, backend
        self._make_message = make_message
        self.number = 0
        self.stamp_ns = 1_000_000_000
        self.last: dict[str, str] = {}
        self.is_good_answered()

    def next_image(self, **changes: object) -> Image | CompressedImage:
        """The next good image; `changes` are fields of the message that are set afterwards."""
        self.number += 1
        self.stamp_ns += 100_000_000
        message = self._make_message(self.number % 100, self.stamp_ns)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    def ask(self, message: Image | CompressedImage) -> dict[str, str]:
        """What the node tells of an image; every image so far is accounted for."""
        self.last = self.peer.ask(message)
        assert_balanced(self.last)
        return self.last

    def count(self, name: str) -> int:
        """A counter of the node, as of the last status."""
        return int(self.last.get(name, '0'))

    def is_good_answered(self) -> dict[str, str]:
        """Send a good image: it must be answered with its own stamp. The facts."""
        num_answers = len(self.peer.label_maps)
        message = self.next_image()
        facts = self.ask(message)
        assert facts['state'] in ANSWERED, facts
        self.peer.wait_for(lambda: len(self.peer.label_maps) > num_answers, 'the label map')
        answer = self.peer.label_maps[-1]
        assert answer.header == message.header
        assert (answer.height, answer.width, answer.encoding) == (*SIZE, 'mono8')
        return facts

    def send_unanswered(self) -> None:
        """Send a good image of which no news may come, and wait until the node has settled it."""
        mailbox = self.node._mailbox
        received = mailbox.counts().received
        self.peer.camera.publish(self.next_image())
        wait_until(lambda: mailbox.counts().received > received, 'the image')
        wait_until(lambda: mailbox.counts().pending == 0, 'the end of the image')

    def flush(self) -> dict[str, str]:
        """Send good images until the newest is answered, after a flood that may have lost some; its facts."""
        while True:
            num_statuses = len(self.peer.statuses)
            message = self.next_image()
            self.peer.camera.publish(message)
            self.peer.wait_for(lambda before=num_statuses: len(self.peer.statuses) > before, 'any answer')
            newest = stamp_to_ns(self.peer.statuses[-1].header.stamp), self.peer.stamps()[-1]
            if newest == (self.stamp_ns, self.stamp_ns):
                self.last = self.peer.facts()[-1]
                return self.last

    def wait_until_found(self) -> None:
        """After the node has made its topics anew."""
        wait_until(self.peer.camera.get_subscription_count, 'the node to subscribe')
        wait_until(lambda: self.graph._are_outputs_matched(''), 'the outputs to match')

    def assert_dropped(self, message: Image | CompressedImage, reason: str, *details: str) -> dict[str, str]:
        """Send a bad image: it is dropped as `reason`, told with these details, counted once; and the next
        good one is answered, whose facts are returned.
        """
        before = {name: self.count(name) for name in ('received', 'processed', f'dropped.{reason}')}
        num_answers = len(self.peer.label_maps)
        facts = self.ask(message)
        assert (facts['state'], facts['reason']) == ('dropped', reason), facts
        assert all(detail in facts['detail'] for detail in details), facts['detail']
        assert self.count('received') == before['received'] + 1
        assert self.count('processed') == before['processed']
        assert self.count(f'dropped.{reason}') == before[f'dropped.{reason}'] + 1
        assert len(self.peer.label_maps) == num_answers
        return self.is_good_answered()


def assert_balanced(facts: dict[str, str]) -> None:
    """received = processed + dropped + pending, and the reasons add up."""
    dropped = sum(int(value) for name, value in facts.items() if name.startswith('dropped.'))
    assert dropped == int(facts['dropped']), facts
    assert int(facts['received']) == int(facts['processed']) + dropped + int(facts['pending']), facts


@contextmanager
def running_line(
    make_backend: Callable[[], FakeBackend] = FakeBackend,
    spec: ModelSpec = SPEC,
    refresh_backend: FakeBackend | None = None,
    make_message: Callable[[int, int], Image | CompressedImage] = raw_message,
    **parameters: object,
) -> Iterator[Line]:
    """A line whose node and peer have found each other."""
    with ros_graph(next(_NAMESPACES)) as graph:
        backend = make_backend()
        node = graph.start_node(backend, spec, refresh_backend, **parameters)
        peer = graph.start_peer(transport=str(parameters.get('image_transport', 'raw')))
        yield Line(graph, node, peer, backend, make_message)
