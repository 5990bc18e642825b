"""What larger and normalised networks are worth, on features, from the files.

The runs are made by `python -m benchmarks.results lift_brick_network_WIDTHxBLOCKS` and
the same with `_plain`, which are not normalised.
"""

import pathlib

import pandas as pd

from benchmarks import experiments
from benchmarks import tables
from metamimic import statistics

FIGURE = 'networks.svg'
"""File of the figure."""


def summary(folder: pathlib.Path) -> pd.DataFrame:
  """Returns how well networks of each size imitate held-out demonstrations.

  Args:
    folder: of the files.

  Returns:
    Rows with name; width, blocks and layer_norm; reward, reward_low and reward_high
    (mean per step, 95 % interval over seeds and demonstrations); success, success_low
    and success_high; seeds and n (episodes); learner_steps. Only what has been run.
  """
  found = []
  for name, experiment in experiments.EXPERIMENTS.items():
    path = folder / f'{name}.csv'
    if experiment.size is None or not path.exists():
      continue
    rows = statistics.summarise(pd.read_csv(path))
    held_out = (rows['arm'] == tables.IMITATOR) & (rows['split'] == 'valid')
    width, blocks, normalised = experiment.size
    (row,) = rows[held_out].to_dict('records')
    about = {'width': width, 'blocks': blocks, 'layer_norm': normalised}
    found.append({'name': name, **about, **row})
  return pd.DataFrame(found)


def table(folder: pathlib.Path) -> list[tables.Table]:
  """Returns the table, or none without files.

  Args:
    folder: of the files.
  """
  rows = []
  for row in summary(folder).itertuples():
    where = f'results/{row.name}.csv, arm={tables.IMITATOR} split=valid'
    config = f'results/{row.name}.json, config.network'
    rows.append(
      {
        'units': tables.Cell(str(row.width), f'{config}.policy_width'),
        'residual blocks': tables.Cell(str(row.blocks), f'{config}.policy_blocks'),
        'normalised': tables.Cell(
          'yes' if row.layer_norm else 'no', f'{config}.normalise'
        ),
        'reward (95 %)': tables.Cell(
          tables.interval(row, 'reward', '.3f'), f'{where}: mean of total'
        ),
        'success (95 %)': tables.Cell(
          tables.interval(row, 'success'), f'{where}: mean of success'
        ),
        'learner steps': tables.Cell(f'{row.learner_steps:,}', f'{where}: the last'),
        'seeds × episodes': tables.Cell(
          f'{row.seeds} × {row.n // row.seeds}', f'{where}: seeds × rows of each'
        ),
      }
    )
  return tables.table(rows)
