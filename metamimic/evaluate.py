"""Evaluates a run's policies on anybody's demonstrations.

python -m metamimic.evaluate runs/lift_brick --demonstrations mine.hdf5
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import itertools
import math
import os
import sys
from typing import Annotated, Any, Literal

import pandas as pd
from rich import console as rich_console
from rich import table as rich_table
import tyro

from envs import disturbances
from envs import imitation
from envs import observations
from envs import rendering
from envs import rewards
from envs import solving
from metamimic import config as config_lib
from metamimic import controllers
from metamimic import evaluation
from metamimic import loading
from metamimic import preparation
from metamimic import run_description
from metamimic import showing
from metamimic import statistics
from metamimic import validation
from metamimic.demonstrations import frames
from metamimic.demonstrations import goals
from metamimic.demonstrations import storage
from metamimic.demonstrations import types


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Evaluates a run's policies on demonstrations, beside the arms that do not learn."""

  run_dir: Annotated[str, tyro.conf.Positional]
  """A run directory with a checkpoint."""
  demonstrations: str
  """HDF5 file of demonstrations of the run's task: its own, or any other."""
  split: Literal['valid', 'novel', 'train', 'all'] = 'valid'
  """Which of the file's demonstrations to follow; novel: held-out ones of skills that
  the run was trained without."""
  max_demonstrations: int = 50
  """At most so many of each split."""
  disturbance: disturbances.Disturbance = disturbances.NONE
  """What goes wrong in every episode, the same for every arm."""
  trust_reward: str = ''
  """The run's reward, if it is not of envs.reward_library: importing it runs code."""
  output: str = ''
  """CSV file to write, one row an episode; empty: none."""
  video_folder: str = ''
  """Folder for videos of the first three, demonstration beside agent; empty: none."""


def main(arguments: Arguments) -> pd.DataFrame:
  """Evaluates, prints a table and returns the episodes.

  Raises:
    ValueError: the file is of another task, or has no demonstration in the split.
    OSError: a file is missing, or the output is there already.
  """
  if arguments.output:
    if os.path.exists(arguments.output):
      raise FileExistsError(f'{arguments.output}: it is there already')
    folder = os.path.dirname(os.path.abspath(arguments.output))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
      raise NotADirectoryError(
        f'output is {arguments.output}; expected {folder} to be a folder that can be '
        'written to'
      )
  if arguments.max_demonstrations < 1:
    raise ValueError(
      f'max_demonstrations is {arguments.max_demonstrations}; expected 1 or more'
    )
  if arguments.video_folder:
    rendering.choose_gl()
  about = run_description.read(arguments.run_dir)
  path = arguments.demonstrations
  config = config_lib.load(os.path.join(arguments.run_dir, 'config.json'))
  demonstrations = _load(path, config)
  if demonstrations.task != about['task']:
    raise ValueError(
      f'{path}: its task is {demonstrations.task!r}; expected {about["task"]!r}, which '
      f'{arguments.run_dir} was trained on'
    )
  chosen = {
    split: demonstrations.ids(split)[: arguments.max_demonstrations]
    for split in statistics.SPLITS
    if arguments.split in (split, 'all') and demonstrations.ids(split)
  }
  if not chosen:
    raise ValueError(f'{path}: no demonstrations in the split {arguments.split!r}')
  validation.check_trusted(
    arguments.run_dir,
    about.get('reward', ''),
    arguments.trust_reward,
    '--trust-reward',
  )
  reward = run_description.reward(arguments.run_dir)
  measure = Measure(
    demonstrations,
    reward,
    about['terms'],
    config.seed,
    chosen,
    arguments.disturbance,
    preparation.seen_layout(config, about['task']),
    dense=config.task.is_dense,
  )
  for learner in config.learners:
    if config.follows(learner):
      imitator = loading.load(arguments.run_dir)
      measure.imitator(config.arm(learner), imitator)
      measure.misguided(imitator)
    else:
      measure.solver(config.arm(learner), loading.load_task(arguments.run_dir))
  measure.controls()
  table = pd.DataFrame(measure.rows)
  _print(table)
  if arguments.output:
    table.to_csv(arguments.output + '.tmp', index=False)
    os.replace(arguments.output + '.tmp', arguments.output)
  if arguments.video_folder:
    measure.draw(arguments.video_folder)
  return table


def _load(path: str, config: config_lib.Config) -> types.DemonstrationSet:
  """Returns a file's demonstrations; of the run's own, those that the run has."""
  with_actions = storage.has_actions(path)
  own = config.demonstrations
  if os.path.exists(own) and os.path.samefile(path, own):
    return preparation.load_demonstrations(config, with_actions)
  found = storage.load(path, with_actions=with_actions)
  return found.without(set(config.without_skills) & set(found.skills))


def _seen(
  demonstrations: types.DemonstrationSet,
  layout: observations.Layout,
  chosen: Mapping[str, Sequence[int]],
) -> Sequence[types.Demonstration | frames.Seen]:
  """Returns the demonstrations; those shown, with pictures if there are any."""
  found: list[types.Demonstration | frames.Seen] = [*demonstrations.demonstrations]
  if layout.pictures is not None:
    shown = [*itertools.chain.from_iterable(chosen.values())]
    seen = frames.see(
      [demonstrations.demonstrations[i] for i in shown], layout.pictures
    )
    for i, demonstration in zip(shown, seen, strict=True):
      found[i] = demonstration
  return found


