# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Random image messages to a running node: each is answered or dropped, and the next good one answered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy')
from builtin_interfaces.msg import Time
from faults import Line, running_line
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dff_ros.encodings import ENCODINGS

UINT32 = st.integers(0, 2**32 - 1)
SMALL = st.integers(0, 70)


@pytest.fixture(scope='module')
def line() -> Iterator[Line]:
    with running_line(max_pixels=100_000) as found:
        yield found


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Sizes that fit together more often than by chance, among others that do not."""
    height, width = draw(st.one_of(SMALL, UINT32)), draw(st.one_of(SMALL, UINT32))
    step = draw(st.one_of(st.sampled_from([1, 2, 3, 4, 6, 8]).map(lambda n: n * width % 2**32), UINT32))
    num_bytes = height * step if height * step < 100_000 else draw(st.integers(0, 1000))
    seconds = draw(st.integers(-(2**31), 2**31 - 1))
    return Image(
        header=Header(
            stamp=Time(sec=seconds, nanosec=draw(UINT32)),
            frame_id=draw(st.text(st.characters(codec='ascii', exclude_characters='\0'), max_size=20)),
        ),
        height=height,
        width=width,
        encoding=draw(st.one_of(st.sampled_from(sorted(ENCODINGS)), st.sampled_from(['', '32FC1', 'h264']))),
        is_bigendian=draw(st.integers(0, 255)),
        step=step,
        data=bytes(num_bytes),
    )


@given(message=images())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_image_message_is_answered_or_dropped_and_the_next_good_one_answered(line, message):
    received = line.count('received')
    facts = line.ask(message)
    assert facts['state'] in ('key', 'propagated', 'dropped')
    assert int(facts['received']) == received + 1
    if facts['state'] == 'dropped':
        assert facts['reason'] in ('conversion', 'duplicate_stamp')
    num_before = len(line.peer.label_maps)
    line.peer.camera.publish(good := line.next_image())
    line.peer.wait_for(
        lambda: any(m.header == good.header for m in line.peer.label_maps[num_before:]), 'the good answer'
    )
    line.peer.wait_for(lambda: line.peer.statuses[-1].header == good.header, 'its status')
    line.last = line.peer.facts()[-1]
    assert line.last['state'] in ('key', 'propagated')
