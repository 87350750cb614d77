# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the correction branch is worth at each cost, with learned, DIS and copied (zero) flow.

    python benchmarks/correction_cost.py --start road-r18 --runs out/correction --data camvid:PATH \
        --out benchmarks/correction_cost.json --plot docs/images/correction_cost.png -- \
        --data.labelled camvid:PATH --steps 400 ...

Takes a jointly trained model without its correction branch and trains a new one for each flow and width with
everything of the per-frame network fixed (`--ablation fix_n`) and the same budget. Everything after `--` goes
to `dff train dff` as it is. Finished runs are kept, so the command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arguments import command, split_arguments

from dff_ros.data.layouts import open_videos
from dff_ros.data.video_set import LabelledFrames
from dff_ros.evaluation.offsets import rounded, rounded_all
from dff_ros.model_spec import HAND_MADE_FLOWS
from dff_ros.nets.complexity import part_gmac
from dff_ros.nets.dff import load_model, read_spec
from dff_ros.training.checkpoint import MODEL_FILE, WEIGHTS_FILE, save_model
from dff_ros.training.dff_evaluation import propagation_scores
from dff_ros.training.evaluation import evaluate
from dff_ros.training.start import read_start

FLOWS = {'correlation': 'learned', 'dis': 'DIS', 'zero': 'none (copied)'}
INTERVALS = (5, 10, 20, 30)
KEY_EVERY = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, measure all, write JSON and plot."""
    arguments = sys.argv[1:] if argv is None else argv
    own, rest = split_arguments(arguments)
    args = _parser().parse_args(own)
    start = args.runs / 'start'
    if not (start / WEIGHTS_FILE).is_file():
        _without_correction(args.start, start)
    rows = []
    for flow in FLOWS:
        widths = args.hand_made_widths if flow in HAND_MADE_FLOWS else args.widths
        for width in map(int, widths.split(',')):
            rows.append(_row(args, start, flow, width, rest))
            print(json.dumps(rows[-1]), flush=True)
    report = {'command': command(Path(__file__).name, arguments), 'key_every': KEY_EVERY, 'rows': rows}
    args.out.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    _plot(rows, args.plot)
    print(f'wrote {args.out} and {args.plot}')
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--start', required=True, help='run or bundle of a jointly trained model')
    parser.add_argument('--runs', type=Path, required=True, help='folder of the runs')
    parser.add_argument('--data', required=True, help='labelled video to measure on, split val')
    parser.add_argument('--widths', default='80,144,208,256', help='widths of the branch, learned flow')
    parser.add_argument('--hand_made_widths', default='144', help='widths with DIS and zero flow')
    parser.add_argument('--out', type=Path, required=True, help='JSON of the figures')
    parser.add_argument('--plot', type=Path, required=True, help='PNG of loss against cost')
    return parser


def _without_correction(name: str, directory: Path) -> None:
    """A run like the start, whose correction branch is gone."""
    start = read_start(name)
    spec = dataclasses.replace(start.spec, correction_channels=0)
    weights = {key: value.float() for key, value in start.weights.items() if 'correction.' not in key}
    directory.mkdir(parents=True, exist_ok=True)
    save_model(directory, weights, {**spec.to_dict(), 'training': {}})


def _row(args: argparse.Namespace, start: Path, flow: str, width: int, rest: list[str]) -> dict[str, Any]:
    run = args.runs / f'{flow}-{width}'
    figures = run / 'offsets.json'
    if not (run / MODEL_FILE).is_file():
        resume = ['--resume'] if (run / 'checkpoint.pt').is_file() else []
        settings = ['--flow_net', flow, '--correction_channels', str(width), '--ablation', 'fix_n']
        words = [sys.executable, '-m', 'dff_ros.cli', 'train', 'dff', '--start', str(start), *settings]
        subprocess.run([*words, '--run', str(run), *rest, *resume], check=True)
    if not figures.is_file():
        figures.write_text(json.dumps(_measured(run, args.data)), encoding='utf-8')
    return {'flow': flow, 'width': width, **json.loads(figures.read_text(encoding='utf-8'))}


def _measured(run: Path, data: str) -> dict[str, Any]:
    """Cost, and mIoU per frame, by interval and by offset with and without the correction."""
    spec, _ = read_spec(run / MODEL_FILE)
    parts = part_gmac(spec, spec.nominal_size)
    model, videos = load_model(spec, run / WEIGHTS_FILE), open_videos(data, 'val')
    scores = propagation_scores(model, videos, num_offsets=max(INTERVALS), key_every=KEY_EVERY)
    found: dict[str, Any] = {
        'per_frame': rounded(evaluate(model, LabelledFrames(videos)).miou()),
        'gmac': round(parts.correction, 3),
        'percent_of_feature_net': round(100 * parts.correction / parts.feature, 1),
    }
    for method, offsets in scores.items():
        found[method] = {f'l{interval}': rounded(offsets.score(interval).miou) for interval in INTERVALS}
        found[method]['by_offset'] = rounded_all(offsets.score(max(INTERVALS)).by_offset)
    return found


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout='constrained')
    FigureCanvasAgg(figure)
    for axes, interval in zip(figure.subplots(1, len(INTERVALS)), INTERVALS, strict=True):
        for flow, name in FLOWS.items():
            points = [row for row in rows if row['flow'] == flow]
            if points:
                # Without correction the flow net has still been trained on: the mean over the runs.
                bare = sum(row['warped'][f'l{interval}'] for row in points) / len(points)
                costs = [0.0, *(row['percent_of_feature_net'] for row in points)]
                values = [bare, *(row['corrected'][f'l{interval}'] for row in points)]
                axes.plot(costs, values, 'o-', label=name)
        axes.axhline(rows[0]['per_frame'], color='grey', ls='--', label='per frame')
        axes.set_title(f'key interval {interval}')
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel('mIoU in %')
    figure.supxlabel("cost of the correction branch, % of the feature net's multiply-adds", fontsize='medium')
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=4)
    figure.savefig(path, dpi=120)


if __name__ == '__main__':
    raise SystemExit(main())
