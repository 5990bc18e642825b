"""Makes the results that the README shows, from nothing.

  python -m benchmarks.results lift_brick     runs it, all seeds, then writes the files
  python -m benchmarks.results --readme       writes the README's tables from the files

A name stands for runs with several seeds, one after the other, under runs/results/;
those that are finished are not run again. results/NAME.csv gets every final episode,
results/NAME.json the configuration, wall times and the machine.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import json
import math
import os
import pathlib
import platform
import re
import subprocess
import sys
from typing import Any

import pandas as pd

from benchmarks import common
from benchmarks import time_to_imitate
from metamimic import statistics

_ROOT = pathlib.Path(__file__).resolve().parents[1]
RUNS = _ROOT / 'runs' / 'results'
"""Folder of the runs."""
_RESULTS = _ROOT / 'results'
_README = _ROOT / 'README.md'
_BEGIN, _END = '<!-- results -->', '<!-- end of results -->'
_SPEED_BEGIN, _SPEED_END = '<!-- speed -->', '<!-- end of speed -->'
_SOLVING_BEGIN, _SOLVING_END = '<!-- solving -->', '<!-- end of solving -->'
_LABELS = {
  'metamimic': 'MetaMimic',
  'task_policy': 'task policy',
  'bc': 'behavioural cloning (sees actions)',
  'replay': 'open-loop replay (sees actions)',
  'tracker': 'proportional tracker',
  'bc_no_goal': 'behavioural cloning without a goal (sees actions)',
  'd4pg': 'D4PG',
  'd4pgfd': 'D4PGfD (sees actions)',
  'wrong_demonstration': 'MetaMimic, shown another demonstration',
  'no_demonstration': 'MetaMimic, shown nothing',
  'zero': 'no action',
}


@dataclasses.dataclass(frozen=True)
class Experiment:
  """One line of the README's table, and its controls."""

  task: str
  """Its demonstrations are data/<task>.hdf5, 500 to learn from and 50 held out."""
  seeds: tuple[int, ...]
  """A run each."""
  arguments: tuple[str, ...] = ()
  """Of the launcher, beside the laptop preset."""
  controls: bool = True
  """Whether the table shows its arms without a learned policy; another experiment's on
  the same demonstrations say the same."""
  learns_from: str = ''
  """Where the experience of a policy comes from that is to solve the task; empty: there
  is no such policy."""


_SEEDS = (0, 1, 2)
EXPERIMENTS = {
  'lift_brick': Experiment('lift_brick', _SEEDS),
  'lift_brick_long': Experiment(
    'lift_brick', _SEEDS, ('--learner-steps', '120000'), controls=False
  ),
  'lift_brick_bc': Experiment(
    'lift_brick',
    _SEEDS,
    ('--algorithm', 'bc', '--learner-steps', '20000'),
    controls=False,
  ),
  'reach_duplo': Experiment('reach_duplo', (0,), ('--learner-steps', '20000')),
  'stack_2_bricks': Experiment('stack_2_bricks', _SEEDS, ('--learner-steps', '120000')),
  'stack_2_bricks_bc': Experiment(
    'stack_2_bricks',
    _SEEDS,
    ('--algorithm', 'bc', '--learner-steps', '40000'),
    controls=False,
  ),
}

# About as many environment steps each, of all actors together.
_TASK, _ALONE = ('--task.learn',), ('--task.learner-steps', '100000')
for _task in ('lift_brick', 'stack_2_bricks'):
  EXPERIMENTS |= {
    f'{_task}_task': Experiment(
      _task, _SEEDS, _TASK, learns_from='imitation and task actors'
    ),
    f'{_task}_task_from_imitation': Experiment(
      _task,
      _SEEDS,
      (*_TASK, '--task.imitation-share', '1', '--learner-steps', '100000'),
      controls=False,
      learns_from='imitation actors',
    ),
    f'{_task}_d4pg': Experiment(
      _task,
      _SEEDS,
      ('--algorithm', 'd4pg', *_ALONE),
      controls=False,
      learns_from='task actors',
    ),
    f'{_task}_d4pgfd': Experiment(
      _task,
      _SEEDS,
      ('--algorithm', 'd4pgfd', *_ALONE),
      controls=False,
      learns_from='task actors, demonstrations',
    ),
    f'{_task}_bc_no_goal': Experiment(
      _task,
      _SEEDS,
      ('--algorithm', 'bc_no_goal', '--learner-steps', '40000'),
      controls=False,
      learns_from='demonstrations',
    ),
  }


