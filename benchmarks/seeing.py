"""How well policies imitate that see pictures, from the files."""

import pathlib

from benchmarks import tables
from metamimic import arms

_FOLLOWERS = (tables.IMITATOR, 'bc')


def table(folder: pathlib.Path) -> list[tables.Table]:
  """Returns the table of policies that see pictures, and of those that are kept blind.

  Args:
    folder: of the files.
  """
  rows = []
  for found in tables.all_results(folder):
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
          'task': tables.Cell(found.experiment.task),
          'arm': tables.Cell(arms.ARMS[follower].full_label),
          'sees': tables.Cell(sees),
          'is shown': tables.Cell(
            f'{shown} of another demonstration' if other else shown
          ),
          **tables.imitating_cells(found, row),
          'learner steps': tables.Cell(f'{row.learner_steps:,}', found.where(row.arm)),
          'minutes': tables.Cell(
            f'{sum(minutes) / len(minutes):.0f}', found.about('wall_seconds')
          ),
        }
      )
  return tables.table(rows)
