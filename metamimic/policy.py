"""The trained policy: how it is put together, loaded and used, with no server."""

from collections.abc import Callable, Mapping
import os
from typing import Any

import numpy as np
import sonnet as snt
import tensorflow as tf

from envs import observations as observations_lib
from envs import tasks
from metamimic import config as config_lib
from metamimic import preparation
from metamimic.demonstrations import goals
from metamimic.demonstrations import types
from metamimic.networks import features as features_lib
from metamimic.networks import policies

NUM_ACTIONS = 9
CHECKPOINTS = 'checkpoints'


class GoalConditionedPolicy(snt.Module):
  """Observation and goal -> action; holds all the variables that acting needs."""

  def __init__(
    self,
    layout: observations_lib.Layout,
    config: config_lib.Config,
    mean: np.ndarray,
    deviation: np.ndarray,
  ):
    """Makes the networks and their variables.

    Args:
      layout: of the observations.
      config: network sizes and look-ahead.
      mean: of the present's features; see `features.statistics`.
      deviation: likewise.
    """
    super().__init__(name='goal_conditioned_policy')
    self.layout = layout
    self.look_ahead = config.imitation.look_ahead
    self.features = features_lib.Features(layout, self.look_ahead, mean, deviation)
    self.network = policies.PolicyNetwork(NUM_ACTIONS, config.network)
    self.network(tf.zeros([1, self.num_features]))

  @property
  def num_features(self) -> int:
    """Length of the vector that the networks see."""
    sizes, ahead = self.layout.sizes, len(self.look_ahead)
    observation = {group: tf.zeros([1, n]) for group, n in sizes.items()}
    goal = {group: tf.zeros([1, ahead, n]) for group, n in sizes.items()}
    return self.features(observation, goal).shape[-1]

  def embed(self, observation: Mapping[str, Any], bank: goals.GoalBank) -> tf.Tensor:
    """Returns features, (B, F), of observations with a `goal` group, (B, 2)."""
    return self.features(observation, bank.lookup(observation['goal'], self.look_ahead))

  def actor(
    self, bank: goals.GoalBank, batch: int | None = None
  ) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Returns a function from batched observations with `goal` to actions, (B, 9).

    Args:
      bank: the demonstrations that `goal` refers to.
      batch: B, if it is always the same: the function is then compiled for it, which
        takes a second or two and pays for who calls it all the time.
    """
    spec = {
      group: tf.TensorSpec([batch, size], tf.float32)
      for group, size in self.layout.sizes.items()
    }
    spec['goal'] = tf.TensorSpec([batch, 2], tf.int32)

    # A concrete function, because for so small a batch most of the time of a call into
    # a graph is spent on finding out which graph.
    @tf.function(input_signature=[spec], autograph=False, jit_compile=batch is not None)
    def act(observation: Mapping[str, tf.Tensor]) -> tf.Tensor:
      return self.network(self.embed(observation, bank))

    graph = act.get_concrete_function()

    def call(observation: Mapping[str, np.ndarray]) -> np.ndarray:
      return graph({name: tf.constant(observation[name]) for name in spec}).numpy()

    return call


def create(
  layout: observations_lib.Layout,
  config: config_lib.Config,
  demonstrations: types.DemonstrationSet,
) -> GoalConditionedPolicy:
  """Returns an untrained policy, normalised by the training demonstrations."""
  train = [demonstrations.demonstrations[i].observations for i in demonstrations.train]
  return GoalConditionedPolicy(layout, config, *features_lib.statistics(layout, train))


class Imitator:
  """A trained policy that can be shown demonstrations."""

  def __init__(
    self,
    task: str,
    config: config_lib.Config,
    policy: GoalConditionedPolicy,
    learner_steps: int,
  ):
    """Wraps a policy; see `load`."""
    self.task = task
    """Name of the task that it was trained on."""
    self.config = config
    """Of the run that trained it."""
    self.policy = policy
    """The network."""
    self.learner_steps = learner_steps
    """How long it was trained."""

  def watch(
    self, demonstration: types.Demonstration
  ) -> Callable[[Mapping[str, np.ndarray], int], np.ndarray]:
    """Shows it one demonstration.

    Args:
      demonstration: of the same task; seen in training or not.

    Returns:
      A function from an observation, by group, and the step within the demonstration
      to an action, (9,).

    Raises:
      ValueError: it is of another task.
    """
    if demonstration.task != self.task:
      raise ValueError(
        f'{demonstration.name} is of task {demonstration.task!r}; this policy was '
        f'trained on {self.task!r}'
      )
    act = self.policy.actor(goals.GoalBank([demonstration]))

    def follow(observation: Mapping[str, np.ndarray], step: int) -> np.ndarray:
      batch = {group: observation[group][None] for group in self.policy.layout.sizes}
      return act({**batch, 'goal': np.array([[0, step]], np.int32)})[0]

    return follow


def load(run_dir: str) -> Imitator:
  """Returns the policy of a run's last checkpoint.

  Args:
    run_dir: a run directory, finished or not.

  Raises:
    FileNotFoundError: it is no run directory, or has no checkpoint yet.
  """
  task = preparation.description(run_dir)['task']
  config = config_lib.load(os.path.join(run_dir, 'config.json'))
  layout = observations_lib.Layout(tasks.get(task).objects)
  checkpoint = tf.train.latest_checkpoint(os.path.join(run_dir, CHECKPOINTS))
  if checkpoint is None:
    raise FileNotFoundError(f'{run_dir}/{CHECKPOINTS} holds no checkpoint yet')
  size = features_lib.present_size(layout)
  policy = GoalConditionedPolicy(layout, config, np.zeros(size), np.ones(size))
  num_steps = tf.Variable(0, dtype=tf.int64)
  restored = tf.train.Checkpoint(
    policy=policy.network, features=policy.features, num_steps=num_steps
  )
  restored.restore(checkpoint).assert_existing_objects_matched().expect_partial()
  return Imitator(task, config, policy, int(num_steps.numpy()))
