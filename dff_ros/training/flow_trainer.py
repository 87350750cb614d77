"""Flow pre-training: the model of a run and its loss."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dff_ros.data.classes import CAMVID_CLASSES, CAMVID_COLOURS
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.flownet import make_flow_net
from dff_ros.nets.normalise import NormalisingModel
from dff_ros.nets.weights import START_WEIGHTS
from dff_ros.training.flow_batches import FlowBatch
from dff_ros.training.flow_config import FlowTrainConfig
from dff_ros.training.flow_loss import multi_scale_loss
from dff_ros.training.learner import Learner, parameter_groups


class FlowModel(NormalisingModel):
    """The flow net of a `DffModel` of that spec, and nothing else: keys `flow_net.*`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.flow_net = make_flow_net(spec.flow_source, spec.channels)

    def prepare(self, image_BHW3: Tensor) -> Tensor:
        """uint8 RGB (B, H, W, 3) -> what the flow net takes (B, 3, H, W)."""
        return self.normalise(image_BHW3.permute(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def flow(self, current_HW3: NDArray[np.uint8], key_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Backward flow (2, h, w) in cells of two images."""
        device = next(self.parameters()).device
        pair = (self.prepare(torch.from_numpy(image).to(device)[None]) for image in (current_HW3, key_HW3))
        flow: NDArray[np.float32] = self.flow_net(*pair)[0][0].float().cpu().numpy()
        return flow


def flow_spec(config: FlowTrainConfig) -> ModelSpec:
    """The model that the flow net is for."""
    spec = ModelSpec(
        class_names=CAMVID_CLASSES,
        class_colours=tuple((int(r), int(g), int(b)) for r, g, b in CAMVID_COLOURS),
        feature_net=config.feature_net,
        channels=config.channels,
        flow_source=config.flow_net,
        nominal_size=config.size,
    )
    known = START_WEIGHTS.get(config.feature_net)
    return dataclasses.replace(spec, mean=known.mean, std=known.std) if known else spec


class FlowTrainer(Learner[FlowTrainConfig, FlowModel, FlowBatch]):
    """Learns flow; the scale map stays 1, as the loss does not reach it."""

    def __init__(self, config: FlowTrainConfig) -> None:
        torch.manual_seed(config.seed)
        model = FlowModel(flow_spec(config))
        super().__init__(config, model, parameter_groups(model, set(), 1.0, config.weight_decay))

    def loss(self, batch: FlowBatch) -> Tensor:
        """The multi-scale end-point error."""
        images = (self.model.prepare(self.to_device(part)) for part in (batch.current_BHW3, batch.key_BHW3))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            raw_flows = self.model.flow_net.pyramid(*images).raw_flows
        return multi_scale_loss(
            raw_flows, self.to_device(batch.flow_B2HW), self.to_device(batch.is_valid_BHW)
        )

    def trained_model(self) -> FlowModel:
        """A copy for inference with the averaged weights."""
        model = FlowModel(self.model.spec)
        model.load_state_dict(self.ema)
        return model.to(self.device).eval().requires_grad_(False)
