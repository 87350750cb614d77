# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the measured figures were to reach, and whether they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench_rows import Result, Row, fact, groups, label
from node_tables import number, table
from scaling import Scaling, pixels

SMALL, HD, FULL_HD, PAPER = [480, 360], [1280, 720], [1920, 1080], [2048, 1024]
"""(width, height)."""

MIN_SPEEDUP = {'resnet50': 5.0, 'resnet18': 3.0}
MIN_OF_EQ7 = 0.9
MAX_OVERHEAD_MS, MAX_OVERHEAD_SHARE = 5.0, 0.15
MIN_PRECISION_GAIN, MAX_MIOU_LOSS = 1.5, 0.3
MAX_GPU_RATIO, MIN_GPU_OF_EQ7, MIN_BANDWIDTH, MAX_JITTER = 1 / 6, 0.8, 0.6, 1.3
MIN_MINUTES = 10
MAX_DRIFT = 1.05
"""Last minute over first: what still counts as flat."""

_CHANGING = ('precision', 'backend', 'provider')


@dataclass(frozen=True, slots=True)
class Finding:
    """What a file says about a goal; `is_met` is None where it says only a part of it."""

    measured: str
    is_met: bool | None
    name: str


def goal_table(results: Sequence[Result]) -> str:
    """Every goal with what was found, and where."""
    rows = []
    for text, find in GOALS.items():
        findings = list(find(results))
        rows += [
            [text if place == 0 else '', one.measured, _verdict(one.is_met), _link(one.name)]
            for place, one in enumerate(findings)
        ]
        if not findings:
            rows.append([text, 'not measured yet', '-', ''])
    return table(['goal', 'measured', 'met', 'file'], rows)


def _verdict(is_met: bool | None) -> str:
    return '-' if is_met is None else 'yes' if is_met else 'no'


def _link(name: str) -> str:
    return f'[{name}](../benchmarks/{name})'


def _speedup(feature_net: str) -> Callable[[Sequence[Result]], Iterator[Finding]]:
    """DFF against per-frame inference on the CPU, at 480x360, every 10th frame a key frame, segmentation."""

    def find(results: Sequence[Result]) -> Iterator[Finding]:
        for result, row in _rows(results):
            case = row.get('feature_net'), row.get('tasks'), row['size'], row['interval']
            if case != (feature_net, ['segmentation'], SMALL, 10) or not _is_cpu(row) or _is_worker(row):
                continue
            is_met = row['speedup'] >= MIN_SPEEDUP[feature_net] and row['speedup_over_eq7'] >= MIN_OF_EQ7
            measured = (
                f'{row["speedup"]:.2f} times, {row["speedup_over_eq7"]:.2f} of equation (7): '
                f'{label(row, ("bundle", *_CHANGING, "confidence", "cores"))}'
            )
            yield Finding(measured, is_met, result.name)

    return find


def _node_overhead(results: Sequence[Result]) -> Iterator[Finding]:
    for result, report in _nodes(results, HD):
        node = report['node']
        engine_ms, overhead_ms = node['overhead']['engine_ms'], report['node_overhead_ms']
        if engine_ms is None or overhead_ms is None:
            continue
        most_ms = max(MAX_OVERHEAD_MS, MAX_OVERHEAD_SHARE * engine_ms)
        measured = f'{overhead_ms:.1f} ms beside {engine_ms:.1f} ms in the engine: {_node_label(node)}'
        yield Finding(measured, overhead_ms <= most_ms, result.name)


def _camera_rate(results: Sequence[Result]) -> Iterator[Finding]:
    for result, report in _nodes(results, HD):
        node = report['node']
        rate = node['rates'].get('30')
        if node['cores'] == 4 and node['bundle'] == 'road-r18' and rate is not None:
            measured = f'{rate["missed"]} of {rate["sent"]} missed: {_node_label(node)}'
            yield Finding(measured, rate['missed'] == 0, result.name)


