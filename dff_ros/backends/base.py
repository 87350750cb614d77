"""The seam between the engine and everything numeric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dff_ros.types import ContextT, FeatureT, KeyFeature, Propagation, Segmentation


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What really runs, for logs and reports; `choice` says why this backend was taken."""

    name: str
    device: str
    runtime: str
    num_threads: int
    choice: str


class Backend(Protocol[FeatureT, ContextT]):
    """Three verbs over opaque handles, called from one thread at a time.

    Images are (H, W, 3) uint8 RGB, C-contiguous, of any size from MIN_SIDE up. Handles own their memory: a cached
    key feature stays valid until the caller drops it, whatever is computed in between.
    """

    @property
    def info(self) -> BackendInfo:
        """What runs where."""
        ...

    def extract(self, image_HW3: NDArray[np.uint8]) -> KeyFeature[FeatureT, ContextT]:
        """Run the feature network (N_feat) on a key image."""
        ...

    def propagate(
        self, image_HW3: NDArray[np.uint8], key: KeyFeature[FeatureT, ContextT]
    ) -> Propagation[FeatureT]:
        """Equation (3): flow from the current image to the key image, warp, scale map.

        The current image must have the size of the key image; ShapeError otherwise.
        """
        ...

    def predict(
        self, feature: FeatureT, source_size: tuple[int, int], output_size: tuple[int, int]
    ) -> Segmentation:
        """Run the segmentation head; the label map has `output_size`. `source_size` is the image's (height, width)."""
        ...

    def warm_up(self, size: tuple[int, int]) -> None:
        """Run each verb once at an image size, so that the first real frame is not slower than the others."""
        ...

    def close(self) -> None:
        """Free sessions and memory; the backend is unusable afterwards. Calling it twice is harmless."""
        ...
