# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Untrained bundles of named architectures: what a network costs is known before anyone has trained it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from dff_ros.bundle import MANIFEST
from dff_ros.errors import ConfigError
from dff_ros.model_spec import PAPER_FLOW_NETS, ModelSpec

PREFIX = 'untrained:'
FEATURE_NETS = ('resnet18', 'resnet50', 'resnet101')
_NUM_CLASSES = 11
_CHANNELS = {'resnet18': 256, 'resnet50': 1024, 'resnet101': 1024}
_VERSION = 2
"""Of what is written for a name; a change makes other files."""

_NAME = re.compile(r'untrained:(?P<feature_net>\w+)(?:\+(?P<flow_net>\w+))?')
_EXTRAS: dict[str, object] = {
    'light_channels': 64,
    'detail': True,
    'correction_channels': 80,
    'quality_channels': 32,
}
"""With the correlation flow net: what the shipped bundle has beside the paper's networks."""


def spec_of(name: str, size: tuple[int, int]) -> ModelSpec:
    """The model of `untrained:FEATURE_NET[+FLOW_NET]` for network images of `size`, (height, width).

    FLOW_NET is one of the paper's, with its networks and channels (section 3), or `correlation`, with light
    net, correction, detail and quality net as in `road-r18`; by default FlowNet Half. 19 classes, as
    CamVid has. ConfigError for another name.
    """
    found = _NAME.fullmatch(name)
    feature_net, flow_net = (found['feature_net'], found['flow_net'] or 'flownet_half') if found else ('', '')
    flow_nets = (*PAPER_FLOW_NETS, 'correlation')
    if feature_net not in FEATURE_NETS or flow_net not in flow_nets:
        raise ConfigError(
            f'bundle: got {name!r}; an untrained model is {PREFIX}FEATURE_NET+FLOW_NET, of '
            f'{", ".join(FEATURE_NETS)} and {", ".join(flow_nets)}'
        )
    return ModelSpec(
        class_names=tuple(f'class {number}' for number in range(_NUM_CLASSES)),
        class_colours=tuple((number * 13 % 256, number * 71 % 256, 90) for number in range(_NUM_CLASSES)),
        feature_net=feature_net,
        channels=_CHANNELS[feature_net],
        flow_source=flow_net,
        nominal_size=size,
        **(_EXTRAS if flow_net == 'correlation' else {}),  # type: ignore[arg-type]
    )


def untrained_bundle(name: str, size: tuple[int, int], report: Callable[[str], None]) -> Path:
    """The folder of the bundle that `spec_of` describes, written on the first call and kept in the cache of
    the user ($XDG_CACHE_HOME); needs torch then. `report` is told that it is written.
    """
    spec = spec_of(name, size)
    facts = json.dumps([_VERSION, spec.to_dict()], sort_keys=True)
    digest = hashlib.sha256(facts.encode()).hexdigest()[:12]
    folder = cache_folder() / f'{re.sub("[^a-z0-9_]+", "-", name)}-{size[1]}x{size[0]}-{digest}'
    if (folder / MANIFEST).is_file():
        return folder
    report(f'writing {name} for {size[1]}x{size[0]} (once)')
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        made = Path(beside) / 'bundle'
        made.mkdir()
        _write(spec, made, name)
        shutil.rmtree(folder, ignore_errors=True)  # of a call that was ended
        made.replace(folder)
    return folder


def cache_folder() -> Path:
    """Where they are kept."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'dff_ros' / 'bench'


def _write(spec: ModelSpec, folder: Path, name: str) -> None:
    import torch

    from dff_ros.export import write_bundle
    from dff_ros.nets.dff import DffModel

    torch.manual_seed(0)
    model = DffModel(spec).folded()
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() == 4 and not value.any():  # what training would start from nothing
                value.normal_(std=0.1 / value[0].numel() ** 0.5)
    write_bundle(model, folder, created_by=f'dff bench --bundle {name} (untrained)')
