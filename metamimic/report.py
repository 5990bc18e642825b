"""Writes a run's report.html: one file that holds numbers, curves and videos.

    python -m metamimic.report RUN_DIR

Reads nothing but what the run directory holds, and works while the run goes on: what
is not measured yet is said.
"""

import base64
from collections.abc import Mapping, Sequence
import dataclasses
import datetime as dt
import math
import os
import pathlib
import sys
from typing import Any

import jinja2
import pandas as pd
import tyro

from metamimic import config as config_lib
from metamimic import files
from metamimic import plain
from metamimic import plotting
from metamimic import run_figures
from metamimic import statistics
from metamimic import tables

_EMBED_FILE = 6 * 2**20  # Bytes of the largest video to put into the page, ...
_EMBED_TOTAL = 30 * 2**20  # ... and of all together; the rest is linked.
_UNKNOWN = 'unknown'


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Writes report.html into a run directory."""

  run_dir: tyro.conf.Positional[str]
  """The run directory; the run may be going on or have failed."""


@dataclasses.dataclass(frozen=True)
class _Run:
  """What a run directory holds; tables are empty and values absent if it does not."""

  directory: pathlib.Path
  config: config_lib.Config
  description: Mapping[str, Any]
  summary: Mapping[str, Any]
  learners: Mapping[str, pd.DataFrame]
  actors: Mapping[int, pd.DataFrame]
  evaluator: pd.DataFrame
  evaluation: pd.DataFrame
  arms: pd.DataFrame

  solving: pd.DataFrame

  @property
  def policies(self) -> list[str]:
    """The arms that are trained."""
    return [self.config.arm(name) for name in self.config.learners]


def write(
  run_dir: str | os.PathLike[str], summary: Mapping[str, Any] | None = None
) -> str:
  """Writes report.html, to a temporary name first.

  Args:
    run_dir: the run directory.
    summary: what summary.json is to hold, which marks a run as finished and so is put
      there after the report; None: what it holds.

  Returns:
    Its path.

  Raises:
    FileNotFoundError: the directory holds no config.json, so is no run's.
    ValueError: a file in it is not what a run writes; the message names the file.
  """
  run = _read(pathlib.Path(run_dir), summary)
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('metamimic', 'templates'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters['number'] = _number
  environment.filters['count'] = _count
  environment.filters['label'] = plotting.label
  page = environment.get_template('report.html.j2').render(
    title=f'{plotting.label(run.policies[0])} on {_task(run)}',
    run_name=run.directory.resolve().name,
    finished=bool(run.summary),
    headline=_headline(run),
    facts=_facts(run),
    figures=_drawn(run),
    splits=_splits(run.arms),
    solving=_splits(run.solving),
    policies=run.policies,
    learners=list(run.config.learners),
    unlearned=statistics.UNLEARNED,
    videos=_videos(run.directory),
    config=plain.flatten(config_lib.to_dict(run.config)),
    written=dt.datetime.now().strftime('%Y-%m-%d %H:%M'),
  )
  path = run.directory / 'report.html'
  temporary = path.with_suffix('.tmp')
  temporary.write_text(page)
  os.replace(temporary, path)
  return str(path)


def _read(directory: pathlib.Path, summary: Mapping[str, Any] | None = None) -> _Run:
  if not (directory / 'config.json').is_file():
    raise FileNotFoundError(
      f'{directory}: no config.json in it; expected a run directory'
    )
  logs, described = directory / 'logs', directory / 'run.json'
  actors = {int(p.stem.partition('-')[2]): p for p in logs.glob('actor-*.csv')}
  learners = sorted(logs.glob('learner-*.csv'))
  evaluation = tables.read(directory / 'evaluation.csv', tables.EVALUATION)
  try:
    arms = statistics.summarise(evaluation) if len(evaluation) else pd.DataFrame()
    solving = statistics.solving(evaluation) if len(evaluation) else pd.DataFrame()
  except ValueError as e:
    raise ValueError(f'{directory / "evaluation.csv"}: {e}') from e
  config = config_lib.load(str(directory / 'config.json'))
  return _Run(
    directory,
    config,
    files.read_json(described) if described.exists() else {},
    _summary(directory / 'summary.json', config) if summary is None else summary,
    {
      path.stem.partition('-')[2]: tables.read(path, tables.LEARNER)
      for path in learners
    },
    {i: tables.read(path, tables.ACTOR) for i, path in sorted(actors.items())},
    tables.read(logs / 'evaluator.csv', tables.EVALUATOR),
    evaluation,
    arms,
    solving,
  )


def _summary(path: pathlib.Path, config: config_lib.Config) -> dict[str, Any]:
  """Returns what summary.json holds; nothing if the run has gone on since."""
  if not path.exists():
    return {}
  found = files.read_json(path)
  for name in ('learner_steps', 'environment_steps'):
    if not files.are_counts(found.get(name, {})):
      raise ValueError(f'{path}: {name}: expected numbers of steps')
  if not files.is_number(found.get('wall_seconds', 0)):
    raise ValueError(f'{path}: wall_seconds: expected a number')
  try:
    return found if config.is_done(found['learner_steps']) else {}
  except (KeyError, TypeError) as e:
    raise ValueError(
      f'{path}: learner_steps: expected those of {config.learners} ({e!r})'
    ) from e


def _task(run: _Run) -> str:
  return str(run.description.get('task', _UNKNOWN + ' task'))


def _facts(run: _Run) -> dict[str, str]:
  """Returns what was run, for a list of names and values."""
  environment_steps = _total(run.summary, 'environment_steps', [*run.actors.values()])
  learner_steps = _total(run.summary, 'learner_steps', [*run.learners.values()])
  seconds = run.summary.get('wall_seconds')
  times = [table['wall_time'] for table in run.learners.values() if len(table)]
  if seconds is None and times:
    seconds = max(t.max() for t in times) - min(t.min() for t in times)
  facts = {
    'task': _task(run),
    'algorithm': plotting.label(run.config.algorithm),
    'seed': str(run.config.seed),
    'demonstrations': run.config.demonstrations or _UNKNOWN,
    'reward': str(run.description.get('reward', _UNKNOWN)),
    'learner steps': _count(learner_steps),
    'environment steps': _count(environment_steps),
    'wall time': _duration(seconds),
  }
  if environment_steps is None:
    del facts['environment steps']
  return facts


def _total(
  summary: Mapping[str, Any], column: str, tables: Sequence[pd.DataFrame]
) -> float | None:
  """Returns the sum over a run's nodes; None: none has said anything."""
  if column in summary:
    return sum(summary[column].values()) or None
  last = [table[column].iloc[-1] for table in tables if column in table and len(table)]
  return float(sum(last)) if last else None


