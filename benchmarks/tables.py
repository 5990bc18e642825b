"""What the tables of all pages are made of, and the two of experiments side by side.

They come from the files under results/ and from nothing else. Every cell knows the rows
of the file that it comes from. Tables of one subject are beside what summarises it.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import json
import math
import pathlib
from typing import Any, NamedTuple

import pandas as pd

from benchmarks import experiments
from metamimic import arms
from metamimic import intervals
from metamimic import statistics

_HELD_OUT = statistics.SPLITS[0]
IMITATOR = 'metamimic'
"""Arm that follows demonstrations."""
SOLVER = 'task_policy'
"""Arm that is shown nothing."""
NOTHING = '–'
"""What stands where nothing was measured."""


class Cell(NamedTuple):
  """What a table says in one place."""

  text: str
  source: str = ''
  """File, rows of it, and what was made of them; empty: no measurement."""


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of Markdown."""

  header: tuple[str, ...]
  rows: tuple[tuple[Cell, ...], ...]

  def lines(self) -> list[str]:
    """Returns its lines; the first two are the header."""
    texts = [self.header, *([cell.text for cell in row] for row in self.rows)]
    first, *rest = (f'| {" | ".join(row)} |' for row in texts)
    return [first, '|---' * len(self.header) + '|', *rest]


class Results:
  """The files of one experiment."""

  def __init__(self, folder: pathlib.Path, name: str):
    """Reads the last evaluation of held-out demonstrations, and what runs are like.

    Args:
      folder: of the files.
      name: of the experiment.
    """
    self.name = name
    self.experiment = experiments.EXPERIMENTS[name]
    self.rows = statistics.last(pd.read_csv(folder / f'{name}.csv'))
    self.rows = self.rows[self.rows['split'] == _HELD_OUT]
    self.runs = json.loads((folder / f'{name}.json').read_text())['runs'].values()

  def arms(self) -> Iterator[Any]:
    """Yields the rows of `statistics.summarise`."""
    yield from statistics.summarise(self.rows).itertuples()

  def solvers(self) -> Iterator[Any]:
    """Yields the rows of `statistics.solving`."""
    if 'solved' in self.rows:
      yield from statistics.solving(self.rows).itertuples()

  def by_seed(self, arm: str, column: str) -> pd.DataFrame:
    """Returns an arm's episodes, (seeds, demonstrations)."""
    rows = self.rows[self.rows['arm'] == arm]
    if column == 'solved':
      rows = rows.assign(solved=rows['solved'].notna().astype(float))
    return statistics.by_seed(rows, column)

  def where(self, arm: str) -> str:
    """Returns which rows of which file an arm's are."""
    steps = self.rows.loc[self.rows['arm'] == arm, 'learner_steps'].max()
    return f'results/{self.name}.csv, arm={arm} split={_HELD_OUT} learner_steps={steps}'

  def about(self, key: str) -> str:
    """Returns which values of which file something is the mean of."""
    return f'results/{self.name}.json, runs.*.{key}: mean'


def all_results(folder: pathlib.Path) -> list[Results]:
  """Returns the experiments that have files, in their order.

  Args:
    folder: of the files.
  """
  return [
    Results(folder, name)
    for name in experiments.EXPERIMENTS
    if (folder / f'{name}.csv').exists()
  ]


def number(value: float, form: str) -> str:
  """Returns a number as tables say it, with a true minus.

  Args:
    value: any but nan.
    form: as of `format`.
  """
  return format(value, form).replace('-', '−')


def interval(row: Any, column: str, form: str = '.2f', between: str = '–') -> str:
  """Returns a value with its interval, if it has one."""
  value, low, high = (getattr(row, column + end) for end in ('', '_low', '_high'))
  if math.isnan(value):
    return NOTHING
  if math.isnan(low):
    return number(value, form)
  return f'{number(value, form)} ({number(low, form)}{between}{number(high, form)})'


def _episodes(row: Any) -> str:
  return f'{row.seeds} × {row.n // row.seeds}'


def imitating_cells(results: Results, row: Any) -> dict[str, Cell]:
  """Returns what there is to say of an arm that follows, by column.

  Args:
    results: that the arm is of.
    row: of `Results.arms`.
  """
  where = results.where(row.arm)
  nothing = math.isnan(row.reward)
  return {
    'reward (95 %)': Cell(interval(row, 'reward', '.3f'), f'{where}: mean of total'),
    'completed': Cell(
      NOTHING if nothing else number(row.completed, '.2f'),
      f'{where}: mean of completed',
    ),
    'success (95 %)': Cell(interval(row, 'success'), f'{where}: mean of success'),
    'seeds × episodes': Cell(_episodes(row), f'{where}: seeds × rows of each'),
  }


