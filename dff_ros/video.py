# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Video files by PyAV: read as RGB frames with stamps, write as H.264 (MPEG-4 where the build lacks it)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dff_ros.closing import Closing
from dff_ros.errors import ConversionError, DffError, ShapeError
from dff_ros.output_files import PART

_NS_PER_S = 10**9
_DEFAULT_FPS = 30.0
_TICKS_PER_S = 60000
"""Time base of written files: fine enough for any camera, and within the 16 bits MPEG-4 allows."""

_LONGEST_PAUSE_NS = _NS_PER_S
"""A gap in the stamps (another sequence, a paused camera) would be a frozen picture."""

_FORMATS = {'.mp4': 'mp4', '.m4v': 'mp4', '.mkv': 'matroska', '.mov': 'mov', '.avi': 'avi'}
SUFFIXES = tuple(_FORMATS)
"""Endings of the files that can be written."""

_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ('libx264', {'preset': 'veryfast', 'crf': '20'}),
    ('libopenh264', {}),
    ('mpeg4', {'qscale': '3'}),
)


class VideoReader(Closing):
    """The frames of a video file or capture device, decoded one at a time; a context manager.

    `size` is the (height, width) of the stream, `fps` its mean rate, `num_frames` None where the file does
    not say. Raises ConversionError, naming the file, where it is missing, no video, or damaged; frames before
    a damage are delivered.
    """

    def __init__(
        self, path: str | Path, *, device: str | None = None, options: dict[str, str] | None = None
    ) -> None:
        self.path = str(path)
        self._is_device = device is not None
        try:
            self._container = av.open(self.path, format=device, options=options or {})
        except (OSError, ValueError) as error:
            raise ConversionError(f'cannot open {self.path} as a video: {_reason(error)}') from error
        if not self._container.streams.video:
            self._container.close()
            raise ConversionError(f'{self.path} holds no video stream')
        self._stream = self._container.streams.video[0]
        self.size = (self._stream.height, self._stream.width)
        self.fps = float(self._stream.average_rate or self._stream.guessed_rate or _DEFAULT_FPS)
        self.num_frames: int | None = self._stream.frames or None

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """(image_HW3 uint8 RGB, stamp_ns) in presentation order; rotated as the file asks for."""
        number = 0
        try:
            for packet in self._container.demux(self._stream):
                # Decoders may hide it and make up the rest; a camera's next packet is whole again.
                if packet.is_corrupt and not self._is_device:
                    raise ValueError('incomplete packet')
                for frame in packet.decode():
                    yield _to_rgb(frame), self._stamp_ns(frame, number)
                    number += 1
        except (OSError, ValueError) as error:
            total = f' of {self.num_frames}' if self.num_frames else ''
            raise ConversionError(
                f'{self.path} is truncated or damaged after frame {number}{total}: {_reason(error)}'
            ) from error
        if number == 0:
            raise ConversionError(f'{self.path} holds no video frame')

    def _stamp_ns(self, frame: VideoFrame, number: int) -> int:
        if frame.pts is None or frame.time_base is None:
            return round(number * _NS_PER_S / self.fps)
        return int(frame.pts * frame.time_base * _NS_PER_S)

    def close(self) -> None:
        """Close the file; calling it twice is harmless."""
        self._container.close()


class VideoWriter(Closing):
    """Writes RGB frames to a video file (yuv420p); a context manager.

    The file appears under its name when it is closed, also on Ctrl-C; until then it is `NAME.part`, which is
    removed where nothing could be written; `is_written` says whether it is there. Sides are padded to even
    numbers. Raises DffError, naming the file, for a name without one of `SUFFIXES` and when it cannot be
    written (disk full), ShapeError for a frame of another size than the first.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path = Path(path)
        self._format = _format_of(self.path)
        self._part = self.path.with_name(self.path.name + PART)
        self.is_written = False
        self._fps = fps
        self._container: av.container.OutputContainer | None = None
        self._size: tuple[int, int] | None = None
        self._last_stamp_ns: int | None = None
        self._time_ns: int | None = None
        self._last_tick = -1

    def write(self, image_HW3: NDArray[np.uint8], stamp_ns: int | None = None) -> None:
        """Add a frame. It is shown as long after the one before as the stamps say, at most a second; without
        a stamp, or where stamps do not grow, one period (1 / fps) after it.
        """
        try:
            if self._container is None:
                self._open((image_HW3.shape[0], image_HW3.shape[1]))
            if image_HW3.shape[:2] != self._size:
                raise ShapeError(f'{self.path}: frame of {image_HW3.shape[:2]} in a video of {self._size}')
            frame = VideoFrame.from_ndarray(_pad_to_even(image_HW3), format='rgb24')
            frame.pts = self._next_tick(stamp_ns)
            frame.time_base = Fraction(1, _TICKS_PER_S)
            self._mux(frame)
        except (OSError, av.error.FFmpegError) as error:
            self._discard()
            raise DffError(f'cannot write {self.path}: {_reason(error)}') from error

    def close(self) -> None:
        """Finish the file; calling it twice is harmless."""
        if self._container is None:
            return
        try:
            self._mux(None)
            self._container.close()
            self._container = None
            os.replace(self._part, self.path)
            self.is_written = True
        except (OSError, av.error.FFmpegError) as error:
            self._discard()
            raise DffError(f'cannot write {self.path}: {_reason(error)}') from error

    def _open(self, size: tuple[int, int]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        form = av.format.ContainerFormat(self._format, 'w').name
        self._container = av.open(str(self._part), 'w', format=form)
        codec, options = next(item for item in _ENCODERS if item[0] in av.codecs_available)
        rate = Fraction(self._fps).limit_denominator(1001)
        stream = self._container.add_stream(codec, rate=rate, options=dict(options))
        self._stream = cast(VideoStream, stream)
        self._stream.height, self._stream.width = (side + side % 2 for side in size)
        self._stream.pix_fmt = 'yuv420p'
        self._stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
        self._size = size

    def _next_tick(self, stamp_ns: int | None) -> int:
        step_ns = round(_NS_PER_S / self._fps)
        if stamp_ns is not None:
            if self._last_stamp_ns is not None and stamp_ns > self._last_stamp_ns:
                step_ns = min(stamp_ns - self._last_stamp_ns, _LONGEST_PAUSE_NS)
            self._last_stamp_ns = stamp_ns
        self._time_ns = 0 if self._time_ns is None else self._time_ns + step_ns
        self._last_tick = max(self._last_tick + 1, self._time_ns * _TICKS_PER_S // _NS_PER_S)
        return self._last_tick

    def _mux(self, frame: VideoFrame | None) -> None:
        if self._container is not None:
            self._container.mux(self._stream.encode(frame))

    def _discard(self) -> None:
        container, self._container = self._container, None
        # The error that led here is the one to report.
        with contextlib.suppress(OSError, av.error.FFmpegError):
            if container is not None:
                container.close()
        with contextlib.suppress(OSError):
            self._part.unlink()


def _format_of(path: Path) -> str:
    if path.suffix.lower() not in _FORMATS:
        raise DffError(f'cannot write {path}: the file name must end in one of {", ".join(SUFFIXES)}')
    return _FORMATS[path.suffix.lower()]


def _to_rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    image = frame.to_ndarray(format='rgb24')
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns) if quarter_turns else image)


def _pad_to_even(image_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image_HW3.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(image_HW3)
    return np.pad(image_HW3, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')


def _reason(error: BaseException) -> str:
    text = getattr(error, 'strerror', None) or str(error)
    return str(text).splitlines()[0] if str(text) else type(error).__name__
