# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The simulated street: determinism, exactness of labels, ids, boxes and flow; variety; errors."""

import cv2
import numpy as np
import pytest

from dff_ros.data.classes import CAMVID_CLASSES, CAMVID_COLOURS
from dff_ros.data.street import Street, StreetFrame, facades, layout, render_sequence, simulation
from dff_ros.errors import ConfigError

SIZE = (120, 160)
SEEDS = (1, 4, 7)


@pytest.fixture(scope='module')
def streets() -> dict[int, Street]:
    return {seed: Street(seed, SIZE) for seed in SEEDS}


def same(a: StreetFrame, b: StreetFrame) -> bool:
    arrays = ('image_HW3', 'labels_HW', 'ids_HW')
    return (a.index, a.stamp_ns, a.boxes) == (b.index, b.stamp_ns, b.boxes) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays
    )


def positions(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Key x and y of every pixel."""
    h, w = flow.shape[1:]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    return x + flow[0], y + flow[1]


def test_a_frame_depends_on_seed_and_index_only(streets: dict[int, Street]) -> None:
    busy, fresh = streets[1], Street(1, SIZE)
    for index in (0, 500, 37):
        busy.frame(index)
    busy.flow(40, 30)
    assert same(busy.frame(38), fresh.frame(38))
    assert same(busy.frame(500), fresh.frame(500))


def test_a_frame_is_the_same_after_everything_cached_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, '_KEPT_VIEWS', 1)
    monkeypatch.setattr(simulation, '_KEPT_PIECES', 20)
    monkeypatch.setattr(layout, '_KEPT_ZONES', 4)
    street = Street(4, SIZE)
    before = street.frame(10)
    street.frame(3000)
    assert same(before, street.frame(10))


def test_frames_are_copies(streets: dict[int, Street]) -> None:
    first = streets[4].frame(5)
    kept = first.labels_HW.copy()
    first.labels_HW[:] = 77
    first.image_HW3[:] = 77
    assert np.array_equal(streets[4].frame(5).labels_HW, kept)
    assert streets[4].frame(5).image_HW3.std() > 5


def test_sequence_has_the_frames_of_the_street_and_stamps_of_the_rate(streets: dict[int, Street]) -> None:
    frames = list(render_sequence(7, 3, SIZE, fps=30.0))
    assert [f.stamp_ns for f in frames] == [0, 33_333_333, 66_666_667]
    assert all(same(f, streets[7].frame(k)) for k, f in enumerate(frames))


def test_same_time_gives_the_same_frame_at_another_rate(streets: dict[int, Street]) -> None:
    slow, fast = Street(4, SIZE, fps=10.0), streets[4]
    assert np.array_equal(slow.frame(7).labels_HW, fast.frame(21).labels_HW)


@pytest.mark.parametrize('seed', SEEDS)
def test_flow_to_the_same_frame_is_zero_and_visible(streets: dict[int, Street], seed: int) -> None:
    flow, is_visible = streets[seed].flow(12, 12)
    assert flow.dtype == np.float32 and flow.shape == (2, *SIZE)
    assert np.abs(flow).max() == 0.0
    assert is_visible.all()


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize(('current', 'key'), [(61, 60), (69, 60), (60, 66)])
def test_flow_carries_ids_and_labels_exactly(
    streets: dict[int, Street], seed: int, current: int, key: int
) -> None:
    street = streets[seed]
    flow, is_visible = street.flow(current, key)
    here, there = street.frame(current), street.frame(key)
    x, y = (np.rint(p).astype(int) for p in positions(flow))
    v = is_visible
    assert v.mean() > 0.5
    assert np.array_equal(there.ids_HW[y[v], x[v]], here.ids_HW[v])
    agreement = (there.labels_HW[y[v], x[v]] == here.labels_HW[v]).mean()
    assert agreement > 0.99


@pytest.mark.parametrize('seed', SEEDS)
def test_flow_explains_the_image(streets: dict[int, Street], seed: int) -> None:
    """Inside surfaces the warped key image equals the current one up to noise and filtering."""
    street = streets[seed]
    flow, is_visible = street.flow(66, 63)
    here, there = street.frame(66).image_HW3, street.frame(63).image_HW3
    warped = cv2.remap(there, *(p.astype(np.float32) for p in positions(flow)), cv2.INTER_LINEAR)
    inside = cv2.erode(is_visible.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    moved = np.hypot(*flow) > 1.0
    chosen = inside & moved
    error = np.abs(warped.astype(float) - here).mean(2)[chosen]
    unwarped = np.abs(there.astype(float) - here).mean(2)[chosen]
    assert np.median(error) < 6.0
    assert error.mean() < 0.6 * unwarped.mean()


def test_flow_of_the_ground_is_that_of_the_camera_height(streets: dict[int, Street]) -> None:
    """Forward motion: the road expands from the vanishing point, so going back it moves up and inwards."""
    street = streets[1]
    flow, _ = street.flow(40, 39)
    road = street.frame(40).labels_HW == CAMVID_CLASSES.index('road')
    near = road & (np.arange(SIZE[0])[:, None] > 0.85 * SIZE[0])
    assert near.sum() > 500
    assert (flow[1][near] < 0).all()
    left, right = near.copy(), near.copy()
    left[:, SIZE[1] // 4 :] = False
    right[:, : 3 * SIZE[1] // 4] = False
    assert flow[0][left].mean() > flow[0][right].mean()


def test_visibility_is_false_outside_and_behind(streets: dict[int, Street]) -> None:
    flow, is_visible = streets[1].flow(30, 60)
    x, y = positions(flow)
    outside = (x < -0.5) | (y < -0.5) | (x > SIZE[1] - 0.5) | (y > SIZE[0] - 0.5)
    assert outside.any()
    assert not is_visible[outside].any()
    assert np.isfinite(flow).all()


@pytest.mark.parametrize('seed', SEEDS)
def test_boxes_are_the_extents_of_the_ids(streets: dict[int, Street], seed: int) -> None:
    num_boxes = 0
    for index in (0, 200, 400):
        frame = streets[seed].frame(index)
        assert {b.id for b in frame.boxes} == set(np.unique(frame.ids_HW)) - {0}
        for box in frame.boxes:
            rows, columns = np.nonzero(frame.ids_HW == box.id)
            assert box.xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert set(frame.labels_HW[rows, columns]) == {box.class_id}
            assert 0.0 < box.visibility <= 1.0
            num_boxes += 1
    assert num_boxes > 3


def test_instances_are_cars_pedestrians_and_cyclists_and_have_all_their_pixels(
    streets: dict[int, Street],
) -> None:
    moving = [CAMVID_CLASSES.index(name) for name in ('car', 'pedestrian', 'bicyclist')]
    frame = streets[4].frame(300)
    assert np.array_equal(np.isin(frame.labels_HW, moving), frame.ids_HW > 0)


def test_an_occluded_box_says_so(streets: dict[int, Street]) -> None:
    shares = [b.visibility for seed in SEEDS for b in streets[seed].frame(100).boxes]
    assert min(shares) < 0.7 and max(shares) > 0.95


def test_every_class_occurs_in_plausible_amounts(streets: dict[int, Street]) -> None:
    counts = np.zeros(256)
    for street in streets.values():
        for index in (0, 100, 200, 300, 400):
            counts += np.bincount(street.frame(index).labels_HW.ravel(), minlength=256)
    share = dict(zip(CAMVID_CLASSES, counts[:11] / counts.sum(), strict=True))
    assert counts[len(CAMVID_CLASSES) :].sum() == 0
    assert all(share[name] > 0.001 for name in CAMVID_CLASSES)
    assert 0.2 < share['road'] < 0.45
    assert 0.08 < share['sky'] < 0.35
    assert 0.1 < share['building'] < 0.4


def test_seeds_differ(streets: dict[int, Street]) -> None:
    frames = [street.frame(0) for street in streets.values()]
    for k, a in enumerate(frames):
        for b in frames[k + 1 :]:
            assert (a.labels_HW != b.labels_HW).mean() > 0.1
            assert np.abs(a.image_HW3.astype(float) - b.image_HW3).mean() > 10


def test_the_street_goes_on_without_repeating(streets: dict[int, Street]) -> None:
    frames = [streets[7].frame(k) for k in (0, 3000, 30000)]
    for k, a in enumerate(frames):
        for b in frames[k + 1 :]:
            assert (a.labels_HW != b.labels_HW).mean() > 0.1


@pytest.mark.parametrize('size', [(97, 131), (240, 320), (180, 320), (128, 64), (32, 33)])
def test_any_size(size: tuple[int, int]) -> None:
    street = Street(5, size)
    frame = street.frame(3)
    flow, is_visible = street.flow(3, 2)
    assert frame.image_HW3.shape == (*size, 3) and frame.image_HW3.dtype == np.uint8
    assert frame.image_HW3.flags.c_contiguous
    assert frame.labels_HW.shape == frame.ids_HW.shape == is_visible.shape == size
    assert frame.ids_HW.dtype == np.int32 and frame.labels_HW.dtype == np.uint8
    assert is_visible.mean() > 0.6


def test_size_changes_sampling_not_the_scene(streets: dict[int, Street]) -> None:
    small = streets[4].frame(50).labels_HW
    large = Street(4, (240, 320)).frame(50).labels_HW
    halved = cv2.resize(large, (160, 120), interpolation=cv2.INTER_NEAREST)
    assert (small == halved).mean() > 0.9


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        ({'size': (0, 100)}, r'\(0, 100\)'),
        ({'size': (360, 100_000)}, '100000'),
        ({'size': (360, 480, 3)}, 'height, width'),
        ({'size': (36.5, 480)}, '36.5'),
        ({'fps': 0.0}, 'fps 0.0'),
        ({'fps': float('nan')}, 'fps nan'),
        ({'seed': 1.5}, 'seed 1.5'),
    ],
)
def test_bad_arguments_are_named(arguments: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Street(**{'seed': 0, **arguments})


def test_bad_index_is_named(streets: dict[int, Street]) -> None:
    with pytest.raises(ConfigError, match='-1'):
        streets[1].frame(-1)


def test_classes_are_those_of_camvid() -> None:
    assert len(CAMVID_CLASSES) == 11 and CAMVID_CLASSES[2] == 'pole' and CAMVID_CLASSES[10] == 'bicyclist'
    assert CAMVID_COLOURS.shape == (11, 3) and CAMVID_COLOURS.dtype == np.uint8
    assert CAMVID_COLOURS[8].tolist() == [64, 0, 128]
    assert len({tuple(c) for c in CAMVID_COLOURS.tolist()}) == 11


def test_windows_that_reach_beyond_their_wall_are_cut_off():
    for seed in range(200):
        texture = facades.gable(np.random.default_rng(seed), 2.0, 3.0, 0.5, 'brick')
        assert texture.size == facades.shape_of(2.0, 3.0)
