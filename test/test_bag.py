# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff bag` on one recording: what is written, in every storage, what is refused, what is counted."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest

pytest.importorskip('rosbags')
pytest.importorskip('cv2')
from fake_backend import FakeBackend
from made_bags import (
    START_NS,
    Item,
    camera_info,
    facts,
    image,
    item,
    make,
    on,
    open_fake,
    plain_items,
    read_bag,
    stamp_of,
    without_times,
    write_bag,
)
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader

from dff_ros import cli
from dff_ros.bag_job import BagJob, BagOptions
from dff_ros.bag_messages import COMPRESSED, typestore
from dff_ros.bag_outlet import OUTPUTS
from dff_ros.bag_run import answer_bag
from dff_ros.config import DffConfig, KeyframeConfig, SegmentationConfig
from dff_ros.errors import ConfigError

CONFIG = DffConfig(keyframe=KeyframeConfig(interval=3))
TOPIC = '/camera/image_raw'


def answer(source, out, *, config=CONFIG, backend=None, tell=lambda told: None, **options):
    job = BagJob(source, out, config, BagOptions(**options))
    return answer_bag(job, tell, lambda config: open_fake(config, backend or FakeBackend()))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('compression', ['', 'message', 'file', 'storage'])
def test_outputs_stand_beside_the_copied_input(tmp_path, storage, compression):
    if (storage, compression) == ('sqlite3', 'storage'):
        return  # rosbag2 has no such thing
    items = plain_items(7)
    source = write_bag(tmp_path / 'in', items, storage, compression)
    summary = answer(source, tmp_path / 'out', part_frames=3)
    found = read_bag(tmp_path / 'out')
    assert [one for one in found if 'dff' not in one.topic] == items
    assert [one.time_ns for one in found] == sorted(one.time_ns for one in found)
    labels = on(found, '/dff/segmentation')
    assert [int(m.data[0]) for m in labels] == [0, 100, 100, 3, 103, 103, 6]
    assert [(m.encoding, m.height, m.width, m.step, len(m.data)) for m in labels] == [
        ('mono8', 32, 48, 48, 32 * 48)
    ] * 7
    assert [m.header for m in labels] == [m.header for m in on(items, TOPIC)]
    times = {one.topic: [o.time_ns for o in found if o.topic == one.topic] for one in found}
    assert times['/dff/segmentation'] == times['/dff/status'] == times['/dff/detections'] == times[TOPIC]
    (names,) = on(found, '/dff/label_info')
    assert [(n.class_id, n.class_name) for n in names.class_map] == [(0, 'road'), (1, 'car')]
    assert times['/dff/label_info'] == [items[0].time_ns]
    assert summary['answered'] == summary['images'] == 7 and summary['messages'] == 14
    assert summary['key_frames'] == 3 and summary['dropped'] == {} and summary['resumed_at'] is None
    suffix = '.mcap' if storage == 'mcap' else '.db3'
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == sorted(
        ['metadata.yaml', *(f'out_{number}{suffix}' for number in range(3))]
    )
    assert not (tmp_path / 'out.part').exists()


def test_readers_of_bags_find_types_hashes_and_latched_outputs(tmp_path):
    source = write_bag(tmp_path / 'in', plain_items(2))
    answer(source, tmp_path / 'out', storage='sqlite3', overlay=True)
    with Reader(tmp_path / 'out') as reader:
        found = {c.topic: c for c in reader.connections}
        assert reader.message_count == sum(c.msgcount for c in reader.connections) == 4 + 5 * 2 + 1
        assert (reader.start_time, reader.end_time) == (START_NS + 5_000_000, stamp_of(1) + 6_000_001)
    assert {f'/{name}' for name in OUTPUTS} <= set(found)
    for name, (kind, offered) in OUTPUTS.items():
        connection = found[f'/{name}']
        assert connection.msgtype == kind and connection.digest == typestore().hash_rihs01(kind)
        assert connection.ext.offered_qos_profiles == [offered]
    latched = found['/dff/label_info'].ext.offered_qos_profiles[0]
    assert latched.durability == QosDurability.TRANSIENT_LOCAL and latched.depth == 1
    assert 'vision_msgs/VisionClass[] class_map' in found['/dff/label_info'].msgdef.data
    database = sqlite3.connect(next((tmp_path / 'out').glob('*.db3')))
    definitions = dict(
        database.execute('SELECT topic_type, encoded_message_definition FROM message_definitions')
    )
    database.close()
    assert 'BoundingBox2D bbox' in definitions['vision_msgs/msg/Detection2DArray']


