# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Where the files that come with the package are: config/, launch/, models/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def share_folders() -> Iterator[Path]:
    """The source tree, then `share/dff_ros` below every prefix this package may be installed in."""
    package = Path(__file__).resolve().parent
    prefixes = [
        Path(prefix) for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if prefix
    ]
    yield package.parent
    yield from (prefix / 'share' / 'dff_ros' for prefix in [*package.parents, *prefixes])


def find_share_file(name: str) -> Path | None:
    """The first file of that relative name, such as `config/dff.yaml`; None where there is none."""
    return next((folder / name for folder in share_folders() if (folder / name).is_file()), None)
