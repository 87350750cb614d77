# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the exporter makes of operators that are the package's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import torch
from onnxscript import opset20

import dff_ros.nets.boxes  # noqa: F401  its operators become known to torch

_op: Any = opset20  # its types are those of values, not of what a graph is built from


def translations() -> dict[Callable[..., object], Callable[..., object]]:
    """For `torch.onnx.export`: each operator, and the function that builds its graph."""
    return {torch.ops.dff_ros.suppress.default: _suppress}


def _suppress(boxes, scores, iou_threshold, score_threshold, max_kept: int):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """`nets.boxes.suppress`: NonMaxSuppression gives rows of image, class and box."""
    limit = _op.Constant(value_ints=[max_kept])
    kept = _op.NonMaxSuppression(boxes, scores, limit, iou_threshold, score_threshold)
    nothing = _op.Expand(_op.Constant(value_int=0), _op.Shape(scores))
    ones = _op.Expand(_op.Constant(value_int=1), _op.Shape(kept, start=0, end=1))
    return _op.Cast(_op.ScatterND(nothing, kept, ones), to=onnx.TensorProto.BOOL)
