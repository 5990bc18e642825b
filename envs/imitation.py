"""An environment that rewards following one demonstration, frame by frame."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import dm_env
from dm_env import specs
import numpy as np

from envs import disturbances
from envs import observations
from envs import rewards
from envs import stepping

IMITATION = 'imitation'
TASK = 'task'
GOAL = 'goal'
REWARD_SPEC = dict.fromkeys((IMITATION, TASK), stepping.REWARD_SPEC)
DISCOUNT_SPEC = dict.fromkeys((IMITATION, TASK), stepping.DISCOUNT_SPEC)
_TAIL = 5  # More control steps than this are left at the latest start.


class Reference(Protocol):
  """What the environment needs of a demonstration. Of its actions: nothing."""

  @property
  def skill(self) -> str:
    """Which of the task's skills it shows."""

  @property
  def observations(self) -> Mapping[str, np.ndarray]:
    """By group, (T+1, n) float32."""

  @property
  def states(self) -> np.ndarray:
    """Physics states, (T+1, S) float64."""


def observation_spec(layout: observations.Layout) -> dict[str, specs.Array]:
  """Returns the groups of the layout and `goal`."""
  return {**layout.spec(), GOAL: specs.Array((2,), np.int32, name=GOAL)}


class ImitationEnvironment(dm_env.Environment):
  """Conditions a task on a demonstration and rewards tracking it.

  The observation has a group `goal` beside the task's own: (demonstration's index, step
  within it), int32. The demonstration itself is looked up where it is needed, in the
  actor and in the learner, so that replay holds two numbers instead of frames.

  Rewards and discounts are `{imitation, task}`. The task's discount is 0 in every state
  in which the skill that the demonstration shows has succeeded, judged from where the
  episode began. An episode ends

  * at the demonstration's end: both discounts as they would be otherwise;
  * early, when tracking is lost: imitation's discount is 0, the task's is untouched.
  """

  def __init__(
    self,
    environment: stepping.ManipulationEnvironment,
    demonstrations: Sequence[Reference],
    reward: rewards.RewardFunction,
    train: Sequence[int] = (),
    start_within: float = 0.0,
    early_end: float = 0.0,
    seed: int = 0,
    disturber: disturbances.Disturber | None = None,
  ):
    """Wraps a task.

    Args:
      environment: the task.
      demonstrations: all that can be followed; an index into them is what `goal` holds.
      reward: of imitation.
      train: indices that `reset` draws from when it is not told one; empty: all.
      start_within: probability that such an episode starts in a random state of its
        demonstration instead of the first.
      early_end: an episode ends when any reward term is below this.
      seed: of demonstrations and starts.
      disturber: of the same task.
    """
    self.environment = environment
    self.result = rewards.RewardResult(0.0, {})
    """The reward of the last step and its terms."""
    self._demonstrations = demonstrations
    self._reward = reward
    self._train = tuple(train) or tuple(range(len(demonstrations)))
    self._start_within = start_within
    self._early_end = early_end
    self._rng = np.random.RandomState(seed)
    self._disturber = disturber
    self._begun = self._step = 0
    self._reset_next_step = True
    self._follow(self._train[0])

  def _follow(self, index: int) -> None:
    demonstration = self._demonstrations[index]
    self._index = index
    self._skill = demonstration.skill
    self._states = demonstration.states
    self._frames = demonstration.observations
    self._length = len(self._states) - 1

  @property
  def demonstration(self) -> int:
    """Index of the demonstration that is followed."""
    return self._index

  @property
  def demonstration_step(self) -> int:
    """Step within it, 0 at its start."""
    return self._step

  @property
  def demonstration_length(self) -> int:
    """Its control steps."""
    return self._length

  @property
  def goal(self) -> dict[str, np.ndarray]:
    """The demonstration's observation at the present step."""
    return {group: values[self._step] for group, values in self._frames.items()}

  def reset(
    self, demonstration: int | None = None, step: int | None = None
  ) -> dm_env.TimeStep:
    """Starts an episode in a state of a demonstration.

    Args:
      demonstration: its index, which is also the seed of its disturbances; None draws
        one of `train`.
      step: where in it to start; None draws by `start_within`.

    Returns:
      The first timestep.
    """
    disturbances_seed = demonstration
    if demonstration is None:
      demonstration = self._train[self._rng.randint(len(self._train))]
    self._follow(demonstration)
    if step is None:
      step = 0
      if self._rng.uniform() < self._start_within:
        step = self._rng.randint(max(self._length - _TAIL, 1))
    self._begun = self._step = step
    self._reset_next_step = False
    self.environment.pursue(self._skill)
    observation = self.environment.set_state(self._states[step])
    if self._disturber:
      observation = self._disturber.begin(disturbances_seed)
    return observations.restart(self._with_goal(observation))

  def step(self, action: np.ndarray) -> dm_env.TimeStep:
    """Advances one control step; see `ManipulationEnvironment.advance`.

    Raises:
      RuntimeError: the simulation has diverged.
      ValueError: the reward or one of its terms is not in [0, 1].
    """
    if self._reset_next_step:
      return self.reset()
    if self._disturber:
      action = self._disturber.act(action)
    observation = self.environment.advance(action)
    self._step += 1
    self.result = self._reward(observation, self.goal)
    try:
      rewards.check_range(self.result)
    except ValueError as e:
      raise ValueError(
        f'the reward of demonstration {self._index}, step {self._step}: {e}'
      ) from None
    lost = min(self.result.terms.values()) < self._early_end
    success = self.environment.succeeded
    reward = {
      IMITATION: np.float32(self.result.total),
      TASK: np.float32(success),
    }
    discount = {IMITATION: np.float32(not lost), TASK: np.float32(not success)}
    self._reset_next_step = lost or self._step >= self._length
    step_type = dm_env.StepType.LAST if self._reset_next_step else dm_env.StepType.MID
    return dm_env.TimeStep(step_type, reward, discount, self._with_goal(observation))

  def _with_goal(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if self._disturber:
      observation = self._disturber.sense(observation)
    return {**observation, GOAL: np.array([self._index, self._step], np.int32)}

  def step_measures(self) -> Mapping[str, float]:
    """Returns what there is to log of the last step: the reward and its terms."""
    terms = {f'reward/{name}': value for name, value in self.result.terms.items()}
    return {'reward': self.result.total, **terms}

  def episode_measures(self) -> Mapping[str, float]:
    """Returns what there is to log of an episode that has just ended."""
    left = self._length - self._begun
    return {'completed': (self._step - self._begun) / left}

  def close(self) -> None:
    """Closes the task."""
    self.environment.close()

  def observation_spec(self) -> dict[str, specs.Array]:
    """Returns the task's groups and `goal`."""
    return observation_spec(self.environment.layout)

  def action_spec(self) -> specs.BoundedArray:
    """Returns the task's."""
    return self.environment.action_spec()

  def reward_spec(self) -> dict[str, specs.Array]:
    """Returns `{imitation, task}`, float32 scalars in [0, 1]."""
    return dict(REWARD_SPEC)

  def discount_spec(self) -> dict[str, specs.BoundedArray]:
    """Returns `{imitation, task}`, float32 scalars, 0 or 1."""
    return dict(DISCOUNT_SPEC)
