# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Stamps over real DDS: growing within a sequence; a backward stamp (a bag that loops) begins another."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from ros_helpers import image_message, stamp


def ask_all(graph, numbers: list[int], backend: FakeBackend | None = None) -> list[dict[str, str]]:
    graph.start_node(backend or FakeBackend())
    peer = graph.start_peer()
    answers = [peer.ask(image_message(i, stamp_ns=stamp(n))) for i, n in enumerate(numbers)]
    published = [stamp(n) for n, a in zip(numbers, answers, strict=True) if a['state'] != 'dropped']
    assert peer.stamps() == published
    return answers


def sequences(numbers: list[int], answers: list[dict[str, str]]) -> list[list[int]]:
    """What was answered, cut where an answer tells a reset."""
    cut: list[list[int]] = [[]]
    for number, answer in zip(numbers, answers, strict=True):
        if answer['state'] == 'dropped':
            continue
        if answer['reset_cause']:
            cut.append([])
        cut[-1].append(number)
    return cut


@pytest.mark.parametrize(
    ('numbers', 'expected', 'num_duplicates'),
    [
        ([1, 2, 3, 1, 2, 3, 1, 2, 3], [[1, 2, 3], [1, 2, 3], [1, 2, 3]], 0),
        ([1, 2, 4, 3, 5], [[1, 2, 4], [3, 5]], 0),
        ([1, 2, 2, 3, 3, 2, 2, 3], [[1, 2, 3], [2, 3]], 3),
        ([3, 2, 1], [[3], [2], [1]], 0),
    ],
    ids=['bag loop', 'late image', 'duplicates', 'backward bag'],
)
def test_stamps_grow_within_a_sequence_and_a_backward_one_begins_another(
    graph, numbers, expected, num_duplicates
):
    answers = ask_all(graph, numbers)
    found = sequences(numbers, answers)
    assert found == expected
    assert all(sequence == sorted(set(sequence)) for sequence in found)
    causes = [answer['reset_cause'] for answer in answers if answer.get('reset_cause')]
    assert causes == ['backward_stamp'] * (len(expected) - 1)
    last = answers[-1]
    assert last.get('resets.backward_stamp', '0') == str(len(expected) - 1)
    assert last.get('dropped.duplicate_stamp', '0') == str(num_duplicates)
    assert int(last['received']) == int(last['processed']) + num_duplicates


def test_each_sequence_begins_with_a_key_frame_of_its_own(graph):
    answers = ask_all(graph, [1, 2, 1, 2])
    assert [answer['state'] for answer in answers] == ['key', 'propagated', 'key', 'propagated']
    assert [answer['age_s'] for answer in answers] == ['0.000', '0.100', '0.000', '0.100']


def test_a_backward_stamp_after_an_error_begins_a_sequence_too(graph):
    numbers = [5, 6, 3, 4]
    answers = ask_all(graph, numbers, FakeBackend(fail_on={1}))
    assert sequences(numbers, answers) == [[5], [3, 4]]
    assert answers[2]['reset_cause'] == 'error'  # the first cause found is the one that is told
