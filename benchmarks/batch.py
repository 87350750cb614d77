# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a batch of key frames would gain in `extract` on ONNX Runtime: time per image by batch size.

    python benchmarks/batch.py --bundle road-r18 --num_threads 1 --out benchmarks/batch.json

Exports the networks of `extract` with a free batch axis and runs every batch size in turn. Processor time is
what counts on one thread of a machine that does other work too; with more threads it contains their waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from arguments import command
from torch import Tensor, nn

from dff_ros.bundle import open_bundle
from dff_ros.nets.dff import DffModel, load_model

BATCHES = (1, 2, 3, 4)


class Extract(nn.Module):
    """Normalised images (B, 3, H, W) -> feature, and the light features where the model has them."""

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        self._nets = nn.ModuleList([net for net in (model.feature_net, model.light_net) if net is not None])

    def forward(self, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for net in self._nets:
            answer = net(images)
            found += [answer] if isinstance(answer, Tensor) else list(answer)
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Export, measure, write JSON."""
    arguments = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(arguments)
    bundle = open_bundle(args.bundle)
    model = load_model(bundle.spec, bundle.weights_path)
    size = bundle.spec.nominal_size
    with tempfile.TemporaryDirectory() as folder:
        session = _open(_export(model, size, Path(folder) / 'extract.onnx'), args.num_threads)
    images = np.random.default_rng(0).standard_normal((max(BATCHES), 3, *size)).astype(np.float32)
    report = {
        'command': command(Path(__file__).name, arguments),
        'runtime': f'onnxruntime {onnxruntime.__version__}',
        'cores': os.cpu_count(),
        'num_threads': args.num_threads,
        'size': list(size),
        'max_difference': _difference(session, images),
        'rows': _measure(session, images, args.rounds),
    }
    text = json.dumps(report, indent=2) + '\n'
    args.out.write_text(text, encoding='utf-8')
    print(text, end='')
    return 0


def _export(model: DffModel, size: tuple[int, int], path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            Extract(model).eval(),
            (torch.zeros(2, 3, *size),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim('batch')},),
            input_names=['images'],
            verbose=False,
        )
    if program is None:
        raise RuntimeError('torch did not export the networks of extract')
    program.save(str(path))
    return path


def _open(path: Path, num_threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.add_session_config_entry('session.force_spinning_stop', '1')  # as dff_ros/backends/onnx.py
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def _difference(session: onnxruntime.InferenceSession, images: np.ndarray) -> float:
    """Largest between the outputs of a batch and those of its images one by one."""
    together = session.run(None, {'images': images})
    alone = [session.run(None, {'images': images[index : index + 1]}) for index in range(len(images))]
    return max(
        float(np.abs(output[index] - alone[index][number][0]).max())
        for number, output in enumerate(together)
        for index in range(len(images))
    )


def _measure(
    session: onnxruntime.InferenceSession, images: np.ndarray, rounds: int
) -> list[dict[str, float]]:
    wall_ms: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    cpu_ms: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for number in range(rounds + 2):
        for batch in BATCHES:
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            session.run(None, {'images': images[:batch]})
            if number >= 2:  # the runtime settles its buffers in the first runs
                wall_ms[batch].append((time.perf_counter() - wall_s) * 1e3 / batch)
                cpu_ms[batch].append((time.process_time() - cpu_s) * 1e3 / batch)
    return [
        {
            'batch': batch,
            'cpu_ms_per_image_min': round(min(cpu_ms[batch]), 2),
            'cpu_ms_per_image': round(statistics.median(cpu_ms[batch]), 2),
            'ms_per_image': round(statistics.median(wall_ms[batch]), 2),
        }
        for batch in BATCHES
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--bundle', default='road-r18')
    parser.add_argument('--num_threads', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--out', type=Path, required=True)
    return parser


if __name__ == '__main__':
    raise SystemExit(main())
