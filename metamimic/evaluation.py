"""One protocol for every arm that follows a demonstration, from its start to its end.

An episode is never ended early here, so that a policy that loses track goes on paying
for it. Every arm is measured on the same demonstrations from the same starts, as are
the policies that follow none and are to solve the task.
"""

from collections.abc import Callable, Mapping, Sequence
import csv
import dataclasses
import io
import math
import os
from typing import Any, Protocol

import numpy as np

from envs import disturbances
from envs import imitation
from envs import pictures as pictures_lib
from envs import rewards
from envs import solving
from envs import stepping
from envs import tasks
from metamimic import controllers
from metamimic import files
from metamimic.demonstrations import types

TRACKED = 0.05
"""A demonstration is completed up to where any reward term falls below this."""
_ENVIRONMENTS = 5


@dataclasses.dataclass(frozen=True)
class Episode:
  """What came of following one demonstration."""

  demonstration: int
  """Index of the one that was rewarded."""
  steps: int
  """Control steps of 0.04 s."""
  completed: float
  """Share of the demonstration before any reward term fell below `TRACKED`; of an arm
  that follows none, as the rewards below: nan."""
  success: bool
  """Whether the task is in a success state, held, at the end."""
  solved: int | None
  """Control steps until it was for the first time; None: it never was."""
  terms: dict[str, float]
  """Mean of each reward term over the steps."""
  total: float
  """Mean reward over the steps."""
  returned: float = math.nan
  """Sum of the task's reward; of an arm that follows a demonstration: nan."""


def make_environments(
  demonstrations: types.DemonstrationSet,
  reward: rewards.RewardFunction,
  disturbance: disturbances.Disturbance = disturbances.NONE,
  pictures: pictures_lib.Pictures | None = None,
) -> list[imitation.ImitationEnvironment]:
  """Returns environments to evaluate in.

  Args:
    demonstrations: what to follow.
    reward: of imitation.
    disturbance: of every episode; the same for every arm that follows a demonstration.
    pictures: that policies want to see; None: none.
  """
  return [
    imitation.ImitationEnvironment(
      environment, demonstrations.demonstrations, reward, disturber=disturber
    )
    for environment, disturber in _disturbed(demonstrations.task, disturbance, pictures)
  ]


def make_task_environments(
  demonstrations: types.DemonstrationSet,
  disturbance: disturbances.Disturbance = disturbances.NONE,
  pictures: pictures_lib.Pictures | None = None,
  dense: bool = False,
) -> list[solving.TaskEnvironment]:
  """Returns environments for `solve`.

  Args:
    demonstrations: as for `make_environments`.
    disturbance: likewise.
    pictures: likewise.
    dense: whether the reward is dm_control's own.
  """
  return [
    solving.TaskEnvironment(
      environment, demonstrations.demonstrations, disturber=disturber, dense=dense
    )
    for environment, disturber in _disturbed(demonstrations.task, disturbance, pictures)
  ]


def _disturbed(
  task: str,
  disturbance: disturbances.Disturbance,
  pictures: pictures_lib.Pictures | None,
) -> list[tuple[stepping.ManipulationEnvironment, disturbances.Disturber | None]]:
  seeds = range(_ENVIRONMENTS)
  environments = tasks.load_many(task, seeds, pictures)
  if disturbance == disturbances.NONE:
    return [(environment, None) for environment in environments]
  made = disturbances.make(environments, disturbance, seeds)
  return list(zip(environments, made, strict=True))


def run(
  environments: Sequence[imitation.ImitationEnvironment],
  controller: controllers.Controller,
  demonstrations: Sequence[int],
  should_stop: Callable[[], bool] = lambda: False,
) -> list[Episode]:
  """Follows each demonstration once.

  Args:
    environments: as many run in step with each other.
    controller: the arm.
    demonstrations: indices.
    should_stop: asked at every step.

  Returns:
    An episode for each demonstration, in their order; fewer if it was stopped.
  """
  return _in_step(environments, demonstrations, _Following, controller, should_stop)


def solve(
  environments: Sequence[solving.TaskEnvironment],
  act: Callable[[controllers.Batch], np.ndarray],
  demonstrations: Sequence[int],
  should_stop: Callable[[], bool] = lambda: False,
) -> list[Episode]:
  """Lets a policy without a goal solve the task, from where demonstrations start.

  Args:
    environments: as many run in step with each other.
    act: the policy: batched observations -> actions.
    demonstrations: indices of those in whose first states to start.
    should_stop: asked at every step.

  Returns:
    An episode for each start, in their order; fewer if it was stopped.
  """
  return _in_step(
    environments, demonstrations, _Solving, lambda batch, _: act(batch), should_stop
  )


class _Running(Protocol):
  """An episode under way."""

  environment: Any
  observation: controllers.Batch

  def step(self, action: np.ndarray) -> Episode | None:
    """Returns the episode when it is over."""


def _in_step(
  environments: Sequence[Any],
  demonstrations: Sequence[int],
  begin: Callable[[Any, int], _Running],
  act: Callable[[controllers.Batch, Sequence[Any]], np.ndarray],
  should_stop: Callable[[], bool],
) -> list[Episode]:
  """Runs an episode for each demonstration, as many at a time as environments."""
  waiting = list(reversed(demonstrations))
  free = list(environments)
  running: list[_Running] = []
  episodes: dict[int, Episode] = {}
  while (waiting or running) and not should_stop():
    while waiting and free:
      running.append(begin(free.pop(), waiting.pop()))
    batch = {
      group: np.stack([r.observation[group] for r in running])
      for group in running[0].observation
    }
    actions = act(batch, [r.environment for r in running])
    for r, action in zip(list(running), actions, strict=True):
      episode = r.step(action)
      if episode is not None:
        episodes[episode.demonstration] = episode
        running.remove(r)
        free.append(r.environment)
  return [episodes[i] for i in demonstrations if i in episodes]


