"""How many training demonstrations imitation takes, from the files."""

import pathlib

import pandas as pd

from benchmarks import tables

FIGURE = 'demonstrations.svg'
"""File of the figure."""


def summary(folder: pathlib.Path) -> pd.DataFrame:
  """Returns MetaMimic's held-out reward for each number of training demonstrations.

  Args:
    folder: of the files.

  Returns:
    Rows with task, demonstrations, ratio, ratio_low and ratio_high (of replay's, whose
    own reward counts as known), ordered; empty where only the plain experiment is.
  """
  rows = [
    {
      'task': found.experiment.task,
      'demonstrations': found.experiment.demonstrations,
      'ratio': row.ratio,
      'ratio_low': row.reward_low * row.ratio / row.reward,
      'ratio_high': row.reward_high * row.ratio / row.reward,
    }
    for found in _numbers(folder)
    for row in found.arms()
    if row.arm == tables.IMITATOR
  ]
  return pd.DataFrame(rows)


def _numbers(folder: pathlib.Path) -> list[tables.Results]:
  """Returns the experiments with fewer demonstrations and the plain ones, ordered."""
  found = tables.all_results(folder)
  fewer = [f for f in found if f.experiment.fewer]
  plain = {f.experiment.plain for f in fewer}
  shown = [*fewer, *(f for f in found if f.name in plain)]
  return sorted(shown, key=lambda f: (f.experiment.task, f.experiment.demonstrations))


def table(folder: pathlib.Path) -> list[tables.Table]:
  """Returns the table of how many training demonstrations it takes.

  Args:
    folder: of the files.
  """
  return tables.table(
    [
      {
        'task': tables.Cell(found.experiment.task),
        'training demonstrations': tables.Cell(
          str(found.experiment.demonstrations),
          f'results/{found.name}.json, config.train_demonstrations (0 or none: all)',
        ),
        **tables.imitating_cells(found, row),
      }
      for found in _numbers(folder)
      for row in found.arms()
      if row.arm == tables.IMITATOR
    ]
  )
