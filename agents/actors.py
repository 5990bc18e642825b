"""Actors: they act in environments and write what happens to replay."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import math
from typing import Any, Protocol

import acme
from acme import adders
from acme.utils import loggers
import dm_env
import numpy as np

from agents import logs
from agents import parameters
from agents import waiting
from metamimic import config as config_lib

_LOG_PERIOD = 2.0


class Environment(Protocol):
  """What an actor acts in; see `envs.imitation` and `envs.solving`."""

  def reset(self) -> dm_env.TimeStep:
    """Starts an episode."""

  def step(self, action: np.ndarray, /) -> dm_env.TimeStep:
    """Advances one control step."""

  def step_measures(self) -> Mapping[str, float]:
    """Returns what there is to log of the last step; the same names every time."""

  def episode_measures(self) -> Mapping[str, float]:
    """Returns what there is to log of an episode that has just ended."""


class Actor(acme.Worker):
  """Runs several environments in step, with one batched policy call for them all."""

  def __init__(
    self,
    environments: Sequence[Environment],
    adders_: Sequence[adders.Adder],
    act: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    reader: parameters.Reader,
    logger: loggers.Logger,
    config: config_lib.ActorConfig,
    seed: Any,
    should_stop: Callable[[], bool],
    may_begin: Callable[[], bool] = lambda: True,
    steps: int = 0,
    episodes: int = 0,
  ):
    """Takes its parts.

    Args:
      environments: where to act.
      adders_: one for each environment.
      act: batched observations -> actions, (B, 9).
      reader: keeps the policy up to date.
      logger: of progress.
      config: exploration.
      seed: of exploration.
      should_stop: ends `run`.
      may_begin: waits for what must be there before it acts; false: was stopped.
      steps: environment steps that this actor did before a run was resumed.
      episodes: likewise.
    """
    self.environments = tuple(environments)
    """Where it acts."""
    self._adders = list(adders_)
    self._act = act
    self._reader = reader
    self._logger = logger
    self._config = config
    self._rng = np.random.default_rng(seed)
    self._should_stop = should_stop
    self._may_begin = may_begin
    self._steps, self._episodes = steps, episodes
    self._sigma = np.zeros((len(environments), 1))
    self._random = np.zeros(len(environments), bool)
    self._observations: list[Mapping[str, np.ndarray]] = []
    self._tally = _Tally(steps)

  def run(self, num_steps: float = math.inf) -> None:
    """Acts until the learner has finished or it is stopped.

    Args:
      num_steps: environment steps after which to return, all environments together; the
        next call goes on from there.
    """
    if not self._reader.wait(self._should_stop) or not self._may_begin():
      return
    last = self._steps + num_steps
    try:
      if not self._observations:
        self._observations = [self._reset(i) for i in range(len(self.environments))]
      while self._steps < last:
        if self._should_stop() or self._reader.update().finished:
          for adder in self._adders:
            adder.reset()
          return
        self._observations = self._step(self._observations)
        self._tally.log(self._logger, self._steps, self._episodes)
    except waiting.Stopped:
      pass

  def _reset(self, i: int) -> Mapping[str, np.ndarray]:
    config = self._config
    self._sigma[i] = config.sigma * self._rng.choice(config.sigma_factors)
    young = self._reader.progress.learner_steps == 0
    begins = young and self._steps < config.random_steps
    self._random[i] = begins and self._rng.random() < 0.5
    timestep = self.environments[i].reset()
    self._adders[i].add_first(timestep)
    return timestep.observation

  def _step(
    self, observations: list[Mapping[str, np.ndarray]]
  ) -> list[Mapping[str, np.ndarray]]:
    batch = {
      group: np.stack([o[group] for o in observations]) for group in observations[0]
    }
    actions = self._act(batch)
    noise = self._rng.standard_normal(actions.shape)
    actions = np.minimum(np.maximum(actions + self._sigma * noise, -1), 1)
    if self._random.any():
      uniform = self._rng.uniform(-1, 1, actions.shape)
      actions = np.where(self._random[:, None], uniform, actions)
    actions = actions.astype(np.float32)
    # All the physics first: it empties the processor's caches, which what follows fills
    # but once when it is done for all environments in a row.
    timesteps = [
      environment.step(action)
      for environment, action in zip(self.environments, actions, strict=True)
    ]
    following = []
    for i, (environment, timestep) in enumerate(
      zip(self.environments, timesteps, strict=True)
    ):
      self._adders[i].add(actions[i], timestep)
      self._steps += 1
      self._tally.add(environment, timestep.last())
      if timestep.last():
        self._episodes += 1
        following.append(self._reset(i))
      else:
        following.append(timestep.observation)
    return following


class _Tally:
  """Means since the last row of the log."""

  def __init__(self, steps: int) -> None:
    self._clock = logs.Clock(_LOG_PERIOD)
    self._episode_names: tuple[str, ...] = ()
    self._clear(steps)

  def _clear(self, steps: int) -> None:
    self._since = steps
    self._steps: list[Mapping[str, float]] = []
    self._episodes: list[Mapping[str, float]] = []

  def add(self, environment: Environment, last: bool) -> None:
    self._steps.append(environment.step_measures())
    if last:
      self._episodes.append(environment.episode_measures())
      self._episode_names = tuple(self._episodes[-1])

  def log(self, logger: loggers.Logger, steps: int, episodes: int) -> None:
    # The first row names the columns: not before an episode has ended.
    if not self._episode_names:
      return
    seconds = self._clock.due()
    if not seconds:
      return
    logger.write(
      {
        'environment_steps': steps,
        'episodes': episodes,
        'steps_per_second': (steps - self._since) / seconds,
        **_means(self._steps, self._steps[0]),
        **_means(self._episodes, self._episode_names),
      }
    )
    self._clear(steps)


def _means(
  rows: Sequence[Mapping[str, float]], names: Iterable[str]
) -> dict[str, float]:
  return {
    name: float(np.mean([row[name] for row in rows])) if rows else math.nan
    for name in names
  }
