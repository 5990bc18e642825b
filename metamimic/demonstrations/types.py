"""Demonstrations as types: frozen, and validated before anything can use them.

The actions of a demonstrator are stored, because behavioural cloning and open-loop
replay need them, but MetaMimic learns without. So they are left out unless asked for,
and reading them where they were left out is an error rather than a `None` that travels
on.
"""

import collections
from collections.abc import Collection, Mapping, Sequence
import dataclasses
import json
import types
from typing import Any

import numpy as np

from envs import tasks

SPLITS = ('train', 'valid', 'novel')
"""To learn from; held out; held out, of skills that are never shown in training."""


class ActionsNotAvailable(RuntimeError):
  """The actions of a demonstration were read, but they were not loaded."""


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Demonstration:
  """One demonstration of T control steps. Its arrays are copies and read-only."""

  name: str
  """Its name within the file: demo_0, demo_1, ..."""
  task: str
  """Name of the task, as in `envs.tasks.TASKS`."""
  skill: str
  """Name of the skill shown, one of the task's."""
  observations: Mapping[str, np.ndarray]
  """Observation group -> (T + 1, n) float32, from the start to the end."""
  states: np.ndarray
  """Whole physics states, (T + 1, S) float64, for `env.set_state`."""
  rewards: np.ndarray
  """Sparse reward after each step, (T,) float32: 1 where the skill has succeeded."""
  expert: Mapping[str, Any]
  """What the demonstrator was like: parameters as plain JSON values."""
  _actions: np.ndarray | None = dataclasses.field(repr=False)

  def __init__(
    self,
    name: str,
    task: str,
    skill: str,
    observations: Mapping[str, np.ndarray],
    states: np.ndarray,
    actions: np.ndarray | None = None,
    expert: Mapping[str, Any] | None = None,
    rewards: np.ndarray | None = None,
  ) -> None:
    """Validates and copies.

    Args:
      name: see the fields.
      task: see the fields.
      skill: see the fields; of a task that is not registered it may be any.
      observations: see the fields.
      states: see the fields.
      actions: (T, number of actuators) float32 in [-1, 1]; None: not loaded, or not
        recorded.
      expert: see the fields; None: nothing known.
      rewards: see the fields; None: all zero.

    Raises:
      ValueError: names the demonstration, the field, what was found and what was
        expected.
    """
    skills = tasks.TASKS[task].skills if task in tasks.TASKS else (skill,)
    if skill not in skills:
      raise ValueError(
        f'{name}: skill is {skill!r:.200}; expected one of {list(skills)}'
      )
    if not observations:
      raise ValueError(f'{name}: observations has no groups; expected at least one')
    _check_array(name, 'states', states, np.float64, 2)
    num_steps = len(states) - 1
    if num_steps < 1:
      raise ValueError(f'{name}: states has length {len(states)}; expected 2 or more')
    for group, values in observations.items():
      field = f'observations[{group!r}]'
      _check_array(name, field, values, np.float32, 2)
      _check_length(name, field, values, num_steps + 1, 'as states has')
    if rewards is None:
      rewards = np.zeros(num_steps, np.float32)
    _check_array(name, 'rewards', rewards, np.float32, 1)
    _check_length(name, 'rewards', rewards, num_steps, 'one fewer than states has')
    odd = rewards[(rewards != 0) & (rewards != 1)]
    if odd.size:
      raise ValueError(
        f"{name}: rewards hold {odd[0]:g}; expected 0 or 1, the task's sparse reward"
      )
    if actions is not None:
      _check_array(name, 'actions', actions, np.float32, 2)
      _check_length(name, 'actions', actions, num_steps, 'one fewer than states has')
      low, high = actions.min(), actions.max()
      if low < -1 or high > 1:
        raise ValueError(
          f'{name}: actions reach from {low:g} to {high:g}; expected [-1, 1]'
        )
    try:
      parameters = json.loads(json.dumps(dict(expert or {})))
    except (TypeError, ValueError, RecursionError) as e:
      raise ValueError(f'{name}: expert holds {e}; expected JSON values') from e

    self._set('name', name)
    self._set('task', task)
    self._set('skill', skill)
    self._set(
      'observations',
      types.MappingProxyType(
        {group: _frozen(values) for group, values in observations.items()}
      ),
    )
    self._set('states', _frozen(states))
    self._set('rewards', _frozen(rewards))
    self._set('expert', types.MappingProxyType(parameters))
    self._set('_actions', None if actions is None else _frozen(actions))

  def _set(self, field: str, value: Any) -> None:
    object.__setattr__(self, field, value)

  def __reduce__(self) -> tuple[Any, ...]:
    # Neither mapping proxies nor read-only flags survive pickling by themselves.
    return Demonstration, (
      self.name,
      self.task,
      self.skill,
      dict(self.observations),
      self.states,
      self._actions,
      dict(self.expert),
      self.rewards,
    )

  @property
  def num_steps(self) -> int:
    """T, the number of control steps."""
    return len(self.states) - 1

  @property
  def success(self) -> bool:
    """Whether the skill had succeeded at the end."""
    return bool(self.rewards[-1] > 0)

  @property
  def has_actions(self) -> bool:
    """Whether `actions` can be read."""
    return self._actions is not None

  @property
  def actions(self) -> np.ndarray:
    """The demonstrator's actions, (T, number of actuators) float32 in [-1, 1].

    Raises:
      ActionsNotAvailable: they were not loaded or not recorded.
    """
    if self._actions is None:
      raise ActionsNotAvailable(
        f"{self.name}: the demonstrator's actions were not loaded; MetaMimic learns "
        f'without them, and whoever needs them asks for '
        f'storage.load(path, with_actions=True)'
      )
    return self._actions