def _precision(results: Sequence[Result]) -> Iterator[Finding]:
    """The fastest key frame of each configuration that was measured in fp32 and another precision."""
    for result in results:
        rows = [row for row in result.rows if _is_cpu(row)]
        for found in groups(rows, (*_CHANGING, 'runtime', 'interval')).values():
            plain = [row for row in found if row['precision'] == 'fp32']
            best = min(found, key=_key_ms)
            if not plain or len(plain) == len(found):
                continue
            gain = min(map(_key_ms, plain)) / _key_ms(best)
            loss = miou_loss(results, result.machine, best)
            told = 'mIoU not measured' if loss is None else f'mIoU {-loss:+.2f}'
            names = ('bundle', 'size', *_CHANGING)
            is_met = gain >= MIN_PRECISION_GAIN and (None if loss is None else loss <= MAX_MIOU_LOSS)
            yield Finding(f'{gain:.2f} times, {told}: {label(best, names)}', is_met, result.name)


def miou_loss(results: Sequence[Result], machine: str, row: Row) -> float | None:
    """What a precision costs per frame, by the evaluations on a machine; None where one is missing."""
    miou: dict[str, float] = {}
    for result in results:
        report = result.report
        is_of_it = result.machine == machine and report.get('bundle') == row['bundle']
        if is_of_it and report.get('per_frame_miou') is not None:
            miou[str(report.get('precision', 'fp32'))] = report['per_frame_miou']
    here = miou.get(str(row['precision']))
    return None if here is None or 'fp32' not in miou else miou['fp32'] - here


def _gpu_ratio(results: Sequence[Result]) -> Iterator[Finding]:
    for result, row in _gpu_rows(results):
        if row['interval'] != 10 or _is_worker(row):
            continue
        stages = row['stages_ms']
        predict = (stages['predict_segmentation'] or 0.0) + (stages['predict_detection'] or 0.0)
        ratio = (stages['propagate'] + predict) / (stages['extract'] + predict)
        measured = f'{ratio:.3f}: {_gpu_label(row)}'
        yield Finding(measured, ratio <= MAX_GPU_RATIO, result.name)


def _gpu_speedup(results: Sequence[Result]) -> Iterator[Finding]:
    for result, row in _gpu_rows(results):
        if row['interval'] == 10 and not _is_worker(row):
            measured = f'{row["speedup_over_eq7"]:.2f} ({row["speedup"]:.1f} times): {_gpu_label(row)}'
            yield Finding(measured, row['speedup_over_eq7'] >= MIN_GPU_OF_EQ7, result.name)


def _gpu_jitter(results: Sequence[Result]) -> Iterator[Finding]:
    for result, row in _gpu_rows(results):
        latency = row['latency_ms']
        if _is_worker(row) and latency['p50'] and latency['p99']:
            jitter = latency['p99'] / latency['p50']
            yield Finding(f'{jitter:.2f}: {_gpu_label(row)}', jitter <= MAX_JITTER, result.name)


def _warp(results: Sequence[Result]) -> Iterator[Finding]:
    """Once for each file, for it is measured apart from what the rows are about."""
    for result in results:
        warps = [row['warp_bandwidth'] for row in result.rows if row.get('warp_bandwidth')]
        if warps:
            share = max(warp_share(warp) for warp in warps)
            yield Finding(f'{share:.2f}', share >= MIN_BANDWIDTH, result.name)


def warp_share(warp: Mapping[str, float | None]) -> float:
    """Bandwidth of the faster warp over that of a copy."""
    return max(warp['fused_fraction'] or 0.0, warp['grid_sample_fraction'] or 0.0)


def _flat(results: Sequence[Result]) -> Iterator[Finding]:
    for result in results:
        if len(result.minutes) > 1:
            first, last = result.minutes[0], result.minutes[-1]
            is_flat = last['ms_per_frame'] <= MAX_DRIFT * first['ms_per_frame']
            told = [f'{one["ms_per_frame"]:.2f} ms in minute {one["minute"]}' for one in (first, last)]
            yield Finding(', '.join(told), is_flat if last['minute'] >= MIN_MINUTES else None, result.name)


