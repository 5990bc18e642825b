"""Tests of metamimic.demonstrations.recording."""

import collections
from collections.abc import Callable, Iterator
import os
import signal
import time

import numpy as np
import pytest

from envs import stepping
from envs import tasks
from metamimic.demonstrations import experts
from metamimic.demonstrations import recording
from metamimic.demonstrations import skills
from metamimic.demonstrations import types


@pytest.fixture(name='env', scope='module')
def env_fixture() -> Iterator[stepping.ManipulationEnvironment]:
  env = tasks.load('reach_duplo', seed=3)
  yield env
  env.close()


def _assert_equal(a: types.Demonstration, b: types.Demonstration) -> None:
  assert (a.name, a.task, a.skill) == (b.name, b.task, b.skill)
  assert dict(a.expert) == dict(b.expert)
  np.testing.assert_array_equal(a.states, b.states)
  np.testing.assert_array_equal(a.actions, b.actions)
  np.testing.assert_array_equal(a.rewards, b.rewards)
  for group, values in a.observations.items():
    np.testing.assert_array_equal(values, b.observations[group])


def test_the_number_of_processes_changes_nothing() -> None:
  one, tally = recording.record('reach_duplo', 3, 2, seed=5, processes=1)
  two, _ = recording.record('reach_duplo', 3, 2, seed=5, processes=2)
  assert [d.name for d in one.demonstrations] == [f'demo_{i}' for i in range(5)]
  assert (one.train, one.valid) == ((0, 1, 2), (3, 4))
  assert (two.train, two.valid) == (one.train, one.valid)
  for a, b in zip(one.demonstrations, two.demonstrations, strict=True):
    _assert_equal(a, b)
  assert tally.kept == 5
  assert sorted(tally.steps) == sorted(d.num_steps for d in one.demonstrations)


def test_seed_split_and_number_make_a_difference(
  env: stepping.ManipulationEnvironment,
) -> None:
  starts = set()
  for seed, split, number in (
    (0, 'train', 0),
    (1, 'train', 0),
    (0, 'valid', 0),
    (0, 'train', 1),
  ):
    outcome = recording.record_one(env, 'demo_0', split, 'reach', seed, number, 4)
    assert outcome.demonstration is not None
    starts.add(outcome.demonstration.states[0].tobytes())
  assert len(starts) == 4


def test_styles_come_from_the_range_of_the_split(
  env: stepping.ManipulationEnvironment,
) -> None:
  for split, (low, high) in (('train', (0.03, 0.07)), ('valid', (0.07, 0.10))):
    outcome = recording.record_one(env, 'demo_0', split, 'reach', 0, 0, 4)
    assert outcome.demonstration is not None
    assert low <= outcome.demonstration.expert['detour'] <= high


def test_recorded_actions_lead_through_the_recorded_states(
  env: stepping.ManipulationEnvironment,
) -> None:
  d = recording.record_one(env, 'demo_0', 'train', 'reach', 0, 7, 4).demonstration
  assert d is not None
  observation = env.set_state(d.states[0])
  for step in range(d.num_steps):
    for group, values in d.observations.items():
      np.testing.assert_array_equal(observation[group], values[step])
    observation = env.advance(d.actions[step])
    np.testing.assert_array_equal(env.get_state(), d.states[step + 1])
    assert d.rewards[step] == env.succeeded
  np.testing.assert_array_equal(observation['body'], d.observations['body'][-1])


def _use_expert(
  monkeypatch: pytest.MonkeyPatch, act: Callable[[skills.Hand], skills.Actions]
) -> None:
  all_experts = {'reach_duplo': {'reach': experts.Expert(act)}}
  monkeypatch.setattr(recording.experts, 'EXPERTS', all_experts)


def test_rejections_are_counted_by_reason(monkeypatch: pytest.MonkeyPatch) -> None:
  attempts = []

  def clumsy(hand: skills.Hand) -> skills.Actions:
    attempts.append(hand)
    if len(attempts) == 1:
      raise skills.SkillFailed('go down: time-out')
    if len(attempts) == 2:
      yield from hand.hold(3, None)  # ends without success
    else:
      yield from experts.reach_duplo(hand)

  _use_expert(monkeypatch, clumsy)
  seen = []
  _, tally = recording.record(
    'reach_duplo', 2, 0, seed=0, progress=lambda t: seen.append((t.kept, t.attempts))
  )
  assert tally.skills['reach'].rejections == {
    'go down: time-out': 1,
    'no success at the end': 1,
  }
  assert (tally.kept, tally.attempts) == (2, 4)
  assert seen == [(1, 3), (2, 4)]
  assert str(tally).splitlines()[1:] == [
    '  rejected 1 x go down: time-out',
    '  rejected 1 x no success at the end',
  ]
  assert str(tally).startswith('kept 2 of 4 attempts in ')


