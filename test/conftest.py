# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Fixtures for all tests. Each test process claims a ROS domain of its own before any node is made."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import hypothesis
import pytest

hypothesis.settings.register_profile('dff', deadline=None)  # a machine may be slow
hypothesis.settings.register_profile('fuzz', deadline=None, max_examples=20_000)  # `make fuzz`
hypothesis.settings.load_profile('dff')

LONGEST = (
    'test_soak.py', 'test_light_backends.py', 'test_demo.py', 'test_backends.py', 'test_dff_training.py',
    'test_invariants.py', 'test_clockwork.py', 'test_detect_backends.py', 'test_reliability_process.py',
)  # fmt: skip
# Above 101 the ports of a domain reach into the range that Linux hands out to other programs.
DOMAIN_IDS = range(1, 102)
SHARED_DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'


def claim_domain_id(directory: Path, domain_ids: range = DOMAIN_IDS) -> tuple[int, IO[str]]:
    """Return a domain id that no other test process on this machine uses, and the lock that keeps it."""
    for domain_id in domain_ids:
        path = directory / f'dff_ros_test_domain_{domain_id}.lock'
        try:
            lock = path.open('a')
        except PermissionError:  # held by another user
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return domain_id, lock
    raise RuntimeError(f'every ROS domain in {domain_ids} is in use by a test process')


def pytest_configure(config: pytest.Config) -> None:
    """Give this process, and all that it starts, its own domain on this machine and its own log directory."""
    domain_id, lock = claim_domain_id(Path(tempfile.gettempdir()))
    config.add_cleanup(lock.close)
    os.environ['ROS_DOMAIN_ID'] = str(domain_id)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    logs = tempfile.TemporaryDirectory(prefix='dff_ros_test_log_')
    config.add_cleanup(logs.cleanup)
    os.environ['ROS_LOG_DIR'] = logs.name
    if hasattr(config.option, 'loadscopereorder'):
        config.option.loadscopereorder = False  # pytest-xdist: begin with LONGEST, not with many tests
    # Several workers, which inherit this, share the cores; a process alone takes two, as a small machine has.
    is_one_of_many = _is_worker() or getattr(config.option, 'numprocesses', None)
    os.environ.setdefault('OMP_NUM_THREADS', '1' if is_one_of_many else '2')
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')  # threads that spin take the cores from each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: one that begins when the others end would add all its time."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def _is_worker() -> bool:
    return 'PYTEST_XDIST_WORKER' in os.environ


def pytest_sessionfinish() -> None:
    """Processes that tests kill leave up to 35 MB of shared memory each."""
    from dff_ros.ros.segments import remove_abandoned

    remove_abandoned()


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """What a backend or a training sets for the whole process must not slow what comes after it."""
    torch, cv2 = (sys.modules.get(name) for name in ('torch', 'cv2'))
    num_torch, num_cv2 = torch and torch.get_num_threads(), cv2 and cv2.getNumThreads()
    yield
    if torch:
        torch.set_num_threads(num_torch)
    if cv2:
        cv2.setNumThreads(num_cv2)


@pytest.fixture(scope='session')
def domain_id() -> int:
    """The ROS domain of this test process; child processes inherit it."""
    return int(os.environ['ROS_DOMAIN_ID'])


@pytest.fixture(scope='session')
def dis_bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Bundle with a small random model whose flow source is DIS. Not to be changed: copy its directory."""
    return _tiny_bundle(tmp_path_factory, 'dis_bundle', 'dis')


@pytest.fixture(scope='session')
def flow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same with a flow net."""
    return _tiny_bundle(tmp_path_factory, 'flow_bundle', 'flownet_half')


@pytest.fixture(scope='session')
def light_bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same with light net, correlation flow net, detail, correction branch and quality net."""
    return _tiny_bundle(tmp_path_factory, 'light_bundle', 'correlation', 'QUALITY')


@pytest.fixture(scope='session')
def detection_bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The first with a detection head too; both heads see light features of the current frame."""
    return _tiny_bundle(tmp_path_factory, 'detection_bundle', 'dis', 'BOTH')


def _tiny_bundle(
    factory: pytest.TempPathFactory, name: str, flow_source: str, changes: str | None = None
) -> Any:
    """Exported once, whichever of the workers comes first; `changes` names those in tiny_models."""
    for package in ('torch', 'onnx', 'onnxruntime', 'cv2'):
        pytest.importorskip(package)
    import tiny_models

    from dff_ros.bundle import MANIFEST, open_bundle

    base = factory.getbasetemp()
    folder = (base.parent if _is_worker() else base) / name
    with folder.with_suffix('.lock').open('a') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / MANIFEST).is_file():
            entries = getattr(tiny_models, changes) if changes else {}
            folder.mkdir(exist_ok=True)
            tiny_models.write_tiny_bundle(folder, flow_source, **entries)
    return open_bundle(folder)


@pytest.fixture
def ros_context(domain_id: int) -> Iterator[Any]:
    """An rclpy context of this test alone, shut down afterwards."""
    rclpy = pytest.importorskip('rclpy')
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain_id)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def graph() -> Iterator[Any]:
    """Nodes and peers over real DDS, closed afterwards."""
    pytest.importorskip('rclpy')
    from ros_helpers import ros_graph

    with ros_graph() as graph:
        yield graph


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The data sets beside the checkout; a test that asks for them is skipped where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip('needs the data sets in ../shared/data')
    return SHARED_DATA
