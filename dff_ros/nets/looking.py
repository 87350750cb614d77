# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What every frame is looked at with before anything is propagated, and the flow between two looks."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from dff_ros.errors import ConfigError
from dff_ros.model_spec import HAND_MADE_FLOWS, ModelSpec
from dff_ros.nets.correlation import CorrelationFlow
from dff_ros.nets.flownet import FlowNet, FlowPyramid, make_flow_net
from dff_ros.nets.light import LightFeatures, LightNet
from dff_ros.nets.normalise import NormalisingModel


class Look(NamedTuple):
    """What propagation takes of a frame: the normalised image, and its light features if the model has
    them.
    """

    image: Tensor
    light: LightFeatures | None


class LookingModel(NormalisingModel):
    """Base of the models: light net and flow net of a spec, each None where the spec has none."""

    light_net: LightNet | None
    flow_net: FlowNet | CorrelationFlow | None

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.light_net = LightNet(spec.light_channels) if spec.light_channels else None
        self.flow_net = None
        if spec.flow_source == 'correlation' and self.light_net is not None:
            self.flow_net = CorrelationFlow(spec.channels, self.light_net.widths, spec.fine_flow)
        elif spec.flow_source not in HAND_MADE_FLOWS:
            self.flow_net = make_flow_net(spec.flow_source, spec.channels)

    def look(self, image: Tensor) -> Look:
        """The look at normalised images (B, 3, H, W)."""
        return Look(image, None if self.light_net is None else self.light_net(image))

    def estimate_flow(self, current: Look, key: Look) -> tuple[Tensor, Tensor]:
        """Backward flow current -> key (B, 2, h, w) in cells, and scale map (B, channels, h, w).

        Raises ConfigError where the flow source is no network.
        """
        flow_net, here, there = self._flow_inputs(current, key)
        flow, scale_map = flow_net(here, there)
        return flow, scale_map

    def flow_pyramid(self, current: Look, key: Look) -> FlowPyramid:
        """All that the flow net predicts, for a multi-scale loss at its `scales`; ConfigError as above."""
        flow_net, here, there = self._flow_inputs(current, key)
        pyramid: FlowPyramid = flow_net.pyramid(here, there)  # type: ignore[operator]
        return pyramid

    def _flow_inputs(self, current: Look, key: Look) -> tuple[nn.Module, object, object]:
        if self.flow_net is None:
            raise ConfigError(
                f'flow_source {self.spec.flow_source!r} is no network: hand in a flow that was made elsewhere'
            )
        if isinstance(self.flow_net, CorrelationFlow):
            return self.flow_net, current.light, key.light
        return self.flow_net, current.image, key.image


def split(look: Look, size: int) -> tuple[Look, Look]:
    """The looks at the first `size` images of a batch and at the others."""
    light = look.light
    first, rest = (
        Look(look.image[part], None if light is None else LightFeatures(*(x[part] for x in light)))
        for part in (slice(None, size), slice(size, None))
    )
    return first, rest
