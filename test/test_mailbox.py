# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The mailbox: newest wins, everything is accounted for. Threads only where waiting is the point."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dff_ros.mailbox import SUPERSEDED, Mailbox, Taken

TIMEOUT_S = 10.0


def test_a_newer_item_replaces_the_older_one_of_its_camera_only():
    mailbox: Mailbox[str] = Mailbox()
    for camera, item in [('left', 'l1'), ('right', 'r1'), ('left', 'l2')]:
        mailbox.put(item, camera)
    # left came first and keeps its turn
    assert [mailbox.take(), mailbox.take()] == [Taken('left', 'l2'), Taken('right', 'r1')]
    assert mailbox.counts().dropped == {SUPERSEDED: 1}


def test_counts_follow_an_item_to_its_end():
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    mailbox.take()
    mailbox.put(2)
    assert mailbox.counts().pending == 2  # one waiting, one in hand
    counts = mailbox.done()
    assert (counts.received, counts.processed, counts.pending, counts.num_dropped) == (2, 1, 1, 0)
    mailbox.take()
    counts = mailbox.drop('conversion')
    assert (counts.received, counts.processed, counts.pending, counts.dropped) == (2, 1, 0, {'conversion': 1})


def test_each_camera_has_counts_of_its_own():
    mailbox: Mailbox[int] = Mailbox()
    for camera, item in [('left', 1), ('left', 2), ('right', 3), ('right', 4), ('right', 5)]:
        mailbox.put(item, camera)
    assert mailbox.take().camera == 'left'
    assert (mailbox.done('left').received, mailbox.counts('left').dropped) == (2, {SUPERSEDED: 1})
    assert mailbox.take().camera == 'right'
    counts = mailbox.drop('conversion', 'right')
    assert (counts.received, counts.processed, counts.pending) == (3, 0, 0)
    assert counts.dropped == {'conversion': 1, SUPERSEDED: 2}
    assert mailbox.counts().dropped == {'conversion': 1, SUPERSEDED: 3}
    assert mailbox.counts().received == 5


@given(st.lists(st.lists(st.sampled_from('abcd'), max_size=12), max_size=30))
def test_whoever_floods_each_waiting_camera_is_served_before_another_is_served_twice(arrivals):
    """Between two services any cameras may put any number of images."""
    mailbox: Mailbox[int] = Mailbox()
    waiting: list[str] = []  # in the order in which they began to wait
    served: list[str] = []
    for number, cameras in enumerate(arrivals):
        for camera in cameras:
            mailbox.put(number, camera)
            waiting += [camera] if camera not in waiting else []
        if waiting:
            taken = mailbox.take()
            new = [camera for camera in waiting if camera not in served]
            assert taken.camera == (new[0] if new else max(waiting, key=served[::-1].index))
            waiting.remove(taken.camera)
            served.append(taken.camera)
            mailbox.done(taken.camera)


@pytest.mark.parametrize(('plain_ms', 'key_ms'), [(20, 90), (25, 100), (30, 120), (50, 200)])
def test_cameras_triggered_together_get_equal_shares_of_a_node_that_is_too_slow(plain_ms, key_ms):
    """Simulated time: four cameras at 10 Hz, a key frame on every fifth image of each."""
    mailbox: Mailbox[int] = Mailbox()
    arrivals = [
        (tick * 100_000 + 300 * index, name) for tick in range(600) for index, name in enumerate('abcd')
    ]
    num_answered = Counter({'a': 0, 'b': 1, 'c': 2, 'd': 3})  # phases
    now_us = 0
    while arrivals or mailbox.counts().pending:
        if not mailbox.counts().pending:
            now_us = max(now_us, arrivals[0][0])
        while arrivals and arrivals[0][0] <= now_us:
            mailbox.put(*arrivals.pop(0))
        taken = mailbox.take()
        now_us += 1000 * (plain_ms if num_answered[taken.camera] % 5 else key_ms)
        num_answered[taken.camera] += 1
        mailbox.done(taken.camera)
    counts = [mailbox.counts(name).processed for name in 'abcd']
    share = sum(counts) / 4
    assert share < 540  # it is too slow
    assert 0.9 * share <= min(counts) <= max(counts) <= 1.1 * share


@given(st.lists(st.sampled_from(['put a', 'put b', 'take', 'done', 'drop', 'clear'])))
def test_received_is_processed_plus_dropped_plus_pending(steps):
    mailbox: Mailbox[str] = Mailbox()
    waiting: set[str] = set()
    in_hand: list[str] = []
    for step in steps:
        if step.startswith('put'):
            mailbox.put(step, step)
            waiting.add(step)
        elif step == 'take' and waiting:
            taken = mailbox.take()
            assert taken.item == taken.camera
            waiting.remove(taken.camera)
            in_hand.append(taken.camera)
        elif step in ('done', 'drop') and in_hand:
            camera = in_hand.pop()
            mailbox.done(camera) if step == 'done' else mailbox.drop('other', camera)
        elif step == 'clear' and not in_hand:
            mailbox.clear('inactive')
            waiting.clear()
        for camera in (None, 'put a', 'put b'):
            counts = mailbox.counts(camera)
            mine = [name for name in (*waiting, *in_hand) if camera in (None, name)]
            assert counts.pending == len(mine)
            assert counts.received == counts.processed + counts.num_dropped + counts.pending


def test_take_waits_for_an_item():
    mailbox: Mailbox[str] = Mailbox()
    taken: list[str | None] = []
    taker = threading.Thread(target=lambda: taken.append(mailbox.take()))
    taker.start()
    mailbox.put('item')
    taker.join(TIMEOUT_S)
    assert taken == [Taken('', 'item')]


def test_close_wakes_the_taker_and_drops_what_waits():
    mailbox: Mailbox[str] = Mailbox()
    taken: list[str | None] = []
    taker = threading.Thread(target=lambda: taken.append(mailbox.take()))
    taker.start()
    mailbox.close()
    taker.join(TIMEOUT_S)
    assert taken == [None]
    mailbox.put('late')
    assert mailbox.take() is None
    assert mailbox.counts().dropped == {'closed': 1}


def test_clear_drops_what_waits_and_returns_only_after_the_item_in_hand_is_answered():
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    mailbox.take()
    mailbox.put(2)
    order: list[str] = []

    def clear() -> None:
        mailbox.clear('inactive')
        order.append('cleared')

    clearer = threading.Thread(target=clear)
    clearer.start()
    while mailbox.counts().dropped != {'inactive': 1}:  # the clearing has begun, and waits for item 1
        pass
    order.append('done')
    mailbox.done()
    clearer.join(TIMEOUT_S)
    assert order == ['done', 'cleared']
    assert mailbox.counts().pending == 0


def test_what_is_refused_is_dropped_by_its_reason_and_the_item_in_hand_is_finished():
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(0, 'front')
    taken = mailbox.take()
    mailbox.put(1, 'front')
    mailbox.put(2, 'rear')
    mailbox.refuse('disabled')
    mailbox.put(3, 'front')
    mailbox.done(taken.camera)
    assert mailbox.counts('front').dropped == {'disabled': 2}
    assert mailbox.counts('rear').dropped == {'disabled': 1}
    mailbox.accept()
    mailbox.put(4, 'front')
    assert mailbox.take().item == 4
    mailbox.done('front')
    mailbox.refuse('disabled')
    mailbox.close()
    mailbox.put(5, 'front')
    counts = mailbox.counts()
    assert (counts.received, counts.processed, counts.pending) == (6, 2, 0)
    assert counts.dropped == {'closed': 1, 'disabled': 3}