def test_quality_of_service_and_types_are_those_of_the_node():
    pytest.importorskip('rclpy')
    from dff_ros.ros.publishers import Publishers

    for name, (_, offered) in OUTPUTS.items():
        profile = Publishers.PROFILES[name]()
        assert offered.depth == profile.depth
        assert offered.reliability.name == profile.reliability.name
        assert offered.durability.name == profile.durability.name
        assert offered.history.name == profile.history.name
    assert set(Publishers.PROFILES) - set(OUTPUTS) == {'dff/frame_status'}


def test_outputs_only_and_another_storage(tmp_path):
    source = write_bag(tmp_path / 'in', plain_items(2), 'sqlite3')
    answer(source, tmp_path / 'out', outputs_only=True, storage='mcap')
    assert {one.topic for one in read_bag(tmp_path / 'out')} == {
        '/dff/segmentation', '/dff/confidence', '/dff/label_info', '/dff/detections', '/dff/status'
    }  # fmt: skip
    assert [p.suffix for p in (tmp_path / 'out').iterdir() if p.stem != 'metadata'] == ['.mcap']
    # its outputs are there already: they cannot be written beside themselves
    answer(source, tmp_path / 'both')
    with pytest.raises(ConfigError, match='/dff/segmentation.* already.*--outputs-only'):
        answer(tmp_path / 'both', tmp_path / 'again', topics=(TOPIC,))


def test_switched_off_confidence_has_no_topic_and_a_recording_reads_every_task(tmp_path):
    source = write_bag(tmp_path / 'in', plain_items(4))
    config = DffConfig(pause_unread=True, segmentation=SegmentationConfig(confidence=False))
    answer(source, tmp_path / 'out', config=config)
    found = read_bag(tmp_path / 'out')
    assert not on(found, '/dff/confidence')
    assert [int(m.data[0]) for m in on(found, '/dff/segmentation')] == [0, 100, 100, 100]
    assert [fact['mean_confidence'] for fact in facts(found)] == [''] * 4
    with Reader(tmp_path / 'out') as reader:
        assert '/dff/confidence' not in reader.topics


def test_calibration_before_or_just_after_its_image_is_republished(tmp_path):
    items = []
    for number in range(4):
        time_ns = stamp_of(number)
        info = item('/camera/camera_info', camera_info(number, focal=40.0 + number), time_ns)
        late = Item(info.topic, info.kind, time_ns + 50_000_000, info.data)
        frame = item(TOPIC, image(number), time_ns + 1)
        items += [frame, late] if number % 2 else [info, frame]
    answer(write_bag(tmp_path / 'in', items), tmp_path / 'out')
    found = read_bag(tmp_path / 'out')
    assert [(m.k[0], m.header) for m in on(found, '/dff/camera_info')] == [
        (40.0 + number, image(number).header) for number in range(4)
    ]
    assert {f['camera_info'] for f in facts(found)} == {'published'}


def test_several_cameras_are_listed_chosen_and_named(tmp_path):
    items = [
        item(f'/{name}/image_raw', image(number, stamp_ns=stamp_of(number)), stamp_of(number) + index)
        for number in range(3)
        for index, name in enumerate(('front', 'left'))
    ]
    source = write_bag(tmp_path / 'in', items)
    with pytest.raises(ConfigError, match=r'(?s)several image topics.*/front/image_raw.*/left/image_raw'):
        answer(source, tmp_path / 'out')
    with pytest.raises(ConfigError, match='no images on /right'):
        answer(source, tmp_path / 'out', topics=('/right',))
    summary = answer(source, tmp_path / 'out', topics=('all',))
    found = read_bag(tmp_path / 'out')
    assert summary['cameras'] == {'front': '/front/image_raw', 'left': '/left/image_raw'}
    # of two cameras the second has its key frames one or two images apart from those of the first
    assert [f['is_key'] for f in facts(found, '/front/dff/status')] == ['true', 'false', 'false']
    assert [f['is_key'] for f in facts(found, '/left/dff/status')] == ['true', 'false', 'true']
    assert {f['camera'] for f in facts(found, '/left/dff/status')} == {'left'}
    answer(source, tmp_path / 'one', topics=('/left/image_raw',))
    assert len(on(read_bag(tmp_path / 'one'), '/dff/segmentation')) == 3


