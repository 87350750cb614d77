# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A recording that is read: clear errors, its image topics, its messages in order. Needs rosbags."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader

from dff_ros.bag_messages import CAMERA_INFO, COMPRESSED, IMAGE, typestore
from dff_ros.cameras import NO_NAME
from dff_ros.closing import Closing
from dff_ros.errors import ConfigError, DataError
from dff_ros.messages import NS_PER_S

ALL = 'all'
METADATA = 'metadata.yaml'
SUFFIXES = ('.mcap', '.db3')
_LOOK_AHEAD_NS = NS_PER_S // 10
_REMEDY = (
    'make it whole first: `ros2 bag reindex` makes metadata.yaml anew, `mcap recover` an mcap file, '
    '`sqlite3 bag.db3 .recover` a database'
)


@dataclass(frozen=True, slots=True)
class Camera:
    """An image topic that is answered, and what stands beside it: the name before the outputs' topics, and
    the topic of its calibration.
    """

    name: str
    topic: str
    info_topic: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message as it was recorded: `connection` is an index into `Bag.connections`."""

    connection: int
    topic: str
    kind: str
    time_ns: int
    data: bytes


def is_bag(path: Path) -> bool:
    """Whether a path is a recording: a folder with metadata or storage files, or such a file."""
    if path.is_dir():
        return (path / METADATA).is_file() or bool(storage_files(path))
    return path.suffix in SUFFIXES


def storage_files(folder: Path) -> list[Path]:
    """Storage files in a folder, compressed ones too."""
    names = (path for path in folder.iterdir() if path.is_file())
    return sorted(p for p in names if p.suffix in SUFFIXES or p.name.endswith(('.mcap.zstd', '.db3.zstd')))


class Bag(Closing):
    """An open recording. DataError names it and the remedy where it is missing or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _open(path)
        self.connections: list[Connection] = list(self._reader.connections)
        self._numbers = {id_: number for number, id_ in enumerate(map(_identity, self.connections))}

    @property
    def num_messages(self) -> int:
        """As the recording says."""
        return int(self._reader.message_count)

    @property
    def storage(self) -> str:
        """`mcap` or `sqlite3`."""
        files = [self.path] if self.path.is_file() else storage_files(self.path)
        return 'sqlite3' if any('.db3' in file.suffixes for file in files) else 'mcap'

    def fingerprint(self) -> dict[str, object]:
        """What tells this recording from another one of the same name."""
        files = [self.path] if self.path.is_file() else storage_files(self.path)
        heads = hashlib.sha256()
        for file in files:
            with file.open('rb') as stream:
                heads.update(stream.read(65536))
        size = sum(file.stat().st_size for file in files)
        return {'bytes': size, 'messages': self.num_messages, 'sha256 of the beginnings': heads.hexdigest()}

    def cameras(self, asked: Sequence[str]) -> list[Camera]:
        """The image topics to answer, in the order asked; `('all',)` for all, none for the only one.

        ConfigError lists the image topics where one has to be chosen or is not there.
        """
        kinds = {c.topic: c.msgtype for c in self.connections if c.msgtype in (IMAGE, COMPRESSED)}
        listing = '\n'.join(f'  {topic} ({kind})' for topic, kind in sorted(kinds.items()))
        if not kinds:
            have = ', '.join(sorted({c.topic for c in self.connections})) or 'no topics'
            raise ConfigError(
                f'{self.path} has no images (sensor_msgs/Image or CompressedImage), only {have}'
            )
        if not asked and len(kinds) > 1:
            raise ConfigError(
                f'{self.path} has several image topics: name those to answer by --topic, or give --topic '
                f'all\n{listing}'
            )
        topics = sorted(kinds) if not asked or tuple(asked) == (ALL,) else list(dict.fromkeys(asked))
        missing = [topic for topic in topics if topic not in kinds]
        if missing:
            raise ConfigError(f'{self.path} has no images on {", ".join(missing)}; it has\n{listing}')
        names = _camera_names(topics, kinds)
        return [
            Camera(names[topic], topic, f'{_raw(topic, kinds).rpartition("/")[0]}/camera_info')
            for topic in topics
        ]

    def messages(self) -> Messages:
        """All messages in the order of the recording."""
        return Messages(self._read())

    def close(self) -> None:
        """Close the files; calling it twice is harmless."""
        if self._reader.is_open:
            self._reader.close()

    def _read(self) -> Iterator[Recorded]:
        number = 0
        try:
            for connection, time_ns, data in self._reader.messages():
                number += 1
                where = self._numbers[_identity(connection)]
                yield Recorded(where, connection.topic, connection.msgtype, time_ns, bytes(data))
        except GeneratorExit:
            raise
        except Exception as error:  # whatever a reader raises on damaged bytes
            raise DataError(
                f'{self.path} is damaged after message {number}: {_in_words(error)}; {_REMEDY}'
            ) from error


