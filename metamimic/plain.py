"""Frozen dataclasses from plain values, as JSON has them, and these by dotted names."""

from collections.abc import Mapping
import dataclasses
import typing
from typing import Any, Literal

_KINDS = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'text'}
_TOO_LARGE = 2.0**53
"""From here on not every whole number is one of floating point."""


def build(cls: type, values: Any, path: str) -> Any:
  """Returns a dataclass of plain values, with every field checked.

  Args:
    cls: whose fields are numbers, text, literals, tuples of such, and dataclasses.
    values: what each field shall be, by name; lists stand for tuples.
    path: names them in errors.

  Raises:
    ValueError: a field is unknown, missing or of another type; the message names it.
  """
  if not isinstance(values, Mapping):
    raise ValueError(f'{path} is {values!r:.100}; expected an object of settings')
  types = typing.get_type_hints(cls)
  unknown, missing = sorted(set(values) - set(types)), sorted(set(types) - set(values))
  if unknown or missing:
    raise ValueError(f'{path}: unknown fields {unknown}, missing fields {missing}')
  return cls(
    **{n: _value(types[n], value, f'{path}.{n}') for n, value in values.items()}
  )


def _value(kind: Any, value: Any, path: str) -> Any:
  if dataclasses.is_dataclass(kind):
    return build(typing.cast(type, kind), value, path)
  if typing.get_origin(kind) is tuple:
    if not isinstance(value, (list, tuple)):
      raise ValueError(f'{path} is {value!r:.100}; expected a list')
    of = typing.get_args(kind)[0]
    return tuple(_value(of, v, f'{path}[{i}]') for i, v in enumerate(value))
  if typing.get_origin(kind) is Literal:
    if value not in typing.get_args(kind):
      raise ValueError(
        f'{path} is {value!r:.100}; expected one of {list(typing.get_args(kind))}'
      )
  # A bool is an int for Python; and an int may stand for a float.
  elif type(value) is not kind and not (kind is float and type(value) is int):
    raise ValueError(f'{path} is {value!r:.100}; expected {_KINDS[kind]}')
  elif kind in (int, float) and not abs(value) < _TOO_LARGE:
    raise ValueError(
      f'{path} is {value!r:.100}; expected a number below {_TOO_LARGE:g}'
    )
  return value


def flatten(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Returns nested dicts as one dict with dotted names."""
  flat: dict[str, Any] = {}
  for name, value in values.items():
    if isinstance(value, Mapping):
      flat.update(flatten(value, f'{prefix}{name}.'))
    else:
      flat[prefix + name] = value
  return flat