@dataclasses.dataclass(frozen=True)
class DemonstrationSet:
  """Demonstrations of one task, each in exactly one split."""

  task: str
  """Name of the task."""
  demonstrations: tuple[Demonstration, ...]
  """All of them; their index is their id."""
  train: tuple[int, ...]
  """Ids that may be learned from."""
  valid: tuple[int, ...]
  """Ids held out for evaluation."""
  novel: tuple[int, ...] = ()
  """Ids held out for evaluation, of skills that those to learn from never show."""

  def __post_init__(self) -> None:
    """Validates.

    Raises:
      ValueError: names the demonstration, the field, what was found and what was
        expected.
    """
    if not self.demonstrations:
      raise ValueError('demonstrations is empty; expected at least one')
    names = collections.Counter(d.name for d in self.demonstrations)
    for name, count in names.items():
      if count > 1:
        raise ValueError(f'{name}: the name is used {count} times; expected once')
    first = self.demonstrations[0]
    for d in self.demonstrations:
      if d.task != self.task:
        raise ValueError(f'{d.name}: task is {d.task!r}; expected {self.task!r}')
      _check_same(d.name, 'observations', _widths(d), first.name, _widths(first))
      _check_same(
        d.name,
        'states',
        {'width': d.states.shape[1]},
        first.name,
        {'width': first.states.shape[1]},
      )
      if d.has_actions and first.has_actions:
        _check_same(
          d.name,
          'actions',
          {'width': d.actions.shape[1]},
          first.name,
          {'width': first.actions.shape[1]},
        )
    self._check_split()

  def _check_split(self) -> None:
    count = len(self.demonstrations)
    for split in SPLITS:
      for i in getattr(self, split):
        if not 0 <= i < count:
          raise ValueError(f'{split} holds id {i}; expected ids from 0 to {count - 1}')
    uses = collections.Counter(self.train + self.valid + self.novel)
    for i, d in enumerate(self.demonstrations):
      if uses[i] != 1:
        times = {0: 'in neither train nor valid'}.get(
          uses[i], f'{uses[i]} times in train and valid'
        )
        raise ValueError(f'{d.name}: it is {times}; expected exactly once')

  @property
  def skills(self) -> tuple[str, ...]:
    """Skills that are shown, in the order in which they first are."""
    return tuple(dict.fromkeys(d.skill for d in self.demonstrations))

  @property
  def widths(self) -> dict[str, int]:
    """Observation group -> number of values in it."""
    return _widths(self.demonstrations[0])

  @property
  def has_actions(self) -> bool:
    """Whether the actions of every demonstration can be read."""
    return all(d.has_actions for d in self.demonstrations)

  def split(self, name: str) -> tuple[Demonstration, ...]:
    """Returns the demonstrations of one of `SPLITS`."""
    return tuple(self.demonstrations[i] for i in self.ids(name))

  def ids(self, split: str) -> tuple[int, ...]:
    """Returns the ids of one of `SPLITS`."""
    ids: dict[str, tuple[int, ...]] = {name: getattr(self, name) for name in SPLITS}
    return ids[split]

  def without(self, skills: Collection[str]) -> 'DemonstrationSet':
    """Returns the set for whoever shall never have seen some skills.

    Args:
      skills: their training demonstrations are left out; those held out are `novel`.

    Raises:
      ValueError: nobody shows one of them.
    """
    for skill in skills:
      if skill not in self.skills:
        raise ValueError(f'no demonstration of {skill!r}; there are {self.skills}')

    def shown(i: int) -> bool:
      return self.demonstrations[i].skill not in skills

    return self._select(
      [i for i in self.train if shown(i)],
      [i for i in self.valid if shown(i)],
      [*self.novel, *(i for i in self.valid if not shown(i))],
    )

  def with_fewer(self, train: int) -> 'DemonstrationSet':
    """Returns the set with the first `train` training demonstrations alone.

    Those that are left out are in no split and have no id.

    Raises:
      ValueError: there are fewer.
    """
    if train > len(self.train):
      raise ValueError(f'{len(self.train)} training demonstrations; expected {train}')
    return self._select(self.train[:train], self.valid, self.novel)

  def _select(
    self, train: Sequence[int], valid: Sequence[int], novel: Sequence[int]
  ) -> 'DemonstrationSet':
    kept = sorted([*train, *valid, *novel])
    ids = {old: new for new, old in enumerate(kept)}
    return DemonstrationSet(
      self.task,
      tuple(self.demonstrations[i] for i in kept),
      *(tuple(ids[i] for i in split) for split in (train, valid, novel)),
    )


