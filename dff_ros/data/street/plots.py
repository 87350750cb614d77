# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What lines the street: plots with houses, gardens, boundaries, parks; the backs behind them."""

import math
from collections.abc import Callable

import numpy as np

from dff_ros.data.classes import BUILDING, FENCE, TREE
from dff_ros.data.street import facades, library
from dff_ros.data.street.layout import ZONE_M, Caster
from dff_ros.data.street.site import Site
from dff_ros.data.street.surfaces import Face, plane, upright
from dff_ros.data.street.texture import Deferred

_MATERIAL = {
    'terrace': ('brick', 'brick', 'render'),
    'detached': ('brick', 'render'),
    'shops': ('brick', 'render', 'stone'),
    'blocks': ('modern', 'brick'),
    'college': ('stone', 'brick'),
}


def line_up(site: Site, side: int) -> None:
    """Plots along one side, leaving the side street open."""
    kind = site.layout.kind(site.zone.number, side)
    edge, rng = site.road.edge(side) + 0.15, site.rng
    s, end = site.start, site.start + ZONE_M
    span = site.layout.junction(site.zone.number, side)
    setback = {'terrace': rng.uniform(0, 2.5), 'shops': 0.0, 'blocks': rng.uniform(0, 5)}.get(
        kind, rng.uniform(4, 9)
    )
    while s < end - 4:
        if span is not None and span[0] - 3.0 < s < span[1]:
            s = span[1] + 1.0
            continue
        limit = end if span is None or s > span[0] else span[0] - 0.5
        width = min(_plot_width(site, kind), limit - s)
        if limit - s - width < 4:
            width = limit - s
        _plot(site, side, kind, s, width, edge + setback)
        s += width
    _behind(site, side, edge + 16)
    if span is not None:
        _side_street_end(site, side, span)


def _plot_width(site: Site, kind: str) -> float:
    low, high = {'terrace': (5, 8), 'detached': (11, 18), 'shops': (5, 12), 'blocks': (14, 30)}.get(
        kind, (18, 40)
    )
    return float(site.rng.uniform(low, high))


def _plot(site: Site, side: int, kind: str, s: float, width: float, front: float) -> None:
    rng, edge = site.rng, site.road.edge(side) + 0.15
    if kind == 'park':
        _boundary(site, side, s, s + width, edge, ('fence', 'hedge', 'open', 'fence'))
        for _ in range(int(width / 5)):
            site.tree(s + rng.uniform(0, width), side * (edge + rng.uniform(2, 14)), rng.uniform(5, 11))
        return
    material = str(rng.choice(_MATERIAL[kind]))
    low, high = {'terrace': (5.5, 8), 'detached': (5, 7), 'shops': (6.5, 12), 'blocks': (8, 18)}.get(
        kind, (7, 13)
    )
    gap = {'detached': rng.uniform(2, 5), 'college': rng.uniform(2, 10)}.get(kind, 0.0)
    if kind == 'terrace' and rng.random() < 0.12:
        gap = width * 0.6
    ground = {'terrace': 'door', 'shops': 'shop', 'detached': 'door'}.get(kind, 'plain')
    _house(
        site,
        side,
        (s, s + width - gap),
        front + rng.uniform(0, 0.5),
        rng.uniform(low, high),
        material,
        ground,
    )
    if front - edge > 1.2:
        choices = {'college': ('wall', 'fence'), 'detached': ('hedge', 'wall', 'fence', 'open')}
        _boundary(site, side, s, s + width, edge, choices.get(kind, ('wall', 'fence', 'hedge')))
        for _ in range(int(rng.integers(0, 3))):
            site.bush(s + rng.uniform(0, width), side * rng.uniform(edge + 0.6, front))


