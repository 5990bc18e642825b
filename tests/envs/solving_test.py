"""Tests of envs.solving: a task's reward, in the terms of imitation."""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

from absl.testing import absltest
from dm_env import test_utils
import numpy as np
import pytest

from envs import imitation
from envs import solving
from envs import stepping
from envs import tasks
from tests.envs import conftest

_ZERO = np.zeros(9, np.float32)
_UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])
_STEPS = 30


class SolvingTest(test_utils.EnvironmentTestMixin, absltest.TestCase):
  """dm_env's own checks, over the end of an episode."""

  def make_object_under_test(self) -> solving.TaskEnvironment:
    return solving.TaskEnvironment(tasks.load('reach_duplo', seed=0))

  def make_action_sequence(self) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for _ in range(tasks.get('reach_duplo').max_steps + 3):
      yield rng.uniform(-1, 1, 9).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Demonstration:
  states: np.ndarray
  observations: Any = None
  skill: str = 'lift'


@pytest.fixture(name='recorded', scope='module')
def recorded_fixture(lift: stepping.ManipulationEnvironment) -> list[_Demonstration]:
  rng = np.random.default_rng(0)
  demonstrations = []
  for seed in range(3):
    lift.reset(seed=seed)
    states = [lift.get_state()]
    for _ in range(_STEPS):
      lift.advance(rng.uniform(-1, 1, 9).astype(np.float32))
      states.append(lift.get_state())
    demonstrations.append(_Demonstration(np.stack(states)))
  return demonstrations


def test_success_ends_the_episode(
  lift: stepping.ManipulationEnvironment, place: conftest.Place
) -> None:
  solving_ = solving.TaskEnvironment(lift)
  solving_.reset()
  # It falls: lifted for long enough, though by nobody.
  place(lift, 'brick', np.array([0.3, -0.3, 0.45]), _UPRIGHT)
  for _ in range(4):
    timestep = solving_.step(_ZERO)
    assert timestep.mid()
    assert timestep.reward == {'imitation': 0, 'task': 0}
    assert timestep.discount == {'imitation': 1, 'task': 1}
  timestep = solving_.step(_ZERO)
  assert timestep.last()
  assert timestep.reward == {'imitation': 0, 'task': 1}
  assert timestep.discount == {'imitation': 1, 'task': 0}
  assert solving_.episode_measures() == {
    'success': 1,
    'episode_steps': 5,
    'return': 1,
  }
  assert solving_.step(_ZERO).first()


def test_the_time_limit_is_a_truncation(lift: stepping.ManipulationEnvironment) -> None:
  task = dataclasses.replace(lift.task, max_steps=7)
  short = stepping.ManipulationEnvironment(task, seed=0, like=lift)
  solving_ = solving.TaskEnvironment(short)
  for _ in range(2):
    assert solving_.step(_ZERO).first()
    timesteps = [solving_.step(_ZERO) for _ in range(7)]
    assert [t.last() for t in timesteps] == [False] * 6 + [True]
    for timestep in timesteps:
      assert timestep.reward == {'imitation': 0, 'task': 0}
      assert timestep.discount == {'imitation': 1, 'task': 1}
  assert solving_.episode_measures() == {
    'success': 0,
    'episode_steps': 7,
    'return': 0,
  }
  assert solving_.step_measures() == {}


def test_a_dense_reward_is_given_until_dm_controls_time_limit() -> None:
  reach = tasks.load('reach_duplo', seed=0)
  solving_ = solving.TaskEnvironment(reach, dense=True)
  for _ in range(2):
    assert solving_.step(_ZERO).first()
    duplo = reach.scene.object_position('duplo')
    rewards = []
    for step in range(250):
      # Brought to the hand, and later taken away.
      hand = reach.scene.pinch_position
      offset = 0.04 if step < 20 else 0.3
      reach.scene.place_object('duplo', hand - [offset, 0, 0], np.array([1, 0, 0, 0.0]))
      timestep = solving_.step(_ZERO)
      assert timestep.last() == (step == 249)
      assert timestep.discount == {'imitation': 1, 'task': 1}
      assert timestep.reward['imitation'] == 0
      assert timestep.reward['task'] == np.float32(reach.dense_reward)
      rewards.append(float(timestep.reward['task']))
    assert min(rewards[:20]) > 0.5 and max(rewards[20:]) < 0.01
    measures = solving_.episode_measures()
    assert measures['return'] == pytest.approx(sum(rewards), abs=1e-4)
    assert (measures['success'], measures['episode_steps']) == (0, 250)
    reach.scene.place_object('duplo', duplo, np.array([1, 0, 0, 0.0]))


