# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What stands on pavements and verges, and the parked cars."""

import math
from dataclasses import replace

import numpy as np

from dff_ros.data.classes import FENCE, POLE, SIGN
from dff_ros.data.street import facades, library
from dff_ros.data.street.layout import ZONE_M
from dff_ros.data.street.site import Site
from dff_ros.data.street.surfaces import heading_rotation


def trees(site: Site, side: int) -> None:
    """Street trees on the verge or the outer half of the pavement."""
    road, rng = site.road, site.rng
    if rng.random() > road.greenery:
        return
    wide = road.verge[side > 0] or road.pavement[side > 0]
    if wide < 1.2:
        return
    spacing, size = rng.uniform(8, 20), rng.uniform(4.5, 9)
    s = site.start + rng.uniform(0, spacing)
    while s < site.start + ZONE_M:
        if not site.is_in_side_street(side, s, 2.5):
            site.tree(s, side * (road.kerb(side) + 0.7), size * rng.uniform(0.8, 1.2))
        s += spacing * rng.uniform(0.8, 1.3)


def furniture(site: Site, side: int) -> None:
    """Lamp posts, signs, bollards, guard rails on the pavement."""
    road, rng = site.road, site.rng
    inner, outer = road.kerb(side) + 0.45, road.edge(side) - 0.15
    lamp_d = inner if road.leafiness < 0.5 else outer
    high, spacing = rng.uniform(5, 8.5), rng.uniform(22, 38)
    s = site.start + rng.uniform(0, spacing)
    while s < site.start + ZONE_M:
        if not site.is_in_side_street(side, s, 1.0):
            site.post(s, side * lamp_d, high, 0.16)
            arm = library.arm(site.layout.seed, side)
            site.sprite(arm, s - 0.05, side * (lamp_d - 0.9), (1.8, 0.45), POLE, high - 0.42)
        s += spacing
    for _ in range(int(rng.integers(1, 8))):
        s = site.start + rng.uniform(0, ZONE_M)
        if not site.is_in_side_street(side, s, 1.0):
            site.post_with_sign(s, side * rng.uniform(inner, max(inner, outer)))
    if rng.random() < 0.35:
        s, step = site.start + rng.uniform(0, 60), rng.uniform(1.2, 2.0)
        for k in range(int(rng.integers(3, 9))):
            if not site.is_in_side_street(side, s + k * step, 0.5):
                site.post(s + k * step, side * inner, 1.0, 0.13)
    if rng.random() < 0.4 and not road.has_parking[side > 0]:
        s0, length = site.start + rng.uniform(0, 4), rng.uniform(8, 16)
        texture = site.painter()(facades.fence, length, 1.05)
        site.wall(side, s0, s0 + length, road.kerb(side) + 0.25, 1.05, texture, FENCE)


def crossing(site: Site) -> None:
    """Traffic lights or beacons beside a zebra crossing or junction."""
    piece = int(site.start // 10) + 6
    for side in (-1, 1):
        span = site.layout.junction(site.zone.number, side)
        s = (piece + 0.5) * 10 - 2.9 if site.layout.is_crossing(piece) else span[0] - 1.0 if span else None
        if s is None or site.rng.random() < 0.35:
            continue
        d = side * (site.road.kerb(side) + 0.4)
        site.post(s, d, 3.2, 0.12)
        texture = library.traffic_light(site.layout.seed, int(site.rng.integers(3)))
        site.sprite(texture, s - 0.08, d, (0.36, 0.95), SIGN, 2.25)


def park(site: Site, side: int) -> None:
    """Parked cars in the parking lane."""
    road, rng = site.road, site.rng
    if not road.has_parking[side > 0]:
        return
    share = road.parked * rng.uniform(0.5, 1.1)
    for k in range(int(ZONE_M / 6.1)):
        s = site.start + 3.05 + k * 6.1
        is_near_crossing = 56 < s - site.start < 74 and site.layout.is_crossing(int(site.start // 10) + 6)
        if rng.random() > share or site.is_in_side_street(side, s, 3.5) or is_near_crossing:
            continue
        d = side * (road.half_width + 1.08)
        xz, heading = site.layout.course.locate(s + rng.uniform(-0.4, 0.4), d)
        is_reversed = (side < 0) != road.drives_left or rng.random() < 0.1
        rotation = heading_rotation(float(heading) + math.pi * is_reversed + rng.normal(0, 0.015))
        faces = library.vehicle(site.layout.seed, int(rng.integers(24)))
        position = np.array([xz[0], 0.0, xz[1]])
        site.zone.add(
            tuple(replace(face, frame=_placed(face.frame, rotation, position)) for face in faces), True
        )


def _placed(frame: np.ndarray, rotation: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The frame of a face of an object that stands at a position in the world."""
    world = rotation @ frame
    world[:, 2] += position
    return world
