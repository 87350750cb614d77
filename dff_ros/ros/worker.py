# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The engine thread: it alone opens, warms up, uses and closes the model."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from dff_ros.mailbox import Mailbox, Taken
from dff_ros.model import Model
from dff_ros.pipeline import INTERNAL_ERROR

ItemT = TypeVar('ItemT')


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
