# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What moves by itself: vehicles, pedestrians and cyclists, each a function of time only."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from dff_ros.data.classes import BICYCLIST, PEDESTRIAN
from dff_ros.data.street import library
from dff_ros.data.street.hashing import rng_of, uniforms
from dff_ros.data.street.layout import ZONE_M, Layout
from dff_ros.data.street.motion import Drive
from dff_ros.data.street.surfaces import Face, Pose, Thing, heading_rotation, upright
from dff_ros.data.street.texture import Texture
from dff_ros.data.street.vehicles import shadow_face

_AHEAD_M, _BEHIND_M = 120.0, 8.0
_STREAMS = 16
_INSTANCE_BASE = 1 << 28
_LEAD_EPISODE_S = 45.0

Place = Callable[[float], tuple[float, float, np.ndarray]]
"""Time in seconds -> s, d and velocity (across, along) on the road."""


class Traffic:
    """All moving things near the camera at a time. Streams of equal speed never collide with themselves."""

    def __init__(self, seed: int, layout: Layout, drive: Drive) -> None:
        self._seed, self._layout, self._drive, self._road = seed, layout, drive, layout.road
        rng = rng_of(seed, 81)
        self._is_one_way = bool(rng.random() < 0.2)
        self._speeds = rng.uniform(0.85, 1.15, _STREAMS)
        self._spacing = rng.uniform(0.8, 1.3, _STREAMS)
        self._things: dict[tuple[int, ...], tuple[Thing, ...]] = {}

    def things(self, t: float) -> Iterator[Thing]:
        """Everything that moves and may be seen at time t (seconds)."""
        if len(self._things) > 2000:
            self._things.clear()
        s = self._drive.distance(t)
        for stream in range(2):
            yield from self._vehicles(stream, t, s)
        yield from self._leaders(t)
        for side in (-1, 1):
            for stream in range(3):
                yield from self._walkers(side, stream, t, s)
            yield from self._cyclists(side, t, s)
        yield from self._crossers(s)

    def _slots(self, spacing: float, speed: float, t: float, s: float) -> range:
        return range(
            math.floor((s - _BEHIND_M - speed * t) / spacing) - 1,
            math.ceil((s + _AHEAD_M - speed * t) / spacing),
        )

    def _follow(self, s0: float, speed: float, d: float, faces_back: bool) -> Pose:
        """Along the road at constant speed."""

        def pose(t: float) -> tuple[np.ndarray, np.ndarray]:
            xz, heading = self._layout.course.locate(s0 + speed * t, d)
            return heading_rotation(float(heading) + math.pi * faces_back), np.array([xz[0], 0.0, xz[1]])

        return pose

    def _instance(self, stream: int, slot: int, part: int = 0) -> int:
        return _INSTANCE_BASE + (stream * 4 + part) * (1 << 22) + slot % (1 << 22)

    def _vehicles(self, stream: int, t: float, s: float) -> Iterator[Thing]:
        """The other lane: oncoming, or overtaking in a one-way street; stream 1 has the buses."""
        road = self._road
        forward = self._is_one_way
        speed = self._drive.cruise * 1.3 if forward else -8.5 * float(self._speeds[0])
        spacing = 21.0 * float(self._spacing[0])
        for slot in self._slots(spacing, speed, t, s):
            exists, jitter, variant = uniforms(3, self._seed, 82, slot)
            if slot % 2 != stream or exists > road.traffic * (0.9 if stream == 0 else 0.6):
                continue
            key = (2, 0, slot)
            if key not in self._things:
                is_bus = stream == 1 and variant < 0.12
                faces = (
                    library.bus(self._seed, slot % 3)
                    if is_bus
                    else library.vehicle(self._seed, int(variant * 24))
                )
                pose = self._follow(slot * spacing + jitter * 7, speed, -road.lane_d, not forward)
                self._things[key] = (Thing(key, faces, self._instance(0, slot), pose),)
            yield from self._things[key]

    def _leaders(self, t: float) -> Iterator[Thing]:
        """Vehicles ahead in the camera's lane: where the camera will be some seconds later, and a gap."""
        episode = int(t // _LEAD_EPISODE_S)
        exists, second, variant, near = uniforms(4, self._seed, 83, episode)
        for k in range(2):
            if (exists if k == 0 else second) > self._road.traffic + 0.15:
                break
            key = (2, 1, episode, k)
            if key not in self._things:
                pose = self._lead(episode * _LEAD_EPISODE_S, 1.2 + 1.8 * near + 2.4 * k, 6.5 + 7.0 * k)
                is_bus = variant > 0.93 and k == 0
                faces = (
                    library.bus(self._seed, 3)
                    if is_bus
                    else library.vehicle(self._seed, int(variant * 24 + 5 * k) % 24)
                )
                self._things[key] = (Thing(key, faces, self._instance(1, episode, k), pose),)
            yield from self._things[key]

    def _lead(self, start: float, ahead_s: float, gap: float) -> Pose:
        def pose(t: float) -> tuple[np.ndarray, np.ndarray]:
            u = (t - start) / _LEAD_EPISODE_S
            far = _smooth(1 - u / 0.35) + _smooth((u - 0.7) / 0.3)
            s = self._drive.distance(max(0.0, t) + ahead_s + 14.0 * far) + gap
            xz, heading = self._layout.course.locate(s, self._road.lane_d)
            return heading_rotation(float(heading)), np.array([xz[0], 0.0, xz[1]])

        return pose

    def _walkers(self, side: int, stream: int, t: float, s: float) -> Iterator[Thing]:
        """Pedestrians along the pavement: towards the camera, away from it, standing."""
        road = self._road
        speed = (1.35, -1.3, 0.0)[stream] * float(self._speeds[3 + stream])
        number = 2 + 3 * (side > 0) + stream
        spacing = 11.0 * float(self._spacing[number]) * (2.0 if stream == 2 else 1.0)
        inner = road.kerb(side) + road.verge[side > 0]
        wide = road.pavement[side > 0]
        for slot in self._slots(spacing, speed, t, s):
            exists, jitter, lateral, variant = uniforms(4, self._seed, 84, number, slot)
            if exists > road.people * 0.75:
                continue
            key = (2, number, slot)
            if key not in self._things:
                d = side * (inner + (0.25 + 0.55 * lateral) * wide)
                start = slot * spacing + jitter * spacing * 0.8
                place = self._along(start, speed, d)
                self._things[key] = self._person(key, self._instance(number, slot), place, int(variant * 40))
            yield from self._things[key]

    def _along(self, s0: float, speed: float, d: float) -> Place:
        def place(t: float) -> tuple[float, float, np.ndarray]:
            return s0 + speed * t, d, np.array([0.0, speed])

        return place

    def _crossers(self, s: float) -> Iterator[Thing]:
        """People who use the zebra crossing before the camera arrives."""
        for zone in range(int(s // ZONE_M), int((s + _AHEAD_M) // ZONE_M) + 1):
            piece = zone * 8 + 6
            if not self._layout.is_crossing(piece):
                continue
            for k in range(3):
                exists, way, start, variant = uniforms(4, self._seed, 85, zone, k)
                if exists > 0.25 + 0.6 * self._road.people:
                    continue
                key = (2, 9, zone, k)
                if key not in self._things:
                    at = (piece + 0.5) * 10.0 + 0.7 * k - 0.7
                    place = self._across(
                        at, self._drive.arrival(at - 9.0) - 6.5 - 2.5 * start, 1 if way < 0.5 else -1
                    )
                    self._things[key] = self._person(
                        key, self._instance(9, zone, k), place, int(variant * 40)
                    )
                yield from self._things[key]

    def _across(self, s: float, start: float, way: int) -> Place:
        begin, end = -way * (self._road.kerb(-way) + 0.9), way * (self._road.kerb(way) + 0.9)
        speed = abs(end - begin) / 6.5

        def place(t: float) -> tuple[float, float, np.ndarray]:
            u = (t - start) * speed / abs(end - begin)
            is_walking = 0 < u < 1
            return s, begin + (end - begin) * min(max(u, 0.0), 1.0), np.array([way * speed * is_walking, 0.0])

        return place

    def _person(self, key: tuple[int, ...], instance: int, place: Place, variant: int) -> tuple[Thing, ...]:
        """Upper body, two swinging legs and a shadow."""
        body, leg = library.person(self._seed, variant)
        height, phase, turn = uniforms(3, self._seed, 86, variant, instance)
        scale = 0.86 + 0.2 * height
        locate = self._layout.course.locate

        def stand(t: float) -> tuple[np.ndarray, np.ndarray]:
            s, d, _ = place(t)
            xz, heading = locate(s, d)
            return heading_rotation(float(heading) + 0.5 * (turn - 0.5)), np.array([xz[0], 0.0, xz[1]])

        def swing(sign: int) -> Pose:
            def pose(t: float) -> tuple[np.ndarray, np.ndarray]:
                rotation, position = stand(t)
                step = place(t)[2]
                angle = 0.42 * sign * math.sin(6.8 * t + 6.28 * phase) * min(1.0, float(np.hypot(*step)))
                way = step / (np.hypot(*step) + 1e-9)
                toe = rotation @ np.array(
                    [-math.sin(angle) * way[0], math.cos(angle), -math.sin(angle) * way[1]]
                )
                return np.stack([rotation[:, 0], toe, rotation[:, 2]], -1), position + np.array(
                    [0.0, 0.84 * scale, 0.0]
                )

            return pose

        w = 0.31 * scale
        trunk = upright(np.array([-w, 0.0]), np.array([w, 0.0]), 1.77 * scale, 0.77 * scale)
        faces = (Face(body, trunk, PEDESTRIAN, is_lit=False, is_two_sided=True), shadow_face(0.4, 0.3, 0.5))
        out = [Thing((*key, 0), faces, instance, stand)]
        for k, sign in ((1, -1), (2, 1)):
            x = 0.085 * scale * sign
            hip = upright(
                np.array([x - 0.09 * scale, 0.01 * k]),
                np.array([x + 0.09 * scale, 0.01 * k]),
                0.0,
                -0.84 * scale,
            )
            out.append(
                Thing(
                    (*key, k),
                    (Face(leg, hip, PEDESTRIAN, is_lit=False, is_two_sided=True),),
                    instance,
                    swing(sign),
                )
            )
        return tuple(out)

    def _cyclists(self, side: int, t: float, s: float) -> Iterator[Thing]:
        """Along the kerb with the traffic of their side."""
        road = self._road
        forward = (side < 0) == road.drives_left or self._is_one_way
        speed = (4.3 if forward else -4.8) * float(self._speeds[7])
        spacing = 31.0 * float(self._spacing[10])
        for slot in self._slots(spacing, speed, t, s):
            exists, jitter, variant = uniforms(3, self._seed, 87, side, slot)
            if exists > 0.12 + 0.5 * road.people:
                continue
            key = (2, 10 + (side > 0), slot)
            if key not in self._things:
                pose = self._follow(
                    slot * spacing + jitter * 12, speed, side * (road.half_width - 0.55), not forward
                )
                faces = _rider_faces(*library.rider(self._seed, int(variant * 16)))
                self._things[key] = (Thing(key, faces, self._instance(key[1], slot), pose),)
            yield from self._things[key]


def _rider_faces(along: Texture, across: Texture) -> tuple[Face, ...]:
    back = upright(np.array([-0.375, 0.0]), np.array([0.375, 0.0]), 1.75)
    side = upright(np.array([0.0, -0.875]), np.array([0.0, 0.875]), 1.75)
    return (
        Face(along, back, BICYCLIST, is_lit=False, is_two_sided=True),
        Face(across, side, BICYCLIST, is_lit=False, is_two_sided=True),
        shadow_face(0.35, 0.9, 0.5),
    )


def _smooth(u: float) -> float:
    u = min(max(u, 0.0), 1.0)
    return u * u * (3 - 2 * u)
