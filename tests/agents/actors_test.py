"""Tests of agents.actors, with stand-ins for environments, replay and parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import dm_env
import numpy as np
import pytest

from agents import actors
from agents import parameters
from agents import waiting
from metamimic import config as config_lib

EPISODE = 4
ACTIONS = 9


class _Environment:
  """Episodes of four steps whose observation counts them; reward: that count."""

  def __init__(self, number: int) -> None:
    self.number = number
    self.actions: list[np.ndarray] = []
    self.resets = 0
    self._step = 0

  def _observation(self) -> dict[str, np.ndarray]:
    now = [self.number, self._step]
    return {'body': np.array(now, np.float32), 'goal': np.array(now, np.int32)}

  def reset(self) -> dm_env.TimeStep:
    self._step = 0
    self.resets += 1
    return dm_env.TimeStep(dm_env.StepType.FIRST, None, None, self._observation())

  def step(self, action: np.ndarray, /) -> dm_env.TimeStep:
    self.actions.append(action)
    self._step += 1
    last = self._step == EPISODE
    step_type = dm_env.StepType.LAST if last else dm_env.StepType.MID
    return dm_env.TimeStep(step_type, self._step, 1.0, self._observation())

  def step_measures(self) -> dict[str, float]:
    return {'reward': self._step, 'reward/arm': self._step / 10}

  def episode_measures(self) -> dict[str, float]:
    return {'completed': self._step / 8}


class _Adder:
  """Keeps what it is given; `full`: replay takes nothing after that many."""

  def __init__(self, full: int | None = None) -> None:
    self.firsts: list[dm_env.TimeStep] = []
    self.added: list[tuple[np.ndarray, dm_env.TimeStep]] = []
    self.ended = 0
    self._full = full

  def add_first(self, timestep: dm_env.TimeStep) -> None:
    self.firsts.append(timestep)

  def add(self, action: np.ndarray, timestep: dm_env.TimeStep) -> None:
    if len(self.added) == self._full:
      raise waiting.Stopped()
    self.added.append((action, timestep))

  def reset(self) -> None:
    self.ended += 1


class _Logger:
  def __init__(self) -> None:
    self.rows: list[dict[str, Any]] = []

  def write(self, row: dict[str, Any]) -> None:
    self.rows.append(row)


class _Setting:
  """An actor with two environments and a constant policy."""

  def __init__(
    self,
    steps: int,
    full: int | None = None,
    before: tuple[int, int] = (0, 0),
    may_begin: Callable[[], bool] = lambda: True,
    **config: Any,
  ) -> None:
    self.environments = [_Environment(i) for i in range(2)]
    self.adders = [_Adder(full), _Adder(full)]
    self.logger = _Logger()
    self.batches: list[Mapping[str, np.ndarray]] = []
    self.ready = True
    self.progress = parameters.Progress(learner_steps=0, finished=False)
    calls = iter(range(steps + 1))
    settings = {'sigma': 0.0, 'random_steps': 0, **config}
    adders: Any = self.adders
    reader: Any = self
    logger: Any = self.logger
    self.actor = actors.Actor(
      self.environments,
      adders,
      self._act,
      reader,
      logger,
      config=config_lib.ActorConfig(**settings),
      seed=0,
      should_stop=lambda: next(calls) == steps,
      may_begin=may_begin,
      steps=before[0],
      episodes=before[1],
    )

  def wait(self, should_stop: object) -> bool:
    return self.ready

  def update(self) -> parameters.Progress:
    return self.progress

  def _act(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    self.batches.append(batch)
    return np.full((len(batch['body']), ACTIONS), 0.5, np.float32)

  def done(self) -> np.ndarray:
    """Returns all actions, (environments, steps, 9)."""
    return np.array([e.actions for e in self.environments])


def test_without_noise_it_acts_as_the_policy_says_and_writes_every_step() -> None:
  setting = _Setting(steps=10)
  setting.actor.run()
  assert setting.done().shape == (2, 10, ACTIONS)
  assert (setting.done() == 0.5).all()
  assert setting.done().dtype == np.float32
  # One batched call a step, for both.
  assert [b['body'][:, 1].tolist() for b in setting.batches[:6]] == [
    [t % EPISODE] * 2 for t in range(6)
  ]
  assert setting.batches[0]['goal'].tolist() == [[0, 0], [1, 0]]
  for number, adder in enumerate(setting.adders):
    seen = [timestep.observation['body'].tolist() for _, timestep in adder.added]
    assert seen == [[number, t % EPISODE + 1] for t in range(10)]
    assert [timestep.last() for _, timestep in adder.added] == (
      [False, False, False, True] * 2 + [False, False]
    )
    assert len(adder.firsts) == 3
    assert adder.ended == 1


def test_noise_is_of_the_size_drawn_for_the_episode_and_stays_in_bounds() -> None:
  setting = _Setting(steps=400, sigma=0.2, sigma_factors=(0.0, 1.0))
  setting.actor.run()
  actions = setting.done().reshape(2, 100, EPISODE, ACTIONS)
  noisy = (actions != 0.5).any((2, 3))
  assert 0.35 < noisy.mean() < 0.65
  assert (actions[~noisy] == 0.5).all()
  assert np.abs(actions).max() == 1
  # Clipped at 1, which is 2.5 deviations off.
  assert actions[noisy].std() == pytest.approx(0.2, rel=0.03)


def test_half_of_the_first_episodes_are_random() -> None:
  setting = _Setting(steps=600, random_steps=600)
  setting.actor.run()
  actions = setting.done().reshape(2, 150, EPISODE, ACTIONS)
  random = (actions != 0.5).any((2, 3))
  # The two environments' 600 steps are the first 75 episodes of each.
  assert 0.35 < random[:, :75].mean() < 0.65
  assert not random[:, 76:].any()
  assert actions[random].mean() == pytest.approx(0, abs=0.05)
  assert actions[random].std() == pytest.approx(1 / np.sqrt(3), rel=0.05)


def test_an_actor_that_joins_a_run_under_way_does_not_act_at_random() -> None:
  setting = _Setting(steps=100, random_steps=600)
  setting.progress = parameters.Progress(learner_steps=1, finished=False)
  setting.actor.run()
  assert (setting.done() == 0.5).all()


def test_rows_hold_means_since_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
  due = iter([0.0] * 2 + [2.0] + [0.0] * 3 + [4.0])
  monkeypatch.setattr(actors.logs.Clock, 'due', lambda self: next(due))
  setting = _Setting(steps=10)
  setting.actor.run()
  first, second = setting.logger.rows
  assert first == {
    'environment_steps': 12,
    'episodes': 2,
    'steps_per_second': 6.0,
    'reward': pytest.approx((1 + 2 + 3 + 4 + 1 + 2) / 6),
    'completed': 0.5,
    'reward/arm': pytest.approx(0.1 * 13 / 6),
  }
  assert second['environment_steps'] == 20
  assert second['steps_per_second'] == 2.0
  assert second['reward'] == pytest.approx((3 + 4 + 1 + 2) / 4)


def test_a_row_without_the_end_of_an_episode_has_nan_for_it(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  due = iter([2.0, 0.0, 2.0])
  monkeypatch.setattr(actors.logs.Clock, 'due', lambda self: next(due))
  setting = _Setting(steps=6)
  setting.actor.run()
  # None is due before the end of the first episode names the columns.
  with_end, without = setting.logger.rows
  assert (with_end['environment_steps'], with_end['completed']) == (8, 0.5)
  assert (without['environment_steps'], without['reward']) == (12, 1.5)
  assert np.isnan(without['completed'])
  assert list(without) == list(with_end)


def test_an_actor_of_a_resumed_run_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
  due = iter([0.0, 2.0])
  monkeypatch.setattr(actors.logs.Clock, 'due', lambda self: next(due))
  setting = _Setting(steps=5, before=(100, 7))
  setting.actor.run()
  (row,) = setting.logger.rows
  assert (row['environment_steps'], row['episodes']) == (110, 9)
  assert row['steps_per_second'] == 5


def test_it_does_not_act_before_there_is_a_policy() -> None:
  setting = _Setting(steps=10)
  setting.ready = False
  setting.actor.run()
  assert [e.resets for e in setting.environments] == [0, 0]


def test_it_does_not_act_before_what_it_waits_for_is_there() -> None:
  # False: it was stopped instead.
  setting = _Setting(steps=10, may_begin=lambda: False)
  setting.actor.run()
  assert [e.resets for e in setting.environments] == [0, 0]


def test_it_leaves_when_the_learner_has_finished() -> None:
  setting = _Setting(steps=100)
  setting.progress = parameters.Progress(learner_steps=9, finished=True)
  setting.actor.run()
  assert not any(environment.actions for environment in setting.environments)
  assert [adder.ended for adder in setting.adders] == [1, 1]


def test_it_leaves_when_replay_was_stopped() -> None:
  setting = _Setting(steps=10, full=3)
  setting.actor.run()
  assert len(setting.adders[0].added) == 3
