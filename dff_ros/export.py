# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Write a bundle from a training run, and verify it against torch before it gets its name."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dff_ros.bundle import MANIFEST, WEIGHTS, Bundle, GraphFile, file_facts, open_bundle, write_manifest
from dff_ros.bundle_folder import put_in_place, temporary_sibling
from dff_ros.errors import DffError
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.dff import DffModel, load_model, read_spec
from dff_ros.onnx_graphs import write_graphs
from dff_ros.verification import ClipComparison, Image, check_comparisons, compare_backends

_CARD = 'MODEL_CARD.md'


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
    with temporary_sibling(out) as folder:
        report('writing the graphs')
        if card is not None:
            shutil.copyfile(card, folder / _CARD)
        bundle = write_bundle(
            model, folder, created_by=f'dff export {run.name} --out {out.name}', facts=facts
        )
        report('comparing torch and ONNX Runtime')
        comparisons = compare_backends(bundle, clip)
        check_comparisons(comparisons)
        verification = {'verification': [item.facts() for item in comparisons]}
        bundle = dataclasses.replace(bundle, figures={**bundle.figures, **verification})
        write_manifest(bundle)
        put_in_place(folder, out)
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


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise DffError(f'{out} exists: choose another --out, or give --overwrite')
    if not (out / MANIFEST).is_file():
        raise DffError(f'{out} is no bundle and will not be overwritten: choose another --out')
