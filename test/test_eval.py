# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff eval`: each key extracted once, each pair propagated once, figures by hand and as of the engine."""

from __future__ import annotations

import dataclasses
import json
import types

import cv2
import numpy as np
import pytest
from eval_helpers import SPEC, Clip, StaleBackend, evaluated, numbered_clip, row
from PIL import Image
from tiny_models import moving_clip, texture

from dff_ros import cli, contenders, evaluator, methods
from dff_ros.backends.base import open_backend
from dff_ros.backends.clockwork import ClockworkBackend
from dff_ros.confidence import ConfidenceRule
from dff_ros.config import DffConfig, KeyframeConfig, SegmentationConfig, replace
from dff_ros.data.classes import CAMVID_CLASSES
from dff_ros.engine import Engine
from dff_ros.errors import BackendUnavailableError, ConfigError
from dff_ros.eval_plot import plot
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.label_motion import LabelMotion
from dff_ros.tasks import TaskPlan
from dff_ros.types import Frame


def open_stale(calls):
    return lambda bundle, config, setup: StaleBackend(setup.flow, calls)


@pytest.fixture
def calls(monkeypatch):
    """Every bundle has SPEC and StaleBackends, which all write into this list."""
    found: list[str] = []
    bundle = types.SimpleNamespace(spec=SPEC, name='fake', stride=16)
    monkeypatch.setattr(evaluator, 'open_bundle', lambda name: bundle)
    monkeypatch.setattr(contenders, '_open_backend', open_stale(found))
    return found


def test_each_key_is_extracted_and_each_pair_propagated_once(calls):
    report = evaluated(numbered_clip(range(4)), ('dff', 'copy'), (1, 2, 3))
    assert [call for call in calls if call.startswith('extract')] == [f'extract {n}' for n in range(4)]
    pairs = [(0, 1), (1, 2), (0, 2), (2, 3), (1, 3)]
    for flow in ('bundle', 'zero'):
        expected = [f'{flow} {key}->{now}' for key, now in pairs]
        assert [call for call in calls if call.startswith(flow)] == expected
    assert calls.count('close') == 2
    assert len(report['rows']) == 6
    assert (report['num_frames'], report['num_sequences'], report['complete']) == (4, 1, True)


def test_figures_by_hand(calls):
    report = evaluated(numbered_clip([0, 0, 1, 1]), ('dff', 'copy'), (1, 2))
    # Per frame the upper half is right, the lower (class 10) never: IoU 50 for 0 and 1, 0 for 10.
    assert report['per_frame_miou'] == pytest.approx(100 / 3, abs=0.01)
    assert report['per_frame_iou_per_class'] == dict.fromkeys(CAMVID_CLASSES) | {
        'sky': 50.0, 'building': 50.0, 'bicyclist': 0.0,
    }  # fmt: skip
    # Offset 1, frames 1 2 3 from 0 1 2: given 0, 0, 1 where 0, 1, 1 is true. In half frames: class 0 hit 1 of
    # union 4, class 1 hit 1 of 3.
    offset_1 = 100 * (1 / 4 + 1 / 3 + 0) / 3
    dff = row(report, 'dff', 2)
    assert dff['by_offset'] == [33.33, pytest.approx(offset_1, abs=0.005)]
    assert dff['miou'] == pytest.approx((100 / 3 + offset_1) / 2, abs=0.01)
    assert dff['loss'] == pytest.approx((100 / 3 - offset_1) / 2, abs=0.01)
    assert (dff['worst_offset'], dff['worst_miou']) == (1, dff['by_offset'][1])
    assert dff['iou_per_class']['sky'] == 37.5
    assert dff['agreement_by_offset'] == [100.0, 66.67]
    assert dff['flow'] == 'flownet_half'
    # Copied features have an error of one class here: given 1, 1, 2. Class 1 hit 1 of 5, 0 hit 0.
    copy = row(report, 'copy', 2)
    assert copy['by_offset'] == [33.33, pytest.approx(100 / 5 / 3, abs=0.005)]
    assert copy['agreement_by_offset'] == [100.0, 33.33]
    assert row(report, 'copy', 1)['miou'] == report['per_frame_miou']


