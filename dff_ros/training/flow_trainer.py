# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Flow pre-training: the model of a run and its loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dff_ros.data.classes import class_colours
from dff_ros.errors import ConfigError
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.correlation import CorrelationFlow
from dff_ros.nets.flownet import FlowNet
from dff_ros.nets.looking import LookingModel, split
from dff_ros.nets.weights import load_start_weights, with_published_convention
from dff_ros.training.flow_config import FlowTrainConfig
from dff_ros.training.flow_loss import multi_scale_loss
from dff_ros.training.learner import Learner, parameter_groups
from dff_ros.training.pair_batch import PairBatch


class FlowModel(LookingModel):
    """Light net and flow net of a `DffModel` of that spec, and nothing else: keys `light_net.*`,
    `flow_net.*`.
    """

    flow_net: FlowNet | CorrelationFlow

    def prepare(self, image_BHW3: Tensor) -> Tensor:
        """uint8 RGB (B, H, W, 3) -> what the nets take (B, 3, H, W)."""
        return self.normalise(image_BHW3.permute(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def flow(self, current_HW3: NDArray[np.uint8], key_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Backward flow (2, h, w) in cells of two images."""
        device = next(self.parameters()).device
        pair = torch.from_numpy(np.stack((current_HW3, key_HW3))).to(device)
        flow, _ = self.estimate_flow(*split(self.look(self.prepare(pair)), 1))
        cells: NDArray[np.float32] = flow[0].float().cpu().numpy()
        return cells


_NO_CLASSES = ('any', 'other')


def flow_spec(config: FlowTrainConfig) -> ModelSpec:
    """The model that the flow net is for; flow knows no classes, and serves models of any."""
    spec = ModelSpec(
        class_names=_NO_CLASSES,
        class_colours=class_colours(_NO_CLASSES),
        feature_net=config.feature_net,
        channels=config.channels,
        flow_source=config.flow_net,
        fine_flow=config.fine_flow,
        light_channels=config.light_channels if config.flow_net == 'correlation' else 0,
        nominal_size=config.size,
    )
    return with_published_convention(spec)


class FlowTrainer(Learner[FlowTrainConfig, FlowModel, PairBatch]):
    """Learns flow; the scale map stays 1, as the loss does not reach it."""

    def __init__(self, config: FlowTrainConfig) -> None:
        torch.manual_seed(config.seed)
        model = FlowModel(flow_spec(config))
        started = _start_light_net(model, config)
        groups = parameter_groups(model, started, config.light_lr, config.weight_decay)
        super().__init__(config, model, groups)

    def loss(self, batch: PairBatch) -> Tensor:
        """The multi-scale end-point error."""
        pairs = np.concatenate((batch.current_BHW3, batch.key_BHW3))
        images = self.model.prepare(self.to_device(pairs))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            looks = split(self.model.look(images), len(batch.current_BHW3))
            raw_flows = self.model.flow_pyramid(*looks).raw_flows
        return multi_scale_loss(
            raw_flows,
            self.model.flow_net.scales,
            self.to_device(batch.flow_B2HW),
            self.to_device(batch.is_visible_BHW),
        )

    def trained_model(self) -> FlowModel:
        """A copy for inference with the averaged weights."""
        model = FlowModel(self.model.spec)
        model.load_state_dict(self.ema)
        return model.to(self.device).eval().requires_grad_(False)


def _start_light_net(model: FlowModel, config: FlowTrainConfig) -> set[str]:
    """Load its start weights, if there are any; returns the names of the parameters that have some."""
    if not config.light_init:
        return set()
    if model.light_net is None:
        raise ConfigError(
            f'light_init: {config.flow_net} has no light net; leave it out, or take correlation'
        )
    left = set(load_start_weights(model.light_net, Path(config.light_init)))
    return {f'light_net.{name}' for name, _ in model.light_net.named_parameters() if name not in left}
