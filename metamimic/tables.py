"""The CSV files of a run, read and checked before anything is drawn of them."""

from collections.abc import Sequence
import os
import re

import numpy as np
import pandas as pd

from metamimic import plotting
from metamimic import statistics

EVALUATION = (
  'seed',
  'learner_steps',
  'steps',
  'success',
  'arm',
  'demonstration',
  'split',
)
"""Columns of evaluation.csv in which nothing may be missing."""
EVALUATOR = ('wall_time', 'learner_steps', 'arm', 'split')
"""Those of the evaluator's log."""
LEARNER = ('wall_time', 'learner_steps')
"""Those of a learner's log."""
ACTOR = ('environment_steps',)
"""Those of an actor's log."""

_TEXTS = {
  'arm': r'[\w.-]{1,100}',
  'demonstration': r'[\w.-]{1,100}',
  'skill': r'[\w.-]{0,100}',
  'split': '|'.join(statistics.SPLITS),
}
"""Columns of names, and what these look like; the others hold numbers."""
_SHARES = ('success', 'completed')
_MOST = 2.0**53


def read(path: str | os.PathLike[str], columns: Sequence[str]) -> pd.DataFrame:
  """Reads a CSV file of a run; see `plotting.read`.

  Args:
    path: of the file.
    columns: in which nothing may be missing, if there are rows.

  Raises:
    ValueError: it is damaged; the message names the file, the column and what was
      expected.
  """
  try:
    table = plotting.read(path)
  except ValueError as e:
    raise ValueError(f'{path}: expected CSV ({e})') from e
  if not len(table):
    return table
  missing = [name for name in columns if name not in table]
  if missing:
    raise ValueError(
      f'{path}: columns {missing} are missing; there are {list(table)[:50]}'
    )
  for name in table:
    column = table[name]
    if name in _TEXTS:
      _check_texts(f'{path}: column {name}', column, _TEXTS[name], name in columns)
    else:
      _check_numbers(f'{path}: column {name!r:.100}', column, name in columns)
    if name in _SHARES and not column.dropna().between(0, 1).all():
      raise ValueError(f'{path}: column {name}: expected numbers in [0, 1]')
  return table


def _check_texts(where: str, column: pd.Series, pattern: str, is_whole: bool) -> None:
  for value in column.unique():
    absent = isinstance(value, float) and np.isnan(value) and not is_whole
    if not absent and not (isinstance(value, str) and re.fullmatch(pattern, value)):
      raise ValueError(f'{where} holds {value!r:.100}; expected names like {pattern}')


def _check_numbers(where: str, column: pd.Series, is_whole: bool) -> None:
  if not pd.api.types.is_numeric_dtype(column) or column.dtype == bool:
    raise ValueError(f'{where} holds something else than numbers')
  values = column.to_numpy(float)
  if is_whole and not ((values >= 0) & (values < _MOST)).all():
    raise ValueError(f'{where}: expected a number, 0 or more, in every row')
  if np.isinf(values).any():
    raise ValueError(f'{where}: expected finite numbers')
