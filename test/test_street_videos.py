# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The simulated street as a video set, and batches of pairs from it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dff_ros.data.augment_config import AugmentConfig
from dff_ros.data.classes import CAMVID_CLASSES
from dff_ros.data.pair_config import PairConfig
from dff_ros.data.pairs import PairSource
from dff_ros.data.street import Street
from dff_ros.data.street_config import StreetVideosConfig
from dff_ros.data.street_videos import StreetVideos
from dff_ros.training.pair_batch import PairBatch
from dff_ros.training.pair_batches import PairBatches, VideoPairs

SIZE = (96, 128)
CONFIG = StreetVideosConfig(sequences=3, frames=14, every=4, height=SIZE[0], width=SIZE[1], seed=4)


@pytest.fixture(scope='module')
def videos() -> StreetVideos:
    return StreetVideos(CONFIG)


def test_frames_labels_boxes_and_flow_are_those_of_the_street(videos: StreetVideos):
    street = Street(5, SIZE, 30.0)
    frame = street.frame(8)
    assert len(videos.sequences) == 3
    assert videos.sequences[1].labelled == (0, 4, 8, 12) and len(videos.sequences[1]) == 14
    np.testing.assert_array_equal(videos.frame(1, 8).image_HW3, frame.image_HW3)
    assert videos.frame(1, 8).stamp_ns == videos.sequences[1].stamps_ns[8] == frame.stamp_ns
    np.testing.assert_array_equal(videos.labels(1, 8), frame.labels_HW)
    assert videos.labels(1, 9) is None
    boxes = videos.boxes(1, 9)
    expected = street.frame(9).boxes
    assert videos.box_class_names == videos.sequences[1].box_classes == ('car', 'pedestrian', 'bicyclist')
    assert videos.sequences[1].boxed == (0, 4, 8, 12)
    assert [videos.box_class_names[id_] for id_ in boxes.class_ids_N] == [
        CAMVID_CLASSES[b.class_id] for b in expected
    ]
    np.testing.assert_array_equal(boxes.boxes_xyxy, np.float32([b.xyxy for b in expected]).reshape(-1, 4))
    for got, wanted in zip(videos.flow(1, 8, 3), street.flow(8, 3), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_threads_get_the_same_frames(videos: StreetVideos):
    alone = StreetVideos(CONFIG)
    wanted = [(sequence, index) for index in (3, 11, 6) for sequence in (0, 1, 2)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda where: videos.frame(*where).image_HW3, wanted))
    for where, image in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(image, alone.frame(*where).image_HW3)


@pytest.mark.parametrize('index', [-1, 14])
def test_a_frame_outside_is_refused(videos: StreetVideos, index: int):
    with pytest.raises(IndexError, match=f'frame {index} of 14'):
        videos.frame(0, index)


def kind_of(videos: StreetVideos, with_flow: bool = True, **config: float) -> VideoPairs:
    augment = AugmentConfig(
        scale_min=1.2, scale_max=2.3, brightness=0, contrast=0, saturation=0, hue=0, gamma=0, blur=0, noise=0
    )
    pairs = PairConfig(**config)  # type: ignore[arg-type]
    return VideoPairs([PairSource(videos, 4)], pairs, augment, (64, 80), 3, with_flow)


def batches_of(videos: StreetVideos, with_flow: bool = True, **config: float) -> PairBatches:
    return PairBatches([kind_of(videos, with_flow, **config)], 2)


def same(a: PairBatch, b: PairBatch) -> bool:
    names = ('current_BHW3', 'key_BHW3', 'labels_BHW', 'offsets_B', 'flow_B2HW', 'is_visible_BHW')
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


def test_batches_depend_on_seed_and_step_only(videos: StreetVideos):
    batches, again = batches_of(videos), batches_of(StreetVideos(CONFIG))
    ahead = list(batches.ahead(0, 4))
    for step in (3, 0, 2):
        assert same(ahead[step], again.batch(step))
    assert not same(ahead[0], ahead[1])
    assert [pair.offset for pair in kind_of(videos).picks(2)] == ahead[2].offsets_B.tolist()
    batches.close()
    again.close()


def test_the_flow_of_a_batch_leads_from_the_current_to_the_key_frame(videos: StreetVideos):
    torch = pytest.importorskip('torch')
    from dff_ros.nets.warp import warp

    batches = batches_of(videos)
    errors: dict[str, list[np.ndarray]] = {'flow': [], 'copy': [], 'not flipped': []}
    for batch in batches.ahead(0, 8):
        assert np.abs(batch.flow_B2HW[batch.offsets_B == 0]).max(initial=0) == 0
        key = torch.from_numpy(batch.key_BHW3.astype(np.float32)).permute(0, 3, 1, 2)
        seen = batch.is_visible_BHW & (batch.offsets_B > 2)[:, None, None]
        for name, sign in (('flow', 1), ('copy', 0), ('not flipped', -1)):
            flow = torch.from_numpy(batch.flow_B2HW * np.float32([[[sign]], [[abs(sign)]]]))
            warped = warp(key, flow).permute(0, 2, 3, 1).numpy()
            errors[name].append(np.abs(warped - batch.current_BHW3)[seen].ravel())
    batches.close()
    mean = {name: np.concatenate(found).mean() for name, found in errors.items()}
    assert np.concatenate(errors['flow']).size > 20_000
    assert mean['flow'] < 0.6 * mean['copy']
    assert mean['flow'] < 0.3 * mean['not flipped']
    assert np.median(np.concatenate(errors['flow'])) < 4


def test_labels_of_a_batch_are_the_current_frame_s_and_flow_is_only_made_when_wanted(videos: StreetVideos):
    batches = batches_of(videos, with_flow=False, max_offset=2)
    batch = batches.batch(0)
    batches.close()
    assert not batch.is_visible_BHW.any() and not batch.flow_B2HW.any()
    assert (batch.labels_BHW != 255).mean() > 0.5
    assert batch.offsets_B.max() <= 2
