# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The simulated street: frames with exact labels, instances, boxes and backward flow."""

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dff_ros.data.street.builder import build_zone
from dff_ros.data.street.develop import Film
from dff_ros.data.street.ground import PIECE_M, Ground
from dff_ros.data.street.hashing import rng_of
from dff_ros.data.street.layout import Layout
from dff_ros.data.street.look import light_of, road_of
from dff_ros.data.street.motion import Course, Drive
from dff_ros.data.street.raster import Buffers, Camera, collect, draw, empty_buffers, settle_labels
from dff_ros.data.street.sky import Panorama
from dff_ros.data.street.surfaces import Thing
from dff_ros.data.street.traffic import Traffic
from dff_ros.errors import ConfigError

_AHEAD_M, _BEHIND_M = 130.0, 14.0
_KEPT_VIEWS, _KEPT_PIECES = 12, 40
_MIN_SIZE, _MAX_SIZE = 32, 4096


@dataclass(frozen=True)
class Box:
    """Visible extent of an instance in pixel edges (x2, y2 exclusive), and the share of it not occluded.

    What lies outside the image does not count as occluded.
    """

    id: int
    class_id: int
    xyxy: tuple[float, float, float, float]
    visibility: float


@dataclass(frozen=True)
class StreetFrame:
    """RGB uint8 (H, W, 3); labels uint8 (H, W), 0..10 or 255; ids int32 (H, W), 0 is background."""

    index: int
    stamp_ns: int
    image_HW3: np.ndarray
    labels_HW: np.ndarray
    ids_HW: np.ndarray
    boxes: tuple[Box, ...]