def _headline(run: _Run) -> str:
  if run.arms.empty:
    return 'Nothing has been evaluated yet.'
  sentences = [_sentence(run, arm) for arm in run.policies]
  return ' '.join(sentences).replace(' %', '\N{NO-BREAK SPACE}%')


def _sentence(run: _Run, arm: str) -> str:
  """Returns what an arm came to on held-out demonstrations."""
  rows = {(r['arm'], r['split']): r for _, r in run.arms.iterrows()}
  row = rows.get((arm, statistics.SPLITS[0]))
  name = plotting.label(arm)
  if row is None:
    return f'On held-out demonstrations {name} has not been evaluated yet.'
  if math.isnan(row['reward']):
    return _solving_sentence(run, arm)
  n = row['n']
  text = (
    f'On {n} held-out demonstration{"s" if n > 1 else ""}, '
    f'{name} earns {_interval(row, "reward")} of 1 per step'
  )
  if not math.isnan(row['ratio']):
    text += f', {100 * row["ratio"]:.0f} % of open-loop replay'
  text += f', and succeeds at the task in {_interval(row, "success", percent=True)}.'
  others = [
    f'{rows[other, row["split"]]["reward"]:.2f} {how}'
    for other, how in (
      (statistics.FLOOR, 'without moving'),
      ('wrong_demonstration', 'when it is shown the wrong demonstration'),
    )
    if (other, row['split']) in rows
  ]
  if others:
    text += f' The reward is {" and ".join(others)}.'
  return text