def test_consistency_of_a_still_picture_is_that_of_the_labels(calls):
    """Still grey pictures have no flow: labels are compared in place."""
    report = evaluated(numbered_clip([0, 0, 1, 1]), ('dff',), (1, 2))
    assert report['per_frame_consistency'] == pytest.approx(200 / 3, abs=0.01)  # 0 0 1 1: two of three kept
    # Frame t at offset 1 shows frame t-1's number, as t-1 did: all equal. Then keys: number t against what
    # t-1 showed from t-2, at t = 2 and 3: 1 after 0, 1 after 0.
    assert row(report, 'dff', 2)['consistency'] == pytest.approx((100 + 0) / 2)


def test_no_pair_spans_a_cut_or_a_frame_of_another_size(calls):
    stamps_s = [0, 0.1, 0.2, 9.0, 9.1, 9.2]
    report = evaluated(numbered_clip(range(6), stamps_s=stamps_s), ('dff',), (3,))
    pairs = [call for call in calls if call.startswith('bundle')]
    assert pairs == ['bundle 0->1', 'bundle 1->2', 'bundle 0->2', 'bundle 3->4', 'bundle 4->5', 'bundle 3->5']
    assert report['num_sequences'] == 2
    calls.clear()
    source = numbered_clip(range(4), labels=None, class_names=())
    source.images[2:] = [np.full((48, 32, 3), number, np.uint8) for number in (2, 3)]
    report = evaluated(source, ('dff',), (2,))
    assert [call for call in calls if call.startswith('bundle')] == ['bundle 0->1', 'bundle 2->3']


def test_the_longest_gap_is_a_setting(calls):
    config = DffConfig(keyframe=KeyframeConfig(max_gap_s=20.0))
    report = evaluated(numbered_clip(range(3), stamps_s=[0, 0.1, 9.0]), ('dff',), (2,), config)
    assert report['num_sequences'] == 1


def test_without_labels_there_is_agreement(calls):
    source = numbered_clip([0, 0, 1], class_names=('other',))
    report = evaluated(source, ('dff',), (2,), use_labels=False)
    dff = row(report, 'dff', 2)
    assert (report['labelled'], report['per_frame_miou'], dff['miou'], dff['by_offset']) == (
        False,
        *[None] * 3,
    )
    assert (dff['agreement'], dff['agreement_by_offset']) == (75.0, [100.0, 50.0])
    assert dff['agreement_miou'] == pytest.approx((100 + (50 + 0) / 2) / 2)


def test_num_frames_and_too_few_of_them(calls):
    assert evaluated(numbered_clip(range(5)), ('copy',), (2,), num_frames=3)['num_frames'] == 3
    with pytest.raises(ConfigError, match='clip: 3 frames are too few for a key interval of 4'):
        evaluated(numbered_clip(range(5)), ('copy',), (4,), num_frames=3)
    endless = numbered_clip(range(5))
    endless.num_frames, endless.is_rendered = None, True
    with pytest.raises(ConfigError, match='clip has no end: say how many'):
        evaluated(endless, ('copy',), (2,))
    with pytest.raises(
        ConfigError, match="unknown method 'sff'; known are dff, dff-plain, copy, dis, clockwork"
    ):
        evaluated(numbered_clip(range(5)), ('sff',), (2,))


def propagated_by_engine(bundle, flow, correction, images, interval) -> list[ConfusionMatrix]:
    """Agreement with per-frame inference by offset, over all phases: one engine for each."""
    config = DffConfig(bundle=str(bundle.path), flow=flow, correction=correction, num_threads=2)
    backend = open_backend(bundle, config)
    size = images[0].shape[:2]
    plan = TaskPlan(segmentation=SegmentationConfig(min_validity=0.0))  # nothing is marked
    rule = ConfidenceRule(bundle.spec.nominal_size, bundle.stride)
    direct = [backend.predict(backend.extract(image).feature, size, size).label_map_HW for image in images]
    found = [ConfusionMatrix(bundle.spec.num_classes) for _ in range(interval)]
    for phase in range(interval):
        engine = Engine(backend, KeyframeConfig(interval=interval), plan, rule=rule)
        for index in range(phase, len(images)):
            result = engine.step(Frame(image_HW3=images[index], stamp_ns=index * 66_000_000))
            found[result.age_frames].update(direct[index], result.segmentation.label_map_HW)
    backend.close()
    return found


