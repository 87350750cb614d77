# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The newest item per camera between a callback that may only store and a thread that takes its time."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ItemT = TypeVar('ItemT')

SUPERSEDED = 'superseded'
"""Drop reason of an item that a newer one of its camera replaced before it was taken."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the items so far: `received == processed + sum(dropped.values()) + pending`."""

    received: int
    processed: int
    dropped: Mapping[str, int]
    pending: int

    @property
    def num_dropped(self) -> int:
        """Drops of all reasons."""
        return sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class Taken(Generic[ItemT]):
    """An item and the camera it was put in for."""

    camera: str
    item: ItemT


@dataclass(slots=True)
class _Account:
    """What became of the items of one camera; `num_taken` are those in hand, `turn` is when one was taken
    last, as a number that grows with each; 0 before the first.
    """

    received: int = 0
    processed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    num_taken: int = 0
    turn: int = 0


class Mailbox(Generic[ItemT]):
    """One slot per camera: a newer item replaces an older one; served first is whose turn was longest ago.

    Of those that had none, it is who came first. However many items one camera puts in, each that waits is
    served before it is served again. By the age of the items instead, cameras that are triggered together
    and overload the node would be served by the order of their names: each time all have been answered, the
    first begins anew. Every item is accounted for: it ends as processed (`done`) or as a drop with a reason.
    Thread-safe.
    """

    def __init__(self) -> None:
        self._slots: dict[str, ItemT] = {}
        self._num_turns = 0
        self._changed = threading.Condition()
        self._accounts: defaultdict[str, _Account] = defaultdict(_Account)
        self._is_closed = False
        self._refusal = ''

    def put(self, item: ItemT, camera: str = '') -> None:
        """Store the newest item of a camera; an older one still waiting is dropped. Never blocks for long."""
        with self._changed:
            account = self._accounts[camera]
            account.received += 1
            if self._is_closed or self._refusal:
                account.dropped['closed' if self._is_closed else self._refusal] += 1
                return
            if camera in self._slots:
                account.dropped[SUPERSEDED] += 1
            self._slots[camera] = item
            self._changed.notify_all()

    def take(self) -> Taken[ItemT] | None:
        """Wait for an item and take it; None once the mailbox is closed. Settle each by `done` or `drop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._slots or self._is_closed)
            if self._is_closed:
                return None
            camera = min(self._slots, key=lambda name: self._accounts[name].turn)
            account = self._accounts[camera]
            account.num_taken += 1
            account.turn = self._num_turns = self._num_turns + 1
            return Taken(camera, self._slots.pop(camera))

    def done(self, camera: str = '') -> Counts:
        """Count the item taken from a camera as processed; its counts right after."""
        with self._changed:
            self._accounts[camera].processed += 1
            return self._settle(camera)

    def drop(self, reason: str, camera: str = '') -> Counts:
        """Count the item taken from a camera as dropped; its counts right after."""
        with self._changed:
            self._accounts[camera].dropped[reason] += 1
            return self._settle(camera)

    def _settle(self, camera: str) -> Counts:
        self._accounts[camera].num_taken -= 1
        self._changed.notify_all()
        return self._counts([camera])

    @property
    def is_item_in_hand(self) -> bool:
        """Whether an item was taken and not settled yet."""
        with self._changed:
            return self._num_taken() > 0

    def clear(self, reason: str) -> None:
        """Drop what is waiting, and wait until the item being worked on is answered."""
        with self._changed:
            self._drop_waiting(reason)
            self._changed.wait_for(lambda: self._num_taken() == 0)

    def refuse(self, reason: str) -> None:
        """Drop what is waiting and what comes from now on, until `accept`; the item in hand is finished."""
        with self._changed:
            self._refusal = reason
            self._drop_waiting(reason)

    def accept(self) -> None:
        """Take items again."""
        with self._changed:
            self._refusal = ''

    def close(self) -> None:
        """Wake the taker with None; what is waiting or still comes is dropped as `closed`."""
        with self._changed:
            self._is_closed = True
            self._drop_waiting('closed')
            self._changed.notify_all()

    def counts(self, camera: str | None = None) -> Counts:
        """The counts now, of one camera, or over all."""
        with self._changed:
            return self._counts(list(self._accounts) if camera is None else [camera])

    def _drop_waiting(self, reason: str) -> None:
        for camera in self._slots:
            self._accounts[camera].dropped[reason] += 1
        self._slots.clear()

    def _num_taken(self) -> int:
        return sum(account.num_taken for account in self._accounts.values())

    def _counts(self, cameras: Sequence[str]) -> Counts:
        accounts = [self._accounts[camera] for camera in cameras]
        dropped = sum((account.dropped for account in accounts), Counter())
        num_waiting = sum(camera in self._slots for camera in cameras)
        return Counts(
            received=sum(account.received for account in accounts),
            processed=sum(account.processed for account in accounts),
            dropped=dict(sorted(dropped.items())),
            pending=num_waiting + sum(account.num_taken for account in accounts),
        )