def test_it_fits_one_memory_with_imitation(
  lift: stepping.ManipulationEnvironment,
) -> None:
  solving_ = solving.TaskEnvironment(lift)
  assert solving_.observation_spec() == imitation.observation_spec(lift.layout)
  assert solving_.reward_spec() == imitation.REWARD_SPEC
  assert solving_.discount_spec() == imitation.DISCOUNT_SPEC
  assert solving_.action_spec() == lift.action_spec()
  for timestep in (solving_.reset(), solving_.step(_ZERO)):
    assert timestep.observation['goal'].tolist() == [0, 0]


def _starts(
  solving_: solving.TaskEnvironment,
  recorded: Sequence[_Demonstration],
  episodes: int = 120,
) -> list[tuple[int, int] | None]:
  """Returns demonstration and step of many starts; None: the task's own."""
  places = {
    state.tobytes(): (i, t)
    for i, demonstration in enumerate(recorded)
    for t, state in enumerate(demonstration.states)
  }
  found = []
  for _ in range(episodes):
    assert solving_.reset().first()
    found.append(places.get(solving_.environment.get_state().tobytes()))
  return found


def test_episodes_start_within_training_demonstrations(
  lift: stepping.ManipulationEnvironment, recorded: list[_Demonstration]
) -> None:
  starts = {
    share: _starts(
      solving.TaskEnvironment(lift, recorded, train=(0, 2), start_within=share),
      recorded,
    )
    for share in (0.0, 0.5, 1.0)
  }
  assert set(starts[0.0]) == {None}
  assert 40 < starts[0.5].count(None) < 80
  within = [start for start in starts[1.0] if start is not None]
  assert len(within) == 120
  assert {i for i, _ in within} == {0, 2}
  steps = {t for _, t in within}
  assert len(steps) > 25 and max(steps) <= _STEPS


def _lengths(solving_: solving.TaskEnvironment, episodes: int) -> list[int]:
  lengths = []
  for _ in range(episodes):
    solving_.reset()
    while not solving_.step(_ZERO).last():
      pass
    lengths.append(int(solving_.episode_measures()['episode_steps']))
  return lengths


def test_patience_ends_an_episode(
  lift: stepping.ManipulationEnvironment, recorded: list[_Demonstration]
) -> None:
  own = solving.TaskEnvironment(lift, recorded, (0, 2), patience=1.5)
  assert set(_lengths(own, 3)) == {round(1.5 * _STEPS)}
  within = solving.TaskEnvironment(lift, recorded, (0, 2), 1.0, patience=1.5)
  lengths = _lengths(within, 20)
  assert min(lengths) == 25 and max(lengths) > 30
  # An evaluation waits as long as the task does.
  within.reset(0)
  assert [within.step(_ZERO).last() for _ in range(46)] == [False] * 46


def test_the_tasks_own_starts_differ(
  lift: stepping.ManipulationEnvironment,
) -> None:
  solving_ = solving.TaskEnvironment(lift, start_within=1.0)
  first, second = (solving_.reset().observation for _ in range(2))
  assert (first['objects'] != second['objects']).any()


def test_an_episode_starts_where_it_is_told(
  lift: stepping.ManipulationEnvironment, recorded: list[_Demonstration]
) -> None:
  # Of one that is not for training, too: so it is evaluated.
  solving_ = solving.TaskEnvironment(lift, recorded, train=(0,), start_within=0.5)
  for i in (2, 1, 0):
    timestep = solving_.reset(i)
    np.testing.assert_array_equal(lift.get_state(), recorded[i].states[0])
    expected = lift.scene.observe()
    for group, values in expected.items():
      np.testing.assert_array_equal(timestep.observation[group], values)


def test_starts_are_those_of_the_seed(
  lift: stepping.ManipulationEnvironment, recorded: list[_Demonstration]
) -> None:
  first, second, other = (
    _starts(solving.TaskEnvironment(lift, recorded, (0, 1, 2), 0.5, seed), recorded, 20)
    for seed in (4, 4, 5)
  )
  assert first == second != other
