# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What stands still: zones of 80 m with buildings, gardens, trees, poles, signs, fences and parked cars."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from dff_ros.data.classes import PAVEMENT, TREE
from dff_ros.data.street.hashing import rng_of, uniforms
from dff_ros.data.street.look import Road
from dff_ros.data.street.motion import Course
from dff_ros.data.street.surfaces import Face, Thing

ZONE_M = 80.0
_KINDS = ('terrace', 'detached', 'shops', 'blocks', 'park', 'college')
_CROSSING_PIECE = 6
_KEPT_ZONES = 8


@dataclass
class Caster:
    """Something that casts a shadow: a footprint (n, 2) and its height above and below."""

    footprint: np.ndarray
    top: float
    bottom: float = 0.0


@dataclass
class Zone:
    """Static contents of 80 m of street."""

    number: int
    things: list[Thing] = field(default_factory=list)
    casters: list[Caster] = field(default_factory=list)
    num_instances: int = 0

    def add(self, faces: tuple[Face, ...], is_instance: bool = False) -> None:
        instance = 0
        if is_instance:
            self.num_instances += 1
            instance = self.number * 256 + self.num_instances
        self.things.append(Thing((1, self.number, len(self.things)), faces, instance))


class Layout:
    """The plan of the street; zones are built on demand by `build`."""

    def __init__(self, seed: int, course: Course, road: Road, build: 'Callable[[Layout, int], Zone]') -> None:
        self.seed, self.course, self.road, self._build = seed, course, road, build
        weights = rng_of(seed, 41).dirichlet(np.array([1.0, 0.8, 1.0, 0.7, 0.6, 0.5]) * 0.9)
        self._cumulative = np.cumsum(weights)
        self._zones: dict[int, Zone] = {}

    def kind(self, zone: int, side: int) -> str:
        """What lines the street here: one of terrace, detached, shops, blocks, park, college."""
        value = uniforms(1, self.seed, 42, zone, side)[0]
        return _KINDS[min(int(np.searchsorted(self._cumulative, value)), len(_KINDS) - 1)]

    def junction(self, zone: int, side: int) -> tuple[float, float] | None:
        """Start and end (s) of a side street, or None."""
        exists, at, wide = uniforms(3, self.seed, 43, zone, side)
        if exists > 0.4:
            return None
        middle = zone * ZONE_M + 20 + 20 * at
        return middle - 2.6 - 1.4 * wide, middle + 2.6 + 1.4 * wide

    def in_junction(self, side: int, s: np.ndarray, margin: float = 0.0) -> np.ndarray:
        inside = np.zeros(s.shape, bool)
        for zone in range(int(s.min() // ZONE_M), int(s.max() // ZONE_M) + 1):
            span = self.junction(zone, side)
            if span is not None:
                inside |= (s > span[0] - margin) & (s < span[1] + margin)
        return inside

    def is_crossing(self, piece: int) -> bool:
        """Whether this piece of 10 m has a zebra crossing in its middle."""
        zone, within = divmod(piece, int(ZONE_M / 10))
        return within == _CROSSING_PIECE and uniforms(1, self.seed, 44, zone)[0] < 0.3

    def yard(self, side: int, piece: int) -> tuple[tuple[float, float, float], int]:
        """Colour and label of the ground beyond the pavement."""
        zone = int(piece * 10 // ZONE_M)
        if self.kind(zone, side) in ('park', 'detached', 'college'):
            return (92.0, 104.0, 58.0), TREE
        grey = 90 + 50 * uniforms(1, self.seed, 45, zone, side)[0]
        return (grey, grey * 0.98, grey * 0.94), PAVEMENT

    def zone(self, number: int) -> Zone:
        if number not in self._zones:
            while len(self._zones) >= _KEPT_ZONES:
                del self._zones[min(self._zones, key=lambda k: -abs(k - number))]
            self._zones[number] = self._build(self, number)
        return self._zones[number]

    def things(self, s0: float, s1: float) -> Iterator[Thing]:
        for number in range(int(s0 // ZONE_M), int(s1 // ZONE_M) + 1):
            yield from self.zone(number).things

    def shadows_near(self, s: float, sun: np.ndarray) -> list[np.ndarray]:
        """Outlines (n, 2) on the ground of shadows cast around s."""
        shift = -sun[[0, 2]] / sun[1]
        out = []
        for number in range(int((s - 40) // ZONE_M), int((s + 40) // ZONE_M) + 1):
            for caster in self.zone(number).casters:
                points = np.concatenate(
                    [caster.footprint + shift * caster.bottom, caster.footprint + shift * caster.top]
                )
                out.append(cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64))
        return out
