# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff bench` on backends that take made times: stages, turns, ratios and equation (7) worked out by hand."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from fake_backend import FakeBackend

from dff_ros import cli, opening
from dff_ros.benchmark import machine, models, rates, runs
from dff_ros.benchmark.conversions import COMMON, conversions_ms
from dff_ros.benchmark.stages import Bench, Turns, stage_cost, stage_medians
from dff_ros.config import KeyframeConfig
from dff_ros.engine import Engine
from dff_ros.errors import ConfigError
from dff_ros.evaluation.speed import StageCost
from dff_ros.tasks import TaskPlan
from dff_ros.types import Propagation

IMAGES = [np.full((32, 48, 3), number, np.uint8) for number in range(4)]
KEYFRAME = KeyframeConfig(interval=5, max_age_s=3600, max_gap_s=60)
EXTRACT_S, PROPAGATE_S, PREDICT_S = 0.1, 0.01, 0.005


class Clock:
    """Moves when a backend computes, and not else."""

    def __init__(self, monkeypatch) -> None:
        self.time_s = 50.0
        monkeypatch.setattr(time, 'perf_counter', lambda: self.time_s)
        monkeypatch.setattr(time, 'monotonic', lambda: self.time_s)


class TimedBackend(FakeBackend):
    """Each verb takes its time; a third of a propagation is flow, a fifth correction."""

    clock: Clock

    def extract(self, image_HW3):
        self.clock.time_s += EXTRACT_S
        return super().extract(image_HW3)

    def propagate(self, image_HW3, key):
        self.clock.time_s += PROPAGATE_S
        ones = np.ones((2, 3), np.float32)
        return Propagation(key.feature, ones, 4.0, 0.5, flow_ms=3.0, warp_ms=0.25, correct_ms=2.0)

    def predict(self, feature, source_size, output_size):
        self.clock.time_s += PREDICT_S
        return super().predict(feature, source_size, output_size)

    def warm_up(self, size):
        self.calls.append('warm_up')


@pytest.fixture
def backend(monkeypatch):
    made = TimedBackend()
    made.clock = Clock(monkeypatch)
    return made


def make_bench(backend, intervals=(5,), warper=None, energy=()):
    engine = Engine(backend, KEYFRAME)
    return Bench(engine, backend, TaskPlan(), KEYFRAME, intervals, IMAGES, warper, energy)


def test_turns_time_stages_per_frame_inference_and_each_interval(backend):
    bench = make_bench(backend, (2, 5))
    bench.turn()
    bench.turn()
    assert len(bench.per_frame.frames_ms) == 4
    assert bench.per_frame.ms == pytest.approx(105.0)
    assert bench.per_frame.fps == pytest.approx(1e3 / 105)
    assert [len(bench.dff[interval].frames_ms) for interval in (2, 5)] == [4, 10]
    assert bench.dff[2].ms == pytest.approx((105 + 15) / 2)
    assert bench.dff[5].ms == pytest.approx((105 + 4 * 15) / 5)
    assert bench.dff[5].latency_ms() == {'p50': 15.0, 'p90': 105.0, 'p99': 105.0, 'max': 105.0}
    assert list(bench.propagated_ms) == pytest.approx([15.0] * 10)
    stages = stage_medians(bench.stages_ms)
    assert stages == {
        'extract': 100.0,
        'flow': 3.0,
        'warp': 0.25,
        'correct': 2.0,
        'propagate': 10.0,
        'predict_segmentation': 5.0,
        'predict_detection': None,
    }
    # Equation (7) with r = (10 + 5) / (100 + 5): what was measured, as nothing is computed besides.
    assert stage_cost(stages).speedup(5) == pytest.approx(5 / (1 + 4 / 7))
    assert bench.per_frame.ms / bench.dff[5].ms == pytest.approx(5 / (1 + 4 / 7))


def test_the_warp_alone_is_taken_off_the_graph_it_is_in(backend):
    bench = make_bench(backend, warper=backend)
    bench.turn()
    stages = stage_medians(bench.stages_ms)
    assert (stages['flow'], stages['warp']) == (2.75, 0.25)


