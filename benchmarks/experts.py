"""How reliable the scripted demonstrators are, and how long they take.

    python -m benchmarks.experts

Lets the expert of every skill of every task try once from each of some fresh starts,
with a style from either range. Nothing is rejected here, nor tried again. Writes
results/experts.csv, a row an attempt, and prints the table. Exit status 1: a skill
succeeds less often than it must, or takes longer than an episode too often.
"""

from collections.abc import Sequence
import dataclasses
import sys
from typing import Any

import numpy as np
import pandas as pd
import tyro

from benchmarks import common
from envs import tasks
from metamimic.demonstrations import experts
from metamimic.demonstrations import recording
from metamimic.demonstrations import skills

_SEED = 20_000
"""Apart from the seeds that anything else here uses."""
_BAR = 0.90
_BARS = {'unstack': 0.82}
"""Share of attempts that must succeed, where it is another one than `_BAR`: the base
may come up with the brick on its studs."""


@dataclasses.dataclass(frozen=True)
class Arguments:
  """How reliable the scripted demonstrators are, and how long they take."""

  attempts: int = 50
  """Starts for each skill and split."""
  tasks: tuple[str, ...] = tuple(experts.EXPERTS)
  """Whose experts to measure."""
  skills: tuple[str, ...] = ()
  """Which of their skills; unless given, all."""
  output: str = f'{common.RESULTS}/experts.csv'
  """CSV file to write."""


def measure(
  task: str, attempts: int, wanted: Sequence[str] = ()
) -> list[dict[str, Any]]:
  """Returns a row for each attempt at each skill of a task, in either split.

  Args:
    task: a name in `tasks.TASKS`.
    attempts: starts for each skill and split.
    wanted: skills; empty: all.
  """
  rows = []
  environment = tasks.load(task, seed=0)
  for skill in experts.EXPERTS[task]:
    if wanted and skill not in wanted:
      continue
    for split in recording.SPLITS:
      for seed in range(_SEED, _SEED + attempts):
        seeds = np.random.SeedSequence([seed, recording.SPLITS.index(split)])
        steps, reason = '', ''
        try:
          shown = recording.attempt(environment, 'demo_0', split, skill, seeds)
          steps = str(shown.num_steps)
        except skills.SkillFailed as e:
          reason = str(e)
        row = {'task': task, 'skill': skill, 'split': split, 'seed': seed}
        row |= {'success': int(not reason), 'steps': steps, 'reason': reason}
        rows.append(row)
      print(f'{task} {skill} {split}: {attempts} attempts', flush=True)
  environment.close()
  return rows


def summary(rows: pd.DataFrame) -> pd.DataFrame:
  """Returns successes, and the steps of those, of each skill and split.

  Args:
    rows: of `measure`.
  """
  steps = pd.to_numeric(rows['steps'])
  groups = rows.assign(steps=steps).groupby(['task', 'skill', 'split'], sort=False)
  return pd.DataFrame(
    {
      'attempts': groups['success'].size(),
      'successes': groups['success'].sum(),
      'mean': groups['steps'].mean().round(),
      'p95': groups['steps'].quantile(0.95).round(),
      'max': groups['steps'].max(),
      'limit': [tasks.get(task).max_steps for task, _, _ in groups.groups],
    }
  )


def missed(table: pd.DataFrame) -> list[str]:
  """Returns, for each skill and split that is not good enough, what is wrong.

  Args:
    table: of `summary`.
  """
  found = []
  for (task, skill, split), row in table.iterrows():
    where = f'{task} {skill} {split}'
    bar = _BARS.get(skill, _BAR)
    if row['successes'] < bar * row['attempts']:
      found.append(
        f'{where}: {row["successes"]:g} of {row["attempts"]:g} attempts succeeded; '
        f'expected {bar:.0%}'
      )
    if row['p95'] > row['limit']:
      found.append(f'{where}: p95 of the steps is {row["p95"]:g} of {row["limit"]:g}')
  return found


def main(arguments: Arguments) -> int:
  """Measures, writes and prints; returns the exit status.

  Raises:
    ValueError: there is no such task.
  """
  rows = []
  for task in arguments.tasks:
    tasks.get(task)
    rows += measure(task, arguments.attempts, arguments.skills)
  common.write(arguments.output, rows)
  table = summary(pd.DataFrame(rows))
  print(table.to_string())
  misses = missed(table)
  for miss in misses:
    print(f'MISSED: {miss}')
  return int(bool(misses))


if __name__ == '__main__':
  try:
    sys.exit(main(tyro.cli(Arguments, description=Arguments.__doc__)))
  except (ValueError, OSError) as e:
    sys.exit(f'error: {e}')
