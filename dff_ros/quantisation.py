# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Graphs in 8 bits for a bundle that exists: ranges of activations from images, and what it costs."""

from __future__ import annotations

import dataclasses
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import onnx
import onnxruntime

from dff_ros.activation_ranges import ActivationRange
from dff_ros.backends.base import available_cores
from dff_ros.backends.onnx_editing import read_graph
from dff_ros.backends.onnx_providers import NAMES
from dff_ros.backends.runner import TAP_NAMES, Array, image_taps
from dff_ros.bundle import Bundle, file_facts, open_bundle, write_manifest
from dff_ros.bundle_folder import put_in_place, temporary_sibling
from dff_ros.errors import DffError
from dff_ros.geometry import network_size
from dff_ros.int8_graphs import Int8Plan, Range, plan_int8, quantised, weight_values
from dff_ros.verification import ClipComparison, Image, check_int8, compare_backends

MIN_IMAGES = 8
"""Fewer do not tell the ranges of activations."""
NUM_COMPARED = 6
"""Last frames of the source, which are not calibrated on but compared."""

_SPACING = 10
"""Every n-th frame of a source whose end is not known."""

Plans = Mapping[str, tuple[onnx.ModelProto, Int8Plan]]
"""By the name of a graph: the graph with its weights inside, and what of it is quantised."""
Report = Callable[[str, int, int], None]
"""Is told a stage, how much of it is done, and of how much."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frames:
    """Where calibration images come from: `num_wanted` of `images`, spread over the `num_frames` that there
    are (None: not known); the last ones after them are for comparing.
    """

    images: Iterable[Image]
    num_frames: int | None
    num_wanted: int

    @property
    def step(self) -> int:
        """Every how many frames one is taken."""
        if self.num_frames is None:
            return _SPACING
        return max(1, (self.num_frames - NUM_COMPARED) // self.num_wanted)


def quantise_bundle(
    bundle: Bundle,
    frames: Frames,
    out: Path,
    *,
    facts: Mapping[str, object] | None = None,
    num_threads: int = 0,
    report: Report = lambda stage, done, total: None,
) -> tuple[Bundle, list[ClipComparison]]:
    """Write the bundle, with graphs in 8 bits beside its others, into `out`, which may be its own directory.

    The result is compared with torch in single precision; the figures, with `facts`, go into the manifest. On
    any failure nothing is changed. DffError where there is nothing to quantise, there are too few frames, or
    the comparison fails.
    """
    num_threads = num_threads or available_cores()
    plans = _plans(bundle)
    if 'extract' not in plans:
        raise DffError(f'{bundle.path} has nothing to quantise: export the model again (dff export)')
    ranges, clip, num_images = _calibrate(bundle, plans, frames, num_threads, report)
    with temporary_sibling(out) as folder:
        report('writing the graphs', 0, 1)
        shutil.copytree(bundle.path, folder, dirs_exist_ok=True)
        for name in set(bundle.int8.values()):
            (folder / name).unlink()
        made = _write_graphs(bundle, plans, ranges, folder)
        report('comparing with single precision', 0, 1)
        comparisons = compare_backends(made, clip, num_threads, precision='int8')
        check_int8(comparisons)
        report('comparing with single precision', 1, 1)
        verification = [item.facts() for item in comparisons]
        figures = {**(facts or {}), 'num_images': num_images, 'verification': verification}
        write_manifest(dataclasses.replace(made, figures={**made.figures, 'int8': figures}))
        put_in_place(folder, out)
    return open_bundle(out), comparisons


def check_target(bundle: Bundle, out: Path | None) -> Path:
    """The directory to write, its own by default; DffError for another one that exists."""
    if out is None or out.resolve() == bundle.path.resolve():
        return bundle.path.resolve()
    if out.exists():
        raise DffError(f'{out} exists: choose another --out')
    return out


def _plans(bundle: Bundle) -> Plans:
    """The graphs that have anything to quantise."""
    protos = {name: read_graph(bundle, name) for name in bundle.graphs}
    plans = {name: (proto, plan_int8(proto)) for name, proto in protos.items()}
    return {name: (proto, plan) for name, (proto, plan) in plans.items() if plan.nodes}


def _calibrate(
    bundle: Bundle,
    plans: Plans,
    frames: Frames,
    num_threads: int,
    report: Report,
) -> tuple[dict[str, dict[str, Range]], list[Image], int]:
    """Ranges by graph and tensor, the frames to compare, and how many images there were."""
    observed = _Observed(bundle, plans, num_threads)
    recent: deque[Image] = deque(maxlen=NUM_COMPARED + 1)
    num_done = 0
    for index, image in enumerate(frames.images):
        recent.append(image)
        if index < NUM_COMPARED:
            continue
        if num_done == frames.num_wanted:
            break
        if (index - NUM_COMPARED) % frames.step == 0:
            observed.add(recent[0])
            num_done += 1
            report('calibrating', num_done, frames.num_wanted)
    if num_done < MIN_IMAGES:
        raise DffError(
            f'calibration takes {MIN_IMAGES} images, and {NUM_COMPARED} more to compare; besides those there '
            f'were {num_done}: give a longer source, or more of it'
        )
    return observed.ranges(), list(recent)[-NUM_COMPARED:], num_done


class _Observed:
    """The graphs of plans in single precision, with the planned tensors as further outputs."""

    def __init__(self, bundle: Bundle, plans: Plans, num_threads: int) -> None:
        self._bundle = bundle
        self._sessions = {
            name: _open_observed(proto, plan, num_threads) for name, (proto, plan) in plans.items()
        }
        self._found = {
            name: {tensor: ActivationRange() for tensor in plan.tensors} for name, (_, plan) in plans.items()
        }

    def add(self, image_HW3: Image) -> None:
        """Let the graphs look at an image. Its key frame is itself: what depends on another one is not
        quantised.
        """
        size = (image_HW3.shape[0], image_HW3.shape[1])
        taps = image_taps(size, network_size(size, self._bundle.spec.nominal_size))
        inputs: dict[str, Array] = {'image': image_HW3, **dict(zip(TAP_NAMES, taps, strict=True))}
        seen = self._run('extract', inputs)
        seen['image'] = seen.get('normalised', image_HW3)
        for name in self._sessions:
            if name != 'extract':
                keys = [key for key in self._bundle.graphs[name].inputs if key.startswith('key_')]
                self._run(name, {**inputs, **{key: seen[key.removeprefix('key_')] for key in keys}})

    def ranges(self) -> dict[str, dict[str, Range]]:
        """By graph and tensor."""
        return {
            graph: {tensor: found.limits() for tensor, found in tensors.items()}
            for graph, tensors in self._found.items()
        }

    def _run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of the graph as the bundle has it."""
        outputs, tensors = self._bundle.graphs[graph].outputs, self._found[graph]
        names = list(dict.fromkeys((*outputs, *tensors)))
        values = dict(zip(names, self._sessions[graph].run(names, dict(inputs)), strict=True))
        for tensor, found in tensors.items():
            found.add(values[tensor])
        return {name: values[name] for name in outputs}


def _open_observed(proto: onnx.ModelProto, plan: Int8Plan, num_threads: int) -> onnxruntime.InferenceSession:
    observed = onnx.ModelProto()
    observed.CopyFrom(proto)
    there = {value.name for value in observed.graph.output}
    observed.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in plan.tensors
        if name not in there
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    content: bytes = observed.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=[NAMES['cpu']])


def _write_graphs(
    bundle: Bundle, plans: Plans, ranges: Mapping[str, Mapping[str, Range]], folder: Path
) -> Bundle:
    """The graphs in 8 bits, in a directory that holds the bundle's files; returns what the bundle then is."""
    files = {name: facts for name, facts in bundle.files.items() if name not in bundle.int8.values()}
    int8: dict[str, str] = {}
    for name, (whole, plan) in plans.items():
        stored = onnx.load(bundle.graph_path(name), load_external_data=False)
        proto = quantised(stored, plan, weight_values(whole), ranges[name])
        int8[name] = f'{name}.int8.onnx'
        path = folder / int8[name]
        path.write_bytes(proto.SerializeToString(deterministic=True))
        onnx.checker.check_model(path)
        files[path.name] = file_facts(path)
    return dataclasses.replace(bundle, path=folder, files=files, int8=int8)
