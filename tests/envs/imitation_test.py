"""Tests of envs.imitation: following demonstrations made of smooth random movements."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import dm_env
import numpy as np
import pytest

from envs import imitation
from envs import reward_library
from envs import rewards
from envs import stepping
from envs import tasks
from tests.envs import conftest

_STEPS = 40
_ZERO = np.zeros(9, np.float32)
_UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


@dataclasses.dataclass(frozen=True)
class _Demonstration:
  skill: str
  observations: Mapping[str, np.ndarray]
  states: np.ndarray
  actions: np.ndarray


def _smooth(seed: int, num_steps: int = _STEPS) -> np.ndarray:
  """Returns actions that sway slowly, (num_steps, 9)."""
  rng = np.random.default_rng(seed)
  phase = rng.uniform(-np.pi, np.pi, 9)
  angle = phase + np.arange(num_steps)[:, None] * rng.uniform(0.05, 0.15, 9)
  return (0.7 * np.sin(angle)).astype(np.float32)


def _record(
  env: stepping.ManipulationEnvironment, actions: np.ndarray
) -> _Demonstration:
  """Records from the present state on."""
  observations, states = [env.scene.observe()], [env.get_state()]
  for action in actions:
    observations.append(env.advance(action))
    states.append(env.get_state())
  stacked = {k: np.stack([o[k] for o in observations]) for k in observations[0]}
  skill = next(iter(env.task.skills))
  return _Demonstration(skill, stacked, np.stack(states), actions)


def _demonstrations(env: stepping.ManipulationEnvironment) -> list[_Demonstration]:
  demonstrations = []
  for seed in range(3):
    env.reset(seed=seed)
    demonstrations.append(_record(env, _smooth(seed)))
  return demonstrations


def _reward(task: str) -> rewards.RewardFunction:
  """Returns the task's own reward, with temperatures."""
  name = reward_library.DEFAULTS[task]
  layout = tasks.load(task, seed=0).layout
  declared = rewards.load(name, layout)
  assert isinstance(declared, rewards.Reward)
  given = {'arm': 0.06, 'fingers': 0.1}
  return rewards.load(
    name, layout, {t.name: given.get(t.name, 0.02) for t in declared.terms}
  )


@pytest.fixture(scope='module')
def demonstrations(
  env: stepping.ManipulationEnvironment,
) -> list[_Demonstration]:
  return _demonstrations(env)


@pytest.fixture(scope='module')
def reward(env: stepping.ManipulationEnvironment) -> rewards.RewardFunction:
  return _reward(env.task.name)


@pytest.fixture(scope='module')
def following(
  env: stepping.ManipulationEnvironment,
  demonstrations: list[_Demonstration],
  reward: rewards.RewardFunction,
) -> imitation.ImitationEnvironment:
  return imitation.ImitationEnvironment(env, demonstrations, reward)


@pytest.fixture(scope='module')
def lifts(lift: stepping.ManipulationEnvironment) -> list[_Demonstration]:
  return _demonstrations(lift)


@pytest.fixture(scope='module')
def lift_reward() -> rewards.RewardFunction:
  return _reward('lift_brick')


def _replay(
  following: imitation.ImitationEnvironment, shown: int, actions: np.ndarray
) -> tuple[float, dm_env.TimeStep]:
  """Returns the mean imitation reward, and the last timestep."""
  timestep = following.reset(shown, step=0)
  total, steps = 0.0, 0
  while not timestep.last():
    timestep = following.step(actions[steps])
    total += timestep.reward[imitation.IMITATION]
    steps += 1
  return total / steps, timestep


def test_replaying_the_demonstrators_actions_scores_1(
  following: imitation.ImitationEnvironment, demonstrations: list[_Demonstration]
) -> None:
  for i, demonstration in enumerate(demonstrations):
    score, _ = _replay(following, i, demonstration.actions)
    assert 0.99 <= score <= 1
    assert following.demonstration_step == following.demonstration_length == _STEPS


