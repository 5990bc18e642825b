"""Trained policies: loaded from a run directory, and used, with no server."""

from collections.abc import Callable, Mapping
import itertools
import os
from typing import TypeVar

import numpy as np
import tensorflow as tf

from envs import observations
from metamimic import checkpoints
from metamimic import config as config_lib
from metamimic import policy as policy_lib
from metamimic import preparation
from metamimic import run_description
from metamimic import validation
from metamimic.demonstrations import frames
from metamimic.demonstrations import goals
from metamimic.demonstrations import types
from metamimic.networks import features as features_lib


class Imitator:
  """A trained policy that can be shown demonstrations."""

  def __init__(
    self,
    task: str,
    config: config_lib.Config,
    policy: policy_lib.GoalConditionedPolicy,
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
      to an action, (9,). It raises a ValueError if the observation is not of an
      environment with `config.pictures`.

    Raises:
      RuntimeError: the policy sees pictures, and this machine cannot render.
      ValueError: it is of another task.
    """
    if demonstration.task != self.task:
      raise ValueError(
        f'{demonstration.name} is of task {demonstration.task!r}; this policy was '
        f'trained on {self.task!r}'
      )
    layout = self.policy.layout
    seen: types.Demonstration | frames.Seen = demonstration
    if layout.pictures is not None:
      (seen,) = frames.see([demonstration], layout.pictures)
    act = self.policy.actor(goals.GoalBank([seen], layout))

    def follow(observation: Mapping[str, np.ndarray], step: int) -> np.ndarray:
      batch = _batch(observation, layout)
      return act({**batch, 'goal': np.array([[0, step]], np.int32)})[0]

    return follow


class Solver:
  """A trained policy that solves its task, without being shown how."""

  def __init__(
    self,
    task: str,
    config: config_lib.Config,
    policy: policy_lib.TaskPolicy,
    learner_steps: int,
  ):
    """Wraps a policy; see `load_task`."""
    self.task = task
    """Name of the task that it was trained on."""
    self.config = config
    """Of the run that trained it."""
    self.policy = policy
    """The network."""
    self.learner_steps = learner_steps
    """How long it was trained."""
    self._act = policy.actor()

  def __call__(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the action, (9,), for an observation by group.

    Raises:
      ValueError: it is not of an environment with `config.pictures`.
    """
    return self._act(_batch(observation, self.policy.layout))[0]


def _batch(
  observation: Mapping[str, np.ndarray], layout: observations.Layout
) -> dict[str, np.ndarray]:
  """Returns an observation as a batch of one."""
  for group, spec in layout.spec().items():
    found = observation[group].shape if group in observation else 'missing'
    if found != spec.shape:
      raise ValueError(
        f'the observation has {group} {found}; expected {spec.shape}, as of an '
        'environment of the task with config.pictures'
      )
  return {group: observation[group][None] for group in layout.spec()}


def load(run_dir: str) -> Imitator:
  """Returns the imitation policy of a run's newest checkpoint set that is good.

  Nothing that the run names is imported: not its reward either.

  Args:
    run_dir: a run directory, finished or not.

  Raises:
    FileNotFoundError: it is no run directory, or has no checkpoint yet.
    DamagedError: it has checkpoints, and the policy is good in none.
    ValueError: a file of it is damaged, or the run learns no policy that can be shown
      a demonstration.
  """
  task, config, policy, steps = _load(run_dir, policy_lib.GoalConditionedPolicy)
  return Imitator(task, config, policy, steps)


def load_task(run_dir: str) -> Solver:
  """Returns the task policy of a run's newest checkpoint set that is good.

  Args:
    run_dir: a run directory, finished or not.

  Raises:
    FileNotFoundError: it is no run directory, or has no checkpoint yet.
    DamagedError: it has checkpoints, and the policy is good in none.
    ValueError: a file of it is damaged, or the run learns no policy that does without
      a demonstration.
  """
  task, config, policy, steps = _load(run_dir, policy_lib.TaskPolicy)
  return Solver(task, config, policy, steps)


def state_path(folder: str | os.PathLike[str]) -> str:
  """Returns where a learner's state is in its folder of a checkpoint set."""
  return os.path.join(folder, 'state')


def saved_name(config: config_lib.Config, learner: str, part: str = 'policy') -> str:
  """Returns how what is for use is called in a learner's saved state.

  Args:
    config: of the run.
    learner: whose.
    part: `policy`, or its `encoder`.
  """
  return f'averaged_{part}' if config.averages(learner) else part


_LAYER = 64  # Bytes.

_P = TypeVar('_P', policy_lib.GoalConditionedPolicy, policy_lib.TaskPolicy)


def _load(run_dir: str, kind: type[_P]) -> tuple[str, config_lib.Config, _P, int]:
  task = run_description.read(run_dir)['task']
  path = os.path.join(run_dir, 'config.json')
  config = config_lib.load(path)
  learners = [name for name in config.learners if policy_lib.kind(name, config) is kind]
  if not learners:
    raise ValueError(
      f'{run_dir}: algorithm {config.algorithm} with learners {config.learners} has '
      f'no {kind.__name__}'
    )
  found = checkpoints.newest(run_dir, learners[0])
  if found is None:
    raise FileNotFoundError(f'{run_dir} holds no checkpoint yet')
  _check_size(path, config, found, learners[0])
  layout = preparation.seen_layout(config, task)
  size = features_lib.present_size(layout)
  components = config.components(learners[0])
  policy = kind(layout, config, np.zeros(size), np.ones(size), components)
  saved = saved_name(config, learners[0])
  parts = {
    saved: policy.network,
    saved_name(config, learners[0], 'encoder'): policy.encoder,
  }
  restored = tf.train.Checkpoint(**parts, features=policy.features)
  state = state_path(found.path / learners[0])
  try:
    status = restored.read(state)
    status.assert_existing_objects_matched().expect_partial()
  except Exception as e:  # Any: it depends on what is there instead.
    raise checkpoints.DamagedError(
      f'{state} does not hold the {saved} of {path} ({type(e).__name__}: {e!s:.500})'
    ) from e
  return task, config, policy, found.learner_steps[learners[0]]


def _check_size(
  path: str,
  config: config_lib.Config,
  found: checkpoints.CheckpointSet,
  learner: str,
) -> None:
  """Refuses networks that cannot be what is saved, before they are made."""
  network, look_ahead = config.network, config.imitation.look_ahead
  width = network.policy_width
  layers = network.policy_blocks * network.block_layers
  if width < 1 or min(network.policy_blocks, network.block_layers) < 0:
    raise ValueError(
      f'{path}: the sizes of its policy are {network}; expected positive'
    )
  if min(look_ahead, default=0) < 1:
    raise ValueError(
      f'{path}: imitation.look_ahead is {look_ahead}; expected steps >= 1'
    )
  components = config.components(learner)
  if components < 1 + config.imitates_itself(learner):
    raise ValueError(f'{path}: task.components is {components}; expected 2 or more')
  # Weights; a layer without any has at least a name.
  least = 4 * width * len(look_ahead) + layers * (4 * width**2 + _LAYER)
  least += 4 * width * components
  if config.pixels.cameras:
    validation.check_pixels(config, f'{path}: ')
  if config.pixels.cameras and not config.pixels.blind:
    shown = len(config.pixels.look_ahead) if config.follows(learner) else 0
    widths = (1 + shown, *network.filters, network.embedding)
    least += 4 * sum(a * b for a, b in itertools.pairwise(widths[:-1]))
    left = validation.picture_left(config) ** 2  # Pixels that the last layer sees.
    least += 4 * left * network.filters[-1] * network.embedding
    if network.torso == 'residual':
      filters = sum(n**2 for n in network.filters)
      least += network.torso_blocks * (4 * filters + _LAYER)
  size = sum(file.size for file in found.part(learner).values())
  if least > size:
    raise ValueError(
      f'{path}: its policy has {least:,} bytes or more; expected at most the {size:,} '
      f'of {found.path / learner}'
    )
