# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The engine thread: it alone opens, warms up, uses and closes the model."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dff_ros.bundle import open_bundle
from dff_ros.config import DffConfig
from dff_ros.engine import Engine
from dff_ros.model_spec import ModelSpec
from dff_ros.opening import open_engine
from dff_ros.ros.mailbox import Mailbox, Taken
from dff_ros.tasks import plan_tasks

ItemT = TypeVar('ItemT')

INTERNAL_ERROR = 'internal_error'
"""Drop reason of an item whose answer raised before it settled the item."""


@dataclass(frozen=True, slots=True)
class Model:
    """An engine and what its class ids mean."""

    name: str
    engine: Engine[Any, Any]
    spec: ModelSpec


def open_model(config: DffConfig) -> Model:
    """The model a config asks for; BundleError, BackendUnavailableError or ConfigError say what is wrong."""
    bundle = open_bundle(config.bundle)
    return Model(config.bundle, open_engine(bundle, config), bundle.spec)


def in_words(model: Model, config: DffConfig) -> str:
    """What runs where and when, for the log."""
    info, worker = model.engine.backend.info, model.engine.worker
    refresh = 'inline' if worker is None else f'by a worker on {worker.info.num_threads} threads of its own'
    return (
        f'bundle {model.name}, {info.name} ({info.runtime}) on {info.device}, '
        f'{info.num_threads} threads: {info.choice}; flow {model.spec.flow_in_use(config.flow)}; '
        f'key frame {config.keyframe.in_words}, {refresh}; '
        f'tasks {", ".join(plan_tasks(config, model.spec).tasks)}'
    )


class EngineWorker(Generic[ItemT]):
    """Runs `answer(model, taken)` for each item taken from a mailbox, on one thread.

    `answer` settles the item in the mailbox (`done` or `drop`). Where it raises, or returns without, the item
    is dropped as INTERNAL_ERROR and `on_error` is told; whatever either raises, the thread goes on.
    """

    def __init__(
        self,
        mailbox: Mailbox[ItemT],
        open_model: Callable[[], Model],
        answer: Callable[[Model, Taken[ItemT]], None],
        on_error: Callable[[Taken[ItemT], BaseException], None],
    ) -> None:
        self._mailbox = mailbox
        self._open_model = open_model
        self._answer = answer
        self._on_error = on_error
        self._is_ready = threading.Event()
        self._model: Model | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name='engine', daemon=True)

    def start(self) -> Model:
        """Open and warm up the model on the thread; blocks until it is ready, raises what that raised."""
        self._thread.start()
        self._is_ready.wait()
        if self._model is None:
            self._thread.join()
            failure, self._failure = self._failure, None
            if isinstance(failure, Exception):
                raise failure
            raise RuntimeError(f'the engine thread was ended by {failure!r}') from failure
        return self._model

    def stop(self) -> BaseException | None:
        """Finish the item in hand, close the model and end the thread; what waits is dropped as `closed`.

        What closing the model raised, or None.
        """
        self._mailbox.close()
        if self._thread.ident is not None:
            self._thread.join()
        return self._failure

    def _run(self) -> None:
        try:
            model = self._open_model()
            try:
                model.engine.warm_up(model.spec.nominal_size)
                self._model = model
                self._is_ready.set()
                self._serve(model)
            finally:
                model.engine.close()
        except BaseException as error:  # for start or stop, on the thread that waits there
            self._failure = error
        finally:
            self._mailbox.close()
            self._is_ready.set()

    def _serve(self, model: Model) -> None:
        while (taken := self._mailbox.take()) is not None:
            failure: BaseException | None = None
            try:
                self._answer(model, taken)
            except BaseException as error:  # one item is lost, not the node
                failure = error
            if self._mailbox.is_item_in_hand:  # else Mailbox.clear would wait for it for ever
                self._mailbox.drop(INTERNAL_ERROR, taken.camera)
                failure = failure or RuntimeError('the answer neither finished nor dropped the item')
            if failure is not None:
                self._tell(taken, failure)

    def _tell(self, taken: Taken[ItemT], failure: BaseException) -> None:
        try:
            self._on_error(taken, failure)
        except BaseException:
            traceback.print_exc()
