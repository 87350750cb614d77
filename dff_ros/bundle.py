# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A model directory: the manifest, what may stand in it, and how it is found, checked and read.

A bundle holds graphs and weights, never code. `manifest.json` names each file with its size and SHA-256; a
file that differs is refused. The manifest itself is not signed: this finds damage and mixed-up files, not who
made a bundle. Texts for people (README.md, MODEL_CARD.md) lie beside them and are not part of
what is checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from dff_ros.bundle_files import check_regular, file_name, printable
from dff_ros.confidence import ConfidenceCalibration
from dff_ros.errors import BundleError, ConfigError
from dff_ros.model_spec import LIGHT_STRIDE, ModelSpec
from dff_ros.output_files import write_whole
from dff_ros.share import share_folders

FORMAT = 'dff_ros bundle'
VERSION = 6
"""The newest format version. 2 has models with a light net, 3 those with a detection head or without a
segmentation head, 4 those with a quality net, 5 those whose confidence is calibrated, 6 those with graphs in
8 bits; others are written as the versions before, which older programs can read.
"""
MANIFEST = 'manifest.json'
WEIGHTS = 'weights.safetensors'
GRAPHS = ('extract', 'propagate', 'predict', 'detect', 'warp', 'look', 'correct', 'quality')
"""Graph names. `predict` is there for the task segmentation, `detect` for detection, `warp` (of a flow made
elsewhere) if the bundle's own `propagate` contains a flow net, `look` if anything takes light features of a
frame, `correct` if there is a correction branch, `quality` (of
what is not corrected) if there is a quality net.
"""
_GRAPH_OF_TASK = {'segmentation': 'predict', 'detection': 'detect'}

_ENTRIES = {'format', 'version', 'model', 'stride', 'graphs', 'files', 'created_by', 'figures'}
_ENTRIES_OF_VERSION = {
    2: ('light_channels', 'detail', 'correction_channels', 'fine_flow'),
    3: ('box_class_names', 'detection_channels', 'anchor_scales', 'anchor_ratios', 'box_bins', 'box_pooling')
    + ('proposals_before_nms', 'num_proposals', 'max_boxes', 'cell_centre'),
    4: ('quality_channels',),
}
"""Entries of the model that a version of the format brought."""

_CONFIDENCE, _INT8 = 'confidence', 'int8'
"""The entries of a manifest that not every bundle has."""
_MAX_MANIFEST_BYTES = 1 << 20
_MAX_STRIDE = 64
_EXPORT_AGAIN = 'export the model again (dff export) or fetch the directory again'


@dataclass(frozen=True, slots=True)
class GraphFile:
    """One ONNX graph: its file name and the names of its inputs and outputs, in order."""

    file: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Size in bytes and SHA-256 (hex) of a file."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose manifest is valid. `stride`: image pixels per feature cell. `figures`: measured facts,
    as JSON. `confidence`: None where it was not calibrated (`dff calibrate`). `int8`: file by name of each
    graph that there is in 8 bits too (`dff quantise`).
    """

    path: Path
    spec: ModelSpec
    stride: int
    graphs: Mapping[str, GraphFile]
    files: Mapping[str, FileFacts]
    created_by: str = ''
    figures: Mapping[str, object] = field(default_factory=dict)
    confidence: ConfidenceCalibration | None = None
    int8: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.name

    @property
    def score_stride(self) -> int:
        """Image pixels per cell of the class scores: finer than the feature's where detail sharpens them."""
        return LIGHT_STRIDE if self.spec.detail else self.stride

    def graph_path(self, graph: str, precision: str = 'fp32') -> Path:
        """Path of a graph's file, with precision 'int8' the one in 8 bits if there is any; BundleError if the
        bundle has no such graph.
        """
        if graph not in self.graphs:
            raise BundleError(f'bundle {self.path} has no graph {graph!r}; it has {", ".join(self.graphs)}')
        file = self.graphs[graph].file
        return self.path / (self.int8.get(graph, file) if precision == 'int8' else file)

    @property
    def weights_path(self) -> Path:
        """Path of the weights that the torch backend reads."""
        return self.path / WEIGHTS

    def verify(self) -> None:
        """Compare every file with the manifest; BundleError naming the first that is missing or differs."""
        for name, facts in self.files.items():
            path = self.path / name
            try:
                size = check_regular(path)
                is_same = size == facts.size and file_facts(path).sha256 == facts.sha256
            except OSError as error:
                raise BundleError(f'{path} cannot be read ({error.strerror}): {_EXPORT_AGAIN}') from error
            if size != facts.size:
                raise BundleError(f'{path} has {size} bytes, the manifest says {facts.size}: {_EXPORT_AGAIN}')
            if not is_same:
                raise BundleError(
                    f'{path} is not the file of the manifest (SHA-256 differs): {_EXPORT_AGAIN}'
                )

    @property
    def version(self) -> int:
        """Format version of its manifest."""
        if self.int8:
            return 6
        if self.confidence is not None:
            return 5
        if self.spec.quality_channels:
            return 4
        if self.spec.tasks != ('segmentation',):
            return 3
        return 2 if self.spec.light_channels else 1

    def manifest(self) -> dict[str, object]:
        """As `manifest.json` stores it."""
        newer = [names for version, names in _ENTRIES_OF_VERSION.items() if version > self.version]
        later = {name for names in newer for name in names}
        return {
            'format': FORMAT,
            'version': self.version,
            'model': {name: value for name, value in self.spec.to_dict().items() if name not in later},
            'stride': self.stride,
            'graphs': {
                name: {'file': graph.file, 'inputs': list(graph.inputs), 'outputs': list(graph.outputs)}
                for name, graph in self.graphs.items()
            },
            'files': {
                name: {'size': facts.size, 'sha256': facts.sha256} for name, facts in self.files.items()
            },
            'created_by': self.created_by,
            'figures': dict(self.figures),
            **({} if self.confidence is None else {_CONFIDENCE: self.confidence.to_dict()}),
            **({_INT8: dict(self.int8)} if self.int8 else {}),
        }


