# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Faults of recordings and of the disk in `dff bag`: each row of docs/reliability.md on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rosbags')
pytest.importorskip('cv2')
from fake_backend import FakeBackend
from killed_bag import CONFIG
from made_bags import (
    KILL_AT,
    Item,
    KilledBackend,
    facts,
    on,
    open_fake,
    plain_items,
    read_bag,
    without_times,
    write_bag,
)
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer
from test_bag import TOPIC, answer
from test_bag_many import jobs_of
from test_bag_resume import answer as answer_changing
from test_bag_resume import recording

from dff_ros import bag_parts
from dff_ros.bag_job import BagJob
from dff_ros.bag_jobs import answer_in_processes
from dff_ros.bag_messages import IMAGE
from dff_ros.bag_run import answer_bag
from dff_ros.errors import DataError, DffError

HERE = Path(__file__).parent


def test_unreadable_message_is_copied_counted_and_the_next_one_answered(tmp_path):
    items = plain_items(3)
    items[2] = Item(TOPIC, IMAGE, items[2].time_ns, items[2].data[:90])
    told = []
    source = write_bag(tmp_path / 'in', items)
    summary = answer(source, tmp_path / 'out', tell=told.append)
    found = read_bag(tmp_path / 'out')
    assert [one for one in found if 'dff' not in one.topic] == items
    assert summary['dropped'] == {'unreadable': 1} and summary['answered'] == 2
    assert facts(found)[-1]['dropped.unreadable'] == '1' and facts(found)[-1]['received'] == '3'
    assert [text for text in told if isinstance(text, str)] == [
        f'{source}: message 3 on {TOPIC} cannot be read: left out'
    ]


