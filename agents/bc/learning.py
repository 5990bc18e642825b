"""The behavioural cloning learner."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

import acme
import numpy as np
import sonnet as snt
import tensorflow as tf

from agents import off_policy
from agents import updates
from agents.bc import losses
from metamimic import config as config_lib
from metamimic import policy as policy_lib
from metamimic.demonstrations import goals
from metamimic.demonstrations import types
from metamimic.networks import pictures

Tensors = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Seeing:
  """What makes features of pictures, before the policy."""

  encoder: snt.Module
  """Learns from the same loss."""
  shift: int = 0
  """See `config.PixelsConfig`."""
  seed: int = 0
  """Of the shifts."""
  decoding: off_policy.Decoding | None = None
  """What more the encoder is taught, without hindsight, for which there is no
  experience; None: nothing."""


class BCLearner(acme.Learner):
  """Regresses the demonstrators' actions on observation and goal.

  One call of `step` does `config.steps_per_call` updates in one compiled graph.
  """

  def __init__(
    self,
    embed: Callable[[Tensors], Any],
    policy: snt.Module,
    dataset: Iterator[Tensors],
    config: config_lib.BCConfig,
    seeing: Seeing | None = None,
  ):
    """Takes networks whose variables exist.

    Args:
      embed: observation -> features, (B, F), or with pictures `pictures.Shown`; nothing
        in it is learned.
      policy: what the encoder makes of these, or features -> action.
      dataset: yields batches of `steps_per_call * batch_size` frames; see `frames`.
      config: hyperparameters.
      seeing: of pictures; None: there are none.
    """
    self._embed = embed
    self._policy = policy
    self._dataset = dataset
    self._config = config
    self._seeing = seeing or Seeing(pictures.NoEncoder())
    self._metrics: tuple[str, ...] = ('loss',)
    if self._seeing.decoding is not None:
      self._metrics += ('decoding_error',)
    self._optimizer = snt.optimizers.Adam(config.learning_rate)
    self._num_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
    self._optimizer._initialize(self._learned)
    # For convolutions XLA's code for processors is the slower one.
    self._updates = tf.function(
      self._many_updates, autograph=False, jit_compile=seeing is None
    )

  @property
  def _learned(self) -> tuple[tf.Variable, ...]:
    encoder = self._seeing.encoder.trainable_variables
    return (*self._policy.trainable_variables, *encoder)

  @property
  def num_steps(self) -> int:
    """Updates done so far, earlier runs of a resumed one included."""
    return int(self._num_steps.numpy())

  @property
  def reset_step(self) -> int:
    """Nought, because it never begins anew."""
    return 0

  def step(self, most: int | None = None) -> dict[str, float]:
    """Does `steps_per_call` updates.

    Args:
      most: updates to do, if that is fewer.

    Returns:
      Their mean loss, and the error of an encoder that decodes.
    """
    number = updates.number(self._config.steps_per_call, most)
    metrics = self._updates(next(self._dataset), number)
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
      'encoder': self._seeing.encoder,
      'optimizer': self._optimizer,
      'num_steps': self._num_steps,
    }

  def _many_updates(self, batches: Tensors, number: tf.Tensor) -> dict[str, tf.Tensor]:
    size = self._config.batch_size
    return updates.many(self._update, self._metrics, batches, size, number)

  def _update(self, batch: Tensors) -> dict[str, tf.Tensor]:
    seeing, observation = self._seeing, batch['observation']
    seed = tf.stack([self._num_steps, tf.constant(seeing.seed, tf.int64)])
    seen = pictures.look(self._embed(observation), seeing.shift, seed)
    with tf.GradientTape() as tape:
      features, decoded = seeing.encoder.decode(seen)
      loss = tf.reduce_mean(
        losses.squared_error(self._policy(features), batch['action'])
      )
      total, metrics = loss, {'loss': loss}
      if seeing.decoding is not None:
        error = tf.reduce_mean(tf.abs(decoded - seeing.decoding.told(observation)))
        total += seeing.decoding.weight * error
        metrics['decoding_error'] = error
    self._optimizer.apply(tape.gradient(total, self._learned), self._learned)
    self._num_steps.assign_add(1)
    return metrics


def frames(
  demonstrations: types.DemonstrationSet,
  groups: Collection[str],
  batch_size: int,
  seed: int,
) -> tf.data.Dataset:
  """Returns batches of frames of the training demonstrations, for ever.

  Args:
    demonstrations: loaded with their actions.
    groups: of observations; see `with_pictures` for pictures.
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
    for group in groups
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


def with_pictures(
  dataset: tf.data.Dataset, bank: goals.PictureBank, look_ahead: Sequence[int]
) -> tf.data.Dataset:
  """Returns the dataset with what is seen at each frame, and what is shown of later.

  Args:
    dataset: of `frames`.
    bank: the demonstrations' pictures.
    look_ahead: control steps ahead, K of them; none: nothing is shown.

  Returns:
    With `pixels`, (B, height, width, C) uint8, and `goal_pixels`, (B, K, height, width,
    C), in the observation.
  """
  # What is seen is zero steps ahead.
  ahead = (0, *look_ahead)

  def look_up(goal: np.ndarray) -> np.ndarray:
    return bank.lookup(goal, ahead)

  def add(batch: Tensors) -> Tensors:
    observation = batch['observation']
    found = tf.numpy_function(look_up, [observation['goal']], tf.uint8, stateful=False)
    found = tf.ensure_shape(found, [None, len(ahead), *bank.shape])
    seen = {policy_lib.PIXELS: found[:, 0]}
    if look_ahead:
      seen[policy_lib.GOAL_PIXELS] = found[:, 1:]
    return {**batch, 'observation': {**observation, **seen}}

  return dataset.map(add).prefetch(2)
