"""An environment that rewards solving the task, in the terms of `imitation`."""

from collections.abc import Mapping, Sequence
import math

import dm_env
from dm_env import specs
import numpy as np

from envs import disturbances
from envs import imitation
from envs import observations
from envs import stepping

_SECOND = 25  # Control steps.


class TaskEnvironment(dm_env.Environment):
  """A task with rewards, discounts and observations as `ImitationEnvironment` has them.

  So that both kinds of experience fit one memory. Imitation's reward is 0 and its
  discount 1; `goal` is (0, 0) and means nothing. An episode ends

  * once the task has succeeded: task's reward 1 and discount 0;
  * at the time limit, or when patience is over: discount 1.

  With the dense reward, which is dm_control's own, success does not end it, and the
  time limit is dm_control's.
  """

  def __init__(
    self,
    environment: stepping.ManipulationEnvironment,
    demonstrations: Sequence[imitation.Reference] = (),
    train: Sequence[int] = (),
    start_within: float = 0.0,
    seed: int = 0,
    disturber: disturbances.Disturber | None = None,
    patience: float = 0.0,
    dense: bool = False,
  ):
    """Wraps a task.

    Args:
      environment: the task.
      demonstrations: in whose states episodes can start.
      train: indices of those that `reset` draws from.
      start_within: probability that an episode starts in a random state of one of them
        instead of the task's own start.
      seed: of these draws.
      disturber: of the same task.
      patience: an episode that `reset` draws is over after this many times as long as a
        demonstration goes on from there (a random one, from the task's own start), but
        not in less than a second; 0: at the task's time limit alone.
      dense: whether the reward is dm_control's own.
    """
    self.environment = environment
    self._demonstrations = demonstrations
    self._train = tuple(train)
    self._start_within = start_within
    self._rng = np.random.RandomState(seed)
    self._disturber = disturber
    self._patience = patience
    self._dense = dense
    self._time_limit = stepping.DENSE_STEPS if dense else environment.task.max_steps
    self._num_steps, self._return = 0, 0.0
    self._max_steps = self._time_limit
    self._reset_next_step = True

  def reset(self, demonstration: int | None = None) -> dm_env.TimeStep:
    """Starts an episode.

    Args:
      demonstration: in whose first state to start, and the seed of the disturbances;
        None draws by `start_within`.

    Returns:
      The first timestep.
    """
    self._max_steps = self._time_limit
    if demonstration is not None:
      state = self._demonstrations[demonstration].states[0]
      observation = self.environment.set_state(state)
    elif self._train:
      observation = self._draw(
        self._demonstrations[self._rng.choice(self._train)].states
      )
    else:
      observation = self.environment.reset().observation
    if self._disturber:
      observation = self._disturber.begin(demonstration)
    self._num_steps, self._return = 0, 0.0
    self._reset_next_step = False
    return observations.restart(self._with_goal(observation))

  def _draw(self, states: np.ndarray) -> dict[str, np.ndarray]:
    """Starts in one of a demonstration's states, or as the task does."""
    if self._rng.uniform() < self._start_within:
      start = self._rng.randint(len(states))
      observation = self.environment.set_state(states[start])
    else:
      start = 0
      observation = self.environment.reset().observation
    if self._patience:
      patience = max(math.ceil(self._patience * (len(states) - 1 - start)), _SECOND)
      self._max_steps = min(self._max_steps, patience)
    return observation

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Advances one control step; see `ManipulationEnvironment.advance`."""
    if self._reset_next_step:
      return self.reset()
    if self._disturber:
      action = self._disturber.act(action)
    observation = self.environment.advance(action)
    self._num_steps += 1
    if self._dense:
      reward, done = self.environment.dense_reward, False
    else:
      done = self.environment.succeeded
      reward = float(done)
    self._return += reward
    timed_out = self._num_steps >= self._max_steps
    self._reset_next_step = done or timed_out
    return dm_env.TimeStep(
      dm_env.StepType.LAST if self._reset_next_step else dm_env.StepType.MID,
      {imitation.IMITATION: np.float32(0), imitation.TASK: np.float32(reward)},
      {imitation.IMITATION: np.float32(1), imitation.TASK: np.float32(not done)},
      self._with_goal(observation),
    )

  def _with_goal(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if self._disturber:
      observation = self._disturber.sense(observation)
    return {**observation, imitation.GOAL: np.zeros(2, np.int32)}

  def step_measures(self) -> Mapping[str, float]:
    """Returns what there is to log of the last step: nothing."""
    return {}

  def episode_measures(self) -> Mapping[str, float]:
    """Returns what there is to log of an episode that has just ended."""
    return {
      'success': float(self.environment.succeeded),
      'episode_steps': float(self._num_steps),
      'return': self._return,
    }

  def close(self) -> None:
    """Closes the task."""
    self.environment.close()

  def observation_spec(self) -> dict[str, specs.Array]:
    """Returns the task's groups and `goal`."""
    return imitation.observation_spec(self.environment.layout)

  def action_spec(self) -> specs.BoundedArray:
    """Returns the task's."""
    return self.environment.action_spec()

  def reward_spec(self) -> dict[str, specs.Array]:
    """Returns `{imitation, task}`, float32 scalars in [0, 1]."""
    return dict(imitation.REWARD_SPEC)

  def discount_spec(self) -> dict[str, specs.BoundedArray]:
    """Returns `{imitation, task}`, float32 scalars, 0 or 1."""
    return dict(imitation.DISCOUNT_SPEC)
