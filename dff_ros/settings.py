# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a setting is: name, type, default, range; dataclasses of them, listed and changed by dotted names.

A field made by `param` carries its description, range, unit and whether it may change while the node runs.
`walk` lists them with dotted names (`keyframe.interval`).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast, get_type_hints

from dff_ros.errors import ConfigError

Scalar = bool | int | float | str
ConfigT = TypeVar('ConfigT')
ScalarT = TypeVar('ScalarT', bool, int, float, str)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting: its dotted name, type, default and what is allowed."""

    name: str
    kind: type
    default: Scalar
    description: str
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ''
    choices: tuple[str, ...] = ()
    runtime: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return 'one of ' + ', '.join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f'from {self.minimum:g} to {self.maximum:g}' + (f' {self.unit}' if self.unit else '')
        return {bool: 'true or false', str: 'a text'}.get(self.kind, 'a number')

    def check(self, value: object) -> Scalar:
        """The value as this parameter's type; ConfigError names parameter and range where it does not fit."""
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not self.kind:
            raise ConfigError(f'{self.name}: got {value!r}, expected {self.kind.__name__} ({self.allowed})')
        checked = cast(Scalar, value)
        if self.choices and checked not in self.choices:
            raise ConfigError(f'{self.name}: got {value!r}, allowed is {self.allowed}')
        if (
            isinstance(checked, (int, float))
            and not isinstance(checked, bool)
            and not self._in_range(checked)
        ):
            raise ConfigError(f'{self.name}: got {value!r}, allowed is {self.allowed}')
        return checked

    def _in_range(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return low <= value <= high


def param(
    default: ScalarT,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    unit: str = '',
    choices: tuple[str, ...] = (),
    runtime: bool = False,
) -> ScalarT:
    """A dataclass field with the facts of a `Parameter`; typed as its value, as dataclasses.field is."""
    facts = {
        'description': description,
        'minimum': minimum,
        'maximum': maximum,
        'unit': unit,
        'choices': choices,
        'runtime': runtime,
    }
    value: ScalarT = dataclasses.field(default=default, metadata=facts)
    return value


def other_default(base: type, name: str, default: ScalarT) -> ScalarT:
    """The setting `name` of a config dataclass with another default, for a dataclass derived from it."""
    (field,) = (field for field in dataclasses.fields(base) if field.name == name)
    value: ScalarT = dataclasses.field(default=default, metadata=field.metadata)
    return value


class Validated:
    """Base of the config dataclasses: checks every field on construction."""

    def __post_init__(self) -> None:
        for parameter in walk(type(self)):
            if '.' not in parameter.name:
                object.__setattr__(self, parameter.name, parameter.check(getattr(self, parameter.name)))


def walk(config: type | object, prefix: str = '') -> Iterator[Parameter]:
    """The parameters of a config dataclass, names dotted; an instance gives its values as the defaults."""
    cls = config if isinstance(config, type) else type(config)
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            inner = kind if isinstance(config, type) else getattr(config, field.name)
            yield from walk(inner, f'{prefix}{field.name}.')
            continue
        default = cast(Scalar, field.default if isinstance(config, type) else getattr(config, field.name))
        yield Parameter(name=f'{prefix}{field.name}', kind=kind, default=default, **field.metadata)


def to_flat(config: object) -> dict[str, Scalar]:
    """The values of a config as {dotted name: value}."""
    return {parameter.name: parameter.default for parameter in walk(config)}


def replace(config: ConfigT, changes: Mapping[str, object]) -> ConfigT:
    """A copy with {dotted name: value} changed, validated; ConfigError on an unknown name or a bad value."""
    known = {parameter.name: parameter for parameter in walk(config)}
    for name, value in changes.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean {near[0]}?' if near else 'known are ' + ', '.join(known)
            raise ConfigError(f'unknown parameter {name!r}: {hint}')
        known[name].check(value)
    return _replace(config, changes)


def _replace(config: ConfigT, changes: Mapping[str, object]) -> ConfigT:
    inner: dict[str, dict[str, object]] = {}
    own: dict[str, object] = {}
    for name, value in changes.items():
        head, _, rest = name.partition('.')
        if rest:
            inner.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    for head, nested in inner.items():
        own[head] = _replace(getattr(config, head), nested)
    return dataclasses.replace(config, **own)  # type: ignore[type-var]


def flatten(tree: Mapping[str, object], prefix: str = '') -> dict[str, object]:
    """A nested mapping (as YAML gives it) as {dotted name: value}."""
    flat: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(cast(Mapping[str, object], value), f'{prefix}{name}.'))
        else:
            flat[f'{prefix}{name}'] = value
    return flat


def names_in(text: str) -> list[str]:
    """The names in a text that separates them by commas, without the space around them."""
    return [name for part in text.split(',') if (name := part.strip())]
