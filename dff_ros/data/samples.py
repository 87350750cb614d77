# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What every labelled data set gives: samples by index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Sample:
    """`image_HW3`: uint8 RGB; `labels_HW`: uint8 class ids, 255 unlabelled; `stamp_ns` in the data set."""

    name: str
    image_HW3: NDArray[np.uint8]
    labels_HW: NDArray[np.uint8]
    stamp_ns: int = 0


class LabelledImages(Protocol):
    """A data set: samples 0 .. len - 1, which may be read from several threads at once."""

    def __len__(self) -> int:
        """How many samples there are."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """One sample, read anew; DataError where a file is missing or damaged."""
        ...
