"""How much each arm solves where something goes wrong, from the files.

The files are those of `python -m benchmarks.robustness`.
"""

from collections.abc import Mapping
import pathlib

import pandas as pd

from benchmarks import tables
from metamimic import arms
from metamimic import statistics

COLUMNS: tuple[dict[str, tuple[str, float]], ...] = (
  {
    'undisturbed': ('none', 0.0),
    'action noise .2': ('action_noise', 0.2),
    'action noise .4': ('action_noise', 0.4),
    **{f'objects displaced {cm} cm': ('displacement', cm / 100) for cm in (2, 4, 6)},
  },
  {
    'actions 1 step late': ('action_delay', 1.0),
    'actions 2 steps late': ('action_delay', 2.0),
    'objects turned .5 rad': ('turn', 0.5),
    'pushes of .2 m/s': ('push', 0.2),
    'seen ± 3 mm': ('observation_noise', 0.003),
    'mass × 4': ('mass', 4.0),
    'friction × ¼': ('friction', 0.25),
  },
)
"""Columns of each table: disturbance and strength, as in `robustness.SWEEPS`."""


def table(path: pathlib.Path) -> list[tables.Table]:
  """Returns tables of the share that each arm solves under disturbances.

  Args:
    path: of results/robustness_<task>.csv.
  """
  rows = pd.read_csv(path)
  return [one for columns in COLUMNS for one in _table(path.name, rows, columns)]


def _table(
  file: str, rows: pd.DataFrame, columns: Mapping[str, tuple[str, float]]
) -> list[tables.Table]:
  """Returns a table of those columns of which there are rows, or none."""
  where = pd.MultiIndex.from_arrays([rows['disturbance'], rows['strength'].round(9)])
  rows = rows[where.isin(list(columns.values()))]
  measured = set(where)
  columns = {name: at for name, at in columns.items() if at in measured}
  hidden = (statistics.FLOOR, *statistics.MISGUIDED)
  shown = [a for a in statistics.order(list(rows['arm'])) if a not in hidden]
  return tables.table(
    [_row(file, rows[rows['arm'] == arm], arm, columns) for arm in shown]
  )


def _row(
  file: str, rows: pd.DataFrame, arm: str, columns: Mapping[str, tuple[str, float]]
) -> dict[str, tables.Cell]:
  cells = {'arm': tables.Cell(arms.ARMS[arm].full_label)}
  counts: list[tuple[int, int]] = []
  for name, (disturbance, strength) in columns.items():
    found = rows[
      (rows['disturbance'] == disturbance)
      & ((rows['strength'] - strength).abs() < 1e-9)
    ]
    where = f'results/{file}, arm={arm} disturbance={disturbance} strength={strength:g}'
    share = tables.NOTHING
    if len(found):
      share = tables.number(found['solved'].notna().mean(), '.2f')
      seeds = found['seed'].nunique()
      counts.append((seeds, len(found) // seeds))
    cells[name] = tables.Cell(share, f'{where}: share with solved')
  steps = rows['learner_steps'].max()
  cells['learner steps'] = tables.Cell(
    f'{steps:,}' if steps else '', f'results/{file}, arm={arm}: learner_steps'
  )
  ends = dict.fromkeys([min(counts), max(counts)]) if counts else ()
  text = ' to '.join(f'{a} × {b}' for a, b in ends) or tables.NOTHING
  cells['N (seeds × starts)'] = tables.Cell(
    text, f'results/{file}, arm={arm}: seeds × rows of each, for every column'
  )
  return cells
