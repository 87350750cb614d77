# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Pictures for people: class colours, the overlay, and the panel image | overlay with its captions."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.errors import DffError, ShapeError

if TYPE_CHECKING:  # the node draws overlays without Pillow; only panels write text
    from PIL import ImageFont

    from dff_ros.overlay import Overlay
    from dff_ros.types import Detections

_BACKGROUND = (24, 26, 30)
_TEXT = (232, 234, 237)
_FAINT = (150, 156, 166)
_KEY = (255, 176, 32)
_PROPAGATED = (70, 78, 90)
_MIN_TEXT_PX = 11


def colourise(label_map_HW: NDArray[np.uint8], colours_N3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB picture (H, W, 3) of a label map; ids without a colour (255, unlabelled) are black."""
    if label_map_HW.ndim != 2 or label_map_HW.dtype != np.uint8:
        raise ShapeError(
            f'a label map is uint8 (height, width), got {label_map_HW.dtype} {label_map_HW.shape}'
        )
    return np.asarray(cv2.applyColorMap(label_map_HW, _lookup(colours_N3.tobytes())))


def shown_at(label_map_HW: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A label map of another size for a picture of `size`, (height, width): each pixel that of the nearest
    centre.
    """
    if label_map_HW.shape == size:
        return label_map_HW
    rows, columns = (
        ((np.arange(side) + 0.5) * given / side).astype(np.int64)
        for side, given in zip(size, label_map_HW.shape, strict=True)
    )
    return np.ascontiguousarray(label_map_HW[rows[:, None], columns])


def blend(
    image_HW3: NDArray[np.uint8], label_map_HW: NDArray[np.uint8], colours_N3: NDArray[np.uint8], alpha: float
) -> NDArray[np.uint8]:
    """The image with class colours at weight `alpha` (0..1) over it; pixels without a class stay as they are.

    Raises ShapeError where image and label map differ in size.
    """
    if image_HW3.shape[:2] != label_map_HW.shape:
        raise ShapeError(
            f'image of {image_HW3.shape[:2]} and label map of {label_map_HW.shape}: sizes must be equal'
        )
    mixed = cv2.addWeighted(image_HW3, 1.0 - alpha, colourise(label_map_HW, colours_N3), alpha, 0.0)
    num_classes = len(colours_N3)
    if int(label_map_HW.max()) >= num_classes:
        cv2.copyTo(image_HW3, (label_map_HW >= num_classes).view(np.uint8), mixed)
    return np.asarray(mixed)


def mark_key(picture_HW3: NDArray[np.uint8]) -> None:
    """Put the amber frame of a key frame around a picture, in place."""
    thickness = max(2, min(picture_HW3.shape[:2]) // 90)
    height, width = picture_HW3.shape[:2]
    cv2.rectangle(
        picture_HW3, (0, 0), (width - 1, height - 1), _KEY, 2 * thickness - 1
    )  # half of it lies outside


@lru_cache(maxsize=16)
def _lookup(colours: bytes) -> NDArray[np.uint8]:
    table = np.zeros((256, 1, 3), np.uint8)
    known = np.frombuffer(colours, np.uint8).reshape(-1, 1, 3)
    table[: len(known)] = known
    return table


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """An RGB (H, W, 3) picture or a label map (H, W) as a PNG file; DffError names one that cannot be
    written.
    """
    from PIL import Image

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, format='PNG')
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise DffError(f'cannot write {path}: {error.strerror or error}') from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What the header says about a frame; `latency_ms` None where it is not known."""

    number: int
    is_key: bool
    age_frames: int
    latency_ms: float | None = None


class Panel:
    """Draws image | overlay side by side, a header above, the class legend below; key frames have an amber
    frame. The overlay has the class colours and boxes of what ran on the frame.

    The layout is that of images of `size` (height, width); other images are scaled into it, with borders.
    `shape` is the (height, width, 3) of every panel, with even sides. Use from one thread.
    """

    def __init__(
        self,
        size: tuple[int, int],
        overlay: Overlay,
        *,
        interval: int | None = None,
    ) -> None:
        self._size = size
        self._overlay = overlay
        self._interval = interval
        height, width = size
        self._text_px = max(_MIN_TEXT_PX, round(min(height / 22, width / 26)))
        self._pad = max(4, self._text_px // 2)
        self._border = max(3, self._text_px // 4)
        self._header_height = self._text_px + 2 * self._pad
        total_width = _even(2 * width + 3 * self._border)
        legend = _draw_legend(*overlay.legend(), total_width, self._text_px, self._pad)
        top = self._header_height + self._border
        total_height = _even(top + height + self._border + legend.shape[0])
        self._canvas = np.full((total_height, total_width, 3), _BACKGROUND, np.uint8)
        self._canvas[top + height + self._border :][: legend.shape[0]] = legend
        self._boxes = ((top, self._border), (top, width + 2 * self._border))
        rows = slice(self._header_height, top + height + self._border)
        right = 2 * width + 3 * self._border
        self._borders = (
            (slice(self._header_height, top), slice(0, right)),
            (slice(top + height, rows.stop), slice(0, right)),
            *(
                (rows, slice(left, left + self._border))
                for left in (0, width + self._border, right - self._border)
            ),
        )
        self.shape = self._canvas.shape

    def draw(
        self,
        image_HW3: NDArray[np.uint8],
        label_map_HW: NDArray[np.uint8] | None,
        caption: Caption,
        found: Detections | None = None,
    ) -> NDArray[np.uint8]:
        """The panel of one frame, a new array; None where a task did not run."""
        out = self._canvas.copy()
        self._draw_header(out, caption)
        colour = _KEY if caption.is_key else _PROPAGATED
        overlay = self._overlay.draw(image_HW3, label_map_HW, found)
        height, width = self._size
        for area in self._borders:
            out[area] = colour
        for (top, left), picture in zip(self._boxes, (image_HW3, overlay), strict=True):
            _fit(picture, out[top : top + height, left : left + width])
        return out

    def _draw_header(self, out: NDArray[np.uint8], caption: Caption) -> None:
        from PIL import Image, ImageDraw

        strip = Image.fromarray(out[: self._header_height])
        pen = ImageDraw.Draw(strip)
        font = _font(self._text_px)
        middle = self._header_height // 2
        pen.text((self._border + self._pad, middle), f'frame {caption.number}', _TEXT, font, anchor='lm')
        x = self._boxes[1][1]
        if caption.is_key:
            badge = 'KEY FRAME'
            end = x + pen.textlength(badge, font) + 2 * self._pad
            pen.rounded_rectangle(
                (x, self._pad // 2, end, self._header_height - self._pad // 2), self._pad, _KEY
            )
            pen.text((x + self._pad, middle), badge, _BACKGROUND, font, anchor='lm')
        else:
            of = '' if self._interval is None else f' of {self._interval - 1}'
            pen.text((x, middle), f'propagated, age {caption.age_frames}{of}', _TEXT, font, anchor='lm')
        if caption.latency_ms is not None:
            right = out.shape[1] - self._border - self._pad
            pen.text((right, middle), f'{caption.latency_ms:.0f} ms', _FAINT, font, anchor='rm')
        out[: self._header_height] = np.asarray(strip)


@lru_cache(maxsize=8)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size_px)


def _draw_legend(
    names: tuple[str, ...], colours_N3: NDArray[np.uint8], width: int, text_px: int, pad: int
) -> NDArray[np.uint8]:
    """Swatches and class names in as many rows as the width needs."""
    from PIL import Image, ImageDraw

    font = _font(text_px)
    pen = ImageDraw.Draw(Image.new('RGB', (1, 1)))
    widths = [text_px + pad + round(pen.textlength(name, font)) for name in names]
    gap, row_height = 2 * pad, text_px + pad
    places: list[tuple[int, int]] = []
    x, row = pad, 0
    for item in widths:
        if x > pad and x + item > width - pad:
            x, row = pad, row + 1
        places.append((x, pad + row * row_height))
        x += item + gap
    strip = Image.new('RGB', (width, (row + 1) * row_height + pad), _BACKGROUND)
    pen = ImageDraw.Draw(strip)
    for name, colour, (left, top) in zip(names, colours_N3.tolist(), places, strict=True):
        pen.rounded_rectangle((left, top, left + text_px, top + text_px), 3, tuple(colour), outline=_FAINT)
        pen.text((left + text_px + pad // 2 + 1, top + text_px // 2), name, _TEXT, font, anchor='lm')
    return np.asarray(strip)


def _fit(picture: NDArray[np.uint8], box: NDArray[np.uint8]) -> None:
    """Copy a picture into a box, scaled with its aspect kept where the sizes differ."""
    if picture.shape == box.shape:
        box[:] = picture
        return
    scale = min(box.shape[0] / picture.shape[0], box.shape[1] / picture.shape[1])
    height, width = (max(1, int(side * scale)) for side in picture.shape[:2])
    top, left = (box.shape[0] - height) // 2, (box.shape[1] - width) // 2
    box[:] = _BACKGROUND
    box[top : top + height, left : left + width] = cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA
    )


def _even(side: int) -> int:
    return side + side % 2
