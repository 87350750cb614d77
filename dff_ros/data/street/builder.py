"""Fills a zone of the street with everything that stands still."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from dff_ros.data.classes import BUILDING, FENCE, POLE, SIGN, TREE
from dff_ros.data.street import facades, library, sprites
from dff_ros.data.street.hashing import rng_of
from dff_ros.data.street.layout import ZONE_M, Caster, Layout, Zone
from dff_ros.data.street.surfaces import Face, heading_rotation, plane, upright
from dff_ros.data.street.texture import Deferred, Texture

_MATERIAL = {"terrace": ("brick", "brick", "render"), "detached": ("brick", "render"), "shops": ("brick", "render", "stone"),
             "blocks": ("modern", "brick"), "college": ("stone", "brick")}


def build_zone(layout: Layout, number: int) -> Zone:
    """All static things of one zone; depends on the seed and the number only."""
    zone = Zone(number)
    site = _Site(layout, zone, rng_of(layout.seed, 51, number))
    for side in (-1, 1):
        site.line_up(side)
        site.trees(side)
        site.furniture(side)
        site.park(side)
    site.crossing()
    return zone


class _Site:
    def __init__(self, layout: Layout, zone: Zone, rng: np.random.Generator) -> None:
        self.layout, self.zone, self.rng, self.road = layout, zone, rng, layout.road
        self.start = zone.number * ZONE_M

    def at(self, s: float, d: float) -> np.ndarray:
        return self.layout.course.locate(s, d)[0]

    def is_in_side_street(self, side: int, s: float, margin: float) -> bool:
        return bool(self.layout.in_junction(side, np.array([s]), margin)[0])

    def wall(self, side: int, s0: float, s1: float, d: float, high: float, texture: Texture | Deferred, label: int) -> None:
        """Something flat along the road, seen from it."""
        a, b = self.at(s0, side * d), self.at(s1, side * d)
        left, right = (a, b) if side < 0 else (b, a)
        self.zone.add((Face(texture, upright(left, right, high), label, is_two_sided=label != BUILDING),))
        if label in (BUILDING, TREE):
            self.zone.casters.append(Caster(np.stack([a, b]), high))

    def sprite(self, texture: Texture | Deferred, s: float, d: float, size: tuple[float, float], label: int, base: float = 0.0,
               turn: float = 0.0) -> None:
        """A cut-out of (width, height) across the road, its normal turned by `turn`."""
        xz, heading = self.layout.course.locate(s, d)
        right = np.array([math.cos(heading + turn), -math.sin(heading + turn)]) * size[0] / 2
        frame = upright(xz - right, xz + right, base + size[1], base)
        self.zone.add((Face(texture, frame, label, is_lit=False, is_two_sided=True),))

    def line_up(self, side: int) -> None:
        """Plots along one side, leaving the side street open."""
        kind = self.layout.kind(self.zone.number, side)
        edge, rng = self.road.edge(side) + 0.15, self.rng
        s, end = self.start, self.start + ZONE_M
        span = self.layout.junction(self.zone.number, side)
        setback = {"terrace": rng.uniform(0, 2.5), "shops": 0.0, "blocks": rng.uniform(0, 5)}.get(kind, rng.uniform(4, 9))
        while s < end - 4:
            if span is not None and span[0] - 3.0 < s < span[1]:
                s = span[1] + 1.0
                continue
            limit = end if span is None or s > span[0] else span[0] - 0.5
            width = min(self._plot_width(kind), limit - s)
            if limit - s - width < 4:
                width = limit - s
            self._plot(side, kind, s, width, edge + setback)
            s += width
        self._behind(side, edge + 16)
        if span is not None:
            self._side_street_end(side, span)

    def _plot_width(self, kind: str) -> float:
        low, high = {"terrace": (5, 8), "detached": (11, 18), "shops": (5, 12), "blocks": (14, 30)}.get(kind, (18, 40))
        return float(self.rng.uniform(low, high))

    def _plot(self, side: int, kind: str, s: float, width: float, front: float) -> None:
        rng, edge = self.rng, self.road.edge(side) + 0.15
        if kind == "park":
            self._boundary(side, s, s + width, edge, ("fence", "hedge", "open", "fence"))
            for _ in range(int(width / 5)):
                self._tree(s + rng.uniform(0, width), side * (edge + rng.uniform(2, 14)), rng.uniform(5, 11))
            return
        material = str(rng.choice(_MATERIAL[kind]))
        low, high = {"terrace": (5.5, 8), "detached": (5, 7), "shops": (6.5, 12), "blocks": (8, 18)}.get(kind, (7, 13))
        gap = {"detached": rng.uniform(2, 5), "college": rng.uniform(2, 10)}.get(kind, 0.0)
        if kind == "terrace" and rng.random() < 0.12:
            gap = width * 0.6
        ground = {"terrace": "door", "shops": "shop", "detached": "door"}.get(kind, "plain")
        self._house(side, (s, s + width - gap), front + rng.uniform(0, 0.5), rng.uniform(low, high), material, ground)
        if front - edge > 1.2:
            choices = {"college": ("wall", "fence"), "detached": ("hedge", "wall", "fence", "open")}
            self._boundary(side, s, s + width, edge, choices.get(kind, ("wall", "fence", "hedge")))
            for _ in range(int(rng.integers(0, 3))):
                self._bush(s + rng.uniform(0, width), side * rng.uniform(edge + 0.6, front))

    def _house(self, side: int, span: tuple[float, float], d: float, height: float, material: str, ground: str) -> None:
        rng = self.rng
        s0, s1 = span
        if s1 - s0 < 2.5:
            return
        a, b = self.at(s0, side * d), self.at(s1, side * d)
        along = (b - a) / np.linalg.norm(b - a)
        away = side * np.array([along[1], -along[0]])
        width, depth = float(np.linalg.norm(b - a)), float(rng.uniform(7, 11))
        rise = 0.0 if material == "modern" or rng.random() < 0.12 else float(rng.uniform(1.8, 3.6))
        paint = self._painter()
        lit = library.lit_windows(self.layout.seed)
        left, right = (a, b) if side < 0 else (b, a)
        faces = [Face(paint(facades.facade, width, height, material, ground, lit), upright(left, right, height), BUILDING)]
        near, far = (a + away * depth, a) if side < 0 else (a, a + away * depth)
        faces.append(Face(paint(facades.gable, depth, height + rise, rise, material), upright(near, far, height + rise), BUILDING))
        if rise:
            ridge = away * depth / 2
            corners = [np.array([*p]) for p in ((left + ridge), (right + ridge), left)]
            high = (height + rise, height + rise, height)
            points = [np.array([p[0], y, p[1]]) for p, y in zip(corners, high)]
            slope = math.hypot(rise, depth / 2)
            faces.append(Face(paint(facades.roof, width, slope), plane(*points), BUILDING))
            if rng.random() < 0.5:
                at = a + along * width * rng.choice([0.06, 0.94]) + ridge
                across = away * 0.5 * side
                chimney = paint(facades.plain, 1.0, 1.6, material)
                faces.append(Face(chimney, upright(at - across, at + across, height + rise + 1.1, height + rise - 0.6), BUILDING))
        self.zone.add(tuple(faces))
        self.zone.casters.append(Caster(np.stack([a, b, a + away * depth, b + away * depth]), height + 0.4 * rise))

    def _painter(self) -> Callable[..., Deferred]:
        """A function that defers a painter of `facades`, called with width, height and further arguments."""
        keys = (self.layout.seed, 52, self.zone.number, len(self.zone.things))
        count = itertools.count()

        def defer(painter: Callable[..., Texture], width: float, height: float, *more: object) -> Deferred:
            rng = rng_of(*keys, next(count))
            return Deferred(facades.shape_of(width, height), lambda: painter(rng, width, height, *more))

        return defer

    def _boundary(self, side: int, s0: float, s1: float, d: float, choices: tuple[str, ...]) -> None:
        rng = self.rng
        kind = str(rng.choice(choices))
        if kind == "open":
            return
        gap = rng.uniform(1.0, 3.0) if rng.random() < 0.5 else 0.0
        s1 -= gap
        if s1 - s0 < 1.5:
            return
        high = {"hedge": rng.uniform(0.8, 2.2), "wall": rng.uniform(0.6, 2.2), "fence": rng.uniform(0.9, 1.9)}[kind]
        paint, label = {
            "hedge": (facades.hedge, TREE),
            "wall": (facades.plain, BUILDING),
            "fence": (facades.fence, FENCE),
        }[kind]
        self.wall(side, s0, s1, d, high, self._painter()(paint, s1 - s0, high), label)

    def _behind(self, side: int, d: float) -> None:
        """A second row, seen through the gaps: trees and backs of houses."""
        rng = self.rng
        s = self.start
        while s < self.start + ZONE_M - 3:
            width = rng.uniform(10, 25)
            if not self.is_in_side_street(side, s, 4.0) and not self.is_in_side_street(side, s + width, 4.0):
                if rng.random() < 0.45:
                    self._house(side, (s, s + width), d + rng.uniform(0, 5), rng.uniform(5, 11), "brick", "plain")
                else:
                    self._tree(s, side * (d - 2), rng.uniform(6, 12))
            s += width

    def _side_street_end(self, side: int, span: tuple[float, float]) -> None:
        """What closes the view into a side street, and its name plate or give-way sign."""
        edge = self.road.edge(side)
        self._house(side, (span[0] - 8, span[1] + 8), edge + 17, self.rng.uniform(5, 9), "brick", "door")
        self.post_with_sign(span[1] + 0.6, side * (self.road.kerb(side) + 0.5))

    def trees(self, side: int) -> None:
        """Street trees on the verge or the outer half of the pavement."""
        road, rng = self.road, self.rng
        if rng.random() > road.greenery:
            return
        wide = road.verge[side > 0] or road.pavement[side > 0]
        if wide < 1.2:
            return
        spacing, size = rng.uniform(8, 20), rng.uniform(4.5, 9)
        s = self.start + rng.uniform(0, spacing)
        while s < self.start + ZONE_M:
            if not self.is_in_side_street(side, s, 2.5):
                self._tree(s, side * (road.kerb(side) + 0.7), size * rng.uniform(0.8, 1.2))
            s += spacing * rng.uniform(0.8, 1.3)

    def _tree(self, s: float, d: float, size: float) -> None:
        texture = library.tree(self.layout.seed, int(self.rng.integers(10)), self.road.leafiness, 1 if d > 0 else -1)
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

    def _bush(self, s: float, d: float) -> None:
        size = self.rng.uniform(0.7, 2.0)
        self.sprite(library.bush(self.layout.seed, int(self.rng.integers(8))), s, d, (size * 1.3, size), TREE)

    def post(self, s: float, d: float, high: float, thick: float) -> None:
        texture = library.pole(self.layout.seed, int(self.rng.integers(6)))
        self.sprite(texture, s, d, (thick, high), POLE)
        angle = np.array([0.0, 2.1, 4.2])
        self.zone.casters.append(Caster(self.at(s, d) + 0.06 * np.stack([np.cos(angle), np.sin(angle)], -1), high))

    def post_with_sign(self, s: float, d: float) -> None:
        texture, width, height = library.sign(self.layout.seed, int(self.rng.integers(24)))
        base = float(self.rng.uniform(1.6, 2.5)) if height < 1.0 else float(self.rng.uniform(0.4, 1.4))
        self.post(s, d, base + height, 0.08)
        self.sprite(texture, s - 0.06, d, (width, height), SIGN, base)

    def furniture(self, side: int) -> None:
        """Lamp posts, signs, bollards, guard rails on the pavement."""
        road, rng = self.road, self.rng
        inner, outer = road.kerb(side) + 0.45, road.edge(side) - 0.15
        lamp_d = inner if road.leafiness < 0.5 else outer
        high, spacing = rng.uniform(5, 8.5), rng.uniform(22, 38)
        s = self.start + rng.uniform(0, spacing)
        while s < self.start + ZONE_M:
            if not self.is_in_side_street(side, s, 1.0):
                self.post(s, side * lamp_d, high, 0.16)
                arm = library.arm(self.layout.seed, side)
                self.sprite(arm, s - 0.05, side * (lamp_d - 0.9), (1.8, 0.45), POLE, high - 0.42)
            s += spacing
        for _ in range(int(rng.integers(1, 8))):
            s = self.start + rng.uniform(0, ZONE_M)
            if not self.is_in_side_street(side, s, 1.0):
                self.post_with_sign(s, side * rng.uniform(inner, max(inner, outer)))
        if rng.random() < 0.35:
            s, step = self.start + rng.uniform(0, 60), rng.uniform(1.2, 2.0)
            for k in range(int(rng.integers(3, 9))):
                if not self.is_in_side_street(side, s + k * step, 0.5):
                    self.post(s + k * step, side * inner, 1.0, 0.13)
        if rng.random() < 0.4 and not road.has_parking[side > 0]:
            s0, length = self.start + rng.uniform(0, 4), rng.uniform(8, 16)
            texture = self._painter()(facades.fence, length, 1.05)
            self.wall(side, s0, s0 + length, road.kerb(side) + 0.25, 1.05, texture, FENCE)

    def crossing(self) -> None:
        """Traffic lights or beacons beside a zebra crossing or junction."""
        piece = int(self.start // 10) + 6
        for side in (-1, 1):
            span = self.layout.junction(self.zone.number, side)
            s = (piece + 0.5) * 10 - 2.9 if self.layout.is_crossing(piece) else span[0] - 1.0 if span else None
            if s is None or self.rng.random() < 0.35:
                continue
            d = side * (self.road.kerb(side) + 0.4)
            self.post(s, d, 3.2, 0.12)
            texture = library.traffic_light(self.layout.seed, int(self.rng.integers(3)))
            self.sprite(texture, s - 0.08, d, (0.36, 0.95), SIGN, 2.25)

    def park(self, side: int) -> None:
        """Parked cars in the parking lane."""
        road, rng = self.road, self.rng
        if not road.has_parking[side > 0]:
            return
        share = road.parked * rng.uniform(0.5, 1.1)
        for k in range(int(ZONE_M / 6.1)):
            s = self.start + 3.05 + k * 6.1
            is_near_crossing = 56 < s - self.start < 74 and self.layout.is_crossing(int(self.start // 10) + 6)
            if rng.random() > share or self.is_in_side_street(side, s, 3.5) or is_near_crossing:
                continue
            d = side * (road.half_width + 1.08)
            xz, heading = self.layout.course.locate(s + rng.uniform(-0.4, 0.4), d)
            is_reversed = (side < 0) != road.drives_left or rng.random() < 0.1
            rotation = heading_rotation(float(heading) + math.pi * is_reversed + rng.normal(0, 0.015))
            faces = library.vehicle(self.layout.seed, int(rng.integers(24)))
            placed = (rotation, np.array([xz[0], 0.0, xz[1]]))
            self.zone.add(faces, is_instance=True, pose=lambda t, placed=placed: placed)