def _scaling(results: Sequence[Result]) -> Iterator[Finding]:
    for result in results:
        for rows in groups(result.rows, ['size']).values():
            scale = Scaling.of(rows)
            if scale is None:
                continue
            sizes = [row['size'] for row in sorted(rows, key=pixels)]
            is_met = scale.cost <= scale.pixels if (sizes[0], sizes[-1]) == (SMALL, FULL_HD) else None
            names = ('bundle', 'precision', 'tasks', 'interval')
            yield Finding(f'{scale.text}: {label(rows[0], names)}', is_met, result.name)


def _switches(results: Sequence[Result]) -> Iterator[Finding]:
    """Each state of the node has one thing more than the one before."""
    for result in results:
        rows = result.report.get('switches', [])
        added = [
            (row['name'], row['answer_ms'] - before['answer_ms'])
            for before, row in pairwise(rows)
            if row['name'].startswith('+')
        ]
        if added:
            told = ', '.join(f'{name} {number(ms)} ms' for name, ms in added)
            yield Finding(told, all(ms > 0 for _, ms in added), result.name)


def _rows(results: Sequence[Result]) -> Iterator[tuple[Result, Row]]:
    return ((result, row) for result in results for row in result.rows)


def _nodes(results: Sequence[Result], size: Sequence[int]) -> Iterator[tuple[Result, Row]]:
    """Reports of the node at a size, as shipped but for what they tell."""
    return (
        (result, report) for result in results for report in result.nodes if report['node']['size'] == size
    )


def _gpu_rows(results: Sequence[Result]) -> Iterator[tuple[Result, Row]]:
    """ResNet-101 and FlowNet Half at 1024x2048 in half precision, on a device other than the CPU."""
    for result, row in _rows(results):
        nets = row.get('feature_net'), row.get('flow'), row['precision']
        if nets == ('resnet101', 'flownet_half', 'fp16') and row['size'] == PAPER and not _is_cpu(row):
            yield result, row


def _is_cpu(row: Row) -> bool:
    return row.get('device', 'cpu') == 'cpu'


def _is_worker(row: Row) -> bool:
    return row.get('refresh') == 'worker'


def _key_ms(row: Row) -> float:
    stages = row['stages_ms']
    return sum(stages[name] or 0.0 for name in ('extract', 'predict_segmentation', 'predict_detection'))


def _gpu_label(row: Row) -> str:
    return label(row, ('bundle', 'device', 'backend', 'provider', 'refresh'))


def _node_label(node: Row) -> str:
    labels = (
        '' if node.get('output_size', 'source') == 'source' else f', label map of {node["output_size"]} size'
    )
    return (
        f'{node["bundle"]}, {node["encoding"]}, tasks {node["tasks"]}{labels}, key frames {node["refresh"]}, '
        f'{fact(node, "cores")} cores'
    )


GOALS: Mapping[str, Callable[[Sequence[Result]], Iterator[Finding]]] = {
    'CPU, ResNet-50, 480x360, every 10th a key frame, segmentation: at least 5 times per-frame inference, '
    'and 0.90 of equation (7)': _speedup('resnet50'),
    'The same with ResNet-18: at least 3 times, and 0.90 of equation (7)': _speedup('resnet18'),
    'The node at 1280x720 adds at most 5 ms to a propagated frame, or 15 % of the engine if that is more': (
        _node_overhead
    ),
    '`road-r18`, 1280x720 at 30 Hz on 4 cores: no image missed': _camera_rate,
    'CPU, best precision: key frame at least 1.5 times as fast as fp32, at most 0.3 mIoU lost': _precision,
    'GPU, ResNet-101, FlowNet Half, 1024x2048, fp16: propagate + predict at most 1/6 of extract + predict': (
        _gpu_ratio
    ),
    'The same, every 10th a key frame: at least 0.80 of equation (7)': _gpu_speedup,
    'GPU: the warp at least 0.60 of the bandwidth of a copy': _warp,
    'GPU, the same network, key frames by the worker: p99 / p50 at most 1.3': _gpu_jitter,
    'Ten minutes without a break: a frame of the last costs what one of the first does (to 5 %)': _flat,
    'From 480x360 to 1920x1080 the cost of a frame grows no faster than its pixels': _scaling,
    'Confidence, detection and overlay each cost time when on, and none when off': _switches,
}
"""As table rows, in this order."""
