"""Shows how a run goes, from the CSV files of its directory and nothing else."""

import collections
from collections.abc import Iterator, Sequence
import contextlib
import csv
import dataclasses
import math
import pathlib
import time

import rich.console
import rich.live
import rich.table
import rich.text

from metamimic import config

LINE_PERIOD = 10.0
"""Seconds between two lines where there is no terminal."""
_REFRESH_PERIOD = 0.5
_RATE_ROWS = 20
_STALE = 10.0  # Seconds after which an actor's rate is no longer its rate.
_CEILING, _FLOOR = 'replay', 'zero'


class LineTail:
  """Reads the lines that were added to a file since the last call."""

  def __init__(self, path: pathlib.Path, new: bool = False) -> None:
    """Takes the file.

    Args:
      path: of the file; it may not be there yet.
      new: leaves out what it holds now.
    """
    self._path = path
    self._offset = 0
    if new:
      with contextlib.suppress(OSError):
        self._offset = path.stat().st_size

  def read(self) -> list[str]:
    """Returns the new complete lines; none while there is no file that can be read."""
    try:
      with open(self._path, 'rb') as f:
        f.seek(self._offset)
        data = f.read()
    except OSError:
      # A file system that other hosts share has its moments: they come later.
      return []
    # A line without its end is still being written.
    data = data[: data.rfind(b'\n') + 1]
    self._offset += len(data)
    return data.decode(errors='replace').splitlines()


class CsvTail:
  """Reads the rows that were added to a CSV file since the last call."""

  def __init__(self, path: pathlib.Path) -> None:
    self._tail = LineTail(path)
    self._header: list[str] | None = None

  def read(self) -> list[dict[str, str]]:
    """Returns the new complete rows; none while there is no file that can be read."""
    rows = []
    # What a disk did to a line costs the line, and not the run.
    longest = csv.field_size_limit()
    lines = [x for x in self._tail.read() if '\0' not in x and len(x) < longest]
    for cells in csv.reader(lines):
      # Every file begins with this column; a resumed run may write the header again.
      if cells and cells[0] == 'wall_time':
        self._header = cells
      elif cells and self._header:
        rows.append(dict(zip(self._header, cells, strict=False)))
    return rows


@dataclasses.dataclass(frozen=True)
class Score:
  """The latest evaluation of one arm on one split."""

  reward: float
  """Mean imitation reward per step."""
  completed: float
  """Mean share of the demonstration before tracking was lost."""
  success: float
  """Share of the episodes at whose end the task was solved."""
  returned: float
  """Mean sum of the task's reward over an episode."""
  learner_steps: float


class LearnerProgress:
  """How far one learner is, from its log."""

  def __init__(self, path: pathlib.Path, last_step: int, start: float) -> None:
    self._tail = CsvTail(path)
    self._start = start
    self._row: dict[str, str] = {}
    self._rates: collections.deque[tuple[float, float]] = collections.deque(
      maxlen=_RATE_ROWS
    )
    self.last_step = last_step
    """Steps after which it is done."""
    self.last_row = time.monotonic()
    """When it last wrote (time.monotonic())."""

  def update(self) -> None:
    """Reads what was written since the last call."""
    for row in self._tail.read():
      if _number(row, 'learner_steps') < self.steps:
        # It was started again, from a checkpoint.
        self._rates.clear()
      self._row = row
      self.last_row = time.monotonic()
      # Rows of an earlier launch of this run say nothing about today's rate.
      if _number(row, 'wall_time') >= self._start:
        self._rates.append((_number(row, 'wall_time'), _number(row, 'learner_steps')))

  @property
  def steps(self) -> float:
    """Steps done, earlier launches included."""
    return _number(self._row, 'learner_steps')

  @property
  def done(self) -> bool:
    """Whether these are all."""
    return self.steps >= self.last_step

  @property
  def rate(self) -> float:
    """Steps per second over its last rows; 0 while unknown."""
    if len(self._rates) < 2:
      return 0.0
    (t0, first), (t1, last) = self._rates[0], self._rates[-1]
    return (last - first) / (t1 - t0) if t1 > t0 else 0.0

  @property
  def left(self) -> float | None:
    """Seconds of training left at the present rate; None while unknown."""
    if self.done:
      return 0.0
    return (self.last_step - self.steps) / self.rate if self.rate > 0 else None

  @property
  def replay_size(self) -> float:
    """Transitions that it can sample, as it last saw them."""
    return _number(self._row, 'replay_size')


