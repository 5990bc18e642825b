"""Logs of a role: CSV always, TensorBoard beside it."""

import collections
import contextlib
import csv
import os
import re
import time
from typing import Any

from acme.utils import loggers
import numpy as np
import tensorflow as tf

from metamimic import files


class Clock:
  """Says when a period has passed."""

  def __init__(self, period: float, at_once: bool = False):
    """Starts it.

    Args:
      period: seconds.
      at_once: the first call of `due` is true.
    """
    self._period = period
    self._last = time.monotonic() - (period if at_once else 0)

  def due(self, at_once: bool = False, period: float = 0.0) -> float:
    """Returns the seconds since it was last due, if it is due again, else 0.

    Args:
      at_once: it is, however short a time ago that was.
      period: seconds that must have passed, if more than its own.
    """
    passed = time.monotonic() - self._last
    if passed < max(self._period, period) and not at_once:
      return 0.0
    self._last += passed
    return passed


def _last_row(path: str) -> dict[str, str]:
  if not os.path.exists(path):
    return {}
  try:
    with open(path, newline='') as f:
      return next(iter(collections.deque(csv.DictReader(f), maxlen=1)), {})
  except (csv.Error, ValueError) as e:
    raise ValueError(f'{path}: expected CSV ({e})') from e


class RoleLogger(loggers.Logger):
  """Appends rows to `logs/<role>.csv` and scalars to `tensorboard/<role>`."""

  def __init__(self, run_dir: str, role: str, step: str | None = None):
    """Opens the files; a resumed run goes on in the same CSV.

    Args:
      run_dir: the run directory.
      role: as in learner or actor-0.
      step: the column that is TensorBoard's step; None: no TensorBoard.
    """
    os.makedirs(os.path.join(run_dir, 'logs'), exist_ok=True)
    self._path = os.path.join(run_dir, 'logs', f'{role}.csv')
    files.cut_torn_line(self._path)
    self.last = _last_row(self._path)
    """The last row that an earlier process of this role wrote, by column; or empty."""
    self._file = open(self._path, 'a', newline='')
    self._writer: csv.DictWriter | None = None
    self._step = step
    self._summary = None
    if step is not None:
      directory = os.path.join(run_dir, 'tensorboard', role)
      self._summary = tf.summary.create_file_writer(directory)

  def last_count(self, column: str) -> int:
    """Returns a count of the last row that an earlier process wrote; 0: there is none.

    Raises:
      ValueError: something else is there; the message names the file.
    """
    text = self.last.get(column) or '0'
    if not re.fullmatch(r'[0-9]{1,18}', text):
      raise ValueError(
        f'{self._path}: {column} ends with {text!r:.100}; expected a whole number'
      )
    return int(text)

  def write(self, data: dict[str, Any]) -> None:
    """Writes a row, with the time in front, and flushes it.

    A full disk costs rows, and not the run.
    """
    with contextlib.suppress(OSError, tf.errors.OpError):
      self._write(data)

  def _write(self, data: dict[str, Any]) -> None:
    row = {'wall_time': f'{time.time():.2f}', **data}
    if self._writer is None:
      self._writer = csv.DictWriter(self._file, list(row))
      if not os.path.getsize(self._path):
        self._writer.writeheader()
    self._writer.writerow(
      {
        key: f'{value:.6g}' if isinstance(value, float) else value
        for key, value in row.items()
      }
    )
    self._file.flush()
    if self._summary is not None and self._step is not None:
      # TensorFlow keeps each of Python's own numbers that it has ever seen: 1.4 kB for
      # a value and its step.
      with self._summary.as_default(step=np.asarray(data[self._step], np.int64)):
        for key, value in data.items():
          if key != self._step and isinstance(value, (int, float)):
            tf.summary.scalar(key, np.asarray(value, np.float32))
      self._summary.flush()

  def close(self) -> None:
    """Closes the files."""
    self._file.close()
    if self._summary is not None:
      self._summary.close()
