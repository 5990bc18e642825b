"""What learners that sample replay have in common."""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

from absl import logging
import acme
import numpy as np
import sonnet as snt
import tensorflow as tf

from agents import updates
from metamimic import config as config_lib
from metamimic.networks import pictures

Tensors = Mapping[str, Any]
Network = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Decoding:
  """What an encoder is taught beside what the critic's loss teaches it; ours.

  And whether the critic is told that, which need not see it to act.
  """

  weight: float
  """Of the mean absolute error, beside the critic's loss."""
  told: Callable[[Tensors], tf.Tensor]
  """Observation -> what is to be decoded of it, (B, K, D)."""
  hindsight: Callable[[Tensors, Tensors], tuple[Any, tf.Tensor]]
  """Observation and the one n steps later -> inputs that have that as their goal, and
  what is to be decoded of them."""
  tells_critic: bool = False
  """Whether the critic is given what is so, and not what was decoded."""


@dataclasses.dataclass(frozen=True)
class Encoders:
  """What makes features of pictures, before policy and critic.

  The loss of critic or value, and not of the policy, decides what these learn, and both
  networks have them in common. (Ours, after Yarats et al. 2021.)
  """

  online: snt.Module
  """Learns."""
  target: snt.Module
  """Follows it; overwritten with its weights at first."""
  averaged: snt.Module | None = None
  """One more, if the configuration asks for the average."""
  shift: int = 0
  """See `config.PixelsConfig`."""
  decoding: Decoding | None = None
  """What more `online` is taught; None: nothing."""


