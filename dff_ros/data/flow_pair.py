"""What every source of exact flow gives: image pairs by index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FlowPair:
    """`current_HW3`, `key_HW3`: uint8 RGB; `flow_2HW`: float32, backward (current -> key), x then y, in
    pixels; `is_valid_HW`: where what is seen in the current image is seen in the key image too.
    """

    current_HW3: NDArray[np.uint8]
    key_HW3: NDArray[np.uint8]
    flow_2HW: NDArray[np.float32]
    is_valid_HW: NDArray[np.bool_]

    def flipped(self) -> FlowPair:
        """Its mirror image, left and right exchanged."""
        flow_2HW = self.flow_2HW[..., ::-1] * np.array([-1, 1], np.float32)[:, None, None]
        return FlowPair(
            np.ascontiguousarray(self.current_HW3[:, ::-1]),
            np.ascontiguousarray(self.key_HW3[:, ::-1]),
            flow_2HW,
            np.ascontiguousarray(self.is_valid_HW[:, ::-1]),
        )


class FlowPairs(Protocol):
    """Pairs of one size, 0 .. len - 1, which may be read from several threads at once."""

    def __len__(self) -> int:
        """How many pairs there are."""
        ...

    def __getitem__(self, index: int) -> FlowPair:
        """One pair."""
        ...