def test_labels_of_other_classes_are_refused(calls):
    names = ('sky', 'wall', *CAMVID_CLASSES[2:])
    message = r"clip: its classes are not the bundle's \(the data lack building; the bundle lacks wall\)"
    with pytest.raises(ConfigError, match=message):
        evaluated(numbered_clip(range(3), class_names=names), ('dff',), (2,))
    with pytest.raises(ConfigError, match='their order differs'):
        evaluated(numbered_clip(range(3), class_names=CAMVID_CLASSES[::-1]), ('dff',), (2,))


def test_sparse_labels_are_reached_from_every_key_and_nothing_else_is_done(calls):
    source = numbered_clip(range(9))
    source.maps[:] = [labels if index in (1, 6) else None for index, labels in enumerate(source.maps)]
    report = evaluated(source, ('dff', 'copy'), (1, 3))
    assert [call for call in calls if call.startswith('extract')] == [
        f'extract {number}' for number in (1, 0, 6, 5, 4)
    ]
    for flow in ('bundle', 'zero'):
        expected = [f'{flow} {pair}' for pair in ('0->1', '5->6', '4->6')]
        assert [call for call in calls if call.startswith(flow)] == expected
    assert (report['num_frames'], report['num_answered']) == (9, 2)
    assert report['per_frame_consistency'] is None  # no two frames in a row
    # Offset 1: 0 given where 1 is true and 5 where 6 is; each class is in one half frame, never hit.
    assert row(report, 'dff', 3)['by_offset'] == [33.33, 0.0, 0.0]
    calls.clear()
    report = evaluated(source, ('dff',), (1, 3), answer_all=True)
    assert [call for call in calls if call.startswith('extract')] == [f'extract {n}' for n in range(9)]
    assert (report['num_answered'], report['per_frame_consistency']) == (9, 0.0)
    assert row(report, 'dff', 3)['by_offset'] == [33.33, 0.0, 0.0]


def test_an_offset_that_never_reaches_a_label_has_no_figure(calls, tmp_path):
    source = numbered_clip(range(4))
    source.maps[:] = [labels if index == 1 else None for index, labels in enumerate(source.maps)]
    report = evaluated(source, ('dff',), (2, 3))
    assert row(report, 'dff', 3)['by_offset'] == [50.0 / 2, 0.0, None]
    assert (row(report, 'dff', 2)['miou'], row(report, 'dff', 3)['miou']) == (12.5, None)
    plot({**report, 'data': 'clip'}, tmp_path / 'p.png')
    assert (tmp_path / 'p.png').stat().st_size > 10_000


def test_frames_of_another_sequence_are_never_paired(calls):
    source = numbered_clip(range(4))
    source.sequences = ['a', 'a', 'b', 'b']
    report = evaluated(source, ('dff',), (2,))
    assert [call for call in calls if call.startswith('bundle')] == ['bundle 0->1', 'bundle 2->3']
    assert report['num_sequences'] == 2


def test_stage_reuse_has_key_frames_and_times_of_its_own(calls):
    report = evaluated(numbered_clip([0, 0, 1, 1]), ('copy', 'clockwork'), (1, 2))
    extracted = [call for call in calls if call.startswith('extract')]
    assert extracted == [f'extract {number}' for number in (0, 0, 0, 0, 1, 1, 1, 1)]
    assert row(report, 'clockwork', 1)['miou'] == report['per_frame_miou']
    # Its error is three classes: given 3, 3, 4 where 0, 1, 1 is true.
    assert row(report, 'clockwork', 2)['by_offset'] == [33.33, 0.0]
    assert row(report, 'clockwork', 2)['flow'] == ''


def test_methods_that_need_a_correction_are_refused_without_one(calls):
    for method in ('dff-plain', 'dis-corrected'):
        with pytest.raises(ConfigError, match=f'method {method}: the bundle has no correction branch'):
            evaluated(numbered_clip(range(4)), (method,), (2,))


