# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Which of a model's graphs the settings need."""

from __future__ import annotations

from dataclasses import dataclass

from dff_ros.bundle import task_graph_names
from dff_ros.config import DffConfig
from dff_ros.model_spec import HAND_MADE_FLOWS, PAPER_FLOW_NETS, ModelSpec


@dataclass(frozen=True, slots=True)
class GraphUse:
    """What a setting makes of a model: `flow` is the flow source in use, `is_correcting` says whether the
    correction branch runs.
    """

    spec: ModelSpec
    flow: str
    is_correcting: bool

    @classmethod
    def of(cls, spec: ModelSpec, config: DffConfig) -> GraphUse:
        """What the settings `flow` and `correction` lead to."""
        return cls(spec, spec.flow_in_use(config.flow), config.correction and spec.correction_channels > 0)

    @property
    def is_looking(self) -> bool:
        """Whether the light features of a current frame are needed."""
        return self.is_correcting or bool(self.spec.head_light) or self.is_matching or self.is_judging

    @property
    def is_judging(self) -> bool:
        """Whether a quality net says where propagation is wrong."""
        return self.spec.quality_channels > 0

    @property
    def is_matching(self) -> bool:
        """Whether the graph `propagate` looks at the current frame and compares it with the key frame."""
        return self.flow == 'correlation'

    @property
    def key_light(self) -> tuple[str, ...]:
        """Which light features of the key frame a later frame is compared with."""
        matched = self.spec.matched if self.is_matching else ()
        return matched or (('middle',) if self.is_correcting or self.is_judging else ())

    @property
    def has_key_image(self) -> bool:
        """Whether the flow net reads the key image."""
        return self.flow in PAPER_FLOW_NETS

    @property
    def warp_graph(self) -> str:
        """Name of the graph that takes a flow made elsewhere."""
        return 'propagate' if self.spec.flow_source in HAND_MADE_FLOWS else 'warp'

    @property
    def graphs(self) -> tuple[str, ...]:
        """The graphs that a runner must have."""
        move = {'zero': (), 'dis': (self.warp_graph,)}.get(self.flow, ('propagate',))
        look, correct = ('look',) * self.is_looking, ('correct',) * self.is_correcting
        # Where there is a correction, its graph judges what it made.
        judge = ('quality',) * (self.is_judging and not self.is_correcting)
        return ('extract', *look, *move, *correct, *judge, *task_graph_names(self.spec))
