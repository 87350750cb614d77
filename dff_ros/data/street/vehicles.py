# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Cars, vans and buses: a side profile extruded across, every face painted."""

from dataclasses import dataclass

import cv2
import numpy as np

from dff_ros.data.classes import CAR
from dff_ros.data.street.surfaces import Face, Layer, plane, upright
from dff_ros.data.street.texture import Texture, noise, rgba_of, write

_COLOURS = (
    (26, 28, 32),
    (190, 194, 198),
    (118, 122, 126),
    (228, 228, 226),
    (130, 20, 24),
    (28, 44, 92),
    (60, 66, 72),
    (20, 60, 52),
    (170, 30, 30),
    (60, 90, 140),
    (196, 180, 140),
    (210, 170, 40),
)


@dataclass(frozen=True)
class Shape:
    """Side profile, rear to front, as fractions of length and height; belt line; width; metres."""

    length: float
    width: float
    height: float
    belt: float
    rear_top: float
    rear_belt: float
    roof_front: float
    screen_base: float
    bonnet: float


SHAPES = {
    'hatch': Shape(3.9, 1.68, 1.46, 0.62, 0.10, 0.03, 0.58, 0.75, 0.52),
    'saloon': Shape(4.5, 1.76, 1.43, 0.63, 0.26, 0.13, 0.57, 0.72, 0.52),
    'estate': Shape(4.6, 1.78, 1.50, 0.61, 0.06, 0.02, 0.60, 0.74, 0.53),
    'suv': Shape(4.5, 1.85, 1.78, 0.60, 0.07, 0.02, 0.60, 0.72, 0.56),
    'van': Shape(5.2, 1.98, 2.25, 0.55, 0.01, 0.0, 0.76, 0.88, 0.46),
    'bus': Shape(10.5, 2.5, 3.0, 0.38, 0.005, 0.0, 0.985, 0.995, 0.33),
}
_SILL_M = 0.24
_AXLES, _BUS_AXLES = (0.19, 0.81), (0.24, 0.8)


def build(rng: np.random.Generator, kind: str) -> tuple[Face, ...]:
    """Faces of one vehicle: x right, y up, z forward, origin on the road below its middle."""
    shape = SHAPES[kind]
    colour = np.array(_COLOURS[rng.integers(len(_COLOURS))], np.float32) * rng.uniform(0.85, 1.15)
    if kind == 'bus':
        colour = np.array(
            [(170, 30, 36), (30, 70, 140), (220, 200, 180), (40, 110, 80)][rng.integers(4)], np.float32
        )
    scale = rng.uniform(0.96, 1.05)
    length, height = shape.length * scale, shape.height * scale

    def z(share: float) -> float:
        return (share - 0.5) * length

    belt, half = shape.belt * height, 0.5 * shape.width
    top = half * (0.8 if kind not in ('van', 'bus') else 0.94)
    rear, front = (z(0.0), 0.0), (z(1.0), 0.0)
    rear_belt, rear_top = (z(shape.rear_belt), belt * 1.02), (z(shape.rear_top), height)
    roof_front, screen = (z(shape.roof_front), height * 0.99), (z(shape.screen_base), belt * 1.03)
    nose = (z(0.985), shape.bonnet * height)
    has_rear_window = kind != 'van' or rng.random() < 0.5
    faces = [
        _strip(rear_belt, rear, half, _end(rng, colour, belt, is_rear=True), True),
        _strip(rear_top, rear_belt, half, _glazed(rng, colour, top / half, has_rear_window), True),
        _strip(screen, nose, half, _panel(rng, colour, 1.0), False),
        _strip(nose, front, half, _end(rng, colour, nose[1], is_rear=False), False),
        _strip(roof_front, screen, half, _glazed(rng, colour, top / half, True), False),
        _strip(rear_top, roof_front, top, _panel(rng, colour, 1.0), None),
    ]
    for side in (-1, 1):
        lower = _side_lower(rng, shape, colour, side)
        upper = _side_upper(shape, colour, side, has_windows=kind != 'van')
        faces.append(_side(lower, side, (half, belt), (half, 0.0), length))
        faces.append(_side(upper, side, (top, height), (half, belt), length))
    for at in _AXLES if length < 8 else _BUS_AXLES:
        left, right = np.array([-half * 0.97, z(at)]), np.array([half * 0.97, z(at)])
        faces.append(Face(_axle(), upright(left, right, 0.42), CAR, is_two_sided=True))
    faces.append(shadow_face(half * 1.25, length * 0.54, 0.72))
    return tuple(faces)


def _axle() -> Texture:
    """The two wheels of an axle, seen from behind or in front."""
    alpha = np.zeros((32, 128), np.uint8)
    alpha[:, :15] = alpha[:, -15:] = 255
    return Texture(rgba_of(np.full((32, 128, 3), 20.0), alpha))


