"""Imitation actors: they follow demonstrations and write what happens to replay."""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any

import acme
from acme import adders
from acme.utils import loggers
import numpy as np

from agents import logs
from agents import parameters
from agents import replay
from envs import imitation
from metamimic import config as config_lib

_LOG_PERIOD = 2.0


class ImitationActor(acme.Worker):
  """Runs several environments in step, with one batched policy call for them all."""

  def __init__(
    self,
    environments: Sequence[imitation.ImitationEnvironment],
    adders_: Sequence[adders.Adder],
    act: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    reader: parameters.Reader,
    logger: loggers.Logger,
    config: config_lib.ActorConfig,
    seed: Any,
    should_stop: Callable[[], bool],
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
    if not self._reader.wait(self._should_stop):
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
    except replay.Stopped:
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


def _mean(values: Sequence[float]) -> float:
  return float(np.mean(values)) if values else float('nan')


class _Tally:
  """Means since the last row of the log."""

  def __init__(self, steps: int) -> None:
    self._clock = logs.Clock(_LOG_PERIOD)
    self._clear(steps)

  def _clear(self, steps: int) -> None:
    self._since = steps
    self._totals: list[float] = []
    self._terms: list[dict[str, float]] = []
    self._ends: list[float] = []

  def add(self, environment: imitation.ImitationEnvironment, last: bool) -> None:
    self._totals.append(environment.result.total)
    self._terms.append(environment.result.terms)
    if last:
      self._ends.append(
        environment.demonstration_step / environment.demonstration_length
      )

  def log(self, logger: loggers.Logger, steps: int, episodes: int) -> None:
    seconds = self._clock.due()
    if not seconds:
      return
    logger.write(
      {
        'environment_steps': steps,
        'episodes': episodes,
        'steps_per_second': (steps - self._since) / seconds,
        'reward': _mean(self._totals),
        'completed': _mean(self._ends),
        **{
          f'reward/{name}': _mean([terms[name] for terms in self._terms])
          for name in self._terms[0]
        },
      }
    )
    self._clear(steps)
