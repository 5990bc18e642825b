"""One protocol for every arm: follow a demonstration from its start to its end.

An episode is never ended early here, so that a policy that loses track goes on paying
for it. Every arm is measured on the same demonstrations from the same starts.
"""

from collections.abc import Callable, Mapping, Sequence
import csv
import dataclasses
import os

import numpy as np

from envs import imitation
from envs import observations as observations_lib
from envs import rewards
from envs import tasks
from metamimic.demonstrations import types

CONTROL_TIMESTEP = 0.04  # s
TRACKED = 0.05
"""A demonstration is completed up to where any reward term falls below this."""
_ENVIRONMENTS = 5

Batch = Mapping[str, np.ndarray]
Controller = Callable[[Batch, Sequence[imitation.ImitationEnvironment]], np.ndarray]
"""Batched observations, (B, ...), and their environments -> actions, (B, 9)."""


@dataclasses.dataclass(frozen=True)
class Episode:
  """What came of following one demonstration."""

  demonstration: int
  """Index of the one that was rewarded."""
  steps: int
  """Control steps of 0.04 s."""
  completed: float
  """Share of the demonstration before any reward term fell below `TRACKED`."""
  success: bool
  """Whether the task is in a success state, held, at the end."""
  terms: dict[str, float]
  """Mean of each reward term over the steps."""
  total: float
  """Mean reward over the steps."""


def make_environments(
  demonstrations: types.DemonstrationSet, reward: rewards.RewardFunction
) -> list[imitation.ImitationEnvironment]:
  """Returns environments to evaluate in."""
  return [
    imitation.ImitationEnvironment(environment, demonstrations.demonstrations, reward)
    for environment in tasks.load_many(demonstrations.task, range(_ENVIRONMENTS))
  ]


def run(
  environments: Sequence[imitation.ImitationEnvironment],
  demonstrations: Sequence[int],
  controller: Controller,
  should_stop: Callable[[], bool] = lambda: False,
) -> list[Episode]:
  """Follows each demonstration once.

  Args:
    environments: as many run in step with each other.
    demonstrations: indices.
    controller: the arm.
    should_stop: asked at every step.

  Returns:
    An episode for each demonstration, in their order; fewer if it was stopped.
  """
  waiting = list(reversed(demonstrations))
  running: list[_Running] = []
  free = list(environments)
  episodes: dict[int, Episode] = {}
  while (waiting or running) and not should_stop():
    while waiting and free:
      running.append(_Running(free.pop(), waiting.pop()))
    batch = {
      group: np.stack([r.observation[group] for r in running])
      for group in running[0].observation
    }
    actions = controller(batch, [r.environment for r in running])
    for r, action in zip(list(running), actions, strict=True):
      episode = r.step(action)
      if episode is not None:
        episodes[episode.demonstration] = episode
        running.remove(r)
        free.append(r.environment)
  return [episodes[i] for i in demonstrations if i in episodes]


class _Running:
  """An episode under way."""

  def __init__(self, environment: imitation.ImitationEnvironment, demonstration: int):
    self.environment = environment
    self.observation = environment.reset(demonstration, step=0).observation
    self._terms: list[dict[str, float]] = []
    self._totals: list[float] = []
    self._lost: int | None = None

  def step(self, action: np.ndarray) -> Episode | None:
    """Returns the episode when it is over."""
    environment = self.environment
    timestep = environment.step(action)
    self.observation = timestep.observation
    result = environment.result
    self._terms.append(result.terms)
    self._totals.append(result.total)
    if self._lost is None and min(result.terms.values()) < TRACKED:
      self._lost = len(self._totals) - 1
    if not timestep.last():
      return None
    steps = len(self._totals)
    return Episode(
      demonstration=environment.demonstration,
      steps=steps,
      completed=(steps if self._lost is None else self._lost) / steps,
      success=environment.environment.succeeded,
      terms={
        name: float(np.mean([terms[name] for terms in self._terms]))
        for name in result.terms
      },
      total=float(np.mean(self._totals)),
    )


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


def measured(path: str) -> set[tuple[str, str, str]]:
  """Returns (arm, split, demonstration) of each row in a file of `append_rows`.

  Args:
    path: the file; it may not be there yet.
  """
  if not os.path.exists(path):
    return set()
  with open(path, newline='') as f:
    return {
      (row['arm'], row['split'], row['demonstration']) for row in csv.DictReader(f)
    }


def rows(
  episodes: Sequence[Episode],
  *,
  seed: int,
  learner_steps: int,
  arm: str,
  split: str,
  demonstrations: Sequence[types.Demonstration],
) -> list[dict[str, str | int | float]]:
  """Returns episodes as rows of evaluation.csv, by column.

  Args:
    episodes: what came of following demonstrations.
    seed: of the run.
    learner_steps: how far the policy was trained.
    arm: what acted.
    split: train or valid.
    demonstrations: to name those that were followed.
  """
  return [
    {
      'seed': seed,
      'learner_steps': learner_steps,
      'arm': arm,
      'demonstration': demonstrations[e.demonstration].name,
      'split': split,
      'steps': e.steps,
      'completed': round(e.completed, 4),
      'success': int(e.success),
      **{f'reward/{name}': round(value, 5) for name, value in e.terms.items()},
      'total': round(e.total, 5),
    }
    for e in episodes
  ]


def append_rows(path: str, rows_: Sequence[Mapping[str, str | int | float]]) -> None:
  """Appends rows to a CSV file, with a header if it is new."""
  if not rows_:
    return
  new = not os.path.exists(path) or not os.path.getsize(path)
  with open(path, 'a', newline='') as f:
    writer = csv.DictWriter(f, list(rows_[0]))
    if new:
      writer.writeheader()
    writer.writerows(rows_)
