# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How good a flow is: end-point error on exact pairs, photometric error on videos without any truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dff_ros.backends.dis import DisFlow
from dff_ros.data.images import image_folders, read_image
from dff_ros.data.pair_sample import ExactPairs, PairSample
from dff_ros.errors import DataError
from dff_ros.geometry import grid_size, network_size, upsample_matrix
from dff_ros.nets.warp import coverage, warp
from dff_ros.training.flow_loss import cell_flow
from dff_ros.training.flow_trainer import FlowModel

Image = NDArray[np.uint8]
CellFlow = Callable[[Image, Image], NDArray[np.float32]]
"""(current, key) -> backward flow (2, h, w) in feature cells."""
Figures = dict[str, float]
"""What a table's row holds, by name."""
ShowProgress = Callable[[int, int], None]

PHOTOMETRIC_SPACINGS = (1, 5)
"""Frames from the key to the current frame."""

_MAX_PER_VIDEO = 20
_INSIDE = 0.999


def flow_methods(model: FlowModel, num_threads: int) -> dict[str, CellFlow]:
    """What is compared: the net, DIS flow and zero flow."""
    stride = model.flow_net.stride
    dis = DisFlow(stride, num_threads)

    def dis_flow(current: Image, key: Image) -> NDArray[np.float32]:
        height, width = current.shape[:2]
        current, key = (dis.prepare(image, (height, width)) for image in (current, key))
        return dis.flow(current, key, (height, width))

    def zero_flow(current: Image, key: Image) -> NDArray[np.float32]:
        height, width = current.shape[:2]
        return np.zeros((2, *grid_size((height, width), stride)), np.float32)

    return {'net': model.flow, 'dis': dis_flow, 'zero': zero_flow}


def pixel_flow(flow_2hw: NDArray[np.float32], size: tuple[int, int], stride: int) -> NDArray[np.float32]:
    """A flow in cells at all pixels (2, H, W), in pixels: bilinear, as class scores are brought to pixels."""
    height, width = size
    rows, columns = upsample_matrix(height, height, stride), upsample_matrix(width, width, stride)
    return np.asarray(stride * (rows @ flow_2hw @ columns.T), np.float32)


def held_out_error(
    methods: Mapping[str, CellFlow], pairs: ExactPairs, stride: int, show: ShowProgress
) -> Figures:
    """End-point error in pixels over the valid pixels of all pairs, as `<method>_epe_px`.

    `exact_epe_px` is that of the exact flow averaged over the cells: nothing at this stride can do much
    better.
    """
    totals = dict.fromkeys((*methods, 'exact'), 0.0)
    num_pixels = 0
    for index in range(len(pairs)):
        pair = pairs[index]
        exact_2HW, is_visible_HW = pair.exact_flow()
        size = is_visible_HW.shape[0], is_visible_HW.shape[1]
        flows = {name: method(pair.current_HW3, pair.key_HW3) for name, method in methods.items()}
        flows['exact'] = _exact_cells(pair, stride)
        for name, flow_2hw in flows.items():
            difference = pixel_flow(flow_2hw, size, stride) - exact_2HW
            totals[name] += float(np.hypot(*difference)[is_visible_HW].sum())
        num_pixels += int(np.count_nonzero(is_visible_HW))
        show(index + 1, len(pairs))
    errors = {f'{name}_epe_px': round(total / max(num_pixels, 1), 3) for name, total in totals.items()}
    return {'num_pairs': len(pairs), **errors}


def _exact_cells(pair: PairSample, stride: int) -> NDArray[np.float32]:
    flow, is_visible = (torch.from_numpy(array)[None] for array in pair.exact_flow())
    return np.asarray(cell_flow(flow, is_visible, stride)[0][0].numpy() / stride, np.float32)


def photometric_error(
    methods: Mapping[str, CellFlow],
    root: Path,
    nominal_size: tuple[int, int],
    stride: int,
    show: ShowProgress,
) -> dict[str, Figures]:
    """Mean |I_t - warp(I_k)| in grey levels of 255, as `<method>_error`, for each of PHOTOMETRIC_SPACINGS.

    Every folder with enough images, at or below `root`, is a video. Frames are brought to the size that a
    network of that nominal size sees. Pixels count where every method's flow stays inside the key frame, so
    all have the same. DataError where no video is long enough, or an image is damaged.
    """
    videos = find_videos(root)
    rows: dict[str, Figures] = {}
    for number, spacing in enumerate(PHOTOMETRIC_SPACINGS):
        totals = dict.fromkeys(methods, 0.0)
        num_pairs, num_pixels = 0, 0
        for done, paths in enumerate(videos):
            for current, key in _frames(paths, spacing, nominal_size):
                errors, is_covered = _warp_errors(methods, current, key, stride)
                for name, error_HW in errors.items():
                    totals[name] += float(error_HW[is_covered].sum())
                num_pixels += int(np.count_nonzero(is_covered))
                num_pairs += 1
            show(number * len(videos) + done + 1, len(PHOTOMETRIC_SPACINGS) * len(videos))
        means = {f'{name}_error': round(total / max(num_pixels, 1), 3) for name, total in totals.items()}
        rows[f'spacing {spacing}'] = {'num_pairs': num_pairs, **means}
    return rows


def find_videos(root: Path) -> list[list[Path]]:
    """The images of each video for `photometric_error`; DataError where none is long enough for it."""
    videos = [paths for paths in image_folders(root).values() if len(paths) > max(PHOTOMETRIC_SPACINGS)]
    if not videos:
        raise DataError(
            f'no folder in {root} has more than {max(PHOTOMETRIC_SPACINGS)} images: give one that holds a '
            'folder of images for each video'
        )
    return videos


def _frames(
    paths: Sequence[Path], spacing: int, nominal_size: tuple[int, int]
) -> Iterator[tuple[Image, Image]]:
    """(current, key) at network size, evenly spaced over a video; pairs of different sizes are left out."""
    num_currents = len(paths) - spacing
    for index in np.unique(np.linspace(0, num_currents - 1, min(num_currents, _MAX_PER_VIDEO)).astype(int)):
        current, key = read_image(paths[index + spacing]), read_image(paths[index])
        if current.shape != key.shape:
            continue
        height, width = network_size((current.shape[0], current.shape[1]), nominal_size)
        yield tuple(  # type: ignore[misc]
            np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
            for image in (current, key)
        )


def _warp_errors(
    methods: Mapping[str, CellFlow], current: Image, key: Image, stride: int
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """Per method the mean difference of the colours (H, W), and where all methods are inside."""
    size = current.shape[0], current.shape[1]
    now, then = (
        torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] for image in (current, key)
    )
    errors = {}
    is_covered = np.ones(size, bool)
    for name, method in methods.items():
        flow = torch.from_numpy(pixel_flow(method(current, key), size, stride))[None]
        errors[name] = (now - warp(then, flow)).abs().mean(dim=1)[0].numpy()
        is_covered &= (coverage(flow)[0, 0] >= _INSIDE).numpy()
    return errors, is_covered
