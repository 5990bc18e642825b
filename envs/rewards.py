"""Imitation rewards as declarations: distance -> kernel -> weighted terms.

    LIFT = Reward((
        Term('pinch', distances.Euclidean('pinch_position'), 0.2, temperature=0.02),
        ...
    ))

A term is `exp(-distance / temperature)`, in [0, 1]; the reward is their weighted mean,
in [0, 1] too. Calling a reward returns the total and every term by name.

A user's reward is any object that can be called with an observation and a goal (the
demonstration's observation at the same time) and returns a `RewardResult`; it is named
on the command line as `package.module:attribute`.
"""

from collections.abc import Iterator, Mapping, Sequence
import copy
import dataclasses
import functools
import importlib
import math
import numbers
import re
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from envs import distances
from envs import observations

Observation = observations.Observation

_MOST = 1 + 1e-6  # A weighted mean of ones is not always 1 to the last digit.
_LAGS = (0, 1, 5)  # Control steps between the observation and the goal of a check.
_CHECKS = 20  # Of each lag.


class RewardResult(NamedTuple):
  """What a reward returns."""

  total: float
  """The reward, in [0, 1]."""
  terms: dict[str, float]
  """Each of its terms, in [0, 1], by name."""


class RewardFunction(Protocol):
  """What an environment and the logs need of a reward."""

  def __call__(self, observation: Observation, goal: Observation) -> RewardResult:
    """Rewards being at `observation` where the demonstration was at `goal`."""


@dataclasses.dataclass(frozen=True)
class Term:
  """One kernel of a reward."""

  name: str
  distance: distances.Distance
  weight: float
  """Share of the reward; weights are divided by their sum."""
  temperature: float | None = None
  """Distance at which the term has fallen to 1/e; None: see `calibrate`."""


_Function: TypeAlias = distances.DistanceFunction


class Reward:
  """A weighted mean of terms.

  Kernels of body and object, aligned in time: recalled of Le Paine et al. 2018, and not
  checked. Terms and weights: ours.
  """

  def __init__(self, terms: Sequence[Term], layout: observations.Layout | None = None):
    """Declares a reward.

    Args:
      terms: at least one, with distinct names and positive weights.
      layout: of the observations; without one, `bind` before calling.

    Raises:
      ValueError: no terms, repeated names, a weight or temperature that is not
        positive, or a field that the layout lacks.
    """
    if not terms or len({t.name for t in terms}) != len(terms):
      raise ValueError(
        f'terms are {[t.name for t in terms]}; expected one or more, distinct'
      )
    for term in terms:
      tau = 1.0 if term.temperature is None else term.temperature
      if not (0 < term.weight < math.inf and 0 < tau < math.inf):
        raise ValueError(f'{term}: expected weight and temperature above 0 and finite')
    self.terms = tuple(terms)
    self.layout = layout
    total = sum(term.weight for term in terms)
    self._names = tuple(term.name for term in terms)
    self._weights = tuple(term.weight / total for term in terms)
    self._distances = None
    if layout is not None:
      self._distances = tuple(_bound(term, layout) for term in terms)

  def bind(self, layout: observations.Layout) -> 'Reward':
    """Returns this reward for observations laid out so.

    Raises:
      ValueError: a term names a field that the layout lacks.
    """
    return self.replaced(self.terms, layout)

  def replaced(
    self, terms: Sequence[Term], layout: observations.Layout | None
  ) -> 'Reward':
    """Returns a copy, of the same class, with other terms and another layout.

    Raises:
      ValueError: as of a new one.
    """
    made = copy.copy(self)
    made.__dict__.pop('_temperatures', None)
    Reward.__init__(made, terms, layout)
    return made

  def distances(self, observation: Observation, goal: Observation) -> list[np.ndarray]:
    """Returns each term's distance, of shape (...), for (batched) observations."""
    return [distance(observation, goal) for distance in self.bound]

  @property
  def bound(self) -> tuple[_Function, ...]:
    """Each term's distance for observations of the layout.

    Raises:
      ValueError: there is no layout.
    """
    if self._distances is None:
      raise ValueError('this reward is a declaration; bind(layout) it before calling')
    return self._distances

  def __call__(self, observation: Observation, goal: Observation) -> RewardResult:
    """Returns the reward of one observation; see `RewardFunction`.

    Raises:
      ValueError: it was not bound, or a term has no temperature yet.
    """
    values, total = [], 0.0
    for distance, weight, tau in zip(
      self.distances(observation, goal), self._weights, self._temperatures, strict=True
    ):
      value = math.exp(-float(distance) / tau)
      values.append(value)
      total += weight * value
    return RewardResult(total, dict(zip(self._names, values, strict=True)))

  @functools.cached_property
  def _temperatures(self) -> tuple[float, ...]:
    missing = [t.name for t in self.terms if t.temperature is None]
    if missing:
      raise ValueError(f'terms {missing} have no temperature; calibrate the reward')
    return tuple(float(t.temperature or 0) for t in self.terms)