def _solving_sentence(run: _Run, arm: str) -> str:
  held_out = run.solving['split'] == statistics.SPLITS[0]
  row = run.solving[held_out & (run.solving['arm'] == arm)].iloc[0]
  text = (
    f'Shown nothing, the {plotting.label(arm)} solves the task from '
    f'{_interval(row, "solved", percent=True)} of {row["n"]} held-out starts'
  )
  if not math.isnan(row['ratio']):
    text += f', in {row["ratio"]:.2f} of the time that the demonstrators take'
  if run.config.task.is_dense:
    rows = statistics.last(run.evaluation)
    rows = rows[(rows['arm'] == arm) & (rows['split'] == statistics.SPLITS[0])]
    text += f'; its return, of the dense reward, is {rows["return"].mean():.1f}'
  return text + '.'


def _interval(row: 'pd.Series[Any]', column: str, percent: bool = False) -> str:
  value, low, high = (row[column + end] for end in ('', '_low', '_high'))
  if percent:
    value, low, high = 100 * value, 100 * low, 100 * high
    return f'{value:.0f} % (95 % interval {low:.0f}–{high:.0f} %)'
  if math.isnan(low):
    return f'{value:.2f}'
  return f'{value:.2f} (95 % interval {low:.2f}–{high:.2f})'


def _drawn(run: _Run) -> dict[str, str]:
  try:
    return _figures(run)
  except (ValueError, KeyError, OverflowError) as e:
    # What it takes for mathematics in a name, and the like.
    raise ValueError(f'{run.directory}: its tables cannot be drawn ({e!r:.500})') from e


def _figures(run: _Run) -> dict[str, str]:
  """Returns SVG elements by name; what has no data is left out."""
  figures = {}
  if len(run.evaluator) or len(run.evaluation):
    for arm, learner in zip(run.policies, run.config.learners, strict=True):
      figures[f'learning curve of {arm}'] = run_figures.learning_curve(
        arm, run.evaluator, run.evaluation, _begun_anew(run, learner)
      )
  if len(run.arms) and statistics.terms(run.arms):
    figures['terms'] = run_figures.term_rewards(run.arms)
  if len(run.evaluation):
    figures['distribution'] = run_figures.reward_distribution(run.evaluation)
    figures['steps_to_success'] = run_figures.steps_to_success(run.evaluation)
  for name, table in run.learners.items():
    if len(table):
      figures[f'training of {name}'] = run_figures.training(table, _of(run, name))
  return {name: plotting.svg(figure) for name, figure in figures.items()}


def _begun_anew(run: _Run, learner: str) -> int:
  """Returns the learner steps after which it began anew; 0: it has not."""
  table = run.learners.get(learner, pd.DataFrame())
  if 'reset_step' not in table or not len(table):
    return 0
  return int(table['reset_step'].fillna(0).max())


def _of(run: _Run, learner: str) -> list[pd.DataFrame]:
  """Returns the logs of the actors that act for a learner."""
  acts_for = run.config.acts_for
  return [table for i, table in run.actors.items() if acts_for(i) == learner]


def _splits(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
  """Returns the rows of each split."""
  if table.empty:
    return {}
  return {
    split: table[table['split'] == split].to_dict('records')
    for split in statistics.SPLITS
    if (table['split'] == split).any()
  }


def _videos(directory: pathlib.Path) -> list[dict[str, str]]:
  """Returns name and source of each video: its content, or a link if it is large."""
  videos, embedded = [], 0
  for path in sorted((directory / 'videos').glob('*.mp4')):
    size = path.stat().st_size
    if size > _EMBED_FILE or embedded + size > _EMBED_TOTAL:
      source = path.relative_to(directory).as_posix()
    else:
      embedded += size
      content = base64.b64encode(path.read_bytes()).decode()
      source = f'data:video/mp4;base64,{content}'
    videos.append({'name': path.stem, 'source': source})
  return videos


def _number(value: float, form: str = '.2f') -> str:
  return '–' if math.isnan(value) else format(value, form)


def _count(value: float | None) -> str:
  return _UNKNOWN if value is None else f'{int(value):,}'.replace(',', ' ')


def _duration(seconds: float | None) -> str:
  if seconds is None:
    return _UNKNOWN
  hours, minutes = divmod(round(seconds) // 60, 60)
  if hours:
    return f'{hours} h {minutes} min'
  return f'{minutes} min {round(seconds) % 60} s'


if __name__ == '__main__':
  try:
    print(write(tyro.cli(Arguments, description=Arguments.__doc__).run_dir))
  except (ValueError, OSError) as e:
    sys.exit(f'error: {e}')
