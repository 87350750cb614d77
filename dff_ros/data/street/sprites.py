# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Painted cut-outs: trees, people, cyclists, poles, signs and traffic lights."""

import math

import cv2
import numpy as np

from dff_ros.data.street.texture import Texture, flat, noise, rgba_of, write

_SKIN = ((226, 186, 160), (196, 150, 120), (140, 98, 72), (92, 64, 50), (236, 204, 184))


def tree(rng: np.random.Generator, leafiness: float) -> Texture:
    """A tree, square, trunk at the bottom middle, leaning right; bare, sparse or full crown."""
    size, large = 288, 640
    wood: np.ndarray = np.zeros((large, large), np.uint8)
    shoots: list[tuple[float, float]] = []
    trunk = (-math.pi / 2 + rng.normal(0, 0.05), rng.uniform(50, 95), rng.uniform(9, 16))
    _branch(rng, wood, (large / 2, large - 1.0), trunk, shoots)
    # scale the grown tree into the texture, with room for the leaves
    left, _, wide, high = cv2.boundingRect(wood)
    reach = max(large / 2 - left, left + wide - large / 2, high / 2) * 1.16
    scale = size / (2 * reach)
    matrix = np.array([[scale, 0, size / 2 - scale * large / 2], [0, scale, size - scale * large]])
    wood = cv2.warpAffine(wood, matrix, (size, size), flags=cv2.INTER_AREA)
    wood = np.clip(wood.astype(np.float32) * 1.3, 0, 255).astype(np.uint8)
    tips = [(scale * (a - large / 2) + size / 2, size - scale * (large - b)) for a, b in shoots]
    tips = [tip for tip in tips if tip[1] < 0.6 * size]
    if np.mean([tip[0] for tip in tips] or [size]) < size / 2:
        wood, tips = np.ascontiguousarray(wood[:, ::-1]), [(size - x, y) for x, y in tips]
    bark = np.array([84, 74, 64], np.float32) * rng.uniform(0.55, 1.1)
    colour = flat((size, size), bark) * (1 + 0.3 * noise(rng, (size, size), (12, 3), (0.5, 0.7))[..., None])
    if leafiness < 0.45:
        return Texture(rgba_of(colour, wood))
    leaves: np.ndarray = np.zeros((size, size), np.float32)
    shade = np.zeros((size, size), np.float32)
    for x, y in tips:
        radius = rng.uniform(0.03, 0.08) * size
        cv2.circle(leaves, (int(x), int(y)), int(radius), float(rng.uniform(0.6, 1.0)), -1)
        cv2.circle(
            shade,
            (int(x - radius * 0.3), int(y - radius * 0.4)),
            int(radius * 0.7),
            float(rng.uniform(0.2, 0.7)),
            -1,
        )
    leaves = cv2.GaussianBlur(leaves, (0, 0), 3)
    fine = noise(rng, (size, size), (14, 5, 2), (0.35, 0.45, 0.5))
    mask = leaves + fine * 0.75 * np.minimum(1, 2 * leaves) > 1.15 - 0.75 * leafiness
    green = np.array(
        [(76, 92, 44), (92, 98, 46), (58, 76, 44), (112, 98, 48), (66, 84, 54)][rng.integers(5)], np.float32
    )
    tone = 0.6 + 0.55 * cv2.GaussianBlur(shade, (0, 0), 4) + 0.42 * fine
    tone *= np.linspace(1.18, 0.75, size, dtype=np.float32)[:, None]
    colour = np.where(mask[..., None], green * tone[..., None], colour)
    return Texture(rgba_of(colour, np.maximum(wood, mask.astype(np.uint8) * 255)))


