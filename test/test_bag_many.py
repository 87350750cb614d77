# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Many recordings: found and named, spread over processes or Ray, each failure told and kept to its own."""

from __future__ import annotations

import json
import sys
import types

import pytest

pytest.importorskip('rosbags')
pytest.importorskip('cv2')
from killed_bag import CONFIG, PART_FRAMES
from made_bags import open_fake, plain_items, read_bag, write_bag

from dff_ros.bag_job import BagJob, BagOptions
from dff_ros.bag_jobs import answer_in_processes, answer_on_cluster, find_bags, output_paths, with_threads
from dff_ros.commands import bag as command
from dff_ros.config import DffConfig
from dff_ros.errors import BackendUnavailableError, ConfigError


def jobs_of(bags, out):
    options = BagOptions(part_frames=PART_FRAMES)
    return [
        BagJob(b, o, CONFIG, options)
        for b, o in zip(bags, output_paths(bags, out, are_many=True), strict=True)
    ]


def test_recordings_are_found_and_their_outputs_named(tmp_path):
    first = write_bag(tmp_path / 'drives' / 'a', plain_items(1))
    second = write_bag(tmp_path / 'drives' / 'b', plain_items(1), 'sqlite3')
    (tmp_path / 'drives' / 'notes').mkdir()
    assert find_bags([tmp_path / 'drives']) == ([first, second], True)
    assert find_bags([first]) == ([first], False)
    assert find_bags([first / 'a.mcap', second]) == ([first / 'a.mcap', second], True)
    assert output_paths([first, second], tmp_path / 'out', are_many=True) == [
        tmp_path / 'out' / 'a', tmp_path / 'out' / 'b'
    ]  # fmt: skip
    assert output_paths([first], tmp_path / 'out', are_many=False) == [tmp_path / 'out']
    with pytest.raises(ConfigError, match='several recordings are named a'):
        output_paths([first, first / 'a.mcap'], tmp_path / 'out', are_many=True)
    with pytest.raises(ConfigError, match='is inside the input'):
        output_paths([first], first / 'out', are_many=False)
    with pytest.raises(ConfigError, match='notes is no recording'):
        find_bags([tmp_path / 'drives' / 'notes'])
    with pytest.raises(ConfigError, match='nowhere does not exist'):
        find_bags([tmp_path / 'nowhere'])


def test_the_command_ends_with_1_and_a_table_where_one_of_several_failed(tmp_path, monkeypatch, capsys):
    good, bad = (write_bag(tmp_path / name, plain_items(2)) for name in ('good', 'bad'))
    (bad / 'bad.mcap').write_bytes(b'')

    def here(jobs, num_processes, tell):
        assert num_processes == 2 and all(job.config.num_threads >= 1 for job in jobs)
        return answer_in_processes(jobs, num_processes, tell, open_fake)

    monkeypatch.setattr('dff_ros.bag_jobs.answer_in_processes', here)
    from dff_ros import cli

    words = ['bag', str(good), str(bad), '--out', str(tmp_path / 'out'), '--jobs', '2']
    assert cli.main([*words, '--json']) == command.EXIT_SOME_FAILED == 1
    report = json.loads(capsys.readouterr().out)
    assert report['failed'] == 1 and report['bags'][0]['answered'] == 2
    assert 'bad cannot be read' in report['bags'][1]['error']
    monkeypatch.setenv('COLUMNS', '400')
    assert cli.main(words) == 1
    shown = capsys.readouterr().out
    assert 'finished before' in shown and 'bad cannot be read' in shown


def test_threads_are_divided_unless_they_are_given(tmp_path):
    job = BagJob(tmp_path, tmp_path, DffConfig(), BagOptions())
    given = BagJob(tmp_path, tmp_path, DffConfig(num_threads=3), BagOptions())
    assert [one.config.num_threads for one in with_threads([job, given], 2)] == [2, 3]


class FakeRay(types.ModuleType):
    """The part of Ray that is used; a task runs when it is asked for. The machine of `b` is lost."""

    def __init__(self) -> None:
        super().__init__('ray')
        self.calls: list[object] = []
        self.tasks: dict[int, object] = {}

    def init(self, address: str, log_to_driver: bool) -> None:
        self.calls.append(('init', address))
        if address == 'nowhere':
            raise ConnectionError('no such cluster')

    def remote(self, **options: object):
        self.calls.append(('remote', options))
        return lambda function: types.SimpleNamespace(remote=lambda *args: self._submit(function, args))

    def _submit(self, function, args) -> int:
        self.tasks[len(self.tasks)] = (function, args)
        return len(self.tasks) - 1

    def wait(self, references, num_returns: int):
        return references[-1:], references[:-1]

    def get(self, reference: int):
        function, args = self.tasks[reference]
        if args[0].source.name == 'b':
            raise RuntimeError('The worker died')
        return function(*args)

    def shutdown(self) -> None:
        self.calls.append('shutdown')


def test_a_cluster_answers_each_recording_as_a_task_and_a_lost_machine_costs_one(tmp_path, monkeypatch):
    bags = [write_bag(tmp_path / name, plain_items(2)) for name in 'abc']
    (bags[2] / 'c.mcap').write_bytes(b'')
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, 'ray', ray)
    told = []
    outcomes = answer_on_cluster(
        jobs_of(bags, tmp_path / 'out'), 'head:6379', 2, lambda job, what: told.append(what), open_fake
    )
    assert ray.calls == [('init', 'head:6379'), ('remote', {'num_cpus': 2, 'max_retries': 0}), 'shutdown']
    assert outcomes[0].summary['answered'] == 2
    assert outcomes[1].failure == 'RuntimeError: The worker died'
    assert 'c cannot be read' in outcomes[2].failure
    assert told == outcomes[::-1]  # as they became ready
    assert len(read_bag(tmp_path / 'out' / 'a')) == 4 + 4 * 2 + 1
    with pytest.raises(Exception, match='no Ray cluster at nowhere: no such cluster; start one'):
        answer_on_cluster(jobs_of(bags, tmp_path / 'x'), 'nowhere', 1, lambda job, what: None)


def test_a_cluster_without_ray_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(BackendUnavailableError, match='pip install ray'):
        answer_on_cluster([], 'auto', 1, lambda job, what: None)
