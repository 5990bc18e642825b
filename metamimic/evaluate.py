"""Evaluates a run's policy on anybody's demonstrations.

python -m metamimic.evaluate runs/lift_brick --demonstrations mine.hdf5
"""

import dataclasses
import os
import sys
from typing import Annotated, Literal

import pandas as pd
from rich import console as rich_console
from rich import table as rich_table
import tyro

from envs import observations as observations_lib
from envs import rendering
from envs import rewards
from envs import tasks
from metamimic import evaluation
from metamimic import policy as policy_lib
from metamimic import preparation
from metamimic import showing
from metamimic import statistics
from metamimic.demonstrations import goals
from metamimic.demonstrations import storage
from metamimic.demonstrations import types


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Evaluates a run's policy on demonstrations, beside the arms that do not learn."""

  run_dir: Annotated[str, tyro.conf.Positional]
  """A run directory with a checkpoint."""
  demonstrations: str
  """HDF5 file of demonstrations of the run's task; none of them is trained on."""
  split: Literal['valid', 'train', 'all'] = 'valid'
  """Which of the file's demonstrations to follow."""
  max_demonstrations: int = 50
  """At most so many of each split."""
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
  if arguments.output and os.path.exists(arguments.output):
    raise FileExistsError(f'{arguments.output}: it is there already')
  if arguments.max_demonstrations < 1:
    raise ValueError(
      f'max_demonstrations is {arguments.max_demonstrations}; expected 1 or more'
    )
  if arguments.video_folder:
    rendering.choose_gl()
  about = preparation.description(arguments.run_dir)
  path = arguments.demonstrations
  demonstrations = storage.load(path, with_actions=storage.has_actions(path))
  if demonstrations.task != about['task']:
    raise ValueError(
      f'{path}: its task is {demonstrations.task!r}; expected {about["task"]!r}, which '
      f'{arguments.run_dir} was trained on'
    )
  chosen = {
    split: list(getattr(demonstrations, split))[: arguments.max_demonstrations]
    for split in statistics.SPLITS
    if arguments.split in (split, 'all') and getattr(demonstrations, split)
  }
  if not chosen:
    raise ValueError(f'{path}: no demonstrations in the split {arguments.split!r}')
  imitator = policy_lib.load(arguments.run_dir)
  layout = observations_lib.Layout(tasks.get(demonstrations.task).objects)
  reward = rewards.load(about['reward'], layout, about['temperatures'])
  table = _evaluate(imitator, demonstrations, reward, layout, chosen, arguments)
  _print(table)
  return table


def _evaluate(
  imitator: policy_lib.Imitator,
  demonstrations: types.DemonstrationSet,
  reward: rewards.RewardFunction,
  layout: observations_lib.Layout,
  chosen: dict[str, list[int]],
  arguments: Arguments,
) -> pd.DataFrame:
  act = imitator.policy.actor(goals.GoalBank(demonstrations.demonstrations))
  environments = evaluation.make_environments(demonstrations, reward)
  rows = []
  for split, indices in chosen.items():
    arms = {
      imitator.config.algorithm: evaluation.follow(act),
      **evaluation.controls(demonstrations, layout),
    }
    if len(indices) > 1:
      shown = evaluation.shuffled(indices)
      arms['wrong_demonstration'] = evaluation.follow_wrong(act, shown)
    for arm, controller in arms.items():
      episodes = evaluation.run(environments, indices, controller)
      rows += evaluation.rows(
        episodes,
        seed=imitator.config.seed,
        learner_steps=imitator.learner_steps,
        arm=arm,
        split=split,
        demonstrations=demonstrations.demonstrations,
      )
  table = pd.DataFrame(rows)
  if arguments.output:
    table.to_csv(arguments.output + '.tmp', index=False)
    os.replace(arguments.output + '.tmp', arguments.output)
  if arguments.video_folder:
    for i in [i for indices in chosen.values() for i in indices][:3]:
      showing.write_comparison(
        arguments.video_folder, environments[0], demonstrations, i, act
      )
  return table


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
      f'{row["reward"]:.3f} ({row["reward_low"]:.3f}-{row["reward_high"]:.3f})',
      f'{row["ratio"]:.2f}',
      f'{row["completed"]:.2f}',
      f'{row["success"]:.2f} ({row["success_low"]:.2f}-{row["success_high"]:.2f})',
    )
  rich_console.Console(width=None if sys.stdout.isatty() else 100).print(shown)
  print('In brackets: 95 % intervals over episodes.')


if __name__ == '__main__':
  try:
    main(tyro.cli(Arguments, prog='python -m metamimic.evaluate'))
  except (OSError, ValueError, RuntimeError) as e:
    sys.exit(f'error: {e}')
