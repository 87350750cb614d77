"""The import rule: a module imports only inner rings. Checked by importing each with the rest blocked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / 'dff_ros'

RUNTIMES = {'torch', 'onnxruntime', 'onnx', 'rclpy', 'cv2', 'av', 'matplotlib'}
RING_0 = {'types', 'errors', 'config', 'model_spec', 'geometry', 'scheduling', 'cache', 'engine', 'bundle'}
RING_0_PACKAGES = {'backends.base', 'evaluation'}
ALLOWED = {  # ring 1 and 2: the runtimes that a module or package may import
    'backends.onnx': {'onnxruntime', 'cv2'},
    'backends.torch': {'torch', 'cv2'},
    'backends.dis': {'cv2'},
    'nets': {'torch'},
    'data': {'cv2'},
    'training': {'torch', 'cv2'},
    'export': {'torch', 'onnx', 'onnxruntime', 'cv2'},
    'onnx_graphs': {'torch', 'onnx'},
    'ros': {'rclpy', 'cv2', 'av'},
    'sources': {'cv2', 'av'},
    'video': {'av'},
    'draw': {'cv2'},
    'runner': {'cv2', 'av'},
    'recorder': {'cv2', 'av'},
    'scoring': {'cv2'},
    'cli': set(),
    'commands': set(),  # heavy imports happen inside run()
}

SCRIPT = """
import importlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked!r}:
            raise ImportError(f'{{name}} is not allowed in this ring')

sys.meta_path.insert(0, Block())
importlib.import_module({module!r})
"""


def modules() -> list[str]:
    names = (path.relative_to(PACKAGE).with_suffix('').parts for path in PACKAGE.rglob('*.py'))
    return sorted('.'.join(parts[:-1] if parts[-1] == '__init__' else parts) for parts in names)


def allowed_runtimes(name: str) -> set[str] | None:
    """The runtimes a module may import: its own entry, else that of the nearest package; None if in no ring."""
    if name in RING_0 | RING_0_PACKAGES or name == '':
        return set()
    parts = name.split('.')
    for end in range(len(parts), 0, -1):
        prefix = '.'.join(parts[:end])
        if prefix in ALLOWED:
            return ALLOWED[prefix]
        if prefix in RING_0_PACKAGES:
            return set()
    return set()


@pytest.mark.parametrize('name', modules())
def test_module_imports_with_the_other_runtimes_blocked(name):
    allowed = allowed_runtimes(name) or set()
    if 'rclpy' in allowed:
        pytest.importorskip('rclpy')
    script = SCRIPT.format(blocked=RUNTIMES - allowed, module=f'dff_ros.{name}' if name else 'dff_ros')
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr[-600:]
