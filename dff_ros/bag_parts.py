# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A bag that is written in parts, so that a run which was ended goes on: each is there whole or not at all.

Beside OUT, in OUT.part: run.json with the settings, a folder for each part (a bag of its own) and, once that
is finished, its journal, which makes it count. The parts become the files of OUT, as of a split recording.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import yaml
from rosbags.interfaces import Qos
from rosbags.rosbag2 import StoragePlugin, Writer

from dff_ros.bag_input import METADATA
from dff_ros.bag_metadata import INFORMATION, SETTINGS, differences, merged
from dff_ros.closing import Closing
from dff_ros.errors import ConfigError, DffError
from dff_ros.output_files import PART

_ENDINGS = {'mcap': '.mcap', 'sqlite3': '.db3'}


@dataclass(frozen=True, slots=True)
class Topic:
    """A connection of the bag that is written."""

    name: str
    kind: str
    definition: str
    digest: str
    qualities: Sequence[Qos]
    serialization: str = 'cdr'


@dataclass(frozen=True, slots=True)
class Past:
    """What the finished parts hold: messages of the input that were taken, and the networks' figures."""

    num_taken: int
    entries: list[list[Any]]


class Parts(Closing):
    """The unfinished output of one bag; locked while it is open.

    DffError where OUT cannot be written or is there already, or was begun by other settings.
    """

    def __init__(self, out: Path, settings: Mapping[str, object], storage: str, *, overwrite: bool) -> None:
        self.out = out
        self.folder = out.with_name(out.name + PART)
        self._storage = storage
        self._settings = dict(settings)
        self._writer: Writer | None = None
        self._lock: IO[str] | None = None
        with writing(out):
            if overwrite:
                _remove(out)
            elif out.exists():
                raise ConfigError(f'--out {out} exists: choose another name, or give --overwrite')
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder / 'lock', out)
            try:
                self._begin(overwrite)
            except BaseException:
                self.close()
                raise
        self.number = self._num_finished()

    def past(self) -> Past:
        """Of the parts that are finished; what was left of another one is removed."""
        entries: list[list[Any]] = []
        num_taken = 0
        for number in range(self.number):
            journal = json.loads(self._journal(number).read_text(encoding='utf-8'))
            num_taken = journal['taken']
            entries += journal['entries']
        with writing(self.out):
            _remove(self.folder / self._name(self.number))
        return Past(num_taken, entries)

    def forget(self) -> None:
        """Begin anew: nothing of the finished parts is used."""
        with writing(self.out):
            for number in range(self.number + 1):
                self._journal(number).unlink(missing_ok=True)
                _remove(self.folder / self._name(number))
        self.number = 0

    def open(self, topics: Sequence[Topic]) -> Callable[[int, int, bytes | memoryview], None]:
        """Begin a part; writes (index of the topic, time in ns, content)."""
        with writing(self.out):
            plugin = StoragePlugin[self._storage.upper()]
            writer = self._writer = Writer(
                self.folder / self._name(self.number), version=9, storage_plugin=plugin
            )
            writer.open()
            connections = [
                writer.add_connection(
                    topic.name,
                    topic.kind,
                    msgdef=topic.definition,
                    rihs01=topic.digest,
                    serialization_format=topic.serialization,
                    offered_qos_profiles=topic.qualities,
                )
                for topic in topics
            ]

        def write(index: int, time_ns: int, content: bytes | memoryview) -> None:
            with writing(self.out):
                writer.write(connections[index], time_ns, content)

        return write

    def commit(self, num_taken: int, entries: list[list[Any]]) -> None:
        """Finish the part: from now on it counts. `num_taken` messages of the input were taken so far."""
        assert self._writer is not None
        with writing(self.out):
            writer, self._writer = self._writer, None
            try:
                writer.close()
            except BaseException:
                writer.abort()
                raise
            for path in writer.path.iterdir():
                _sync(path)
            _write_synced(self._journal(self.number), json.dumps({'taken': num_taken, 'entries': entries}))
        self.number += 1

    def finish(self) -> None:
        """Turn the parts into OUT. Ended in the middle of it, it is done again."""
        final = self.folder / 'bag'
        self._drop_unfinished()
        with writing(self.out):
            final.mkdir(exist_ok=True)
            described = [self._described(number) for number in range(self.number)]
            for number in range(self.number):
                source = self._stored(self._name(number))
                if source.exists():
                    os.replace(source, final / source.name)
            told = {SETTINGS: json.dumps(self._settings, sort_keys=True)}
            _write_synced(final / METADATA, yaml.safe_dump({INFORMATION: merged(described, told)}))
            os.replace(final, self.out)
            shutil.rmtree(self.folder)

    def close(self) -> None:
        """Leave what is finished for the next run; calling it twice is harmless."""
        self._drop_unfinished()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _drop_unfinished(self) -> None:
        if self._writer is not None:
            with suppress(Exception):
                self._writer.abort()
            self._writer = None

    def _begin(self, overwrite: bool) -> None:
        """Compare the settings with those of what is there, or write them down."""
        run = self.folder / 'run.json'
        if overwrite:
            for path in self.folder.iterdir():
                if path.name != 'lock':
                    _remove(path)
        if not run.is_file():
            _write_synced(run, json.dumps(self._settings, indent=2, sort_keys=True))
            return
        different = differences(json.loads(run.read_text(encoding='utf-8')), self._settings)
        if different:
            raise ConfigError(
                f'{self.folder} was begun by other settings: {"; ".join(different)}; give the same ones to '
                'go on, or --overwrite to begin anew'
            )

    def _num_finished(self) -> int:
        number = 0
        while self._journal(number).is_file():
            number += 1
        return number

    def _name(self, number: int) -> str:
        return f'{self.out.name}_{number}'

    def _journal(self, number: int) -> Path:
        return self.folder / f'{self._name(number)}.json'

    def _stored(self, name: str) -> Path:
        return self.folder / name / f'{name}{_ENDINGS[self._storage]}'

    def _described(self, number: int) -> dict[str, Any]:
        path = self.folder / self._name(number) / METADATA
        return cast(dict[str, Any], yaml.safe_load(path.read_text(encoding='utf-8'))[INFORMATION])


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn errors of the file system into DffErrors that say what stays."""
    try:
        yield
    except sqlite3.Error as error:
        is_full = getattr(error, 'sqlite_errorcode', None) == sqlite3.SQLITE_FULL
        raise _not_written(out, 'the disk is full' if is_full else str(error)) from error
    except OSError as error:
        text = 'the disk is full' if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        raise _not_written(out, text) from error


def _not_written(out: Path, text: str) -> DffError:
    return DffError(
        f'cannot write {out}: {text}; what is finished stays in {out.name}{PART}, and the same command goes '
        'on from there'
    )


def _lock(path: Path, out: Path) -> IO[str]:
    """Held until it is closed or the process ends, however it ends."""
    lock = path.open('a')
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ConfigError(f'another process is writing {out}: wait for it, or choose another --out') from None
    return lock


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_synced(path: Path, text: str) -> None:
    """Whole or not at all, also when the power fails."""
    part = path.with_name(path.name + PART)
    part.write_text(text, encoding='utf-8')
    _sync(part)
    os.replace(part, path)


def _sync(path: Path) -> None:
    with path.open('rb') as stream:
        os.fsync(stream.fileno())