def _strip(
    high: tuple[float, float], low: tuple[float, float], half: float, texture: Texture, is_rear: bool | None
) -> Face:
    """A face across the vehicle between profile points (z, y); seen from behind, front or (None) above."""
    sign = -1.0 if is_rear is False else 1.0
    corner = np.array([-half * sign, high[1], high[0]])
    other = np.array([half * sign, high[1], high[0]])
    below = np.array([-half * sign, low[1], low[0]])
    if is_rear is None:
        corner, other, below = (
            np.array([x, p[1], p[0]]) for x, p in ((-half, low), (half, low), (-half, high))
        )
    return Face(texture, plane(corner, other, below), CAR)


def _side(
    texture: Texture, side: int, high: tuple[float, float], low: tuple[float, float], length: float
) -> Face:
    """A side face between two cross-section points (x, y); seen from outside."""
    left, right = -0.5 * side * length, 0.5 * side * length
    corner = np.array([side * high[0], high[1], left])
    other = np.array([side * high[0], high[1], right])
    below = np.array([side * low[0], low[1], left])
    return Face(texture, plane(corner, other, below), CAR)


def _vec(colour: np.ndarray | tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(c) for c in np.clip(colour, 0, 255))


def _panel(rng: np.random.Generator, colour: np.ndarray, gain: float) -> Texture:
    down = np.linspace(1.15, 0.9, 32, dtype=np.float32)[:, None, None]
    sheen = 26 * np.exp(-(((np.linspace(0, 1, 64) - rng.uniform(0.3, 0.7)) / 0.18) ** 2))[None, :, None]
    return Texture(rgba_of(colour * gain * down + sheen))


def _glazed(rng: np.random.Generator, colour: np.ndarray, taper: float, has_glass: bool) -> Texture:
    """Windscreen or rear window with its pillars; the top is `taper` of the width."""
    h, w = 64, 128
    paint = np.broadcast_to(colour * 0.95, (h, w, 3)).astype(np.float32).copy()
    alpha = np.zeros((h, w), np.uint8)
    inset = 0.5 * (1 - taper) * w
    outline = np.array([[inset, 0], [w - inset, 0], [w, h], [0, h]])
    cv2.fillConvexPoly(alpha, outline.astype(np.int32), 255, cv2.LINE_AA)
    if has_glass:
        middle = np.array([w / 2, h * 0.5])
        glass = middle + (outline - middle) * np.array([0.88, 0.82])
        mask = np.zeros((h, w), np.uint8)
        cv2.fillConvexPoly(mask, glass.astype(np.int32), 255, cv2.LINE_AA)
        dark = np.array([34, 40, 46]) * rng.uniform(0.6, 1.4)
        shine = np.clip(noise(rng, (h, w), (40, 15), (0.7, 0.3)) + 0.3, 0, 1)[..., None]
        pane = dark + shine * np.array([90, 104, 116]) * np.linspace(1, 0.3, h)[:, None, None]
        for x in (0.3, 0.7):
            cv2.ellipse(pane, (int(x * w), int(h * 0.66)), (9, 12), 0, 0, 360, _vec(dark * 0.9 + 12), -1)
        paint += (pane - paint) * (mask[..., None] / 255.0)
    return Texture(rgba_of(paint, alpha))


