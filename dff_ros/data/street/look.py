# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What differs between seeds besides the lay-out: light, weather, camera, cross-section of the road."""

import math
from dataclasses import dataclass

import numpy as np

from dff_ros.data.street.hashing import rng_of


@dataclass(frozen=True)
class Light:
    """Sun direction (3,) towards the sun, its strength, ambient; weather and the camera's colour response."""

    weather: str
    sun: np.ndarray
    sun_strength: float
    ambient: float
    shadow: float
    sky_top: tuple[float, float, float]
    sky_low: tuple[float, float, float]
    cloud: float
    haze_per_m: float
    exposure: float
    gamma: float
    white: tuple[float, float, float]
    saturation: float
    noise: float
    blur: float

    @property
    def vector(self) -> np.ndarray:
        """(4,): sun direction times strength, ambient."""
        return np.append(self.sun * self.sun_strength, self.ambient)


# weather: sky top, sky low, sun, ambient, shadow, cloud, haze per metre, exposure range
_WEATHER = {
    'sunny': ((88, 140, 210), (190, 212, 235), 0.75, 0.62, 0.5, 0.4, 0.0015, (0.85, 1.15)),
    'bright': ((215, 222, 230), (250, 251, 252), 0.4, 0.85, 0.3, 0.2, 0.003, (0.9, 1.3)),
    'overcast': ((150, 156, 166), (205, 208, 212), 0.1, 0.88, 0.0, 0.6, 0.004, (0.6, 1.05)),
    'dusk': ((110, 122, 150), (222, 190, 160), 0.12, 0.72, 0.0, 0.7, 0.002, (0.42, 0.75)),
    'hazy': ((200, 204, 208), (226, 226, 224), 0.2, 0.82, 0.12, 0.15, 0.009, (0.75, 1.1)),
}


def light_of(seed: int) -> Light:
    rng = rng_of(seed, 21)
    weather = str(rng.choice(list(_WEATHER), p=[0.27, 0.25, 0.26, 0.12, 0.10]))
    top, low, sun, ambient, shadow, cloud, haze, exposure = _WEATHER[weather]
    azimuth, height = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(22, 55))
    direction = (math.sin(azimuth) * math.cos(height), math.sin(height), math.cos(azimuth) * math.cos(height))
    tint = rng.normal(0, 8, 3)
    warm = rng.normal(0, 0.035)
    return Light(
        weather=weather,
        sun=np.array(direction),
        sun_strength=sun * rng.uniform(0.8, 1.2),
        ambient=ambient * rng.uniform(0.9, 1.1),
        shadow=shadow * rng.uniform(0.8, 1.2),
        sky_top=tuple(np.clip(np.array(top) + tint, 0, 255)),
        sky_low=tuple(np.clip(np.array(low) + 0.5 * tint, 0, 255)),
        cloud=cloud * rng.uniform(0.5, 1.4),
        haze_per_m=haze * rng.uniform(0.5, 1.5),
        exposure=1.12 * rng.uniform(*exposure),
        gamma=rng.uniform(0.8, 1.25),
        white=(1 + warm, 1 + rng.normal(0, 0.012), 1 - warm),
        saturation=rng.uniform(0.65, 1.15),
        noise=rng.uniform(0.8, 4.0),
        blur=rng.uniform(0.45, 0.8),
    )


@dataclass(frozen=True)
class Road:
    """Cross-section and habits of one street; d < 0 is left. Lengths in metres."""

    half_width: float
    has_parking: tuple[bool, bool]
    pavement: tuple[float, float]
    verge: tuple[float, float]
    drives_left: bool
    asphalt: tuple[float, float, float]
    paving: tuple[float, float, float]
    centre_line: str
    has_edge_line: bool
    has_yellow_lines: bool
    traffic: float
    people: float
    greenery: float
    leafiness: float
    parked: float

    @property
    def lane_d(self) -> float:
        """Middle of the lane that the camera drives in."""
        return (-1 if self.drives_left else 1) * min(self.half_width * 0.5, 1.75)

    def kerb(self, side: int) -> float:
        """Distance of the kerb from the centre line; side -1 left, 1 right."""
        return self.half_width + (2.1 if self.has_parking[side > 0] else 0.0)

    def edge(self, side: int) -> float:
        """Distance of the far edge of pavement and verge, where plots begin."""
        return self.kerb(side) + self.verge[side > 0] + self.pavement[side > 0]


def road_of(seed: int) -> Road:
    rng = rng_of(seed, 22)
    grey = rng.uniform(76, 128)
    paving = rng.uniform(105, 165)
    green = rng.random() < 0.3
    return Road(
        half_width=rng.uniform(3.0, 4.3),
        has_parking=(bool(rng.random() < 0.45), bool(rng.random() < 0.45)),
        pavement=(rng.uniform(1.6, 4.5), rng.uniform(1.6, 4.5)),
        verge=(rng.uniform(1.0, 2.5) * green, rng.uniform(1.0, 2.5) * green),
        drives_left=bool(rng.random() < 0.75),
        asphalt=tuple(grey + rng.normal(0, 4, 3)),
        paving=tuple(paving + rng.normal(0, 1, 3) * 5 + np.array([4, 0, -5])),
        centre_line=str(
            rng.choice(['dashed', 'long', 'solid', 'none', 'double'], p=[0.45, 0.25, 0.1, 0.12, 0.08])
        ),
        has_edge_line=bool(rng.random() < 0.25),
        has_yellow_lines=bool(rng.random() < 0.4),
        traffic=rng.uniform(0.2, 0.9),
        people=rng.uniform(0.2, 1.0),
        greenery=rng.uniform(0.15, 1.0),
        leafiness=rng.random(),
        parked=rng.uniform(0.3, 0.95),
    )
