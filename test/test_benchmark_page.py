# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""docs/benchmarks.md: what the files of the machines give, goals among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / 'benchmarks'
AGAIN = 'run: python benchmarks/page.py'
LATENCY = {'p50': 10.0, 'p90': 30.0, 'p99': 40.0, 'max': 55.5}
ROW = {
    'machine': 'amd-test-4-cores',
    'cores': 4,
    'backend': 'onnx',
    'precision': 'fp32',
    'size': [480, 360],
    'stages_ms': {
        'extract': 100.0,
        'flow': 8.0,
        'warp': 1.0,
        'correct': None,
        'propagate': 10.0,
        'predict_segmentation': 5.0,
        'predict_detection': None,
    },
    'per_frame_fps': 9.5,
    'dff_fps': 38.0,
    'interval': 10,
    'speedup': 4.0,
    'eq7': 4.3,
    'speedup_over_eq7': 0.93,
    'latency_ms': LATENCY,
    'per_frame_latency_ms': LATENCY,
    'bundle': 'untrained:resnet50+flownet_half',
    'is_untrained': True,
    'feature_net': 'resnet50',
    'flow': 'flownet_half',
    'tasks': ['segmentation'],
    'confidence': True,
    'refresh': 'inline',
    'threads': 4,
    'device': 'cpu',
    'runtime': 'onnxruntime 1',
    'provider': 'cpu',
    'gmac': {'extract': 60.0, 'propagate': 1.25, 'predict': 0.5},
    'joules_per_frame': None,
}
WARP = {
    **{'copy_gb_s': 2000.0, 'fused_gb_s': 1180.0, 'grid_sample_gb_s': None},
    **{'fused_fraction': 0.59, 'grid_sample_fraction': None},
}
HEADER = {'command': 'dff bench --seconds 3', 'version': '0.1.0', 'date': '2026-01-02', 'load_average': 0.1}


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import page

    return page


@pytest.fixture
def told(page):
    """The findings of the goal whose text has these words, for files by name."""
    import bench_rows
    import goals

    def find(words, files):
        results = [bench_rows.Result(name, report) for name, report in files.items()]
        (goal,) = [goal for text, goal in goals.GOALS.items() if words in text]
        return [(one.measured, one.is_met) for one in goal(results)]

    return find


def files_to_page(page, folder, files, notes=None):
    for name, report in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(report))
    if notes is not None:
        (folder / 'm' / 'notes.md').write_text(notes)
    (folder / 'page.md').write_text('<!-- GOALS -->\n\n<!-- NODE -->\n\n<!-- MACHINES -->\n')
    return page.to_markdown(page.read_results(folder), folder)


def test_the_committed_page_is_what_the_files_give(page):
    assert page.PAGE.read_text() == page.to_markdown(page.read_results()), AGAIN


def test_the_committed_pictures_are_of_the_files(page):
    image = pytest.importorskip('PIL.Image')
    import page_plots

    given = {picture.file: picture.digest for picture in page.all_pictures(page.read_results())}
    found = {path.name: image.open(path).text[page_plots.DIGEST] for path in page.PICTURES.glob('*.png')}
    assert found == given, AGAIN


def test_rows_share_a_line_and_differ_in_columns(page, tmp_path):
    half = {**ROW, 'interval': 5, 'speedup': 3.25, 'dff_fps': 30.0}
    files = {'m/resnet50.json': {**HEADER, 'rows': [half, ROW]}}
    text = files_to_page(page, tmp_path, files, 'What was seen.\n')
    assert '## m\n\nWhat was seen.\n\n### resnet50' in text
    assert (
        '`dff bench --seconds 3` ([JSON](../benchmarks/m/resnet50.json)): version 0.1.0, date 2026-01-02, '
        'load before 0.1.'
    ) in text
    assert (
        'untrained:resnet50+flownet_half, 480x360, backend onnx, onnxruntime 1, provider cpu, cpu, fp32, '
        'tasks segmentation, confidence on, refresh inline, 4 threads, 4 cores:'
    ) in text
    assert '| interval | per frame, frames/s | DFF, frames/s | speed-up |' in text
    assert '| 10 | 9.5 | 38.0 | 4.00 | 4.30 | 0.93 | 10.0 | 30.0 | 40.0 | 55.5 | 10.0 | 40.0 |' in text
    assert '| 5 | 9.5 | 30.0 | 3.25 | 4.30 |' in text
    assert '| 100.0 | 8.0 | 1.0 | - | 10.0 | 5.0 | - | 60 | 1.25 | 0.5 |' in text
    assert '![speed-up against the key interval, beside equation (7)](images/benchmarks/m_resnet50' in text
    assert 'J per frame' not in text


def test_one_row_is_a_file_too_and_a_trained_bundle_is_named_as_it_is(page, tmp_path):
    row = {**HEADER, **ROW, 'bundle': 'models/mine', 'joules_per_frame': {'per_frame': 3.0, 'dff': 0.756}}
    text = files_to_page(page, tmp_path, {'m/one.json': row})
    assert 'models/mine (untrained), 480x360' in text
    assert '| 3.00 | 0.76 |' in text
    assert '.png' not in text


