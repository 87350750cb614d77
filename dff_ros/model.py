# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A model that is ready to answer images: its engine, and what its class ids mean."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from dff_ros.bundle import MANIFEST, open_bundle
from dff_ros.config import DffConfig
from dff_ros.engine import Engine
from dff_ros.model_spec import ModelSpec
from dff_ros.opening import open_engine
from dff_ros.tasks import plan_tasks


@dataclass(frozen=True, slots=True)
class Model:
    """An engine and what its class ids mean. `identity` tells the bundle from another one of its name."""

    name: str
    engine: Engine[Any, Any]
    spec: ModelSpec
    identity: str = ''


def open_model(config: DffConfig) -> Model:
    """The model a config asks for; BundleError, BackendUnavailableError or ConfigError say what is wrong."""
    bundle = open_bundle(config.bundle)
    identity = hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()  # it has those of the files
    return Model(config.bundle, open_engine(bundle, config), bundle.spec, identity)


def in_words(model: Model, config: DffConfig) -> str:
    """What runs where and when, for the log."""
    info, worker = model.engine.backend.info, model.engine.worker
    refresh = 'inline' if worker is None else f'by a worker on {worker.info.num_threads} threads of its own'
    return (
        f'bundle {model.name}, {info.name} ({info.runtime}) on {info.device}, {info.precision}, '
        f'{info.num_threads} threads: {info.choice}; flow {model.spec.flow_in_use(config.flow)}; '
        f'key frame {config.keyframe.in_words}, {refresh}; '
        f'tasks {", ".join(plan_tasks(config, model.spec).tasks)}'
        + (f'; FALLBACK to the CPU: {info.fallback}' if info.fallback else '')
    )
