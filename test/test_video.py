# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Video files: what is written comes back with its stamps; damage and full disks are named."""

from __future__ import annotations

import resource

import av
import numpy as np
import pytest

from dff_ros.errors import ConversionError, DffError, ShapeError
from dff_ros.video import VideoReader, VideoWriter

MS = 10**6


def flat(value: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def noise(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)


def write(path, images, stamps_ns=None, fps=25.0):
    with VideoWriter(path, fps) as writer:
        for index, image in enumerate(images):
            writer.write(image, None if stamps_ns is None else stamps_ns[index])
    return path


@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv', 'a.avi'])
def test_frames_come_back_in_order_with_their_colours(tmp_path, name):
    path = write(tmp_path / name, [flat(value) for value in (20, 90, 160, 230)])
    with VideoReader(path) as reader:
        assert reader.size == (48, 64)
        images = [image for image, _ in reader]
    assert [round(float(image.mean()), -1) for image in images] == [20, 90, 160, 230]
    assert all(image.flags.c_contiguous and image.dtype == np.uint8 for image in images)


def test_channels_are_red_green_blue(tmp_path):
    red = flat(0)
    red[..., 0] = 200
    with VideoReader(write(tmp_path / 'red.mp4', [red] * 3)) as reader:
        image, _ = next(iter(reader))
    np.testing.assert_allclose(image.mean(axis=(0, 1)), [200, 0, 0], atol=6)


@pytest.mark.parametrize(
    'stamps_ms, shown_ms',
    [
        ([5000, 5100, 5350], [0, 100, 350]),  # uneven stamps are kept, the first is the start
        (None, [0, 40, 80]),  # without stamps: one period of 25 frames/s each
        ([100, 100, 50], [0, 40, 80]),  # stamps that do not grow
        ([0, 60_000, 60_100], [0, 1000, 1100]),  # a pause is shown for a second
    ],
)
def test_stamps_decide_when_a_frame_is_shown(tmp_path, stamps_ms, shown_ms):
    stamps = None if stamps_ms is None else [value * MS for value in stamps_ms]
    path = write(tmp_path / 'a.mp4', [flat(50)] * 3, stamps)
    with VideoReader(path) as reader:
        found = [stamp_ns / MS for _, stamp_ns in reader]
    assert found == pytest.approx(shown_ms, abs=0.1)


def test_odd_sides_are_padded(tmp_path):
    with VideoReader(write(tmp_path / 'a.mp4', [flat(100, (47, 63))])) as reader:
        assert reader.size == (48, 64)


def test_another_size_is_refused_and_the_rest_kept(tmp_path):
    with pytest.raises(ShapeError, match=r'a\.mp4'), VideoWriter(tmp_path / 'a.mp4', 25) as writer:
        writer.write(flat(1))
        writer.write(flat(1, (32, 32)))
    with VideoReader(tmp_path / 'a.mp4') as reader:
        assert len(list(reader)) == 1


def test_an_interrupted_video_is_finished(tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / 'a.mp4', 25) as writer:
        for value in range(10):
            writer.write(flat(value))
        raise KeyboardInterrupt
    with VideoReader(tmp_path / 'a.mp4') as reader:
        assert len(list(reader)) == 10
    assert [path.name for path in tmp_path.iterdir()] == ['a.mp4']


def test_no_frame_no_file(tmp_path):
    with VideoWriter(tmp_path / 'a.mp4', 25):
        pass
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_named_and_keeps_the_file_that_was_there(tmp_path):
    path = write(tmp_path / 'a.mp4', [flat(7)])
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(DffError, match=r'cannot write .*a\.mp4: File too large'):
            write(path, [noise(seed) for seed in range(60)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ['a.mp4']


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(DffError, match='cannot write'):
        write(tmp_path / 'file' / 'a.mp4', [flat(1)])


def test_unknown_ending_lists_the_known(tmp_path):
    with pytest.raises(DffError, match=r'must end in one of \.mp4'):
        write(tmp_path / 'a.txt', [flat(1)])


def test_truncated_video_gives_the_frames_before_the_damage(tmp_path):
    whole, cut = tmp_path / 'whole.mp4', tmp_path / 'cut.mp4'
    with av.open(str(whole), 'w', options={'movflags': 'faststart'}) as container:  # the index comes first
        stream = container.add_stream('mpeg4', rate=25)
        stream.height, stream.width = 120, 160
        for seed in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise(seed), format='rgb24')))
        container.mux(stream.encode(None))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    num_frames = 0
    with VideoReader(cut) as reader:
        assert reader.num_frames == 40
        with pytest.raises(ConversionError, match=r'cut\.mp4 is truncated or damaged after frame \d+ of 40'):
            for _ in reader:
                num_frames += 1
    assert 10 <= num_frames <= 25


def test_an_incomplete_index_is_a_damaged_file(tmp_path):
    path = write(tmp_path / 'a.mp4', [noise(seed) for seed in range(5)])
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(ConversionError, match=r'a\.mp4 holds no video stream'):
        VideoReader(path)


@pytest.mark.parametrize('content', [b'', b'no video' * 100])
def test_what_is_no_video_is_named(tmp_path, content):
    path = tmp_path / 'x.mp4'
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r'cannot open .*x\.mp4 as a video'):
        VideoReader(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConversionError, match=r'nowhere\.mp4 as a video: No such file'):
        VideoReader(tmp_path / 'nowhere.mp4')
