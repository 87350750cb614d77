# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Adds the lines of copyright and licence to the source files that lack them; prints their names."""

from __future__ import annotations

import subprocess
from pathlib import Path

HEADER = '# Copyright 2026 dff_ros maintainers\n# SPDX-License-Identifier: Apache-2.0\n'
_SOURCES = ('*.py', '*.sh', '*.msg', '*CMakeLists.txt', 'Makefile', '.ci/run')


def files_without(root: Path) -> list[Path]:
    """Source files that git tracks whose first lines are not the header; empty files need none."""
    listed = subprocess.run(
        ['git', 'ls-files', *_SOURCES], cwd=root, capture_output=True, text=True, check=True
    )
    paths = [root / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and not _is_marked(path.read_text(encoding='utf-8'))]


def _is_marked(text: str) -> bool:
    body = text.partition('\n')[2] if text.startswith('#!') else text
    return not text or body.startswith(HEADER)


def add_header(text: str) -> str:
    """The text with the header as its first lines, after a line that names the interpreter."""
    first, end, rest = text.partition('\n')
    if first.startswith('#!'):
        return f'{first}{end}{HEADER}{rest}'
    return f'{HEADER}\n{text}' if text.startswith(('"', "'")) else f'{HEADER}{text}'


def main() -> None:
    """Mark what is not marked."""
    for path in files_without(Path(__file__).resolve().parent.parent):
        path.write_text(add_header(path.read_text(encoding='utf-8')), encoding='utf-8')
        print(path)


if __name__ == '__main__':
    main()
