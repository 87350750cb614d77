# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Files of a run directory, each replaced as a whole: a crash or a full disk leaves the last good one."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from dff_ros.config import Scalar
from dff_ros.errors import ConfigError, DataError
from dff_ros.nets.looking import LookingModel

CHECKPOINT_FILE = 'checkpoint.pt'
WEIGHTS_FILE = 'model.safetensors'
MODEL_FILE = 'model.json'
LOG_FILE = 'log.jsonl'
PLOT_FILE = 'log.png'

_VERSION = 1


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside `path`, then move it there; DataError, with `path` kept, where the disk refuses."""
    temporary = path.with_name(f'.{path.name}.new')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open('rb') as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save and safetensors report a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else f'the disk is full or refuses ({error})'
        raise DataError(f'cannot write {path}: {cause}; what was there before is unchanged') from error


def save_checkpoint(path: Path, step: int, config: Mapping[str, Scalar], state: Mapping[str, Any]) -> None:
    """Everything that a resumed run needs after `step` steps."""
    content = {'version': _VERSION, 'step': step, 'config': dict(config), 'state': dict(state)}
    replace_file(path, lambda temporary: torch.save(content, temporary))


def load_checkpoint(
    path: Path, config: Mapping[str, Scalar], changeable: tuple[str, ...]
) -> tuple[int, dict[str, Any]]:
    """(steps done, state) of a run with the same settings, except the `changeable` ones.

    Raises DataError on a missing, damaged or newer file, and ConfigError naming each setting that differs.
    """
    if not path.is_file():
        raise DataError(f'nothing to resume: {path} does not exist; start the run without --resume')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
        version, step, saved, state = (content[name] for name in ('version', 'step', 'config', 'state'))
    except (
        OSError,
        RuntimeError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        raise DataError(f'{path} is damaged: {" ".join(str(error).split())[:200]}') from error
    if version != _VERSION:
        raise DataError(f'{path} has version {version}; this program reads {_VERSION}')
    _compare(saved, config, changeable, path)
    return step, state


def save_model(directory: Path, weights: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
    """The trained model: float32 weights as safetensors, and its spec with the facts of training as JSON."""
    tensors = {name: tensor.detach().cpu().float().contiguous() for name, tensor in weights.items()}
    replace_file(directory / WEIGHTS_FILE, lambda temporary: _write(temporary, save(tensors)))
    text = json.dumps(facts, indent=2) + '\n'
    replace_file(directory / MODEL_FILE, lambda temporary: _write(temporary, text.encode()))


def save_trained(run: Path, model: LookingModel, training: Mapping[str, object]) -> None:
    """The model of a run, with what its training was."""
    save_model(run, model.state_dict(), {**model.spec.to_dict(), 'training': dict(training)})


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _compare(
    saved: Mapping[str, Scalar], config: Mapping[str, Scalar], changeable: tuple[str, ...], path: Path
) -> None:
    names = [name for name in {**saved, **config} if name not in changeable]
    differing = [
        f'{name} was {saved.get(name)!r}, is {config.get(name)!r}'
        for name in names
        if saved.get(name) != config.get(name)
    ]
    if differing:
        raise ConfigError(
            f'{path} belongs to a run with other settings: {"; ".join(differing)}. '
            'Give the same ones or another --run'
        )
