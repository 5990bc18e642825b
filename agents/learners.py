"""How learners are put together, of policies and the networks that judge them."""

from collections.abc import Callable, Mapping
import functools
from typing import Any

import reverb
import tensorflow as tf

from agents import off_policy
from agents import parameters
from agents import replay
from agents import sampling
from agents.bc import learning as bc_learning
from agents.d4pg import learning as d4pg_learning
from agents.self_imitation import learning as self_imitation
from envs import imitation
from metamimic import config as config_lib
from metamimic import policy as policy_lib
from metamimic.demonstrations import goals
from metamimic.demonstrations import types
from metamimic.networks import critics

Policies = Mapping[str, policy_lib.Policy]
"""A learner's policies, by the names under which they are published."""


def make_critic(
  policy: policy_lib.Policy,
  sizes: config_lib.NetworkConfig,
  settings: config_lib.D4PGConfig,
) -> Any:
  """Returns a new critic: what the policy's network is given, action -> distributions.

  Args:
    policy: whose inputs it has.
    sizes: of its networks.
    settings: of the learner: how many critics it is, and of what returns.
  """
  support = settings.num_atoms, settings.v_min, settings.v_max
  made = [critics.CriticNetwork(sizes, *support) for _ in range(settings.critics)]
  # Several have a torso in common, which takes most of the time. (As in Yarats et al.
  # 2021.)
  critic = policy.with_torso(critics.Critics(made) if len(made) > 1 else made[0], sizes)
  critic(policy.blank, tf.zeros([1, policy_lib.NUM_ACTIONS]))
  return critic


def _make_value(
  policy: policy_lib.Policy,
  sizes: config_lib.NetworkConfig,
  settings: config_lib.D4PGConfig,
) -> Any:
  support = settings.num_atoms, settings.v_min, settings.v_max
  value = policy.with_torso(critics.ValueNetwork(sizes, *support), sizes)
  value(policy.blank)
  return value


def make_off_policy(
  name: str,
  config: config_lib.Config,
  codec: replay.Codec,
  policies: Policies,
  target: policy_lib.Policy,
  bank: goals.GoalBank,
  client: reverb.Client,
  seed: int,
) -> off_policy.OffPolicyLearner:
  """Returns a learner of what is in replay.

  Args:
    name: of the learner.
    config: of the run.
    codec: of the rows in replay.
    policies: that it learns.
    target: another one, for what it learns from.
    bank: of the demonstrations.
    client: of the replay server.
    seed: of what is random in its updates.
  """
  settings = config.d4pg_of(name)
  policy, used = policies[name], policies[parameters.used(config, name)]
  averages = config.averages(name)
  encoders, complete = None, lambda items: items
  if codec.pictures is not None:
    encoders = off_policy.Encoders(
      policy.encoder,
      target.encoder,
      used.encoder if averages else None,
      config.pixels.shift,
      _decoding(config, policy, bank),
    )
  if bank.pictures is not None and config.follows(name):
    ahead = config.pixels.look_ahead
    complete = sampling.WithGoals(codec, bank.pictures, ahead, settings.n_step)
  make: Callable[..., Any]
  if config.imitates_itself(name):
    make = self_imitation.SelfImitationLearner
    values = [_make_value(policy, config.network, settings) for _ in range(2)]
    networks = [policy.network, *values]
  else:
    make = d4pg_learning.D4PGLearner
    critic, target_critic = (
      make_critic(policy, config.network, settings) for _ in range(2)
    )
    networks = [policy.network, critic, target.network, target_critic]
  return make(
    functools.partial(policy.embed, bank=bank),
    *networks,
    tf.linspace(settings.v_min, settings.v_max, settings.num_atoms),
    sampling.Sampler(
      client,
      replay.sources(config, name),
      settings.steps_per_call,
      complete=complete,
    ),
    lambda rows: codec.unpack(rows, settings.n_step),
    settings,
    reward=imitation.TASK if name == config_lib.TASK else imitation.IMITATION,
    seed=seed,
    averaged_policy=used.network if averages else None,
    encoders=encoders,
    reset_after=config.reset_after(name),
  )


def _decoding(
  config: config_lib.Config, policy: policy_lib.Policy, bank: goals.GoalBank
) -> off_policy.Decoding | None:
  if not isinstance(policy, policy_lib.GoalConditionedPolicy) or not policy.decodes:
    return None
  return off_policy.Decoding(
    config.pixels.decoding_weight,
    lambda observation: policy.goal_difference(observation, bank),
    policy.hindsight,
    tells_critic=config.pixels.tell_critic,
  )


def make_cloning(
  config: config_lib.Config,
  policy: policy_lib.Policy,
  demonstrations: types.DemonstrationSet,
  bank: goals.GoalBank,
  seed: int,
) -> bc_learning.BCLearner:
  """Returns a learner of the demonstrators' actions.

  Args:
    config: of the run.
    policy: that it learns.
    demonstrations: with actions.
    bank: of the demonstrations.
    seed: of how pictures are shifted.
  """
  size = config.bc.batch_size * config.bc.steps_per_call
  # A learner that goes on begins their order anew.
  groups = policy.layout.sizes
  dataset = bc_learning.frames(demonstrations, groups, size, config.seed)
  seeing = None
  if bank.pictures is not None:
    shows = isinstance(policy, policy_lib.GoalConditionedPolicy)
    ahead = config.pixels.look_ahead if shows else ()
    dataset = bc_learning.with_pictures(dataset, bank.pictures, ahead)
    seeing = bc_learning.Seeing(
      policy.encoder, config.pixels.shift, seed, _decoding(config, policy, bank)
    )
  embed = functools.partial(policy.embed, bank=bank)
  return bc_learning.BCLearner(embed, policy.network, iter(dataset), config.bc, seeing)


def blank_batch(name: str, config: config_lib.Config, codec: replay.Codec) -> Any:
  """Returns what an off-policy learner is given for one call, all nought.

  Args:
    name: of the learner.
    config: of the run.
    codec: of the rows in replay.
  """
  settings = config.d4pg_of(name)
  size = settings.batch_size * settings.steps_per_call
  items = tf.nest.map_structure(
    lambda spec: tf.zeros([size, *spec.shape], spec.dtype), codec.signature
  )
  if codec.pictures is None or not config.follows(name):
    return items
  shape = [size, 2, len(config.pixels.look_ahead), *codec.pictures.shape]
  return {**items, replay.GOALS: tf.zeros(shape, tf.uint8)}
