# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff bench --rate` on a clock of its own: latencies, ages and misses worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from executors import ManualExecutor
from fake_backend import FakeBackend

from dff_ros import cli, opening
from dff_ros.benchmark import rates as bench
from dff_ros.benchmark.rates import Contender, measure, take_images
from dff_ros.config import KeyframeConfig
from dff_ros.engine import Engine
from dff_ros.errors import ConfigError
from dff_ros.refresh import RefreshWorker
from dff_ros.sources import StreetSource

IMAGES = [np.full((32, 48, 3), number, np.uint8) for number in range(5)]


class MadeClock:
    """Moves when someone sleeps or computes."""

    def __init__(self) -> None:
        self.time_s = 100.0

    def now_s(self) -> float:
        return self.time_s

    def sleep(self, duration_s: float) -> None:
        assert duration_s >= 0
        self.time_s += duration_s


class TimedBackend(FakeBackend):
    """Takes its time on a made clock."""

    def __init__(self, clock: MadeClock, extract_s: float = 0.25, propagate_s: float = 0.02) -> None:
        super().__init__()
        self.clock, self.extract_s, self.propagate_s = clock, extract_s, propagate_s

    def extract(self, image_HW3):
        self.clock.time_s += self.extract_s
        return super().extract(image_HW3)

    def propagate(self, image_HW3, key):
        self.clock.time_s += self.propagate_s
        return super().propagate(image_HW3, key)

    def predict(self, feature, source_size, output_size):
        return super().predict(feature % 256, source_size, output_size)  # a picture's number may be any


def make_contender(
    clock: MadeClock, *, refresh: str = 'inline', interval: int = 5, **times: float
) -> Contender:
    backend, worker = TimedBackend(clock, **times), None
    if refresh == 'worker':
        worker = RefreshWorker(FakeBackend, ManualExecutor())  # takes no time
    return Contender(
        refresh,
        Engine(backend, KeyframeConfig(interval=interval, max_age_s=3600, max_gap_s=60), worker=worker),
    )


def test_a_spike_makes_the_frames_behind_it_late_and_the_newest_wins():
    clock = MadeClock()
    contender = make_contender(clock)  # at 10 Hz: 0.25 s for a key frame, 0.02 for another
    contender.prepare(IMAGES, 10.0)
    measure([contender], IMAGES, 10.0, 2.0, clock)
    # Frame 0 is made a key frame before. Of 20 frames from 1 on: 5 is a key frame, in 0.25 s; 6 and 7 come
    # meanwhile, 7 is answered 0.05 s late, 8 in time; the fifth one after 5 is a key frame again: 12, 19.
    row = contender.row(10.0)
    assert row['frames'] == 20
    assert row['missed'] == {'superseded': 3, 'deadline': 0}
    assert row['answered'] == 17
    assert sorted({round(value) for value in contender.latencies_ms}) == [20, 70, 250]
    assert [round(value) for value in contender.latencies_ms].count(250) == row['key_frames'] == 3
    assert row['latency_ms']['p50'] == 20.0
    assert row['latency_ms']['max'] == 250.0


def test_with_a_worker_there_is_no_spike_and_the_ages_tell():
    clock = MadeClock()
    contenders = [make_contender(clock, refresh=kind) for kind in ('inline', 'worker')]
    for contender in contenders:
        contender.prepare(IMAGES, 10.0)
    worker, waits = contenders[1].engine.worker, []
    worker._executor.is_instant = False
    worker.wait = lambda: waits.append(clock.time_s)  # type: ignore[method-assign]
    measure(contenders, IMAGES, 10.0, 4.0, clock)
    assert len(waits) == 2  # before the other's turn
    row = contenders[1].row(10.0)
    assert row['latency_ms'] == {'p50': 20.0, 'p90': 20.0, 'p99': 20.0, 'max': 20.0}
    assert (row['p99_over_p50'], row['missed']['superseded'], row['answered']) == (1.0, 0, 40)
    assert row['age_frames_mean'] == 20.5  # no key frame ever came: ages 1 to 40
    assert row['age_ms_mean'] == 2050.0
    assert contenders[0].row(10.0)['frames'] == 40


def test_the_stamps_go_on_and_the_images_turn_without_a_cut():
    clock = MadeClock()
    contender = make_contender(clock, interval=100, extract_s=0.0, propagate_s=0.0)
    contender.prepare(IMAGES, 10.0)
    measure([contender], IMAGES, 10.0, 1.1, clock)
    seen = [call.split('>')[-1] for call in contender.engine.backend.calls if '->' in call]
    assert seen == ['1', '2', '3', '4', '3', '2', '1', '0', '1', '2', '3']
    assert contender.ages_s.tolist() == pytest.approx([n / 10 for n in range(1, 12)])


