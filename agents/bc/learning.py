"""The behavioural cloning learner."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import acme
import numpy as np
import sonnet as snt
import tensorflow as tf

from agents import updates
from agents.bc import losses
from metamimic import config as config_lib
from metamimic.demonstrations import types

Tensors = Mapping[str, Any]


class BCLearner(acme.Learner):
  """Regresses the demonstrators' actions on observation and goal.

  One call of `step` does `config.steps_per_call` updates in one compiled graph.
  """

  def __init__(
    self,
    embed: Callable[[Tensors], tf.Tensor],
    policy: snt.Module,
    dataset: Iterator[Tensors],
    config: config_lib.BCConfig,
  ):
    """Takes a network whose variables exist.

    Args:
      embed: observation -> features, (B, F); nothing in it is learned.
      policy: features -> action.
      dataset: yields batches of `steps_per_call * batch_size` frames; see `frames`.
      config: hyperparameters.
    """
    self._embed = embed
    self._policy = policy
    self._dataset = dataset
    self._config = config
    self._optimizer = snt.optimizers.Adam(config.learning_rate)
    self._num_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
    self._optimizer._initialize(policy.trainable_variables)
    self._updates = tf.function(self._many_updates, autograph=False, jit_compile=True)

  @property
  def num_steps(self) -> int:
    """Updates done so far, earlier runs of a resumed one included."""
    return int(self._num_steps.numpy())

  def step(self) -> dict[str, float]:
    """Does `steps_per_call` updates; returns their mean loss."""
    metrics = self._updates(next(self._dataset))
    return {name: float(value.numpy()) for name, value in metrics.items()}

  def get_variables(self, names: Sequence[str]) -> list[list[np.ndarray]]:
    """Returns the variables of the networks called `names` (policy)."""
    networks = {'policy': self._policy}
    return [[v.numpy() for v in networks[name].variables] for name in names]

  @property
  def state(self) -> dict[str, Any]:
    """All that a checkpoint must hold, trackable by tf.train.Checkpoint."""
    return {
      'policy': self._policy,
      'optimizer': self._optimizer,
      'num_steps': self._num_steps,
    }

  def _many_updates(self, batches: Tensors) -> dict[str, tf.Tensor]:
    config = self._config
    number = tf.constant(config.steps_per_call)
    return updates.many(self._update, ('loss',), batches, config.batch_size, number)

  def _update(self, batch: Tensors) -> dict[str, tf.Tensor]:
    features = self._embed(batch['observation'])
    variables = self._policy.trainable_variables
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(
        losses.squared_error(self._policy(features), batch['action'])
      )
    self._optimizer.apply(tape.gradient(loss, variables), variables)
    self._num_steps.assign_add(1)
    return {'loss': loss}


def frames(
  demonstrations: types.DemonstrationSet, batch_size: int, seed: int
) -> tf.data.Dataset:
  """Returns batches of frames of the training demonstrations, for ever.

  Args:
    demonstrations: loaded with their actions.
    batch_size: frames in a batch, B.
    seed: of the order.

  Returns:
    A dataset of {'observation': by group and `goal`, 'action': (B, 9)}.

  Raises:
    ActionsNotAvailable: the demonstrations have no actions.
  """
  train = [(i, demonstrations.demonstrations[i]) for i in demonstrations.train]
  observation = {
    group: np.concatenate([d.observations[group][:-1] for _, d in train])
    for group in train[0][1].observations
  }
  observation['goal'] = np.concatenate(
    [np.stack([np.full(d.num_steps, i), np.arange(d.num_steps)], 1) for i, d in train]
  ).astype(np.int32)
  action = np.concatenate([d.actions for _, d in train])
  dataset = tf.data.Dataset.from_tensor_slices(
    {'observation': observation, 'action': action}
  )
  dataset = dataset.shuffle(len(action), seed=seed, reshuffle_each_iteration=True)
  return dataset.repeat().batch(batch_size, drop_remainder=True).prefetch(2)
