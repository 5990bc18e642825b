"""The tables of all pages, made from the files under results/ and from nothing else.

Every cell knows the rows of the file that it comes from.
"""

from collections.abc import Iterator, Mapping, Sequence
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
_FOLLOWERS = (IMITATOR, 'bc')
SOLVER = 'task_policy'
"""Arm that is shown nothing."""
_NOTHING = '–'


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


def _number(value: float, form: str) -> str:
  return format(value, form).replace('-', '−')


def interval(row: Any, column: str, form: str = '.2f', between: str = '–') -> str:
  """Returns a value with its interval, if it has one."""
  value, low, high = (getattr(row, column + end) for end in ('', '_low', '_high'))
  if math.isnan(value):
    return _NOTHING
  if math.isnan(low):
    return _number(value, form)
  return f'{_number(value, form)} ({_number(low, form)}{between}{_number(high, form)})'


def _episodes(row: Any) -> str:
  return f'{row.seeds} × {row.n // row.seeds}'


def _imitating(results: Results, row: Any) -> dict[str, Cell]:
  """Returns what there is to say of an arm that follows, by column."""
  where = results.where(row.arm)
  nothing = math.isnan(row.reward)
  return {
    'reward (95 %)': Cell(interval(row, 'reward', '.3f'), f'{where}: mean of total'),
    'of replay': Cell(
      _NOTHING if nothing else _number(row.ratio, '.2f'),
      f"{where}: mean of total, over replay's",
    ),
    'completed': Cell(
      _NOTHING if nothing else _number(row.completed, '.2f'),
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
      _NOTHING if math.isnan(row.ratio) else _number(row.steps, '.0f'),
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
          **_imitating(found, row),
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
    (IMITATOR, 'total', _imitating),
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
    made += table(_without_ratio(rows))
  return made


def _without_ratio(rows: list[dict[str, Cell]]) -> list[dict[str, Cell]]:
  # It needs an arm that repeats what the table of results says already.
  return [{k: v for k, v in row.items() if k != 'of replay'} for row in rows]


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


def demonstrations_summary(folder: pathlib.Path) -> pd.DataFrame:
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
    if row.arm == IMITATOR
  ]
  return pd.DataFrame(rows)


def _numbers(folder: pathlib.Path) -> list[Results]:
  """Returns the experiments with fewer demonstrations and the plain ones, ordered."""
  found = all_results(folder)
  fewer = [f for f in found if f.experiment.fewer]
  plain = {f.experiment.plain for f in fewer}
  shown = [*fewer, *(f for f in found if f.name in plain)]
  return sorted(shown, key=lambda f: (f.experiment.task, f.experiment.demonstrations))


def demonstrations(folder: pathlib.Path) -> list[Table]:
  """Returns the table of how many training demonstrations it takes.

  Args:
    folder: of the files.
  """
  return table(
    [
      {
        'task': Cell(found.experiment.task),
        'training demonstrations': Cell(
          str(found.experiment.demonstrations),
          f'results/{found.name}.json, config.train_demonstrations (0 or none: all)',
        ),
        **_imitating(found, row),
      }
      for found in _numbers(folder)
      for row in found.arms()
      if row.arm == IMITATOR
    ]
  )


def pixels(folder: pathlib.Path) -> list[Table]:
  """Returns the table of policies that see pictures, and of those that are kept blind.

  Args:
    folder: of the files.
  """
  rows = []
  for found in all_results(folder):
    sees, shown = found.experiment.seen
    if not sees:
      continue
    (follower,) = set(found.rows['arm']).intersection(_FOLLOWERS)
    for row in found.arms():
      other = row.arm == 'wrong_demonstration'
      if not other and row.arm != follower:
        continue
      minutes = [run['wall_seconds'] / 60 for run in found.runs]
      rows.append(
        {
          'task': Cell(found.experiment.task),
          'arm': Cell(arms.ARMS[follower].full_label),
          'sees': Cell(sees),
          'is shown': Cell(f'{shown} of another demonstration' if other else shown),
          **_imitating(found, row),
          'learner steps': Cell(f'{row.learner_steps:,}', found.where(row.arm)),
          'minutes': Cell(
            f'{sum(minutes) / len(minutes):.0f}', found.about('wall_seconds')
          ),
        }
      )
  return table(_without_ratio(rows))


ROBUSTNESS: dict[str, tuple[str, float]] = {
  'undisturbed': ('none', 0.0),
  'action noise .2': ('action_noise', 0.2),
  'action noise .4': ('action_noise', 0.4),
  **{f'objects displaced {cm} cm': ('displacement', cm / 100) for cm in (2, 4, 6)},
  'actions 2 steps late': ('action_delay', 2.0),
  'pushes of .2 m/s': ('push', 0.2),
}
"""Columns of the table: disturbance and strength, as in `robustness.SWEEPS`."""


def robustness(path: pathlib.Path) -> list[Table]:
  """Returns the table of the share that each arm solves under disturbances.

  Args:
    path: of results/robustness_<task>.csv.
  """
  rows = pd.read_csv(path)
  measured = set(zip(rows['disturbance'], rows['strength'].round(9), strict=True))
  columns = {name: at for name, at in ROBUSTNESS.items() if at in measured}
  hidden = (statistics.FLOOR, *statistics.MISGUIDED)
  shown = [a for a in statistics.order(list(rows['arm'])) if a not in hidden]
  return table(
    [_robust(path.name, rows[rows['arm'] == arm], arm, columns) for arm in shown]
  )


def _robust(
  file: str, rows: pd.DataFrame, arm: str, columns: Mapping[str, tuple[str, float]]
) -> dict[str, Cell]:
  cells = {'arm': Cell(arms.ARMS[arm].full_label)}
  counts: list[tuple[int, int]] = []
  for name, (disturbance, strength) in columns.items():
    found = rows[
      (rows['disturbance'] == disturbance)
      & ((rows['strength'] - strength).abs() < 1e-9)
    ]
    where = f'results/{file}, arm={arm} disturbance={disturbance} strength={strength:g}'
    share = _number(found['solved'].notna().mean(), '.2f') if len(found) else _NOTHING
    cells[name] = Cell(share, f'{where}: share with solved')
    if len(found):
      seeds = found['seed'].nunique()
      counts.append((seeds, len(found) // seeds))
  steps = rows['learner_steps'].max()
  cells['learner steps'] = Cell(
    f'{steps:,}' if steps else '', f'results/{file}, arm={arm}: learner_steps'
  )
  ends = dict.fromkeys([min(counts), max(counts)]) if counts else ()
  text = ' to '.join(f'{a} × {b}' for a, b in ends) or _NOTHING
  cells['N (seeds × starts)'] = Cell(
    text, f'results/{file}, arm={arm}: seeds × rows of each, for every column'
  )
  return cells