def _end(rng: np.random.Generator, colour: np.ndarray, height: float, is_rear: bool) -> Texture:
    """Rear or front below the window: lights, plate, bumper, wheels below the sill."""
    h, w = 80, 144
    down = np.linspace(1.08, 0.8, h, dtype=np.float32)[:, None, None]
    paint = (colour * down * np.ones((1, w, 1), np.float32)).astype(np.float32)
    sill = int(h * (1 - _SILL_M / height))
    alpha = np.full((h, w), 255, np.uint8)
    alpha[sill:] = 0
    bumper = int(h * 0.58)
    if rng.random() < 0.5:
        paint[bumper:sill] = paint[bumper:sill] * 0.4 + 18
    cv2.line(paint, (0, bumper), (w, bumper), _vec(colour * 0.45), 2)
    lamp = (rng.uniform(120, 220), 16.0, 18.0) if is_rear else (225.0, 228.0, 225.0)
    high, wide, y = int(rng.integers(10, 30)), int(rng.integers(14, 30)), int(rng.integers(6, 16))
    for x in (3, w - 4 - wide):
        cv2.rectangle(paint, (x, y), (x + wide, y + high), _vec(np.array(lamp) * 0.5), -1)
        cv2.rectangle(paint, (x + 2, y + 2), (x + wide - 2, y + high - 3), lamp, -1)
    if not is_rear:
        cv2.rectangle(paint, (w // 2 - 34, y + 4), (w // 2 + 34, y + 4 + high // 2), (26.0, 26.0, 28.0), -1)
    plate = (232.0, 190.0, 30.0) if is_rear else (230.0, 230.0, 225.0)
    py = int(h * (0.36 if is_rear and rng.random() < 0.6 else 0.62))
    cv2.rectangle(paint, (w // 2 - 20, py), (w // 2 + 20, py + 9), plate, -1)
    write(paint, 'AK54 LDE', (w // 2 - 18, py + 7), 0.26, (20.0, 20.0, 20.0), 1)
    paint[sill - 6 : sill] *= 0.45
    return Texture(rgba_of(paint, alpha))


def _side_lower(rng: np.random.Generator, shape: Shape, colour: np.ndarray, side: int) -> Texture:
    """Doors, sills, wheels; drawn with the front at the right, then mirrored as needed."""
    h, w = 72, int(72 * shape.length / (shape.belt * shape.height))
    per_m = h / (shape.belt * shape.height)
    down = np.linspace(1.1, 0.72, h, dtype=np.float32)[:, None, None]
    paint = (colour * down * np.ones((1, w, 1), np.float32)).astype(np.float32)
    alpha = np.zeros((h, w), np.uint8)
    sill = h - int(_SILL_M * per_m)
    nose = int(h * max(0.0, 1 - shape.bonnet / shape.belt))
    body = [[2, 0], [int(shape.screen_base * w), 0], [w - 4, nose], [w - 1, sill], [0, sill]]
    cv2.fillPoly(alpha, [np.array(body)], 255)
    radius = int(0.31 * per_m)
    for at in _AXLES if shape.length < 8 else _BUS_AXLES:
        middle = (int(at * w), h - radius)
        cv2.circle(paint, middle, int(radius * 1.18), (14.0,) * 3, -1)
        cv2.circle(alpha, middle, radius, 255, -1)
        cv2.circle(paint, middle, int(radius * 0.62), (150.0, 152.0, 154.0), -1)
        cv2.circle(paint, middle, int(radius * 0.4), (96.0, 98.0, 100.0), 2)
    for at in (0.36, 0.55, 0.72) if shape.length < 8 else (0.5, 0.93):
        cv2.line(paint, (int(at * w), 2), (int(at * w), sill - 4), _vec(colour * 0.5), 1)
    if rng.random() < 0.4:
        cv2.line(paint, (0, int(0.55 * h)), (w, int(0.55 * h)), _vec(colour * 0.4 + 10), 3)
    return _facing(paint, alpha, side)


def _side_upper(shape: Shape, colour: np.ndarray, side: int, has_windows: bool) -> Texture:
    h, w = 56, 224
    paint = np.broadcast_to(colour, (h, w, 3)).astype(np.float32).copy()
    alpha = np.zeros((h, w), np.uint8)
    outline = np.array(
        [[shape.rear_top, 0], [shape.roof_front, 0], [shape.screen_base, 1], [shape.rear_belt, 1]]
    )
    cv2.fillConvexPoly(alpha, (outline * (w - 1, h - 1)).astype(np.int32), 255, cv2.LINE_AA)
    middle = outline.mean(0)
    glass = middle + (outline - middle) * (0.93, 0.74)
    if not has_windows:
        glass[[0, 3], 0] = shape.roof_front - 0.06
    pane = np.zeros((h, w), np.uint8)
    cv2.fillConvexPoly(pane, (glass * (w - 1, h - 1)).astype(np.int32), 255, cv2.LINE_AA)
    shine = np.linspace(100, 34, h, dtype=np.float32)[:, None, None] * np.array([0.9, 1.0, 1.06])
    paint += (shine - paint) * (pane[..., None] / 255.0)
    pillars = (0.3, 0.53) if shape.length < 8 else tuple(np.arange(0.1, 0.95, 0.12))
    for at in pillars:
        cv2.line(paint, (int(at * w), 0), (int(at * w), h), _vec(colour * 0.7), 4)
    return _facing(paint, alpha, side)


def _facing(paint: np.ndarray, alpha: np.ndarray, side: int) -> Texture:
    """The right side shows the front at the right; the left side at the left."""
    rgba = rgba_of(paint, alpha)
    return Texture(rgba if side > 0 else np.ascontiguousarray(rgba[:, ::-1]))


def shadow_face(half: float, reach: float, strength: float) -> Face:
    """A soft dark patch on the ground, in object coordinates."""
    y, x = np.mgrid[-1:1:48j, -1:1:32j]
    distance = np.maximum(np.abs(x), np.abs(y)) * 0.6 + np.hypot(x, y) * 0.4
    alpha = 255 * strength * np.clip((1.0 - distance) / 0.35, 0, 1)
    texture = Texture(rgba_of(np.full((48, 32, 3), 16.0), alpha))
    corners = (np.array([x, 0.0, z]) for x, z in ((-half, reach), (half, reach), (-half, -reach)))
    return Face(texture, plane(*corners), CAR, is_lit=False, is_two_sided=True, layer=Layer.SHADOW)
