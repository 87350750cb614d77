# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Painted fronts, gables and roofs of buildings, walls, hedges and fences."""

import cv2
import numpy as np

from dff_ros.data.street.texture import Texture, flat, noise, rgba_of

_PX_PER_M = 30.0
_WALLS = {
    'brick': ((170, 142, 104), (132, 82, 62), (112, 88, 70), (156, 120, 88), (98, 66, 56)),
    'render': ((214, 208, 194), (226, 224, 218), (196, 180, 150), (180, 190, 196), (206, 186, 170)),
    'stone': ((150, 140, 122), (128, 122, 112), (168, 158, 136), (108, 100, 92)),
    'modern': ((120, 124, 130), (164, 164, 160), (86, 92, 100), (142, 116, 98), (190, 190, 188)),
}


def pixels(metres: float, at_least: int = 8) -> int:
    return max(at_least, min(720, round(metres * _PX_PER_M)))


def shape_of(width: float, height: float) -> tuple[int, int]:
    """Rows and columns of a texture of this size in metres."""
    return pixels(height), pixels(width)


def masonry(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> np.ndarray:
    """A bare wall (h, w, 3) float32: colour, stains, courses of bricks or stones."""
    colours = _WALLS[kind]
    base = np.array(colours[rng.integers(len(colours))], np.float32) * rng.uniform(0.8, 1.12)
    wall = flat(shape, base + rng.normal(0, 5, 3))
    stains = 14 * noise(rng, shape, (70, 22, 6, 1.0), (0.8, 0.5, 0.4, 0.5))
    cv2.add(wall, cv2.merge([stains] * 3), dst=wall)
    if kind in ('brick', 'stone'):
        course, length = (3, 8) if kind == 'brick' else (11, 22)
        tone = rng.normal(0, 9 if kind == 'stone' else 11, (shape[0] // course + 2, shape[1] // length + 3))
        rows = np.arange(shape[0])
        joint = np.float32(12 if base.mean() < 120 else -12)
        for is_shifted in (0, 1):  # every other course, by half a brick
            here = rows // course % 2 == is_shifted
            columns = np.arange(shape[1]) + is_shifted * (length // 2)
            tones = tone.astype(np.float32)[np.ix_(rows[here] // course, columns // length)]
            bricks = wall[here] + tones[..., None]
            is_joint = (rows[here] % course == 0)[:, None] | (columns % length == 0)
            wall[here] = bricks + np.where(is_joint, joint, np.float32(0))[..., None]
    wall[-max(2, shape[0] // 14) :] *= 0.86
    return wall


def facade(
    rng: np.random.Generator, width: float, height: float, kind: str, ground: str, lit: float
) -> Texture:
    """A front with rows of windows; ground is "door", "shop" or "plain"; lit is the share of lit windows."""
    shape = shape_of(width, height)
    wall = masonry(rng, shape, kind)
    storeys = max(1, round(height / rng.uniform(2.7, 3.3)))
    storey = shape[0] / storeys
    bay = pixels(rng.uniform(1.6, 3.4) if kind != 'modern' else rng.uniform(1.2, 4.0))
    bays = max(1, int(shape[1] / bay))
    style = _window_style(rng, kind)
    door_at = int(rng.integers(bays))
    for row in range(storeys):
        is_ground = row == storeys - 1
        if is_ground and ground == 'shop':
            _shop(rng, wall, int(row * storey), lit)
            continue
        for col in range(bays):
            middle = (col + 0.5) * shape[1] / bays
            top = row * storey + storey * style['drop']
            if is_ground and ground == 'door' and col == door_at:
                _door(rng, wall, middle, shape[0], storey)
                continue
            half = 0.5 * style['width'] * shape[1] / bays
            _window(
                rng, wall, (middle - half, top, middle + half, top + storey * style['height']), style, lit
            )
    if rng.random() < 0.7:
        cv2.rectangle(
            wall, (0, 0), (shape[1], int(0.02 * shape[0]) + 3), _vec(wall[5, 5] * rng.uniform(0.6, 1.35)), -1
        )
    if rng.random() < 0.5 and kind != 'modern':
        x = int(rng.choice([3, shape[1] - 5]))
        cv2.line(wall, (x, 0), (x, shape[0]), (38, 38, 40), 3)
    return Texture(rgba_of(wall))


def _vec(colour: np.ndarray | tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(c) for c in colour)


def _window_style(rng: np.random.Generator, kind: str) -> dict:
    frame = (232, 230, 224) if rng.random() < 0.7 else (60, 56, 52)
    modern = kind == 'modern'
    return {
        'frame': tuple(f * rng.uniform(0.8, 1.05) for f in frame),
        'width': rng.uniform(0.6, 0.97) if modern else rng.uniform(0.36, 0.58),
        'height': rng.uniform(0.5, 0.72),
        'drop': rng.uniform(0.12, 0.24),
        'panes': int(rng.integers(1, 4)),
        'sashes': int(rng.integers(1, 3)),
        'lintel': rng.uniform(0.6, 1.5) if rng.random() < 0.6 and not modern else 0.0,
    }


def _window(
    rng: np.random.Generator, wall: np.ndarray, box: tuple[float, ...], style: dict, lit: float
) -> None:
    x0, y0, x1, y1 = (int(v) for v in box)
    if x1 - x0 < 4 or y1 - y0 < 6:
        return
    if style['lintel']:
        colour = np.clip(wall[y0, x0] * style['lintel'] + 20, 0, 255)
        cv2.rectangle(wall, (x0 - 3, y0 - 6), (x1 + 3, y0), _vec(colour), -1)
        cv2.rectangle(wall, (x0 - 3, y1), (x1 + 3, y1 + 3), _vec(colour), -1)
    cv2.rectangle(wall, (x0 - 1, y0 - 1), (x1 + 1, y1 + 1), _vec(style['frame']), -1)
    _glass(rng, wall, x0 + 1, y0 + 1, x1, y1, lit)
    for k in range(1, style['panes']):
        x = x0 + (x1 - x0) * k // style['panes']
        cv2.line(wall, (x, y0), (x, y1), _vec(style['frame']), 1)
    for k in range(1, style['sashes'] + 1):
        y = y0 + (y1 - y0) * k // (style['sashes'] + 1)
        cv2.line(wall, (x0, y), (x1, y), _vec(style['frame']), 2 if k == 1 else 1)


def _glass(
    rng: np.random.Generator, wall: np.ndarray, x0: int, y0: int, x1: int, y1: int, lit: float
) -> None:
    h, w = wall[y0:y1, x0:x1].shape[:2]  # a window may reach beyond its wall
    if h == 0 or w == 0:
        return
    x1 = x0 + w
    down = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    if rng.random() < lit:
        colour = np.array([255, 214, 140], np.float32) * rng.uniform(0.7, 1.25)
        wall[y0:y1, x0:x1] = (1.1 - 0.35 * down) * colour
        return
    dark = np.array([34, 40, 46], np.float32) * rng.uniform(0.6, 1.6)
    sky = np.array([150, 165, 180], np.float32) * rng.uniform(0.15, 0.9)
    wall[y0:y1, x0:x1] = dark + (sky - dark) * np.clip(0.75 - down * rng.uniform(0.7, 1.6), 0, 1)
    if rng.random() < 0.35:
        edge = max(1, int(w * rng.uniform(0.1, 0.3)))
        wall[y0:y1, x0 : x0 + edge] = wall[y0:y1, x1 - edge : x1] = np.array([170, 165, 155]) * rng.uniform(
            0.5, 1.1
        )


def _door(rng: np.random.Generator, wall: np.ndarray, middle: float, bottom: int, storey: float) -> None:
    half, high = pixels(0.5), int(min(storey * 0.85, pixels(2.2)))
    colour = rng.uniform(20, 150, 3)
    x0, x1, y0 = int(middle - half), int(middle + half), bottom - high
    cv2.rectangle(wall, (x0 - 3, y0 - 3), (x1 + 3, bottom), (210.0, 208.0, 200.0), -1)
    cv2.rectangle(wall, (x0, y0), (x1, bottom), _vec(colour), -1)
    cv2.rectangle(wall, (x0 + 3, y0 + 3), (x1 - 3, y0 + high // 5), (50.0, 56.0, 62.0), -1)
    cv2.rectangle(wall, (x0 + 4, y0 + high // 3), (x1 - 4, bottom - 8), _vec(colour * 0.82), 1)


def _shop(rng: np.random.Generator, wall: np.ndarray, top: int, lit: float) -> None:
    h, w = wall.shape[:2]
    colour = rng.uniform(15, 170, 3)
    wall[top:] = colour
    board = top + max(6, (h - top) // 5)
    bright = np.clip(255 - colour, 60, 245)
    x = int(w * rng.uniform(0.05, 0.3))
    while x < w * 0.85:
        size = int(rng.integers(4, 14))
        cv2.rectangle(
            wall, (x, top + (board - top) // 3), (x + size, board - (board - top) // 4), _vec(bright), -1
        )
        x += size + int(rng.integers(2, 6))
    x = 5
    while x < w - 12:
        wide = int(rng.integers(pixels(1.0), pixels(3.0)))
        x1 = min(w - 5, x + wide)
        _glass(rng, wall, x, board + 4, x1, h - int(rng.integers(6, 20)), max(lit, 0.18))
        for _ in range(4):
            px, py = int(rng.integers(x, x1)), int(rng.integers(board + 4, h - 8))
            spot = wall[py : min(h - 10, py + 18), px : min(x1, px + int(rng.integers(4, 16)))]
            spot += (rng.uniform(30, 220, 3) - spot) * 0.5
        x = x1 + 6
    if rng.random() < 0.3:
        stripes = (np.arange(w) // 9 % 2)[None, :, None]
        wall[board - 2 : board + 14] = np.where(stripes, colour, 225)


def gable(rng: np.random.Generator, width: float, height: float, rise: float, kind: str) -> Texture:
    """A side wall with few windows; the top `rise` metres of its height form a triangle."""
    shape = shape_of(width, height)
    wall = masonry(rng, shape, kind)
    alpha = np.full(shape, 255, np.uint8)
    if rise > 0:
        shoulder = int(shape[0] * rise / height)
        alpha[:shoulder] = 0
        cv2.fillConvexPoly(alpha, np.array([[0, shoulder], [shape[1] // 2, 0], [shape[1], shoulder]]), 255)
    style = _window_style(rng, kind)
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(0.15, 0.7) * shape[1], rng.uniform(0.35, 0.75) * shape[0]
        _window(rng, wall, (x, y, x + pixels(0.9), y + pixels(1.3)), style, 0.0)
    return Texture(rgba_of(wall, alpha))


def roof(rng: np.random.Generator, width: float, slope: float) -> Texture:
    shape = shape_of(width, slope)
    base = np.array([(88, 84, 86), (122, 78, 60), (70, 72, 78), (104, 92, 80)][rng.integers(4)], np.float32)
    tiles = (
        flat(shape, base * rng.uniform(0.8, 1.15))
        + 12 * noise(rng, shape, (40, 8, 1), (0.7, 0.5, 0.5))[..., None]
    )
    tiles[:: max(3, shape[0] // 24)] *= 0.82
    if rng.random() < 0.3:
        x, y = int(rng.uniform(0.2, 0.6) * shape[1]), int(0.35 * shape[0])
        cv2.rectangle(tiles, (x, y), (x + pixels(0.9), y + pixels(1.0)), (70.0, 84.0, 98.0), -1)
    return Texture(rgba_of(tiles))


def plain(rng: np.random.Generator, width: float, height: float, kind: str | None = None) -> Texture:
    """A garden or college wall, a chimney; brick or stone where no kind is given."""
    kind = kind or ('brick' if rng.random() < 0.7 else 'stone')
    wall = masonry(rng, shape_of(width, height), kind)
    wall[:3] = wall[:3] * 0.8 + 40
    return Texture(rgba_of(wall))


def hedge(rng: np.random.Generator, width: float, height: float) -> Texture:
    shape = shape_of(width, height)
    leaves = noise(rng, shape, (16, 6, 2), (0.8, 0.7, 0.8))
    green = np.array([[62, 78, 40], [78, 84, 48], [48, 62, 38], [88, 80, 52]][rng.integers(4)], np.float32)
    colour = flat(shape, green) * (0.85 + 0.5 * leaves[..., None])
    colour *= np.linspace(1.25, 0.6, shape[0], dtype=np.float32)[:, None, None]
    top = noise(rng, (1, shape[1]), (20, 7, 2), (0.5, 0.3, 0.3))[0] * 0.1 + 0.06
    alpha = np.where(np.arange(shape[0])[:, None] / shape[0] > np.clip(top, 0, 0.3), 255, 0).astype(np.uint8)
    return Texture(rgba_of(colour, alpha))


def fence(rng: np.random.Generator, width: float, height: float) -> Texture:
    """Iron railings, a galvanised guard rail or wooden boards."""
    shape = shape_of(width, height)
    kind = rng.integers(3)
    colour = (
        flat(shape, [(34, 36, 40), (156, 160, 164), (128, 102, 74)][kind])
        + 10 * noise(rng, shape, (9, 2), (1, 1))[..., None]
    )
    if kind == 2:
        colour[:, :: pixels(0.15)] *= 0.6
        return Texture(rgba_of(colour))
    alpha = np.zeros(shape, np.uint8)
    for x in range(0, shape[1], max(4, pixels(rng.uniform(0.11, 0.16), 3))):
        cv2.line(alpha, (x, 0 if kind == 0 else 4), (x, shape[0]), 255, 1 + int(kind == 0))
    for x in range(0, shape[1], pixels(2.0)):
        cv2.line(alpha, (x, 0), (x, shape[0]), 255, 3)
    for y in (3, shape[0] - 5):
        cv2.line(alpha, (0, y), (shape[1], y), 255, 3)
    return Texture(rgba_of(colour, alpha))
