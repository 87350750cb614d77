# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A bundle's directory appears whole or not at all: it is written beside its place and renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dff_ros.errors import DffError


@contextmanager
def temporary_sibling(out: Path) -> Iterator[Path]:
    """An empty directory beside `out`, on the same file system; gone afterwards unless it was renamed.
    DffError naming `out` where it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent))
    except OSError as error:
        raise DffError(f'cannot write below {out.parent}: {error.strerror}') from error
    try:
        yield folder
    except OSError as error:
        hint = ': free some space' if error.errno in (errno.ENOSPC, errno.EDQUOT) else ''
        raise DffError(f'cannot write the bundle {out} ({error.strerror}){hint}') from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(folder: Path, out: Path) -> None:
    """Give a directory its name; one that has it makes way as a whole."""
    folder.chmod(0o755)  # a temporary directory is private
    if not out.exists():
        os.replace(folder, out)
        return
    previous = folder.with_name(f'{folder.name}.previous')
    os.replace(out, previous)
    try:
        os.replace(folder, out)
    except OSError:
        os.replace(previous, out)
        raise
    shutil.rmtree(previous, ignore_errors=True)