class Progress:
  """What the CSV files say so far; cheap to `update`."""

  def __init__(self, run_dir: pathlib.Path, settings: config.Config) -> None:
    logs = run_dir / 'logs'
    self._start = time.time()
    self.learners = {
      name: LearnerProgress(
        logs / f'learner-{name}.csv', settings.last_step(name), self._start
      )
      for name in settings.learners
    }
    """By name."""
    self._evaluator = CsvTail(logs / 'evaluator.csv')
    self._logs = logs
    self._actors: dict[str, CsvTail] = {}
    self._actor_rows: dict[str, dict[str, str]] = {}
    self.scores: dict[tuple[str, str], Score] = {}
    """Latest evaluation by (arm, split)."""

  def update(self) -> None:
    """Reads what was written since the last call."""
    for learner in self.learners.values():
      learner.update()
    # On a cluster actors may join at any time.
    with contextlib.suppress(OSError):
      for path in self._logs.glob('actor-*.csv'):
        self._actors.setdefault(path.name, CsvTail(path))
    for name, tail in self._actors.items():
      for row in tail.read():
        self._actor_rows[name] = row
    for row in self._evaluator.read():
      self.scores[row.get('arm', ''), row.get('split', '')] = Score(
        _number(row, 'reward'),
        _number(row, 'completed'),
        _number(row, 'success'),
        _number(row, 'return'),
        _number(row, 'learner_steps'),
      )

  @property
  def environment_steps(self) -> float:
    """Control steps of all actors together."""
    return sum(_number(row, 'environment_steps') for row in self._actor_rows.values())

  @property
  def environment_rate(self) -> float:
    """Control steps per second, of all actors together."""
    now = time.time()
    return sum(
      _number(row, 'steps_per_second')
      for row in self._actor_rows.values()
      # Those who have done their part no longer act.
      if now - _number(row, 'wall_time') < _STALE
    )

  @property
  def replay_size(self) -> float:
    """Transitions in replay, as the learners last saw it."""
    return max(learner.replay_size for learner in self.learners.values())

  @property
  def elapsed(self) -> float:
    """Seconds since this launch began."""
    return time.time() - self._start

  @property
  def left(self) -> float | None:
    """Seconds of training left at the present rates; None while unknown."""
    left = [learner.left for learner in self.learners.values()]
    known = [seconds for seconds in left if seconds is not None]
    return max(known) if len(known) == len(left) else None

  def score(self, arm: str, split: str) -> Score | None:
    """Returns the latest evaluation of `arm` on `split`, if there was one."""
    return self.scores.get((arm, split))


