# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Recorded graphs: what is repeated gives what running gives, and what was handed out stays as it is."""

from __future__ import annotations

import logging
import threading

import pytest

pytest.importorskip('torch')
import torch
from recording_helpers import ReusingRecord

from dff_ros.backends.cuda import recording
from dff_ros.backends.cuda.recording import CudaRecord, Recordings


def double_and_sum(inputs):
    return [inputs['image'] * 2, inputs['image'] + inputs['key']]


DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == 'cuda' and not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')
    return request.param


@pytest.fixture
def recordings(device):
    """On a stream of its own, where there are streams."""
    with torch.cuda.stream(torch.cuda.Stream() if device == 'cuda' else None):
        yield Recordings(CudaRecord() if device == 'cuda' else ReusingRecord())


def answers(recordings, device, values, key, shape=(2, 3), compute=double_and_sum):
    made = []
    for value in values:
        inputs = {'image': torch.full(shape, float(value), device=device), 'key': key}
        made.append(recordings.run('extract', compute, inputs, ('a', 'b')))
    return made


def test_repeats_give_what_running_gives_and_leave_earlier_answers_alone(recordings, device):
    keys = [torch.full((2, 3), value, device=device) for value in (100.0, 200.0)]
    made = [
        *answers(recordings, device, range(5), keys[0]),
        *answers(recordings, device, range(5, 8), keys[1]),
    ]
    for value, (doubled, total) in enumerate(made):
        assert doubled.tolist() == [[2.0 * value] * 3] * 2
        assert total.tolist() == [[value + (100.0 if value < 5 else 200.0)] * 3] * 2
    addresses = [tensor.data_ptr() for pair in made for tensor in pair]
    assert len(set(addresses)) == len(addresses)
    assert recordings.names() == {'extract'}


def test_the_first_run_of_a_shape_is_plain_and_the_second_is_recorded():
    record = ReusingRecord()
    recordings = Recordings(record)
    counts = []
    for shape in [(2, 3), (4, 3), (2, 3), (2, 3), (4, 3), (4, 3)]:
        answers(recordings, 'cpu', [1], torch.ones(shape), shape)
        counts.append(record.num_recorded)
    assert counts == [0, 0, 1, 1, 2, 2]


def test_an_input_is_copied_once_for_as_long_as_it_stays():
    copied = []

    class Copied(torch.Tensor):
        def clone(self):
            return Place(self.as_subclass(torch.Tensor).clone())

    class Place(torch.Tensor):
        def copy_(self, source, non_blocking=False):
            copied.append(float(source.sum()))
            return self.as_subclass(torch.Tensor).copy_(source.as_subclass(torch.Tensor))

    recordings = Recordings(ReusingRecord())
    keys = [torch.full((2,), value).as_subclass(Copied) for value in (1.0, 2.0)]

    def compute(inputs):
        return [inputs['key'].as_subclass(torch.Tensor) + 0]

    found = [
        recordings.run('propagate', compute, {'key': keys[number]}, ('a',))[0].tolist()
        for number in (0, 0, 0, 1, 1, 0)
    ]
    assert found == [[1.0 + number] * 2 for number in (0, 0, 0, 1, 1, 0)]
    assert copied == [4.0, 2.0]  # not when recorded, not while the same one stays


def test_the_oldest_recordings_give_way():
    record = ReusingRecord()
    recordings = Recordings(record, max_recorded=2)
    for size in (1, 2, 3):
        answers(recordings, 'cpu', [1, 2], torch.ones(size), (size,))
    assert record.num_recorded == 3
    answers(recordings, 'cpu', [1, 2], torch.ones(3), (3,))
    answers(recordings, 'cpu', [1, 2], torch.ones(2), (2,))
    assert record.num_recorded == 3
    (first, _), (second, _) = answers(recordings, 'cpu', [4, 5], torch.ones(1), (1,))
    assert (record.num_recorded, first.tolist(), second.tolist()) == (4, [8.0], [10.0])


def test_what_cannot_be_recorded_runs_on_and_says_why(caplog):
    def refuse(compute):
        raise RuntimeError('operation not permitted when stream is capturing')

    recordings = Recordings(refuse)
    with caplog.at_level(logging.WARNING):
        made = answers(recordings, 'cpu', range(4), torch.ones(2, 3))
    assert [pair[0][0, 0].item() for pair in made] == [0.0, 2.0, 4.0, 6.0]
    (message,) = caplog.messages
    assert 'extract' in message
    assert 'not permitted' in message
    assert recordings.names() == set()


def test_too_little_memory_is_no_reason_to_go_on():
    def exhausted(compute):
        raise torch.OutOfMemoryError('CUDA out of memory')

    recordings = Recordings(exhausted)
    with pytest.raises(torch.OutOfMemoryError):
        answers(recordings, 'cpu', range(2), torch.ones(2, 3))


def test_threads_record_one_after_the_other():
    could_begin = []

    class Watched(ReusingRecord):
        def __call__(self, compute):
            def begin():
                could_begin.append(recording._one_at_a_time.acquire(blocking=False))

            other = threading.Thread(target=begin)
            other.start()
            other.join()
            return super().__call__(compute)

    answers(Recordings(Watched()), 'cpu', range(3), torch.ones(2, 3))
    assert could_begin == [False]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_a_synchronisation_within_a_capture_is_refused_and_the_stream_goes_on(caplog):
    def synchronising(inputs):
        return [inputs['image'] * 2, inputs['image'] + float(inputs['key'].sum().item())]

    with torch.cuda.stream(torch.cuda.Stream()):
        recordings = Recordings(CudaRecord())
        with caplog.at_level(logging.WARNING):
            made = answers(
                recordings, 'cuda', range(4), torch.ones(2, 3, device='cuda'), compute=synchronising
            )
        assert [pair[1][0, 0].item() for pair in made] == [6.0, 7.0, 8.0, 9.0]
    assert len(caplog.messages) == 1
