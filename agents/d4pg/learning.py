"""The D4PG learner."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

import acme
import numpy as np
import sonnet as snt
import tensorflow as tf

from agents import updates
from agents.d4pg import losses
from metamimic import config as config_lib
from metamimic.networks import pictures

Tensors = Mapping[str, Any]
Network = Callable[..., Any]
_EPSILON = 1e-3  # Of a return; without experience of success mean |Q| goes to 0.


@dataclasses.dataclass(frozen=True)
class Decoding:
  """What an encoder is taught beside what the critic's loss teaches it; ours."""

  weight: float
  """Of the mean absolute error, beside the critic's loss."""
  told: Callable[[Tensors], tf.Tensor]
  """Observation -> what is to be decoded of it, (B, K, D)."""
  hindsight: Callable[[Tensors, Tensors], tuple[Any, tf.Tensor]]
  """Observation and the one n steps later -> inputs that have that as their goal, and
  what is to be decoded of them."""


@dataclasses.dataclass(frozen=True)
class Encoders:
  """What makes features of pictures, before policy and critic.

  The critic's loss alone decides what these learn, and both networks have them in
  common. (Ours, after Yarats et al. 2021.)
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


class D4PGLearner(acme.Learner):
  """Learns a policy and a categorical critic from n-step transitions.

  One call of `step` does `config.steps_per_call` updates in one compiled graph.
  """

  def __init__(
    self,
    embed: Callable[[Tensors], tf.Tensor],
    policy: snt.Module,
    critic: snt.Module,
    target_policy: snt.Module,
    target_critic: snt.Module,
    atoms: tf.Tensor,
    dataset: Iterator[Any],
    unpack: Callable[[Any], Tensors],
    config: config_lib.D4PGConfig,
    reward: str,
    seed: int = 0,
    averaged_policy: snt.Module | None = None,
    encoders: Encoders | None = None,
  ):
    """Takes networks whose variables exist.

    Args:
      embed: observation -> features, (B, F), or with encoders `pictures.Seen`; nothing
        in it is learned.
      policy: features -> action.
      critic: features, action -> acme's DiscreteValuedDistribution of one critic, or of
        E, with logits (E, B, N); of several the lowest value counts, everywhere.
      target_policy: a second policy; overwritten with the first's weights.
      target_critic: likewise.
      atoms: the critic's support, (N,).
      dataset: yields `steps_per_call * batch_size` packed transitions.
      unpack: packed transitions -> batch, as `agents.replay` describes it.
      config: hyperparameters.
      reward: which reward and discount of a transition to learn from.
      seed: of the target action's noise.
      averaged_policy: one more policy, if the configuration asks for the average.
      encoders: of pictures; None: there are none.
    """
    self._embed = embed
    self._policy, self._critic = policy, critic
    self._target_policy, self._target_critic = target_policy, target_critic
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
    self._metrics: tuple[str, ...] = ('critic_loss', 'policy_loss')
    if encoders is not None and encoders.decoding is not None:
      self._metrics += ('decoding_error',)
    self._policy_optimizer = snt.optimizers.Adam(config.policy_learning_rate)
    self._critic_optimizer = snt.optimizers.Adam(config.critic_learning_rate)
    self._encoder_optimizer = snt.optimizers.Adam(config.encoder_learning_rate)
    self._num_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
    self._mix(1.0)
    # Slots exist from the start, so that a checkpoint can be restored into them and
    # so that the compiled update creates no variable.
    self._policy_optimizer._initialize(policy.trainable_variables)
    self._critic_optimizer._initialize(critic.trainable_variables)
    self._encoder_optimizer._initialize(self._encoders.online.trainable_variables)
    # For convolutions XLA's code for processors is the slower one.
    self._updates = tf.function(
      self._many_updates, autograph=False, jit_compile=encoders is None
    )

  @property
  def num_steps(self) -> int:
    """Updates done so far, earlier runs of a resumed one included."""
    return int(self._num_steps.numpy())

  def step(self) -> dict[str, float]:
    """Does `steps_per_call` updates.

    Returns:
      Their mean critic loss and policy loss (minus the mean value), and the error of an
      encoder that decodes.
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
    """Returns the variables of the networks called `names` (policy, critic)."""
    networks = {'policy': self._policy, 'critic': self._critic}
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
      'critic': self._critic,
      'target_policy': self._target_policy,
      'target_critic': self._target_critic,
      'policy_optimizer': self._policy_optimizer,
      'critic_optimizer': self._critic_optimizer,
      'num_steps': self._num_steps,
    }

  def _many_updates(self, batches: Any, number: tf.Tensor) -> dict[str, tf.Tensor]:
    return updates.many(
      lambda batch: self._update(self._unpack(batch)),
      self._metrics,
      batches,
      self._config.batch_size,
      number,
    )

  def _update(self, batch: Tensors) -> dict[str, tf.Tensor]:
    config = self._config
    encoders, atoms = self._encoders, self._atoms
    seen_tm1 = self._shifted(self._embed(batch['observation']), 1)
    seen_t = self._shifted(self._embed(batch['next_observation']), 2)
    r_t, d_t, q_t = self._target(batch, encoders.target(seen_t))

    critic_variables = self._critic.trainable_variables
    encoder_variables = encoders.online.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch((critic_variables, encoder_variables))
      o_tm1, decoded = encoders.online.decode(seen_tm1)
      q_tm1 = _each(self._critic(o_tm1, batch['action']))
      each_loss = [
        tf.reduce_mean(losses.categorical_td_loss(logits, r_t, d_t, q_t, atoms))
        for logits in tf.unstack(q_tm1)
      ]
      loss, metrics = tf.add_n(each_loss), {}
      if encoders.decoding is not None:
        error = self._decoding_error(encoders.decoding, batch, decoded)
        loss += encoders.decoding.weight * error
        metrics['decoding_error'] = error
    critic_gradients, encoder_gradients = tape.gradient(
      loss, (critic_variables, encoder_variables)
    )

    policy_variables = self._policy.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as policy_tape:
      policy_tape.watch(policy_variables)
      a_tm1 = self._policy(o_tm1)
    with tf.GradientTape(watch_accessed_variables=False) as action_tape:
      action_tape.watch(a_tm1)
      value = losses.mean(
        losses.lowest(_each(self._critic(o_tm1, a_tm1)), atoms), atoms
      )
    dqda = action_tape.gradient(value, a_tm1)
    direction = losses.policy_gradient(dqda, config.action_gradient_clip)
    if config.cloning_weight:
      direction /= tf.reduce_mean(tf.abs(value)) + _EPSILON
      direction += config.cloning_weight * losses.cloning_gradient(
        a_tm1, batch['action'], value, losses.mean(losses.lowest(q_tm1, atoms), atoms)
      )
    policy_gradients = policy_tape.gradient(
      a_tm1, policy_variables, output_gradients=direction
    )

    if config.gradient_clip:
      critic_gradients, _ = tf.clip_by_global_norm(
        critic_gradients, config.gradient_clip
      )
      if encoder_variables:
        encoder_gradients, _ = tf.clip_by_global_norm(
          encoder_gradients, config.gradient_clip
        )
      policy_gradients, _ = tf.clip_by_global_norm(
        policy_gradients, config.gradient_clip
      )
    self._critic_optimizer.apply(critic_gradients, critic_variables)
    if encoder_variables:
      self._encoder_optimizer.apply(encoder_gradients, encoder_variables)
    self._policy_optimizer.apply(policy_gradients, policy_variables)
    self._num_steps.assign_add(1)
    self._follow()
    policy_loss = -tf.reduce_mean(value)
    critic_loss = tf.add_n(each_loss) / len(each_loss)
    return {'critic_loss': critic_loss, 'policy_loss': policy_loss, **metrics}

  def _target(self, batch: Tensors, o_t: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns n-step reward and discount, (B,), and the logits that follow, (B, N)."""
    config = self._config
    r_t, d_t = losses.n_step_return(
      batch['reward'][self._reward],
      batch['discount'][self._reward],
      batch['real'],
      config.discount,
    )
    a_t = self._target_policy(o_t)
    if config.target_noise:
      noise = tf.random.stateless_normal(
        tf.shape(a_t), tf.stack([self._num_steps, self._seed])
      )
      a_t = losses.smoothed_action(a_t, noise, config.target_noise)
    q_t = losses.lowest(_each(self._target_critic(o_t, a_t)), self._atoms)
    return r_t, d_t, q_t

  def _follow(self) -> None:
    """Draws targets and averages towards what has been learned."""
    if self._averaged_policy is not None:
      # The mean of all so far, until there are as many as it is to span.
      share = tf.cast(
        tf.minimum(self._num_steps, self._config.averaged_steps), tf.float32
      )
      updates.mix(self._policy.variables, self._averaged_policy.variables, 1 / share)
      if self._encoders.averaged is not None:
        updates.mix(
          self._encoders.online.variables, self._encoders.averaged.variables, 1 / share
        )
    if self._config.target_update_period == 1:
      self._mix(self._config.target_update_rate)
    else:
      tf.cond(
        self._num_steps % self._config.target_update_period == 0,
        lambda: self._mix(self._config.target_update_rate),
        lambda: None,
      )

  def _decoding_error(
    self, decoding: Decoding, batch: Tensors, decoded: tf.Tensor
  ) -> tf.Tensor:
    seen, came = decoding.hindsight(batch['observation'], batch['next_observation'])
    _, foreseen = self._encoders.online.decode(self._shifted(seen, 3))
    told = tf.reduce_mean(tf.abs(decoded - decoding.told(batch['observation'])))
    return (told + tf.reduce_mean(tf.abs(foreseen - came))) / 2

  def _shifted(self, seen: Any, stream: int) -> Any:
    """Returns what is seen with its pictures shifted, each stream's in its own way."""
    seed = tf.stack([self._num_steps, self._seed + stream])
    return pictures.shifted(seen, self._encoders.shift, seed)

  def _mix(self, rate: float) -> None:
    online, target = (
      tuple(v for network in networks for v in network.variables)
      for networks in (
        (self._policy, self._critic, self._encoders.online),
        (self._target_policy, self._target_critic, self._encoders.target),
      )
    )
    if rate == 1:
      # The sum would be off by a rounding where a copy is asked for.
      for source, destination in zip(online, target, strict=True):
        destination.assign(source)
    else:
      updates.mix(online, target, rate)


def _each(q: Any) -> tf.Tensor:
  """Returns logits, (E, B, N), of what a critic returns, or one of several."""
  return q.logits if q.logits.shape.rank == 3 else q.logits[None]
