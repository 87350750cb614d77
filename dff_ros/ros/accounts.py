# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What became of every image, from the counts that camera, node and monitor each keep themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dff_ros.errors import DffError

_DROPPED = 'dropped.'


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """`published` as the camera counts; `received`, `answered`, `node_drops` and `pending` as the node does;
    `seen` are the answers that reached the monitor.
    """

    published: int
    received: int
    answered: int
    node_drops: Mapping[str, int]
    pending: int
    seen: int

    def drops(self) -> dict[str, int]:
        """Every published image that was not seen answered, by reason; those of 0 are left out.

        `transport`: the node never received the image; `pending`: it had not finished it at the end;
        `answer_transport`: it answered, but label map or status did not reach the monitor. DffError with the
        counts where they contradict each other: the sum of seen and dropped is then not the published.
        """
        derived = {
            'transport': self.published - self.received,
            'pending': self.pending,
            'answer_transport': self.answered - self.seen,
        }
        drops = {**self.node_drops, **derived}
        is_balanced = self.received == self.answered + sum(self.node_drops.values()) + self.pending
        if not is_balanced or min(drops.values()) < 0:
            raise DffError(
                f'the counts contradict each other: the camera published {self.published} images; the node '
                f'received {self.received}, answered {self.answered}, dropped {dict(self.node_drops)}, has '
                f'{self.pending} pending; the monitor saw {self.seen} answers. Is something else publishing '
                f"on the demo's topics?"
            )
        return {reason: number for reason, number in drops.items() if number}


def node_drops(totals: Mapping[str, str]) -> dict[str, int]:
    """The node's own drops by reason, of the values of a `dff/status`."""
    return {
        name.removeprefix(_DROPPED): int(number)
        for name, number in totals.items()
        if name.startswith(_DROPPED)
    }
