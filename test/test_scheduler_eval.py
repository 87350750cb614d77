# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff eval --schedulers`: each pair measured once, rows as of engines, command and plot."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest
from eval_helpers import SPEC, StaleBackend, numbered_clip
from PIL import Image

from dff_ros import cli, contenders, scheduler_evaluator
from dff_ros.config import DffConfig, KeyframeConfig, replace
from dff_ros.engine import Engine
from dff_ros.errors import ConfigError
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.made_sources import CutSource
from dff_ros.scheduler_evaluator import SchedulerEvaluator
from dff_ros.types import Frame, KeyFeature, Propagation


class MovingBackend(StaleBackend):
    """As StaleBackend; the motion is 10 px for each number between the frames, the residual half of that."""

    def propagate(self, image_HW3, key: KeyFeature[int, int]) -> Propagation[int]:
        number = super().propagate(image_HW3, key).feature
        far = abs(self._number(image_HW3) - key.feature)
        return Propagation(number, np.ones((2, 3), np.float32), 10.0 * far, 1.0, residual=5.0 * far)


@pytest.fixture
def calls(monkeypatch):
    """Every bundle has SPEC and MovingBackends, which all write into this list."""
    found: list[str] = []
    bundle = types.SimpleNamespace(spec=SPEC, name='fake', stride=16)
    monkeypatch.setattr(scheduler_evaluator, 'open_bundle', lambda name: bundle)
    monkeypatch.setattr(
        contenders, '_open_backend', lambda bundle, config, setup: MovingBackend(setup.flow, found)
    )
    return found


SPEEDS = [0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6, 7, 8, 9, 9, 9]
"""Numbers of the frames: standing, moving, standing, moving, standing."""


def evaluated(source, schedulers=('fixed', 'motion'), key_ratios=(0.2,), config=None, **changes):
    config = config or DffConfig()
    with SchedulerEvaluator(
        config, source, schedulers=schedulers, key_ratios=key_ratios, **changes
    ) as evaluator:
        done = list(evaluator.frames())
        assert done == list(range(1, len(done) + 1))
    report = evaluator.report()
    return report, {(row['method'], row['scheduler'], row['key_ratio']): row for row in report['rows']}


def test_each_frame_is_extracted_and_each_pair_propagated_once(calls):
    config = replace(DffConfig(), {'keyframe.max_interval': 2})
    report, rows = evaluated(
        numbered_clip(range(5)), config=config, methods=('dff', 'copy'), key_ratios=(0.4, 0.5)
    )
    assert [call for call in calls if call.startswith('extract')] == [f'extract {n}' for n in range(5)]
    pairs = [(0, 1), (1, 2), (0, 2), (2, 3), (1, 3), (3, 4), (2, 4)]
    for flow in ('bundle', 'zero'):
        expected = [f'{flow} {key}->{now}' for key, now in pairs]
        assert [call for call in calls if call.startswith(flow)] == expected
    assert list(rows) == [
        (method, name, ratio)
        for method in ('dff', 'copy')
        for name in ('fixed', 'motion')
        for ratio in (0.4, 0.5)
    ]
    assert (report['num_frames'], report['complete'], report['max_interval']) == (5, True, 2)


def test_no_pair_is_older_than_the_age_cap_or_spans_a_break(calls):
    stamps_s = [0.0, 0.5, 1.0, 1.5, 9.0, 9.5]
    config = replace(DffConfig(), {'keyframe.max_age_s': 1.0})
    report, _ = evaluated(numbered_clip(range(6), stamps_s=stamps_s), config=config)
    pairs = [call for call in calls if call.startswith('bundle')]
    assert pairs == [f'bundle {pair}' for pair in ('0->1', '1->2', '0->2', '2->3', '1->3', '4->5')]
    assert report['num_sequences'] == 2