def run(name: str, seeds: Sequence[int]) -> None:
  """Runs an experiment and writes its files.

  Args:
    name: in `EXPERIMENTS`.
    seeds: which runs; all that were made before count in the files too.

  Raises:
    subprocess.CalledProcessError: recording or a run failed.
  """
  experiment = EXPERIMENTS[name]
  data = _ROOT / 'data' / f'{experiment.task}.hdf5'
  if not data.exists():
    arguments = ['--task', experiment.task, '--output', str(data), '--seed', '0']
    _call('metamimic.record', *arguments, '--train', '500', '--valid', '50')
  for seed in seeds:
    arguments = ['--demonstrations', str(data), '--seed', str(seed)]
    directory = ['--preset', 'laptop', '--run-dir', str(_directory(name, seed))]
    _call('launch_configs.local', *directory, *arguments, *experiment.arguments)
  collect(name)


def _directory(name: str, seed: int) -> pathlib.Path:
  return RUNS / f'{name}-seed{seed}'


def _call(module: str, *arguments: str) -> None:
  subprocess.run([sys.executable, '-m', module, *arguments], cwd=_ROOT, check=True)


def collect(name: str) -> None:
  """Writes results/NAME.csv and .json from the finished runs of an experiment."""
  tables, runs = [], {}
  config: dict[str, Any] = {}
  for seed in EXPERIMENTS[name].seeds:
    directory = _directory(name, seed)
    if not (directory / 'summary.json').exists():
      continue
    tables.append(statistics.last(pd.read_csv(directory / 'evaluation.csv')))
    runs[seed] = json.loads((directory / 'summary.json').read_text())
    found = json.loads((directory / 'config.json').read_text())
    del found['seed'], found['demonstrations']
    if config and found != config:
      raise SystemExit(f'{directory}: its configuration is not that of earlier seeds')
    config = found
  if not tables:
    raise SystemExit(f'{name}: no finished run under {RUNS}')
  about = {
    'command': f'python -m benchmarks.results {name}',
    'runs': runs,
    'config': config,
    'machine': {
      'processor': _processor(),
      'cores': os.cpu_count(),
      'python': platform.python_version(),
    },
  }
  _RESULTS.mkdir(exist_ok=True)
  pd.concat(tables).to_csv(_RESULTS / f'{name}.csv', index=False)
  (_RESULTS / f'{name}.json').write_text(json.dumps(about, indent=2) + '\n')
  print(table(name))


def _processor() -> str:
  with open('/proc/cpuinfo') as f:
    found = re.search(r'model name\s*: (.*)', f.read())
  return found[1] if found else platform.machine()


def table(name: str) -> str:
  """Returns an experiment's held-out results as rows of a Markdown table."""
  rows = pd.read_csv(_RESULTS / f'{name}.csv')
  about = json.loads((_RESULTS / f'{name}.json').read_text())
  minutes = [run['wall_seconds'] / 60 for run in about['runs'].values()]
  summary = statistics.summarise(rows)
  lines = []
  for row in summary[summary['split'] == 'valid'].itertuples():
    learned = row.arm not in statistics.CONTROLS
    if not (learned or EXPERIMENTS[name].controls):
      continue
    steps = f'{row.learner_steps:,}' if learned else ''
    took = f'{sum(minutes) / len(minutes):.1f}' if learned else ''
    lines.append(
      f'| {EXPERIMENTS[name].task} | {_LABELS[row.arm]} '
      f'| {_rewards(row)} '
      f'| {row.success:.2f} ({row.success_low:.2f}–{row.success_high:.2f}) '
      f'| {row.seeds} × {row.n // row.seeds} | {steps} | {took} |'
    )
  return '\n'.join(lines)