def test_joules_are_those_of_each_ones_own_frames(backend):
    bench = make_bench(backend, energy=[lambda: 20 * backend.clock.time_s])
    bench.turn()
    assert bench.per_frame.joules == pytest.approx(20 * 2 * 0.105)
    assert bench.dff[5].joules == pytest.approx(20 * (0.105 + 4 * 0.015))


def test_warming_up_does_not_count(backend):
    bench = make_bench(backend)
    bench.warm_up()
    assert backend.calls[0] == 'warm_up'
    assert (bench.dff, bench.per_frame, len(bench.stages_ms)) == ({}, Turns(), 0)


def test_a_key_frame_out_of_turn_is_an_error_with_its_reason(backend):
    bench = make_bench(backend)
    bench.keyframe = KeyframeConfig(interval=5, max_age_s=0.05)
    with pytest.raises(ConfigError, match=r'frame 2 of a key interval is a key frame \(max_age\)'):
        bench.turn()


@pytest.fixture
def fake(backend, monkeypatch):
    """The command on fake backends and a made clock."""
    opened = []

    def open_backend(bundle, config, *, is_background=False):
        opened.append((config.backend, config.precision, config.flow))
        return backend

    monkeypatch.setattr(opening, 'open_backend', open_backend)
    monkeypatch.setattr(runs, 'open_backend', open_backend)
    monkeypatch.setattr(runs, 'count_gmac', lambda *_: StageCost(4.0, 0.5, 0.25))
    monkeypatch.setattr(rates, '_NUM_IMAGES', 3)
    return opened


def run_json(capsys, *flags):
    assert cli.main(['bench', '--json', '--tasks', 'segmentation', '--seconds', '1', *flags]) == 0
    return json.loads(capsys.readouterr().out)


KEYS = ('machine', 'cores', 'backend', 'precision', 'size', 'stages_ms', 'per_frame_fps', 'dff_fps',
        'interval', 'speedup', 'eq7', 'speedup_over_eq7', 'latency_ms')  # fmt: skip


def test_json_of_one_configuration_is_one_object(fake, capsys, tmp_path):
    out = tmp_path / 'made' / 'bench.json'
    report = run_json(capsys, '--size', '48x32', '--interval', '10', '--out', str(out))
    assert set(KEYS) <= set(report)
    assert (report['size'], report['interval'], report['backend']) == ([48, 32], 10, 'fake')
    assert report['speedup'] == pytest.approx(10 * 105 / (105 + 9 * 15), abs=1e-3)
    assert report['eq7'] == report['speedup']
    assert report['speedup_over_eq7'] == 1.0
    assert report['latency_ms']['p50'] == 15.0
    assert report['per_frame_fps'] == pytest.approx(1e3 / 105, abs=0.01)
    assert report['engine_overhead_ms'] == 0.0
    assert report['gmac'] == {'extract': 4.0, 'propagate': 0.5, 'predict': 0.25}
    assert report['command'].startswith('dff ')
    assert not report['is_untrained']
    assert json.loads(out.read_text()) == report


def test_several_configurations_are_rows(fake, capsys):
    flags = ['--sizes', '48x32,64x48', '--intervals', '2,5', '--backends', 'onnx,torch']
    report = run_json(capsys, *flags)
    found = [(row['size'], row['interval']) for row in report['rows']]
    each = [([48, 32], 2), ([48, 32], 5)] * 2 + [([64, 48], 2), ([64, 48], 5)] * 2
    assert found == each
    assert {backend for backend, _, _ in fake} == {'onnx', 'torch'}
    assert 'rows' not in report['rows'][0]


def test_minutes_tell_whether_the_cost_grows(fake, capsys, backend):
    report = run_json(capsys, '--size', '48x32', '--interval', '5', '--minutes', '2')
    assert [row['minute'] for row in report['minutes']] == [1, 2]
    assert [row['ms_per_frame'] for row in report['minutes']] == [33.0, 33.0]
    assert report['last_over_first'] == 1.0


