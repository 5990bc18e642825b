"""Tests of metamimic.evaluation: the arithmetic of episodes, arms and rows."""

from collections.abc import Iterator
import functools
import math
import pathlib
import resource
import types
from typing import Any, cast

import dm_env
import numpy as np
import pytest

from envs import observations
from envs import rewards
from metamimic import controllers
from metamimic import evaluation
from metamimic.demonstrations import recording

LAYOUT = observations.Layout(('brick',))


class _Environment:
  """Follows demonstration i for i + 2 steps; the reward is what the action says."""

  def __init__(self) -> None:
    self.environment = types.SimpleNamespace(succeeded=False)
    self.started: list[int] = []

  def _observation(self) -> dict[str, np.ndarray]:
    goal = np.array([self.demonstration, self.demonstration_step], np.int32)
    return {'body': np.zeros(1, np.float32), 'goal': goal}

  def reset(self, demonstration: int, step: int) -> dm_env.TimeStep:
    self.started.append(demonstration)
    self.demonstration, self.demonstration_step = demonstration, step
    return dm_env.TimeStep(dm_env.StepType.FIRST, None, None, self._observation())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    self.demonstration_step += 1
    arm, brick = float(action[0]), float(action[1])
    self.result = rewards.RewardResult((arm + brick) / 2, {'arm': arm, 'brick': brick})
    last = self.demonstration_step == self.demonstration + 2
    self.environment.succeeded = last and self.demonstration % 2 == 1
    step_type = dm_env.StepType.LAST if last else dm_env.StepType.MID
    return dm_env.TimeStep(step_type, 0.0, 1.0, self._observation())


def _environments(count: int) -> Any:
  return [_Environment() for _ in range(count)]


def _declining(batch: controllers.Batch, environments: Any) -> np.ndarray:
  """The arm's term falls by step: 1, .5, .03, .5, 1 ...; the brick's is 1."""
  arm = np.array([1, 0.5, 0.03, 0.5, 1])[batch['goal'][:, 1]]
  return np.stack([arm, np.ones_like(arm)], 1)


def test_episode_by_hand() -> None:
  found = evaluation.run(_environments(1), _declining, [0, 1, 3])
  assert [e.demonstration for e in found] == [0, 1, 3]
  assert [e.steps for e in found] == [2, 3, 5]
  # Lost at its third step: what came before is completed.
  assert [e.completed for e in found] == [1.0, 2 / 3, 2 / 5]
  assert [e.success for e in found] == [False, True, True]
  assert [e.solved for e in found] == [None, 3, 5]
  assert found[0].terms == {'arm': 0.75, 'brick': 1.0}
  assert found[1].terms['arm'] == pytest.approx(1.53 / 3)
  assert found[2].terms['arm'] == pytest.approx(3.03 / 5)
  assert found[2].total == pytest.approx((3.03 / 5 + 1) / 2)


@pytest.mark.parametrize('count', [1, 2, 5])
def test_results_do_not_depend_on_the_number_of_environments(count: int) -> None:
  order = [3, 0, 2, 1]
  environments = _environments(count)
  found = evaluation.run(environments, _declining, order)
  assert found == evaluation.run(_environments(1), _declining, order)
  assert sorted(i for e in environments for i in e.started) == [0, 1, 2, 3]


def test_controller_sees_the_environments_of_its_batch() -> None:
  sizes = []

  def control(batch: controllers.Batch, environments: Any) -> np.ndarray:
    assert batch['goal'][:, 0].tolist() == [e.demonstration for e in environments]
    sizes.append(len(environments))
    return np.ones((len(environments), 9))

  evaluation.run(_environments(3), control, [0, 1, 3])
  # One leaves after two steps, one after three, the last after five.
  assert sizes == [3, 3, 2, 1, 1]


def test_stopped_evaluation_returns_what_is_complete() -> None:
  asked = iter(range(10))
  found = evaluation.run(_environments(2), _declining, [3, 0], lambda: next(asked) == 3)
  assert [e.demonstration for e in found] == [0]