class OffPolicyLearner(acme.Learner):
  """Learns a policy and what judges it from n-step transitions.

  One call of `step` does `config.steps_per_call` updates in one compiled graph. What an
  update is, a subclass says.
  """

  def __init__(
    self,
    embed: Callable[[Tensors], Any],
    learned: Mapping[str, snt.Module],
    targets: Mapping[str, snt.Module],
    atoms: tf.Tensor,
    dataset: Iterator[Any],
    unpack: Callable[[Any], Tensors],
    config: config_lib.D4PGConfig,
    reward: str,
    seed: int,
    averaged_policy: snt.Module | None,
    encoders: Encoders | None,
    reset_after: int,
    metrics: Sequence[str],
  ):
    """Takes networks whose variables exist.

    Args:
      embed: observation -> features, (B, F), or with encoders `pictures.Shown`;
        nothing in it is learned.
      learned: networks by name: `policy`, and others, which learn at the critic's rate.
      targets: what follows some of these, by the same names; overwritten with their
        weights.
      atoms: support of distributions of the return, (N,).
      dataset: yields `steps_per_call * batch_size` packed transitions.
      unpack: packed transitions -> batch, as `agents.replay` describes it.
      config: hyperparameters.
      reward: which reward and discount of a transition to learn from.
      seed: of what is random in updates.
      averaged_policy: one more policy, if the configuration asks for the average.
      encoders: of pictures; None: there are none.
      reset_after: updates after which, once, all that is learned begins anew; 0: never.
        Where a learner that goes on is further and has not, it does not any more.
      metrics: names of what an update returns.
    """
    self._embed = embed
    self._networks = dict(learned)
    self._targets = dict(targets)
    self._averaged_policy = averaged_policy
    self._encoders = encoders or Encoders(
      pictures.NoEncoder(), pictures.NoEncoder(), pictures.NoEncoder()
    )
    self._atoms = atoms
    self._dataset = dataset
    self._unpack = unpack
    self._config = config
    self._reward = reward
    self._seed = tf.constant(seed, tf.int64)
    self._metrics = tuple(metrics)
    rates = {
      'policy': config.policy_learning_rate,
      'encoder': config.encoder_learning_rate,
    }
    self._optimizers = {
      name: snt.optimizers.Adam(rates.get(name, config.critic_learning_rate))
      for name in self._learning
    }
    self._num_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
    self._reset_after = reset_after
    self._reset_step = tf.Variable(0, dtype=tf.int64, trainable=False)
    self._at_first = self._learned_values() if reset_after else {}
    self._mix(1.0)
    # Slots exist from the start, so that a checkpoint can be restored into them and
    # so that the compiled update creates no variable.
    for name, module in self._learning.items():
      self._optimizers[name]._initialize(module.trainable_variables)
    # For convolutions XLA's code for processors is the slower one.
    self._updates = tf.function(
      self._many_updates, autograph=False, jit_compile=encoders is None
    )

  @property
  def _learning(self) -> Mapping[str, snt.Module]:
    """All that learns, by name, the encoder among it."""
    return {**self._networks, 'encoder': self._encoders.online}

  @property
  def num_steps(self) -> int:
    """Updates done so far, earlier runs of a resumed one included."""
    return int(self._num_steps.numpy())

  @property
  def reset_step(self) -> int:
    """Updates after which all that is learned began anew; 0: it has not."""
    return int(self._reset_step.numpy())

  def step(self, most: int | None = None) -> dict[str, float]:
    """Does `steps_per_call` updates; returns the means of what they report.

    Where a reset is due they are fewer, and then all that is learned begins anew.

    Args:
      most: updates to do, if that is fewer; what more was sampled is left.
    """
    left = self._reset_after - self.num_steps
    due = left > 0 and not self.reset_step
    if due:
      most = left if most is None else min(left, most)
    number = updates.number(self._config.steps_per_call, most)
    metrics = self._updates(next(self._dataset), number)
    if due and self.num_steps == self._reset_after:
      self._reset()
    return {name: float(value.numpy()) for name, value in metrics.items()}

  def _learned_values(self) -> dict[str, list[np.ndarray]]:
    return {
      name: [v.numpy() for v in module.variables]
      for name, module in self._learning.items()
    }

  def _reset(self) -> None:
    """Makes all that is learned, and averages of it, what they were at first."""
    logging.info('learning begins anew after %d steps', self.num_steps)
    self._reset_step.assign(self._num_steps)
    for name, values in self._at_first.items():
      for variable, value in zip(self._learning[name].variables, values, strict=True):
        variable.assign(value)
      for variable in self._optimizers[name].variables:
        variable.assign(tf.zeros_like(variable))
    self._mix(1.0)
    if self._averaged_policy is not None:
      _copy(self._networks['policy'], self._averaged_policy)
      if self._encoders.averaged is not None:
        _copy(self._encoders.online, self._encoders.averaged)

  def compile(self, batches: Any) -> None:
    """Compiles the update, which takes seconds, and does none.

    Args:
      batches: of the shapes that the dataset will yield.
    """
    self._updates(batches, tf.constant(0))

  def get_variables(self, names: Sequence[str]) -> list[list[np.ndarray]]:
    """Returns the variables of the networks called `names`."""
    return [[v.numpy() for v in self._networks[name].variables] for name in names]

  @property
  def state(self) -> dict[str, Any]:
    """All that a checkpoint must hold, trackable by tf.train.Checkpoint."""
    averaged, encoders = self._averaged_policy, self._encoders
    return {
      **(
        {'averaged_policy': averaged, 'averaged_encoder': encoders.averaged}
        if averaged is not None
        else {}
      ),
      **self._learning,
      **{f'target_{name}': target for name, target in self._targets.items()},
      'target_encoder': encoders.target,
      **{f'{name}_optimizer': adam for name, adam in self._optimizers.items()},
      'num_steps': self._num_steps,
      'reset_step': self._reset_step,
    }

  def _many_updates(self, batches: Any, number: tf.Tensor) -> dict[str, tf.Tensor]:
    return updates.many(
      lambda batch: self._update(self._unpack(batch)),
      self._metrics,
      batches,
      self._config.batch_size,
      number,
    )

  @abc.abstractmethod
  def _update(self, batch: Tensors) -> dict[str, tf.Tensor]:
    """Does one update; returns the metrics."""

  def _finish(self, gradients: Mapping[str, Sequence[tf.Tensor]]) -> None:
    """Makes a step along gradients by name, and draws what follows after it."""
    for name, of in gradients.items():
      variables = self._learning[name].trainable_variables
      if not variables:
        continue
      if self._config.gradient_clip:
        of, _ = tf.clip_by_global_norm(of, self._config.gradient_clip)
      self._optimizers[name].apply(of, variables)
    self._num_steps.assign_add(1)
    self._follow()

  def _follow(self) -> None:
    """Draws targets and averages towards what has been learned."""
    if self._averaged_policy is not None:
      # The mean of all since learning began, or began anew, until there are as many as
      # it is to span.
      steps = self._num_steps - self._reset_step
      share = tf.cast(tf.minimum(steps, self._config.averaged_steps), tf.float32)
      policy = self._networks['policy']
      updates.mix(policy.variables, self._averaged_policy.variables, 1 / share)
      encoders = self._encoders
      if encoders.averaged is not None:
        updates.mix(encoders.online.variables, encoders.averaged.variables, 1 / share)
    if self._config.target_update_period == 1:
      self._mix(self._config.target_update_rate)
    else:
      tf.cond(
        self._num_steps % self._config.target_update_period == 0,
        lambda: self._mix(self._config.target_update_rate),
        lambda: None,
      )

  def _mix(self, rate: float) -> None:
    pairs = [(self._networks[name], target) for name, target in self._targets.items()]
    pairs.append((self._encoders.online, self._encoders.target))
    for online, target in pairs:
      if rate == 1:
        # The sum would be off by a rounding where a copy is asked for.
        _copy(online, target)
      else:
        updates.mix(online.variables, target.variables, rate)

  def _look(self, shown: Any, stream: int) -> Any:
    """Returns what is seen of what is shown; each stream is shifted in its own way."""
    seed = tf.stack([self._num_steps, self._seed + stream])
    return pictures.look(shown, self._encoders.shift, seed)


def _copy(module: snt.Module, to: snt.Module) -> None:
  for source, destination in zip(module.variables, to.variables, strict=True):
    destination.assign(source)
