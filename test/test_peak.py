# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The search for the peak rate, on nodes that are functions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dff_ros.ros.peak import Probe, find_peak


class Node:
    """Answers at most `limit_hz` images of 100; the player reaches at most `player_hz`."""

    def __init__(self, limit_hz: float, player_hz: float = 1e4) -> None:
        self.limit_hz, self.player_hz = limit_hz, player_hz
        self.rates: list[float] = []

    def __call__(self, rate_hz: float) -> Probe:
        self.rates.append(rate_hz)
        played = min(rate_hz, self.player_hz)
        missed = round(100 * max(0.0, 1 - self.limit_hz / played))
        return Probe(rate_hz, 100, missed, played)


@pytest.mark.parametrize('limit_hz', [0.7, 8.0, 31.0, 44.0, 130.0, 700.0])
def test_the_peak_is_the_highest_rate_with_at_most_5_percent_missed(limit_hz):
    node = Node(limit_hz)
    found = find_peak(node, 15.0, 45.0)
    # 5 of 100 may be missed, and those are rounded: so up to 5.5 % above what it answers.
    assert limit_hz / 1.03 <= found.rate_hz <= 1.06 * limit_hz
    assert found.num_missed <= 5
    assert found.fps == pytest.approx(found.rate_hz * (1 - found.num_missed / 100))
    assert found.rate_hz == node.rates[-1]  # the rate was held by the last probe, not by a lucky one before
    assert len(node.rates) <= 25


def test_a_good_guess_takes_few_probes():
    node = Node(30.0)
    find_peak(node, 20.0, 40.0)
    assert len(node.rates) <= 8


def test_a_node_that_answers_nothing_has_no_peak():
    node = Node(0.0)
    assert find_peak(node, 15.0, 45.0) is None
    assert min(node.rates) < 0.16


def test_a_rate_that_the_player_cannot_reach_is_not_held():
    found = find_peak(Node(1e4, player_hz=200.0), 100.0, 300.0)
    assert 200.0 / 1.03 <= found.rate_hz <= 200.0 / 0.95
    assert found.num_missed == 0
    assert found.fps <= 200.0


def lucky_at(rate_hz: float, times: int) -> Callable[[float], Probe]:
    """A node of 30 Hz that holds rates up to another one so many times."""
    left, node = [times], Node(30.0)

    def probe(asked_hz: float) -> Probe:
        if asked_hz <= rate_hz and asked_hz > 31.6 and left[0]:
            left[0] -= 1
            return Probe(asked_hz, 100, 0, asked_hz)
        return node(asked_hz)

    return probe


def test_a_lucky_probe_is_no_peak():
    found = find_peak(lucky_at(38.0, 2), 20.0, 60.0)
    assert found.rate_hz <= 31.6
    assert found.rate_hz >= 30.0 / 1.03


def test_five_percent_is_held_and_six_is_not():
    assert Probe(30.0, 100, 5, 30.0).is_held
    assert not Probe(30.0, 100, 6, 30.0).is_held
    assert not Probe(30.0, 100, 0, 28.4).is_held  # the player was too slow
    assert Probe(30.0, 100, 5, 30.0).fps == pytest.approx(28.5)
