"""Policies: how they are put together, and what they see."""

import abc
from collections.abc import Callable, Mapping
import functools
from typing import Any

import numpy as np
import sonnet as snt
import tensorflow as tf

from envs import observations as observations_lib
from metamimic import config as config_lib
from metamimic.demonstrations import goals
from metamimic.demonstrations import types
from metamimic.networks import features as features_lib
from metamimic.networks import pictures as pictures_lib
from metamimic.networks import policies
from metamimic.networks import torsos

NUM_ACTIONS = 9

Act = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Batched observations by group -> actions, (B, 9)."""

Inputs = Any
"""What comes before all that is learned: features, (B, F), or `pictures.Shown`."""

PIXELS, GOAL_PIXELS = 'pixels', 'goal_pixels'
"""Groups within a graph: the pictures of all cameras as one, (B, height, width, C), and
those of the goal, (B, K, height, width, C)."""


class Policy(snt.Module):
  """Features, encoder and network; holds all the variables that acting needs."""

  def __init__(
    self,
    layout: observations_lib.Layout,
    config: config_lib.Config,
    mean: np.ndarray,
    deviation: np.ndarray,
    components: int,
  ):
    """Makes the networks and their variables.

    Args:
      layout: of the observations.
      config: network sizes and look-ahead.
      mean: of the present's features; see `features.statistics`.
      deviation: likewise.
      components: actions between which the network chooses.
    """
    super().__init__()
    self.layout = layout
    self.look_ahead = config.imitation.look_ahead
    self.pixels = config.pixels
    self._relative = config.imitation.relative
    self._turned = config.turned
    self.features = self._make_features(mean, deviation)
    self.encoder = self._make_encoder(config.network)
    self.network = self.with_torso(
      policies.PolicyNetwork(NUM_ACTIONS, config.network)
      if components == 1
      else policies.MixturePolicyNetwork(NUM_ACTIONS, components, config.network),
      config.network,
    )
    self.network(self.blank)

  @functools.cached_property
  def blank(self) -> Any:
    """What policy and critic networks are given for one observation that is nought.

    It is features, (1, F), or with torsos of their own `pictures.Seen`.
    """
    blank = {
      name: tf.zeros([1, *spec.shape[1:]], spec.dtype)
      for name, spec in self._inputs(1).items()
    }
    return self.encoder(pictures_lib.look(self._embed_unguided(blank)))

  def with_torso(
    self, network: snt.Module, sizes: config_lib.NetworkConfig
  ) -> snt.Module:
    """Returns a network with a torso of its own, where it is to have one.

    Args:
      network: features, and what else it takes -> what it makes of them.
      sizes: of the torso.
    """
    if not self._has_torsos(sizes):
      return network
    size = sizes.filters, sizes.torso_blocks, sizes.embedding, sizes.normalise
    return torsos.Seeing(torsos.ResidualTorso(*size), network)

  def _has_torsos(self, sizes: config_lib.NetworkConfig) -> bool:
    return self.layout.pictures is not None and sizes.torso == 'residual'

  @abc.abstractmethod
  def _make_features(self, mean: np.ndarray, deviation: np.ndarray) -> snt.Module:
    """Returns what the network sees."""

  def _make_encoder(
    self, config: config_lib.NetworkConfig
  ) -> pictures_lib.Encoder | pictures_lib.NoEncoder:
    if self.layout.pictures is None or self._has_torsos(config):
      return pictures_lib.NoEncoder()
    size = config.filters, config.embedding, config.normalise
    return pictures_lib.Encoder(*size, decoded=self._decoded)

  @property
  def _decoded(self) -> tuple[int, int] | None:
    """K and D of what the encoder decodes."""
    return None

  @abc.abstractmethod
  def embed(
    self, observation: Mapping[str, Any], bank: goals.GoalBank | None
  ) -> Inputs:
    """Returns what the encoder is to look at for observations.

    Args:
      observation: by group, (B, n) each; with the group `goal`, (B, 2), for a policy
        that is shown one. Of pictures, `PIXELS`, and for such a policy `GOAL_PIXELS`.
      bank: the demonstrations that `goal` refers to; None for a policy that is shown
        none.
    """

  @abc.abstractmethod
  def _embed_unguided(self, observation: Mapping[str, tf.Tensor]) -> Inputs:
    """Returns the same without a demonstration: the goal is the present."""

  def _with_pictures(
    self, features: tf.Tensor, observation: Mapping[str, Any], goal: Any
  ) -> Inputs:
    if self.layout.pictures is None:
      return features
    return pictures_lib.Shown(features, observation[PIXELS], goal)

  def actor(self, bank: goals.GoalBank | None = None, batch: int | None = None) -> Act:
    """Returns a function from batched observations to actions, (B, 9).

    Args:
      bank: as for `embed`.
      batch: B, if it is always the same: the function is then compiled for it, which
        takes a second or two and pays for who calls it all the time.
    """
    return self._compiled(
      lambda observation: self.embed(observation, bank), bank, batch
    )

  def _inputs(self, batch: int | None) -> dict[str, tf.TensorSpec]:
    groups = {
      group: tf.TensorSpec([batch, size], tf.float32)
      for group, size in self.layout.sizes.items()
    }
    if self.layout.pictures is not None:
      groups[PIXELS] = tf.TensorSpec([batch, *self.layout.pictures.shape], tf.uint8)
    return groups

  def _compiled(
    self,
    embed: Callable[[Mapping[str, tf.Tensor]], Inputs],
    bank: goals.GoalBank | None,
    batch: int | None = None,
  ) -> Act:
    spec = self._inputs(batch)
    if bank is None:
      spec = {k: v for k, v in spec.items() if k not in ('goal', GOAL_PIXELS)}
    pictures = bank.pictures if bank is not None and GOAL_PIXELS in spec else None
    # For convolutions XLA's code for processors is the slower one.
    jit = batch is not None and self.layout.pictures is None

    # A concrete function, because for so small a batch most of the time of a call into
    # a graph is spent on finding out which graph.
    @tf.function(input_signature=[spec], autograph=False, jit_compile=jit)
    def act(observation: Mapping[str, tf.Tensor]) -> tf.Tensor:
      return self.network(self.encoder(pictures_lib.look(embed(observation))))

    graph = act.get_concrete_function()

    def call(observation: Mapping[str, np.ndarray]) -> np.ndarray:
      whole = self._with_pixels(observation, pictures)
      return graph({name: tf.constant(whole[name]) for name in spec}).numpy()

    return call

  def _with_pixels(
    self, observation: Mapping[str, np.ndarray], goal: goals.PictureBank | None
  ) -> Mapping[str, np.ndarray]:
    """Returns an observation with `PIXELS`, if there are any, and `GOAL_PIXELS`."""
    if self.layout.pictures is None:
      return observation
    pixels = self.layout.pictures.stack(observation)
    if goal is None:
      return {**observation, PIXELS: pixels}
    seen = goal.lookup(observation['goal'], self.pixels.look_ahead)
    return {**observation, PIXELS: pixels, GOAL_PIXELS: seen}


class GoalConditionedPolicy(Policy):
  """Observation and goal -> action."""

  def _make_features(self, mean: np.ndarray, deviation: np.ndarray) -> snt.Module:
    seen = self.layout.pictures is not None
    shown = not seen or self.pixels.goal == 'pictures_and_body'
    return features_lib.Features(
      self.layout, self.look_ahead, self._relative, shown, mean, deviation
    )

  def _inputs(self, batch: int | None) -> dict[str, tf.TensorSpec]:
    groups = {**super()._inputs(batch), 'goal': tf.TensorSpec([batch, 2], tf.int32)}
    if self.layout.pictures is not None:
      ahead = len(self.pixels.look_ahead)
      shape = [batch, ahead, *self.layout.pictures.shape]
      groups[GOAL_PIXELS] = tf.TensorSpec(shape, tf.uint8)
    return groups

  def embed(
    self, observation: Mapping[str, Any], bank: goals.GoalBank | None
  ) -> Inputs:
    """Returns what the encoder is to look at; see `Policy.embed`.

    Raises:
      ValueError: there is no bank.
    """
    if bank is None:
      raise ValueError('no demonstrations to look goals up in; expected a GoalBank')
    goal = bank.lookup(observation['goal'], self.look_ahead)
    features = self.features(observation, goal)
    return self._with_pictures(features, observation, observation.get(GOAL_PIXELS))

  @property
  def decodes(self) -> bool:
    """Whether the encoder tells from pictures how the body is to move."""
    seen, pixels = self.layout.pictures is not None, self.pixels
    return seen and pixels.goal == 'pictures' and pixels.decoding_weight > 0

  @property
  def _decoded(self) -> tuple[int, int] | None:
    if not self.decodes:
      return None
    return len(self.pixels.look_ahead), features_lib.num_differences(self.layout)

  def goal_difference(
    self, observation: Mapping[str, Any], bank: goals.GoalBank
  ) -> tf.Tensor:
    """Returns what the encoder is to decode, (B, K, D), of goals in the bank."""
    ahead = self.pixels.look_ahead
    goal = bank.lookup(observation['goal'], ahead)
    return self.features.difference(observation, goal, ahead)

  def hindsight(
    self, observation: Mapping[str, Any], later: Mapping[str, Any]
  ) -> tuple[Inputs, tf.Tensor]:
    """Returns inputs whose goal is what came to be, and what is to be decoded of them.

    Args:
      observation: by group, (B, ...).
      later: what it came to.
    """
    ahead = self.pixels.look_ahead
    goal = {
      group: tf.repeat(later[group][:, None], len(ahead), axis=1)
      for group in self.layout.sizes
    }
    pixels = tf.repeat(later[PIXELS][:, None], len(ahead), axis=1)
    inputs = self._with_pictures(self.features(observation, goal), observation, pixels)
    return inputs, self.features.difference(observation, goal, ahead)

  def unguided(self) -> Act:
    """Returns the policy without a demonstration: its goal is the present frame."""
    return self._compiled(self._embed_unguided, None)

  def _embed_unguided(self, observation: Mapping[str, tf.Tensor]) -> Inputs:
    goal = {
      group: tf.repeat(observation[group][:, None], len(self.look_ahead), axis=1)
      for group in self.layout.sizes
    }
    pixels = None
    if self.layout.pictures is not None:
      ahead = len(self.pixels.look_ahead)
      pixels = tf.repeat(observation[PIXELS][:, None], ahead, axis=1)
    return self._with_pictures(self.features(observation, goal), observation, pixels)


class TaskPolicy(Policy):
  """Observation -> action; it is shown no demonstration."""

  def _make_features(self, mean: np.ndarray, deviation: np.ndarray) -> snt.Module:
    return features_lib.TaskFeatures(self.layout, self._turned, mean, deviation)

  def embed(
    self, observation: Mapping[str, Any], bank: goals.GoalBank | None = None
  ) -> Inputs:
    """Returns what the encoder is to look at; see `Policy.embed`."""
    del bank
    return self._embed_unguided(observation)

  def _embed_unguided(self, observation: Mapping[str, tf.Tensor]) -> Inputs:
    return self._with_pictures(self.features(observation), observation, None)


def create(
  learner: str,
  layout: observations_lib.Layout,
  config: config_lib.Config,
  demonstrations: types.DemonstrationSet,
) -> Policy:
  """Returns an untrained policy, normalised by the training demonstrations.

  Args:
    learner: whose; see `config.Config.learners`.
    layout: of the observations.
    config: of the run.
    demonstrations: whose observations give mean and deviation.
  """
  train = [demonstrations.demonstrations[i].observations for i in demonstrations.train]
  turned = config.turned and not config.follows(learner)
  statistics = features_lib.statistics(layout, train, turned)
  return kind(learner, config)(layout, config, *statistics, config.components(learner))


def kind(learner: str, config: config_lib.Config) -> type[Policy]:
  """Returns what kind of policy a learner learns."""
  return GoalConditionedPolicy if config.follows(learner) else TaskPolicy
