# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Placing walls, cut-outs, posts and trees in a zone of the street."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from dff_ros.data.classes import BUILDING, POLE, SIGN, TREE
from dff_ros.data.street import facades, library
from dff_ros.data.street.hashing import rng_of
from dff_ros.data.street.layout import ZONE_M, Caster, Layout, Zone
from dff_ros.data.street.surfaces import Face, upright
from dff_ros.data.street.texture import Deferred, Texture


class Site:
    """The primitives with which a zone is furnished; draws its random numbers from one generator."""

    def __init__(self, layout: Layout, zone: Zone, rng: np.random.Generator) -> None:
        self.layout, self.zone, self.rng, self.road = layout, zone, rng, layout.road
        self.start = zone.number * ZONE_M

    def at(self, s: float, d: float) -> np.ndarray:
        return self.layout.course.locate(s, d)[0]

    def is_in_side_street(self, side: int, s: float, margin: float) -> bool:
        return bool(self.layout.in_junction(side, np.array([s]), margin)[0])

    def wall(
        self, side: int, s0: float, s1: float, d: float, high: float, texture: Texture | Deferred, label: int
    ) -> None:
        """Something flat along the road, seen from it."""
        a, b = self.at(s0, side * d), self.at(s1, side * d)
        left, right = (a, b) if side < 0 else (b, a)
        self.zone.add((Face(texture, upright(left, right, high), label, is_two_sided=label != BUILDING),))
        if label in (BUILDING, TREE):
            self.zone.casters.append(Caster(np.stack([a, b]), high))

    def sprite(
        self,
        texture: Texture | Deferred,
        s: float,
        d: float,
        size: tuple[float, float],
        label: int,
        base: float = 0.0,
        turn: float = 0.0,
    ) -> None:
        """A cut-out of (width, height) across the road, its normal turned by `turn`."""
        xz, heading = self.layout.course.locate(s, d)
        right = np.array([math.cos(heading + turn), -math.sin(heading + turn)]) * size[0] / 2
        frame = upright(xz - right, xz + right, base + size[1], base)
        self.zone.add((Face(texture, frame, label, is_lit=False, is_two_sided=True),))

    def post(self, s: float, d: float, high: float, thick: float) -> None:
        texture = library.pole(self.layout.seed, int(self.rng.integers(6)))
        self.sprite(texture, s, d, (thick, high), POLE)
        angle = np.array([0.0, 2.1, 4.2])
        self.zone.casters.append(
            Caster(self.at(s, d) + 0.06 * np.stack([np.cos(angle), np.sin(angle)], -1), high)
        )

    def post_with_sign(self, s: float, d: float) -> None:
        texture, width, height = library.sign(self.layout.seed, int(self.rng.integers(24)))
        base = float(self.rng.uniform(1.6, 2.5)) if height < 1.0 else float(self.rng.uniform(0.4, 1.4))
        self.post(s, d, base + height, 0.08)
        self.sprite(texture, s - 0.06, d, (width, height), SIGN, base)

    def tree(self, s: float, d: float, size: float) -> None:
        texture = library.tree(
            self.layout.seed, int(self.rng.integers(10)), self.road.leafiness, 1 if d > 0 else -1
        )
        turn = -math.copysign(self.rng.uniform(0.0, 0.35), d)
        self.sprite(texture, s, d, (size * self.rng.uniform(0.85, 1.1), size), TREE, turn=turn)
        angle = np.linspace(0, 2 * math.pi, 9)[:-1]
        ring = np.stack([np.cos(angle), np.sin(angle)], -1)
        for _ in range(4):
            middle = self.at(s, d) + self.rng.normal(0, size * 0.12, 2)
            radius = size * self.rng.uniform(0.1, 0.2)
            low = size * self.rng.uniform(0.5, 0.7)
            self.zone.casters.append(Caster(middle + ring * radius, low + radius, low))
        self.zone.casters.append(Caster(self.at(s, d) + ring * 0.14, size * 0.6))

    def bush(self, s: float, d: float) -> None:
        size = self.rng.uniform(0.7, 2.0)
        self.sprite(library.bush(self.layout.seed, int(self.rng.integers(8))), s, d, (size * 1.3, size), TREE)

    def painter(self) -> Callable[..., Deferred]:
        """A function that defers a painter of `facades`, called with width, height and further arguments."""
        keys = (self.layout.seed, 52, self.zone.number, len(self.zone.things))
        count = itertools.count()

        def defer(painter: Callable[..., Texture], width: float, height: float, *more: object) -> Deferred:
            rng = rng_of(*keys, next(count))
            return Deferred(facades.shape_of(width, height), lambda: painter(rng, width, height, *more))

        return defer