def test_compressed_images_below_a_raw_topic(tmp_path):
    cv2 = pytest.importorskip('cv2')
    _, png = cv2.imencode('.png', np.full((32, 48, 3), 7, np.uint8))
    broken, whole = bytes(png)[:-30], bytes(png)
    items = [
        item(
            f'{TOPIC}/compressed',
            make(
                COMPRESSED, header=image(n).header, format='bgr8; png compressed bgr8',
                data=np.frombuffer(data, np.uint8),
            ),
            stamp_of(n),
        )
        for n, data in enumerate((whole, broken, whole))
    ]  # fmt: skip
    items.append(item('/camera/camera_info', camera_info(2), stamp_of(2) + 1))
    summary = answer(write_bag(tmp_path / 'in', items), tmp_path / 'out')
    found = read_bag(tmp_path / 'out')
    assert summary['dropped'] == {'conversion': 1}
    assert [int(m.data[0]) for m in on(found, '/dff/segmentation')] == [7, 107]
    assert len(on(found, '/dff/camera_info')) == 1


def test_one_file_without_metadata_and_an_mcap_without_index_are_read(tmp_path, monkeypatch):
    source = write_bag(tmp_path / 'in', plain_items(2))
    (source / 'metadata.yaml').unlink()
    assert answer(source, tmp_path / 'out')['answered'] == 2
    assert answer(source / 'in.mcap', tmp_path / 'file')['answered'] == 2
    assert without_times(read_bag(tmp_path / 'file')) == without_times(read_bag(tmp_path / 'out'))
    whole = (source / 'in.mcap').read_bytes()
    footer = len(whole) - 37
    (tmp_path / 'bare.mcap').write_bytes(whole[: footer + 9] + bytes(20) + whole[-8:])
    assert answer(tmp_path / 'bare.mcap', tmp_path / 'bare')['answered'] == 2


def test_bag_without_images_says_what_it_has(tmp_path):
    source = write_bag(tmp_path / 'in', plain_items(1)[1:])
    with pytest.raises(ConfigError, match='no images .*only /chatter'):
        answer(source, tmp_path / 'out')


def test_finished_output_is_kept_unless_overwritten_and_other_settings_are_named(tmp_path):
    source = write_bag(tmp_path / 'in', plain_items(4))
    out = tmp_path / 'out'
    answer(source, out)
    with pytest.raises(ConfigError, match='out exists: .*--overwrite'):
        answer(source, out)
    answer(source, out, overwrite=True, config=DffConfig())
    assert [f['is_key'] for f in facts(read_bag(out))].count('true') == 1
    with pytest.raises(RuntimeError):  # ended in the second part
        answer(source, tmp_path / 'other', part_frames=2, tell=fail_at(6))
    with pytest.raises(ConfigError, match='keyframe.interval was 3, is 7; give the same ones'):
        answer(
            source, tmp_path / 'other', part_frames=2, config=DffConfig(keyframe=KeyframeConfig(interval=7))
        )
    answer(source, tmp_path / 'other', part_frames=2)


def fail_at(number):
    def tell(told):
        if getattr(told, 'done', 0) == number:
            raise RuntimeError('ended by the test')

    return tell


def test_without_rosbags_the_extra_is_named(tmp_path, monkeypatch, capsys):
    import sys

    for name in [name for name in sys.modules if name.startswith(('dff_ros.bag_', 'dff_ros.commands.bag'))]:
        monkeypatch.delitem(sys.modules, name)
    for name in ('rosbags', 'rosbags.interfaces', 'rosbags.rosbag2', 'rosbags.typesys'):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(['bag', str(tmp_path), '--out', str(tmp_path / 'out')]) == 2
    assert 'needs rosbags, which is not installed: pip install "dff_ros[bag]"' in capsys.readouterr().err


def test_command_answers_with_a_bundle_and_tells_figures_as_json(tmp_path, capsys, dis_bundle):
    frame = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    message = image(0, size=(96, 128))
    message.data = frame.reshape(-1)
    source = write_bag(tmp_path / 'in', [item(TOPIC, message, stamp_of(0))])
    flags = ['--bundle', str(dis_bundle.path), '--num_threads', '1', '--json']
    assert cli.main(['bag', str(source), '--out', str(tmp_path / 'out'), *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['answered'] == report['key_frames'] == 1
    (label_map,) = on(read_bag(tmp_path / 'out'), '/dff/segmentation')
    assert len(np.unique(label_map.data)) > 1
    assert cli.main(['bag', str(source), '--out', str(tmp_path / 'out'), *flags]) == 2
    assert '--overwrite' in capsys.readouterr().err
