# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Drawing textured parallelograms into colour, surface and depth buffers."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from dff_ros.data.classes import IGNORE_ID
from dff_ros.data.street.surfaces import Face, Layer, Thing

_NEAR_M = 0.25
_CORNERS = np.array([[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
FAR, GROUND = 0, 1
"""Surface numbers of what is infinitely far and of the ground plane."""


@dataclass(frozen=True)
class Camera:
    """Pinhole camera: intrinsics (3, 3), rotation world -> camera, position, size (height, width)."""

    intrinsics: np.ndarray
    rotation: np.ndarray
    position: np.ndarray
    size: tuple[int, int]

    def project(self, frames: np.ndarray) -> np.ndarray:
        """World frames (n, 3, 3) -> matrices from (u, v, 1) to (x z, y z, z) with pixels x, y and depth z."""
        relative = frames.copy()
        relative[:, :, 2] -= self.position
        return (self.intrinsics @ self.rotation) @ relative


@dataclass(eq=False)
class Buffers:
    """Per pixel: colour RGBA, inverse depth, surface number and label; and the surfaces by number."""

    colour: np.ndarray
    inverse_depth: np.ndarray
    surface: np.ndarray
    label: np.ndarray
    axes: tuple[np.ndarray, np.ndarray]
    owners: list[tuple[Thing | None, int]] = field(default_factory=lambda: [(None, 0), (None, 1)])
    matrices: list[np.ndarray] = field(default_factory=list)
    silhouettes: dict[int, 'Silhouette'] = field(default_factory=dict)


def empty_buffers(size: tuple[int, int]) -> Buffers:
    h, w = size
    return Buffers(
        np.zeros((h, w, 4), np.uint8),
        np.zeros((h, w), np.float32),
        np.zeros((h, w), np.uint16),
        np.full((h, w), IGNORE_ID, np.uint8),
        (np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)),
    )


@dataclass(eq=False)
class Silhouette:
    """All pixels of an instance inside the image, hidden ones too; `box` is x0, y0, x1, y1."""

    mask: np.ndarray
    label: int
    box: list[int]

    def add(self, box: tuple[int, int, int, int], covered: np.ndarray) -> None:
        x0, y0, x1, y1 = box
        self.mask[y0:y1, x0:x1] |= covered
        b = self.box
        self.box = [min(b[0], x0), min(b[1], y0), max(b[2], x1), max(b[3], y1)]


@dataclass(frozen=True, slots=True)
class Drawable:
    """A face in one view: matrix to pixels, its inverse, pixel box, ripmap level, light."""

    thing: Thing
    index: int
    matrix: np.ndarray
    inverse: np.ndarray
    box: tuple[int, int, int, int]
    levels: tuple[int, int]
    gain: int


def collect(things: list[Thing], t: float, camera: Camera, light: np.ndarray) -> list[Drawable]:
    """The faces that can be seen, in order of drawing; light (4,): sun direction x strength, ambient."""
    owners = [(thing, i) for thing in things for i in range(len(thing.faces))]
    if not owners:
        return []
    frames = np.concatenate([thing.world(t) for thing in things])
    matrices = camera.project(frames)
    two_sided = np.array([thing.faces[i].is_two_sided for thing, i in owners])
    det = np.linalg.det(matrices)
    corners = matrices @ _CORNERS
    seen = (corners[:, 2].max(1) > _NEAR_M) & (np.abs(det) > 1e-6) & ((det > 0) | two_sided)
    boxes, is_in_image = _pixel_boxes(corners, camera.size)
    chosen = np.flatnonzero(seen & is_in_image)
    faces = [owners[k][0].faces[owners[k][1]] for k in chosen]
    inverses = np.linalg.inv(matrices[chosen])
    depth = corners[chosen, 2]
    levels = _levels(inverses, boxes[chosen], np.array([face.texture.size for face in faces]), depth.max(1))
    gains = _gains(frames[chosen], faces, light)
    layers = np.array([float(face.layer) for face in faces])
    order = np.lexsort((-depth.mean(1), layers))
    columns = zip(
        chosen.tolist(), inverses, boxes[chosen].tolist(), levels.tolist(), gains.tolist(), strict=True
    )
    items = [
        Drawable(owners[k][0], owners[k][1], matrices[k], inverse, tuple(box), tuple(level), gain)
        for k, inverse, box, level, gain in columns
    ]
    return [items[k] for k in order]


def _gains(frames: np.ndarray, faces: list[Face], light: np.ndarray) -> np.ndarray:
    normal = np.cross(frames[:, :, 0], frames[:, :, 1])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    gain = light[3] + np.maximum(normal @ light[:3], 0.0) + 0.1 * normal[:, 1]
    lit = np.array([face.is_lit for face in faces])
    return np.where(lit, np.round(np.clip(gain, 0.2, 1.6) * 16), 16).astype(np.int64)


def _pixel_boxes(corners: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixel boxes (n, 4), x0, y0, x1, y1, of projected corners (n, 3, 4), and which are in the image."""
    z = corners[:, 2]
    with np.errstate(divide='ignore', invalid='ignore'):
        xy = corners[:, :2] / z[:, None]
    low, high = xy.min(2), xy.max(2)
    for k in np.flatnonzero((z.min(1) < _NEAR_M) & (z.max(1) > _NEAR_M)):
        points = _clip_near(corners[k].T)
        clipped = points[:, :2] / points[:, 2:]
        low[k], high[k] = clipped.min(0), clipped.max(0)
    is_seen = (high - low).min(1) > 0.3
    h, w = size
    low, high = np.nan_to_num(low), np.nan_to_num(high)
    start = np.floor(np.clip(low, 0, (w, h)))
    stop = np.clip(np.ceil(high) + 1, 0, (w, h))
    return np.concatenate([start, stop], 1).astype(np.int64), is_seen & (stop > start).all(1)


def _clip_near(points: np.ndarray) -> np.ndarray:
    out = []
    for a, b in zip(points, np.roll(points, -1, 0), strict=True):
        if a[2] >= _NEAR_M:
            out.append(a)
        if (a[2] >= _NEAR_M) != (b[2] >= _NEAR_M):
            out.append(a + (b - a) * ((_NEAR_M - a[2]) / (b[2] - a[2])))
    return np.array(out)


def _levels(inverses: np.ndarray, boxes: np.ndarray, sizes: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Ripmap levels (n, 2), v then u, from the texels per pixel at the middle of the boxes."""
    middle = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    q = np.einsum('nij,nj->ni', inverses, np.concatenate([middle, np.ones((len(boxes), 1))], 1))
    w = np.maximum(q[:, 2], 1.0 / far)[:, None]
    at = np.clip(q[:, :2] / w, 0.0, 1.0)
    slope = (
        np.linalg.norm(inverses[:, :2, :2] - at[:, :, None] * inverses[:, 2:, :2], axis=2)
        / w
        * sizes[:, ::-1]
    )
    return np.maximum(0, np.round(np.log2(np.maximum(slope, 1e-6)) - 0.2)).astype(np.int64)[:, ::-1]


def draw(buffers: Buffers, item: Drawable) -> None:
    """Paint one face where it is nearer than what is there."""
    face = item.thing.faces[item.index]
    x0, y0, x1, y1 = item.box
    roi = (slice(y0, y1), slice(x0, x1))
    texels = face.texture.level(*item.levels, item.gain)
    to_texel = np.array([[texels.shape[1] - 2, 0, 0.5], [0, texels.shape[0] - 2, 0.5], [0, 0, 1.0]])
    matrix = to_texel @ item.inverse
    matrix[:, 2] += matrix[:, 0] * x0 + matrix[:, 1] * y0
    size = (x1 - x0, y1 - y0)
    flags = cv2.WARP_INVERSE_MAP
    patch = cv2.warpPerspective(texels, matrix, size, flags=flags | cv2.INTER_LINEAR)
    alpha = cv2.extractChannel(patch, 3)
    a, b, c = item.inverse[2].astype(np.float32)
    columns, rows = buffers.axes
    inverse_depth = (rows[y0:y1] * b + c)[:, None] + columns[x0:x1] * a
    if item.thing.instance and face.layer is Layer.SOLID:
        _silhouette(buffers, item, (alpha > 127) & (inverse_depth > 0))
    is_nearer = inverse_depth > (buffers.inverse_depth[roi] if face.layer is Layer.SOLID else 0)
    weight = np.multiply(alpha, is_nearer, dtype=np.float32)
    cv2.blendLinear(patch, buffers.colour[roi], weight, 255 - weight, dst=buffers.colour[roi])
    if face.layer is Layer.SHADOW:
        return
    hard = weight > 127
    np.copyto(buffers.inverse_depth[roi], inverse_depth, where=hard)
    if face.layer is Layer.GROUND:
        labels = cv2.warpPerspective(
            face.texture.labels(*item.levels), matrix, size, flags=flags | cv2.INTER_NEAREST
        )
        np.copyto(buffers.label[roi], labels, where=hard)
        np.copyto(buffers.surface[roi], GROUND, where=hard)
        return
    np.copyto(buffers.surface[roi], len(buffers.owners), where=hard)
    buffers.owners.append((item.thing, item.index))
    buffers.matrices.append(item.matrix)


def settle_labels(buffers: Buffers) -> None:
    """Write the labels of everything that stands on the ground."""
    table = np.array([0, 0] + [thing.faces[i].label for thing, i in buffers.owners[2:] if thing], np.uint8)
    np.copyto(buffers.label, table[buffers.surface], where=buffers.surface > GROUND)


def _silhouette(buffers: Buffers, item: Drawable, covered: np.ndarray) -> None:
    instance = item.thing.instance
    if instance not in buffers.silhouettes:
        label = item.thing.faces[item.index].label
        shape = buffers.surface.shape
        buffers.silhouettes[instance] = Silhouette(np.zeros(shape, bool), label, [shape[1], shape[0], 0, 0])
    buffers.silhouettes[instance].add(item.box, covered)