@pytest.mark.parametrize(
    'source, setups',
    [
        ('correlation', [('bundle', True), ('bundle', False), ('zero', False), ('dis', False)]),
        ('dis', [('dis', True), ('dis', False), ('zero', False), ('dis', False)]),
    ],
)
def test_defaults_have_the_paper_s_baselines_uncorrected(source, setups):
    spec = dataclasses.replace(SPEC, flow_source=source, light_channels=8, correction_channels=8)
    names = methods.default_methods(spec)
    assert names == ('dff', 'dff-plain', 'copy', 'dis', 'clockwork')
    assert [methods.setup_of(method, spec) for method in names[:4]] == setups
    assert methods.setup_of('copy-corrected', spec) == ('zero', True)
    assert methods.setup_of('dis-corrected', spec) == ('dis', True)
    assert methods.default_methods(SPEC) == ('dff', 'copy', 'dis', 'clockwork')
    assert methods.setup_of('dff', SPEC) == ('bundle', False)


def test_stage_reuse_is_left_out_where_torch_is_not_installed(calls, monkeypatch):
    def open_fake(bundle, config, setup):
        if setup.flow == 'clockwork':
            raise BackendUnavailableError('it runs in torch')
        return StaleBackend(setup.flow, calls)

    monkeypatch.setattr(contenders, '_open_backend', open_fake)
    report = evaluated(numbered_clip(range(4)), None, (2,))
    assert [row['method'] for row in report['rows']] == ['dff', 'copy', 'dis']
    assert report['notes'] == ['clockwork is left out: it runs in torch']
    with pytest.raises(BackendUnavailableError, match='it runs in torch'):
        evaluated(numbered_clip(range(4)), ('dff', 'clockwork'), (2,))
    assert calls[-1] == 'close'


def propagated_by_stages(bundle, images) -> list[float]:
    """Agreement of stage reuse with per-frame inference, at offsets 1 and 2."""
    backend = ClockworkBackend(bundle, 2)
    size = images[0].shape[:2]
    keys = [backend.extract(image) for image in images]
    direct = [backend.predict(key.feature, size, size).label_map_HW for key in keys]
    found = []
    for offset in (1, 2):
        matrix = ConfusionMatrix(bundle.spec.num_classes)
        for index in range(offset, len(images)):
            feature = backend.propagate(images[index], keys[index - offset]).feature
            matrix.update(direct[index], backend.predict(feature, size, size).label_map_HW)
        found.append(matrix.pixel_accuracy())
    return found


def test_stage_reuse_agrees_with_per_frame_as_by_hand(flow_bundle):
    images = moving_clip((96, 128), 5, (3, 1))
    config = DffConfig(bundle=str(flow_bundle.path), num_threads=2)
    report = evaluated(Clip(images), ('dff', 'clockwork'), (1, 3), config)
    found = row(report, 'clockwork', 3)
    assert found['agreement_by_offset'] == pytest.approx(
        [100, *propagated_by_stages(flow_bundle, images)], abs=0.01
    )
    assert found['runtime'].startswith('torch') and row(report, 'dff', 3)['runtime'].startswith('onnx')
    assert found['gmac_per_frame'] > row(report, 'dff', 1)['gmac_per_frame'] / 3
    assert found['miou'] is None and report['labelled'] is False


PLAIN = {'dff': ('bundle', True), 'copy': ('zero', False), 'dis': ('dis', False)}
CORRECTED = {'dff': ('bundle', True), 'dff-plain': ('bundle', False), 'dis-corrected': ('dis', True)}


@pytest.mark.parametrize(
    'kind, settings',
    [('dis_bundle', PLAIN), ('flow_bundle', PLAIN), ('light_bundle', CORRECTED)],
)
def test_equals_the_engine_over_all_phases_with_shared_keys(kind, settings, request):
    bundle = request.getfixturevalue(kind)
    images = moving_clip((96, 128), 5, (3, 1))
    config = DffConfig(bundle=str(bundle.path), num_threads=2)
    report = evaluated(Clip(images), tuple(settings), (1, 3), config)
    for method, (flow, correction) in settings.items():
        matrices = propagated_by_engine(bundle, flow, correction, images, 3)
        dff = row(report, method, 3)
        expected = [round(matrix.pixel_accuracy(), 2) for matrix in matrices]
        assert dff['agreement_by_offset'] == expected, method
        assert dff['agreement_miou'] == round(float(np.mean([matrix.miou() for matrix in matrices])), 2)
        assert expected[0] == 100.0 > expected[2] > 20.0
    own = bundle.spec.flow_source
    flows = {'bundle': own, 'zero': 'zero', 'dis': 'dis'}
    assert [row(report, method, 3)['flow'] for method in settings] == [
        flows[flow] for flow, _ in settings.values()
    ]


