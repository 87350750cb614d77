# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Unlabelled video: what a path means, ranges of frames, video files unpacked once, broken ones named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from video_files import write_frame

from dff_ros.data import unpack
from dff_ros.data.unlabelled import VideoRequest, open_unlabelled, parse_requests
from dff_ros.errors import ConfigError, DataError
from dff_ros.video import VideoWriter

MS = 10**6


def grey_of(videos, sequence: int, index: int) -> int:
    return round(float(videos.frame(sequence, index).image_HW3.mean()))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twelve frames at 20 Hz, each of a grey of its own."""
    path = tmp_path / 'drive.mp4'
    with VideoWriter(path, 20) as writer:
        for number in range(12):
            writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    return path


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', []),
        ('a, b/c.mp4', [VideoRequest(Path('a')), VideoRequest(Path('b/c.mp4'))]),
        ('a#1-450', [VideoRequest(Path('a'), 1, 450)]),
        ('a@2.5', [VideoRequest(Path('a'), fps=2.5)]),
        ('a#3-4@15', [VideoRequest(Path('a'), 3, 4, 15.0)]),
        ('take#2/v@home', [VideoRequest(Path('take#2/v@home'))]),
    ],
)
def test_requests(text: str, expected: list[VideoRequest]):
    assert parse_requests(text, 'data.unlabelled') == expected


@pytest.mark.parametrize('text', ['a#5-4', 'a#0-3', 'a@0'])
def test_requests_that_make_no_sense_are_refused(text: str):
    with pytest.raises(ConfigError, match=f"data.unlabelled: got '{text}', expected PATH, PATH#FIRST-LAST"):
        parse_requests(f'fine,{text}', 'data.unlabelled')


def test_every_folder_of_images_is_a_sequence_in_natural_order(tmp_path: Path):
    for folder, start in (('two', 50), ('one', 10), ('one/deeper', 90)):
        for number in range(1, 12):
            write_frame(tmp_path / folder / f'{number}.png', start + number)
    videos = open_unlabelled(VideoRequest(tmp_path, 2, 10, fps=4.0), tmp_path / 'cache')
    assert [len(info) for info in videos.sequences] == [9, 9, 9]
    assert [grey_of(videos, sequence, 8) for sequence in range(3)] == [20, 100, 60]
    assert grey_of(videos, 0, 0) == 12
    assert all(info.labelled == () for info in videos.sequences)
    np.testing.assert_array_equal(np.diff(videos.sequences[0].stamps_ns), 250 * MS)


def test_shorter_sequences_end_where_they_end(tmp_path: Path):
    for number in range(5):
        write_frame(tmp_path / 'short' / f'{number}.png', number)
    for number in range(9):
        write_frame(tmp_path / 'tall' / f'{number}.png', number)
    videos = open_unlabelled(VideoRequest(tmp_path, 4, 7), tmp_path)
    assert [len(info) for info in videos.sequences] == [2, 4]
    assert len(open_unlabelled(VideoRequest(tmp_path, 7, 100), tmp_path).sequences) == 1
    with pytest.raises(DataError, match=f'{tmp_path} has no frame 10: its frames are 1 to 9'):
        open_unlabelled(VideoRequest(tmp_path, 10), tmp_path)


def test_a_video_file_is_unpacked_once(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch):
    shown: list[tuple[int, int]] = []
    videos = open_unlabelled(VideoRequest(video), tmp_path / 'cache', lambda *done: shown.append(done))
    (info,) = videos.sequences
    assert [round(stamp / MS) for stamp in info.stamps_ns] == list(range(0, 600, 50))
    greys = [grey_of(videos, 0, index) for index in range(12)]
    np.testing.assert_allclose(greys, np.arange(0, 240, 20), atol=3)
    assert shown[-1] == (12, 12)
    monkeypatch.setattr(unpack, '_write_frames', lambda *_: pytest.fail('unpacked again'))
    part = open_unlabelled(VideoRequest(video, 4, 6), tmp_path / 'cache')
    assert [grey_of(part, 0, index) for index in range(3)] == greys[3:6]
    assert part.sequences[0].stamps_ns == info.stamps_ns[3:6]


def test_a_changed_file_is_unpacked_anew(tmp_path: Path, video: Path):
    open_unlabelled(VideoRequest(video), tmp_path / 'cache')
    with VideoWriter(video, 20) as writer:
        for _ in range(3):
            writer.write(np.full((48, 64, 3), 99, np.uint8))
    videos = open_unlabelled(VideoRequest(video), tmp_path / 'cache')
    assert len(videos.sequences[0]) == 3 and abs(grey_of(videos, 0, 1) - 99) <= 3


def test_a_damaged_video_is_named_and_leaves_nothing(tmp_path: Path, video: Path):
    whole = video.read_bytes()
    for content in (whole[: len(whole) // 2], b'no video'):
        video.write_bytes(content)
        with pytest.raises(DataError, match=r'drive\.mp4.*Mend it \(ffmpeg -i drive\.mp4 mended\.mp4'):
            open_unlabelled(VideoRequest(video), tmp_path / 'cache')
    assert list((tmp_path / 'cache').iterdir()) == []


def test_a_missing_path_and_a_folder_without_images_are_named(tmp_path: Path, video: Path):
    with pytest.raises(DataError, match='there is no video .*nowhere: give a video file or a folder of'):
        open_unlabelled(VideoRequest(tmp_path / 'nowhere'), tmp_path)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='empty holds no image, nor does any folder in it'):
        open_unlabelled(VideoRequest(tmp_path / 'empty'), tmp_path)
    with pytest.raises(ConfigError, match=r'drive\.mp4@5: a video file has its own frame rate'):
        open_unlabelled(VideoRequest(video, fps=5.0), tmp_path)