class _Fleeting(_Environment):
  """The task is solved for a while only."""

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    timestep = super().step(action)
    self.environment.succeeded = self.demonstration_step in (2, 3)
    return timestep


def test_solved_is_the_first_success_even_if_it_is_lost() -> None:
  environments: Any = [_Fleeting()]
  (episode,) = evaluation.run(environments, _declining, [3])
  assert (episode.success, episode.solved, episode.steps) == (False, 2, 5)


class _TaskEnvironment:
  """Begun as demonstration i does, solved in i + 1 moves; timed out after 4 steps."""

  def __init__(self) -> None:
    self.environment = types.SimpleNamespace(succeeded=False)
    self.started: list[int] = []

  def _observation(self) -> dict[str, np.ndarray]:
    return {'body': np.array([self.left, self.steps], np.float32)}

  def reset(self, demonstration: int) -> dm_env.TimeStep:
    self.started.append(demonstration)
    self.left, self.steps = demonstration + 1, 0
    self.environment.succeeded = False
    return dm_env.TimeStep(dm_env.StepType.FIRST, None, None, self._observation())

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    self.steps += 1
    self.left -= int(action[0])
    self.environment.succeeded = self.left == 0
    last = self.environment.succeeded or self.steps == 4
    step_type = dm_env.StepType.LAST if last else dm_env.StepType.MID
    reward = {'task': 0.25 * self.steps}
    return dm_env.TimeStep(step_type, reward, 1.0, self._observation())


def _pausing(batch: controllers.Batch) -> np.ndarray:
  """Moves at every step but the first."""
  return (batch['body'][:, 1:] > 0).astype(np.float32)


@pytest.mark.parametrize('count', [1, 3])
def test_solving_by_hand(count: int) -> None:
  environments: Any = [_TaskEnvironment() for _ in range(count)]
  found = evaluation.solve(environments, _pausing, [5, 0, 2, 3])
  assert sorted(i for e in environments for i in e.started) == [0, 2, 3, 5]
  assert [e.demonstration for e in found] == [5, 0, 2, 3]
  assert [e.solved for e in found] == [None, 2, 4, None]
  assert [e.steps for e in found] == [4, 2, 4, 4]
  assert [e.success for e in found] == [False, True, True, False]
  # It follows nothing, and has no reward for that.
  assert all(math.isnan(e.total) and math.isnan(e.completed) for e in found)
  assert not any(e.terms for e in found)
  # 1/4 and 2/4 and so on, of a reward that is not only given at the end.
  assert [e.returned for e in found] == [2.5, 0.75, 2.5, 2.5]


def test_what_goes_on_after_it_is_solved_is_solved_when_it_first_was() -> None:
  class GoesOn(_TaskEnvironment):
    def step(self, action: np.ndarray) -> dm_env.TimeStep:
      timestep = super().step(action)
      last = self.steps == 4
      return timestep._replace(step_type=dm_env.StepType(1 + last))

  found = evaluation.solve([cast(Any, GoesOn())], _pausing, [0, 2])
  assert [(e.solved, e.steps, e.success) for e in found] == [
    (2, 4, False),
    (4, 4, True),
  ]


def test_stopped_solving_returns_what_is_complete() -> None:
  asked = iter(range(10))
  environments: Any = [_TaskEnvironment() for _ in range(2)]
  found = evaluation.solve(environments, _pausing, [3, 0], lambda: next(asked) == 2)
  assert [e.demonstration for e in found] == [0]


def _next(actions: Iterator[np.ndarray], batch: controllers.Batch) -> np.ndarray:
  del batch
  return next(actions)[None]


def test_the_experts_actions_solve_the_task_when_they_did() -> None:
  demonstrations, _ = recording.record('reach_duplo', train=1, valid=1, seed=0)
  environments = evaluation.make_task_environments(demonstrations)
  for index in (1, 0):
    demonstration = demonstrations.demonstrations[index]
    replay = functools.partial(_next, iter(demonstration.actions))
    (episode,) = evaluation.solve(environments, replay, [index])
    first = int(np.flatnonzero(demonstration.rewards)[0]) + 1
    assert (episode.solved, episode.steps, episode.success) == (first, first, True)


