# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff bag` that was killed goes on: messages as of an uninterrupted run, and little is computed twice."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rosbags')
pytest.importorskip('cv2')
from killed_bag import CONFIG, PART_FRAMES
from made_bags import (
    Item,
    KilledBackend,
    facts,
    image,
    item,
    on,
    open_fake,
    plain_items,
    read_bag,
    stamp_of,
    without_times,
    write_bag,
)
from test_bag import TOPIC, fail_at

from dff_ros.bag_job import BagJob, BagOptions
from dff_ros.bag_journal import JournalBackend
from dff_ros.bag_run import answer_bag
from dff_ros.config import DffConfig, KeyframeConfig
from dff_ros.errors import ConfigError, DffError

HERE = Path(__file__).parent


def recording(folder: Path) -> Path:
    """18 images and texts: one unreadable, one of unknown encoding, one stamp twice, one of another size."""
    items = plain_items(18)
    items[2 * 3] = Item(TOPIC, items[6].kind, items[6].time_ns, items[6].data[:50])
    items[2 * 7] = item(TOPIC, image(7, encoding='yuv420'), items[14].time_ns)
    items[2 * 9] = item(TOPIC, image(9, stamp_ns=stamp_of(8)), items[18].time_ns)
    items[2 * 13] = item(TOPIC, image(13, size=(40, 48)), items[26].time_ns)
    return write_bag(folder / 'in', items)


def answer(source, out, backend, storage='mcap', config=CONFIG, **rest):
    options = BagOptions(part_frames=PART_FRAMES, storage=storage)
    return answer_bag(
        BagJob(source, out, config, options), open_model=lambda config: open_fake(config, backend), **rest
    )


def test_a_bundle_goes_on_with_the_same_answers(tmp_path, light_bundle):
    """Real networks: the key frame in use is extracted again, and what the confidence is made of is there."""
    from tiny_models import moving_clip

    items = []
    for number, picture in enumerate(moving_clip((96, 128), 9, (3, 1))):
        message = image(number, size=(96, 128))
        message.data = np.ascontiguousarray(picture).reshape(-1)
        items.append(item(TOPIC, message, stamp_of(number)))
    source = write_bag(tmp_path / 'in', items)
    keyframe = KeyframeConfig(scheduler='learned', disagreement=1.0)
    config = DffConfig(bundle=str(light_bundle.path), num_threads=1, keyframe=keyframe)

    def run(out, **rest):
        return answer_bag(BagJob(source, out, config, BagOptions(part_frames=3)), **rest)

    run(tmp_path / 'whole')
    with pytest.raises(RuntimeError, match='ended by the test'):
        run(tmp_path / 'out', tell=fail_at(8))
    assert run(tmp_path / 'out')['resumed_at'] == 6
    found = read_bag(tmp_path / 'out')
    assert without_times(found) == without_times(read_bag(tmp_path / 'whole'))
    assert 'propagated' in {f['state'] for f in facts(found)}


def test_another_recording_of_the_name_and_a_second_process_are_refused(tmp_path):
    source = recording(tmp_path)
    with pytest.raises(RuntimeError):
        answer(source, tmp_path / 'out', KilledBackend(0), tell=fail_at(20))
    with (tmp_path / 'out.part' / 'lock').open('a') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match='another process is writing'):
            answer(source, tmp_path / 'out', KilledBackend(0))
    other = write_bag(tmp_path / 'other', plain_items(19))
    with pytest.raises(ConfigError, match='input messages was 36, is 38'):
        answer(other, tmp_path / 'out', KilledBackend(0))
    journal = tmp_path / 'out.part' / 'out_0.json'
    entries = json.loads(journal.read_text())
    journal.write_text(json.dumps(entries | {'entries': entries['entries'][1:]}))
    with pytest.raises(DffError, match='does not fit this recording .*--overwrite'):
        answer(source, tmp_path / 'out', KilledBackend(0))


def test_answers_that_depend_on_time_are_begun_anew(tmp_path):
    source = recording(tmp_path)
    config = DffConfig(budget_ms=60000.0)
    with pytest.raises(RuntimeError):
        answer(source, tmp_path / 'out', KilledBackend(0), config=config, tell=fail_at(20))
    told = []
    summary = answer(source, tmp_path / 'out', KilledBackend(0), config=config, tell=told.append)
    assert summary['resumed_at'] is None and any('begun anew' in t for t in told if isinstance(t, str))
    assert len(on(read_bag(tmp_path / 'out'), '/dff/segmentation')) == summary['answered'] == 14


def test_a_journal_raises_what_was_raised_and_tells_where_it_does_not_fit():
    journal = JournalBackend(KilledBackend(0), [['extract', 'error', 'gone', True], ['predict']])
    picture = np.zeros((32, 48, 3), np.uint8)
    with pytest.raises(MemoryError, match='gone'):
        journal.extract(picture)
    assert journal.is_replaying and journal.misfit == ''
    journal.extract(picture)
    assert journal.misfit == 'extract was asked for where predict was' and not journal.is_replaying