@pytest.mark.parametrize('wrong', [math.nan, -0.01, 1.01])
def test_a_reward_that_goes_wrong_ends_the_episode_with_an_error(
  env: stepping.ManipulationEnvironment,
  demonstrations: list[_Demonstration],
  wrong: float,
) -> None:
  values = iter([1.0, 0.5, wrong])

  def reward(observation: Any, goal: Any) -> rewards.RewardResult:
    return rewards.RewardResult(0.5, {'mine': next(values)})

  following = imitation.ImitationEnvironment(env, demonstrations, reward)
  following.reset(1, step=0)
  for _ in range(2):
    following.step(demonstrations[1].actions[0])
  message = (
    f'^the reward of demonstration 1, step 3: mine is {wrong}; expected a number'
  )
  with pytest.raises(ValueError, match=message):
    following.step(demonstrations[1].actions[0])


def test_anothers_actions_score_far_less(
  following: imitation.ImitationEnvironment, demonstrations: list[_Demonstration]
) -> None:
  # The objects, which nobody touches here, are where they should be in any case.
  for shown, other in ((0, 1), (1, 2), (2, 0)):
    score, _ = _replay(following, shown, demonstrations[other].actions)
    assert score < 0.75
    arm = following.result.terms['arm']
    assert arm < 0.05


def test_following_another_demonstration_scores_next_to_nothing(
  following: imitation.ImitationEnvironment, demonstrations: list[_Demonstration]
) -> None:
  following.reset(0, step=0)
  following.environment.set_state(demonstrations[1].states[0])
  scores = [
    following.step(action).reward[imitation.IMITATION]
    for action in demonstrations[1].actions
  ]
  assert np.mean(scores) < 0.3


def test_what_a_step_returns_fits_the_specs(
  following: imitation.ImitationEnvironment,
) -> None:
  timestep = following.reset()
  assert timestep.first() and timestep.reward is None and timestep.discount is None
  for _ in range(3):
    timestep = following.step(_ZERO)
    assert timestep.mid()
    for values, spec in (
      (timestep.observation, following.observation_spec()),
      (timestep.reward, following.reward_spec()),
      (timestep.discount, following.discount_spec()),
    ):
      assert set(values) == set(spec)
      for key, value in values.items():
        spec[key].validate(value)
  assert set(timestep.observation) == {'body', 'objects', 'goal'}
  assert set(timestep.reward) == set(timestep.discount) == {'imitation', 'task'}
  assert following.action_spec() == following.environment.action_spec()


def test_what_there_is_to_log_of_steps_and_episodes(
  lift: stepping.ManipulationEnvironment,
  lifts: list[_Demonstration],
  lift_reward: rewards.RewardFunction,
) -> None:
  following = imitation.ImitationEnvironment(lift, lifts, lift_reward, early_end=0.05)
  timestep, actions = following.reset(0, step=10), iter(lifts[0].actions[10:])
  steps = 0
  while not timestep.last():
    timestep = following.step(-next(actions))
    steps += 1
    result, measures = following.result, following.step_measures()
    assert measures == {
      'reward': result.total,
      **{f'reward/{name}': value for name, value in result.terms.items()},
    }
    assert np.float32(measures['reward']) == timestep.reward['imitation']
    assert {'reward/arm', 'reward/brick'} <= set(measures)
  assert 1 < steps < _STEPS - 10
  assert following.episode_measures() == {'completed': steps / (_STEPS - 10)}


def test_a_goal_is_a_demonstration_and_a_step(
  following: imitation.ImitationEnvironment, demonstrations: list[_Demonstration]
) -> None:
  timestep = following.reset(2, step=7)
  np.testing.assert_array_equal(timestep.observation['goal'], [2, 7])
  assert timestep.observation['goal'].dtype == np.int32
  for step in (8, 9):
    timestep = following.step(_ZERO)
    np.testing.assert_array_equal(timestep.observation['goal'], [2, step])
    assert (following.demonstration, following.demonstration_step) == (2, step)
    for group, values in demonstrations[2].observations.items():
      np.testing.assert_array_equal(following.goal[group], values[step])


