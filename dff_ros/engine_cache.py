# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Where TensorRT engines lie, and which of them belong to this machine, this bundle and these sizes.

An engine runs on the GPU, with the TensorRT and in the ONNX Runtime that it was built with, and nowhere
else. So these and the bundle's content name a directory, in which each graph has one for each set of input
shapes: the engines and `engine.json`, which is written when all of them are there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from dff_ros.bundle import WEIGHTS, Bundle, file_facts
from dff_ros.errors import BackendUnavailableError, DffError
from dff_ros.output_files import write_whole

MANIFEST = 'engine.json'
_FORMAT = 1
"""Goes up where the graphs that engines are built of are made otherwise."""
_HASH_DIGITS = 12

Size = tuple[int, int]
Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""(input, shape) of a graph's inputs, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """What an engine is bound to, besides the shapes. `bundle`: hash of its graphs and weights."""

    gpu: str
    capability: str
    tensorrt: str
    onnxruntime: str
    bundle: str
    precision: str

    @property
    def folder(self) -> str:
        """Name of the directory."""
        gpu = re.sub('[^A-Za-z0-9]+', '-', self.gpu).strip('-')
        return (
            f'{gpu}_sm{self.capability}_tensorrt{self.tensorrt}_onnxruntime{self.onnxruntime}_'
            f'{self.bundle}_{self.precision}_{_FORMAT}'
        )


def bundle_hash(bundle: Bundle) -> str:
    """Of what engines are built of; notes and calibrations of the bundle may change."""
    names = sorted({WEIGHTS, *(graph.file for graph in bundle.graphs.values())})
    text = ' '.join(f'{name} {bundle.files[name].sha256}' for name in names)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]


def default_root() -> Path:
    """dff_ros/tensorrt in the user's directory for caches."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'dff_ros' / 'tensorrt'


class EngineCache:
    """The engines of a key below `root`. `remedy` ends the error of one that is missing: how to build it."""

    def __init__(self, root: Path, key: EngineKey, remedy: str) -> None:
        self.folder = root / key.folder
        self._remedy = remedy

    @property
    def sizes(self) -> tuple[Size, ...]:
        """(height, width) of the source images that there are engines for; the smallest first."""
        found = {
            (shape[0], shape[1])
            for path in self.folder.glob(f'extract-*/{MANIFEST}')
            for name, shape in _shapes_of(path)
            if name == 'image'
        }
        return tuple(sorted(found))

    def require_any(self) -> None:
        """BackendUnavailableError, saying how to build them, where there are no engines at all."""
        if not self.sizes:
            raise BackendUnavailableError(f'there are no TensorRT engines in {self.folder}: {self._remedy}')

    def require(self, graph: str, shapes: Shapes) -> Path:
        """The directory with the engines of a graph; BackendUnavailableError where one is missing or
        differs from what was built, saying what there is and how to build it.
        """
        folder = self._folder(graph, shapes)
        try:
            facts = json.loads((folder / MANIFEST).read_text(encoding='utf-8'))
            for name, sha256 in facts['files'].items():
                if file_facts(folder / name).sha256 != sha256:
                    raise BackendUnavailableError(
                        f'the TensorRT engine {folder / name} is damaged: {self._remedy}'
                    )
        except (OSError, ValueError, KeyError, AttributeError) as error:
            sizes = ', '.join(f'{width}x{height}' for height, width in self.sizes) or 'no size'
            told = ', '.join(f'{name} {"x".join(map(str, shape))}' for name, shape in shapes)
            raise BackendUnavailableError(
                f'there is no TensorRT engine of graph {graph} for {told} in {self.folder}, which has '
                f'engines for images of {sizes}: {self._remedy}'
            ) from error
        return folder

    @contextmanager
    def building(self, graph: str, shapes: Shapes) -> Iterator[Path]:
        """A directory for the engines of a graph; in place of any before it once all of them are there.
        DffError where it cannot be written.
        """
        target = self._folder(graph, shapes)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix='.building-', dir=self.folder))
        except OSError as error:
            raise DffError(f'cannot write TensorRT engines below {self.folder}: {error.strerror}') from error
        try:
            yield folder
            files = {path.name: file_facts(path).sha256 for path in sorted(folder.iterdir())}
            content = {
                'graph': graph,
                'shapes': {name: list(shape) for name, shape in shapes},
                'files': files,
            }
            write_whole(folder / MANIFEST, (json.dumps(content, indent=2) + '\n').encode())
            shutil.rmtree(target, ignore_errors=True)
            os.replace(folder, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def new_files(self, folder: Path) -> list[str]:
        """Names of engines in a directory of `require` that were not built with it."""
        known = json.loads((folder / MANIFEST).read_text(encoding='utf-8'))['files']
        return sorted(path.name for path in folder.glob('*.engine') if path.name not in known)

    def _folder(self, graph: str, shapes: Shapes) -> Path:
        digest = hashlib.sha256(repr(shapes).encode()).hexdigest()
        return self.folder / f'{graph}-{digest[:_HASH_DIGITS]}'


def _shapes_of(manifest: Path) -> list[tuple[str, list[int]]]:
    try:
        shapes = json.loads(manifest.read_text(encoding='utf-8'))['shapes']
    except (OSError, ValueError, KeyError):
        return []
    return list(cast(dict[str, list[int]], shapes).items())
