# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The files of a bundle that somebody else made: which names, which kinds, and where a graph may read from.

Newer versions of ONNX Runtime check much of this too; a bundle is to be refused with any version, and with a
message that names the file.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dff_ros.errors import BundleError

MAX_GRAPH_BYTES = 64 << 20
"""Largest graph file: weights lie beside the graphs, which are a few 10 kB each."""

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,99}')
_STANDARD_DOMAINS = ('', 'ai.onnx')
_MAX_DEPTH = 32
_MAX_TEXT = 1000
_VARINT, _FIXED64, _MESSAGE, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10

_FIELDS: Mapping[str, Mapping[int, str]] = {
    'model': {7: 'graph', 8: 'opset', 20: 'training', 25: 'function'},
    'training': {1: 'graph', 2: 'graph'},
    'function': {7: 'node', 9: 'opset'},
    'graph': {1: 'node', 5: 'tensor', 15: 'sparse'},
    'node': {5: 'attribute'},
    'attribute': {5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparse', 23: 'sparse'},
    'sparse': {1: 'tensor', 2: 'tensor'},
    'tensor': {},
    'opset': {},
}
"""Numbers of the fields of ONNX's messages that lead to operators and tensors."""
_DOMAIN = {'opset': 1, 'node': 7, 'function': 10}
_EXTERNAL_DATA = 13


@dataclass(slots=True)
class GraphFacts:
    """What a graph needs besides itself: the domains of its operators, and of each tensor in another file the
    entries that say where it is.
    """

    domains: set[str] = field(default_factory=set)
    external: list[dict[str, str]] = field(default_factory=list)


def file_name(value: object, source: Path) -> str:
    """A plain file name: a manifest must not make the program read elsewhere."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise BundleError(
            f'{source}: {value!r} is not a plain file name (letters, digits, . _ -); files must lie in the '
            'bundle itself'
        )
    return value


def printable(value: object, source: Path, what: str) -> str:
    """A text that may be shown in a terminal and a log: control characters could pose as other output."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > _MAX_TEXT:
        raise BundleError(f'{source}: {what} must be a printable text of at most {_MAX_TEXT} characters')
    return value


def check_regular(path: Path) -> int:
    """The size of a regular file in bytes; BundleError for a pipe or device, which would be read for ever.

    A link to a file is one: `colcon build --symlink-install` makes them. OSError as `Path.stat`.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise BundleError(f'{path} is no regular file: fetch the directory again')
    return facts.st_size


def check_graph_file(path: Path, weights: str, weights_size: int) -> None:
    """BundleError where a graph takes tensors from another file than `weights`, or from beyond its end, uses
    operators that ONNX does not define, or is no ONNX file.
    """
    try:
        facts = _read_facts(path)
    except OSError as error:
        raise BundleError(f'{path} cannot be read: {error.strerror}') from error
    except (ValueError, IndexError) as error:
        raise BundleError(f'{path} is not accepted: it is no ONNX file ({error})') from error
    foreign = sorted(facts.domains.difference(_STANDARD_DOMAINS))
    if foreign:
        raise BundleError(f'{path} uses operators of {foreign[0]!r}; allowed are those of ONNX itself')
    for entry in facts.external:
        _check_external(path, entry, weights, weights_size)


def _check_external(path: Path, entry: Mapping[str, str], weights: str, weights_size: int) -> None:
    location = entry.get('location', '')
    if location != weights:
        raise BundleError(f'{path} takes weights from {location!r}; allowed is {weights} beside it')
    try:
        offset, length = (int(entry.get(key, '0')) for key in ('offset', 'length'))
    except ValueError:
        offset, length = -1, -1
    if min(offset, length) < 0 or offset + length > weights_size:
        raise BundleError(f'{path} takes weights from beyond the end of {weights}: {dict(entry)}')


def _read_facts(path: Path) -> GraphFacts:
    size = check_regular(path)
    if size > MAX_GRAPH_BYTES:
        raise BundleError(f'{path} has {size} bytes; a graph has {MAX_GRAPH_BYTES} at most')
    facts = GraphFacts()
    _walk(path.read_bytes(), 'model', facts, 0)
    return facts


def _walk(content: bytes, kind: str, facts: GraphFacts, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError('nested too deep')
    entries: dict[str, str] = {}
    for number, value in _fields(content):
        if number in _FIELDS[kind]:
            _walk(value, _FIELDS[kind][number], facts, depth + 1)
        elif number == _DOMAIN.get(kind):
            facts.domains.add(value.decode())
        elif kind == 'tensor' and number == _EXTERNAL_DATA:
            pair = dict(_fields(value))
            entries[pair.get(1, b'').decode()] = pair.get(2, b'').decode()
    if entries:
        facts.external.append(entries)


def _fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of the fields of a protobuf message that have a length. ValueError or IndexError
    where it is none.
    """
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            _, position = _varint(content, position)
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        elif wire == _MESSAGE:
            length, position = _varint(content, position)
            yield number, content[position : position + length]
            position += length
        else:
            raise ValueError(f'a field of unknown type {wire}')
        if position > len(content):
            raise ValueError('it ends within a field')


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = content[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError('a number without an end')