def solving_cells(results: Results, row: Any) -> dict[str, Cell]:
  """Returns what there is to say of an arm that solves the task, by column.

  Args:
    results: that the arm is of.
    row: of `Results.solvers`.
  """
  where = results.where(row.arm)
  return {
    'solved (95 %)': Cell(interval(row, 'solved'), f'{where}: share with solved'),
    'median steps': Cell(
      NOTHING if math.isnan(row.ratio) else number(row.steps, '.0f'),
      f'{where}: median of solved',
    ),
    "of the demonstrators' (95 %)": Cell(
      interval(row, 'ratio'), f"{where}: median of solved, over replay's"
    ),
    'seeds × starts': Cell(_episodes(row), f'{where}: seeds × rows of each'),
  }


def table(rows: Sequence[dict[str, Cell]]) -> list[Table]:
  """Returns the table, or none without rows."""
  if not rows:
    return []
  return [Table(tuple(rows[0]), tuple(tuple(row.values()) for row in rows))]


def results(folder: pathlib.Path) -> list[Table]:
  """Returns the table of policies that follow a demonstration.

  Args:
    folder: of the files.
  """
  rows = []
  for found in all_results(folder):
    experiment = found.experiment
    if experiment.learns_from or experiment.plain:
      continue
    if experiment.variant or experiment.novel or any(experiment.seen):
      continue
    if experiment.sized:
      continue
    for row in found.arms():
      learned = row.arm not in statistics.CONTROLS
      if not (learned or experiment.controls):
        continue
      minutes = [run['wall_seconds'] / 60 for run in found.runs]
      steps, took = f'{row.learner_steps:,}', f'{sum(minutes) / len(minutes):.1f}'
      rows.append(
        {
          'task': Cell(experiment.task),
          'arm': Cell(arms.ARMS[row.arm].full_label),
          **imitating_cells(found, row),
          'learner steps': Cell(steps, found.where(row.arm)) if learned else Cell(''),
          'minutes': Cell(took, found.about('wall_seconds')) if learned else Cell(''),
        }
      )
  return table(rows)


def ablations(folder: pathlib.Path) -> list[Table]:
  """Returns a table of each plain experiment beside those that change one thing of it.

  Args:
    folder: of the files.

  Returns:
    Policies that follow, then those that solve; only what has been run.
  """
  found = {f.name: f for f in all_results(folder)}
  made = []
  for arm, column, describe in (
    (IMITATOR, 'total', imitating_cells),
    (SOLVER, 'solved', solving_cells),
  ):
    changed = [
      f
      for f in found.values()
      if f.experiment.change and bool(f.experiment.learns_from) == (arm == SOLVER)
    ]
    names = dict.fromkeys(f.experiment.plain for f in changed)
    plain = [found[name] for name in names if name in found]
    rows = []
    for results_ in (*plain, *changed):
      measured = results_.arms() if arm == IMITATOR else results_.solvers()
      (row,) = (r for r in measured if r.arm == arm)
      cells = describe(results_, row)
      first, *rest = cells
      rows.append(
        {
          'task': Cell(results_.experiment.task),
          'change': Cell(results_.experiment.change or 'none'),
          first: cells[first],
          'difference (95 %)': _difference(found, results_, arm, column),
          **{name: cells[name] for name in rest},
        }
      )
    made += table(rows)
  return made


class _Estimate(NamedTuple):
  value: float
  value_low: float
  value_high: float


def _difference(
  found: dict[str, Results], changed: Results, arm: str, column: str
) -> Cell:
  """Returns how much more it comes to than the plain experiment, on the same starts."""
  plain = found.get(changed.experiment.plain)
  if plain is None:
    return Cell('')
  first, second = changed.by_seed(arm, column), plain.by_seed(arm, column)
  first, second = first.align(second, join='inner', axis=1)
  a, b = first.to_numpy(float), second.to_numpy(float)
  value = float(first.stack().mean() - second.stack().mean())
  estimate = _Estimate(value, *intervals.difference(a, b))
  return Cell(
    interval(estimate, 'value', '+.3f', ' to '),
    f'{changed.where(arm)} less {plain.where(arm)}: mean of {column}',
  )
