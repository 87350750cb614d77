# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The painted ground in pieces of 10 m: asphalt, markings, kerbs, pavement, plots, cast shadows."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from dff_ros.data.classes import PAVEMENT, ROAD, TREE
from dff_ros.data.street.hashing import rng_of, uniforms
from dff_ros.data.street.layout import Layout
from dff_ros.data.street.look import Light, Road
from dff_ros.data.street.motion import Course
from dff_ros.data.street.surfaces import Face, Layer, Thing, plane
from dff_ros.data.street.texture import Texture, noise, rgba_of

PIECE_M = 10.0
_HALF_X = 20.0
_PX_X, _PX_Z = 26.0, 20.0
_TILE_M = 36.0


@dataclass(frozen=True)
class _Sheet:
    """The rectangle in the world (x, z) that holds one piece, and its place on the road."""

    xz: np.ndarray
    right: np.ndarray
    forward: np.ndarray
    half_z: float
    middle: float

    @property
    def shape(self) -> tuple[int, int]:
        return int(2 * self.half_z * _PX_Z), int(2 * _HALF_X * _PX_X)

    def world(self, x: float | np.ndarray, z: float | np.ndarray) -> np.ndarray:
        return self.xz + x * self.right + z * self.forward


class Ground:
    """Paints pieces of ground on demand; each depends on its number only."""

    def __init__(self, seed: int, course: Course, layout: Layout, road: Road, light: Light) -> None:
        self._seed, self._course, self._layout, self._road, self._light = seed, course, layout, road, light
        rng = rng_of(seed, 31)
        shape = (int(_TILE_M * _PX_Z), int(_TILE_M * _PX_X))
        self._asphalt = noise(rng, shape, (150, 40, 10, 3, 1), (0.35, 0.3, 0.2, 0.25, 0.45))
        self._soil = noise(rng, shape, (90, 20, 6, 2), (0.4, 0.4, 0.4, 0.4))

    def piece(self, number: int) -> Thing:
        """The ground for s in [10 number, 10 number + 10]."""
        sheet = self._sheet(number)
        s, d = self._road_coordinates(sheet)
        colour, labels = self._paint(number, s, d)
        self._cast_shadows(colour, sheet)
        outside = np.maximum(number * PIECE_M - s, s - (number + 1) * PIECE_M)
        alpha = np.where(outside < 0.35, 255, 0)
        corners = [
            sheet.world(x, z)
            for x, z in ((-_HALF_X, sheet.half_z), (_HALF_X, sheet.half_z), (-_HALF_X, -sheet.half_z))
        ]
        frame = plane(*(np.array([c[0], 0.0, c[1]]) for c in corners))
        face = Face(Texture(rgba_of(colour, alpha), labels), frame, ROAD, is_lit=False, layer=Layer.GROUND)
        return Thing((0, number), (face,))

    def _sheet(self, number: int) -> _Sheet:
        middle = (number + 0.5) * PIECE_M
        xz, heading = self._course.locate(middle)
        forward = np.array([math.sin(heading), math.cos(heading)])
        right = np.array([forward[1], -forward[0]])
        ends = np.array([middle - PIECE_M / 2 - 0.4, middle + PIECE_M / 2 + 0.4]).repeat(2)
        corners, _ = self._course.locate(ends, np.array([-_HALF_X, _HALF_X] * 2))
        return _Sheet(xz, right, forward, float(np.abs((corners - xz) @ forward).max()), middle)

    def _road_coordinates(self, sheet: _Sheet) -> tuple[np.ndarray, ...]:
        """s and d of every texel, from a coarse grid: the foot on the centre line by fixed-point steps."""
        h, w = sheet.shape
        z, x = np.meshgrid(
            np.linspace(sheet.half_z, -sheet.half_z, 33), np.linspace(-_HALF_X, _HALF_X, 49), indexing='ij'
        )
        points = sheet.world(x[..., None], z[..., None])
        s = sheet.middle + z
        for _ in range(4):
            foot, heading = self._course.locate(s)
            along = np.stack([np.sin(heading), np.cos(heading)], -1)
            s = s + ((points - foot) * along).sum(-1)
        foot, heading = self._course.locate(s)
        d = ((points - foot) * np.stack([np.cos(heading), -np.sin(heading)], -1)).sum(-1)
        columns = ((np.arange(w, dtype=np.float32) + 0.5) * np.float32(48 / w))[None].repeat(h, 0)
        rows = ((np.arange(h, dtype=np.float32) + 0.5) * np.float32(32 / h))[:, None].repeat(w, 1)
        return tuple(cv2.remap(a.astype(np.float32), columns, rows, cv2.INTER_LINEAR) for a in (s, d))

    def _paint(self, number: int, s: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colour (h, w, 3) and labels; every texel is of a material: a colour and two kinds of noise."""
        road = self._road
        rows, columns = _in_tile(s) * np.float32(_PX_Z), _in_tile(d + 2 * _TILE_M) * np.float32(_PX_X)
        grain, soil = (
            cv2.remap(t, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            for t in (self._asphalt, self._soil)
        )
        grain_of, soil_of = (
            np.array([22, 8, 0, 17, 0, 0], np.float32),
            np.array([0, 0, 46, 0, 40, 40], np.float32),
        )
        paving, grass = np.array(road.paving), (85.0, 96.0, 53.0)
        (left, left_label), (right, right_label) = (self._layout.yard(side, number) for side in (-1, 1))
        colours = np.array([road.asphalt, paving * 1.12, grass, paving, left, right], np.float32)
        labels_of = np.array([ROAD, PAVEMENT, TREE, PAVEMENT, left_label, right_label], np.uint8)
        material = np.zeros(s.shape, np.uint8)
        for side in (-1, 1):
            self._roadside(side, material, s, d * side)
        speckle = grain * np.take(grain_of, material) + soil * np.take(soil_of, material)
        speckle += np.where(
            material == 0, 5 * np.cos((np.abs(d) - road.half_width / 2) * np.float32(2 * math.pi / 1.7)), 0
        )
        colour = np.take(colours, material, axis=0)
        cv2.add(colour, cv2.merge([speckle] * 3), dst=colour)
        self._patches(number, colour, s, d)
        self._markings(number, colour, s, d, material == 0)
        self._edges(colour, material, s, d)
        return colour, np.take(labels_of, material)

    def _roadside(self, side: int, material: np.ndarray, s: np.ndarray, d: np.ndarray) -> None:
        """Kerb 1, verge 2, paving 3, plots 4 (left) or 5 (right); d counts outwards."""
        road = self._road
        kerb = road.kerb(side)
        borders = np.array([kerb, kerb + 0.15, kerb + 0.15 + road.verge[side > 0], road.edge(side) + 0.15])
        here = (d > kerb) & ~self._layout.in_junction(side, s)
        for border, code in zip(borders, (1, 2, 3, 5 if side > 0 else 4), strict=True):
            np.copyto(material, np.uint8(code), where=here & (d >= border))

    def _edges(self, colour: np.ndarray, material: np.ndarray, s: np.ndarray, d: np.ndarray) -> None:
        """Gutters, joints between slabs, give-way lines of side streets."""
        road, texels = self._road, colour.reshape(-1, 3)
        for side in (-1, 1):
            out, kerb = d * side, road.kerb(side)
            _shade(colour, (out > kerb - 0.22) & (out < kerb), 0.72)
            give_way = np.flatnonzero((material == 0) & (out > kerb) & (out < kerb + 0.22))
            texels[give_way[s.flat[give_way] % 0.9 < 0.55]] = 205
            if road.paving[0] > 125:
                slabs = np.flatnonzero((material == 3) & (out > kerb))
                joints = (s.flat[slabs] % 0.9 < 0.05) | ((out.flat[slabs] - kerb) % 0.6 < 0.045)
                texels[slabs[joints]] *= 0.8

    def _patches(self, number: int, colour: np.ndarray, s: np.ndarray, d: np.ndarray) -> None:
        """Repairs, manholes and cracks."""
        rng = rng_of(self._seed, 32, number)
        start = number * PIECE_M
        for _ in range(int(rng.integers(0, 3))):
            s0, d0 = start + rng.uniform(1, 8), rng.uniform(-4, 4)
            mask = (np.abs(s - s0) < rng.uniform(0.3, 2.0)) & (np.abs(d - d0) < rng.uniform(0.3, 1.2))
            _shade(colour, mask, rng.uniform(0.72, 1.2))
        for _ in range(int(rng.integers(0, 2))):
            s0, d0 = start + rng.uniform(1, 9), rng.uniform(-2.5, 2.5)
            near = np.flatnonzero((np.abs(s - s0) < 0.4) & (np.abs(d - d0) < 0.4))
            manhole = near[np.hypot(s.flat[near] - s0, d.flat[near] - d0) < 0.33]
            colour.reshape(-1, 3)[manhole] *= 0.62
        s0, d0, slope = start + rng.uniform(0, 10), rng.uniform(-3, 3), rng.uniform(-0.8, 0.8)
        crack = np.abs(d - d0 - slope * (s - s0) - 0.12 * np.sin(5 * s)) < 0.035
        _shade(colour, crack & (np.abs(s - s0) < 2.5), 0.7)

    def _markings(
        self, number: int, colour: np.ndarray, s: np.ndarray, d: np.ndarray, is_road: np.ndarray
    ) -> None:
        road = self._road
        white = np.zeros(s.shape, bool)
        style = road.centre_line
        near = np.abs(d) < 0.06
        if style in ('dashed', 'long'):
            period, length = (6.0, 2.0) if style == 'dashed' else (9.0, 6.0)
            _dash(white, near, s, period, length)
        elif style == 'solid':
            white |= near
        elif style == 'double':
            white |= np.abs(np.abs(d) - 0.12) < 0.05
        for side in (-1, 1):
            out = d * side
            kerb = road.kerb(side)
            if road.has_parking[side > 0]:
                _dash(white, np.abs(out - road.half_width) < 0.05, s, 2.0, 1.2)
            elif road.has_edge_line:
                white |= np.abs(out - kerb + 0.35) < 0.06
            elif road.has_yellow_lines and not self._layout.is_crossing(number):
                yellow = (np.abs(out - kerb + 0.28) < 0.04) | (np.abs(out - kerb + 0.48) < 0.04)
                yellow &= is_road
                _cover(colour, yellow, 0.25, np.array([160, 130, 40], np.float32))
        if self._layout.is_crossing(number):
            middle = (number + 0.5) * PIECE_M
            _dash(white, np.abs(s - middle) < 1.6, d, 1.2, 0.6)
            _dash(white, np.abs(np.abs(s - middle) - 2.6) < 0.1, d, 1.0, 0.6)
        self._legend(number, white, s, d)
        white &= is_road
        worn = uniforms(1, self._seed, 33)[0] * 0.35 + 0.1
        _cover(colour, white, worn, np.float32(205 * (1 - worn) + 15))

    def _legend(self, number: int, white: np.ndarray, s: np.ndarray, d: np.ndarray) -> None:
        """Now and then a word or an arrow in the middle of a lane, to be read in the direction of travel."""
        exists, what, lane = uniforms(3, self._seed, 34, number)
        if exists > 0.16 or self._layout.is_crossing(number):
            return
        page = np.zeros((60, 60), np.uint8)
        text = ('SLOW', 'BUS', '30', '^')[int(what * 4)]
        if text == '^':
            cv2.arrowedLine(page, (30, 58), (30, 4), 255, 7, tipLength=0.4)
        else:
            scale = 60 / cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 3)[0][0]
            cv2.putText(page, text, (1, 52), cv2.FONT_HERSHEY_SIMPLEX, min(scale, 1.6), 255, 4)
        way = 1 if lane < 0.5 else -1
        along = (s - (number + 0.5) * PIECE_M) * way
        across = d * way - self._road.lane_d
        columns, rows = (
            ((across + 0.8) * (60 / 1.6)).astype(np.float32),
            ((1.5 - along) * (60 / 3.0)).astype(np.float32),
        )
        white |= cv2.remap(page, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) > 127

    def _cast_shadows(self, colour: np.ndarray, sheet: _Sheet) -> None:
        """Darken what the sun does not reach."""
        if self._light.shadow <= 0:
            return
        mask = np.zeros(sheet.shape, np.uint8)
        for polygon in self._layout.shadows_near(sheet.middle, self._light.sun):
            local = polygon - sheet.xz
            x, z = local @ sheet.right, local @ sheet.forward
            if (
                x.min() < _HALF_X
                and x.max() > -_HALF_X
                and z.min() < sheet.half_z
                and z.max() > -sheet.half_z
            ):
                pixels = np.stack([(x + _HALF_X) * _PX_X, (sheet.half_z - z) * _PX_Z], -1)
                cv2.fillPoly(mask, [np.round(pixels).astype(np.int32)], 255)
        soft = cv2.GaussianBlur(mask, (0, 0), 2.0).astype(np.float32) * np.float32(self._light.shadow / 255)
        cv2.multiply(colour, cv2.merge([1 - soft] * 3), dst=colour)


# A piece has half a million texels and every method above reads them all: what follows touches the few that
# it changes, and takes NumPy's remainder, 4 ms for them all, of those alone.


def _in_tile(metres: np.ndarray) -> np.ndarray:
    """The float32 remainder by `_TILE_M`, bit for bit: multiples of 36 are subtracted without rounding."""
    tile = np.float32(_TILE_M)
    rest = metres - np.floor(metres / tile) * tile
    # A quotient that was rounded to the next whole number.
    rest[rest < 0] += tile
    rest[rest >= tile] -= tile
    return rest


def _shade(colour: np.ndarray, mask: np.ndarray, factor: float) -> None:
    """Multiply the colour (h, w, 3) where the mask (h, w) is set."""
    colour.reshape(-1, 3)[np.flatnonzero(mask)] *= factor


def _cover(colour: np.ndarray, mask: np.ndarray, worn: float, paint: np.ndarray | np.float32) -> None:
    """Paint through which a share `worn` of the colour shows, where the mask is set."""
    texels, at = colour.reshape(-1, 3), np.flatnonzero(mask)
    texels[at] = texels[at] * worn + paint


def _dash(white: np.ndarray, stripe: np.ndarray, along: np.ndarray, period: float, length: float) -> None:
    """Set what of the stripe lies in the first `length` of each period."""
    at = np.flatnonzero(stripe)
    white.reshape(-1)[at[along.flat[at] % period < length]] = True
