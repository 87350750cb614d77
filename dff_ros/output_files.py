# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a command may write, checked before the work begins, so that no input is lost; whole files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from dff_ros.errors import ConfigError, DffError

PART = '.part'
"""Ending of a file until it is complete."""


def check_outputs(
    inputs: Collection[Path], outputs: Mapping[str, Path | None], suffixes: Mapping[str, Collection[str]]
) -> None:
    """Refuse outputs ({flag: path, None where it is not given}) that cannot be written or cost something.

    ConfigError naming the flag where a path is an input, also through links; where it exists inside an input
    folder; where two flags name one path; where a file has none of its `suffixes`, or is a folder.
    """
    given = {flag: path for flag, path in outputs.items() if path is not None}
    for flag, path in given.items():
        allowed = suffixes.get(flag)
        if allowed is not None and path.suffix.lower() not in allowed:
            raise ConfigError(f'{flag} {path}: the file name must end in one of {", ".join(allowed)}')
        if allowed is not None and path.is_dir():
            raise ConfigError(f'{flag} {path} is a folder: give a file name')
        for source in inputs:
            _check_apart(flag, path, source)
    _check_distinct(given)


def _check_apart(flag: str, path: Path, source: Path) -> None:
    if not source.exists():
        return
    for target in (path, path.with_name(path.name + PART)):
        if target.exists() and target.samefile(source):
            raise ConfigError(f'{flag} {path} would overwrite the input {source}: choose another name')
    if source.is_dir() and _is_occupied(path) and path.resolve().is_relative_to(source.resolve()):
        raise ConfigError(
            f'{flag} {path} exists inside the input folder {source}: choose another place, or remove it'
        )


def _is_occupied(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _check_distinct(given: Mapping[str, Path]) -> None:
    flags: dict[Path, str] = {}
    for flag, path in given.items():
        first = flags.setdefault(path.resolve(), flag)
        if first != flag:
            raise ConfigError(f'{first} and {flag} name the same path {path}: choose two')


def write_whole(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all, with its folders; DffError names it."""
    part = path.with_name(path.name + PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise DffError(f'cannot write {path}: {error.strerror}') from error