class _Solving:
  def __init__(self, environment: solving.TaskEnvironment, demonstration: int):
    self.environment = environment
    self.observation: controllers.Batch = environment.reset(demonstration).observation
    self._demonstration = demonstration
    self._steps, self._return = 0, 0.0
    self._solved: int | None = None

  def step(self, action: np.ndarray) -> Episode | None:
    timestep = self.environment.step(action)
    self.observation = timestep.observation
    self._steps += 1
    self._return += float(timestep.reward[imitation.TASK])
    success = self.environment.environment.succeeded
    if self._solved is None and success:
      self._solved = self._steps
    if not timestep.last():
      return None
    return Episode(
      demonstration=self._demonstration,
      steps=self._steps,
      completed=math.nan,
      success=success,
      solved=self._solved,
      terms={},
      total=math.nan,
      returned=self._return,
    )


class _Following:
  def __init__(self, environment: imitation.ImitationEnvironment, demonstration: int):
    self.environment = environment
    self.observation: controllers.Batch = environment.reset(
      demonstration, step=0
    ).observation
    self._terms: list[dict[str, float]] = []
    self._totals: list[float] = []
    self._lost: int | None = None
    self._solved: int | None = None

  def step(self, action: np.ndarray) -> Episode | None:
    environment = self.environment
    timestep = environment.step(action)
    self.observation = timestep.observation
    result = environment.result
    self._terms.append(result.terms)
    self._totals.append(result.total)
    if self._lost is None and min(result.terms.values()) < TRACKED:
      self._lost = len(self._totals) - 1
    if self._solved is None and environment.environment.succeeded:
      self._solved = len(self._totals)
    if not timestep.last():
      return None
    steps = len(self._totals)
    return Episode(
      demonstration=environment.demonstration,
      steps=steps,
      completed=(steps if self._lost is None else self._lost) / steps,
      success=environment.environment.succeeded,
      solved=self._solved,
      terms={
        name: float(np.mean([terms[name] for terms in self._terms]))
        for name in result.terms
      },
      total=float(np.mean(self._totals)),
    )


def measured(path: str) -> set[tuple[str, str, str]]:
  """Returns (arm, split, demonstration) of each row in a file of `append_rows`.

  For whom appends to it: a last row within which another process died is removed.

  Args:
    path: the file; it may not be there yet.

  Raises:
    ValueError: it is damaged.
  """
  if not os.path.exists(path):
    return set()
  files.cut_torn_line(path)
  try:
    with open(path, newline='') as f:
      return {
        (row['arm'], row['split'], row['demonstration']) for row in csv.DictReader(f)
      }
  except (csv.Error, KeyError, ValueError) as e:
    raise ValueError(
      f'{path}: expected CSV with the columns arm, split and demonstration ({e!r:.500})'
    ) from e


def rows(
  episodes: Sequence[Episode],
  *,
  seed: int,
  learner_steps: int,
  arm: str,
  split: str,
  demonstrations: Sequence[types.Demonstration],
  terms: Sequence[str],
) -> list[dict[str, str | int | float]]:
  """Returns episodes as rows of evaluation.csv, by column.

  Args:
    episodes: what came of following demonstrations.
    seed: of the run.
    learner_steps: how far the policy was trained.
    arm: what acted.
    split: one of `types.SPLITS`.
    demonstrations: to name those that were followed.
    terms: names of the reward's terms.
  """
  return [
    {
      'seed': seed,
      'learner_steps': learner_steps,
      'arm': arm,
      'demonstration': demonstrations[e.demonstration].name,
      'skill': demonstrations[e.demonstration].skill,
      'split': split,
      'steps': e.steps,
      'completed': round(e.completed, 4),
      'success': int(e.success),
      'solved': math.nan if e.solved is None else e.solved,
      **{f'reward/{name}': round(e.terms.get(name, math.nan), 5) for name in terms},
      'total': round(e.total, 5),
      'return': round(e.returned, 5),
    }
    for e in episodes
  ]


def append_rows(path: str, rows_: Sequence[Mapping[str, str | int | float]]) -> None:
  """Appends rows to a CSV file, with a header if it is new; all of them or none.

  A last row within which another process died is removed first.

  Raises:
    OSError: it cannot be written.
    ValueError: what is there has other columns.
  """
  if not rows_:
    return
  columns = list(rows_[0])
  if os.path.exists(path):
    files.cut_torn_line(path)
    with open(path, newline='') as there:
      found = next(csv.reader(there), columns)
    if found != columns:
      raise ValueError(f'{path}: has the columns {found}; expected {columns}')
  text = io.StringIO()
  writer = csv.DictWriter(text, columns)
  with open(path, 'ab', buffering=0) as f:
    size = f.tell()
    if not size:
      writer.writeheader()
    writer.writerows(rows_)
    content = text.getvalue().encode()
    try:
      while content:
        content = content[f.write(content) :]
      os.fsync(f.fileno())
    except OSError:
      f.truncate(size)
      raise
