"""The self-imitation learner."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import acme
import numpy as np
import sonnet as snt
import tensorflow as tf

from agents import updates
from agents.d4pg import learning as d4pg_learning
from agents.d4pg import losses as d4pg_losses
from agents.self_imitation import losses
from metamimic import config as config_lib
from metamimic.networks import pictures

Tensors = Mapping[str, Any]


class SelfImitationLearner(acme.Learner):
  """Learns to do what turned out better than expected, from n-step transitions.

  A categorical value function learns by n-step temporal differences what to expect of a
  state. Where the n steps that began with an action came to more, the policy, a mixture
  of several actions, raises the action's likelihood. No value of an action that nobody
  tried is ever asked for, so that nothing has to be kept from being overestimated.
  (Ours, after Oh et al. 2018, who regress on whole returns.)
  """

  def __init__(
    self,
    embed: Callable[[Tensors], tf.Tensor],
    policy: snt.Module,
    value: snt.Module,
    target_value: snt.Module,
    atoms: tf.Tensor,
    dataset: Iterator[Any],
    unpack: Callable[[Any], Tensors],
    config: config_lib.D4PGConfig,
    reward: str,
    seed: int = 0,
    averaged_policy: snt.Module | None = None,
    encoders: d4pg_learning.Encoders | None = None,
  ):
    """Takes networks whose variables exist.

    Args:
      embed: observation -> features, (B, F), or with encoders `pictures.Seen`; nothing
        in it is learned.
      policy: has `mixture`, features -> `policies.Mixture`.
      value: features -> acme's DiscreteValuedDistribution.
      target_value: a second one; overwritten with the first's weights.
      atoms: the value's support, (N,).
      dataset: yields `steps_per_call * batch_size` packed transitions.
      unpack: packed transitions -> batch, as `agents.replay` describes it.
      config: hyperparameters.
      reward: which reward and discount of a transition to learn from.
      seed: of the shifts of pictures.
      averaged_policy: one more policy, if the configuration asks for the average.
      encoders: of pictures; None: there are none.
    """
    self._embed = embed
    self._policy = policy
    self._value, self._target_value = value, target_value
    self._averaged_policy = averaged_policy
    self._encoders = encoders or d4pg_learning.Encoders(
      pictures.NoEncoder(), pictures.NoEncoder(), pictures.NoEncoder()
    )
    self._atoms = atoms
    self._dataset = dataset
    self._unpack = unpack
    self._config = config
    self._reward = reward
    self._seed = tf.constant(seed, tf.int64)
    self._policy_optimizer = snt.optimizers.Adam(config.policy_learning_rate)
    self._value_optimizer = snt.optimizers.Adam(config.critic_learning_rate)
    self._encoder_optimizer = snt.optimizers.Adam(config.encoder_learning_rate)
    self._num_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
    for source, destination in zip(*self._followed, strict=True):
      destination.assign(source)
    # Slots exist from the start, so that a checkpoint can be restored into them and
    # so that the compiled update creates no variable.
    self._policy_optimizer._initialize(policy.trainable_variables)
    self._value_optimizer._initialize(value.trainable_variables)
    self._encoder_optimizer._initialize(self._encoders.online.trainable_variables)
    # For convolutions XLA's code for processors is the slower one.
    self._updates = tf.function(
      self._many_updates, autograph=False, jit_compile=encoders is None
    )

  @property
  def _followed(self) -> tuple[Sequence[tf.Variable], Sequence[tf.Variable]]:
    """What targets follow, and the targets."""
    encoders = self._encoders
    return (
      (*self._value.variables, *encoders.online.variables),
      (*self._target_value.variables, *encoders.target.variables),
    )

  @property
  def num_steps(self) -> int:
    """Updates done so far, earlier runs of a resumed one included."""
    return int(self._num_steps.numpy())

  def step(self) -> dict[str, float]:
    """Does `steps_per_call` updates.

    Returns:
      Their mean losses, and the share of transitions that turned out better.
    """
    number = tf.constant(self._config.steps_per_call)
    metrics = self._updates(next(self._dataset), number)
    return {name: float(value.numpy()) for name, value in metrics.items()}

  def compile(self, batches: Any) -> None:
    """Compiles the update, which takes seconds, and does none.

    Args:
      batches: of the shapes that the dataset will yield.
    """
    self._updates(batches, tf.constant(0))

  def get_variables(self, names: Sequence[str]) -> list[list[np.ndarray]]:
    """Returns the variables of the networks called `names` (policy, value)."""
    networks = {'policy': self._policy, 'value': self._value}
    return [[v.numpy() for v in networks[name].variables] for name in names]

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
      'encoder': encoders.online,
      'target_encoder': encoders.target,
      'encoder_optimizer': self._encoder_optimizer,
      'policy': self._policy,
      'value': self._value,
      'target_value': self._target_value,
      'policy_optimizer': self._policy_optimizer,
      'value_optimizer': self._value_optimizer,
      'num_steps': self._num_steps,
    }

  def _many_updates(self, batches: Any, number: tf.Tensor) -> dict[str, tf.Tensor]:
    return updates.many(
      lambda batch: self._update(self._unpack(batch)),
      ('value_loss', 'policy_loss', 'better'),
      batches,
      self._config.batch_size,
      number,
    )

  def _update(self, batch: Tensors) -> dict[str, tf.Tensor]:
    encoders, atoms = self._encoders, self._atoms
    seen_tm1 = self._shifted(self._embed(batch['observation']), 1)
    seen_t = self._shifted(self._embed(batch['next_observation']), 2)
    r_t, d_t = d4pg_losses.n_step_return(
      batch['reward'][self._reward],
      batch['discount'][self._reward],
      batch['real'],
      self._config.discount,
    )
    v_t = self._target_value(encoders.target(seen_t))

    value_variables = self._value.trainable_variables
    encoder_variables = encoders.online.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch((value_variables, encoder_variables))
      o_tm1 = encoders.online(seen_tm1)
      v_tm1 = self._value(o_tm1)
      value_loss = tf.reduce_mean(
        d4pg_losses.categorical_td_loss(v_tm1.logits, r_t, d_t, v_t.logits, atoms)
      )
    value_gradients, encoder_gradients = tape.gradient(
      value_loss, (value_variables, encoder_variables)
    )

    advantage = r_t + d_t * v_t.mean() - v_tm1.mean()
    policy_variables = self._policy.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(policy_variables)
      # The encoder learns from the value's loss alone.
      mixture = self._policy.mixture(tf.nest.map_structure(tf.stop_gradient, o_tm1))
      policy_loss = losses.imitation_loss(
        losses.mixture_log_likelihood(batch['action'], *mixture), advantage
      )
    policy_gradients = tape.gradient(policy_loss, policy_variables)

    self._apply(self._value_optimizer, value_gradients, value_variables)
    self._apply(self._encoder_optimizer, encoder_gradients, encoder_variables)
    self._apply(self._policy_optimizer, policy_gradients, policy_variables)
    self._num_steps.assign_add(1)
    self._follow()
    better = tf.reduce_mean(tf.cast(advantage > 0, tf.float32))
    return {'value_loss': value_loss, 'policy_loss': policy_loss, 'better': better}

  def _apply(
    self,
    optimizer: snt.optimizers.Adam,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[tf.Variable],
  ) -> None:
    if not variables:
      return
    if self._config.gradient_clip:
      gradients, _ = tf.clip_by_global_norm(gradients, self._config.gradient_clip)
    optimizer.apply(gradients, variables)

  def _follow(self) -> None:
    """Draws targets and averages towards what has been learned."""
    if self._averaged_policy is not None:
      share = tf.cast(
        tf.minimum(self._num_steps, self._config.averaged_steps), tf.float32
      )
      updates.mix(self._policy.variables, self._averaged_policy.variables, 1 / share)
      encoders = self._encoders
      if encoders.averaged is not None:
        updates.mix(encoders.online.variables, encoders.averaged.variables, 1 / share)
    rate, period = self._config.target_update_rate, self._config.target_update_period
    if period == 1:
      updates.mix(*self._followed, rate)
    else:
      tf.cond(
        self._num_steps % period == 0,
        lambda: updates.mix(*self._followed, rate),
        lambda: None,
      )

  def _shifted(self, seen: Any, stream: int) -> Any:
    seed = tf.stack([self._num_steps, self._seed + stream])
    return pictures.shifted(seen, self._encoders.shift, seed)