def _branch(
    rng: np.random.Generator,
    canvas: np.ndarray,
    start: tuple[float, float],
    shoot: tuple[float, float, float],
    tips: list[tuple[float, float]],
) -> None:
    angle, length, thickness = shoot
    end = (start[0] + math.cos(angle) * length, start[1] + math.sin(angle) * length)
    begin, stop = ((int(p[0] * 16), int(p[1] * 16)) for p in (start, end))
    cv2.line(canvas, begin, stop, 255, max(1, round(thickness)), cv2.LINE_AA, 4)
    if thickness < 2.6:
        tips.append(end)
    if length < 11 or thickness < 0.7:
        return
    for _ in range(3 if thickness < 6 else int(rng.integers(3, 5))):
        turn = angle + rng.normal(0, 0.5)
        turn += 0.12 * math.sin(-math.pi / 2 - turn)
        _branch(
            rng,
            canvas,
            end,
            (turn, length * rng.uniform(0.62, 0.92), thickness * rng.uniform(0.5, 0.68)),
            tips,
        )


def bush(rng: np.random.Generator) -> Texture:
    size = 96
    fine = noise(rng, (size, size), (20, 7, 2), (0.5, 0.5, 0.5))
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    mask = x**2 + np.where(y < 0.2, (y - 0.2) ** 2, 0) < 0.72 + 0.35 * fine
    green = np.array([(70, 88, 44), (54, 70, 40), (98, 96, 54)][rng.integers(3)], np.float32)
    colour = green * (0.8 + 0.5 * fine - 0.25 * y)[..., None]
    return Texture(rgba_of(colour, mask.astype(np.uint8) * 255))


def body(rng: np.random.Generator) -> Texture:
    """Head, trunk and arms of a person, 96 x 64 texels for 1.0 x 0.62 m, from behind or the front."""
    h, w = 96, 64
    coat = _clothes(rng)
    colour = flat((h, w), coat)
    alpha = np.zeros((h, w), np.uint8)
    shoulder, hip = rng.uniform(14, 18), rng.uniform(10, 13)
    trunk = np.array(
        [
            [32 - shoulder, 30],
            [32 - shoulder * 0.6, 25],
            [32 + shoulder * 0.6, 25],
            [32 + shoulder, 30],
            [32 + hip + 2, 95],
            [32 - hip - 2, 95],
        ]
    )
    cv2.fillConvexPoly(alpha, trunk.astype(np.int32), 255, cv2.LINE_AA)
    for side in (-1, 1):
        elbow = (int(32 + side * (shoulder + 4)), 58)
        hand = (int(32 + side * (shoulder + rng.uniform(-3, 4))), 84)
        cv2.line(alpha, (int(32 + side * (shoulder - 2)), 31), elbow, 255, 8, cv2.LINE_AA)
        cv2.line(alpha, elbow, hand, 255, 7, cv2.LINE_AA)
        cv2.line(
            colour, (int(32 + side * (shoulder - 3)), 34), (elbow[0] - side * 4, 80), _vec(coat * 0.75), 1
        )
        cv2.circle(colour, hand, 4, _vec(np.array(_SKIN[rng.integers(5)])), -1)
    _head(rng, colour, alpha, (32, 13))
    if rng.random() < 0.35:
        cv2.rectangle(colour, (22, 34), (42, 64), _vec(_clothes(rng)), -1)
    colour *= 1 + 0.2 * noise(rng, (h, w), (16, 4, 1), (0.7, 0.5, 0.3))[..., None]
    colour *= np.linspace(1.1, 0.85, w, dtype=np.float32)[None, :, None]
    return Texture(rgba_of(colour, alpha))


