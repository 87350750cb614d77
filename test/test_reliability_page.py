# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""docs/reliability.md: every row is a test, every test is in a row."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('cv2')

HERE = Path(__file__).parent
PAGE = HERE.parent / 'docs' / 'reliability.md'
MIN_ROWS = 40


def rows() -> list[tuple[str, list[str], list[str]]]:
    """The file of each row, the counters it names, and its tests."""
    found, file = [], ''
    for line in PAGE.read_text().splitlines():
        named = re.search(r'Tests: `test/(\w+\.py)`', line)
        file = named[1] if named else file
        cells = line.strip('|').split(' | ')
        if len(cells) == 4 and 'test_' in cells[3]:
            found.append((file, re.findall(r'`([^`]+)`', cells[2]), re.findall(r'`([^`]+)`', cells[3])))
    return found


def test_every_row_is_a_test_and_every_test_is_in_one_row():
    files = sorted({file for file, *_ in rows()})
    assert files == sorted(path.name for path in HERE.glob('test_reliability_*.py') if path != Path(__file__))
    listed = subprocess.run(
        [sys.executable, '-m', 'pytest', '--collect-only', '-q', '-p', 'no:cacheprovider',
         *(f'test/{file}' for file in files)],
        cwd=HERE.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    there = sorted(line.removeprefix('test/') for line in listed.stdout.splitlines() if '::' in line)
    assert sorted(f'{file}::{name}' for file, _, names in rows() for name in names) == there
    assert len(rows()) >= MIN_ROWS


def test_what_a_row_counts_is_asserted_in_its_file():
    shared = (HERE / 'faults.py').read_text()
    for file, counters, names in rows():
        text = (HERE / file).read_text() + shared
        for counter in counters:
            assert all(part in text for part in counter.split('.')), (names, counter)
