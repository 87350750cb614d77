"""Write a bundle from a training run, and verify it against torch before it gets its name."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import Backend, open_backend
from dff_ros.bundle import MANIFEST, WEIGHTS, Bundle, GraphFile, file_facts, open_bundle, write_manifest
from dff_ros.config import DffConfig, replace
from dff_ros.errors import DffError
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.dff import DffModel, load_model, read_spec
from dff_ros.onnx_graphs import write_graphs

Image = NDArray[np.uint8]

MIN_AGREEMENT = 0.999
"""Share of pixels of a clip that must get the same label from torch and ONNX Runtime."""
MAX_FEATURE_ERROR = 1e-3
"""Largest difference between their features, as a share of the largest feature value."""

_KEY_INTERVAL = 3
_CARD = 'MODEL_CARD.md'


@dataclass(frozen=True, slots=True)
class ClipComparison:
    """Torch against ONNX Runtime on one clip: `size` (height, width), share of equal labels, feature
    difference; `correction`: whether the correction branch ran.
    """

    size: tuple[int, int]
    num_frames: int
    agreement: float
    feature_error: float
    correction: bool = False


def export_run(
    run: Path,
    out: Path,
    frames: Iterable[Image],
    *,
    card: Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda stage: None,
) -> tuple[Bundle, list[ClipComparison]]:
    """Make the bundle `out` from `model.json` and `model.safetensors` of a training run's directory.

    It is written beside `out`, compared with torch on `frames` at their size and at another one, and renamed
    as a whole. On any failure nothing is left. `report` is told each stage. Raises DataError for an unusable
    run, DffError for a target that exists, a full disk, or a comparison that fails, saying what differed.
    """
    _check_target(out, overwrite)
    spec, facts = read_spec(run / 'model.json')
    if card is not None and not card.is_file():
        raise DffError(f'the model card {card} does not exist')
    report('loading the weights')
    model = load_model(spec, run / 'model.safetensors')
    report('reading the frames')
    clip = list(frames)
    with _temporary_sibling(out) as folder:
        report('writing the graphs')
        if card is not None:
            shutil.copyfile(card, folder / _CARD)
        bundle = write_bundle(
            model, folder, created_by=f'dff export {run.name} --out {out.name}', facts=facts
        )
        report('comparing torch and ONNX Runtime')
        comparisons = compare_backends(bundle, clip)
        check_comparisons(comparisons)
        verification = {'verification': [dataclasses.asdict(item) for item in comparisons]}
        bundle = dataclasses.replace(bundle, figures={**bundle.figures, **verification})
        write_manifest(bundle)
        _rename(folder, out)
    return open_bundle(out), comparisons


def write_bundle(
    model: DffModel, folder: Path, *, created_by: str = '', facts: Mapping[str, object] | None = None
) -> Bundle:
    """Write weights, graphs and manifest of a folded model into a directory; its weights are rounded in
    place.
    """
    graphs = write_graphs(model.eval(), folder)
    bundle = _describe(folder, model.spec, model.stride, graphs, created_by, facts)
    write_manifest(bundle)
    return bundle


def compare_backends(bundle: Bundle, frames: list[Image], num_threads: int = 0) -> list[ClipComparison]:
    """Run the frames, at their size and at two thirds of it, through both backends: a key frame, then
    propagation, with the correction branch and without.
    """
    if not frames:
        raise DffError('there are no frames to compare torch and ONNX Runtime on')
    clips = (frames, [_other_size(frame) for frame in frames])
    comparisons = []
    for correction in (True, False) if bundle.spec.correction_channels else (False,):
        config = DffConfig(device='cpu', num_threads=num_threads, correction=correction)
        with ExitStack() as stack:
            torch_backend, onnx_backend = (
                stack.enter_context(closing(open_backend(bundle, replace(config, {'backend': name}))))
                for name in ('torch', 'onnx')
            )
            comparisons += [_compare_clip(torch_backend, onnx_backend, clip, correction) for clip in clips]
    return comparisons


def check_comparisons(comparisons: Iterable[ClipComparison]) -> None:
    """DffError saying what differed if a clip misses MIN_AGREEMENT or MAX_FEATURE_ERROR."""
    for item in comparisons:
        at = f'torch and ONNX Runtime differ on {item.num_frames} frames of {item.size[1]}x{item.size[0]}'
        at += ' with correction' if item.correction else ''
        if not item.feature_error <= MAX_FEATURE_ERROR:
            raise DffError(f'{at}: features by {item.feature_error:.2g}, allowed is {MAX_FEATURE_ERROR:g}')
        if not item.agreement >= MIN_AGREEMENT:
            raise DffError(f'{at}: {item.agreement:.4%} of labels agree, {MIN_AGREEMENT:.1%} are needed')


def _describe(
    folder: Path,
    spec: ModelSpec,
    stride: int,
    graphs: Mapping[str, GraphFile],
    created_by: str,
    facts: Mapping[str, object] | None,
) -> Bundle:
    names = [WEIGHTS, *(graph.file for graph in graphs.values())]
    return Bundle(
        path=folder,
        spec=spec,
        stride=stride,
        graphs=graphs,
        files={name: file_facts(folder / name) for name in names},
        created_by=created_by,
        figures={'training': dict(facts)} if facts else {},
    )


def _compare_clip(
    torch_backend: Backend[object, object],
    onnx_backend: Backend[object, object],
    clip: list[Image],
    correction: bool,
) -> ClipComparison:
    size = (clip[0].shape[0], clip[0].shape[1])
    num_equal, feature_error = 0, 0.0
    for features in zip(_features(torch_backend, clip), _features(onnx_backend, clip), strict=True):
        expected, found = (np.asarray(feature, np.float32) for feature in features)
        scale = float(np.abs(expected).max()) or 1.0
        feature_error = max(feature_error, float(np.abs(found - expected).max()) / scale)
        labels = [
            backend.predict(feature, size, size).label_map_HW
            for backend, feature in zip((torch_backend, onnx_backend), features, strict=True)
        ]
        num_equal += int((labels[0] == labels[1]).sum())
    agreement = num_equal / (len(clip) * size[0] * size[1])
    return ClipComparison(size, len(clip), agreement, feature_error, correction)


def _features(backend: Backend[object, object], clip: list[Image]) -> Iterator[object]:
    for index, image in enumerate(clip):
        if index % _KEY_INTERVAL == 0:
            key = backend.extract(image)
            yield key.feature
        else:
            yield backend.propagate(image, key).feature


def _other_size(image: Image) -> Image:
    height, width = (max(32, round(side * 2 / 3)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width + 1, height), interpolation=cv2.INTER_AREA), np.uint8)


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise DffError(f'{out} exists: choose another --out, or give --overwrite')
    if not (out / MANIFEST).is_file():
        raise DffError(f'{out} is no bundle and will not be overwritten: choose another --out')


@contextmanager
def _temporary_sibling(out: Path) -> Iterator[Path]:
    """An empty directory beside `out`, on the same file system; gone afterwards unless it was renamed."""
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


def _rename(folder: Path, out: Path) -> None:
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
