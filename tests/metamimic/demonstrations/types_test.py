"""Tests of metamimic.demonstrations.types."""

from collections.abc import Callable, Sequence
import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest

from metamimic.demonstrations import types


def _arguments(**changes: Any) -> dict[str, Any]:
  arguments: dict[str, Any] = dict(
    name='demo_0',
    task='lift_brick',
    skill='lift',
    observations={
      'body': np.arange(8, dtype=np.float32).reshape(4, 2),
      'objects': np.ones((4, 1), np.float32),
    },
    states=np.arange(12, dtype=np.float64).reshape(4, 3),
    actions=np.array([[-1.0], [0.0], [1.0]], np.float32),
    expert={'speed': 0.5},
  )
  return arguments | changes


def _with(array: np.ndarray, index: Any, value: float) -> np.ndarray:
  changed = np.array(array)
  changed[index] = value
  return changed


def _demonstration(**changes: Any) -> types.Demonstration:
  return types.Demonstration(**_arguments(**changes))


def test_holds_what_it_was_given() -> None:
  d = _demonstration(rewards=np.array([0, 0, 1], np.float32))
  assert (d.name, d.task, d.skill) == ('demo_0', 'lift_brick', 'lift')
  assert d.num_steps == 3
  np.testing.assert_array_equal(d.observations['body'][3], [6, 7])
  np.testing.assert_array_equal(d.states[1], [3, 4, 5])
  np.testing.assert_array_equal(d.actions[:, 0], [-1, 0, 1])
  assert d.expert == {'speed': 0.5}
  assert d.success


def test_without_rewards_it_is_no_success() -> None:
  d = _demonstration()
  np.testing.assert_array_equal(d.rewards, np.zeros(3, np.float32))
  assert not d.success


def test_reading_actions_that_were_not_loaded_is_an_error() -> None:
  d = _demonstration(actions=None)
  assert not d.has_actions
  with pytest.raises(types.ActionsNotAvailable) as e:
    _ = d.actions
  assert str(e.value).startswith("demo_0: the demonstrator's actions were not loaded")
  assert 'with_actions=True' in str(e.value)


def test_a_task_that_is_not_registered_has_any_skill() -> None:
  assert _demonstration(task='juggle', skill='three_balls').skill == 'three_balls'


def test_fields_cannot_be_replaced() -> None:
  with pytest.raises(dataclasses.FrozenInstanceError):
    _demonstration().name = 'demo_1'  # type: ignore[misc]


def test_groups_and_expert_cannot_be_replaced() -> None:
  d = _demonstration()
  with pytest.raises(TypeError):
    d.observations['body'] = np.zeros(3)  # type: ignore[index]
  with pytest.raises(TypeError):
    d.expert['speed'] = 1.0  # type: ignore[index]


def test_arrays_are_read_only_copies() -> None:
  states = _arguments()['states']
  d = _demonstration(states=states)
  states[0, 0] = 7.0
  assert d.states[0, 0] == 0.0
  for array in (d.states, d.rewards, d.actions, *d.observations.values()):
    with pytest.raises(ValueError, match='read-only'):
      array[0] = 1.0


@pytest.mark.parametrize(
  'duplicate', [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))]
)
@pytest.mark.parametrize('actions', [None, np.zeros((3, 1), np.float32)])
def test_copies_are_equal_and_as_protected(
  duplicate: Callable[[types.Demonstration], types.Demonstration],
  actions: np.ndarray | None,
) -> None:
  d = _demonstration(actions=actions, rewards=np.array([0, 1, 1], np.float32))
  other = duplicate(d)
  assert (
    other.name,
    other.task,
    other.skill,
    other.has_actions,
    dict(other.expert),
  ) == (
    d.name,
    d.task,
    d.skill,
    d.has_actions,
    dict(d.expert),
  )
  np.testing.assert_array_equal(other.states, d.states)
  np.testing.assert_array_equal(other.rewards, d.rewards)
  assert list(other.observations) == ['body', 'objects']
  assert not other.states.flags.writeable


_BODY = _arguments()['observations']['body']
_STATES = _arguments()['states']
_ACTIONS = _arguments()['actions']


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(skill='reach'), "demo_0: skill is 'reach'; expected one of ['lift']"),
    (
      dict(task='two_bricks', skill='juggle'),
      "demo_0: skill is 'juggle'; expected one of ['reach', 'push', 'lift_top', "
      "'lift_base', 'beside', 'unstack', 'wave', 'stack']",
    ),
    (
      dict(observations={}),
      'demo_0: observations has no groups; expected at least one',
    ),
    (
      dict(observations={'body': _BODY[:3]}),
      "demo_0: observations['body'] has length 3; expected 4, as states has",
    ),
    (
      dict(observations={'body': _BODY.astype(np.float64)}),
      "demo_0: observations['body'] is float64; expected float32",
    ),
    (
      dict(observations={'body': _BODY.tolist()}),
      "demo_0: observations['body'] is a list; expected a NumPy array",
    ),
    (
      dict(observations={'body': _with(_BODY, (2, 1), np.nan)}),
      "demo_0: observations['body'] holds NaN or infinity at step 2; expected "
      'finite numbers',
    ),
    (
      dict(observations={'body': _BODY[:, 0]}),
      "demo_0: observations['body'] has shape (4,); expected 2 axes and no empty one",
    ),
    (
      dict(observations={'body': _BODY[:, :0]}),
      "demo_0: observations['body'] has shape (4, 0); expected 2 axes and no empty one",
    ),
    (
      dict(states=_STATES.astype(np.float32)),
      'demo_0: states is float32; expected float64',
    ),
    (dict(states=_STATES[:1]), 'demo_0: states has length 1; expected 2 or more'),
    (
      dict(states=_with(_STATES, 3, np.inf)),
      'demo_0: states holds NaN or infinity at step 3; expected finite numbers',
    ),
    (
      dict(actions=_ACTIONS[:2]),
      'demo_0: actions has length 2; expected 3, one fewer than states has',
    ),
    (
      dict(actions=_ACTIONS.astype(np.float64)),
      'demo_0: actions is float64; expected float32',
    ),
    (
      dict(actions=_ACTIONS * 1.5),
      'demo_0: actions reach from -1.5 to 1.5; expected [-1, 1]',
    ),
    (
      dict(actions=_with(_ACTIONS, 1, np.nan)),
      'demo_0: actions holds NaN or infinity at step 1; expected finite numbers',
    ),
    (
      dict(rewards=np.zeros(4, np.float32)),
      'demo_0: rewards has length 4; expected 3, one fewer than states has',
    ),
    (
      dict(rewards=np.array([0, 1, -0.5], np.float32)),
      "demo_0: rewards hold -0.5; expected 0 or 1, the task's sparse reward",
    ),
    (
      dict(expert={'speed': np.float32(1)}),
      'demo_0: expert holds Object of type float32 is not JSON serializable; expected '
      'JSON values',
    ),
  ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError) as e:
    _demonstration(**changes)
  assert str(e.value) == message


