"""How well skills are imitated that training never showed, from the files."""

import pathlib
from typing import Any

import pandas as pd

from benchmarks import experiments
from benchmarks import tables
from metamimic import statistics


def summary(folder: pathlib.Path) -> pd.DataFrame:
  """Returns how well each skill is imitated, trained on or not.

  Args:
    folder: of the files.

  Returns:
    Rows with skill; novel, novel_low, novel_high and seen, seen_low, seen_high (mean
    reward on held-out demonstrations, over open-loop replay's); kept (novel / seen);
    floor (no action's reward, over replay's); success_novel, success_seen and
    success_replay; episodes (runs × demonstrations of novel and of seen). A skill that
    no run was trained without, or none with, is left out.
  """
  found = []
  for name, experiment in experiments.EXPERIMENTS.items():
    path = folder / f'{name}.csv'
    if experiment.novel and path.exists():
      rows = statistics.last(pd.read_csv(path))
      found.append(rows.assign(seed=name + rows['seed'].astype(str)))
  if not found:
    return pd.DataFrame()
  rows = pd.concat(found)
  made = []
  for skill in dict.fromkeys(rows['skill']):
    of_skill = rows[(rows['skill'] == skill) & (rows['split'] != 'train')]
    policy = of_skill[of_skill['arm'] == tables.IMITATOR]
    novel, seen = (policy[policy['split'] == split] for split in ('novel', 'valid'))
    replay, floor = (
      of_skill[of_skill['arm'] == arm] for arm in (statistics.CEILING, statistics.FLOOR)
    )
    if len(novel) and len(seen):
      made.append(_row(skill, novel, seen, replay, floor))
  return pd.DataFrame(made)


def _row(
  skill: str,
  novel: pd.DataFrame,
  seen: pd.DataFrame,
  replay: pd.DataFrame,
  floor: pd.DataFrame,
) -> dict[str, Any]:
  row: dict[str, Any] = {'skill': skill}
  most = replay['total'].mean()
  for name, rows in (('novel', novel), ('seen', seen)):
    low, high = statistics.reward_interval(rows)
    row |= {
      name: rows['total'].mean() / most,
      f'{name}_low': low / most,
      f'{name}_high': high / most,
      f'success_{name}': rows['success'].mean(),
    }
  return row | {
    'kept': row['novel'] / row['seen'],
    'floor': floor['total'].mean() / most,
    'success_replay': replay['success'].mean(),
    'episodes': ', '.join(
      f'{rows["seed"].nunique()} × {rows["demonstration"].nunique()}'
      for rows in (novel, seen)
    ),
  }


def table(folder: pathlib.Path) -> list[tables.Table]:
  """Returns the table, or none without files.

  Args:
    folder: of the files.
  """
  rows = []
  where = 'results/two_bricks_without_*.csv'
  for row in summary(folder).itertuples():
    of_skill = f'{where}, arm=metamimic skill={row.skill}'
    rows.append(
      {
        'skill': tables.Cell(row.skill.replace('_', ' ')),
        'never shown (95 %)': tables.Cell(
          tables.interval(row, 'novel'),
          f"{of_skill} split=novel: mean of total, over replay's",
        ),
        'trained on (95 %)': tables.Cell(
          tables.interval(row, 'seen'),
          f"{of_skill} split=valid: mean of total, over replay's",
        ),
        'never / trained': tables.Cell(f'{row.kept:.2f}', f'{of_skill}: the ratio'),
        'no action': tables.Cell(
          f'{row.floor:.2f}',
          f"{where}, arm=zero skill={row.skill}: mean of total, over replay's",
        ),
        'succeeds: never shown': tables.Cell(
          f'{row.success_novel:.2f}', f'{of_skill} split=novel: mean of success'
        ),
        'succeeds: trained on': tables.Cell(
          f'{row.success_seen:.2f}', f'{of_skill} split=valid: mean of success'
        ),
        'succeeds: replay': tables.Cell(
          f'{row.success_replay:.2f}',
          f'{where}, arm=replay skill={row.skill}: mean of success',
        ),
        'runs × episodes': tables.Cell(
          row.episodes, f'{of_skill}: runs and demonstrations of novel, of valid'
        ),
      }
    )
  return tables.table(rows)