def task_graph_names(spec: ModelSpec) -> tuple[str, ...]:
    """The graphs of a model's tasks, in their order."""
    return tuple(_GRAPH_OF_TASK[task] for task in spec.tasks)


def open_bundle(path_or_name: str | Path, *, verify: bool = True) -> Bundle:
    """The bundle of a directory, or of a name that `bundle_names` lists; nothing in it is executed. A bundle
    in the working directory goes before one of that name that comes with the package.

    Raises BundleError, naming the file and what to do, for a directory or manifest that is missing, not
    valid, of another format or version, and (with `verify`) for a file that is not the one in the manifest.
    """
    path = _find(path_or_name)
    bundle = _parse(path, _read_manifest(path / MANIFEST))
    if verify:
        bundle.verify()
    return bundle


def write_manifest(bundle: Bundle) -> None:
    """Write the manifest of a bundle into its directory, whole or not at all; DffError names the file."""
    text = json.dumps(bundle.manifest(), indent=2, allow_nan=False) + '\n'
    write_whole(bundle.path / MANIFEST, text.encode())


def bundle_names() -> list[str]:
    """Names of the bundles that come with the package."""
    return sorted(
        {entry.parent.name for folder in _model_folders() for entry in folder.glob(f'*/{MANIFEST}')}
    )


def file_facts(path: Path) -> FileFacts:
    """Size and SHA-256 of a file."""
    with path.open('rb') as stream:
        digest = hashlib.file_digest(stream, 'sha256')
        return FileFacts(stream.tell(), digest.hexdigest())


def _model_folders() -> Iterator[Path]:
    return (folder / 'models' for folder in share_folders())


def _find(path_or_name: str | Path) -> Path:
    path = Path(path_or_name).expanduser()
    if (path / MANIFEST).is_file():
        return path
    if str(path_or_name) == path.name:
        for folder in _model_folders():
            if (folder / path.name / MANIFEST).is_file():
                return folder / path.name
    if path.is_dir():
        return path  # what it lacks is told by who reads it
    known = ', '.join(bundle_names()) or 'none'
    raise BundleError(
        f'there is no bundle {str(path_or_name)!r}: give a directory that `dff export` wrote, '
        f'or a name (known: {known})'
    )


