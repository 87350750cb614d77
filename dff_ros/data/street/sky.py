# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What is infinitely far: sky, clouds, and a skyline of trees and houses, as a panorama around the camera."""

import math

import cv2
import numpy as np

from dff_ros.data.classes import BUILDING, SKY, TREE
from dff_ros.data.street.hashing import rng_of
from dff_ros.data.street.look import Light
from dff_ros.data.street.raster import FAR, Buffers, Camera
from dff_ros.data.street.texture import noise, rgba_of

_PX_PER_RAD = 330.0
_LOW, _HIGH = -0.30, 0.75
_CELL = 16


class Panorama:
    """Colour and labels by azimuth and elevation."""

    def __init__(self, seed: int, light: Light) -> None:
        rng = rng_of(seed, 91)
        h, w = int((_HIGH - _LOW) * _PX_PER_RAD), int(2 * math.pi * _PX_PER_RAD)
        elevation = np.linspace(_HIGH, _LOW, h, dtype=np.float32)[:, None, None]
        blend = np.clip(elevation / 0.5, 0, 1) ** 0.7
        sky = np.array(light.sky_low, np.float32) * (1 - blend) + np.array(light.sky_top, np.float32) * blend
        sky = sky * np.ones((1, w, 1), np.float32)
        clouds = noise(rng, (h, w // 3), (110, 50, 24, 10, 4), (0.6, 0.5, 0.35, 0.2, 0.12))
        clouds = cv2.resize(clouds, (w, h))[..., None]
        cover = np.clip((clouds + light.cloud - 0.35) * 1.6, 0, 1) * min(1.0, light.cloud + 0.35)
        bright = np.array(light.sky_low, np.float32) * (0.93 + 0.16 * np.roll(clouds, 9, 0))
        sky += (bright - sky) * cover
        seam = np.linspace(0, 1, 200, dtype=np.float32)[None, :, None]
        sky[:, -200:] = sky[:, -200:] * (1 - seam) + sky[:, :1] * seam
        labels = np.full((h, w), SKY, np.uint8)
        self._skyline(rng, sky, labels, light)
        extra = w // 2
        self._colour = rgba_of(np.concatenate([sky, sky[:, :extra]], 1))
        self._labels = np.concatenate([labels, labels[:, :extra]], 1)

    def _skyline(self, rng: np.random.Generator, sky: np.ndarray, labels: np.ndarray, light: Light) -> None:
        h, w = labels.shape
        haze = np.array(light.sky_low, np.float32)
        rows = np.linspace(_HIGH, _LOW, h, dtype=np.float32)[:, None]
        for depth in (0.55, 0.3):
            top = (
                0.03
                + 0.05 * (1 - depth)
                + 0.03 * noise(rng, (1, w), (300, 90, 25, 7, 2), (0.6, 0.5, 0.3, 0.2, 0.15))[0]
            )
            top[-200:] += (top[0] - top[-200:]) * np.linspace(0, 1, 200)
            tone = np.array([78, 84, 62], np.float32) * rng.uniform(0.7, 1.1)
            mask = rows < top
            texture = 12 * noise(rng, (h, w), (9, 3), (0.6, 0.6))[mask][:, None]
            sky[mask] = (tone + texture) * (1 - depth) + haze * depth * 0.85
            labels[mask] = TREE
            for _ in range(26):
                x, wide = int(rng.integers(0, w - 80)), int(rng.integers(14, 70))
                high = rng.uniform(0.04, 0.13) * (1 - depth)
                y0, y1 = int((_HIGH - high) * _PX_PER_RAD), int((_HIGH - _LOW) * _PX_PER_RAD)
                wall = np.array([130, 116, 100], np.float32) * rng.uniform(0.5, 1.2)
                sky[y0:y1, x : x + wide] = wall * (1 - depth) + haze * depth * 0.9
                labels[y0:y1, x : x + wide] = BUILDING

    def draw(self, buffers: Buffers, camera: Camera) -> None:
        """Fill the whole view."""
        h, w = camera.size
        ys, xs = np.arange(0, h + _CELL, _CELL), np.arange(0, w + _CELL, _CELL)
        grid = np.stack([*np.meshgrid(xs, ys), np.ones((len(ys), len(xs)))], -1).astype(np.float64)
        rays = grid @ np.linalg.inv(camera.intrinsics @ camera.rotation).T
        forward = camera.rotation[2]
        yaw = math.atan2(forward[0], forward[2])
        turn = np.arctan2(
            rays[..., 0] * forward[2] - rays[..., 2] * forward[0],
            rays[..., 0] * forward[0] + rays[..., 2] * forward[2],
        )
        elevation = np.arctan2(rays[..., 1], np.hypot(rays[..., 0], rays[..., 2]))
        column = ((yaw - 1.2) % (2 * math.pi) + 1.2 + turn) * _PX_PER_RAD
        row = (_HIGH - elevation) * _PX_PER_RAD
        # the grid point k belongs to pixel 16 k: enlarge with aligned corners
        enlarge = np.array([[_CELL, 0, 0], [0, _CELL, 0]], np.float64)
        at_x, at_y = (
            cv2.warpAffine(a.astype(np.float32), enlarge, (w, h), borderMode=cv2.BORDER_REPLICATE)
            for a in (column, row)
        )
        cv2.remap(self._colour, at_x, at_y, cv2.INTER_LINEAR, buffers.colour, cv2.BORDER_REPLICATE)
        cv2.remap(self._labels, at_x, at_y, cv2.INTER_NEAREST, buffers.label, cv2.BORDER_REPLICATE)
        buffers.surface[:] = FAR
