# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Folders that appear as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dff_ros.errors import DataError


@contextmanager
def whole_folder(folder: Path, task: str, is_shared: bool = False) -> Iterator[Path]:
    """A temporary folder beside `folder`, which takes that name when the block is done.

    `is_shared`: where another process has made the same in the meantime, that stays. `task` says what is done
    in the DataError that is raised where the disk refuses, as in 'render the street into'.
    """
    temporary = folder.with_name(f'.{folder.name}.{os.getpid()}')
    try:
        temporary.mkdir(parents=True)
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if not (is_shared and folder.is_dir()):
                raise
    except OSError as error:
        raise DataError(f'cannot {task} {folder}: {error}') from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
