"""What acts in an evaluation: policies shown something, and arms that do not learn."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from envs import imitation
from envs import observations as observations_lib
from metamimic.demonstrations import types

CONTROL_TIMESTEP = 0.04  # s

Batch = Mapping[str, np.ndarray]
Controller = Callable[[Batch, Sequence[imitation.ImitationEnvironment]], np.ndarray]
"""Batched observations, (B, ...), and their environments -> actions, (B, 9)."""


def zero(batch: Batch, environments: Sequence[object]) -> np.ndarray:
  """The floor: no motion."""
  del batch
  return np.zeros((len(environments), 9), np.float32)


def replay(demonstrations: Sequence[types.Demonstration]) -> Controller:
  """Returns the ceiling: the demonstrator's own actions, open loop. Sees actions."""

  def control(
    batch: Batch, environments: Sequence[imitation.ImitationEnvironment]
  ) -> np.ndarray:
    del batch
    return np.stack(
      [
        demonstrations[e.demonstration].actions[e.demonstration_step]
        for e in environments
      ]
    )

  return control


def tracker(
  demonstrations: Sequence[types.Demonstration], layout: observations_lib.Layout
) -> Controller:
  """Returns a proportional controller on the joints' differences to the next frame.

  Its gain makes up the difference within one control step.
  """

  def joints(frame: Batch) -> np.ndarray:
    angles = np.arctan2(layout.get(frame, 'arm_sin'), layout.get(frame, 'arm_cos'))
    return np.concatenate([angles, layout.get(frame, 'fingers')], -1)

  def control(
    batch: Batch, environments: Sequence[imitation.ImitationEnvironment]
  ) -> np.ndarray:
    following = [demonstrations[e.demonstration] for e in environments]
    steps = [
      min(e.demonstration_step + 1, d.num_steps)
      for e, d in zip(environments, following, strict=True)
    ]
    goal = {
      group: np.stack(
        [d.observations[group][t] for d, t in zip(following, steps, strict=True)]
      )
      for group in layout.sizes
    }
    difference = joints(goal) - joints(batch)
    difference[:, :6] = (difference[:, :6] + np.pi) % (2 * np.pi) - np.pi
    limits = environments[0].environment.scene.velocity_limits
    return np.clip(difference / CONTROL_TIMESTEP / limits, -1, 1).astype(np.float32)

  return control


def controls(
  demonstrations: types.DemonstrationSet, layout: observations_lib.Layout
) -> dict[str, Controller]:
  """Returns the arms without a policy, by name.

  Args:
    demonstrations: open-loop replay is among the arms if they have actions.
    layout: of the observations.
  """
  arms: dict[str, Controller] = {
    'tracker': tracker(demonstrations.demonstrations, layout),
    'zero': zero,
  }
  if demonstrations.has_actions:
    arms['replay'] = replay(demonstrations.demonstrations)
  return arms


def follow(act: Callable[[Batch], np.ndarray]) -> Controller:
  """Returns the policy, shown the demonstration that it is rewarded for."""
  return lambda batch, environments: act(batch)


def follow_wrong(
  act: Callable[[Batch], np.ndarray], shown: Mapping[int, int]
) -> Controller:
  """Returns the policy, shown another demonstration than it is rewarded for.

  Args:
    act: the policy.
    shown: demonstration that is rewarded -> the one that is shown.
  """

  def control(batch: Batch, environments: Sequence[object]) -> np.ndarray:
    goal = batch['goal'].copy()
    goal[:, 0] = [shown[i] for i in goal[:, 0]]
    return act({**batch, 'goal': goal})

  return control


def shuffled(demonstrations: Sequence[int]) -> dict[int, int]:
  """Returns another demonstration of the list for each.

  Raises:
    ValueError: there is but one.
  """
  if len(demonstrations) < 2:
    raise ValueError('there is one demonstration; expected two or more to swap')
  return dict(zip(demonstrations, np.roll(demonstrations, 1).tolist(), strict=True))


def misguided(
  act: Callable[[Batch], np.ndarray],
  unguided: Callable[[Batch], np.ndarray],
  demonstrations: Sequence[int],
) -> dict[str, Controller]:
  """Returns a policy that is not shown what it is rewarded for, by the arm's name.

  Args:
    act: the policy.
    unguided: the policy, its goal the present frame.
    demonstrations: among which to swap what is shown; with but one that is left out.
  """
  arms = {'no_demonstration': follow(unguided)}
  if len(demonstrations) > 1:
    arms['wrong_demonstration'] = follow_wrong(act, shuffled(demonstrations))
  return arms
