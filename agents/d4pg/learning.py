"""The D4PG learner."""

from collections.abc import Callable, Iterator
from typing import Any

import sonnet as snt
import tensorflow as tf

from agents import off_policy
from agents.d4pg import losses
from metamimic import config as config_lib
from metamimic.networks import torsos

_EPSILON = 1e-3  # Of a return; without experience of success mean |Q| goes to 0.
Tensors = off_policy.Tensors


class D4PGLearner(off_policy.OffPolicyLearner):
  """Learns a policy and a categorical critic from n-step transitions."""

  def __init__(
    self,
    embed: Callable[[Tensors], Any],
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
    encoders: off_policy.Encoders | None = None,
    reset_after: int = 0,
  ):
    """Takes networks whose variables exist.

    Args:
      embed: observation -> features, (B, F), or with encoders `pictures.Shown`;
        nothing in it is learned.
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
      reset_after: updates after which, once, all that is learned begins anew; 0: never.
    """
    metrics = ['critic_loss', 'policy_loss']
    if encoders is not None and encoders.decoding is not None:
      metrics.append('decoding_error')
    super().__init__(
      embed,
      {'policy': policy, 'critic': critic},
      {'policy': target_policy, 'critic': target_critic},
      atoms,
      dataset,
      unpack,
      config,
      reward,
      seed,
      averaged_policy,
      encoders,
      reset_after,
      metrics,
    )
    self._policy, self._critic = policy, critic
    self._target_policy, self._target_critic = target_policy, target_critic

  def _update(self, batch: Tensors) -> dict[str, tf.Tensor]:
    config = self._config
    encoders, atoms = self._encoders, self._atoms
    seen_tm1 = self._look(self._embed(batch['observation']), 1)
    seen_t = self._look(self._embed(batch['next_observation']), 2)
    r_t, d_t, q_t = self._target(batch, encoders.target(seen_t))
    critic_sees = self._critic_sees(batch['observation'])
    look, judge = torsos.parts(self._critic)

    critic_variables = self._critic.trainable_variables
    encoder_variables = encoders.online.trainable_variables
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch((critic_variables, encoder_variables))
      o_tm1, decoded = encoders.online.decode(seen_tm1)
      judged_tm1 = look(critic_sees(o_tm1))
      q_tm1 = _each(judge(judged_tm1, batch['action']))
      each_loss = [
        tf.reduce_mean(losses.categorical_td_loss(logits, r_t, d_t, q_t, atoms))
        for logits in tf.unstack(q_tm1)
      ]
      critic_loss = tf.add_n(each_loss) / len(each_loss)
      loss, metrics = critic_loss, {}
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
      value = losses.mean(losses.lowest(_each(judge(judged_tm1, a_tm1)), atoms), atoms)
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

    self._finish(
      {
        'critic': critic_gradients,
        'encoder': encoder_gradients,
        'policy': policy_gradients,
      }
    )
    policy_loss = -tf.reduce_mean(value)
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
    critic_sees = self._critic_sees(batch['next_observation'])
    q_t = losses.lowest(_each(self._target_critic(critic_sees(o_t), a_t)), self._atoms)
    return r_t, d_t, q_t

  def _critic_sees(self, observation: Tensors) -> Callable[[Any], Any]:
    """Returns a function from the policy's features to those of the critic."""
    decoding, encoder = self._encoders.decoding, self._encoders.online
    if decoding is None or not decoding.tells_critic:
      return lambda features: features
    difference = decoding.told(observation)
    return lambda features: encoder.tell(features, difference)

  def _decoding_error(
    self, decoding: off_policy.Decoding, batch: Tensors, decoded: tf.Tensor
  ) -> tf.Tensor:
    seen, came = decoding.hindsight(batch['observation'], batch['next_observation'])
    _, foreseen = self._encoders.online.decode(self._look(seen, 3))
    told = tf.reduce_mean(tf.abs(decoded - decoding.told(batch['observation'])))
    return (told + tf.reduce_mean(tf.abs(foreseen - came))) / 2


def _each(q: Any) -> tf.Tensor:
  """Returns logits, (E, B, N), of what a critic returns, or one of several."""
  return q.logits if q.logits.shape.rank == 3 else q.logits[None]
