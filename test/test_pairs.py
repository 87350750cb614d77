# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Pairs as the paper draws them: limits, distribution, purity, spacing in frames and in seconds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dff_ros.data.pair_config import PairConfig
from dff_ros.data.pairs import Pair, PairSampler, PairSource, keys_of, read_pair
from dff_ros.data.video_set import SequenceInfo, VideoFrame
from dff_ros.errors import ConfigError, DataError

S = 1_000_000_000


class Numbered:
    """Sequences of 4x4 frames whose value is 100 x sequence + frame; labels likewise."""

    class_names = tuple('abc')
    box_class_names = ()

    def __init__(self, *sequences: SequenceInfo) -> None:
        self.sequences = sequences
        self.size_of_frame_1 = self.size_of_labels = (4, 4)

    def frame(self, sequence: int, index: int) -> VideoFrame:
        size = self.size_of_frame_1 if index == 1 else (4, 4)
        value = 100 * sequence + index
        return VideoFrame(f'f{value}', np.full((*size, 3), value, np.uint8), self.sequences[0].stamps_ns[0])

    def labels(self, sequence: int, index: int) -> np.ndarray | None:
        if index not in self.sequences[sequence].labelled:
            return None
        return np.full(self.size_of_labels, 100 * sequence + index, np.uint8)

    def boxes(self, sequence: int, index: int) -> None:
        return None


def sequence(num_frames: int, labelled: tuple[int, ...], period_ns: int = S // 30) -> SequenceInfo:
    return SequenceInfo('s', tuple(index * period_ns for index in range(num_frames)), labelled)


def sampler(
    *sequences: SequenceInfo,
    per_batch: int = 4,
    seed: int = 0,
    any_current: bool = False,
    **config: object,
) -> PairSampler:
    source = PairSource(Numbered(*sequences), per_batch, any_current)
    return PairSampler([source], PairConfig(**config), seed)  # type: ignore[arg-type]


def drawn(pairs: PairSampler, steps: int) -> list[Pair]:
    return [pair for step in range(steps) for pair in pairs.picks(step)]


def test_the_defaults_are_the_paper_s():
    config = PairConfig()
    assert (config.max_offset, config.spacing, config.spacing_s, config.same) == (9, 1, 0.0, 1.0)


def test_the_key_is_uniformly_0_to_9_frames_before_the_labelled_frame():
    pairs = drawn(sampler(sequence(40, (19,))), 1000)
    assert {pair.current for pair in pairs} == {19}
    assert all(pair.key == 19 - pair.offset for pair in pairs)
    counts = Counter(pair.offset for pair in pairs)
    assert sorted(counts) == list(range(10))
    # 4000 draws of probability 0.1: mean 400, standard deviation 19.
    chi_square = sum((count - 400) ** 2 / 400 for count in counts.values())
    assert chi_square < 27.9  # exceeded by chance once in 1000


@pytest.mark.parametrize(
    ('current', 'offsets'), [(0, {0}), (3, {0, 1, 2, 3}), (8, set(range(9))), (9, set(range(10)))]
)
def test_the_key_is_uniform_over_what_is_there_near_the_start(current: int, offsets: set[int]):
    found = sampler(sequence(20, (current, 19)), sequence(20, (current,)))
    pairs = [pair for pair in drawn(found, 400) if pair.current == current]
    counts = Counter(pair.offset for pair in pairs)
    assert set(counts) == offsets
    expected = len(pairs) / len(offsets)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())
    assert all(0 <= pair.key <= pair.current for pair in pairs)


def test_every_current_frame_comes_once_an_epoch_and_all_are_labelled():
    found = sampler(sequence(30, (3, 10, 20)), sequence(9, (8,)), per_batch=2)
    assert len(found) == 4
    for epoch in range(5):
        pairs = found.picks(2 * epoch) + found.picks(2 * epoch + 1)
        assert {(pair.sequence, pair.current) for pair in pairs} == {(0, 3), (0, 10), (0, 20), (1, 8)}


def test_pairs_depend_on_seed_and_step_only():
    info = sequence(60, tuple(range(0, 60, 7)))
    first, again, other = (drawn(sampler(info, seed=seed), 30) for seed in (5, 5, 6))
    assert first == again
    assert first != other
    assert sampler(info, seed=5).picks(17) == first[17 * 4 : 18 * 4]


def test_the_keys_of_a_batch_are_drawn_independently():
    found = sampler(sequence(60, tuple(range(10, 60))))
    offsets = np.array([[pair.offset for pair in found.picks(step)] for step in range(1000)])
    assert len(np.unique(offsets, axis=0)) > 900
    assert np.abs(np.corrcoef(offsets.T) - np.eye(4)).max() < 0.12  # 0.03 is one standard deviation


def test_each_source_gets_its_share_of_a_batch():
    sources = [
        PairSource(Numbered(sequence(20, (19,))), 3),
        PairSource(Numbered(sequence(20, (15,))), 0),
        PairSource(Numbered(sequence(20, (12,))), 1),
    ]
    pairs = PairSampler(sources, PairConfig(), 0).picks(7)
    assert [(pair.source, pair.current) for pair in pairs] == [(0, 19)] * 3 + [(1, 12)]


def test_spacing_in_frames():
    keys = keys_of(sequence(100, ()), 50, PairConfig(spacing=5, max_offset=3))
    assert keys == [(0, 50), (1, 45), (2, 40), (3, 35)]
    assert keys_of(sequence(100, ()), 11, PairConfig(spacing=5)) == [(0, 11), (1, 6), (2, 1)]
    assert keys_of(sequence(100, ()), 11, PairConfig(max_offset=0)) == [(0, 11)]


