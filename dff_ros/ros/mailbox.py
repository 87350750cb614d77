"""The newest item per camera between a callback that may only store and a thread that takes its time."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
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


class Mailbox(Generic[ItemT]):
    """One slot per camera: a newer item replaces an older one; who has waited longest is served first.

    Every item put in is accounted for: it ends as processed (`done`) or as a drop with a reason. Thread-safe.
    """

    def __init__(self) -> None:
        self._slots: OrderedDict[str, ItemT] = OrderedDict()
        self._changed = threading.Condition()
        self._received = 0
        self._processed = 0
        self._dropped: Counter[str] = Counter()
        self._num_taken = 0
        self._is_closed = False

    def put(self, item: ItemT, camera: str = '') -> None:
        """Store the newest item of a camera; an older one still waiting is dropped. Never blocks for long."""
        with self._changed:
            self._received += 1
            if self._is_closed:
                self._dropped['closed'] += 1
                return
            if camera in self._slots:
                self._dropped[SUPERSEDED] += 1
            self._slots[camera] = item  # keeps the camera's place in the queue
            self._changed.notify_all()

    def take(self) -> ItemT | None:
        """Wait for an item and take it; None once the mailbox is closed. Settle each by `done` or `drop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._slots or self._is_closed)
            if self._is_closed:
                return None
            _, item = self._slots.popitem(last=False)
            self._num_taken += 1
            return item

    def done(self) -> Counts:
        """Count the item taken as processed; the counts right after."""
        with self._changed:
            self._processed += 1
            return self._settle()

    def drop(self, reason: str) -> Counts:
        """Count the item taken as dropped; the counts right after."""
        with self._changed:
            self._dropped[reason] += 1
            return self._settle()

    def _settle(self) -> Counts:
        self._num_taken -= 1
        self._changed.notify_all()
        return self._counts()

    @property
    def is_item_in_hand(self) -> bool:
        """Whether an item was taken and not settled yet."""
        with self._changed:
            return self._num_taken > 0

    def clear(self, reason: str) -> None:
        """Drop what is waiting, and wait until the item being worked on is answered."""
        with self._changed:
            self._dropped[reason] += len(self._slots)
            self._slots.clear()
            self._changed.wait_for(lambda: self._num_taken == 0)

    def close(self) -> None:
        """Wake the taker with None; what is waiting or still comes is dropped as `closed`."""
        with self._changed:
            self._is_closed = True
            self._dropped['closed'] += len(self._slots)
            self._slots.clear()
            self._changed.notify_all()

    def counts(self) -> Counts:
        """The counts now."""
        with self._changed:
            return self._counts()

    def _counts(self) -> Counts:
        dropped = {reason: number for reason, number in sorted(self._dropped.items()) if number}
        return Counts(self._received, self._processed, dropped, len(self._slots) + self._num_taken)