def test_an_attempt_is_no_longer_than_an_episode(
  env: stepping.ManipulationEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
  def dawdler(hand: skills.Hand) -> skills.Actions:
    while True:
      yield np.zeros(9)

  _use_expert(monkeypatch, dawdler)
  outcome = recording.record_one(env, 'demo_0', 'train', 'reach', 0, 0, max_attempts=2)
  assert outcome == recording.Outcome('reach', None, ('longer than an episode',) * 2)


def test_a_diverging_simulation_is_a_rejection(
  env: stepping.ManipulationEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
  def diverge(action: np.ndarray) -> None:
    raise RuntimeError('the simulation diverged')

  monkeypatch.setattr(env, 'advance', diverge)
  outcome = recording.record_one(env, 'demo_0', 'train', 'reach', 0, 0, max_attempts=1)
  assert outcome == recording.Outcome('reach', None, ('the simulation diverged',))


def test_attempts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
  attempts = []

  def hopeless(hand: skills.Hand) -> skills.Actions:
    attempts.append(hand)
    hand.phase = 'approach'
    yield from hand.go(lambda: np.full(3, 9.0), 0.0, None, max_steps=1)

  _use_expert(monkeypatch, hopeless)
  with pytest.raises(recording.TooManyRejections) as e:
    recording.record('reach_duplo', 2, 1, seed=0)
  assert len(attempts) == 6
  assert str(e.value).startswith(
    'reach_duplo: gave up after 6 attempts at 3 demonstrations\n'
    'kept 0 of 6 attempts in '
  )
  assert str(e.value).endswith('  rejected 6 x approach: time-out')


@pytest.mark.parametrize('split, count', [('train', 4), ('valid', 3)])
def test_skills_take_turns_in_each_split(split: str, count: int) -> None:
  wanted = ('wave', 'reach', 'push')
  shown, tally = recording.record('two_bricks', 4, 3, 0, wanted_skills=wanted)
  expected = ['wave', 'reach', 'push', 'wave'][:count]
  assert [d.skill for d in shown.split(split)] == expected
  assert all(d.success for d in shown.demonstrations)
  assert {name: len(skill.steps) for name, skill in tally.skills.items()} == {
    'wave': 3,
    'reach': 2,
    'push': 2,
  }


def test_unless_asked_for_a_few_all_skills_take_turns(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  def stub(
    env: stepping.ManipulationEnvironment, name: str, split: str, skill: str, *_: object
  ) -> recording.Outcome:
    asked.append((split, skill))
    return recording.Outcome(skill, demonstration(name, skill), ())

  def demonstration(name: str, skill: str) -> types.Demonstration:
    nothing = {'body': np.zeros((2, 33), np.float32)}
    return types.Demonstration(name, 'two_bricks', skill, nothing, np.zeros((2, 3)))

  asked: list[tuple[str, str]] = []
  monkeypatch.setattr(recording, 'record_one', stub)
  recording.record('two_bricks', 9, 2, 0)
  names = list(tasks.get('two_bricks').skills)
  assert [skill for split, skill in asked if split == 'train'] == [*names, names[0]]
  assert [skill for split, skill in asked if split == 'valid'] == names[:2]


def test_a_tally_of_several_skills_tells_about_each() -> None:
  tally = recording.Tally(
    4,
    {
      'push': recording.SkillTally([10, 20]),
      'stack': recording.SkillTally(rejections=collections.Counter({'slipped': 3})),
    },
  )
  assert str(tally).splitlines() == [
    'kept 2 of 5 attempts in 0.0 s; steps mean 15, p95 20, max 20',
    '  push: kept 2, rejected 0; steps mean 15, p95 20, max 20',
    '  stack: kept 0, rejected 3',
    '  rejected 3 x slipped',
  ]


@pytest.mark.parametrize(
  'changes, message',
  [
    (
      {'task': 'juggle'},
      "no expert for task 'juggle'; there are those of ['lift_brick', 'reach_duplo', "
      "'stack_2_bricks', 'two_bricks']",
    ),
    (
      {'wanted_skills': ('reach', 'juggle')},
      "reach_duplo has no skill 'juggle'; there are ['reach']",
    ),
    (
      {'wanted_skills': ('reach', 'reach')},
      "skills has 'reach' 2 times; expected once",
    ),
    ({'train': -1}, 'train is -1; expected 0 or more'),
    ({'valid': -1}, 'valid is -1; expected 0 or more'),
    ({'train': 0}, 'train + valid is 0; expected 1 or more'),
    ({'seed': -1}, 'seed is -1; expected 0 or more'),
    ({'processes': 0}, 'processes is 0; expected 1 or more'),
  ],
)
def test_refuses(changes: dict, message: str) -> None:
  arguments: dict = dict(task='reach_duplo', train=1, valid=0, seed=0, processes=1)
  with pytest.raises(ValueError) as e:
    recording.record(**(arguments | changes))
  assert str(e.value) == message


def test_a_signal_is_held_back_and_then_handled() -> None:
  finished = []
  with pytest.raises(KeyboardInterrupt), recording._held_back({signal.SIGINT}):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(100):
      time.sleep(1e-3)
    finished.append(True)
  assert finished
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