class Messages:
    """Iterates over the messages, and looks ahead for the calibration of an image."""

    def __init__(self, source: Iterator[Recorded]) -> None:
        self._source = source
        self._ahead: deque[Recorded] = deque()

    def __iter__(self) -> Messages:
        return self

    def __next__(self) -> Recorded:
        return self._ahead.popleft() if self._ahead else next(self._source)

    def info_ahead(self, image: Recorded, topic: str, stamp: object) -> Any:
        """The calibration with an image's stamp that was recorded up to 0.1 s after it, or None: a node would
        have received it before its answer.
        """
        end_ns = image.time_ns + _LOOK_AHEAD_NS
        while not self._ahead or self._ahead[-1].time_ns <= end_ns:
            following = next(self._source, None)
            if following is None:
                break
            self._ahead.append(following)
        for message in self._ahead:
            if message.topic == topic and message.kind == CAMERA_INFO and message.time_ns <= end_ns:
                info = read(message)
                if info is not None and info.header.stamp == stamp:
                    return info
        return None


def read(message: Recorded) -> Any:
    """A message's content; None where it cannot be read."""
    try:
        return typestore().deserialize_cdr(message.data, message.kind)
    except Exception:  # rosbags raises what the bytes lead to; one message is lost, not the bag
        return None


def _open(path: Path) -> Reader:
    if not path.exists():
        raise DataError(f'{path} does not exist')
    target = path
    if path.is_dir() and not (path / METADATA).is_file():
        files = storage_files(path)
        if len(files) != 1 or files[0].suffix not in SUFFIXES:
            raise DataError(f'{path} has no {METADATA}: {_REMEDY}')
        target = files[0]
    try:
        reader = Reader(target)
        reader.open()
    except Exception as error:  # ReaderError, but damaged bytes lead to others too
        raise DataError(f'{path} cannot be read: {_in_words(error)}; {_REMEDY}') from error
    return reader


def _identity(connection: Connection) -> tuple[object, ...]:
    """Of a connection, as readers hand it out with the messages."""
    return connection.id, connection.topic, connection.msgtype


def _raw(topic: str, kinds: dict[str, str]) -> str:
    """The topic of the raw images that a compressed topic stands below."""
    return topic.rpartition('/')[0] if kinds[topic] == COMPRESSED and topic.count('/') > 1 else topic


def _camera_names(topics: Sequence[str], kinds: dict[str, str]) -> dict[str, str]:
    """No name for the only one; else the folder of the topic, or all of it where two have one folder."""
    if len(topics) == 1:
        return {topics[0]: NO_NAME}
    folders = {topic: _raw(topic, kinds).rpartition('/')[0].strip('/') for topic in topics}
    shared = list(folders.values())
    return {
        topic: folder if folder and shared.count(folder) == 1 else topic.strip('/')
        for topic, folder in folders.items()
    }


def _in_words(error: Exception) -> str:
    text = ' '.join(str(error).split()).rstrip('.')
    return (
        text if type(error).__name__ == 'ReaderError' and text else f'{type(error).__name__} {text}'.strip()
    )
