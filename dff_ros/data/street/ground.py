"""The painted ground, in pieces of 10 m along the road: asphalt, markings, kerbs, pavement, plots, cast shadows."""

import math

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
_HALF_X, _HALF_Z = 24.0, 8.0
_PX_X, _PX_Z = 26.0, 20.0
_TILE_M = 36.0


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
        xz, heading = self._course.locate((number + 0.5) * PIECE_M)
        forward = np.array([math.sin(heading), math.cos(heading)])
        right = np.array([forward[1], -forward[0]])
        s, d = self._road_coordinates(number, xz, right, forward)
        colour, labels = self._paint(number, s, d)
        self._cast_shadows(colour, number, xz, right, forward)
        outside = np.maximum(number * PIECE_M - s, s - (number + 1) * PIECE_M)
        alpha = np.where(outside < 0.35, 255, 0)
        corners = [xz + x * right + z * forward for x, z in ((-_HALF_X, _HALF_Z), (_HALF_X, _HALF_Z), (-_HALF_X, -_HALF_Z))]
        frame = plane(*(np.array([c[0], 0.0, c[1]]) for c in corners))
        face = Face(Texture(rgba_of(colour, alpha), labels), frame, ROAD, is_lit=False, layer=Layer.GROUND)
        return Thing((0, number), (face,))

    def _road_coordinates(
        self, number: int, xz: np.ndarray, right: np.ndarray, forward: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """s and d of every texel, from a coarse grid: the foot on the centre line by fixed-point steps."""
        w, h = int(2 * _HALF_X * _PX_X), int(2 * _HALF_Z * _PX_Z)
        z, x = np.meshgrid(np.linspace(_HALF_Z, -_HALF_Z, 33), np.linspace(-_HALF_X, _HALF_X, 49), indexing="ij")
        points = xz + x[..., None] * right + z[..., None] * forward
        s = (number + 0.5) * PIECE_M + z
        for _ in range(4):
            foot, heading = self._course.locate(s)
            along = np.stack([np.sin(heading), np.cos(heading)], -1)
            s = s + ((points - foot) * along).sum(-1)
        foot, heading = self._course.locate(s)
        d = ((points - foot) * np.stack([np.cos(heading), -np.sin(heading)], -1)).sum(-1)
        columns = np.linspace(0, 48, w, dtype=np.float32)[None].repeat(h, 0)
        rows = np.linspace(0, 32, h, dtype=np.float32)[:, None].repeat(w, 1)
        return tuple(cv2.remap(a.astype(np.float32), columns, rows, cv2.INTER_LINEAR) for a in (s, d))

    def _paint(self, number: int, s: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        road = self._road
        rows, columns = (s % _TILE_M) * np.float32(_PX_Z), ((d + 2 * _TILE_M) % _TILE_M) * np.float32(_PX_X)
        grain, soil = (
            cv2.remap(t, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP) for t in (self._asphalt, self._soil)
        )
        colour = np.array(road.asphalt, np.float32) + 22 * grain[..., None]
        labels = np.full(s.shape, ROAD, np.uint8)
        tracks = 5 * np.cos((np.abs(d) - road.half_width / 2) * (2 * math.pi / 1.7))
        colour += tracks[..., None]
        self._patches(number, colour, s, d)
        self._markings(number, colour, s, d)
        for side in (-1, 1):
            self._roadside(number, side, (colour, labels), (s, d * side), (grain, soil))
        return colour, labels

    def _roadside(
        self,
        number: int,
        side: int,
        target: tuple[np.ndarray, np.ndarray],
        at: tuple[np.ndarray, np.ndarray],
        textures: tuple[np.ndarray, np.ndarray],
    ) -> None:
        (colour, labels), (s, d), (grain, soil) = target, at, textures
        road = self._road
        kerb, edge = road.kerb(side), road.edge(side)
        columns = np.flatnonzero((d > kerb - 0.4).any(0))
        if len(columns) == 0:
            return
        part = (slice(None), slice(int(columns[0]), int(columns[-1]) + 1))
        colour, labels, s, d, grain, soil = (a[part] for a in (colour, labels, s, d, grain, soil))
        colour[(d > kerb - 0.22) & (d < kerb)] *= 0.72
        open_ = ~self._layout.in_junction(side, s)
        paving = np.array(road.paving, np.float32) + 17 * grain[..., None]
        joints = ((s % 0.9 < 0.05) | ((d - kerb) % 0.6 < 0.045)) & (road.paving[0] > 125)
        paving[joints] *= 0.8
        grass = np.array([92, 104, 58], np.float32) * (0.92 + 0.5 * soil[..., None])
        yard, yard_label = self._layout.yard(side, number)
        yard_colour = grass if yard_label == TREE else np.array(yard, np.float32) + 20 * soil[..., None]
        verge_end = kerb + 0.15 + road.verge[side > 0]
        zones = (
            (kerb, kerb + 0.15, np.array(road.paving, np.float32) * 1.12 + 8 * grain[..., None], PAVEMENT),
            (kerb + 0.15, verge_end, grass, TREE),
            (verge_end, edge + 0.15, paving, PAVEMENT),
            (edge + 0.15, 99.0, yard_colour, yard_label),
        )
        for low, high, paint, label in zones:
            mask = (d >= low) & (d < high) & open_
            colour[mask] = paint[mask]
            labels[mask] = label
        give_way = ~open_ & (np.abs(d - kerb - 0.1) < 0.12) & (s % 0.9 < 0.55)
        colour[give_way] = 205

    def _patches(self, number: int, colour: np.ndarray, s: np.ndarray, d: np.ndarray) -> None:
        """Repairs, manholes and cracks."""
        rng = rng_of(self._seed, 32, number)
        start = number * PIECE_M
        for _ in range(int(rng.integers(0, 3))):
            s0, d0 = start + rng.uniform(1, 8), rng.uniform(-4, 4)
            mask = (np.abs(s - s0) < rng.uniform(0.3, 2.0)) & (np.abs(d - d0) < rng.uniform(0.3, 1.2))
            colour[mask] *= rng.uniform(0.72, 1.2)
        for _ in range(int(rng.integers(0, 2))):
            s0, d0 = start + rng.uniform(1, 9), rng.uniform(-2.5, 2.5)
            colour[np.hypot(s - s0, d - d0) < 0.33] *= 0.62
        s0, d0, slope = start + rng.uniform(0, 10), rng.uniform(-3, 3), rng.uniform(-0.8, 0.8)
        crack = np.abs(d - d0 - slope * (s - s0) - 0.12 * np.sin(5 * s)) < 0.035
        colour[crack & (np.abs(s - s0) < 2.5)] *= 0.7

    def _markings(self, number: int, colour: np.ndarray, s: np.ndarray, d: np.ndarray) -> None:
        road = self._road
        white = np.zeros(s.shape, bool)
        style = road.centre_line
        near = np.abs(d) < 0.06
        if style in ("dashed", "long"):
            white |= near & (s % (6.0 if style == "dashed" else 9.0) < (2.0 if style == "dashed" else 6.0))
        elif style == "solid":
            white |= near
        elif style == "double":
            white |= np.abs(np.abs(d) - 0.12) < 0.05
        for side in (-1, 1):
            out = d * side
            kerb = road.kerb(side)
            if road.has_parking[side > 0]:
                white |= (np.abs(out - road.half_width) < 0.05) & (s % 2.0 < 1.2)
            elif road.has_edge_line:
                white |= np.abs(out - kerb + 0.35) < 0.06
            elif road.has_yellow_lines and not self._layout.is_crossing(number):
                yellow = (np.abs(out - kerb + 0.28) < 0.04) | (np.abs(out - kerb + 0.48) < 0.04)
                colour[yellow] = colour[yellow] * 0.25 + np.array([160, 130, 40], np.float32)
        if self._layout.is_crossing(number):
            middle = (number + 0.5) * PIECE_M
            white |= (np.abs(s - middle) < 1.6) & (d % 1.2 < 0.6)
            white |= (np.abs(np.abs(s - middle) - 2.6) < 0.1) & (d % 1.0 < 0.6)
        worn = uniforms(1, self._seed, 33)[0] * 0.35 + 0.1
        colour[white] = colour[white] * worn + np.float32(205 * (1 - worn) + 15)

    def _cast_shadows(
        self, colour: np.ndarray, number: int, xz: np.ndarray, right: np.ndarray, forward: np.ndarray
    ) -> None:
        """Darken what the sun does not reach; contact shadows also under a grey sky."""
        h, w = colour.shape[:2]
        mask = np.zeros((h, w), np.uint8)
        for polygon in self._layout.shadows_near(number * PIECE_M, self._light.sun):
            local = polygon - xz
            x, z = local @ right, local @ forward
            if x.min() > _HALF_X or x.max() < -_HALF_X or z.min() > _HALF_Z or z.max() < -_HALF_Z:
                continue
            pixels = np.stack([(x + _HALF_X) * _PX_X, (_HALF_Z - z) * _PX_Z], -1)
            cv2.fillPoly(mask, [np.round(pixels).astype(np.int32)], 255)
        if self._light.shadow > 0:
            soft = cv2.GaussianBlur(mask, (0, 0), 2.0).astype(np.float32) * np.float32(self._light.shadow / 255)
            colour *= 1 - soft[..., None]
