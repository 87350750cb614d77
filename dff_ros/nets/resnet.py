# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Feature nets (the paper's N_feat): ResNet v1 at output stride 16, dilated stage 5, 3x3 reduction conv.

Stages are numbered as in the paper: stage 1 is `conv1`, stages 2 to 5 are torchvision's `layer1` to `layer4`.
The trunk's state-dict names are torchvision's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dff_ros.errors import ConfigError

PoolPadding = Literal['both', 'end']

_NUM_BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_NEW_LAYER_STD = 0.01


class Block(nn.Module):
    """What both residual blocks share: `num_convs` convs with their norms, and the shortcut."""

    downsample: nn.Sequential | None
    num_convs: int

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x))

    def residual(self, x: Tensor) -> Tensor:
        """The branch of convs: what the block adds."""
        for index in range(1, self.num_convs):
            x = F.relu(getattr(self, f'bn{index}')(getattr(self, f'conv{index}')(x)))
        branch: Tensor = getattr(self, f'bn{self.num_convs}')(getattr(self, f'conv{self.num_convs}')(x))
        return branch

    def shortcut(self, x: Tensor) -> Tensor:
        """What it is added to: the input, projected where its shape differs."""
        return x if self.downsample is None else self.downsample(x)

    def last_conv(self) -> nn.Conv2d:
        """The conv that ends the residual branch."""
        conv: nn.Conv2d = getattr(self, f'conv{self.num_convs}')
        return conv


class _BasicBlock(Block):
    expansion = 1
    num_convs = 2

    def __init__(self, num_in: int, width: int, stride: int, dilation: int, layers: Layers) -> None:
        super().__init__()
        self.conv1 = layers.conv(num_in, width, 3, stride, dilation)
        self.bn1 = layers.norm(width)
        self.conv2 = layers.conv(width, width, 3, 1, dilation)
        self.bn2 = layers.norm(width)
        self.downsample = layers.downsample(num_in, width, stride)


class _Bottleneck(Block):
    expansion = 4
    num_convs = 3

    def __init__(self, num_in: int, width: int, stride: int, dilation: int, layers: Layers) -> None:
        super().__init__()
        first, second = (stride, 1) if layers.stride_in_1x1 else (1, stride)
        self.conv1 = layers.conv(num_in, width, 1, first)
        self.bn1 = layers.norm(width)
        self.conv2 = layers.conv(width, width, 3, second, dilation)
        self.bn2 = layers.norm(width)
        self.conv3 = layers.conv(width, width * self.expansion, 1)
        self.bn3 = layers.norm(width * self.expansion)
        self.downsample = layers.downsample(num_in, width * self.expansion, stride)