def test_multiply_adds_are_those_of_the_layers(flow_bundle):
    from dff_ros.nets.complexity import complexity_table, stage_gmac

    size = (96, 128)
    spec = flow_bundle.spec
    stages = stage_gmac(spec, size)
    (reference,) = complexity_table(size, ['resnet18'], ['flownet_half'], spec.channels)
    assert stages.propagate == pytest.approx(reference.flow_gmac)
    assert stages.extract < reference.extract_gmac  # the tiny model ends with stage 4
    cells = (96 // 16) * (128 // 16)
    assert stages.predict == pytest.approx(cells * spec.channels * spec.num_classes / 1e9)
    report = evaluated(
        Clip(moving_clip(size, 3, (2, 0))),
        ('dff', 'copy'),
        (2,),
        DffConfig(bundle=str(flow_bundle.path), num_threads=2),
    )
    assert row(report, 'dff', 2)['gmac_per_frame'] == pytest.approx(stages.per_frame(2), abs=1e-3)
    assert row(report, 'copy', 2)['gmac_per_frame'] == pytest.approx(
        stages.extract / 2 + stages.predict, abs=1e-3
    )
    assert report['per_frame_gmac'] == pytest.approx(stages.extract + stages.predict, abs=1e-3)


def test_an_adopted_key_is_that_of_the_own_backend(flow_bundle):
    config = DffConfig(bundle=str(flow_bundle.path), num_threads=2)
    key_image, image = moving_clip((96, 128), 2, (4, 0))
    extractor, dis = (
        open_backend(flow_bundle, replace(config, {'flow': flow})) for flow in ('bundle', 'dis')
    )
    adopted, own = dis.adopt(key_image, extractor.extract(key_image)), dis.extract(key_image)
    np.testing.assert_array_equal(adopted.context.grey, own.context.grey)
    assert dis.adopt(key_image, adopted) is adopted
    from_adopted, from_own = dis.propagate(image, adopted), dis.propagate(image, own)
    np.testing.assert_allclose(from_adopted.feature, from_own.feature, atol=1e-5)
    assert from_adopted.motion_px == from_own.motion_px > 2
    np.testing.assert_array_equal(  # still good for the flow net
        extractor.propagate(image, adopted).feature,
        extractor.propagate(image, extractor.extract(key_image)).feature,
    )


@pytest.mark.parametrize('size', [(96, 128), (65, 97)])
def test_labels_are_followed_along_the_motion(size):
    first, second = moving_clip(size, 2, (6, -4))  # content moves 6 left and 4 down
    motion = LabelMotion(1)
    assert motion.step(first) is None
    step = motion.step(second)
    rows, columns = np.divmod(step.now_N, size[1])
    before_rows, before_columns = np.divmod(step.before_N, size[1])
    assert set(rows % 2) == set(columns % 2) == {0}
    inner = (rows > 16) & (rows < size[0] - 16) & (columns > 16) & (columns < size[1] - 16)
    moved = np.stack((before_rows - rows, before_columns - columns), 1)[inner]
    np.testing.assert_array_equal(np.median(moved, 0), (-4, 6))
    assert (np.abs(moved - (-4, 6)).max(1) <= 1).mean() > 0.95
    assert step.before_N.min() >= 0 and step.before_N.max() < size[0] * size[1]
    assert len(step.now_N) < -(-size[0] // 2) * -(-size[1] // 2)  # what came in from outside is left out
    motion.reset()
    assert motion.step(texture((48, 64))) is None


@pytest.fixture
def camvid(tmp_path):
    """Six frames of value 0..5 whose label is the value."""
    root = tmp_path / 'camvid'
    names = [f'0016E5_{7959 + 2 * value:05d}' for value in range(6)]
    for folder in ('images/val', 'labels/val', 'splits'):
        (root / folder).mkdir(parents=True)
    for value, name in enumerate(names):
        image = np.full((32, 48, 3), value, np.uint8)
        Image.fromarray(image).save(root / f'images/val/{name}.jpg', quality=95)
        cv2.imwrite(str(root / f'labels/val/{name}.png'), image[..., 0])
    (root / 'splits' / 'val.txt').write_text('\n'.join(names))
    return root


def run(*argv) -> int:
    return cli.main(['eval', *(str(arg) for arg in argv)])


def test_json_plot_and_file(calls, camvid, tmp_path, capsys):
    out, png = tmp_path / 'new' / 'r.json', tmp_path / 'new' / 'p.png'
    flags = ('--intervals', '2,1,2', '--methods', 'dis,dff', '--json', '--out', out, '--plot', png)
    assert run('--data', f'camvid:{camvid}', '--split', 'val', *flags) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads(out.read_text())
    assert [(row['method'], row['interval']) for row in report['rows']] == [
        ('dis', 1), ('dis', 2), ('dff', 1), ('dff', 2),
    ]  # fmt: skip
    assert (report['data'], report['split'], report['backend']) == (f'camvid:{camvid}', 'val', 'fake')
    assert report['precision'] == 'fp32'
    assert (report['per_frame_miou'], report['num_frames'], report['size']) == (100.0, 6, [32, 48])
    assert row(report, 'dff', 2)['by_offset'] == [100.0, 0.0]
    assert cv2.imread(str(png)).shape == (540, 1320, 3)
    assert not np.array_equal(cv2.imread(str(png))[100:400, 100:600], np.full((300, 500, 3), 255))
    assert cli.main(['eval', '--data', str(camvid), '--intervals', '2', '--methods', 'dff']) == 0
    text = capsys.readouterr().out
    for part in ('per frame', '100.0', '0.0 @1', 'flownet_half', 'eq. 7'):
        assert part in text, part


def test_a_range_of_frames(calls, camvid, capsys):
    assert run('--data', camvid, '--frames', '2-4', '--intervals', 2, '--methods', 'dff', '--json') == 0
    report = json.loads(capsys.readouterr().out)
    assert [call for call in calls if call.startswith('bundle')] == ['bundle 1->2', 'bundle 2->3']
    assert (report['num_frames'], report['frames'], report['split']) == (3, '2-4', 'val')
    assert run('--data', camvid, '--frames', '4-7') == 2
    assert 'val has 6 frames: there are no frames 4-7' in capsys.readouterr().err


def test_what_was_measured_before_a_damaged_frame_is_reported(calls, camvid, tmp_path, capsys):
    path = sorted((camvid / 'images/val').iterdir())[4]
    path.write_bytes(path.read_bytes()[:20])
    assert run('--data', camvid, '--intervals', 2, '--out', tmp_path / 'r.json') == 2
    assert f'{path.name} cannot be decoded' in capsys.readouterr().err
    report = json.loads((tmp_path / 'r.json').read_text())
    assert (report['num_frames'], report['complete'], report['per_frame_miou']) == (4, False, 100.0)


@pytest.mark.parametrize(
    'argv, message',
    [
        (['--data', 'street'], 'street has no end: say how many frames to take (--num-frames N)'),
        (['--data', 'camvid:nowhere'], 'the data folder nowhere does not exist'),
        (['--data', 'nowhere'], "there is no source 'nowhere'"),
    ],
)
def test_what_is_missing_is_one_line(calls, argv, message, capsys):
    assert run(*argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


@pytest.mark.parametrize(
    'argv, message',
    [
        (['--intervals', '1,0'], "got '0', expected a whole number of at least 1"),
        (['--intervals', '1,x'], "got 'x', expected a whole number of at least 1"),
        (['--methods', 'dff,sff'], "unknown method 'sff'; known are dff, dff-plain, copy, dis, clockwork"),
        (['--frames', '5-4'], 'frames 5-4: frames count from 1, and the first comes first'),
        (['--frames', '0-4'], "got '0', expected a whole number of at least 1"),
        (['--frames', '4'], "got '', expected a whole number of at least 1"),
    ],
)
def test_bad_flags_are_named(argv, message, capsys):
    with pytest.raises(SystemExit) as exit_info:
        run('--data', 'street', *argv)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
