# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The course of the road and the drive of the camera along it.

World: x east, y up, z north, metres. Road coordinates: s along the centre line, d to the right of it.
"""

import math
from dataclasses import dataclass

import numpy as np

from dff_ros.data.street.hashing import rng_of, uniforms

_STEP_M = 0.5
_PAGE = 256
_NODE_M = 40.0
_START_S = 300.0
_PHASE_S = 5.0
_FREQUENCIES = np.array([0.31, 0.57, 1.1, 2.3, 7.0, 11.0, 13.0, 0.23])


class Course:
    """The centre line: a curve whose curvature is random, smooth and mostly small; starts at s = 0."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._heading = np.zeros(1)
        self._xz = np.zeros((1, 2))
        self._pages = 0

    def locate(self, s: float | np.ndarray, d: float | np.ndarray = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Position (..., 2) as x, z and heading (...) in radians clockwise from north."""
        s = np.maximum(np.asarray(s, np.float64), 0.0)
        self._extend(float(s.max()) + 2.0)
        index = np.minimum((s / _STEP_M).astype(np.int64), len(self._heading) - 2)
        t = s / _STEP_M - index
        heading = self._heading[index] * (1 - t) + self._heading[index + 1] * t
        xz = self._xz[index] * (1 - t)[..., None] + self._xz[index + 1] * t[..., None]
        right = np.stack([np.cos(heading), -np.sin(heading)], -1)
        return xz + right * np.asarray(d, np.float64)[..., None], heading

    def _curvature_node(self, node: int) -> float:
        kind, value = uniforms(2, self._seed, 11, node)
        return 0.0 if kind < 0.55 else (value - 0.5) / 32.0

    def _extend(self, s: float) -> None:
        while len(self._heading) * _STEP_M <= s:
            at = (self._pages * _PAGE + np.arange(_PAGE)) * _STEP_M / _NODE_M
            node = np.floor(at).astype(int)
            values = np.array([self._curvature_node(k) for k in range(int(node[0]), int(node[-1]) + 2)])
            t = at - node
            t = t * t * (3 - 2 * t)
            curvature = values[node - node[0]] * (1 - t) + values[node - node[0] + 1] * t
            heading = self._heading[-1] + np.cumsum(curvature) * _STEP_M
            steps = np.stack([np.sin(heading), np.cos(heading)], -1) * _STEP_M
            self._xz = np.concatenate([self._xz, self._xz[-1] + np.cumsum(steps, 0)])
            self._heading = np.concatenate([self._heading, heading])
            self._pages += 1


@dataclass(frozen=True)
class CameraPose:
    """Where the camera is: s in metres, position (3,), rotation world -> camera (3, 3)."""

    s: float
    position: np.ndarray
    rotation: np.ndarray


class Drive:
    """The camera's motion: speed that changes between random values (stops too), sway, pitch and bob."""

    def __init__(self, seed: int, course: Course, lane_d: float) -> None:
        rng = rng_of(seed, 12)
        self._seed = seed
        self._course = course
        self._lane_d = lane_d
        self.cruise = float(rng.uniform(5.0, 12.0))
        self._height = float(rng.uniform(1.25, 1.6))
        self._pitch = float(rng.uniform(-0.03, 0.025))
        self._yaw = float(rng.normal(0.0, 0.015))
        self._shake = float(rng.uniform(0.3, 1.2))
        self._phase = rng.uniform(0.0, 2 * math.pi, 8)
        self._starts = [_START_S]

    def _speed_node(self, node: int) -> float:
        kind, value = uniforms(2, self._seed, 13, node)
        if kind < 0.12 and node > 1:
            return 0.0
        return self.cruise * (0.55 + 0.75 * value)

    def distance(self, t: float) -> float:
        """s of the camera at time t (seconds)."""
        node = int(t // _PHASE_S)
        while len(self._starts) <= node + 1:
            k = len(self._starts) - 1
            mean = 0.5 * (self._speed_node(k) + self._speed_node(k + 1))
            self._starts.append(self._starts[-1] + mean * _PHASE_S)
        v0, v1 = self._speed_node(node), self._speed_node(node + 1)
        u = t / _PHASE_S - node
        return self._starts[node] + _PHASE_S * (v0 * u + (v1 - v0) * (u**3 - 0.5 * u**4))

    def arrival(self, s: float) -> float:
        """First time (to 1/64 s) at which the camera has reached s; 0 if it started beyond."""
        node = 0
        while self.distance(node * _PHASE_S) < s:
            node += 1
        low, high = max(0.0, (node - 1) * _PHASE_S), node * _PHASE_S
        while high - low > 1 / 64:
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.distance(middle) < s else (low, middle)
        return high

    def pose(self, t: float) -> CameraPose:
        s = self.distance(t)
        wave = np.sin(_FREQUENCIES * t + self._phase).tolist()
        lane = self._lane_d + 0.25 * wave[0] + 0.1 * wave[1]
        xz, heading = self._course.locate(s, lane)
        _, ahead = self._course.locate(s + 6.0)
        moving = min(1.0, (self.distance(t + 0.1) - s) * 2.0) * self._shake
        yaw = float(0.5 * (heading + ahead)) + self._yaw + 0.012 * wave[1] + 0.008 * wave[2]
        pitch = self._pitch + 0.004 * wave[3] + 0.0025 * moving * wave[4]
        roll = 0.004 * wave[7] + 0.0015 * moving * wave[5]
        position = np.array([xz[0], self._height + 0.012 * moving * wave[6], xz[1]])
        return CameraPose(s, position, rotation_of(yaw, pitch, roll))


def rotation_of(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """World -> camera (x right, y down, z forward); yaw clockwise seen from above, pitch > 0 looks down."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    right = np.array([cy, 0.0, -sy])
    forward = np.array([sy * cp, -sp, cy * cp])
    down = np.cross(right, forward)  # x, y, z of the world are left-handed
    return np.stack([cr * right + sr * down, cr * down - sr * right, forward])