class Layers:
    """Makes the layers of one network from its options."""

    def __init__(
        self, batch_norm: bool = False, batch_norm_eps: float = 1e-5, stride_in_1x1: bool = False
    ) -> None:
        self.batch_norm = batch_norm
        self.batch_norm_eps = batch_norm_eps
        self.stride_in_1x1 = stride_in_1x1

    def conv(self, num_in: int, num_out: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
        padding = dilation * (kernel // 2)
        return nn.Conv2d(
            num_in, num_out, kernel, stride, padding, dilation if kernel > 1 else 1, bias=not self.batch_norm
        )

    def norm(self, num_channels: int) -> nn.Module:
        return nn.BatchNorm2d(num_channels, eps=self.batch_norm_eps) if self.batch_norm else nn.Identity()

    def downsample(self, num_in: int, num_out: int, stride: int) -> nn.Sequential | None:
        if stride == 1 and num_in == num_out:
            return None
        return nn.Sequential(self.conv(num_in, num_out, 1, stride), self.norm(num_out))


def basic_stage(num_in: int, width: int, stride: int, layers: Layers) -> nn.Sequential:
    """A stage of ResNet-18: two basic blocks, the first with the stride."""
    first = _BasicBlock(num_in, width, stride, 1, layers)
    return nn.Sequential(first, _BasicBlock(width, width, 1, 1, layers))


class ResNetFeature(nn.Module):
    """ResNet v1: normalised RGB (B, 3, H, W) -> feature (B, channels, ceil(H/16), ceil(W/16)), all >= 0.

    `depth`: 18, 50 or 101. `channels`: of the feature (1024 in the paper).
    `stride_in_1x1`: a stage's stride sits in the first 1x1 conv of a bottleneck (the paper's release, Caffe)
    instead of its 3x3 (torchvision).
    `batch_norm`: False builds convs with biases and no normalisation, for weights with it folded in.
    `freeze_batch_norm`: batch norm keeps its statistics, scale and shift in training, as the paper trains.
    `frozen_stages`: that many stages from the first are not trained (2 in the paper).
    `last_stage`: 5, or 4 to leave out the dilated stage and reduce from stage 4.
    `pool_padding`: 'both' pads the max-pool by 1 on each side (torchvision), 'end' only at the bottom and
    right (Caffe's padding 0 with sizes rounded up; the MSRA weights; its cells sit 2 px further in).
    Raises ConfigError on an option outside these. Source: the paper's section 4 and He et al. 2016.
    """

    stride = 16

    def __init__(
        self,
        depth: int,
        channels: int = 1024,
        *,
        stride_in_1x1: bool = False,
        batch_norm: bool = True,
        batch_norm_eps: float = 1e-5,
        freeze_batch_norm: bool = True,
        frozen_stages: int = 0,
        last_stage: int = 5,
        pool_padding: PoolPadding = 'both',
    ) -> None:
        super().__init__()
        _check_options(depth, channels, stride_in_1x1, frozen_stages, last_stage, pool_padding)
        self.depth = depth
        self.channels = channels
        self.last_stage = last_stage
        self.frozen_stages = frozen_stages
        self.pool_padding = pool_padding
        self.freeze_batch_norm = freeze_batch_norm
        layers = Layers(batch_norm, batch_norm_eps, stride_in_1x1)
        self.conv1 = layers.conv(3, 64, 7, 2)
        self.bn1 = layers.norm(64)
        num_in = 64
        for stage in range(2, last_stage + 1):
            num_in = self._add_stage(stage, num_in, layers)
        self.reduce = nn.Conv2d(num_in, channels, 3, padding=6, dilation=6)
        self._initialise()
        self._freeze()

    def forward(self, image: Tensor) -> Tensor:
        """Feature of a batch of normalised images."""
        return F.relu(self.reduce(self.trunk(image)))

    def trunk(self, image: Tensor) -> Tensor:
        """What the last stage gives, before the reduction conv."""
        x = self.stem(image)
        for stage in self.residual_stages():
            x = stage(x)
        return x

    def stem(self, image: Tensor) -> Tensor:
        """Stage 1 and the max-pool."""
        x = F.relu(self.bn1(self.conv1(image)))
        if self.pool_padding == 'both':
            return F.max_pool2d(x, 3, 2, 1)
        # After a ReLU a zero never wins a maximum. Two of them also give odd sizes the cell that makes
        # ceil(n/2).
        return F.max_pool2d(F.pad(x, (0, 2, 0, 2)), 3, 2)

    def residual_stages(self) -> list[nn.Sequential]:
        """Stages 2 to `last_stage`, each a sequence of `Block`."""
        return [getattr(self, f'layer{stage - 1}') for stage in range(2, self.last_stage + 1)]

    def train(self, mode: bool = True) -> ResNetFeature:
        """As for every module, but frozen batch norm stays in evaluation mode."""
        super().train(mode)
        for norm in self._frozen_norms():
            norm.eval()
        return self

    def _add_stage(self, stage: int, num_in: int, layers: Layers) -> int:
        block = _BasicBlock if self.depth == 18 else _Bottleneck
        width = 64 * 2 ** (stage - 2)
        stride = 2 if stage in (3, 4) else 1
        dilation = 2 if stage == 5 else 1
        blocks: list[nn.Module] = []
        for index in range(_NUM_BLOCKS[self.depth][stage - 2]):
            blocks.append(block(num_in, width, stride if index == 0 else 1, dilation, layers))
            num_in = width * block.expansion
        self.add_module(f'layer{stage - 1}', nn.Sequential(*blocks))
        return num_in

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            # A stage that starts from nothing then passes its input on; without batch norm it would blow it
            # up.
            if isinstance(module, Block):
                norm = getattr(module, f'bn{module.num_convs}')
                is_trained_norm = isinstance(norm, nn.BatchNorm2d) and not self.freeze_batch_norm
                nn.init.zeros_(norm.weight if is_trained_norm else module.last_conv().weight)
        nn.init.normal_(self.reduce.weight, std=_NEW_LAYER_STD)

    def _freeze(self) -> None:
        frozen: list[nn.Module] = [*self._frozen_stage_modules(), *self._frozen_norms()]
        for module in frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def _frozen_stage_modules(self) -> list[nn.Module]:
        if self.frozen_stages == 0:
            return []
        return [self.conv1, self.bn1, *self.residual_stages()[: self.frozen_stages - 1]]

    def _frozen_norms(self) -> Iterator[nn.BatchNorm2d]:
        roots: list[nn.Module] = [self] if self.freeze_batch_norm else self._frozen_stage_modules()
        for root in roots:
            yield from (module for module in root.modules() if isinstance(module, nn.BatchNorm2d))


def _check_options(
    depth: int, channels: int, stride_in_1x1: bool, frozen_stages: int, last_stage: int, pool_padding: str
) -> None:
    if depth not in _NUM_BLOCKS:
        raise ConfigError(f'ResNet depth is {depth}; known are ' + ', '.join(map(str, _NUM_BLOCKS)))
    if channels < 1:
        raise ConfigError(f'feature channels is {channels}; at least 1 is needed')
    if stride_in_1x1 and depth == 18:
        raise ConfigError('stride_in_1x1 is for bottleneck blocks (depth 50 and 101); depth 18 has none')
    if last_stage not in (4, 5):
        raise ConfigError(f'last_stage is {last_stage}; allowed are 4 and 5')
    if not 0 <= frozen_stages <= last_stage:
        raise ConfigError(f'frozen_stages is {frozen_stages}; allowed is from 0 to last_stage ({last_stage})')
    if pool_padding not in ('both', 'end'):
        raise ConfigError(f"pool_padding is {pool_padding!r}; allowed are 'both' and 'end'")


FEATURE_NETS: dict[str, Callable[..., ResNetFeature]] = {
    f'resnet{depth}': partial(ResNetFeature, depth) for depth in _NUM_BLOCKS
}


def make_feature_net(name: str, channels: int = 1024, **options: object) -> ResNetFeature:
    """A feature net by name, with the options of its class; ConfigError lists the known names."""
    if name not in FEATURE_NETS:
        raise ConfigError(f'unknown feature net {name!r}; known are ' + ', '.join(FEATURE_NETS))
    return FEATURE_NETS[name](channels, **options)


@torch.no_grad()
def fold_batch_norm(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode with each batch norm folded into the conv before it; the same function, fewer
    layers.

    Pairs are `convX`/`bnX` attributes of one module and neighbours in an `nn.Sequential`. Raises ConfigError
    if a batch norm has no such conv. Folded networks have the state dict of
    `ResNetFeature(batch_norm=False)`.
    """
    folded = copy.deepcopy(module).eval()
    for parent in list(folded.modules()):
        for conv_name, norm_name in _conv_norm_names(parent):
            conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    left = [
        name for name, part in folded.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)
    ]
    if left:
        raise ConfigError('cannot fold batch norm without a conv before it: ' + ', '.join(left))
    return folded


def _conv_norm_names(parent: nn.Module) -> list[tuple[str, str]]:
    names = [name for name, _ in parent.named_children()]
    if isinstance(parent, nn.Sequential):
        return list(zip(names, names[1:], strict=False))
    return [(name, 'bn' + name[4:]) for name in names if name.startswith('conv') and 'bn' + name[4:] in names]
