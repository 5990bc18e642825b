"""Tests of behavioural cloning: agents.bc and its builder."""

from collections.abc import Iterator
import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from agents.bc import learning
from agents.bc import losses
from metamimic import config as config_lib
from metamimic import preparation
from metamimic import presets
from metamimic.demonstrations import storage
from metamimic.demonstrations import types
from metamimic.networks import policies

FEATURES, ACTIONS = 4, 9
CONFIG = config_lib.BCConfig(batch_size=32, learning_rate=3e-3, steps_per_call=10)
NETWORK = config_lib.NetworkConfig(policy_width=16)


def _demonstration(number: int, steps: int, with_actions: bool) -> types.Demonstration:
  rng = np.random.default_rng(number)
  return types.Demonstration(
    name=f'demo_{number}',
    task='lift_brick',
    skill='lift',
    observations={
      'body': rng.normal(size=(steps + 1, 33)).astype(np.float32),
      'objects': rng.normal(size=(steps + 1, 13)).astype(np.float32),
    },
    states=np.zeros((steps + 1, 3)),
    actions=rng.uniform(-1, 1, (steps, 9)).astype(np.float32) if with_actions else None,
  )


def _set(with_actions: bool = True) -> types.DemonstrationSet:
  demonstrations = [_demonstration(i, 3 + i, with_actions) for i in range(3)]
  return types.DemonstrationSet(
    'lift_brick', tuple(demonstrations), train=(0, 2), valid=(1,)
  )


def test_loss_by_hand() -> None:
  loss = losses.squared_error(
    tf.constant([[1.0, 0.5], [0.0, -1.0]]), tf.constant([[0.0, 0.0], [0.0, 1.0]])
  )
  np.testing.assert_array_equal(loss, [1.25, 4.0])


def test_loss_refuses_other_shapes() -> None:
  with pytest.raises(ValueError, match='shape'):
    losses.squared_error(tf.ones([2, 9]), tf.ones([2, 3]))


def test_learns_a_linear_rule() -> None:
  rng = np.random.default_rng(0)
  matrix = rng.normal(0, 0.3, (FEATURES, ACTIONS))

  def batch(size: int) -> dict[str, tf.Tensor]:
    seen = rng.standard_normal((size, FEATURES))
    action = np.clip(seen @ matrix, -1, 1)
    return {
      'observation': tf.constant(seen, tf.float32),
      'action': tf.constant(action, tf.float32),
    }

  def batches() -> Iterator[Any]:
    while True:
      yield batch(CONFIG.batch_size * CONFIG.steps_per_call)

  policy = policies.PolicyNetwork(ACTIONS, NETWORK)
  policy(tf.zeros([1, FEATURES]))
  learner = learning.BCLearner(lambda o: o, policy, batches(), CONFIG)
  test = batch(500)

  def loss() -> float:
    error = losses.squared_error(policy(test['observation']), test['action'])
    return float(tf.reduce_mean(error))

  before = loss()
  metrics = [learner.step() for _ in range(30)]
  assert learner.num_steps == 300
  learner.step(3)
  learner.step(11)
  assert learner.num_steps == 313
  assert loss() < 0.2 * before
  assert metrics[-1]['loss'] < 0.2 * metrics[0]['loss']


def test_frames_are_those_of_the_training_demonstrations_each_once_a_round() -> None:
  demonstrations = _set()
  # 3 + 5 training frames, in two batches.
  batches = list(
    learning.frames(demonstrations, ('body', 'objects'), 4, seed=0).take(2)
  )
  seen = []
  for batch in batches:
    for i, (number, step) in enumerate(batch['observation']['goal'].numpy()):
      demonstration = demonstrations.demonstrations[number]
      np.testing.assert_array_equal(batch['action'][i], demonstration.actions[step])
      for group, values in demonstration.observations.items():
        np.testing.assert_array_equal(batch['observation'][group][i], values[step])
      seen.append((number, step))
  assert sorted(seen) == [(0, t) for t in range(3)] + [(2, t) for t in range(5)]


def test_frames_without_actions_are_refused() -> None:
  with pytest.raises(types.ActionsNotAvailable, match='actions were not loaded'):
    learning.frames(_set(with_actions=False), ('body',), 4, seed=0)


@pytest.mark.parametrize('algorithm', ['bc', 'bc_no_goal', 'd4pgfd'])
def test_file_without_actions_is_refused_before_anything_starts(
  tmp_path: pathlib.Path, algorithm: Any
) -> None:
  path = str(tmp_path / 'lift.hdf5')
  storage.save(path, _set(with_actions=False))
  config = dataclasses.replace(
    presets.PRESETS['tiny'][1], demonstrations=path, algorithm=algorithm
  )
  with pytest.raises(ValueError) as e:
    preparation.prepare(config, str(tmp_path))
  expected = f'{path}: has no actions; the algorithm {algorithm} needs them'
  assert str(e.value) == expected
  assert [p.name for p in tmp_path.iterdir()] == ['lift.hdf5']