def test_episodes_start_where_they_are_told(
  following: imitation.ImitationEnvironment, demonstrations: list[_Demonstration]
) -> None:
  for demonstration, step in ((1, 0), (0, 25)):
    timestep = following.reset(demonstration, step)
    recorded = demonstrations[demonstration]
    for group, values in recorded.observations.items():
      np.testing.assert_array_equal(timestep.observation[group], values[step])
    state = following.environment.get_state()
    np.testing.assert_array_equal(state, recorded.states[step])


def _starts(following: imitation.ImitationEnvironment) -> np.ndarray:
  """Returns (demonstration, step) of many episodes."""
  return np.array([following.reset().observation['goal'] for _ in range(120)])


def test_episodes_start_at_the_start(
  lift: stepping.ManipulationEnvironment,
  lifts: list[_Demonstration],
  lift_reward: rewards.RewardFunction,
) -> None:
  starts = _starts(imitation.ImitationEnvironment(lift, lifts, lift_reward))
  assert set(starts[:, 0]) == {0, 1, 2} and set(starts[:, 1]) == {0}


def test_episodes_start_within(
  lift: stepping.ManipulationEnvironment,
  lifts: list[_Demonstration],
  lift_reward: rewards.RewardFunction,
) -> None:
  starts = {
    share: _starts(
      imitation.ImitationEnvironment(
        lift, lifts, lift_reward, train=(0, 2), start_within=share
      )
    )
    for share in (0.5, 1.0)
  }
  for start in starts.values():
    assert set(start[:, 0]) == {0, 2}
    assert start[:, 1].max() < _STEPS - 4
  assert len(set(starts[1.0][:, 1])) > 25
  assert 40 < (starts[0.5][:, 1] == 0).sum() < 80


def test_starts_are_those_of_the_seed(
  lift: stepping.ManipulationEnvironment,
  lifts: list[_Demonstration],
  lift_reward: rewards.RewardFunction,
) -> None:
  first, second, other = (
    _starts(
      imitation.ImitationEnvironment(
        lift, lifts, lift_reward, start_within=0.8, seed=seed
      )
    )
    for seed in (4, 4, 5)
  )
  np.testing.assert_array_equal(first, second)
  assert (first != other).any()


def test_short_demonstrations_start_at_their_start(
  lift: stepping.ManipulationEnvironment, lift_reward: rewards.RewardFunction
) -> None:
  lift.reset()
  short = _record(lift, _smooth(0, num_steps=2))
  env = imitation.ImitationEnvironment(lift, [short], lift_reward, start_within=1.0)
  assert set(_starts(env)[:, 1]) == {0}


def test_the_end_of_the_demonstration_is_a_truncation(
  following: imitation.ImitationEnvironment, demonstrations: list[_Demonstration]
) -> None:
  timestep = following.reset(0, step=_STEPS - 2)
  timestep = following.step(demonstrations[0].actions[-2])
  assert timestep.mid()
  timestep = following.step(demonstrations[0].actions[-1])
  assert timestep.last()
  assert timestep.discount == {'imitation': 1, 'task': 1}
  np.testing.assert_array_equal(timestep.observation['goal'], [0, _STEPS])
  assert following.step(_ZERO).first()


def test_an_episode_ends_early_when_tracking_is_lost(
  env: stepping.ManipulationEnvironment,
  demonstrations: list[_Demonstration],
  reward: rewards.RewardFunction,
) -> None:
  following = imitation.ImitationEnvironment(
    env, demonstrations, reward, early_end=0.05
  )
  timestep, actions = following.reset(0, step=0), iter(demonstrations[0].actions)
  while not timestep.last():
    assert timestep.first() or timestep.discount == {'imitation': 1, 'task': 1}
    assert timestep.first() or min(following.result.terms.values()) >= 0.05
    timestep = following.step(-next(actions))
  assert 1 < following.demonstration_step < _STEPS
  assert min(following.result.terms.values()) < 0.05
  assert timestep.discount == {'imitation': 0, 'task': 1}
  assert timestep.reward['imitation'] == np.float32(following.result.total)
  assert following.step(_ZERO).first()


