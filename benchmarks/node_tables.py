# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The node and its peers as Markdown tables and a plot, made from the JSON of their benchmarks.

    python benchmarks/node_tables.py --node M/node.json --switches M/switches.json --peers M/peers.json \\
        --plot docs/images/peers.png
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Report = Mapping[str, Any]


METHOD = """\
The node runs as a process of its own, with its settings as shipped but those named; images of the simulated
street are made and serialized before, and played from another process over DDS (shared memory profile),
which also receives the answers. Latency runs from when an image was due to the receipt of the last answer.
The method is that of ros2_benchmark: a rate is held where at most 5 % of its images are missed; the peak is
the highest such rate, found by halving the range between one that is held and one that is not, to 3 %, and
held once more at the end. Then latencies at 10, 30 and 60 Hz, missed images (superseded by a newer one,
skipped, lost) among them. The overhead is what a propagated frame takes beyond the engine's own time
(`total_ms` of `dff/status`): images sent one at a time, from right before publishing to the receipt of the
last answer, median.
"""
"""How the node is measured, for the page."""


def section(node: Report | None = None, switches: Report | None = None, peers: Report | None = None) -> str:
    """The tables of what there is."""
    parts = [
        make(report)
        for make, report in ((node_part, node), (switch_part, switches), (peer_part, peers))
        if report
    ]
    return '\n\n'.join(parts) + '\n'


def node_part(report: Report) -> str:
    """`dff bench --node` or `python -m dff_ros.ros.bench`: peak, overhead, and latency at fixed rates."""
    node = report['node']
    overhead = node['overhead']
    rows = [
        [
            f'{rate} Hz',
            f'{row["missed"]} of {row["sent"]}',
            *(number(row['latency_ms'][name]) for name in ('p50', 'p90', 'p99', 'max')),
            number(row['cpu_ms_per_image']),
        ]
        for rate, row in node['rates'].items()
    ]
    header = ['rate', 'missed', 'p50, ms', 'p90', 'p99', 'longest', 'processor time per image, ms']
    return '\n\n'.join(
        [
            _setup(node),
            f'Peak rate with at most 5 % missed: {number(report["peak_fps"])} frames/s. Overhead of a '
            f'propagated frame: {number(report["node_overhead_ms"])} ms (median of {overhead["frames"]}) '
            f'beside {number(overhead["engine_ms"])} ms in the engine; conversion '
            f'{number(overhead["convert_ms"])}, waiting and publishing {number(overhead["inside_ms"])}, '
            f'transport both ways {number(overhead["transport_ms"])}. Without images the node takes '
            f'{node["idle_cpu_percent"]} % of a core; it was ready {node["start_s"]} s after its start.',
            table(header, rows),
            *_steady(node),
        ]
    )


def _steady(node: Report) -> list[str]:
    """Whether an image costs in the last tenth of a long run what it did in the first."""
    parts = node.get('steady', [])
    if not parts:
        return []
    rows = [
        [
            str(tenth),
            *(number(part['latency_ms'][name]) for name in ('p50', 'p99')),
            number(part['overhead']['engine_ms']),
            number(part['cpu_ms_per_image']),
            number(part['rss_mb']),
        ]
        for tenth, part in enumerate(parts, 1)
    ]
    header = ['tenth', 'p50, ms', 'p99', 'engine', 'processor time per image', 'memory, MB']
    return ['At 30 Hz without a break:', table(header, rows)]


def switch_part(report: Report) -> str:
    """`python -m dff_ros.ros.bench --switches`: what each task, confidence and overlay cost."""
    rows = [
        [
            row['name'],
            *(number(row[name]) for name in ('answer_ms', 'engine_ms', 'segmentation_ms', 'detection_ms')),
            number(row['cpu_ms_per_image']),
        ]
        for row in report['switches']
    ]
    header = ['on', 'message to answers, ms', 'engine', 'segmentation', 'detection', 'processor time']
    return f'{_setup(report["node"])}\n\n{table(header, rows)}'


def peer_part(report: Report) -> str:
    """`benchmarks/peers/run.py`: the plain ways beside the node and the engine."""
    rows = [
        [
            row['name'],
            number(row['fps']),
            *(number(row['latency_ms'][name]) for name in ('p50', 'p90', 'p99', 'max')),
            number(row['cpu_ms_per_image']),
        ]
        for row in report['rows']
    ]
    header = ['', 'frames/s', 'p50, ms', 'p90', 'p99', 'longest', 'processor time per image, ms']
    return '\n\n'.join(
        [
            _setup(report),
            table(header, rows),
            f'The node answers {report["dff_node_over_plain_node"]} times as many frames as the plain node, '
            f'the engine {report["dff_engine_over_plain_onnx"]} times as many as ONNX Runtime alone. '
            f'Receiving, converting and publishing add {report["dff_node_adds_ms"]} ms to a frame in the '
            f'node and {report["plain_node_adds_ms"]} ms in the plain one.',
        ]
    )


def plot(peers: Report, path: Path) -> None:
    """Frames per second, and the latency of a frame, of each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.4), layout='constrained')
    FigureCanvasAgg(figure)
    draw_peers(figure, [[row['name'], row['fps'], row['latency_ms']] for row in peers['rows']])
    figure.savefig(path, dpi=110)


def draw_peers(figure: Figure, rows: Sequence[Any]) -> None:
    """Of each its name, frames per second, and latency in ms."""
    names, rates, latencies = zip(*reversed(rows), strict=True)
    colours = ['tab:blue' if name.startswith('dff') else '0.6' for name in names]
    left, right = figure.subplots(1, 2, sharey=True)
    left.bar_label(left.barh(names, rates, color=colours), fmt='%.1f', padding=2)
    left.set(xlabel='frames/s')
    left.margins(x=0.15)
    for place, (latency, colour) in enumerate(zip(latencies, colours, strict=True)):
        right.plot([latency['p50'], latency['p99']], [place, place], color=colour, lw=3)
        right.plot(latency['p50'], place, 'o', color=colour)
        right.plot(latency['max'], place, '|', color=colour)
    right.set(xlabel='latency, ms: p50 to p99, longest', xlim=(0, None))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, write the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    for name in ('node', 'switches', 'peers'):
        parser.add_argument(f'--{name}', type=Path, help='JSON file')
    parser.add_argument('--plot', type=Path, help='picture of the peers to write')
    args = parser.parse_args(argv)
    found = {name: _read(getattr(args, name)) for name in ('node', 'switches', 'peers')}
    if args.plot is not None:
        if found['peers'] is None:
            parser.error('--plot shows the peers: give --peers')
        plot(found['peers'], args.plot)
    print(section(**found), end='')
    return 0


def _setup(report: Report) -> str:
    """What was measured."""
    width, height = report['size']
    key_frames = f'key frame every {report["interval"]}' if report['interval'] else report['scheduler']
    tasks = f', tasks {report["tasks"]}' if 'tasks' in report else ''
    return (
        f'{report["bundle"]}, {width}x{height} {report["encoding"]}, {key_frames} ({report["refresh"]})'
        f'{tasks}, {report["num_threads"]} threads on {report["cores"]} cores:'
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in lines)


def number(value: float | None) -> str:
    """With one digit, a dash for None."""
    return '-' if value is None else f'{value:.1f}'


def _read(path: Path | None) -> Report | None:
    return None if path is None else json.loads(path.read_text(encoding='utf-8'))


if __name__ == '__main__':
    sys.exit(main())
