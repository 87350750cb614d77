"""The import rule: a module imports only inner rings; the other runtimes are blocked while it is checked."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / 'dff_ros'

RUNTIMES = {'torch', 'onnxruntime', 'onnx', 'rclpy', 'cv2', 'av', 'matplotlib'}
ALLOWED = {  # the runtimes that a module, or all modules of a package, may import; the rest is ring 0: none
    'backends.dis': {'cv2'},
    'backends.onnx': {'onnxruntime', 'cv2'},
    'backends.torch': {'torch', 'cv2'},
    'data': {'cv2'},
    'draw': {'cv2'},
    'evaluator': {'cv2', 'av'},
    'export': {'torch', 'onnx', 'onnxruntime', 'cv2'},
    'label_motion': {'cv2'},
    'nets': {'torch'},
    'onnx_graphs': {'torch', 'onnx'},
    'recorder': {'cv2', 'av'},
    'ros': {'rclpy', 'cv2', 'av'},
    'runner': {'cv2', 'av'},
    'scoring': {'cv2'},
    'sources': {'cv2', 'av'},
    'training': {'torch', 'cv2'},
    'video': {'av'},
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


def test_the_engine_is_in_the_innermost_ring():
    innermost = {
        'types',
        'errors',
        'config',
        'model_spec',
        'geometry',
        'scheduling',
        'cache',
        'engine',
        'bundle',
    }
    innermost |= {'backends.base', 'evaluation.metrics', 'evaluation.offsets', 'evaluation.table'}
    assert {f'dff_ros.{name}' for name in innermost} <= set(rings()[frozenset()])


def test_node_and_command_line_never_import_each_other():
    def imported(path: Path) -> set[str]:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding='utf-8'))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        return names | {node.module or '' for node in nodes if isinstance(node, ast.ImportFrom)}

    def breaking(folder: str, forbidden: tuple[str, ...]) -> list[str]:
        paths = [*(PACKAGE / folder).rglob('*.py'), *PACKAGE.glob(f'{folder}.py')]
        assert paths
        return [path.name for path in paths if any(name.startswith(forbidden) for name in imported(path))]

    assert breaking('ros', ('dff_ros.cli', 'dff_ros.commands')) == []
    assert breaking('commands', ('dff_ros.ros',)) == []
    assert breaking('cli', ('dff_ros.ros',)) == []