def test_tracking_is_not_lost_where_it_need_not_be_kept(
  following: imitation.ImitationEnvironment, demonstrations: list[_Demonstration]
) -> None:
  _, timestep = _replay(following, 0, -demonstrations[0].actions)
  assert min(following.result.terms.values()) < 0.05
  assert timestep.discount == {'imitation': 1, 'task': 1}


def test_a_brick_left_behind_costs_at_least_its_weight(
  lift: stepping.ManipulationEnvironment,
  lifts: list[_Demonstration],
  lift_reward: rewards.RewardFunction,
) -> None:
  # The demonstrator's brick rises by 20 cm; this one stays on the table.
  risen = {k: v.copy() for k, v in lifts[0].observations.items()}
  lift.layout.get(risen, 'brick/position')[:, 2] += np.linspace(0, 0.2, _STEPS + 1)
  raised = dataclasses.replace(lifts[0], observations=risen)
  following = imitation.ImitationEnvironment(lift, [raised], lift_reward)
  _, timestep = _replay(following, 0, lifts[0].actions)
  assert isinstance(lift_reward, rewards.Reward)
  weights = {t.name: t.weight for t in lift_reward.terms}
  assert timestep.reward['imitation'] <= 1 - weights['brick'] + 1e-4
  terms = following.result.terms
  assert terms.pop('brick') < 1e-4
  assert min(terms.values()) > 0.99


def test_success_ends_the_tasks_discount_but_not_the_episode(
  lift: stepping.ManipulationEnvironment,
  lift_reward: rewards.RewardFunction,
  place: conftest.Place,
) -> None:
  lift.reset()
  place(lift, 'brick', np.array([0.3, -0.3, 0.45]), _UPRIGHT)
  falling = _record(lift, np.zeros((12, 9), np.float32))
  following = imitation.ImitationEnvironment(lift, [falling], lift_reward)
  following.reset(0, step=0)
  timesteps = [following.step(_ZERO) for _ in range(12)]
  held = [t.reward['task'] == 1 for t in timesteps]
  above = (lift.layout.get(falling.observations, 'brick/position')[1:, 2] > 0.05).sum()
  assert 5 < above < 12
  assert held == [False] * 4 + [True] * (above - 4) + [False] * (12 - above)
  for timestep, success in zip(timesteps, held, strict=True):
    assert timestep.discount == {'imitation': 1, 'task': not success}
    assert timestep.reward['imitation'] > 0.99
  assert [t.step_type for t in timesteps[:-1]] == [dm_env.StepType.MID] * 11


def test_a_fresh_environment_starts_whatever_the_action(
  lift: stepping.ManipulationEnvironment,
  lifts: list[_Demonstration],
  lift_reward: rewards.RewardFunction,
) -> None:
  following = imitation.ImitationEnvironment(lift, lifts, lift_reward)
  assert following.step(_ZERO).first()
  assert following.step(_ZERO).mid()


def test_the_skill_that_is_shown_is_the_one_that_is_rewarded(
  place: conftest.Place,
) -> None:
  env = tasks.load('two_bricks', seed=0)
  env.reset()
  place(env, 'top', np.array([0.3, -0.3, 0.5]), _UPRIGHT)  # It falls for a while.
  recorded = _record(env, np.zeros((6, 9), np.float32))
  shown = [
    dataclasses.replace(recorded, skill=skill)
    for skill in ('lift_base', 'lift_top', 'unstack')
  ]
  following = imitation.ImitationEnvironment(env, shown, _reward('two_bricks'))
  for i, expected in ((1, 1), (0, 0), (1, 1), (2, 0)):
    _, timestep = _replay(following, i, recorded.actions)
    assert timestep.reward[imitation.TASK] == expected
  env.close()