def _check_array(
  name: str, field: str, values: Any, dtype: type, num_axes: int
) -> None:
  if not isinstance(values, np.ndarray):
    raise ValueError(
      f'{name}: {field} is a {type(values).__name__}; expected a NumPy array'
    )
  if values.dtype != dtype:
    raise ValueError(f'{name}: {field} is {values.dtype}; expected {np.dtype(dtype)}')
  if values.ndim != num_axes or 0 in values.shape:
    raise ValueError(
      f'{name}: {field} has shape {values.shape}; expected {num_axes} '
      f'axes and no empty one'
    )
  if not np.isfinite(values).all():
    step = np.argwhere(~np.isfinite(values))[0, 0]
    raise ValueError(
      f'{name}: {field} holds NaN or infinity at step {step}; expected finite numbers'
    )


def _check_length(
  name: str, field: str, values: np.ndarray, length: int, why: str
) -> None:
  if len(values) != length:
    raise ValueError(
      f'{name}: {field} has length {len(values)}; expected {length}, {why}'
    )


def _check_same(
  name: str,
  field: str,
  found: Mapping[str, int],
  other: str,
  expected: Mapping[str, int],
) -> None:
  if found != expected:
    raise ValueError(
      f'{name}: {field} has {_listed(found)}; expected {_listed(expected)}, as '
      f'{other} has'
    )


def _listed(widths: Mapping[str, int]) -> str:
  return ', '.join(f'{name} {width}' for name, width in sorted(widths.items()))


def _widths(demonstration: Demonstration) -> dict[str, int]:
  return {g: v.shape[1] for g, v in demonstration.observations.items()}


def _frozen(values: np.ndarray) -> np.ndarray:
  copy = np.array(values)
  copy.flags.writeable = False
  return copy