def test_people_get_a_table(fake, capsys):
    assert cli.main(['bench', '--tasks', 'segmentation', '--seconds', '1', '--interval', '10']) == 0
    out = capsys.readouterr().out
    assert 'road-r18, 480x360, segmentation' in out
    assert '4.38 times; equation (7) says 4.375' in out.replace('4.375 times', '4.38 times')


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--keyframe.scheduler', 'motion'], "keyframe.scheduler: got 'motion'"),
        (['--minutes', '1', '--intervals', '2,5'], '--minutes takes one size, interval'),
        (['--bundle', 'untrained:vgg'], 'untrained:FEATURE_NET+FLOW_NET'),
        (['--rate', '30', '--sizes', '48x32,64x48'], '--rate takes one of --sizes'),
        (['--rate', '30', '--intervals', '2,5'], '--rate takes one interval'),
        (['--node', '--minutes', '1'], '--minutes and --node are measurements of their own'),
    ],
)
def test_settings_that_do_not_go_together_say_so(flags, message, fake, capsys):
    assert (
        cli.main(['bench', '--size', '48x32', *flags] if '--sizes' not in flags else ['bench', *flags]) == 2
    )
    assert message in capsys.readouterr().err


def test_conversions_are_of_encodings_that_the_size_can_have():
    assert set(conversions_ms((32, 48), 1)) == set(COMMON)
    assert set(conversions_ms((33, 47), 1)) == set(COMMON) - {'yuv422_yuy2'}
    assert all(ms > 0 for ms in conversions_ms((32, 48), 3).values())


def test_a_file_that_cannot_be_written_is_told_before_the_work(fake, capsys, tmp_path):
    (tmp_path / 'file').touch()
    assert cli.main(['bench', '--out', str(tmp_path / 'file' / 'bench.json')]) == 2
    assert '--out: cannot write' in capsys.readouterr().err
    assert fake == []  # nothing was opened


# Machine and models


@pytest.mark.parametrize(
    ('device', 'name'),
    [('cuda (NVIDIA H100 80GB HBM3)', 'nvidia-h100-80gb-hbm3'), ('cpu', 'made-cpu-3-cores')],
)
def test_a_machine_is_named_by_what_computes(device, name, tmp_path, monkeypatch):
    facts = tmp_path / 'cpuinfo'
    facts.write_text('processor : 0\nmodel name\t: Made(R) CPU @ 2.00GHz\n')
    monkeypatch.setattr(machine, '_CPU_INFO', facts)
    monkeypatch.setattr(machine, '_cpu_model', lambda: 'Made CPU')
    monkeypatch.setattr(machine, 'available_cores', lambda: 3)
    assert machine.machine_name(device) == name


def test_energy_counters_go_on_where_the_hardware_starts_again(tmp_path, monkeypatch):
    folder = tmp_path / 'intel-rapl:0'
    folder.mkdir()
    (tmp_path / 'intel-rapl:0:0').mkdir()  # a part of the package, which would count twice
    (folder / 'max_energy_range_uj').write_text('1000000')
    (folder / 'energy_uj').write_text('900000')
    monkeypatch.setattr(machine, '_POWERCAP', tmp_path)
    (joules,) = machine.energy_counters()
    assert joules() == pytest.approx(0.9)
    (folder / 'energy_uj').write_text('100000')
    assert joules() == pytest.approx(1.1)


def test_models_of_the_paper_have_its_channels():
    spec = models.spec_of('untrained:resnet101+flownet_half', (1024, 2048))
    assert (spec.feature_net, spec.flow_source, spec.channels) == ('resnet101', 'flownet_half', 1024)
    assert (spec.nominal_size, spec.light_channels) == ((1024, 2048), 0)
    own = models.spec_of('untrained:resnet50+correlation', (360, 480))
    assert (own.light_channels, own.correction_channels, own.detail) == (64, 80, True)


def test_an_untrained_bundle_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    written = []

    def write(spec, folder, name):
        written.append(spec)
        (folder / 'manifest.json').write_text('{}')

    monkeypatch.setattr(models, '_write', write)
    told: list[str] = []
    paths = [models.untrained_bundle('untrained:resnet50', (360, 480), told.append) for _ in range(2)]
    assert paths[0] == paths[1]
    assert paths[0].parent == tmp_path / 'dff_ros' / 'bench'
    assert len(written) == 1
    assert told == ['writing untrained:resnet50 for 480x360 (once)']
    other = models.untrained_bundle('untrained:resnet50', (720, 1280), told.append)
    assert other != paths[0]
