# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""From a bundle and a config to an engine: backends, the split of the threads, the tasks."""

from __future__ import annotations

from dff_ros.backends.base import available_cores, open_backend
from dff_ros.bundle import Bundle
from dff_ros.confidence import ConfidenceCalibration, ConfidenceRule
from dff_ros.config import DffConfig, replace
from dff_ros.engine import Engine
from dff_ros.refresh import RefreshWorker
from dff_ros.tasks import plan_tasks

_SHARE_OF_REFRESH = 4


def open_engine(bundle: Bundle, config: DffConfig) -> Engine[object, object]:
    """An engine for a bundle as the config asks; close it. Raises the errors of `plan_tasks` and
    `open_backend`.

    With `refresh` worker there are two backends, which share the threads.
    """
    plan = plan_tasks(config, bundle.spec)
    if config.refresh == 'inline':
        backend, worker = open_backend(bundle, config), None
    else:
        own, refresh = split_threads(config.num_threads or available_cores(), config.refresh_threads)
        # The worker first: what a library sets for the whole process (OpenCV) is then set for the other.
        second = replace(config, {'num_threads': refresh})
        worker = RefreshWorker(lambda: open_backend(bundle, second, is_background=True))
        try:
            backend = open_backend(bundle, replace(config, {'num_threads': own}))
        except BaseException:
            worker.close()
            raise
    calibration = bundle.confidence or ConfidenceCalibration()
    rule = ConfidenceRule(bundle.spec.nominal_size, bundle.stride, calibration)
    return Engine(backend, config.keyframe, plan, worker=worker, budget_ms=config.budget_ms, rule=rule)


def split_threads(num_threads: int, num_asked: int) -> tuple[int, int]:
    """Threads of the backend that answers frames, and of the one that makes key frames; each has at least
    one. `num_asked` for the second, 0: a quarter.
    """
    refresh = num_asked or max(1, num_threads // _SHARE_OF_REFRESH)
    return max(1, num_threads - refresh), refresh
