# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Things of the street: rigid groups of textured parallelograms."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from dff_ros.data.street.texture import Deferred, Texture

Pose = Callable[[float], tuple[np.ndarray, np.ndarray]]
"""Time in seconds -> rotation (3, 3) and position (3,), object -> world."""


class Layer(IntEnum):
    """Order of drawing: the ground, then shadows on it, then everything that stands on it."""

    GROUND = 0
    SHADOW = 1
    SOLID = 2


@dataclass(frozen=True, slots=True)
class Face:
    """A textured parallelogram; columns of `frame`: U (texture right), V (texture down), top left corner."""

    texture: Texture | Deferred
    frame: np.ndarray
    label: int
    is_lit: bool = True
    is_two_sided: bool = False
    layer: Layer = Layer.SOLID


@dataclass(frozen=True, eq=False)
class Thing:
    """Faces that move together. `uid` names it in every frame; `instance` is 0 for background stuff."""

    uid: tuple[int, ...]
    faces: tuple[Face, ...]
    instance: int = 0
    pose: Pose | None = None
    frames: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'frames', np.stack([face.frame for face in self.faces]))

    def world(self, t: float) -> np.ndarray:
        """Frames of all faces in the world at time t: (faces, 3, 3)."""
        if self.pose is None:
            return self.frames
        rotation, position = self.pose(t)
        world = rotation @ self.frames
        world[:, :, 2] += position
        return world


def upright(left: np.ndarray, right: np.ndarray, top: float, bottom: float = 0.0) -> np.ndarray:
    """Frame of a wall between two points (x, z), left and right as its viewer sees them."""
    return np.array(
        [[right[0] - left[0], 0.0, left[0]], [0.0, bottom - top, top], [right[1] - left[1], 0.0, left[1]]]
    )


def plane(corner: np.ndarray, right: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Frame of the parallelogram with the given top left, top right and bottom left corners (x, y, z)."""
    return np.stack([right - corner, below - corner, corner], -1)


def heading_rotation(heading: float) -> np.ndarray:
    """Object (x right, y up, z forward) -> world."""
    c, s = math.cos(heading), math.sin(heading)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