def _clothes(rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.65:
        return rng.uniform(20, 85) + rng.normal(0, 10, 3)
    return rng.uniform(20, 225, 3)


def _vec(colour: np.ndarray) -> tuple[float, ...]:
    return tuple(float(c) for c in np.clip(colour, 0, 255))


def _head(rng: np.random.Generator, colour: np.ndarray, alpha: np.ndarray, at: tuple[int, int]) -> None:
    skin, hair = np.array(_SKIN[rng.integers(5)], np.float32), np.array([60, 46, 34]) * rng.uniform(0.3, 2.6)
    cv2.ellipse(alpha, at, (8, 11), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cv2.rectangle(alpha, (at[0] - 4, at[1] + 8), (at[0] + 4, at[1] + 15), 255, -1)
    colour[: at[1] + 13, at[0] - 11 : at[0] + 11] = skin
    limit = at[1] - 3 if rng.random() < 0.5 else at[1] + 7
    colour[:limit, at[0] - 11 : at[0] + 11] = hair


def leg(rng: np.random.Generator) -> Texture:
    h, w = 64, 20
    trousers = _clothes(rng) * 0.8
    colour = flat((h, w), trousers) * (1 + 0.2 * noise(rng, (h, w), (10, 3), (0.7, 0.5))[..., None])
    colour[-7:] = 26
    alpha = np.zeros((h, w), np.uint8)
    cv2.fillConvexPoly(alpha, np.array([[2, 0], [17, 0], [14, 60], [6, 60]]), 255, cv2.LINE_AA)
    cv2.rectangle(alpha, (4, 56), (16, 63), 255, -1)
    return Texture(rgba_of(colour, alpha))


def rider(rng: np.random.Generator) -> tuple[Texture, Texture]:
    """A cyclist seen along the road (1.75 x 0.75 m) and across it, riding to the right (1.75 x 1.75 m)."""
    coat = np.array([200.0, 230.0, 40.0]) if rng.random() < 0.3 else _clothes(rng)
    trousers = _clothes(rng) * 0.7
    return _rider_along(rng, coat, trousers), _rider_across(rng, coat, trousers)


def _rider_along(rng: np.random.Generator, coat: np.ndarray, trousers: np.ndarray) -> Texture:
    h, w = 128, 56
    colour, alpha = flat((h, w), coat), np.zeros((h, w), np.uint8)
    cv2.fillConvexPoly(
        alpha, np.array([[14, 30], [20, 23], [36, 23], [42, 30], [38, 70], [18, 70]]), 255, cv2.LINE_AA
    )
    for side in (-1, 1):
        cv2.line(alpha, (28 + side * 13, 31), (28 + side * 20, 56), 255, 7, cv2.LINE_AA)
        foot = 104 + 8 * side
        cv2.line(alpha, (28 + side * 8, 66), (28 + side * 9, foot), 255, 9, cv2.LINE_AA)
    _head(rng, colour, alpha, (28, 12))
    if rng.random() < 0.4:
        colour[:9, 18:38] = rng.uniform(20, 240, 3)
    cv2.line(alpha, (28, 66), (28, 126), 255, 5)
    cv2.line(alpha, (6, 58), (50, 58), 255, 2)
    colour[68:] = trousers
    colour[84:, 24:33] = 24
    colour[72:76, 25:32] = (190, 20, 20)
    colour *= 1 + 0.2 * noise(rng, (h, w), (16, 4), (0.7, 0.5))[..., None]
    return Texture(rgba_of(colour, alpha))


def _rider_across(rng: np.random.Generator, coat: np.ndarray, trousers: np.ndarray) -> Texture:
    size = 128
    colour, alpha = flat((size, size), (28, 28, 30)), np.zeros((size, size), np.uint8)
    for x in (26, 102):
        cv2.circle(alpha, (x, 102), 24, 255, 2, cv2.LINE_AA)
    frame = [(26, 102), (52, 70), (88, 68), (60, 102), (26, 102)]
    cv2.polylines(alpha, [np.array(frame)], False, 255, 3, cv2.LINE_AA)
    cv2.polylines(alpha, [np.array([(60, 102), (50, 62)])], False, 255, 3, cv2.LINE_AA)
    cv2.polylines(alpha, [np.array([(102, 102), (88, 60), (96, 56)])], False, 255, 3, cv2.LINE_AA)
    for canvas, paint in ((alpha, (255, 255, 255)), (colour, (trousers, coat, coat))):
        tones = [p if isinstance(p, int) else _vec(p) for p in paint]
        cv2.polylines(canvas, [np.array([(50, 60), (72, 76), (64, 106)])], False, tones[0], 10)
        cv2.line(canvas, (50, 58), (72, 28), tones[1], 19)
        cv2.line(canvas, (72, 32), (92, 56), tones[2], 7)
    cv2.circle(alpha, (78, 13), 10, 255, -1, cv2.LINE_AA)
    cv2.circle(colour, (78, 13), 10, _vec(np.array(_SKIN[rng.integers(5)])), -1)
    cv2.ellipse(colour, (77, 10), (11, 7), 0, 180, 360, _vec(rng.uniform(10, 220, 3)), -1)
    return Texture(rgba_of(colour, alpha))


def pole(rng: np.random.Generator) -> Texture:
    tone = np.array(
        [(130, 134, 136), (52, 56, 56), (96, 104, 100), (150, 150, 146)][rng.integers(4)], np.float32
    )
    shade = np.array([0.75, 1.1, 1.15, 1.0, 0.8, 0.6], np.float32)[None, :, None]
    colour = flat((64, 6), tone) * shade + 8 * noise(rng, (64, 6), (12, 1), (0.7, 0.5))[..., None]
    return Texture(rgba_of(colour))


def arm(rng: np.random.Generator) -> Texture:
    """Bracket and head of a lamp post, 24 x 96 texels; the post is at the left."""
    alpha = np.zeros((24, 96), np.uint8)
    cv2.polylines(alpha, [np.array([(0, 22), (10, 12), (60, 5)])], False, 255, 3, cv2.LINE_AA)
    cv2.ellipse(alpha, (76, 6), (19, 5), 0, 0, 360, 255, -1)
    colour = flat((24, 96), np.array([120, 124, 126]) * rng.uniform(0.5, 1.2))
    colour[7:, 60:] = (205, 205, 195)
    return Texture(rgba_of(colour, alpha))


def traffic_light(rng: np.random.Generator) -> Texture:
    colour = flat((72, 28), (22, 24, 24))
    lit = int(rng.integers(3))
    for k, tone in enumerate(((250, 50, 30), (250, 180, 40), (60, 240, 140))):
        cv2.circle(
            colour, (14, 13 + 23 * k), 9, _vec(np.array(tone) * (1.0 if k == lit else 0.2)), -1, cv2.LINE_AA
        )
    cv2.rectangle(colour, (0, 0), (27, 71), (70.0, 70.0, 70.0), 1)
    return Texture(rgba_of(colour))


def sign(rng: np.random.Generator) -> tuple[Texture, float, float]:
    """A road sign: texture, width and height in metres."""
    n = 64
    colour, alpha = flat((n, n), (240, 240, 238)), np.zeros((n, n), np.uint8)
    kind = rng.choice(
        ['ring', 'blue', 'triangle', 'board', 'advert', 'green'], p=[0.2, 0.12, 0.18, 0.22, 0.18, 0.1]
    )
    if kind in ('ring', 'blue'):
        cv2.circle(alpha, (32, 32), 31, 255, -1, cv2.LINE_AA)
        colour[:] = (238, 238, 236) if kind == 'ring' else (20, 70, 160)
        if kind == 'ring':
            cv2.circle(colour, (32, 32), 27, (200.0, 24.0, 30.0), 8)
        text = str(rng.choice(['20', '30', '40', 'C', 'P'])) if kind == 'ring' else '<'
        write(colour, text, (12, 44), 1.0, (20.0,) * 3 if kind == 'ring' else (245.0,) * 3, 4)
        return Texture(rgba_of(colour, alpha)), 0.65, 0.65
    if kind == 'triangle':
        points = np.array([[32, 2], [62, 58], [2, 58]])
        cv2.fillConvexPoly(alpha, points, 255, cv2.LINE_AA)
        cv2.polylines(colour, [points], True, (200.0, 24.0, 30.0), 13)
        cv2.rectangle(colour, (29, 26), (34, 46), (15.0,) * 3, -1)
        return Texture(rgba_of(colour, alpha)), 0.8, 0.8
    alpha[:] = 255
    ground = {'board': (24, 60, 140), 'green': (10, 90, 60)}.get(str(kind), tuple(rng.uniform(20, 240, 3)))
    colour[:] = ground
    for y in range(10, 54, 13):
        x1 = int(rng.integers(24, 58))
        cv2.rectangle(colour, (8, y), (x1, y + 6), _vec(255 - np.array(ground) * 0.4), -1)
    cv2.rectangle(colour, (1, 1), (62, 62), (236.0,) * 3, 2)
    wide = float(rng.uniform(0.7, 2.0))
    return Texture(rgba_of(colour, alpha)), wide, wide * float(rng.uniform(0.6, 1.3))
