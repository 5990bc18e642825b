"""Records demonstrations with a scripted expert.

python -m metamimic.record --task lift_brick --output data/lift_brick.hdf5
"""

from collections.abc import Callable
from concurrent.futures import process
import dataclasses
import os
import signal
import sys
import time
from typing import NoReturn

from rich import console as rich_console
from rich import progress as rich_progress
import tyro

from metamimic.demonstrations import recording
from metamimic.demonstrations import storage

_LINE_PERIOD = 10.0  # s between lines where there is no terminal


def _cores() -> int:
  """Returns how many cores this process may use, as far as the system tells."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Records demonstrations with the task's scripted expert, in HDF5."""

  task: str
  """lift_brick, reach_duplo, stack_2_bricks or two_bricks."""
  output: str
  """File to write; its folder is made where it is missing."""
  train: int = 500
  """Demonstrations to learn from."""
  valid: int = 50
  """Held-out demonstrations; their experts move unlike any of those in training."""
  skills: tuple[str, ...] = ()
  """Of those that the task has; unless given, all. They take turns."""
  seed: int = 0
  """Seed of starts and experts; the file does not depend on `processes`."""
  processes: int = dataclasses.field(default_factory=_cores)
  """Processes that record at the same time; unless given, one a core."""
  overwrite: bool = False
  """Replace the file if it is there."""


def main(arguments: Arguments) -> None:
  """Records, shows how it goes, writes the file and prints the tally.

  Raises:
    ValueError: an argument is out of range.
    OSError: the file is there already, or cannot be written.
    recording.TooManyRejections: the expert failed too often.
  """
  if os.path.exists(arguments.output) and not arguments.overwrite:
    raise FileExistsError(
      f'{arguments.output}: it is there already; expected a new file, or --overwrite'
    )
  folder = os.path.dirname(os.path.abspath(arguments.output))
  os.makedirs(folder, exist_ok=True)
  if not os.access(folder, os.W_OK):
    raise PermissionError(f'{folder}: expected a folder that can be written to')
  console = rich_console.Console(highlight=False, soft_wrap=True)
  with _Display(console, arguments.train + arguments.valid) as show:
    demonstrations, tally = recording.record(
      arguments.task,
      arguments.train,
      arguments.valid,
      arguments.seed,
      arguments.processes,
      show,
      arguments.skills,
    )
  storage.save(arguments.output, demonstrations)
  console.print(str(tally), markup=False)
  console.print(
    f'{arguments.output}: {arguments.task}, {arguments.train} train + '
    f'{arguments.valid} valid, {os.path.getsize(arguments.output) / 1e6:.1f} MB',
    markup=False,
  )


class _Display:
  """Shows a tally as it grows: a bar on a terminal, else a line now and then."""

  def __init__(self, console: rich_console.Console, wanted: int) -> None:
    self._console = console
    self._last_line = time.monotonic()
    self._bar = rich_progress.Progress(
      rich_progress.TextColumn('{task.description}'),
      rich_progress.BarColumn(),
      rich_progress.MofNCompleteColumn(),
      rich_progress.TextColumn('{task.fields[rejected]} rejected'),
      rich_progress.TimeRemainingColumn(),
      console=console,
      transient=True,
      disable=not console.is_terminal,
    )
    self._task = self._bar.add_task('recording', total=wanted, rejected=0)

  def __enter__(self) -> Callable[[recording.Tally], None]:
    self._bar.start()
    return self._show

  def __exit__(self, *exception: object) -> None:
    self._bar.stop()

  def _show(self, tally: recording.Tally) -> None:
    self._bar.update(self._task, completed=tally.kept, rejected=tally.rejected)
    now = time.monotonic()
    if not self._console.is_terminal and now - self._last_line > _LINE_PERIOD:
      self._last_line = now
      self._console.print(
        f'recorded {tally.kept} of {tally.wanted}, {tally.rejected} rejected'
      )


def _terminated(*unused: object) -> NoReturn:
  raise SystemExit(128 + signal.SIGTERM)


if __name__ == '__main__':
  # So that on a polite kill, too, what was begun is cleared away.
  signal.signal(signal.SIGTERM, _terminated)
  try:
    main(tyro.cli(Arguments, description=Arguments.__doc__))
  except KeyboardInterrupt:
    sys.exit('stopped; nothing was written')
  except (ValueError, OSError, recording.TooManyRejections) as e:
    sys.exit(f'error: {e}')
  except process.BrokenProcessPool:
    sys.exit(
      'error: a recording process was killed (out of memory?); nothing was written. '
      'Expected room for --processes of them'
    )
