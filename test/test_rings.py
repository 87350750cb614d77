# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The import rule: a module imports only inner rings; the other runtimes are blocked while it is checked."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / 'dff_ros'

RUNTIMES = {'torch', 'onnxruntime', 'onnx', 'rclpy', 'cv2', 'av', 'matplotlib', 'pycocotools', 'triton'}
ALLOWED = {  # the runtimes that a module, or all modules of a package, may import; the rest is ring 0: none
    'backends.cuda': {'torch'},
    'backends.cuda.kernels': {'torch', 'triton'},
    'backends.clockwork': {'torch', 'cv2'},
    'backends.dis': {'cv2'},
    'backends.onnx': {'onnxruntime', 'cv2'},
    'backends.onnx_device': {'onnxruntime', 'onnx'},
    'backends.onnx_editing': {'onnx'},
    'backends.onnx_providers': {'onnxruntime'},
    'backends.onnx_sessions': {'onnxruntime', 'onnx'},
    'backends.torch': {'torch', 'cv2'},
    'benchmark': {'cv2', 'av'},
    'compressed': {'cv2'},
    'confidence_pass': {'cv2', 'av'},
    'contenders': {'cv2', 'av'},
    'data': {'cv2'},
    'draw': {'cv2'},
    'engine_building': {'onnxruntime', 'onnx', 'cv2'},
    'eval_detection': {'cv2', 'av'},
    'eval_segmentation': {'cv2', 'av'},
    'eval_task': {'cv2', 'av'},
    'evaluator': {'cv2', 'av'},
    'export': {'torch', 'onnx', 'onnxruntime', 'cv2'},
    'int8_graphs': {'onnx'},
    'label_motion': {'cv2'},
    'made_sources': {'cv2', 'av'},
    'nets': {'torch'},
    'onnx_graphs': {'torch', 'onnx'},
    'onnx_operators': {'torch', 'onnx'},
    'opencv_layouts': {'cv2'},
    'overlay': {'cv2'},
    'quantisation': {'onnx', 'onnxruntime', 'cv2'},
    'recorder': {'cv2', 'av'},
    'ros': {'rclpy', 'cv2', 'av'},
    'runner': {'cv2', 'av'},
    'scheduler_evaluator': {'cv2', 'av'},
    'scoring': {'cv2'},
    'source_pass': {'cv2', 'av'},
    'sources': {'cv2', 'av'},
    'training': {'torch', 'cv2'},
    'verification': {'cv2'},
    'video': {'av'},
    'video_set_source': {'cv2', 'av'},
}

SCRIPT = """
import importlib, sys, traceback

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked!r}:
            raise ImportError(f'{{name}} is not allowed in this ring')

sys.meta_path.insert(0, Block())
for module in {modules!r}:
    try:
        importlib.import_module(module)
    except ImportError:
        sys.exit(f'{{module}}: {{traceback.format_exc()}}')
"""


def modules() -> list[str]:
    """Dotted names below the package."""
    names = (path.relative_to(PACKAGE).with_suffix('').parts for path in PACKAGE.rglob('*.py'))
    return sorted('.'.join(parts[:-1] if parts[-1] == '__init__' else parts) for parts in names)


def allowed_runtimes(name: str) -> frozenset[str]:
    """Those of the module's own entry, else of the nearest package with one."""
    parts = name.split('.')
    prefixes = ('.'.join(parts[:end]) for end in range(len(parts), 0, -1))
    return frozenset(next((ALLOWED[prefix] for prefix in prefixes if prefix in ALLOWED), ()))


def rings() -> dict[frozenset[str], list[str]]:
    """Modules by what they may import; one process imports each group."""
    groups: dict[frozenset[str], list[str]] = defaultdict(list)
    for name in modules():
        groups[allowed_runtimes(name)].append(f'dff_ros.{name}' if name else 'dff_ros')
    return groups


@pytest.mark.parametrize('allowed', rings(), ids=lambda allowed: '+'.join(sorted(allowed)) or 'none')
def test_modules_import_with_the_other_runtimes_blocked(allowed):
    for runtime in allowed:
        pytest.importorskip(runtime)
    script = SCRIPT.format(blocked=RUNTIMES - allowed, modules=rings()[allowed])
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr[-1500:]


RING_0 = (
    'types',
    'camera_info',
    'frame_facts',
    'encodings',
    'image_files',
    'image_layouts',
    'image_limits',
    'yuv',
    'demosaic',
    'serialized_image',
    'closing',
    'errors',
    'output_files',
    'confidence',
    'config',
    'keyframe_config',
    'diagnostics_config',
    'settings',
    'tasks',
    'model_spec',
    'geometry',
    'scheduling',
    'rules',
    'budget',
    'schedulers',
    'thumbnails',
    'phases',
    'cache',
    'refresh',
    'deadline',
    'heads',
    'engine',
    'stream',
    'opening',
    'bundle',
    'bundle_files',
    'share',
    'timing',
    'cameras',
    'health',
    'mailbox',
    'memory',
    'model',
    'stamps',
    'engine_cache',
)
RING_0 += ('backends', 'evaluation', '')
RING_0 += tuple(
    f'backends.{name}'
    for name in (
        'base',
        'choice',
        'cpu_facts',
        'flow',
        'gpu_facts',
        'finishing',
        'graph',
        'handles',
        'photometric',
        'runner',
    )
    + ('size_inputs', 'use')
)
RING_1 = ('backends', 'nets', 'data', 'training', 'export', 'onnx_graphs', 'onnx_operators', 'verification')
RING_1 += ('engine_building', 'label_motion', 'compressed', 'messages', 'pipeline', 'bundle_folder')
RING_1 += ('activation_ranges', 'int8_graphs', 'quantisation', 'opencv_layouts')
"""Modules (and packages with all they hold) of the inner rings; every other one is in ring 2."""


def ring(name: str) -> int:
    """Number of the ring of a module below the package."""
    if name in RING_0 or name.startswith('evaluation.'):
        return 0
    return 1 if name in RING_1 or name.startswith(tuple(f'{package}.' for package in RING_1)) else 2


def imported(name: str) -> set[str]:
    """Modules below the package that a module imports when it is imported itself, not inside functions."""
    path = PACKAGE.joinpath(*name.split('.')) if name else PACKAGE
    path = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
    known, found = set(modules()), set()
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import x` imports a module x where there is one
            found |= {node.module} | {f'{node.module}.{alias.name}' for alias in node.names}
    inside = {full.removeprefix('dff_ros').removeprefix('.') for full in found if full.startswith('dff_ros')}
    return inside & known


def test_every_module_imports_only_its_own_and_inner_rings():
    outward = {
        (name, other) for name in modules() for other in imported(name) if other and ring(other) > ring(name)
    }
    assert outward == set()
    assert 'dff_ros.engine' in rings()[frozenset()]
    assert imported('stream') >= {'cache', 'scheduling', 'types'}  # the check sees imports at all


def test_node_and_command_line_never_import_each_other():
    def edge(name: str) -> str:
        return name.split('.')[0]

    pairs = {(edge(name), edge(other)) for name in modules() for other in imported(name)}
    assert ('ros', 'cli') not in pairs
    assert ('ros', 'commands') not in pairs
    assert ('commands', 'ros') not in pairs
    assert ('cli', 'ros') not in pairs
    assert ('ros', 'sources') in pairs