def _house(
    site: Site, side: int, span: tuple[float, float], d: float, height: float, material: str, ground: str
) -> None:
    rng = site.rng
    s0, s1 = span
    if s1 - s0 < 2.5:
        return
    a, b = site.at(s0, side * d), site.at(s1, side * d)
    along = (b - a) / np.linalg.norm(b - a)
    away = side * np.array([along[1], -along[0]])
    width, depth = float(np.linalg.norm(b - a)), float(rng.uniform(7, 11))
    rise = 0.0 if material == 'modern' or rng.random() < 0.12 else float(rng.uniform(1.8, 3.6))
    paint = site.painter()
    left, right = (a, b) if side < 0 else (b, a)
    near, far = (a + away * depth, a) if side < 0 else (a, a + away * depth)
    front = paint(facades.facade, width, height, material, ground, library.lit_windows(site.layout.seed))
    flank = paint(facades.gable, depth, height + rise, rise, material)
    faces = [
        Face(front, upright(left, right, height), BUILDING),
        Face(flank, upright(near, far, height + rise), BUILDING),
    ]
    if rise:
        ridge = away * depth / 2
        faces.append(_roof(paint, (left, right), ridge, (height, rise)))
    if rise and rng.random() < 0.5:
        at = a + along * width * rng.choice([0.06, 0.94]) + ridge
        across, top = away * 0.5 * side, height + rise
        chimney = paint(facades.plain, 1.0, 1.6, material)
        faces.append(Face(chimney, upright(at - across, at + across, top + 1.1, top - 0.6), BUILDING))
    site.zone.add(tuple(faces))
    footprint = np.stack([a, b, a + away * depth, b + away * depth])
    site.zone.casters.append(Caster(footprint, height + 0.4 * rise))


def _roof(
    paint: Callable[..., Deferred],
    eaves: tuple[np.ndarray, np.ndarray],
    ridge: np.ndarray,
    heights: tuple[float, float],
) -> Face:
    """The slope from the eaves (left, right) to the ridge, `ridge` away; heights of eaves and rise."""
    left, right = eaves
    height, rise = heights

    def point(xz: np.ndarray, y: float) -> np.ndarray:
        return np.array([xz[0], y, xz[1]])

    corners = (
        point(left + ridge, height + rise),
        point(right + ridge, height + rise),
        point(left, height),
    )
    width, slope = float(np.linalg.norm(right - left)), math.hypot(rise, float(np.linalg.norm(ridge)))
    return Face(paint(facades.roof, width, slope), plane(*corners), BUILDING)


def _boundary(site: Site, side: int, s0: float, s1: float, d: float, choices: tuple[str, ...]) -> None:
    rng = site.rng
    kind = str(rng.choice(choices))
    if kind == 'open':
        return
    gap = rng.uniform(1.0, 3.0) if rng.random() < 0.5 else 0.0
    s1 -= gap
    if s1 - s0 < 1.5:
        return
    high = {
        'hedge': rng.uniform(0.8, 2.2),
        'wall': rng.uniform(0.6, 2.2),
        'fence': rng.uniform(0.9, 1.9),
    }[kind]
    paint, label = {
        'hedge': (facades.hedge, TREE),
        'wall': (facades.plain, BUILDING),
        'fence': (facades.fence, FENCE),
    }[kind]
    site.wall(side, s0, s1, d, high, site.painter()(paint, s1 - s0, high), label)


def _behind(site: Site, side: int, d: float) -> None:
    """A second row, seen through the gaps: trees and backs of houses."""
    rng = site.rng
    s = site.start
    while s < site.start + ZONE_M - 3:
        width = rng.uniform(10, 25)
        if not site.is_in_side_street(side, s, 4.0) and not site.is_in_side_street(side, s + width, 4.0):
            if rng.random() < 0.45:
                _house(
                    site, side, (s, s + width), d + rng.uniform(0, 5), rng.uniform(5, 11), 'brick', 'plain'
                )
            else:
                site.tree(s, side * (d - 2), rng.uniform(6, 12))
        s += width


def _side_street_end(site: Site, side: int, span: tuple[float, float]) -> None:
    """What closes the view into a side street, and its name plate or give-way sign."""
    edge = site.road.edge(side)
    _house(site, side, (span[0] - 8, span[1] + 8), edge + 17, site.rng.uniform(5, 9), 'brick', 'door')
    site.post_with_sign(span[1] + 0.6, side * (site.road.kerb(side) + 0.5))
