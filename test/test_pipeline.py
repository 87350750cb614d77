# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""From message to answer without DDS: each message ends once, in order, and its answers have its header."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

pytest.importorskip('rclpy')
from hypothesis import given, settings
from hypothesis import strategies as st
from naming_backend import NamingBackend, named_image, read_answer, read_boxes
from ros_helpers import BOX_SPEC
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dff_ros.config import DffConfig, KeyframeConfig, SegmentationConfig
from dff_ros.engine import Engine
from dff_ros.frame_facts import FrameFacts
from dff_ros.mailbox import Mailbox
from dff_ros.model import Model
from dff_ros.pipeline import Pipeline, Received
from dff_ros.ros.conversions import fill_image, ns_to_stamp
from dff_ros.tasks import plan_tasks
from dff_ros.types import Segmentation

NAMES = ('front', 'left')


@dataclass
class Recorder:
    """In place of Publishers: what was published with which header, in order; `states` are those told."""

    published: list[tuple[str, Header, object]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def publish_segmentation(self, header: Header, answer: Segmentation) -> None:
        self.published.append(('segmentation', header, read_answer(answer.label_map_HW)[1]))

    def publish_detections(self, header: Header, found: object) -> None:
        self.published.append(('detections', header, read_boxes(found)[1]))

    def publish_overlay(self, header: Header, frame: object, result: object, alpha: float) -> None:
        self.published.append(('overlay', header, None))

    def publish_status(self, header: Header, facts: FrameFacts) -> None:
        self.published.append(('status', header, None))
        self.states.append(facts.state)


class Silent:
    """In place of the node's logger."""

    def warning(self, text: str) -> None:
        """Say nothing."""


class Rig:
    """Two cameras, their pipelines, one engine."""

    def __init__(self) -> None:
        self.backend = NamingBackend()
        self.config = DffConfig(
            keyframe=KeyframeConfig(interval=4), segmentation=SegmentationConfig(every=2), tasks='all'
        )
        engine = Engine(self.backend, self.config.keyframe, plan_tasks(self.config, BOX_SPEC))
        self.model = Model('fake', engine, BOX_SPEC)
        self.mailbox: Mailbox[Received] = Mailbox()
        self.recorders = {name: Recorder() for name in NAMES}
        self.pipelines = {
            name: Pipeline(name, self.mailbox, self.recorders[name], Silent())  # type: ignore[arg-type]
            for name in NAMES
        }
        self.waiting: dict[str, tuple[int, str, Image]] = {}
        self.num_sent = dict.fromkeys(NAMES, 0)
        self.stamps = dict.fromkeys(NAMES, 10**12)
        self.num_answered = dict.fromkeys(NAMES, 0)

    def send(self, name: str, kind: str) -> None:
        self.num_sent[name] += 1
        number, camera = self.num_sent[name], NAMES.index(name)
        self.stamps[name] += {'same stamp': 0, 'backward': -(10**9)}.get(kind, 10**8)
        header = Header(stamp=ns_to_stamp(self.stamps[name]), frame_id=f'{name}_optical')
        message = fill_image(Image(), header, named_image(camera, number))
        if kind == 'broken':
            message.encoding = 'yuv420'
        elif kind == 'failing':
            self.backend.failing.add((camera, number))
        self.mailbox.put(Received(message, 0), name)
        self.waiting[name] = number, kind, message

    def answer_next(self) -> None:
        """The next message is answered, or dropped, and its status is the last thing published."""
        taken = self.mailbox.take()
        number, kind, message = self.waiting.pop(taken.camera)
        assert taken.item.message is message  # the newest
        recorder = self.recorders[taken.camera]
        recorder.published.clear()
        self.pipelines[taken.camera].answer(self.model, self.config, taken.item)
        kinds = [kind for kind, _, _ in recorder.published]
        assert kinds[-1] == 'status' and kinds.count('status') == 1
        assert all(header is message.header for _, header, _ in recorder.published)
        frames = {frame for kind, _, frame in recorder.published if kind in ('segmentation', 'detections')}
        state = recorder.states[-1]
        if state == 'dropped':
            assert kind in ('broken', 'failing', 'same stamp') and kinds == ['status']
        else:
            assert kind not in ('broken', 'failing')
            assert frames == {(NAMES.index(taken.camera), number)}
            assert kinds.count('detections') == 1 and kinds.count('segmentation') <= 1
            self.num_answered[taken.camera] += 1


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.sampled_from(['take', 'take', 'take'])
        | st.tuples(
            st.sampled_from(NAMES),
            st.sampled_from(['good', 'good', 'good', 'same stamp', 'backward', 'broken', 'failing']),
        ),
        min_size=10,
        max_size=60,
    )
)
def test_one_answer_to_each_accepted_message_in_order_with_its_header(steps):
    rig = Rig()
    for step in steps:
        if step != 'take':
            rig.send(*step)
        elif rig.waiting:
            rig.answer_next()
    for name in NAMES:
        counts = rig.mailbox.counts(name)
        assert counts.received == rig.num_sent[name]
        assert counts.processed == rig.num_answered[name]
        assert counts.received == counts.processed + counts.num_dropped + counts.pending
        assert len(rig.recorders[name].states) == counts.processed + counts.num_dropped - counts.dropped.get(
            'superseded', 0
        )