def calibrate(
  reward: Reward,
  demonstrations: Sequence[Observation],
  frames: Sequence[int] = (2, 3),
  value: float = 0.5,
) -> Reward:
  """Gives temperatures to the terms that have none.

  A term is then `value` at the mean distance between moving frames of a demonstration
  that are `frames` control steps apart. Frames where the distance is next to nought (an
  object that nobody has touched yet) say nothing about scale and are left out. The mean
  and not the median, because fingers drift for long and close at once: by the median,
  closing a little late would end the episode. (Ours.)

  Args:
    reward: bound to a layout.
    demonstrations: observations of each, by group, (T+1, n).
    frames: how many control steps apart.
    value: what the kernel shall be there.

  Returns:
    The reward with a temperature for every term.

  Raises:
    ValueError: nothing ever moves by which to judge a term, or a distance does not
      work on batches.
  """
  terms = list(reward.terms)
  missing = [i for i, term in enumerate(terms) if term.temperature is None]
  bound = reward.bound
  samples: list[list[np.ndarray]] = [[] for _ in terms]
  for observation in demonstrations:
    length = len(next(iter(observation.values())))
    for apart in (k for k in frames if k < length):
      now = {group: values[:-apart] for group, values in observation.items()}
      later = {group: values[apart:] for group, values in observation.items()}
      for i in missing:
        try:
          distance = bound[i](now, later)
        except Exception as e:  # Any: it may be the user's code that runs.
          raise ValueError(
            f'term {terms[i].name!r}: its distance raised {type(e).__name__}: {e}, '
            f'called on {length - apart} observations at once, as calibration does '
            'for terms without a temperature'
          ) from e
        if np.shape(distance) != (length - apart,):
          raise ValueError(
            f'term {terms[i].name!r}: its distance returned shape '
            f'{np.shape(distance)} for {length - apart} observations; expected one '
            'number for each'
          )
        samples[i].append(distance)
  for i in missing:
    found = np.concatenate(samples[i]) if samples[i] else np.zeros(0)
    moving = found[found > 0.05 * found.max(initial=0)]
    if not moving.size:
      raise ValueError(f'term {terms[i].name!r}: nothing moves in the demonstrations')
    tau = float(np.mean(moving)) / -math.log(value)
    terms[i] = dataclasses.replace(terms[i], temperature=float(f'{tau:.3g}'))
  return reward.replaced(terms, reward.layout)


def _bound(term: Term, layout: observations.Layout) -> _Function:
  """Returns a term's distance for observations laid out so."""
  try:
    return term.distance.bind(layout)
  except ValueError:
    raise
  except Exception as e:  # Any: it may be the user's code that runs.
    raise ValueError(
      f'term {term.name!r}: its distance cannot be bound to the observation: '
      f'{type(e).__name__}: {e}'
    ) from e


def declaration(reward: RewardFunction) -> dict[str, str]:
  """Returns what each term is declared as; empty for a reward that is no `Reward`."""
  if not isinstance(reward, Reward):
    return {}
  # Where an object has no better name, it is called by its address.
  return {
    term.name: re.sub(
      ' at 0x[0-9a-f]+', '', f'{term.distance!r}, weight {float(term.weight)!r}'
    )
    for term in reward.terms
  }


def temperatures(reward: RewardFunction) -> dict[str, float]:
  """Returns the temperature of each term; empty for a reward that is no `Reward`."""
  if not isinstance(reward, Reward):
    return {}
  return {term.name: term.temperature for term in reward.terms if term.temperature}