@pytest.mark.parametrize('name, setting', [('fixed', 'interval'), ('motion', 'motion_px')])
def test_the_table_gives_what_the_engine_gives(calls, name, setting):
    """The figures of a row are those of engines that start at each first frame, with the row's threshold."""
    source = numbered_clip(SPEEDS)
    _, rows = evaluated(source, key_ratios=(0.3,))
    row = rows['dff', name, 0.3]
    value = int(row['threshold']) if name == 'fixed' else row['threshold']
    config = KeyframeConfig(**{'scheduler': name, setting: value})
    confusion, ages, num_keys = ConfusionMatrix(11), [], 0
    for start in range((len(SPEEDS) + 1) // 2):
        engine = Engine(MovingBackend('bundle', []), config)
        for index in range(start, len(SPEEDS)):
            result = engine.step(Frame(image_HW3=source.images[index], stamp_ns=index * 10**9 // 15))
            confusion.update(source.maps[index], result.segmentation.label_map_HW)
            ages.append(result.age_frames)
            num_keys += result.is_key
    assert row['miou'] == round(confusion.miou(), 2)
    assert row['mean_age'] == round(float(np.mean(ages)), 2)
    assert row['achieved'] == round(num_keys / len(ages), 4)


def test_content_beats_a_fixed_interval_where_the_camera_stops(calls):
    report, rows = evaluated(numbered_clip(SPEEDS), ('fixed', 'motion', 'residual', 'oracle'), (0.3,))
    assert report['per_frame_miou'] is not None
    fixed = rows['dff', 'fixed', 0.3]
    assert fixed['loss'] > 1
    for name in ('motion', 'residual', 'oracle'):
        assert rows['dff', name, 0.3]['recovered'] > 10
    assert rows['dff', 'motion', 0.3]['agreement'] == rows['dff', 'residual', 0.3]['agreement']


def test_cuts_are_told(calls):
    """Two scenes whose pictures have nothing in common but their numbers."""
    rng = np.random.default_rng(0)
    clips = [numbered_clip([1] * 30), numbered_clip([2] * 30)]
    for clip in clips:
        texture = rng.integers(0, 256, (32, 48, 3)).astype(np.uint8)
        clip.images = [texture.copy() for _ in clip.images]
        for number, image in enumerate(clip.images):
            image[0, 0, 0] = clip.maps[number][0, 0]
    config = replace(DffConfig(), {'keyframe.max_interval': 10})
    _, rows = evaluated(CutSource(clips), ('fixed', 'motion'), (0.1,), config)
    assert rows['dff', 'motion', 0.1]['cut_recall'] == 100.0
    assert rows['dff', 'motion', 0.1]['num_false_cuts'] == 0
    assert rows['dff', 'fixed', 0.1]['cut_recall'] < 50
    assert rows['dff', 'motion', 0.1]['reasons']['cut'] > 0


def test_without_labels_there_is_agreement(calls):
    report, rows = evaluated(numbered_clip(SPEEDS), use_labels=False, key_ratios=(0.3,))
    row = rows['dff', 'motion', 0.3]
    assert (report['labelled'], report['per_frame_miou'], row['miou']) == (False, None, None)
    assert row['loss'] == round(100 - row['agreement'], 2)


def test_what_cannot_be_served_is_refused(calls):
    with pytest.raises(ConfigError, match='scheduler learned: bundle fake predicts no disagreement; it can'):
        evaluated(numbered_clip(range(5)), ('learned',))
    with pytest.raises(ConfigError, match='method clockwork has no flow'):
        evaluated(numbered_clip(range(5)), methods=('clockwork',))
    endless = numbered_clip(range(5))
    endless.num_frames, endless.is_rendered = None, True
    with pytest.raises(ConfigError, match='clip has no end: say how many'):
        evaluated(endless)


@pytest.fixture
def camvid(tmp_path):
    """Frames of the CamVid layout whose pixels hold SPEEDS."""
    names = [f'0016E5_{7959 + 2 * index:05d}' for index in range(len(SPEEDS))]
    for folder in ('images/val', 'labels/val', 'splits'):
        (tmp_path / folder).mkdir(parents=True)
    for name, number in zip(names, SPEEDS, strict=True):
        picture = np.full((32, 48, 3), number, np.uint8)
        Image.fromarray(picture).save(tmp_path / f'images/val/{name}.jpg', quality=100)
        Image.fromarray(picture[..., 0]).save(tmp_path / f'labels/val/{name}.png')
    (tmp_path / 'splits/val.txt').write_text('\n'.join(names))
    return tmp_path


def run(*argv: object) -> int:
    return cli.main(['eval', *map(str, argv)])


def test_the_command_prints_json_and_draws(calls, camvid, tmp_path, capsys):
    code = run(
        *('--schedulers', 'fixed,motion,oracle', '--key-ratios', '0.2,0.4', '--data', f'stopgo:{camvid}'),
        *('--num-frames', 30, '--json', '--plot', tmp_path / 'p.png', '--out', tmp_path / 'r.json'),
    )
    assert code == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / 'r.json').read_text())
    assert [(row['scheduler'], row['key_ratio']) for row in report['rows']] == [
        (name, ratio) for name in ('fixed', 'motion', 'oracle') for ratio in (0.2, 0.4)
    ]
    assert {'miou', 'mean_age', 'achieved', 'recovered', 'reasons', 'cut_recall'} <= set(report['rows'][0])
    assert report['per_frame_miou'] is not None
    assert (report['split'], report['num_frames'], report['task']) == ('val', 30, 'schedulers')
    with Image.open(tmp_path / 'p.png') as picture:
        assert picture.size[0] > 600


def test_the_command_prints_a_table(calls, camvid, monkeypatch, capsys):
    monkeypatch.setenv('COLUMNS', '160')
    assert run('--schedulers', 'fixed,motion', '--key-ratios', '0.2', '--data', camvid) == 0
    text = capsys.readouterr().out
    for part in ('per frame', 'motion', 'back', 'no_key', 'Reasons of the key frames'):
        assert part in text, part


@pytest.mark.parametrize(
    'argv, message',
    [
        (['--schedulers', 'fixed', '--intervals', '5'], '--intervals cannot be combined with --schedulers'),
        (['--schedulers', 'fixed', '--task', 'detection'], '--task detection cannot be combined with'),
        (['--key-ratios', '0.1'], '--key-ratios are those of schedulers'),
        (['--schedulers', 'fixed', '--key-ratios', '0.001'], 'key ratio 0.001: allowed is from'),
    ],
)
def test_flags_that_do_not_go_together(calls, camvid, argv, message, capsys):
    assert run('--data', camvid, *argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    'argv, message',
    [
        (['--schedulers', 'fixed,psychic'], "unknown scheduler 'psychic'; known are fixed, period, motion"),
        (['--key-ratios', '0.1,0'], "got '0', expected a number above 0 and at most 1"),
        (['--key-ratios', 'x'], "got 'x', expected a number above 0 and at most 1"),
    ],
)
def test_bad_flags_are_named(argv, message, capsys):
    with pytest.raises(SystemExit) as exit_info:
        run('--data', 'street', *argv)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
