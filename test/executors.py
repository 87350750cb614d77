"""Executors without a thread of their own: the test says when a background job runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future


class ManualExecutor(Executor):
    """Runs what was submitted in `run_next`; `is_instant`: at once. `log` tells of shutdowns."""

    def __init__(self, *, is_instant: bool = True) -> None:
        self.is_instant = is_instant
        self.log: list[str] = []
        self._waiting: list[tuple[Future, Callable[[], object]]] = []

    def submit(self, fn: Callable, /, *args: object, **kwargs: object) -> Future:
        future: Future = Future()
        self._waiting.append((future, lambda: fn(*args, **kwargs)))
        if self.is_instant:
            self.run_next()
        return future

    def run_next(self) -> bool:
        """Run the oldest job that nobody has cancelled; whether there was one."""
        while self._waiting:
            future, job = self._waiting.pop(0)
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job())
                except BaseException as error:
                    future.set_exception(error)
                return True
        return False

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.log.append(f'shutdown wait={wait} cancel={cancel_futures}')