def load(
  name: str,
  layout: observations.Layout,
  calibrated: Mapping[str, float] | None = None,
) -> RewardFunction:
  """Returns the reward called `package.module:attribute`, bound if it can be.

  Args:
    name: where to import it from; any importable place.
    layout: of the observations that it will be called with.
    calibrated: temperatures of terms, by name, that were calibrated earlier.

  Raises:
    ValueError: it cannot be imported, is not callable, or names a field that the
      layout lacks.
  """
  module, separator, attribute = name.partition(':')
  if not (module and separator and attribute):
    raise ValueError(f'reward {name!r}: expected package.module:attribute')
  try:
    reward = getattr(importlib.import_module(module), attribute)
  except Exception as e:  # Any: it is the user's code that runs.
    raise ValueError(
      f'reward {name!r} cannot be imported: {type(e).__name__}: {e}'
    ) from e
  if isinstance(reward, Reward):
    known = calibrated or {}
    terms = [
      dataclasses.replace(t, temperature=known.get(t.name, t.temperature))
      for t in reward.terms
    ]
    return reward.replaced(terms, layout)
  if isinstance(reward, type) or not callable(reward):
    raise ValueError(f'reward {name!r}: expected a callable object, found {reward!r}')
  return _Computed(reward, tuple(layout.spec()))


class _Computed:
  """A user's callable, which gets what a declared reward could be from, and no more.

  An environment's observation always has the objects' poses; one that rewards by
  pictures has them from nowhere else.
  """

  def __init__(self, reward: RewardFunction, groups: Sequence[str]):
    self._reward = reward
    self._groups = groups

  def __call__(self, observation: Observation, goal: Observation) -> RewardResult:
    return self._reward(
      {group: observation[group] for group in self._groups},
      {group: goal[group] for group in self._groups},
    )


def check(name: str, reward: RewardFunction, frames: Observation) -> list[str]:
  """Calls `reward` on frames of a demonstration, and checks what it returns.

  Observations where the goal is, one and five steps behind, and at its other end.

  Args:
    name: to say which reward was wrong.
    reward: a reward.
    frames: observations of a demonstration, by group, (T+1, n).

  Returns:
    The names of its terms.

  Raises:
    ValueError: it raises, returns anything but a `RewardResult` with a total and terms
      in [0, 1], or not the same terms each time.
  """
  names: list[str] | None = None
  for here, there in _pairs(len(next(iter(frames.values())))):
    observation, goal = (
      {group: values[i] for group, values in frames.items()} for i in (here, there)
    )
    try:
      result = reward(observation, goal)
    except Exception as e:
      raise ValueError(
        f'reward {name!r} raised {type(e).__name__}: {e}, given groups of '
        f'observations among {list(frames)}'
      ) from e
    if not isinstance(result, RewardResult) or not isinstance(result.terms, Mapping):
      raise ValueError(f'reward {name!r} returned {result!r}; expected a RewardResult')
    if not result.terms:
      raise ValueError(f'reward {name!r} returned no terms; expected at least one')
    where = f'reward {name!r}, at step {here} with the goal of step {there}'
    try:
      check_range(result)
    except ValueError as e:
      raise ValueError(f'{where}: {e}') from None
    if names is not None and list(result.terms) != names:
      raise ValueError(
        f'{where}: its terms are {list(result.terms)}; expected {names}, as before'
      )
    names = list(result.terms)
  return names or []


def _pairs(length: int) -> Iterator[tuple[int, int]]:
  """Yields (step of the observation, step of the goal)."""
  for lag in _LAGS:
    last = max(length - 1 - lag, 0)
    for here in np.unique(np.linspace(0, last, _CHECKS, dtype=int)):
      yield int(here), min(int(here) + lag, length - 1)
  yield 0, length - 1


def check_range(result: RewardResult) -> None:
  """Refuses what no kernel returns, before it gets to a learner.

  Raises:
    ValueError: the total or a term is not a number in [0, 1]; nan is none.
  """
  values: list[tuple[str, Any]] = [('the total', result.total), *result.terms.items()]
  for name, value in values:
    if not (isinstance(value, numbers.Real) and 0 <= float(value) <= _MOST):
      raise ValueError(f'{name} is {value!r}; expected a number in [0, 1]')
