"""The whole model: feature net, flow net and heads, built from a ModelSpec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dff_ros.errors import ConfigError, DataError
from dff_ros.model_spec import HAND_MADE_FLOWS, ModelSpec
from dff_ros.nets.flownet import FLOW_NETS, make_flow_net
from dff_ros.nets.normalise import NormalisingModel
from dff_ros.nets.resnet import fold_batch_norm, make_feature_net
from dff_ros.nets.segmentation import SegmentationHead
from dff_ros.nets.warp import propagate


class DffModel(NormalisingModel):
    """N_feat, F and N_task of the paper.

    `feature_net`: normalised images (B, 3, H, W) -> feature (B, channels, h, w), h = ceil(H / stride).
    `flow_net`: (current, key) normalised images -> flow in cells, scale map; None for hand-made flow.
    `heads['segmentation']`: feature -> class scores at the feature grid.
    `feature_options` go to the feature net (`frozen_stages`, `freeze_batch_norm`, `batch_norm`...).
    """

    def __init__(self, spec: ModelSpec, **feature_options: object) -> None:
        super().__init__(spec)
        self.feature_net = make_feature_net(
            spec.feature_net, spec.channels, last_stage=spec.last_stage, **feature_options
        )
        is_hand_made = spec.flow_source in HAND_MADE_FLOWS
        self.flow_net = None if is_hand_made else make_flow_net(spec.flow_source, spec.channels)
        self.heads = nn.ModuleDict({SegmentationHead.task: SegmentationHead(spec.channels, spec.num_classes)})
        self.stride = self.feature_net.stride

    def forward(self, image: Tensor) -> Tensor:
        """Per-frame inference: normalised images (B, 3, H, W) -> class scores (B, K, h, w) at the feature
        grid.
        """
        scores: Tensor = self.heads['segmentation'](self.feature_net(image))
        return scores

    def propagate(self, current: Tensor, key: Tensor, key_feature: Tensor) -> Tensor:
        """Equation (3) with the model's own flow net; images normalised. ConfigError on hand-made flow."""
        if self.flow_net is None:
            raise ConfigError(
                f'flow_source {self.spec.flow_source!r} is no network; known are {", ".join(FLOW_NETS)}'
            )
        flow, scale_map = self.flow_net(current, key)
        return propagate(key_feature, flow, scale_map)

    def folded(self) -> DffModel:
        """A copy for inference: batch norm folded into the convs, as `DffModel(spec, batch_norm=False)` has
        them.
        """
        folded = fold_batch_norm(self)
        if not isinstance(folded, DffModel):
            raise TypeError(f'folding gave a {type(folded).__name__}')
        return folded


def load_model(spec: ModelSpec, weights: Path) -> DffModel:
    """The model of a training run or bundle, for inference: their weights have batch norm folded in.

    Raises DataError as `load_weights`.
    """
    model = DffModel(spec, batch_norm=False)
    load_weights(model, weights)
    return model.eval().requires_grad_(False)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a .safetensors state dict strictly; half precision is widened.

    Raises DataError naming the file, and the first key that is missing, unknown or of another shape.
    """
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise DataError(f'weights {path} do not exist') from None
    except (OSError, SafetensorError) as error:
        raise DataError(f'weights {path} cannot be read as safetensors: {error}') from error
    state = model.state_dict()
    for key, value in state.items():
        if key not in tensors:
            raise DataError(f'weights {path} lack {key}: they are of another model')
        if tensors[key].shape != value.shape:
            raise DataError(
                f'weights {path}: {key} is {tuple(tensors[key].shape)}, the model takes {tuple(value.shape)}'
            )
    unknown = sorted(set(tensors) - set(state))
    if unknown:
        raise DataError(f'weights {path}: the model has no place for {unknown[0]}')
    model.load_state_dict({key: tensors[key].to(value.dtype) for key, value in state.items()})


def read_spec(path: Path) -> tuple[ModelSpec, dict[str, object]]:
    """Spec and further facts of a training run's `model.json`; DataError naming the file where it is
    unusable.
    """
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise DataError(f'cannot read {path}: {error.strerror}') from error
    except ValueError as error:
        raise DataError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(values, Mapping):
        raise DataError(f'{path} must hold an object, not a {type(values).__name__}')
    facts = dict(values)
    training = facts.pop('training', {})
    if not isinstance(training, Mapping):
        raise DataError(f'{path}: training must be an object, not a {type(training).__name__}')
    try:
        return ModelSpec.from_dict(facts), dict(training)
    except ConfigError as error:
        raise DataError(f'{path}: {error}') from error