class Street:
    """An endless drive through a made-up street. A frame depends on seed, size, fps and index only.

    size is (height, width), 32..4096 each; fps is above 0. Raises ConfigError outside these ranges.
    """

    def __init__(self, seed: int, size: tuple[int, int] = (360, 480), fps: float = 30.0) -> None:
        _check(seed, size, fps)
        self.seed, self.size, self.fps = seed, (int(size[0]), int(size[1])), float(fps)
        road, self._light = road_of(seed), light_of(seed)
        self._course = Course(seed)
        self._drive = Drive(seed, self._course, road.lane_d)
        self._layout = Layout(seed, self._course, road, build_zone)
        self._traffic = Traffic(seed, self._layout, self._drive)
        self._ground = Ground(seed, self._course, self._layout, road, self._light)
        self._panorama = Panorama(seed, self._light)
        self._film = Film(seed, self.size, self._light)
        self._intrinsics = _intrinsics(seed, self.size)
        self._views: OrderedDict[int, Buffers] = OrderedDict()
        self._pieces: OrderedDict[int, Thing] = OrderedDict()

    def frame(self, index: int) -> StreetFrame:
        """Frame `index` >= 0 (random access). Its arrays are the caller's own."""
        view = self._view(index)
        ids_of = np.array([0 if thing is None else thing.instance for thing, _ in view.owners], np.int32)
        ids = ids_of[view.surface]
        image = self._film.develop(index, view.colour, view.inverse_depth)
        stamp = round(index * 1e9 / self.fps)
        return StreetFrame(index, stamp, image, view.label.copy(), ids, _boxes(view, ids))

    def flow(self, current: int, key: int) -> tuple[np.ndarray, np.ndarray]:
        """Backward flow (2, H, W) float32, x then y, in pixels: the key position of p is p + flow(p).

        The second array (H, W) tells where that position is inside the key frame and not hidden there.
        A position behind the key camera has a flow that points far outside.
        """
        here, there = self._view(current), self._view(key)
        moves = self._homographies(here, self._camera(current), key)
        h, w = self.size
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        m = moves.astype(np.float32)[here.surface]
        z = m[..., 6] * x + m[..., 7] * y + m[..., 8]
        is_ahead = z > 1e-6
        z = np.where(is_ahead, z, 1)
        there_x = (m[..., 0] * x + m[..., 1] * y + m[..., 2]) / z
        there_y = (m[..., 3] * x + m[..., 4] * y + m[..., 5]) / z
        flow = np.where(is_ahead, np.stack([there_x - x, there_y - y]), np.float32(-4 * max(h, w)))
        column, row = (np.rint(np.clip(p, -9, 9 + max(h, w))).astype(np.int64) for p in (there_x, there_y))
        is_inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
        seen = there.surface[np.clip(row, 0, h - 1), np.clip(column, 0, w - 1)]
        number = {owner_key(owner): k for k, owner in enumerate(there.owners)}
        expected = np.array([number.get(owner_key(owner), -1) for owner in here.owners])
        return flow, is_inside & is_ahead & (seen == expected[here.surface])

    def _homographies(self, here: Buffers, camera: Camera, key: int) -> np.ndarray:
        """Per surface of `here` the homography (9,) to the key frame, exactly the identity without motion."""
        t, other = key / self.fps, self._camera(key)
        far = other.intrinsics @ other.rotation @ np.linalg.inv(camera.intrinsics @ camera.rotation)
        floor = np.array([[[1.0, 0, 0], [0, 0, 0], [0, 1.0, 0]]])
        ground = other.project(floor)[0] @ np.linalg.inv(camera.project(floor)[0])
        out = [far, ground]
        frames: dict[int, np.ndarray] = {}
        for (thing, index), matrix in zip(here.owners[2:], here.matrices, strict=True):
            assert thing is not None  # only the first two have no thing
            if id(thing) not in frames:
                frames[id(thing)] = other.project(thing.world(t))
            out.append(frames[id(thing)][index] @ np.linalg.inv(matrix))
        moves = np.array(out)
        still = np.array([np.abs(m / m[2, 2] - np.eye(3)).max() < 1e-9 for m in moves])
        moves[still] = np.eye(3)
        return moves.reshape(-1, 9)

    def _camera(self, index: int) -> Camera:
        pose = self._drive.pose(index / self.fps)
        return Camera(self._intrinsics, pose.rotation, pose.position, self.size)

    def _view(self, index: int) -> Buffers:
        if index < 0:
            raise ConfigError(f'frame index {index}: frames are numbered from 0')
        if index not in self._views:
            self._views[index] = self._render(index)
            if len(self._views) > _KEPT_VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(index)
        return self._views[index]

    def _render(self, index: int) -> Buffers:
        t, camera = index / self.fps, self._camera(index)
        view = empty_buffers(self.size)
        self._panorama.draw(view, camera)
        s = self._drive.distance(t)
        things = [
            *self._visible_ground(s),
            *self._layout.things(s - _BEHIND_M, s + _AHEAD_M),
            *self._traffic.things(t),
        ]
        for item in collect(things, t, camera, self._light.vector):
            draw(view, item)
        settle_labels(view)
        return view

    def _visible_ground(self, s: float) -> Iterator[Thing]:
        for number in range(int((s - _BEHIND_M) // PIECE_M), int((s + _AHEAD_M) // PIECE_M) + 1):
            if number not in self._pieces:
                self._pieces[number] = self._ground.piece(number)
                if len(self._pieces) > _KEPT_PIECES:
                    self._pieces.popitem(last=False)
            self._pieces.move_to_end(number)
            yield self._pieces[number]


def owner_key(owner: tuple[Thing | None, int]) -> tuple[int, ...]:
    """Name of a surface that is the same in all views."""
    thing, index = owner
    return (index,) if thing is None else (*thing.uid, -1, index)


def _boxes(view: Buffers, ids: np.ndarray) -> tuple[Box, ...]:
    out = []
    for instance, silhouette in sorted(view.silhouettes.items()):
        x0, y0, x1, y1 = silhouette.box
        visible = ids[y0:y1, x0:x1] == instance
        rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        if len(rows) == 0:
            continue
        left, top = float(x0 + columns[0]), float(y0 + rows[0])
        right, bottom = float(x0 + columns[-1] + 1), float(y0 + rows[-1] + 1)
        whole = np.count_nonzero(silhouette.mask[y0:y1, x0:x1] | visible)
        share = np.count_nonzero(visible) / whole
        out.append(Box(instance, silhouette.label, (left, top, right, bottom), share))
    return tuple(out)


def _intrinsics(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Horizontal view of 48 to 62 degrees at 4:3; wider images see more to the sides."""
    half = math.radians(rng_of(seed, 92).uniform(48, 62) / 2)
    focal = 0.5 * max(min(size[1], size[0] * 4 / 3), size[0]) / math.tan(half)
    return np.array([[focal, 0, (size[1] - 1) / 2], [0, focal, (size[0] - 1) / 2], [0, 0, 1.0]])


def _check(seed: int, size: tuple[int, int], fps: float) -> None:
    if len(size) != 2 or not all(_MIN_SIZE <= int(v) <= _MAX_SIZE and int(v) == v for v in size):
        raise ConfigError(
            f'street size {size}: give (height, width), whole numbers of {_MIN_SIZE} to {_MAX_SIZE}'
        )
    if not (math.isfinite(fps) and fps > 0):
        raise ConfigError(f'street fps {fps}: give a rate above 0')
    if int(seed) != seed:
        raise ConfigError(f'street seed {seed}: give a whole number')


def render_sequence(
    seed: int, num_frames: int, size: tuple[int, int] = (360, 480), fps: float = 30.0
) -> Iterator[StreetFrame]:
    """Frames 0 .. num_frames - 1 of one street."""
    street = Street(seed, size, fps)
    for index in range(num_frames):
        yield street.frame(index)