class Measure:
  """Measures arms on the chosen demonstrations."""

  def __init__(
    self,
    demonstrations: types.DemonstrationSet,
    reward: rewards.RewardFunction,
    terms: Sequence[str],
    seed: int,
    chosen: Mapping[str, Sequence[int]],
    disturbance: disturbances.Disturbance,
    layout: observations.Layout,
    dense: bool = False,
  ):
    """Makes the environments.

    Args:
      demonstrations: of the task; with their actions, for open-loop replay.
      reward: of imitation.
      terms: names of its terms.
      seed: of the run that is measured.
      chosen: indices of demonstrations by split.
      disturbance: of every episode.
      layout: of what the policies see.
      dense: whether the task's reward is dm_control's own.

    Raises:
      RuntimeError: they see pictures, and this machine cannot render.
    """
    self.rows: list[Mapping[str, object]] = []
    """Of evaluation.csv, so far."""
    self._demonstrations = demonstrations
    self._terms = terms
    self._seed = seed
    self._chosen = chosen
    self._environments = self._unseen = evaluation.make_environments(
      demonstrations, reward, disturbance, layout.pictures
    )
    if layout.pictures is not None:
      # Drawing for arms that do not look would take longer than all the rest.
      self._unseen = evaluation.make_environments(demonstrations, reward, disturbance)
    self._make_solve_in = functools.partial(
      evaluation.make_task_environments,
      demonstrations,
      disturbance,
      layout.pictures,
      dense,
    )
    self._layout = layout
    self._draw: list[Callable[[str, int], object]] = []

  @functools.cached_property
  def _bank(self) -> goals.GoalBank:
    seen = _seen(self._demonstrations, self._layout, self._chosen)
    return goals.GoalBank(seen, self._layout)

  @functools.cached_property
  def _solve_in(self) -> list[solving.TaskEnvironment]:
    return self._make_solve_in()

  def imitator(self, arm: str, imitator: loading.Imitator) -> None:
    """Measures a policy that follows demonstrations."""
    act = imitator.policy.actor(self._bank)
    follow = controllers.follow(act)
    self._follow(self._environments, arm, follow, imitator.learner_steps)
    self._draw.append(
      lambda folder, i: showing.write_comparison(
        folder, self._environments[0], self._demonstrations, act, i
      )
    )

  def misguided(self, imitator: loading.Imitator) -> None:
    """Measures it when it is shown another demonstration, or none."""
    act, unguided = imitator.policy.actor(self._bank), imitator.policy.unguided()
    for split, indices in self._chosen.items():
      for arm, controller in controllers.misguided(act, unguided, indices).items():
        episodes = evaluation.run(self._environments, controller, indices)
        self._add(arm, split, episodes, imitator.learner_steps)

  def solver(self, arm: str, solver: loading.Solver) -> None:
    """Measures a policy that is to solve the task."""
    act = solver.policy.actor()
    for split, indices in self._chosen.items():
      episodes = evaluation.solve(self._solve_in, act, indices)
      self._add(arm, split, episodes, solver.learner_steps)
    self._draw.append(
      lambda folder, i: showing.write_solution(
        folder, arm, self._solve_in[0], self._demonstrations, act, i
      )
    )

  def controls(self) -> None:
    """Measures the arms that do not learn."""
    layout = self._unseen[0].environment.layout
    for arm, controller in controllers.controls(self._demonstrations, layout).items():
      self._follow(self._unseen, arm, controller, 0)

  def _follow(
    self,
    environments: Sequence[imitation.ImitationEnvironment],
    arm: str,
    controller: controllers.Controller,
    steps: int,
  ) -> None:
    for split, indices in self._chosen.items():
      episodes = evaluation.run(environments, controller, indices)
      self._add(arm, split, episodes, steps)

  def _add(
    self, arm: str, split: str, episodes: Sequence[evaluation.Episode], steps: int
  ) -> None:
    self.rows += evaluation.rows(
      episodes,
      seed=self._seed,
      learner_steps=steps,
      arm=arm,
      split=split,
      demonstrations=self._demonstrations.demonstrations,
      terms=self._terms,
    )

  def draw(self, folder: str) -> None:
    """Writes videos of each policy on the first three demonstrations."""
    for i in [i for indices in self._chosen.values() for i in indices][:3]:
      for write in self._draw:
        write(folder, i)


def _print(table: pd.DataFrame) -> None:
  shown = rich_table.Table()
  for name in ('arm', 'split', 'episodes', 'reward', 'of replay'):
    shown.add_column(name, no_wrap=True)
  shown.add_column('completed')
  shown.add_column('success')
  for row in statistics.summarise(table).to_dict('records'):
    shown.add_row(
      row['arm'],
      row['split'],
      str(row['n']),
      _interval(row, 'reward', '.3f'),
      _number(row['ratio']),
      _number(row['completed']),
      _interval(row, 'success', '.2f'),
    )
  rich_console.Console(width=None if sys.stdout.isatty() else 100).print(shown)
  print('In brackets: 95 % intervals over the episodes of this one run.')


def _number(value: float, form: str = '.2f') -> str:
  return '-' if math.isnan(value) else format(value, form)


def _interval(row: Mapping[str, Any], name: str, form: str) -> str:
  if math.isnan(row[name + '_low']):
    return _number(row[name], form)
  return (
    f'{row[name]:{form}} ({row[name + "_low"]:{form}}-{row[name + "_high"]:{form}})'
  )


if __name__ == '__main__':
  try:
    main(tyro.cli(Arguments, prog='python -m metamimic.evaluate'))
  except (OSError, ValueError, RuntimeError) as e:
    sys.exit(f'error: {e}')