def test_minutes_rates_and_evaluations(page, tmp_path):
    minutes = [
        {'minute': place, 'frames': 600, 'ms_per_frame': ms, 'latency_ms': LATENCY, 'memory_mb': 700.0}
        for place, ms in ((1, 20.0), (2, 20.5))
    ]
    rate = {'refresh': 'worker', 'answered': 90, 'frames': 100, 'latency_ms': LATENCY, 'p99_over_p50': 1.25}
    rates = {'bundle': 'road-r18', 'size': [480, 360], 'rate': 30.0, 'key_frames': 'every 10 frames'}
    evaluation = {
        **{'bundle': 'road-r18', 'precision': 'int8', 'data': 'd', 'split': 'val'},
        **{'per_frame_miou': 71.5, 'per_frame_ms': 20.0},
        'rows': [{'method': 'dff', 'interval': 5, 'miou': 71.2, 'ms_per_frame': 10.0}],
    }
    files = {
        'm/minutes.json': {**HEADER, **ROW, 'stages_ms': None, 'minutes': minutes},
        'm/latency.json': {**rates, 'rows': [{**rate, 'age_frames_mean': 8.04}]},
        'm/eval_int8.json': evaluation,
        'n/warp.json': {**HEADER, **ROW, 'warp_bandwidth': WARP},
    }
    del files['m/minutes.json']['stages_ms']
    text = files_to_page(page, tmp_path, files)
    assert '| 2 | 600 | 20.50 | 10.0 | 40.0 | 55.5 | 700.0 |' in text
    assert 'images/benchmarks/m_minutes_minutes.png' in text
    assert 'road-r18, 480x360, 30 Hz, key frames every 10 frames:' in text
    assert '| worker | 90 of 100 | 10.0 | 30.0 | 40.0 | 55.5 | 1.2 | 8.0 |' in text
    assert 'road-r18, int8, d val:' in text
    assert '| dff | 5 | 71.2 | 10.0 |' in text
    assert '## n\n\n### warp' in text
    assert "Warp: 2000.0 GB/s a copy, 1180.0 GB/s in one kernel, - GB/s by torch's operators." in text


def test_goals_of_the_speed_up(told):
    files = {'m/a.json': {'rows': [ROW, {**ROW, 'interval': 5}, {**ROW, 'refresh': 'worker'}]}}
    ((measured, is_met),) = told('ResNet-50', files)
    assert measured.startswith('4.00 times, 0.93 of equation (7): untrained:resnet50+flownet_half, fp32')
    assert is_met is False
    assert told('ResNet-18', files) == []
    fast = {**ROW, 'feature_net': 'resnet18', 'speedup': 3.0}
    assert [met for _, met in told('ResNet-18', {'m/a.json': fast})] == [True]
    assert [met for _, met in told('ResNet-18', {'m/a.json': {**fast, 'speedup_over_eq7': 0.89}})] == [False]


def test_goals_of_the_node(told):
    node = {'bundle': 'road-r18', 'size': [1280, 720], 'encoding': 'rgb8', 'tasks': 'all', 'cores': 4}
    node |= {'refresh': 'inline', 'output_size': 'source'}
    rates = {'30': {'missed': 0, 'sent': 150}}
    report = {'node_overhead_ms': 6.0, 'node': {**node, 'overhead': {'engine_ms': 39.0}, 'rates': rates}}
    assert told('The node', {'m/n.json': report}) == [
        ('6.0 ms beside 39.0 ms in the engine: road-r18, rgb8, tasks all, key frames inline, 4 cores', False)
    ]
    slower = {**report, 'node': {**report['node'], 'overhead': {'engine_ms': 40.0}}}
    assert [met for _, met in told('The node', {'m/n.json': {'rows': [slower]}})] == [True]
    assert told('30 Hz', {'m/n.json': report}) == [
        ('0 of 150 missed: road-r18, rgb8, tasks all, key frames inline, 4 cores', True)
    ]
    smaller = {**report, 'node': {**report['node'], 'output_size': 'network'}}
    assert 'tasks all, label map of network size, key frames' in told('30 Hz', {'m/n.json': smaller})[0][0]
    rates['30']['missed'] = 1
    assert [met for _, met in told('30 Hz', {'m/n.json': report})] == [False]