def _set(
  changes: Sequence[dict[str, Any]] = ({}, {}),
  train: tuple[int, ...] = (0,),
  valid: tuple[int, ...] = (1,),
  task: str = 'lift_brick',
  novel: tuple[int, ...] = (),
) -> types.DemonstrationSet:
  return types.DemonstrationSet(
    task=task,
    demonstrations=tuple(
      _demonstration(**({'name': f'demo_{i}'} | change))
      for i, change in enumerate(changes)
    ),
    train=train,
    valid=valid,
    novel=novel,
  )


def test_set_splits() -> None:
  s = _set(({}, {}, {}), train=(0, 2), valid=(1,))
  assert [d.name for d in s.split('train')] == ['demo_0', 'demo_2']
  assert [d.name for d in s.split('valid')] == ['demo_1']
  assert s.widths == {'body': 2, 'objects': 1}
  assert s.has_actions


def _skills() -> types.DemonstrationSet:
  """Returns two of each skill to learn from, and one held out."""
  skills = ('push', 'wave', 'stack') * 3
  return _set(
    [{'task': 'two_bricks', 'skill': skill} for skill in skills],
    train=(0, 1, 2, 3, 4, 5),
    valid=(6, 7, 8),
    task='two_bricks',
  )


def _named(s: types.DemonstrationSet) -> dict[str, list[str]]:
  return {split: [d.name[5:] for d in s.split(split)] for split in types.SPLITS}


def test_skills_are_kept_from_training_and_held_out_apart() -> None:
  apart = _skills().without(['push', 'stack'])
  assert _named(apart) == {
    'train': ['1', '4'],
    'valid': ['7'],
    'novel': ['6', '8'],
  }
  assert {d.skill for d in apart.split('train')} == {'wave'}
  assert len(apart.demonstrations) == 5
  # Once set aside, they do not come back.
  assert _named(apart.without(['push'])) == _named(apart)


def test_fewer_training_demonstrations_are_the_first() -> None:
  fewer = _skills().without(['push']).with_fewer(3)
  assert _named(fewer) == {
    'train': ['1', '2', '4'],
    'valid': ['7', '8'],
    'novel': ['6'],
  }


def test_what_a_set_cannot_do_without_is_refused() -> None:
  with pytest.raises(ValueError) as e:
    _skills().without(['juggle'])
  assert str(e.value) == (
    "no demonstration of 'juggle'; there are ('push', 'wave', 'stack')"
  )
  with pytest.raises(ValueError) as e:
    _skills().with_fewer(7)
  assert str(e.value) == '6 training demonstrations; expected 7'


def test_set_has_actions_only_if_all_have() -> None:
  assert not _set(({}, {'actions': None})).has_actions


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(changes=()), 'demonstrations is empty; expected at least one'),
    (
      dict(changes=({}, {'name': 'demo_0'})),
      'demo_0: the name is used 2 times; expected once',
    ),
    (
      dict(changes=({}, {'task': 'reach_duplo', 'skill': 'reach'})),
      "demo_1: task is 'reach_duplo'; expected 'lift_brick'",
    ),
    (
      dict(changes=({}, {'observations': {'body': _BODY}})),
      'demo_1: observations has body 2; expected body 2, objects 1, as demo_0 has',
    ),
    (
      dict(changes=({}, {'states': _STATES[:, :2]})),
      'demo_1: states has width 2; expected width 3, as demo_0 has',
    ),
    (
      dict(changes=({}, {'actions': np.zeros((3, 2), np.float32)})),
      'demo_1: actions has width 2; expected width 1, as demo_0 has',
    ),
    (dict(train=(0, 2)), 'train holds id 2; expected ids from 0 to 1'),
    (dict(valid=(-1,)), 'valid holds id -1; expected ids from 0 to 1'),
    (
      dict(valid=(0, 1)),
      'demo_0: it is 2 times in train and valid; expected exactly once',
    ),
    (dict(novel=(3,)), 'novel holds id 3; expected ids from 0 to 1'),
    (dict(valid=()), 'demo_1: it is in neither train nor valid; expected exactly once'),
  ],
)
def test_set_refuses(changes: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError) as e:
    _set(**changes)
  assert str(e.value) == message
