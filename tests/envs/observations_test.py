"""Tests of envs.observations."""

import dm_env
import numpy as np
import pytest

from envs import observations
from envs import tasks

_STACK = observations.Layout(('base', 'top'))


def test_fields_lie_where_they_always_did() -> None:
  # Demonstration files and trained policies rely on these numbers.
  assert {
    name: (field.group, field.slice.start, field.slice.stop)
    for name, field in _STACK.fields.items()
  } == {
    'arm_cos': ('body', 0, 6),
    'arm_sin': ('body', 6, 12),
    'fingers': ('body', 12, 15),
    'arm_velocity': ('body', 15, 21),
    'finger_velocity': ('body', 21, 24),
    'pinch_position': ('body', 24, 27),
    'pinch_rotation': ('body', 27, 33),
    'base/position': ('objects', 0, 3),
    'base/orientation': ('objects', 3, 7),
    'base/velocity': ('objects', 7, 10),
    'base/angular_velocity': ('objects', 10, 13),
    'top/position': ('objects', 13, 16),
    'top/orientation': ('objects', 16, 20),
    'top/velocity': ('objects', 20, 23),
    'top/angular_velocity': ('objects', 23, 26),
  }


def test_fields_cover_each_group_once() -> None:
  for group, size in _STACK.sizes.items():
    numbers: list[int] = []
    for field in _STACK.fields.values():
      if field.group == group:
        numbers += range(field.slice.start, field.slice.stop)
    assert numbers == list(range(size))


def test_spec_has_float32_vectors() -> None:
  spec = _STACK.spec()
  assert {k: (v.shape, v.dtype, v.name) for k, v in spec.items()} == {
    'body': ((33,), np.float32, 'body'),
    'objects': ((26,), np.float32, 'objects'),
  }


@pytest.mark.parametrize('name', sorted(tasks.TASKS))
def test_body_is_the_same_for_every_task(name: str) -> None:
  layout = observations.Layout(tasks.get(name).objects)
  assert layout.sizes == {'body': 33, 'objects': 13 * len(layout.objects)}
  assert layout.spec()['body'] == _STACK.spec()['body']


def test_without_objects_there_is_no_group_of_them() -> None:
  layout = observations.Layout(())
  assert layout.sizes == {'body': 33}
  assert list(layout.spec()) == ['body']
  assert {field.group for field in layout.fields.values()} == {'body'}
  with pytest.raises(ValueError, match="no field 'brick/position' in the observation"):
    layout.field('brick/position')


def test_get_returns_a_view() -> None:
  observation = {'body': np.zeros(33), 'objects': np.arange(26.0)}
  view = _STACK.get(observation, 'top/position')
  np.testing.assert_array_equal(view, [13, 14, 15])
  view[:] = -1
  np.testing.assert_array_equal(observation['objects'][13:16], [-1, -1, -1])


def test_get_works_on_batches() -> None:
  batch = {'body': np.arange(4 * 5 * 33).reshape(4, 5, 33), 'objects': np.zeros(0)}
  fingers = _STACK.get(batch, 'fingers')
  assert fingers.shape == (4, 5, 3)
  np.testing.assert_array_equal(fingers[2, 1], 33 * (2 * 5 + 1) + np.arange(12, 15))


def test_unknown_field_is_refused() -> None:
  with pytest.raises(ValueError) as info:
    _STACK.field('brick/position')
  assert str(info.value).startswith(
    "no field 'brick/position' in the observation; there are ['arm_cos', 'arm_sin'"
  )
  assert "'top/angular_velocity']" in str(info.value)


def test_restart_has_neither_reward_nor_discount() -> None:
  observation = {'body': np.zeros(33, np.float32)}
  timestep = observations.restart(observation)
  assert timestep == dm_env.TimeStep(dm_env.StepType.FIRST, None, None, observation)