def test_a_key_frame_is_never_too_long_ago():
    one_hertz, fast = sequence(10, (), S), sequence(40, (), S // 20)
    assert keys_of(one_hertz, 5, PairConfig()) == [(0, 5), (1, 4)]
    assert keys_of(one_hertz, 5, PairConfig(max_gap_s=2.0, max_offset=3)) == [(0, 5), (1, 4), (2, 3)]
    assert keys_of(one_hertz, 5, PairConfig(max_gap_s=0.5)) == [(0, 5)]
    assert keys_of(fast, 30, PairConfig(max_gap_s=0.2)) == [(offset, 30 - offset) for offset in range(5)]
    assert keys_of(fast, 30, PairConfig(max_gap_s=0.2, spacing_s=0.1)) == [(0, 30), (1, 28), (2, 26)]


@pytest.mark.parametrize(('same', 'share'), [(0.0, 0.0), (1.0, 0.5), (0.25, 0.2), (3.0, 0.75)])
def test_how_often_the_current_frame_is_its_own_key(same: float, share: float):
    pairs = drawn(sampler(sequence(10, (5,), S), same=same), 1000)
    assert abs(np.mean([pair.offset == 0 for pair in pairs]) - share) < 0.035  # 4.4 standard deviations


def test_spacing_in_seconds_is_the_same_at_every_frame_rate():
    config = PairConfig(spacing_s=0.2, max_offset=4)
    at_30_hz = keys_of(sequence(100, (), S // 30), 60, config)
    at_10_hz = keys_of(sequence(100, (), S // 10), 60, config)
    assert at_30_hz == [(0, 60), (1, 54), (2, 48), (3, 42), (4, 36)]
    assert at_10_hz == [(0, 60), (1, 58), (2, 56), (3, 54), (4, 52)]
    assert keys_of(sequence(100, (), S // 30), 13, config) == [(0, 13), (1, 7), (2, 1)]


def test_spacing_in_seconds_takes_the_nearest_frame_or_none():
    stamps = tuple(round(second * 1e9) for second in (0.0, 0.1, 0.28, 0.41, 0.9, 1.0))
    info = SequenceInfo('irregular', stamps, ())
    # Wanted are 0.9, 0.8, ..., 0.1: 0.8, 0.7, 0.6 and 0.5 have no frame nearer than 0.05 s.
    keys = keys_of(info, 5, PairConfig(spacing_s=0.1, max_offset=9))
    assert keys == [(0, 5), (1, 4), (6, 3), (7, 2), (9, 1)]


def test_any_frame_may_be_the_current_one_where_labels_are_not_needed():
    found = sampler(sequence(6, ()), sequence(4, (2,)), per_batch=10, any_current=True)
    assert len(found) == 10
    assert sorted({(pair.sequence, pair.current) for pair in found.picks(0)}) == [
        *((0, index) for index in range(6)),
        *((1, index) for index in range(4)),
    ]


def test_a_set_without_currents_or_without_keys_is_refused():
    with pytest.raises(ConfigError, match='no frames with labels, or boxes of the classes wanted, to draw'):
        sampler(sequence(5, ()))
    one_hertz = sequence(10, tuple(range(10)), S)
    with pytest.raises(ConfigError, match=r'has any frame 0\.0333333 s and at most 1.5 s before it'):
        sampler(one_hertz, spacing_s=1 / 30)
    with pytest.raises(ConfigError, match='any frame 20 frames before it'):
        sampler(one_hertz, spacing=20, max_gap_s=0.0)
    assert drawn(sampler(one_hertz, spacing_s=1 / 30, max_offset=0), 1)[0].offset == 0


def test_what_is_read_is_the_pair():
    videos = Numbered(sequence(5, ()), sequence(20, (9,)))
    sample = read_pair(videos, Pair(0, 1, 9, 4, 5), with_flow=True)
    assert (sample.current_HW3 == 109).all() and (sample.key_HW3 == 104).all()
    assert sample.labels_HW is not None and (sample.labels_HW == 109).all()
    assert sample.flow_2HW is None and sample.is_visible_HW is None  # nobody knows it
    assert read_pair(videos, Pair(0, 0, 3, 2, 1)).labels_HW is None


def test_a_frame_paired_with_itself_has_no_motion():
    sample = read_pair(Numbered(sequence(5, (3,))), Pair(0, 0, 3, 3, 0), with_flow=True)
    np.testing.assert_array_equal(sample.current_HW3, sample.key_HW3)
    np.testing.assert_array_equal(sample.flow_2HW, np.zeros((2, 4, 4)))
    assert sample.is_visible_HW is not None and sample.is_visible_HW.all()


def test_frames_or_labels_of_different_sizes_are_named():
    videos = Numbered(sequence(5, (3,)))
    videos.size_of_frame_1 = (4, 6)
    with pytest.raises(DataError, match='f1 is 6x4 pixels, f3 of the same sequence 4x4'):
        read_pair(videos, Pair(0, 0, 3, 1, 2))
    videos.size_of_labels = (3, 4)
    with pytest.raises(DataError, match='labels of f3 are 4x3 pixels, the frame 4x4: they must be equal'):
        read_pair(videos, Pair(0, 0, 3, 2, 1))
