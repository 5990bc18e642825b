"""What larger and normalised networks are worth, from the files.

The runs are made by `python -m benchmarks.results lift_brick_network_WIDTHxBLOCKS`, of
layers that see features, and `lift_brick_torso_SIZE`, of torsos that see pictures; and
the same with `_plain`, which are not normalised.
"""

import json
import pathlib
from typing import Any, Literal

import pandas as pd

from benchmarks import experiments
from benchmarks import tables
from metamimic import statistics

Part = Literal['layers', 'torsos']
"""Of which part of the networks the size is studied."""
FIGURE = 'networks.svg'
"""File of the figure."""


def summary(folder: pathlib.Path, part: Part) -> pd.DataFrame:
  """Returns how well networks of each size imitate held-out demonstrations.

  Args:
    folder: of the files.
    part: of the networks.

  Returns:
    Rows with name; size, as the figure says it, and network, its settings;
    layer_norm; reward, reward_low and reward_high (mean per step, 95 % interval over
    seeds and demonstrations); success, success_low and success_high; seeds and n
    (episodes); learner_steps. Only what has been run.
  """
  found = []
  for name, experiment in experiments.EXPERIMENTS.items():
    path = folder / f'{name}.csv'
    if experiment.sized != part or not path.exists():
      continue
    rows = statistics.summarise(pd.read_csv(path))
    held_out = (rows['arm'] == tables.IMITATOR) & (rows['split'] == 'valid')
    (row,) = rows[held_out].to_dict('records')
    network = json.loads(path.with_suffix('.json').read_text())['config']['network']
    about = {
      'size': _size(network, part),
      'network': network,
      'layer_norm': network['normalise'],
    }
    found.append({'name': name, **about, **row})
  return pd.DataFrame(found)


def _size(network: dict[str, Any], part: Part) -> str:
  if part == 'layers':
    return f'{network["policy_width"]} × {network["policy_blocks"]}'
  return '-'.join(map(str, network['filters']))


def table(folder: pathlib.Path, part: Part) -> list[tables.Table]:
  """Returns the table, or none without files.

  Args:
    folder: of the files.
    part: of the networks.
  """
  rows = []
  for row in summary(folder, part).itertuples():
    where = f'results/{row.name}.csv, arm={tables.IMITATOR} split=valid'
    config = f'results/{row.name}.json, config.network'
    rows.append(
      {
        **_sizes(row, config, part),
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


def _sizes(row: Any, config: str, part: Part) -> dict[str, tables.Cell]:
  network = row.network
  if part == 'layers':
    return {
      'units': tables.Cell(str(network['policy_width']), f'{config}.policy_width'),
      'residual blocks': tables.Cell(
        str(network['policy_blocks']), f'{config}.policy_blocks'
      ),
    }
  # A stage's first one, and two in each of its blocks.
  convolutions = len(network['filters']) * (1 + 2 * network['torso_blocks'])
  return {
    'filters of the stages': tables.Cell(row.size, f'{config}.filters'),
    'convolutions': tables.Cell(
      str(convolutions), f'{config}: filters × (1 + 2 torso_blocks)'
    ),
  }