def test_zero_is_no_motion() -> None:
  found = controllers.zero({}, [None] * 3)
  assert (found.shape, found.dtype) == ((3, 9), np.float32)
  assert not found.any()


def test_replay_gives_the_action_of_the_step() -> None:
  demonstrations: Any = [
    types.SimpleNamespace(actions=np.full((4, 9), i) + np.arange(4)[:, None] / 10)
    for i in range(2)
  ]
  environments: Any = [
    types.SimpleNamespace(demonstration=1, demonstration_step=3),
    types.SimpleNamespace(demonstration=0, demonstration_step=0),
  ]
  found = controllers.replay(demonstrations)({}, environments)
  np.testing.assert_allclose(found[:, 0], [1.3, 0])


def _frame(angle: float, finger: float) -> dict[str, np.ndarray]:
  frame = {g: np.zeros(n, np.float32) for g, n in LAYOUT.sizes.items()}
  LAYOUT.get(frame, 'arm_cos')[:] = np.cos(angle)
  LAYOUT.get(frame, 'arm_sin')[:] = np.sin(angle)
  LAYOUT.get(frame, 'fingers')[:] = finger
  return frame


def test_tracker_makes_up_the_difference_in_one_step() -> None:
  frames = [_frame(3.1, 0.1), _frame(3.12, 0.12), _frame(-3.13, 0.12)]
  demonstration: Any = types.SimpleNamespace(
    num_steps=2,
    observations={g: np.stack([f[g] for f in frames]) for g in LAYOUT.sizes},
  )
  limits = np.array([1.0] * 6 + [0.8] * 3)
  scene = types.SimpleNamespace(velocity_limits=limits)

  def environment(step: int) -> Any:
    return types.SimpleNamespace(
      demonstration=0,
      demonstration_step=step,
      environment=types.SimpleNamespace(scene=scene),
    )

  now = [_frame(3.1, 0.1), _frame(3.13, 0.12), _frame(-3.1, 5.0)]
  batch = {g: np.stack([f[g] for f in now]) for g in LAYOUT.sizes}
  control = controllers.tracker([demonstration], LAYOUT)
  # The third stands at the end: its next frame is the last one.
  found = control(batch, [environment(0), environment(1), environment(2)])
  assert found.dtype == np.float32
  expected_arm = [0.02 / 0.04, (2 * np.pi - 6.26) / 0.04, -0.03 / 0.04]
  np.testing.assert_allclose(found[:, 0], expected_arm, atol=2e-4)
  np.testing.assert_allclose(found[:, 6], [0.02 / 0.04 / 0.8, 0, -1], atol=2e-4)


def test_wrong_demonstration_is_shown_at_the_same_step() -> None:
  seen = []

  def act(batch: controllers.Batch) -> np.ndarray:
    seen.append(batch['goal'].tolist())
    return np.ones((len(batch['goal']), 9))

  shown = controllers.shuffled([5, 6, 9])
  assert shown == {5: 9, 6: 5, 9: 6}
  batch = {'goal': np.array([[9, 1], [5, 4]], np.int32)}
  controllers.follow_wrong(act, shown)(batch, [])
  controllers.follow(act)(batch, [])
  assert seen == [[[6, 1], [9, 4]], [[9, 1], [5, 4]]]


def test_one_demonstration_cannot_be_swapped() -> None:
  with pytest.raises(ValueError) as e:
    controllers.shuffled([4])
  assert str(e.value) == 'there is one demonstration; expected two or more to swap'