def damage(source, how):
    file = next(source.glob('*.*[!l]'))
    if how == 'truncated':
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == 'empty':
        file.write_bytes(b'')
    elif how == 'no metadata':
        (source / 'metadata.yaml').unlink()
        file.rename(file.with_name(f'a{file.suffix}'))
        (source / f'b{file.suffix}').write_bytes(b'')
    elif how == 'bad metadata':
        (source / 'metadata.yaml').write_text('rosbag2_bagfile_information: [')


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('how', ['truncated', 'empty', 'no metadata', 'bad metadata'])
def test_broken_bag_is_refused_with_the_remedy(tmp_path, storage, how):
    source = write_bag(tmp_path / 'in', plain_items(40), storage)
    damage(source, how)
    with pytest.raises(DataError, match=r'in (cannot be read|has no metadata|is damaged).*ros2 bag reindex'):
        answer(source, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_disk_full_leaves_what_is_finished_and_the_same_command_goes_on(tmp_path, monkeypatch, storage):
    source = write_bag(tmp_path / 'in', plain_items(12))
    expected = answer(source, tmp_path / 'whole', storage=storage, part_frames=3)
    written = []
    with monkeypatch.context() as patch:
        if storage == 'sqlite3':
            begin = Sqlite3Writer.__init__

            def begin_small(self, *args):
                begin(self, *args)
                written.append(1)
                if len(written) == 3:
                    self.conn.execute('PRAGMA max_page_count = 14')

            patch.setattr(Sqlite3Writer, '__init__', begin_small)
        else:
            write = McapWriter.write

            def write_some(self, *args):
                written.append(1)
                if len(written) > 45:
                    raise OSError(28, 'No space left on device')
                write(self, *args)

            patch.setattr(McapWriter, 'write', write_some)
        with pytest.raises(
            DffError, match='the disk is full; .* stays in out.part, and the same command goes on'
        ):
            answer(source, tmp_path / 'out', storage=storage, part_frames=3)
    assert not (tmp_path / 'out').exists()
    backend = FakeBackend()
    summary = answer(source, tmp_path / 'out', storage=storage, part_frames=3, backend=backend)
    assert summary['resumed_at'] == 11  # 6 images and the texts between them
    assert not any(call.endswith(('->4', 'extract 0')) for call in backend.calls)
    assert without_times(read_bag(tmp_path / 'out')) == without_times(read_bag(tmp_path / 'whole'))
    assert {**summary, 'resumed_at': None, 'fps': 0, 'elapsed_s': 0, 'out': ''} == {
        **expected, 'fps': 0, 'elapsed_s': 0, 'out': ''
    }  # fmt: skip


def test_unwritable_out_is_refused(tmp_path):
    source = write_bag(tmp_path / 'in', plain_items(1))
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(DffError, match='cannot write .*file/out'):
        answer(source, tmp_path / 'file' / 'out')


def run_killed(source, out, storage, at):
    """Killed at its n-th call of the networks."""
    done = subprocess.run(
        [sys.executable, HERE / 'killed_bag.py', source, out, storage],
        env=os.environ | {KILL_AT: str(at), 'PYTHONPATH': os.pathsep.join([str(HERE.parent), str(HERE)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_killed_by_sigkill_twice_it_ends_with_the_messages_of_an_uninterrupted_run(tmp_path, storage):
    source = recording(tmp_path)
    whole = KilledBackend(0)
    expected = answer_changing(source, tmp_path / 'whole', whole, storage)
    out = tmp_path / 'out'
    for at in (2, 7):  # in the first part, and in the third; the second run replays nothing
        run_killed(source, out, storage, at)
        assert not out.exists() and (tmp_path / 'out.part' / 'run.json').is_file()
    assert len(list((tmp_path / 'out.part').glob('out_?.json'))) == 2
    run_killed(source, out, storage, 7)
    assert len(list((tmp_path / 'out.part').glob('out_?.json'))) == 3
    last = KilledBackend(0)
    summary = answer_changing(source, out, last, storage)
    assert without_times(read_bag(out)) == without_times(read_bag(tmp_path / 'whole'))
    assert [p.name for p in sorted(out.iterdir())] == [
        p.name.replace('whole', 'out') for p in sorted((tmp_path / 'whole').iterdir())
    ]
    changed = {'out', 'fps', 'elapsed_s', 'resumed_at'}
    assert {k: v for k, v in summary.items() if k not in changed} == {
        k: v for k, v in expected.items() if k not in changed
    }
    assert summary['resumed_at'] == 23 and summary['dropped'] == {
        'conversion': 1, 'duplicate_stamp': 1, 'engine_error': 1, 'unreadable': 1
    }  # fmt: skip
    # of the 12 images before, at most the key frame in use is computed again
    again = [call for call in last.calls if call.startswith('extract') and int(call.split()[1]) < 12]
    assert len(again) <= 1 and not any(int(call.split('>')[1]) < 12 for call in last.calls if '>' in call)
    reasons = {f['reason'] for f in facts(read_bag(out))}
    assert {'motion', 'no_key', 'engine_error', 'conversion', 'duplicate_stamp'} <= reasons
    assert len(on(read_bag(out), '/dff/label_info')) == 1


def test_ended_while_the_parts_are_put_together_it_is_done_again(tmp_path, monkeypatch):
    source = recording(tmp_path)
    answer_changing(source, tmp_path / 'whole', KilledBackend(0))
    replace, done = os.replace, []

    def ended(source, target):
        if Path(source).suffix == '.mcap':
            done.append(source)
            if len(done) == 3:
                raise OSError(28, 'No space left on device')
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(bag_parts.os, 'replace', ended)
        with pytest.raises(DffError, match='the disk is full'):
            answer_changing(source, tmp_path / 'out', KilledBackend(0))
    last = KilledBackend(0)
    answer_changing(source, tmp_path / 'out', last)
    assert [call for call in last.calls if call != 'close'] == []
    assert without_times(read_bag(tmp_path / 'out')) == without_times(read_bag(tmp_path / 'whole'))


def test_a_broken_and_a_killed_recording_cost_the_others_nothing(tmp_path, monkeypatch):
    """The process of the longest recording is killed; the next run goes on with it and keeps the others."""
    bags = [
        write_bag(tmp_path / name, plain_items(number)) for name, number in (('a', 6), ('b', 6), ('c', 14))
    ]
    (bags[1] / 'b.mcap').write_bytes(b'not a recording')
    jobs = jobs_of(bags, tmp_path / 'out')
    monkeypatch.setenv(KILL_AT, '10')
    told = []
    outcomes = answer_in_processes(jobs, 2, lambda job, what: told.append((job.source.name, what)), open_fake)
    assert [outcome.summary and outcome.summary['answered'] for outcome in outcomes] == [5, None, None]
    assert 'b cannot be read' in outcomes[1].failure
    assert outcomes[2].failure == 'its process was ended by SIGKILL: is there enough memory? Try fewer --jobs'
    assert {name for name, _ in told} == {'a', 'b', 'c'} and told[-1][1] in outcomes
    monkeypatch.delenv(KILL_AT)
    again = answer_in_processes(jobs, 2, lambda job, what: None, open_fake)
    assert again[0].summary == {
        'bag': str(bags[0]), 'out': str(tmp_path / 'out' / 'a'), 'finished_before': True
    }  # fmt: skip
    assert again[1].summary is None and again[2].summary['resumed_at'] == 15
    answer_bag(BagJob(bags[2], tmp_path / 'alone', CONFIG, jobs[2].options), open_model=open_fake)
    assert without_times(read_bag(tmp_path / 'out' / 'c')) == without_times(read_bag(tmp_path / 'alone'))