def test_skipped_frames_are_misses_with_a_reason_of_their_own(monkeypatch):
    clock = MadeClock()
    monkeypatch.setattr('time.perf_counter_ns', lambda: round(clock.time_s * 1e9))
    backend = TimedBackend(clock, propagate_s=0.04)
    config = KeyframeConfig(interval=2, max_interval=3, max_age_s=60, max_gap_s=60)
    contender = Contender('inline', Engine(backend, config, budget_ms=30.0))
    contender.prepare(IMAGES, 2.0)
    measure([contender], IMAGES, 2.0, 60.0, clock)
    row = contender.row(2.0)
    assert row['missed']['superseded'] == 0
    assert row['missed']['deadline'] > 20
    assert row['answered'] + row['missed']['deadline'] == row['frames'] == 120


def test_a_source_without_frames_or_with_several_sizes_is_refused():
    source = StreetSource(0, (32, 48), 30.0)
    images = [*IMAGES, np.zeros((48, 32, 3), np.uint8)]
    for frames, found in (([], 'no frame'), (images, '48x32, 32x48')):
        source.__class__ = type('Made', (StreetSource,), {'__iter__': lambda self, f=frames: _frames(f)})
        with pytest.raises(ConfigError, match=f'street has frames of {found}'):
            take_images(source)


def _frames(images):
    from dff_ros.sources import SourceFrame

    return (SourceFrame(image, 0, None, '') for image in images)


@pytest.fixture
def fast(monkeypatch):
    """The command on fake backends and a made clock."""
    clock = MadeClock()
    monkeypatch.setattr(bench, 'WallClock', lambda: clock)
    monkeypatch.setattr(bench, '_NUM_IMAGES', 3)

    def open_backend(bundle, config, *, is_background=False):
        return TimedBackend(clock, extract_s=0.0 if is_background else 0.05)

    monkeypatch.setattr(opening, 'open_backend', open_backend)


def run(capsys, *flags: str) -> tuple[int, str]:
    code = cli.main(['bench', '--rate', '30', '--size', '48x32', '--seconds', '2', *flags])
    return code, capsys.readouterr().out


def test_json_has_a_row_for_each_kind_and_says_where_it_ran(fast, capsys):
    code, out = run(capsys, '--json', '--interval', '10', '--refresh', 'inline,worker')
    report = json.loads(out)
    assert code == 0
    assert [row['refresh'] for row in report['rows']] == ['inline', 'worker']
    assert (report['size'], report['rate'], report['interval'], report['source']) == (
        [48, 32],
        30.0,
        10,
        'street',
    )
    assert (report['bundle'], report['runtime']) == ('road-r18', 'none')
    assert report['cores'] >= 1
    inline, worker = report['rows']
    assert inline['latency_ms']['max'] == 50.0
    assert worker['refresh_threads'] == 1
    assert inline['frames'] == worker['frames'] == 60


def test_the_table_names_the_kinds_and_figures(fast, capsys):
    code, out = run(capsys, '--refresh', 'inline')
    assert code == 0
    assert 'road-r18, 48x32 at 30 Hz, key frames every 5 frames' in out
    rows = [line.strip('│ \n').split('│') for line in out.splitlines() if '│' in line]
    found = {cells[0].strip(): cells[1].strip() for cells in rows}
    assert (found['threads'], found['frames answered'], found['longest, ms']) == ('1', '60', '50.0')


def test_another_scheduler_has_no_interval_to_tell(fast, capsys):
    code, out = run(capsys, '--refresh', 'inline', '--keyframe.scheduler', 'motion')
    assert code == 0
    assert 'road-r18, 48x32 at 30 Hz, key frames by motion' in out


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--refresh', 'inline,later'], "got 'later', known are inline, worker"),
        (['--rate', '0'], 'expected a number above 0'),
        (['--size', '480'], 'expected WIDTHxHEIGHT'),
    ],
)
def test_wrong_flags_say_what_is_allowed(flags, message, capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(['bench', *flags])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_engines_are_closed_where_the_second_cannot_be_opened(monkeypatch, capsys):
    opened: list[FakeBackend] = []
    monkeypatch.setattr(bench, '_NUM_IMAGES', 1)

    def open_backend(bundle, config, **_):
        if config.refresh == 'worker':
            raise ConfigError('no second one')
        opened.append(FakeBackend())
        return opened[-1]

    monkeypatch.setattr(opening, 'open_backend', open_backend)
    assert cli.main(['bench', '--rate', '30', '--size', '48x32']) == 2
    assert opened[0].calls == ['close']
    assert 'no second one' in capsys.readouterr().err
