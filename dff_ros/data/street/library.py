# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Painted things that several objects share, made once per seed and variant."""

from functools import lru_cache

import numpy as np

from dff_ros.data.street import sprites, vehicles
from dff_ros.data.street.hashing import rng_of
from dff_ros.data.street.look import light_of
from dff_ros.data.street.surfaces import Face
from dff_ros.data.street.texture import Texture

_KEPT = 256


def lit_windows(seed: int) -> float:
    """Share of windows with a light behind them."""
    return {'dusk': 0.3, 'overcast': 0.05}.get(light_of(seed).weather, 0.01)


@lru_cache(maxsize=_KEPT)
def tree(seed: int, variant: int, leafiness: float, side: int) -> Texture:
    """A tree that leans away from the road; side -1 left, 1 right."""
    if side < 0:
        return tree(seed, variant, leafiness, 1).mirrored()
    rng = rng_of(seed, 61, variant)
    return sprites.tree(rng, float(np.clip(leafiness + rng.normal(0, 0.22), 0, 1)))


@lru_cache(maxsize=_KEPT)
def bush(seed: int, variant: int) -> Texture:
    return sprites.bush(rng_of(seed, 62, variant))


@lru_cache(maxsize=_KEPT)
def pole(seed: int, variant: int) -> Texture:
    return sprites.pole(rng_of(seed, 63, variant))


@lru_cache(maxsize=_KEPT)
def arm(seed: int, side: int) -> Texture:
    texture = sprites.arm(rng_of(seed, 64))
    return texture.mirrored() if side > 0 else texture


@lru_cache(maxsize=_KEPT)
def traffic_light(seed: int, variant: int) -> Texture:
    return sprites.traffic_light(rng_of(seed, 65, variant))


@lru_cache(maxsize=_KEPT)
def sign(seed: int, variant: int) -> tuple[Texture, float, float]:
    return sprites.sign(rng_of(seed, 66, variant))


@lru_cache(maxsize=_KEPT)
def vehicle(seed: int, variant: int) -> tuple[Face, ...]:
    rng = rng_of(seed, 67, variant)
    kind = str(rng.choice(list(vehicles.SHAPES), p=[0.32, 0.2, 0.17, 0.14, 0.17, 0.0]))
    return vehicles.build(rng, kind)


@lru_cache(maxsize=_KEPT)
def bus(seed: int, variant: int) -> tuple[Face, ...]:
    return vehicles.build(rng_of(seed, 68, variant), 'bus')


@lru_cache(maxsize=_KEPT)
def person(seed: int, variant: int) -> tuple[Texture, Texture]:
    """Upper body and leg."""
    rng = rng_of(seed, 69, variant)
    return sprites.body(rng), sprites.leg(rng)


@lru_cache(maxsize=_KEPT)
def rider(seed: int, variant: int) -> tuple[Texture, Texture]:
    """Cyclist seen along and across the road."""
    return sprites.rider(rng_of(seed, 70, variant))
