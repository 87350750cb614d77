# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Names of cameras: what may be one, and what becomes of the forms in which ROS gives them."""

from __future__ import annotations

import re

import pytest

from dff_ros.cameras import camera_names, topic_of
from dff_ros.errors import ConfigError
from dff_ros.ros import launching

NO_CAMERAS = ('',)


@pytest.mark.parametrize(
    ('value', 'names'),
    [
        ('', NO_CAMERAS),
        ([], NO_CAMERAS),
        ([''], NO_CAMERAS),
        (None, NO_CAMERAS),  # what ROS makes of an empty list
        ('front', ('front',)),
        (' front, left,', ('front', 'left')),
        (['front', 'left'], ('front', 'left')),
        (('rig_2/front', 'rig_2/left'), ('rig_2/front', 'rig_2/left')),
    ],
)
def test_names_come_as_text_or_list(value, names):
    assert camera_names(value) == names


@pytest.mark.parametrize(
    ('value', 'complaint'),
    [
        ('/front', "cameras: got '/front'; a name has letters"),
        (['front', 'left camera'], "cameras: got 'left camera'"),
        (['2nd'], "cameras: got '2nd'"),
        (['rig//front'], "cameras: got 'rig//front'"),
        (['front/'], 'reached by remapping NAME/image'),
        (['front', 'left', 'front'], 'cameras: got front twice'),
        ([1, 2], 'cameras: got [1, 2], expected names: [front, left] or front,left'),
        (3, 'cameras: got 3, expected names'),
        (True, 'cameras: got True, expected names'),
    ],
)
def test_what_is_no_name_is_refused_with_the_remedy(value, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        camera_names(value)


def test_topics_are_below_the_name():
    assert topic_of('', 'dff/status') == 'dff/status'
    assert topic_of('rig/front', 'dff/status') == 'rig/front/dff/status'


@pytest.mark.parametrize(
    ('cameras', 'image', 'expected'),
    [
        ('', 'image', [('image', 'image')]),
        ('', '/camera/image_raw', [('image', '/camera/image_raw')]),
        ('front,left', 'image', []),
        ('front', '/camera/image_raw', [('front/image', '/camera/image_raw')]),
        (
            'front,left',
            '/{camera}/image_raw',
            [('front/image', '/front/image_raw'), ('left/image', '/left/image_raw')],
        ),
        ('[front, left]', '/a/rgb,/b/rgb', [('front/image', '/a/rgb'), ('left/image', '/b/rgb')]),
    ],
)
def test_the_launch_file_remaps_the_image_of_each_camera(cameras, image, expected):
    assert launching.remappings({'cameras': cameras, 'image': image, 'camera_info': ''}) == expected


@pytest.mark.parametrize('image', ['/camera/image_raw', '/a,/b,/c'])
def test_images_that_do_not_fit_the_cameras_are_refused(image):
    with pytest.raises(ConfigError, match=re.escape(f"image: got '{image}' for the cameras front, left; ")):
        launching.remappings({'cameras': 'front,left', 'image': image, 'camera_info': ''})


@pytest.mark.parametrize(
    ('cameras', 'image', 'complaint'),
    [
        ('front,left', '/a,/a', 'image: got /a for two cameras'),
        ('', '/{camera}/image_raw', "image: got '/{camera}/image_raw', which is for cameras with names"),
        ('', '/a,/b', "image: got '/a,/b', which is for cameras with names"),
    ],
)
def test_images_without_a_camera_each_are_refused(cameras, image, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        launching.remappings({'cameras': cameras, 'image': image, 'camera_info': ''})
