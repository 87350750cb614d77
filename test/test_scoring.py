# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Spooled label maps and their score, in one process and in several."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from rich.console import Console

from dff_ros import scoring
from dff_ros.sources import SourceRequest, open_source
from dff_ros.spool import LabelSpool


def test_spool_gives_back_what_was_added_in_order():
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 11, (30 + key, 40), np.uint8) for key in range(5)]
    with LabelSpool() as spool:
        for key, labels in enumerate(maps):
            spool.add(10 * key, labels)
        assert len(spool) == 5
        for _ in range(2):  # may be read again
            assert [packed.key for packed in spool] == [0, 10, 20, 30, 40]
            for packed, labels in zip(spool, maps, strict=True):
                np.testing.assert_array_equal(packed.unpack(), labels)


@pytest.mark.parametrize('num_cores', [1, 2])
def test_score_of_the_street_counts_each_frame_once(monkeypatch, num_cores):
    monkeypatch.setattr(scoring, 'available_cores', lambda: num_cores)
    monkeypatch.setattr(scoring, '_CHUNK', 2)
    request = SourceRequest(text='street', seed=1)
    source = open_source('street', seed=1)
    expected = np.zeros((11, 12), np.int64)
    with LabelSpool() as spool:
        for index in (0, 1, 2):
            truth = source.labels(index)
            answer = truth if index else np.full_like(truth, 3)  # frame 0: all road
            spool.add(index, np.where(answer == 255, np.uint8(0), answer))
            for label in range(11):
                expected[label, 3 if index == 0 else label] += (truth == label).sum()
        confusion = scoring.score(spool, request, 11, Console(file=io.StringIO()))
    np.testing.assert_array_equal(confusion.counts_KK1, expected)


def stuck(chunk, num_classes):
    """In place of `_score_in_worker`: the first chunk is done at once, the others never."""
    if chunk[0].key:
        time.sleep(600)
    return np.ones((num_classes, num_classes + 1), np.int64)


@pytest.fixture
def counting(monkeypatch):
    """The results of three chunks on two workers."""
    monkeypatch.setattr(scoring, 'available_cores', lambda: 2)
    monkeypatch.setattr(scoring, '_CHUNK', 1)
    request = SourceRequest(text='street', seed=1)
    with LabelSpool() as spool:
        for index in range(3):
            spool.add(index, np.zeros((360, 480), np.uint8))
        yield lambda: scoring._counts(spool, request.open(), request, 11)


def test_an_abort_does_not_wait_for_the_workers(counting, monkeypatch):
    monkeypatch.setattr(scoring, '_score_in_worker', stuck)
    results = counting()
    next(results)
    workers = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt())
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL] * 2


def test_a_signal_to_the_whole_terminal_spares_the_workers(counting):
    results = counting()
    done = [next(results)]
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    done += results
    assert [chunk[0].key for chunk, _ in done] == [0, 1, 2]
    assert all(counts.sum() > 100_000 for _, counts in done)