def solving_rows(name: str) -> str:
  """Returns how an experiment's arms solve the task from held-out starts."""
  experiment = EXPERIMENTS[name]
  rows = pd.read_csv(_RESULTS / f'{name}.csv')
  about = json.loads((_RESULTS / f'{name}.json').read_text())
  lines = []
  for row in statistics.solving(rows[rows['split'] == 'valid']).itertuples():
    control = row.arm in statistics.CONTROLS or row.arm == 'metamimic'
    shown = row.arm not in statistics.MISGUIDED and row.arm != statistics.FLOOR
    if not shown or (control and not experiment.controls):
      continue
    steps = [
      about['runs'][seed]['environment_steps'].values() for seed in about['runs']
    ]
    experience = f'{sum(map(sum, steps)) / len(steps):,.0f}' if not control else ''
    lines.append(
      f'| {experiment.task} | {_LABELS[row.arm]} '
      f'| {"" if control else experiment.learns_from} | {experience} '
      f'| {row.solved:.2f} ({row.solved_low:.2f}–{row.solved_high:.2f}) '
      f'| {_steps(row)} '
      f'| {row.seeds} × {row.n // row.seeds} |'
    )
  return '\n'.join(lines)


def _steps(row: Any) -> str:
  if math.isnan(row.ratio):
    return '– | –'
  return f'{row.steps:.0f} | {row.ratio:.2f} ({row.ratio_low:.2f}–{row.ratio_high:.2f})'


def solving_table() -> str:
  """Returns the README's table of policies that are to solve the task."""
  header = (
    '| task | arm | learns from | environment steps | solved (95 %) | median steps '
    "| of the demonstrators' (95 %) | seeds × starts |\n"
    '|---|---|---|---|---|---|---|---|'
  )
  names = [
    name
    for name, experiment in EXPERIMENTS.items()
    if experiment.learns_from and (_RESULTS / f'{name}.csv').exists()
  ]
  return '\n'.join([header, *(solving_rows(name) for name in names)])


def _rewards(row: Any) -> str:
  """Returns the cells of what an arm has that follows a demonstration."""
  if math.isnan(row.reward):
    return '– | – | –'
  return (
    f'{row.reward:.3f} ({row.reward_low:.3f}–{row.reward_high:.3f}) '
    f'| {row.ratio:.2f} | {row.completed:.2f}'
  )


def readme_table() -> str:
  """Returns the README's table, from all files under results/."""
  header = (
    '| task | arm | reward (95 %) | of replay | completed | success (95 %) '
    '| seeds × episodes | learner steps | minutes |\n'
    '|---|---|---|---|---|---|---|---|---|'
  )
  names = [
    name
    for name, experiment in EXPERIMENTS.items()
    if not experiment.learns_from and (_RESULTS / f'{name}.csv').exists()
  ]
  return '\n'.join([header, *(table(name) for name in names)])


def speed_table() -> str:
  """Returns the README's table of the benchmarks that have been run."""
  lines = ['| what | times as fast | bar | command |', '|---|---|---|---|']
  for name in (*common.COMPARISONS, 'time_to_imitate'):
    path = _RESULTS / f'benchmark_{name}.csv'
    if not path.exists():
      continue
    if name in common.COMPARISONS:
      bars = common.compare(common.read(str(path)), name)
    else:
      bars = [time_to_imitate.bar(time_to_imitate.read(str(path)))]
    for bar in bars:
      least = '≥ ' if bar.is_lower_bound else ''
      lines.append(
        f'| {bar.name} | {least}{bar.ratio:.2f} | {bar.bar:g} '
        f'| `python -m benchmarks.{name}` |'
      )
  return '\n'.join(lines)


def write_readme() -> None:
  """Replaces the tables between the README's markers."""
  text = _README.read_text()
  for begin, end, table_ in (
    (_BEGIN, _END, readme_table()),
    (_SOLVING_BEGIN, _SOLVING_END, solving_table()),
    (_SPEED_BEGIN, _SPEED_END, speed_table()),
  ):
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    text = f'{before}{begin}\n{table_}\n{end}{after}'
  _README.write_text(text)


def main() -> None:
  """Does what the command line asks for."""
  parser = argparse.ArgumentParser('python -m benchmarks.results', description=__doc__)
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.add_argument('name', nargs='?', choices=sorted(EXPERIMENTS))
  parser.add_argument('--seeds', type=int, nargs='+', help='run only these')
  parser.add_argument('--collect', action='store_true', help='run nothing')
  parser.add_argument('--readme', action='store_true', help="write the README's tables")
  options = parser.parse_args()
  if options.name and options.collect:
    collect(options.name)
  elif options.name:
    run(options.name, options.seeds or EXPERIMENTS[options.name].seeds)
  elif not options.readme:
    parser.error('expected a name or --readme')
  if options.readme:
    write_readme()


if __name__ == '__main__':
  main()
