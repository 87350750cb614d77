# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Label maps kept for later scoring, compressed in a temporary file: memory stays flat on long runs."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.closing import Closing
from dff_ros.errors import DffError

_LEVEL = 1
"""Fastest zlib level: label maps are flat, so it already shrinks them some fifty times."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A compressed label map and the key it was added with."""

    key: int
    shape: tuple[int, ...]
    data: bytes

    def unpack(self) -> NDArray[np.uint8]:
        """The uint8 label map (H, W), read-only."""
        return np.frombuffer(zlib.decompress(self.data), np.uint8).reshape(self.shape)


class LabelSpool(Closing):
    """Label maps with integer keys, in the order they were added; a context manager that removes its file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix='dff_labels_')  # noqa: SIM115 (closed by close)
        self._entries: list[tuple[int, int, tuple[int, ...]]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: int, label_map_HW: NDArray[np.uint8]) -> None:
        """Keep a uint8 label map; DffError where the temporary folder is full."""
        packed = zlib.compress(np.ascontiguousarray(label_map_HW).data, _LEVEL)
        try:
            self._file.write(packed)
        except OSError as error:
            raise DffError(
                f'cannot keep label maps in the temporary folder {tempfile.gettempdir()}: {error.strerror}; '
                'set TMPDIR to a folder with more space'
            ) from error
        self._entries.append((key, len(packed), label_map_HW.shape))

    def __iter__(self) -> Iterator[Packed]:
        """Every label map from the first on; adding during an iteration is not allowed."""
        self._file.seek(0)
        for key, length, shape in self._entries:
            yield Packed(key, shape, self._file.read(length))

    def close(self) -> None:
        """Remove the file; calling it twice is harmless."""
        self._file.close()