def _read_manifest(path: Path) -> Mapping[str, object]:
    try:
        if check_regular(path) > _MAX_MANIFEST_BYTES:
            raise BundleError(
                f'{path} is larger than {_MAX_MANIFEST_BYTES} bytes: no manifest of a bundle is'
            )
        values: object = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise BundleError(
            f'{path} is missing: {path.parent} is no bundle, or an incomplete one; {_EXPORT_AGAIN}'
        ) from None
    except OSError as error:
        raise BundleError(f'{path} cannot be read: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f'{path} is not valid JSON ({error}): {_EXPORT_AGAIN}') from error
    manifest = _mapping(values, path, 'the manifest')
    version = manifest.get('version')
    if manifest.get('format') != FORMAT or type(version) is not int or version < 1:
        raise BundleError(f'{path} is not the manifest of a {FORMAT}')
    if version > VERSION:
        raise BundleError(
            f'{path} has format version {version}, this program reads up to {VERSION}: update dff_ros'
        )
    differing = ', '.join(sorted((set(manifest) ^ _ENTRIES) - {_CONFIDENCE, _INT8}))
    if differing:
        raise BundleError(f'{path}: unknown or missing entries ({differing}): {_EXPORT_AGAIN}')
    return manifest


def _parse(path: Path, manifest: Mapping[str, object]) -> Bundle:
    source = path / MANIFEST
    calibration = manifest.get(_CONFIDENCE)
    try:
        spec = ModelSpec.from_dict(_mapping(manifest['model'], source, 'model'))
        if calibration is not None:
            calibration = ConfidenceCalibration.from_dict(_mapping(calibration, source, _CONFIDENCE))
    except ConfigError as error:
        raise BundleError(f'{source}: {error}') from error
    files = _parse_files(manifest['files'], source)
    graphs = _parse_graphs(manifest['graphs'], spec, source)
    int8 = _parse_int8(manifest.get(_INT8, {}), graphs, source)
    for name in [*(graph.file for graph in graphs.values()), *int8.values(), WEIGHTS]:
        if name not in files:
            raise BundleError(f'{source}: files has no entry for {name}: {_EXPORT_AGAIN}')
    stride = manifest['stride']
    if type(stride) is not int or not 1 <= stride <= _MAX_STRIDE:
        raise BundleError(f'{source}: stride is {stride!r}, expected a number from 1 to {_MAX_STRIDE}')
    return Bundle(
        path=path,
        spec=spec,
        stride=stride,
        graphs=graphs,
        files=files,
        created_by=printable(manifest['created_by'], source, 'created_by'),
        figures=_mapping(manifest['figures'], source, 'figures'),
        confidence=calibration,
        int8=int8,
    )


def _parse_files(values: object, source: Path) -> dict[str, FileFacts]:
    files: dict[str, FileFacts] = {}
    for name, entry in _mapping(values, source, 'files').items():
        facts = _mapping(entry, source, f'files.{name}')
        size, sha256 = facts.get('size'), facts.get('sha256')
        if type(size) is not int or not isinstance(sha256, str):
            raise BundleError(f'{source}: files.{name} needs size (bytes) and sha256')
        files[file_name(name, source)] = FileFacts(size, sha256)
    return files


def _parse_graphs(values: object, spec: ModelSpec, source: Path) -> dict[str, GraphFile]:
    graphs: dict[str, GraphFile] = {}
    for name, entry in _mapping(values, source, 'graphs').items():
        facts = _mapping(entry, source, f'graphs.{name}')
        if name not in GRAPHS:
            raise BundleError(f'{source}: unknown graph {name!r}; known are {", ".join(GRAPHS)}')
        inputs, outputs = (
            _names(facts.get(key), source, f'graphs.{name}.{key}') for key in ('inputs', 'outputs')
        )
        graphs[name] = GraphFile(file_name(facts.get('file'), source), inputs, outputs)
    needed = [
        *GRAPHS[:2],
        *task_graph_names(spec),
        *(['look'] if spec.light_outputs else []),
        *(['correct'] if spec.correction_channels else []),
        *(['quality'] if spec.quality_channels else []),
    ]
    missing = [name for name in needed if name not in graphs]
    if missing:
        raise BundleError(f'{source}: graphs has no {missing[0]}: {_EXPORT_AGAIN}')
    if spec.matched and 'image' not in graphs['propagate'].inputs:
        raise BundleError(f'{source}: its propagate is of an older version of this program: {_EXPORT_AGAIN}')
    return graphs


def _parse_int8(values: object, graphs: Mapping[str, GraphFile], source: Path) -> dict[str, str]:
    files = _mapping(values, source, _INT8)
    unknown = sorted(set(files) - set(graphs))
    if unknown:
        raise BundleError(f'{source}: {_INT8} has {unknown[0]!r}, which is none of its graphs')
    return {name: file_name(file, source) for name, file in files.items()}


def _names(value: object, source: Path, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BundleError(f'{source}: {what} must be a list of names')
    return tuple(value)


def _mapping(value: object, source: Path, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BundleError(f'{source}: {what} must be a JSON object, not {type(value).__name__}')
    return cast(Mapping[str, object], value)