def test_rows(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'evaluation.csv'
  assert evaluation.measured(str(path)) == set()
  episodes = [
    evaluation.Episode(1, 120, 2 / 3, True, 90, {'arm': 0.123456, 'brick': 1.0}, 0.5),
    evaluation.Episode(0, 80, 1.0, False, None, {'arm': 0.0, 'brick': 0.25}, 0.125),
  ]
  demonstrations: Any = [
    types.SimpleNamespace(name=f'demo_{i}', skill=f'skill_{i}') for i in range(2)
  ]

  def append(episodes: list[evaluation.Episode], arm: str, split: str) -> None:
    rows = evaluation.rows(
      episodes,
      seed=3,
      learner_steps=100,
      arm=arm,
      split=split,
      demonstrations=demonstrations,
      terms=('arm', 'brick'),
    )
    evaluation.append_rows(str(path), rows)

  append([], 'zero', 'train')
  assert not path.exists()
  append(episodes, 'zero', 'train')
  append(episodes[:1], 'bc', 'valid')
  # Of an arm that follows none there is no reward.
  alone = evaluation.Episode(1, 70, math.nan, True, 70, {}, math.nan, 31.5)
  append([alone], 'd4pg', 'valid')
  assert path.read_text().split() == [
    'seed,learner_steps,arm,demonstration,skill,split,steps,completed,success,'
    'solved,reward/arm,reward/brick,total,return',
    '3,100,zero,demo_1,skill_1,train,120,0.6667,1,90,0.12346,1.0,0.5,nan',
    '3,100,zero,demo_0,skill_0,train,80,1.0,0,nan,0.0,0.25,0.125,nan',
    '3,100,bc,demo_1,skill_1,valid,120,0.6667,1,90,0.12346,1.0,0.5,nan',
    '3,100,d4pg,demo_1,skill_1,valid,70,nan,1,70,nan,nan,nan,31.5',
  ]
  assert evaluation.measured(str(path)) == {
    ('zero', 'train', 'demo_1'),
    ('zero', 'train', 'demo_0'),
    ('bc', 'valid', 'demo_1'),
    ('d4pg', 'valid', 'demo_1'),
  }


def test_rows_are_appended_all_or_none(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'evaluation.csv'
  evaluation.append_rows(str(path), [{'arm': 'zero', 'total': 0.5}])
  before = path.read_bytes()
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
  try:
    with pytest.raises(OSError, match='File too large'):
      evaluation.append_rows(str(path), [{'arm': 'replay', 'total': 1.0}] * 3)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert path.read_bytes() == before
  evaluation.append_rows(str(path), [{'arm': 'replay', 'total': 1.0}])
  assert path.read_text().split() == ['arm,total', 'zero,0.5', 'replay,1.0']


def test_a_row_within_which_a_process_died_is_removed(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'evaluation.csv'
  evaluation.append_rows(str(path), [{'arm': 'zero', 'total': 0.5}])
  path.write_text(path.read_text() + 'repl')
  evaluation.append_rows(str(path), [{'arm': 'tracker', 'total': 1.0}])
  assert path.read_text().split() == ['arm,total', 'zero,0.5', 'tracker,1.0']
  path.write_text('ar')
  evaluation.append_rows(str(path), [{'arm': 'tracker', 'total': 1.0}])
  assert path.read_text().split() == ['arm,total', 'tracker,1.0']


def test_a_row_within_which_a_process_died_is_not_measured(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / 'evaluation.csv'
  path.write_text(
    'arm,split,demonstration,total\nzero,valid,demo_0,1\nzero,valid,demo_1,0'
  )
  assert evaluation.measured(str(path)) == {('zero', 'valid', 'demo_0')}
  assert path.read_text().endswith('demo_0,1\n')


def test_rows_of_other_columns_are_not_appended(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'evaluation.csv'
  evaluation.append_rows(str(path), [{'arm': 'zero', 'total': 0.5}])
  before = path.read_text()
  with pytest.raises(ValueError) as e:
    evaluation.append_rows(str(path), [{'arm': 'zero', 'solved': 3, 'total': 0.5}])
  assert str(e.value) == (
    f"{path}: has the columns ['arm', 'total']; expected ['arm', 'solved', 'total']"
  )
  assert path.read_text() == before
