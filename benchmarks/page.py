# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""docs/benchmarks.md and its pictures, made from page.md and the files in benchmarks/MACHINE/.

python benchmarks/page.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench_rows import (
    Result,
    Row,
    groups,
    label,
    minute_table,
    rate_table,
    setup,
    speed_table,
    stage_table,
    varying,
)
from goals import goal_table
from node_tables import METHOD, node_part, number, peer_part, switch_part, table
from page_plots import Picture, pictures
from scaling import Scaling

HERE = Path(__file__).resolve().parent
TEXT, NOTES = 'page.md', 'notes.md'
PAGE, PICTURES = HERE.parent / 'docs' / 'benchmarks.md', HERE.parent / 'docs' / 'images' / 'benchmarks'
_FACTS = ('version', 'commit', 'date', 'load_average')
_IN_WORDS = {'load_average': 'load before'}
_WARPS = {'copy': 'a copy', 'fused': 'in one kernel', 'grid_sample': "by torch's operators"}


def read_results(folder: Path = HERE) -> list[Result]:
    """All files of all machines, the ones of `dff bench` before the node's."""
    results = [Result.read(path, folder) for path in folder.glob('*/*.json')]
    return sorted(results, key=lambda result: (result.machine, not result.rows, result.name))


def to_markdown(results: Sequence[Result], folder: Path = HERE) -> str:
    """The page."""
    machines = dict.fromkeys(result.machine for result in results)
    sections = [_machine(machine, results, folder) for machine in machines]
    text = (folder / TEXT).read_text(encoding='utf-8')
    parts = {
        'NODE': METHOD.strip(),
        'GOALS': goal_table(results),
        'MACHINES': '\n\n'.join(sections) or 'No figures yet.',
    }
    for name, part in parts.items():
        text = text.replace(f'<!-- {name} -->', part)
    return text


def _machine(machine: str, results: Sequence[Result], folder: Path) -> str:
    """The section of a machine: its notes, if there are any, and its files."""
    notes = folder / machine / NOTES
    own = [result for result in results if result.machine == machine]
    parts = [f'## {machine}', notes.read_text(encoding='utf-8').strip() if notes.is_file() else '']
    return '\n\n'.join(filter(None, [*parts, *map(_section, own)]))


def _section(result: Result) -> str:
    """A file: how it was made, what it says."""
    title = Path(result.name).stem.replace('_', ' ')
    link = f'[JSON](../benchmarks/{result.name})'
    report = result.report
    command = report.get('command')
    made = f'`{command}` ({link})' if command else f'({link})'
    facts = [f'{_IN_WORDS.get(name, name)} {report[name]}' for name in _FACTS if report.get(name) is not None]
    parts = [f'### {title}', made + (f': {", ".join(facts)}.' if facts else ''), *_tables(result)]
    parts += [f'![{picture.alt}](images/benchmarks/{picture.file})' for picture in pictures(result)]
    return '\n\n'.join(parts)


def _tables(result: Result) -> list[str]:
    report = result.report
    found: list[str] = []
    if result.rows:
        found += _bench(result)
    if result.minutes:
        found += [f'{setup([report])}:', minute_table(result.minutes)]
    if result.rates:
        found += [_rates_title(report), rate_table(result.rates)]
    found += [node_part(node) for node in result.nodes]
    if 'switches' in report:
        found.append(switch_part(report))
    if 'dff_node_over_plain_node' in report:
        found.append(peer_part(report))
    if 'per_frame_miou' in report:
        found.append(_accuracy(result))
    return found or [f'Keys: {", ".join(report)}.']


def _bench(result: Result) -> list[str]:
    rows = result.rows
    parts = [f'{setup(rows)}:', speed_table(rows), 'Stages, ms (medians):', stage_table(rows)]
    warps = [row['warp_bandwidth'] for row in rows if row.get('warp_bandwidth')]
    if warps:
        told = ', '.join(f'{number(warps[0][f"{name}_gb_s"])} GB/s {words}' for name, words in _WARPS.items())
        parts.append(f'Warp: {told}.')
    names = [name for name in varying(rows) if name != 'size']
    for found in groups(rows, ['size']).values():
        scale = Scaling.of(found)
        if scale is not None:
            told = label(found[0], names)
            parts.append(f'{told}: {scale.text}.' if told else f'{scale.text}.')
    return parts


def _rates_title(report: Row) -> str:
    words = label(report, ('bundle', 'size', 'cores'))
    return f'{words}, {report["rate"]:g} Hz, key frames {report["key_frames"]}:'


def _accuracy(result: Result) -> str:
    """mIoU of an evaluation."""
    report = result.report
    rows = [['per frame', '1', number(report['per_frame_miou']), number(report['per_frame_ms'])]]
    rows += [
        [row['method'], str(row['interval']), number(row['miou']), number(row['ms_per_frame'])]
        for row in report['rows']
        if row['interval'] > 1
    ]
    title = f'{report["bundle"]}, {report.get("precision", "fp32")}, {report["data"]} {report["split"]}:'
    return f'{title}\n\n{table(["method", "key interval", "mIoU", "ms per frame"], rows)}'


def all_pictures(results: Sequence[Result]) -> list[Picture]:
    """Those of all files."""
    return [picture for result in results for picture in pictures(result)]


def main(argv: Sequence[str] | None = None) -> int:
    """Write page and pictures; pictures that no file gives any more are removed."""
    argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0]).parse_args(argv)
    results = read_results()
    PAGE.write_text(to_markdown(results), encoding='utf-8')
    made = {picture.file: picture for picture in all_pictures(results)}
    for path in PICTURES.glob('*.png'):
        if path.name not in made:
            path.unlink()
    for file, picture in made.items():
        PICTURES.mkdir(parents=True, exist_ok=True)
        (PICTURES / file).write_bytes(picture.png())
    return 0


if __name__ == '__main__':
    sys.exit(main())
