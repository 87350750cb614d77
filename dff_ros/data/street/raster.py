"""Drawing textured parallelograms into colour, surface and depth buffers."""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

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
    """What one view holds per pixel: colour RGBA, inverse depth, surface number and label; and its surfaces."""

    colour: np.ndarray
    inverse_depth: np.ndarray
    surface: np.ndarray
    label: np.ndarray
    owners: list[tuple[Thing | None, int]] = field(default_factory=lambda: [(None, 0), (None, 1)])
    matrices: list[np.ndarray] = field(default_factory=list)
    silhouettes: dict[int, "Silhouette"] = field(default_factory=dict)


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
    """The faces that can be seen, in order of drawing. light: (4,) sun direction times strength, ambient."""
    owners = [(thing, i) for thing in things for i in range(len(thing.faces))]
    if not owners:
        return []
    faces = [thing.faces[i] for thing, i in owners]
    frames = np.concatenate([thing.world(t) for thing in things])
    matrices = camera.project(frames)
    corners = matrices @ _CORNERS
    depth = corners[:, 2]
    det = np.linalg.det(matrices)
    two_sided = np.array([face.is_two_sided for face in faces])
    seen = (depth.max(1) > _NEAR_M) & (np.abs(det) > 1e-6) & ((det > 0) | two_sided)
    gains = _gains(frames, faces, light)
    out: list[tuple[float, Drawable]] = []
    for k in np.flatnonzero(seen):
        box = _pixel_box(corners[k], camera.size)
        if box is None:
            continue
        inverse = np.linalg.inv(matrices[k])
        levels = _levels(inverse, box, faces[k].texture.size, float(depth[k].max()))
        order = -float(faces[k].layer) * 1e6 + float(depth[k].mean())
        out.append((order, Drawable(*owners[k], matrices[k], inverse, box, levels, int(gains[k]))))
    out.sort(key=lambda pair: -pair[0])
    return [drawable for _, drawable in out]


def _gains(frames: np.ndarray, faces: list[Face], light: np.ndarray) -> np.ndarray:
    normal = np.cross(frames[:, :, 0], frames[:, :, 1])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    gain = light[3] + np.maximum(normal @ light[:3], 0.0) + 0.1 * normal[:, 1]
    lit = np.array([face.is_lit for face in faces])
    return np.where(lit, np.round(np.clip(gain, 0.2, 1.6) * 16), 16)


def _pixel_box(corners: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    points = corners.T
    if points[:, 2].min() < _NEAR_M:
        points = _clip_near(points)
    xy = points[:, :2] / points[:, 2:]
    low, high = xy.min(0), xy.max(0)
    x0, y0 = max(0, math.floor(low[0])), max(0, math.floor(low[1]))
    x1, y1 = min(size[1], math.ceil(high[0]) + 1), min(size[0], math.ceil(high[1]) + 1)
    if x1 <= x0 or y1 <= y0 or (high - low).min() < 0.3:
        return None
    return x0, y0, x1, y1


def _clip_near(points: np.ndarray) -> np.ndarray:
    out = []
    for a, b in zip(points, np.roll(points, -1, 0)):
        if a[2] >= _NEAR_M:
            out.append(a)
        if (a[2] >= _NEAR_M) != (b[2] >= _NEAR_M):
            out.append(a + (b - a) * ((_NEAR_M - a[2]) / (b[2] - a[2])))
    return np.array(out)


def _levels(inverse: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int], far: float) -> tuple[int, int]:
    """Ripmap levels (v, u) from the texels per pixel at the middle of the box."""
    q = inverse @ np.array([0.5 * (box[0] + box[2]), 0.5 * (box[1] + box[3]), 1.0])
    w = max(float(q[2]), 1.0 / far)
    out = []
    for axis, texels in ((1, size[0]), (0, size[1])):
        at = min(max(q[axis] / w, 0.0), 1.0)
        slope = math.hypot(inverse[axis, 0] - at * inverse[2, 0], inverse[axis, 1] - at * inverse[2, 1]) / w * texels
        out.append(max(0, round(math.log2(max(slope, 1e-6)) - 0.2)))
    return out[0], out[1]


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
    a, b, c = item.inverse[2]
    inverse_depth = (a * np.arange(x0, x1) + c).astype(np.float32) + (b * np.arange(y0, y1))[:, None].astype(np.float32)
    in_front = inverse_depth > 0
    if item.thing.instance:
        _silhouette(buffers, item, in_front & (alpha > 127))
    if face.layer is Layer.SOLID:
        in_front = inverse_depth > np.maximum(buffers.inverse_depth[roi], 0)
    weight = np.where(in_front, alpha, 0).astype(np.float32) * np.float32(1 / 255)
    buffers.colour[roi] = cv2.blendLinear(patch, buffers.colour[roi], weight, 1 - weight)
    if face.layer is Layer.SHADOW:
        return
    hard = weight > 0.5
    np.copyto(buffers.inverse_depth[roi], inverse_depth, where=hard)
    labels = face.texture.labels(*item.levels)
    if labels is None:
        buffers.label[roi][hard] = face.label
    else:
        patch_labels = cv2.warpPerspective(labels, matrix, size, flags=flags | cv2.INTER_NEAREST)
        np.copyto(buffers.label[roi], patch_labels, where=hard)
    if face.layer is Layer.GROUND:
        buffers.surface[roi][hard] = GROUND
        return
    buffers.surface[roi][hard] = len(buffers.owners)
    buffers.owners.append((item.thing, item.index))
    buffers.matrices.append(item.matrix)


def _silhouette(buffers: Buffers, item: Drawable, covered: np.ndarray) -> None:
    instance = item.thing.instance
    if instance not in buffers.silhouettes:
        label = item.thing.faces[item.index].label
        shape = buffers.surface.shape
        buffers.silhouettes[instance] = Silhouette(np.zeros(shape, bool), label, [shape[1], shape[0], 0, 0])
    buffers.silhouettes[instance].add(item.box, covered)
