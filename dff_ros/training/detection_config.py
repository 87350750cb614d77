# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The settings of a detection head that is trained; what the model keeps of them is in its ModelSpec."""

from __future__ import annotations

from dataclasses import dataclass

from dff_ros.config import Validated, param
from dff_ros.errors import ConfigError
from dff_ros.model_spec import BOX_POOLINGS


@dataclass(frozen=True, kw_only=True)
class DetectionHeadConfig(Validated):
    """Size of the head, anchors and proposals; defaults for images of about 480x360.

    The paper's, for images of 600 px and more: channels 0, scales 8,16,32, ratios 0.5,1,2, bins 7, pooling
    cells, 6000 proposals before suppression and 300 after it.
    """

    channels: int = param(
        128,
        'Width of the layers before the head, which see the light features of the current frame too; even; '
        '0: none, the head of the paper',
        minimum=0,
        maximum=8192,
    )
    scales: str = param('1,2,4,8', 'Sizes of the anchors in units of 16 px, separated by commas')
    ratios: str = param('0.5,1,2.5', 'Height over width of the anchors, separated by commas')
    bins: int = param(5, 'Parts of a box along each side that have maps of their own', minimum=1, maximum=15)
    pooling: str = param(
        'smooth',
        'What a part of a box is the mean of: the whole cells that it touches, or the interpolation between '
        'cell centres over the part itself',
        choices=BOX_POOLINGS,
    )
    proposals_before_nms: int = param(
        300, 'Anchors that are looked at further, the best ones', minimum=1, maximum=100_000
    )
    num_proposals: int = param(64, 'Most proposals left after suppression', minimum=1, maximum=10_000)
    max_boxes: int = param(100, 'Most boxes of an image', minimum=1, maximum=10_000)

    def spec_entries(self) -> dict[str, object]:
        """The entries of a ModelSpec; ConfigError for scales or ratios that are no numbers."""
        return {
            'detection_channels': self.channels,
            'anchor_scales': self._numbers('scales'),
            'anchor_ratios': self._numbers('ratios'),
            'box_bins': self.bins,
            'box_pooling': self.pooling,
            'proposals_before_nms': self.proposals_before_nms,
            'num_proposals': self.num_proposals,
            'max_boxes': self.max_boxes,
        }

    def _numbers(self, name: str) -> tuple[float, ...]:
        text: str = getattr(self, name)
        try:
            return tuple(float(part) for part in text.split(',') if part.strip())
        except ValueError:
            raise ConfigError(
                f'detection.{name}: got {text!r}, expected numbers separated by commas'
            ) from None
