"""The self-imitation learner."""

from collections.abc import Callable, Iterator
from typing import Any

import sonnet as snt
import tensorflow as tf

from agents import off_policy
from agents.d4pg import losses as d4pg_losses
from agents.self_imitation import losses
from metamimic import config as config_lib

Tensors = off_policy.Tensors


class SelfImitationLearner(off_policy.OffPolicyLearner):
  """Learns to do what turned out better than expected, from n-step transitions.

  A categorical value function learns by n-step temporal differences what to expect of a
  state. Where the n steps that began with an action came to more, the policy, a mixture
  of several actions, raises the action's likelihood. No value of an action that nobody
  tried is ever asked for, so that nothing has to be kept from being overestimated.
  (Ours, after Oh et al. 2018, who regress on whole returns.)
  """

  def __init__(
    self,
    embed: Callable[[Tensors], Any],
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
    encoders: off_policy.Encoders | None = None,
    reset_after: int = 0,
  ):
    """Takes networks whose variables exist.

    Args:
      embed: observation -> features, (B, F), or with encoders `pictures.Shown`;
        nothing in it is learned.
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
      reset_after: updates after which, once, all that is learned begins anew; 0: never.
    """
    super().__init__(
      embed,
      {'policy': policy, 'value': value},
      {'value': target_value},
      atoms,
      dataset,
      unpack,
      config,
      reward,
      seed,
      averaged_policy,
      encoders,
      reset_after,
      ('value_loss', 'policy_loss', 'better'),
    )
    self._policy = policy
    self._value, self._target_value = value, target_value

  def _update(self, batch: Tensors) -> dict[str, tf.Tensor]:
    encoders, atoms = self._encoders, self._atoms
    seen_tm1 = self._look(self._embed(batch['observation']), 1)
    seen_t = self._look(self._embed(batch['next_observation']), 2)
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

    self._finish(
      {
        'value': value_gradients,
        'encoder': encoder_gradients,
        'policy': policy_gradients,
      }
    )
    better = tf.reduce_mean(tf.cast(advantage > 0, tf.float32))
    return {'value_loss': value_loss, 'policy_loss': policy_loss, 'better': better}
