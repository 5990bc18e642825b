"""How policies that are to solve the task do, and how soon, from the files."""

from collections.abc import Iterator
import pathlib
from typing import Any, NamedTuple

import numpy as np

from benchmarks import tables
from metamimic import arms
from metamimic import statistics

FIGURE = 'steps_to_success.svg'
"""File of the figure."""


class Curve(NamedTuple):
  """How soon an arm solves a task, from held-out starts."""

  task: str
  arm: str
  label: str
  solved: np.ndarray
  """Control steps to success of each episode, inf for none; sorted."""


def _shown(folder: pathlib.Path) -> Iterator[tuple[tables.Results, Any, bool]]:
  """Yields rows of `statistics.solving` that are shown, and whether each is a control.

  Who follows a demonstration, learned or not, is one.
  """
  for found in tables.all_results(folder):
    experiment = found.experiment
    if not experiment.learns_from or experiment.plain:
      continue
    for row in found.solvers():
      control = row.arm in statistics.CONTROLS or row.arm == tables.IMITATOR
      shown = row.arm not in statistics.MISGUIDED and row.arm != statistics.FLOOR
      if shown and (experiment.controls or not control):
        yield found, row, control


def table(folder: pathlib.Path) -> list[tables.Table]:
  """Returns the table of policies that are to solve the task, and of who is shown how.

  Args:
    folder: of the files.
  """
  rows = []
  for found, row, control in _shown(folder):
    rows.append(
      {
        'task': tables.Cell(found.experiment.task),
        'arm': tables.Cell(arms.ARMS[row.arm].full_label),
        'learns from': _learns_from(found, row, control),
        'learner steps': _learner_steps(found, row),
        **_experience(found, control),
        **tables.solving_cells(found, row),
      }
    )
  return tables.table(rows)


def _learns_from(found: tables.Results, row: Any, control: bool) -> tables.Cell:
  if row.arm == tables.IMITATOR:
    return tables.Cell('imitation actors')
  return tables.Cell('' if control else found.experiment.learns_from)


def _learner_steps(found: tables.Results, row: Any) -> tables.Cell:
  steps = found.rows.loc[found.rows['arm'] == row.arm, 'learner_steps'].max()
  return tables.Cell(f'{steps:,}' if steps else '', found.where(row.arm))


def _experience(found: tables.Results, control: bool) -> dict[str, tables.Cell]:
  """Returns how many environment steps there were, and how many imitation's are."""
  by_kind = [run['environment_steps'] for run in found.runs]
  steps = sum(sum(of.values()) for of in by_kind)
  share = sum(of.get('imitation', 0) for of in by_kind) / steps if steps else 0.0
  mean, about = steps / len(by_kind), found.about('environment_steps')
  return {
    'environment steps': tables.Cell('' if control else f'{mean:,.0f}', about),
    "imitation actors'": tables.Cell(
      f'{share:.2f}' if share and not control else '', f'{about}, share of imitation'
    ),
  }


def curves(folder: pathlib.Path) -> list[Curve]:
  """Returns how soon each arm succeeds that sees features, in the table's order.

  Args:
    folder: of the files.
  """
  found = []
  first: dict[str, str] = {}
  for results, row, control in _shown(folder):
    experiment = results.experiment
    if experiment.preset != 'laptop':
      continue
    label = arms.ARMS[row.arm].full_label
    plain = first.setdefault(row.arm, experiment.learns_from)
    if not control and experiment.learns_from != plain:
      label += f', {experiment.learns_from.removeprefix(f"{plain}, ")}'
    of_arm = results.rows['arm'] == row.arm
    solved = results.rows.loc[of_arm, 'solved'].fillna(np.inf).to_numpy(float)
    found.append(Curve(experiment.task, row.arm, label, np.sort(solved)))
  return found
