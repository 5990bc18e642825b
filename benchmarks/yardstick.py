"""How fast reach_duplo is learned from pictures, beside what others have published.

    python -m benchmarks.results reach_duplo_pixels_d4pg
    python -m benchmarks.yardstick

Compares returns, of dm_control's own reward over episodes of 250 control steps, of the
finished and unfinished runs that the first command makes with those that the authors of
DrQ-v2 have published (third_party/drqv2). Writes results/yardstick.csv, a row an
evaluation, and .svg, and prints after how many frames a mean return is reached first.
"""

from collections.abc import Sequence
import dataclasses
import math
import os
import pathlib
import sys

import numpy as np
import pandas as pd
import tyro

from benchmarks import common
from benchmarks import experiments
from benchmarks import figures
from benchmarks import tables
from metamimic import config as config_lib
from metamimic import plotting

OURS, PUBLISHED = 'D4PG, ours', 'DrQ-v2'
NAME = 'yardstick'
"""Of the files."""
_PUBLISHED = (
  pathlib.Path(__file__).parents[1] / 'third_party' / 'drqv2' / 'reach_duplo.csv'
)
_LEVELS = (50, 100, 150)
_GRID = 20_000  # Frames between the evaluations that were published.


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Compares how fast reach_duplo is learned with what others have published."""

  runs: str = str(common.RUNS)
  """Folder of the runs."""
  output_dir: str = common.RESULTS
  """Folder of the CSV and the figure."""


def evaluations(run_dir: pathlib.Path) -> pd.DataFrame:
  """Returns the mean return of each evaluation of a run.

  Args:
    run_dir: of a run of the experiment.

  Returns:
    Rows with seed, frame (environment steps that all actors had done when the
    evaluation was over, those of a learner's lost steps included) and return.
  """
  log = pd.read_csv(run_dir / 'logs' / 'evaluator.csv')
  # The starts of demonstrations are the task's own, and this arm is shown no more.
  log = log[log['arm'] == 'd4pg']
  found = log.groupby('learner_steps', as_index=False, sort=False).agg(
    {'wall_time': 'max', 'return': 'mean'}
  )
  frames = np.zeros(len(found))
  for path in run_dir.glob('logs/actor-*.csv'):
    actor = pd.read_csv(path)
    frames += np.interp(
      found['wall_time'], actor['wall_time'], actor['environment_steps'], left=0
    )
  config = config_lib.load(str(run_dir / 'config.json'))
  return pd.DataFrame(
    {
      'seed': config.seed,
      'frame': frames.round().astype(int),
      'return': found['return'].round(2),
    }
  )


def collect(runs: pathlib.Path) -> pd.DataFrame:
  """Returns the evaluations of all runs, and those that were published.

  Args:
    runs: folder of the runs.

  Returns:
    Rows with who, seed, frame and return.

  Raises:
    ValueError: there are no runs.
  """
  found = sorted(runs.glob(f'{experiments.YARDSTICK}-seed*/logs/evaluator.csv'))
  ours = pd.concat([pd.DataFrame(), *(evaluations(path.parents[1]) for path in found)])
  if ours.empty:
    raise ValueError(
      f'{runs}: no evaluated runs; expected those of `python -m benchmarks.results '
      f'{experiments.YARDSTICK}`'
    )
  published = pd.read_csv(_PUBLISHED)
  table = pd.concat([ours.assign(who=OURS), published.assign(who=PUBLISHED)])
  return table[['who', 'seed', 'frame', 'return']]


def mean_curve(rows: pd.DataFrame) -> 'pd.Series[float]':
  """Returns the mean over seeds on a grid of frames that all of them have reached.

  Args:
    rows: seed, frame and return.

  Returns:
    Returns by frame; before the first evaluation of a seed, that counts.
  """
  by_seed = [seed.sort_values('frame') for _, seed in rows.groupby('seed')]
  last = min(int(seed['frame'].iloc[-1]) for seed in by_seed)
  grid = np.arange(0, last + 1, _GRID)
  curves = [np.interp(grid, seed['frame'], seed['return']) for seed in by_seed]
  return pd.Series(np.mean(curves, 0), grid)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
  """Says when each of those compared reaches a mean return.

  Args:
    rows: of `collect`.

  Returns:
    Rows with who; seeds; reaches_50, reaches_100 and reaches_150 (frames, in multiples
    of 20,000; nan: not within its frames); frames; and last (mean return there).
  """
  found = []
  for who, of in rows.groupby('who', sort=False):
    curve = mean_curve(of)
    row = {'who': who, 'seeds': of['seed'].nunique()}
    for level in _LEVELS:
      reached = curve.index[curve >= level]
      row[f'reaches_{level}'] = reached[0] if len(reached) else math.nan
    found.append({**row, 'frames': curve.index[-1], 'last': curve.iloc[-1]})
  return pd.DataFrame(found)


def table(folder: pathlib.Path) -> list[tables.Table]:
  """Returns the table, or none without the file.

  Args:
    folder: of the files.
  """
  path = folder / f'{NAME}.csv'
  if not path.exists():
    return []
  rows: list[dict[str, tables.Cell]] = []
  for row in summary(pd.read_csv(path)).to_dict('records'):
    where = f'results/{NAME}.csv, who={row["who"]}'
    frames = {
      f'frames to {level}': tables.Cell(
        _thousands(row[f'reaches_{level}']),
        f'{where}: first frame where the mean over seeds is {level}',
      )
      for level in _LEVELS
    }
    rows.append(
      {
        'who': tables.Cell(row['who']),
        **frames,
        'return': tables.Cell(f'{row["last"]:.0f}', f'{where}: mean at the end'),
        'at': tables.Cell(_thousands(row['frames']), f'{where}: where that is'),
        'seeds': tables.Cell(str(row['seeds']), f'{where}: seeds'),
      }
    )
  return tables.table(rows)


def _thousands(frames: float) -> str:
  return '–' if math.isnan(frames) else f'{frames:,.0f}'


def main(arguments: Arguments) -> Sequence[tables.Table]:
  """Compares, writes and prints; returns the table.

  Raises:
    ValueError: there are no runs.
  """
  rows = collect(pathlib.Path(arguments.runs))
  target = pathlib.Path(arguments.output_dir) / f'{NAME}.csv'
  rows.to_csv(f'{target}.tmp', index=False)
  os.replace(f'{target}.tmp', target)
  means = {str(who): mean_curve(of) for who, of in rows.groupby('who', sort=False)}
  plotting.save(figures.yardstick(rows, means), target.with_suffix('.svg'))
  found = table(target.parent)
  print('\n'.join(line for each in found for line in each.lines()))
  return found


if __name__ == '__main__':
  try:
    main(tyro.cli(Arguments, description=__doc__))
  except (ValueError, OSError) as e:
    sys.exit(f'error: {e}')
