"""Tests of metamimic.demonstrations.experts."""

import math

import numpy as np
import pytest

from envs import tasks
from metamimic.demonstrations import experts
from metamimic.demonstrations import recording
from metamimic.demonstrations import types

_VALUES = ('speed', 'hover', 'lift', 'pre_shape', 'close_steps', 'detour')


@pytest.mark.parametrize('value', _VALUES)
def test_held_out_styles_lie_outside_of_the_training_range(value: str) -> None:
  ((train_low, train_high),) = getattr(experts.TRAIN_RANGE, value)
  for low, high in getattr(experts.HELD_OUT_RANGE, value):
    assert low < high
    assert high <= train_low or low >= train_high


@pytest.mark.parametrize('split', ['train', 'valid'])
def test_samples_lie_in_their_range_and_reach_every_interval(split: str) -> None:
  rng = np.random.default_rng(0)
  styles = [experts.RANGES[split].sample(rng) for _ in range(200)]
  for value in _VALUES:
    samples = np.array([getattr(style, value) for style in styles])
    inside = [
      (low <= samples) & (samples <= high)
      for low, high in getattr(experts.RANGES[split], value)
    ]
    assert np.logical_or.reduce(inside).all()
    assert all(part.any() for part in inside)


def test_every_task_has_an_expert() -> None:
  assert set(experts.EXPERTS) == set(tasks.TASKS)


def _check_lift(d: types.Demonstration) -> None:
  height = d.observations['objects'][:, 2]
  assert height[0] < 0.01
  assert 0.14 < height[-1] < 0.30


def _check_reach(d: types.Demonstration) -> None:
  pinch = d.observations['body'][-1, 24:27]
  duplo = d.observations['objects'][-1, :3]
  assert np.linalg.norm(pinch - duplo - [0, 0, 0.015]) < 0.02
  assert np.linalg.norm(duplo - d.observations['objects'][0, :3]) < 0.02


def _check_stack(d: types.Demonstration) -> None:
  objects = d.observations['objects']
  x, y, z = objects[-1, 13:16] - objects[-1, :3]
  assert math.hypot(x, y) < 0.015
  assert 0.016 < z < 0.027
  assert abs(objects[-1, 20:23]).max() < 0.01  # it lies still


_CHECKS = {
  'lift_brick': _check_lift,
  'reach_duplo': _check_reach,
  'stack_2_bricks': _check_stack,
}


@pytest.mark.parametrize('task', sorted(experts.EXPERTS))
def test_expert_succeeds(task: str) -> None:
  demonstrations, tally = recording.record(task, train=4, valid=4, seed=0)
  assert tally.rejections.total() <= 1
  for d in demonstrations.demonstrations:
    assert d.success
    assert 20 < d.num_steps <= tasks.get(task).max_steps
    _CHECKS[task](d)
