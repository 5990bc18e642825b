"""What a run takes of the machine while it goes on for hours: memory, files, threads.

    python -m benchmarks.soak --hours 2

Looks at every process of a real run now and then, and at the run directory. Memory
that nobody else shares is what counts. Growth is the Theil-Sen slope over the second
half, when replay is full and everything has been compiled, so that a single peak, of a
checkpoint say, is no growth.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import os
import pathlib
import signal
import sys
import time
from typing import Any

import pandas as pd
import psutil
from scipy import stats
import tyro

from benchmarks import common
from benchmarks import running

_LAUNCHER, _NURSERY = 'launcher', 'nursery'
_MB = 1e6


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Watches what a run takes of the machine."""

  demonstrations: str = 'data/faults.hdf5'
  """File of demonstrations; recorded if it is not there."""
  output_dir: str = 'runs/soak'
  """Folder of the run; must not hold any."""
  preset: str = 'tiny'
  """Settings of the run, which learns a task policy, too; its replay should be full
  before half of the time is over."""
  hours: float = 2.0
  """How long to watch a run that learns."""
  period: float = 10.0
  """Seconds between two looks."""
  patience: float = 300.0
  """Seconds within which the run must have begun to learn."""
  most: float = 2.0
  """Growth of a process's memory that is still called flat, in percent an hour."""
  results: str = f'{common.RESULTS}/soak.csv'
  """File of the results."""


@dataclasses.dataclass(frozen=True)
class Look:
  """One process at one time."""

  seconds: float
  """Since the run began to learn."""
  process: str
  """A node, the launcher, or the nursery."""
  pid: int
  memory: float
  """That it shares with nobody, in MB."""
  files: int
  """Open file descriptors."""
  threads: int
  directory: float
  """Size of the run directory, in MB; the same for all processes of a look."""


def looks(run: running.Run, since: float) -> Iterator[Look]:
  """Yields what each process of a run takes now; one that has just left is left out.

  Args:
    run: that is under way.
    since: time.monotonic() from which seconds count.
  """
  seconds = round(time.monotonic() - since, 1)
  # Folders and files that are replaced meanwhile are no error to it.
  files = (
    pathlib.Path(folder) / name
    for folder, _, names in os.walk(run.dir)
    for name in names
  )
  directory = round(sum(map(_size, files)) / _MB, 3)
  own = {_LAUNCHER: run.pid, _NURSERY: run.nursery}
  for name, pid in {**own, **run.pids()}.items():
    try:
      process = psutil.Process(pid)
      memory = round(process.memory_full_info().uss / _MB, 2)
      yield Look(
        seconds,
        name,
        pid,
        memory,
        process.num_fds(),
        process.num_threads(),
        directory,
      )
    except psutil.NoSuchProcess:
      continue


def _size(path: pathlib.Path) -> int:
  try:
    return path.stat().st_size
  except FileNotFoundError:
    return 0  # A checkpoint set that has just been replaced.


def growth(rows: pd.DataFrame) -> pd.DataFrame:
  """Returns for each process how it grows over the second half.

  Args:
    rows: of `Look`.

  Returns:
    Indexed by process: memory, its median in MB; memory_growth, in percent of that an
    hour; files and threads, how many more at the end than in the middle, medians of a
    tenth of all looks each; restarts.
  """
  half = rows[rows.seconds >= rows.seconds.max() / 2]
  found = {}
  for name, process in half.groupby('process', sort=False):
    process = process.sort_values('seconds')
    median = process.memory.median()
    slope = stats.theilslopes(process.memory, process.seconds / 3600).slope
    tenth = max(len(process) // 5, 1)
    first, last = process.head(tenth), process.tail(tenth)
    found[name] = {
      'memory': median,
      'memory_growth': 100 * slope / median,
      'files': last.files.median() - first.files.median(),
      'threads': last.threads.median() - first.threads.median(),
      'restarts': rows[rows.process == name].pid.nunique() - 1,
    }
  return pd.DataFrame.from_dict(found, orient='index')


def watch(arguments: Arguments) -> Iterator[Look]:
  """Runs, yields what it sees, and ends the run.

  Raises:
    RuntimeError: it does not learn, or has ended by itself.
    ValueError: the folder is not empty.
  """
  folder = running.new_folder(arguments.output_dir)
  running.record(arguments.demonstrations)
  endless = ('--task.learn', '--task.learner-steps', str(running.ENDLESS))
  run = running.Run(
    folder / 'run',
    arguments.preset,
    arguments.demonstrations,
    arguments.patience,
    endless,
  )
  run.start()
  try:
    if not run.wait(lambda: run.rows(0.0)):
      raise RuntimeError(f'{run.dir} does not learn')
    since = time.monotonic()
    while time.monotonic() - since < 3600 * arguments.hours:
      if run.ended:
        raise RuntimeError(f'{run.dir} has ended by itself')
      yield from looks(run, since)
      time.sleep(arguments.period)
  finally:
    run.close()


def verdict(table: pd.DataFrame, most: float) -> Sequence[str]:
  """Returns a line for each process that is not flat.

  Args:
    table: of `growth`.
    most: percent an hour by which memory may grow.
  """
  lines = []
  for name, row in table.iterrows():
    if row.memory_growth > most:
      lines.append(f'{name}: memory grows by {row.memory_growth:.1f} % an hour')
    for what in ('files', 'threads'):
      if row[what] > 0:
        lines.append(f'{name}: {row[what]:.0f} more {what}')
    if row.restarts:
      lines.append(f'{name}: was started again {row.restarts:.0f} times')
  return lines


def main(arguments: Arguments) -> int:
  """Measures, writes and prints; returns the exit status, 1 if it is not flat."""
  found: list[dict[str, Any]] = []
  try:
    found.extend(map(dataclasses.asdict, watch(arguments)))
  finally:
    # Hours of it, whatever ends them.
    if found:
      common.write(arguments.results, found)
  table = growth(pd.DataFrame(found))
  print(table.round(2).to_string())
  faults = verdict(table, arguments.most)
  print('\n'.join(faults) or 'flat')
  return int(bool(faults))


if __name__ == '__main__':
  # So that a polite kill, too, takes the run along.
  signal.signal(signal.SIGTERM, lambda *unused: sys.exit(128 + signal.SIGTERM))
  try:
    sys.exit(main(tyro.cli(Arguments, description=__doc__)))
  except (ValueError, RuntimeError) as e:
    sys.exit(f'error: {e}')
