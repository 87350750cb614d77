# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Train the paper's ablations with equal budgets, several seeds each, and collect what they reach.

    python benchmarks/ablations.py --runs out/ablations --seeds 0,1 --out benchmarks/ablations.json -- \
        --start runs/per-frame,runs/flow --data.labelled camvid:PATH --steps 300 ...

Everything after `--` goes to `dff train dff` as it is; `--run`, `--seed` and `--ablation` are added. Finished
runs are kept, so the command goes on where it was stopped. The labelled data must have a `val` split of dense
video.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from arguments import command, split_arguments

ABLATIONS = ('separate', 'fix_n', 'fix_f', 'no_scale_map', 'joint')
"""From nothing trained to everything; `separate` has no seed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, then write the table."""
    arguments = sys.argv[1:] if argv is None else argv
    own, rest = split_arguments(arguments)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--runs', type=Path, required=True, help='folder of the runs')
    parser.add_argument('--seeds', default='0,1', help='seeds, separated by commas (default: 0,1)')
    parser.add_argument('--ablations', default=','.join(ABLATIONS), help='which (default: all)')
    parser.add_argument('--out', type=Path, required=True, help='JSON of the figures')
    args = parser.parse_args(own)
    rows = []
    for ablation in args.ablations.split(','):
        seeds = [int(seed) for seed in args.seeds.split(',')]
        found = [
            _accuracy(args.runs, ablation, seed, rest)
            for seed in seeds[: 1 if ablation == 'separate' else None]
        ]
        rows.append({'ablation': ablation, **_summary(found)})
        print(_line(rows[-1]), flush=True)
    report = {'command': command(Path(__file__).name, arguments), 'rows': rows}
    args.out.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    print(f'wrote {args.out}')
    return 0


def _accuracy(runs: Path, ablation: str, seed: int, rest: list[str]) -> dict[str, float]:
    """mIoU per frame and at each interval, without and with the correction."""
    run = runs / f'{ablation}-{seed}'
    facts = run / 'model.json'
    if not facts.is_file() or 'accuracy' not in json.loads(facts.read_text())['training']:
        resume = ['--resume'] if (run / 'checkpoint.pt').is_file() else []
        settings = ['--run', str(run), '--seed', str(seed), '--ablation', ablation]
        subprocess.run(
            [sys.executable, '-m', 'dff_ros.cli', 'train', 'dff', *rest, *settings, *resume], check=True
        )
    accuracy: dict[str, Any] = json.loads(facts.read_text())['training']['accuracy']
    propagated = next(value for name, value in accuracy.items() if name.endswith('_val_propagated'))
    direct = next(value for name, value in accuracy.items() if name.endswith('_val'))
    figures = {'per_frame': direct['miou']}
    for method, values in propagated.items():
        figures |= {
            f'{method}_{name.removeprefix("miou_")}': v
            for name, v in values.items()
            if name.startswith('miou_')
        }
    return figures


def _summary(found: list[dict[str, float]]) -> dict[str, object]:
    return {
        name: {
            'mean': round(mean(figures[name] for figures in found), 2),
            'lowest': round(min(figures[name] for figures in found), 2),
            'highest': round(max(figures[name] for figures in found), 2),
        }
        for name in found[0]
    }


def _line(row: dict[str, Any]) -> str:
    cells = [
        f'{name} {value["mean"]:.1f} ({value["lowest"]:.1f}..{value["highest"]:.1f})'
        for name, value in row.items()
        if name != 'ablation'
    ]
    return f'{row["ablation"]}: ' + ', '.join(cells)


if __name__ == '__main__':
    raise SystemExit(main())