def test_goal_of_the_precision_needs_the_accuracy_too(told):
    int8 = {
        **ROW,
        'precision': 'int8',
        'runtime': 'another',
        'stages_ms': {**ROW['stages_ms'], 'extract': 55.0},
    }
    files = {'m/p.json': {'rows': [ROW, int8]}}
    words = 'untrained:resnet50+flownet_half, 480x360, int8, backend onnx, provider cpu'
    assert told('best precision', files) == [(f'1.75 times, mIoU not measured: {words}', None)]

    def evaluated(miou, precision, machine='m'):
        report = {'bundle': ROW['bundle'], 'per_frame_miou': miou, 'precision': precision}
        return {f'{machine}/eval_{precision}.json': report}

    files |= evaluated(71.9, 'fp32')
    assert told('best precision', files | evaluated(71.5, 'int8', 'other'))[0][1] is None
    assert told('best precision', files | evaluated(71.65, 'int8')) == [
        (f'1.75 times, mIoU -0.25: {words}', True)
    ]
    assert told('best precision', files | evaluated(71.5, 'int8'))[0][1] is False
    int8['stages_ms']['extract'] = 80.0
    assert told('best precision', files | evaluated(71.9, 'int8'))[0][1] is False
    assert told('best precision', {'m/p.json': {'rows': [ROW]}}) == []


def test_goals_of_a_gpu(told):
    row = {
        **ROW,
        **{'device': 'cuda:0 (NVIDIA X)', 'provider': '', 'backend': 'torch', 'precision': 'fp16'},
        **{'size': [2048, 1024], 'feature_net': 'resnet101', 'bundle': 'untrained:resnet101+flownet_half'},
    }
    worker = {**row, 'refresh': 'worker', 'latency_ms': {**LATENCY, 'p99': 12.5}}
    files = {'g/a.json': {'rows': [row, {**worker, 'warp_bandwidth': WARP}]}, 'c/a.json': ROW}
    words = 'untrained:resnet101+flownet_half, cuda:0 (NVIDIA X), backend torch, refresh'
    assert told('at most 1/6', files) == [(f'0.143: {words} inline', True)]
    assert told('at least 0.80', files) == [(f'0.93 (4.0 times): {words} inline', True)]
    assert told('p99 / p50', files) == [(f'1.25: {words} worker', True)]
    assert told('the warp', files) == [('0.59', False)]


def test_goals_of_time_size_and_switches(told):
    minutes = [{'minute': 1, 'ms_per_frame': 20.0}, {'minute': 10, 'ms_per_frame': 21.0}]
    assert told('Ten minutes', {'m/a.json': {'minutes': minutes}}) == [
        ('20.00 ms in minute 1, 21.00 ms in minute 10', True)
    ]
    minutes[1]['ms_per_frame'] = 21.01
    assert told('Ten minutes', {'m/a.json': {'minutes': minutes}})[0][1] is False
    minutes[1]['minute'] = 9
    assert told('Ten minutes', {'m/a.json': {'minutes': minutes}})[0][1] is None
    large = {**ROW, 'size': [1920, 1080], 'dff_fps': 3.8}
    assert told('grows no faster', {'m/a.json': {'rows': [large, ROW]}}) == [
        ('480x360 to 1920x1080: 12.0 times the pixels, 10.0 times the cost: '
         'untrained:resnet50+flownet_half, fp32, tasks segmentation, key frame every 10', True)
    ]  # fmt: skip
    large['dff_fps'] = 3.1
    assert told('grows no faster', {'m/a.json': {'rows': [large, ROW]}})[0][1] is False
    large |= {'size': [1280, 720]}
    assert told('grows no faster', {'m/a.json': {'rows': [large, ROW]}})[0][1] is None
    assert told('grows no faster', {'m/a.json': ROW}) == []
    switches = [
        {'name': name, 'answer_ms': ms}
        for name, ms in (
            ('segmentation alone', 20.0),
            ('+ confidence', 21.5),
            ('+ overlay', 24.0),
            ('off', 9),
        )
    ]
    assert told('Confidence', {'m/s.json': {'switches': switches}}) == [
        ('+ confidence 1.5 ms, + overlay 2.5 ms', True)
    ]
    switches[1]['answer_ms'] = 19.0
    assert told('Confidence', {'m/s.json': {'switches': switches}})[0][1] is False


def test_a_picture_carries_what_it_shows(page):
    pytest.importorskip('matplotlib')
    image = pytest.importorskip('PIL.Image')
    import io

    import bench_rows
    import page_plots

    def drawn(factor):
        sizes = [{**ROW, 'size': [480 * each, 360], 'dff_fps': factor / each} for each in (1, 2)]
        faster = [{**row, 'interval': 20} for row in sizes]
        return page_plots.pictures(bench_rows.Result('m/s.json', {'rows': [*sizes, *faster]}))

    first = drawn(38.0)
    assert [picture.file for picture in first] == ['m_s_intervals.png', 'm_s_sizes.png']
    assert first[1].data[0] == ['key frame every 10', [[0.1728, 26.316, 105.263], [0.3456, 52.632, 105.263]]]
    text = image.open(io.BytesIO(first[1].png())).text
    assert text[page_plots.DIGEST] == first[1].digest != drawn(37.0)[1].digest
    assert [picture.digest for picture in drawn(38.0)] == [picture.digest for picture in first]