class Display:
  """A live table on a terminal, else a line every `LINE_PERIOD` seconds."""

  def __init__(
    self,
    progress: Progress,
    settings: config.Config,
    console: rich.console.Console | None = None,
  ) -> None:
    self._progress = progress
    self._settings = settings
    self._console = console or rich.console.Console(highlight=False)
    self._live: rich.live.Live | None = None
    self._next = 0.0

  @contextlib.contextmanager
  def shown(self) -> Iterator[None]:
    """Shows the display while the context is open, and its last state at the end."""
    if not self._console.is_terminal:
      yield
      return
    with rich.live.Live(
      console=self._console, auto_refresh=False, transient=False
    ) as self._live:
      yield
    self._live = None

  def say(self, text: str, style: str = '') -> None:
    """Prints `text` as it is, above the display."""
    # A run does not end because the disk is full to which its output is redirected.
    with contextlib.suppress(OSError):
      if self._console.is_terminal:
        self._console.print(rich.text.Text(text, style))
      else:
        # No wrapping: logs are searched by line.
        print(text, file=self._console.file, flush=True)

  def update(self, running: Sequence[str], last: bool = False) -> None:
    """Draws the present state, seldom enough to cost nothing.

    Args:
      running: names of the nodes that run.
      last: draw it, however short a time ago that was done.
    """
    now = time.monotonic()
    if now < self._next and not last:
      return
    self._progress.update()
    if self._live is not None:
      self._next = now + _REFRESH_PERIOD
      self._live.update(self._table(running), refresh=True)
    else:
      # The first line would say nothing yet.
      first, self._next = not self._next, now + LINE_PERIOD
      if not first or last:
        self.say(self.line(running))

  def line(self, running: Sequence[str]) -> str:
    """Returns the present state in one line."""
    p = self._progress
    parts = [clock(p.elapsed)]
    for name, learner in p.learners.items():
      what = 'learner' if len(p.learners) == 1 else f'{name} learner'
      parts.append(
        f'{what} {learner.steps:,.0f}/{learner.last_step:,} ({learner.rate:,.0f}/s)'
      )
    if self._settings.actors:
      parts.append(
        f'environment {p.environment_steps:,.0f} ({p.environment_rate:,.0f}/s)'
      )
      parts.append(f'replay {p.replay_size:,.0f}')
    for name in p.learners:
      parts += self._scores(name)
    parts.append(self._time_left(running))
    return ' | '.join(parts)

  def _scores(self, learner: str) -> list[str]:
    arm = self._settings.arm(learner)
    train, valid = (self._progress.score(arm, split) for split in ('train', 'valid'))
    if not train and not valid:
      return []
    if not self._settings.follows(learner):
      dense = self._settings.task.is_dense
      name, field = ('return', 'returned') if dense else ('success', 'success')
      scores = f'{_show(train, field)}, held-out {_show(valid, field)}'
      return [f'task {name} from training starts {scores}']
    return [
      'imitation reward (floor to ceiling)'
      f' training {self._between(arm, "train")},'
      f' held-out {self._between(arm, "valid")}',
      f'completed {_show(valid, "completed")}',
    ]

  def _between(self, arm: str, split: str) -> str:
    p = self._progress
    floor, ceiling = (p.score(a, split) for a in (_FLOOR, _CEILING))
    reward = _show(p.score(arm, split), 'reward')
    return f'{reward} ({_show(floor, "reward")} to {_show(ceiling, "reward")})'

  def _time_left(self, running: Sequence[str]) -> str:
    if not any(name.startswith('learner') for name in running):
      # Its last steps need not have been worth a row.
      return f'learner done; running: {" ".join(running)}' if running else 'done'
    left = self._progress.left
    return (
      'time left: not known yet' if left is None else f'training left {clock(left)}'
    )

  def _table(self, running: Sequence[str]) -> rich.console.Group:
    p = self._progress
    counts = rich.table.Table(box=None, show_header=False, padding=(0, 2))
    counts.add_row('time', clock(p.elapsed), self._time_left(running))
    for name, learner in p.learners.items():
      counts.add_row(
        f'{name} learner steps',
        f'{learner.steps:,.0f} of {learner.last_step:,}',
        f'{learner.rate:,.0f}/s',
      )
    if self._settings.actors:
      counts.add_row(
        'environment steps',
        f'{p.environment_steps:,.0f}',
        f'{p.environment_rate:,.0f}/s',
      )
      counts.add_row('replay', f'{p.replay_size:,.0f} transitions', '')
    counts.add_row('running', ' '.join(running), '')
    scores = rich.table.Table('imitation reward per step', box=None, padding=(0, 2))
    returns = ('return',) if self._settings.task.is_dense else ()
    for column in (
      *('training', 'held-out', 'completed', 'success'),
      *returns,
      'at step',
    ):
      scores.add_column(column, justify='right')
    arms = [self._settings.arm(learner) for learner in p.learners]
    for label, arm in (
      *((f'policy: {arm}', arm) for arm in arms),
      ('ceiling: open-loop replay', _CEILING),
      ('floor: no action', _FLOOR),
    ):
      valid = p.score(arm, 'valid')
      scores.add_row(
        label,
        _show(p.score(arm, 'train'), 'reward'),
        _show(valid, 'reward'),
        _show(valid, 'completed'),
        _show(valid, 'success'),
        *(_show(valid, 'returned') for _ in returns),
        f'{valid.learner_steps:,.0f}' if valid else '–',
      )
    return rich.console.Group(counts, '', scores)


def clock(seconds: float) -> str:
  """Returns h:mm:ss."""
  minutes, second = divmod(int(seconds), 60)
  return f'{minutes // 60}:{minutes % 60:02d}:{second:02d}'


def _show(score: Score | None, field: str) -> str:
  if not score or math.isnan(getattr(score, field)):
    return '–'
  return f'{getattr(score, field):.3f}'


def _number(row: dict[str, str], name: str) -> float:
  try:
    return float(row.get(name) or 0)
  except ValueError:
    return 0.0
