# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the backend hands out and takes back: opaque to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dff_ros.backends.runner import Size, TensorT
from dff_ros.types import KeyFeature


@dataclass(frozen=True, slots=True)
class FrameFeature(Generic[TensorT]):
    """Handle of a frame's feature (1, C, gh, gw), with the light features that heads take of the same frame,
    by name (`ModelSpec.head_light`).

    numpy takes it for the feature.
    """

    feature: TensorT
    light: Mapping[str, TensorT] = field(default_factory=dict)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.float32]:
        array = np.asarray(self.feature, dtype)
        return array.copy() if copy else array


@dataclass(frozen=True, slots=True)
class KeyContext(Generic[TensorT]):
    """What `propagate` needs of a key image: its size, the input of a flow source, and by name those of the
    graphs: normalised image at half size (`key_image`) and light features (`key_fine`, `key_middle`,
    `key_coarse`). `brightness_hw` is that of its cells (backends/photometric.py), None where nothing is
    warped.
    """

    size: Size
    grey: NDArray[np.uint8] | None
    inputs: Mapping[str, TensorT]
    brightness_hw: NDArray[np.float32] | None = None


Key = KeyFeature[FrameFeature[TensorT], KeyContext[TensorT]]
