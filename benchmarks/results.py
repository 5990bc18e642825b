"""Makes the results that the README and docs/ show, from nothing.

  python -m benchmarks.results lift_brick     runs it, all seeds, then writes the files
  python -m benchmarks.results --readme       writes their tables from the files
  python -m benchmarks.results --check        names the source of every number in them

A name (see benchmarks/experiments.py) stands for runs with several seeds, one after the
other, under runs/results/; those that are finished are not run again. results/NAME.csv
gets every final episode, results/NAME.json the configuration, and of each run its
steps, wall time and processor. --check exits with 1 where a page and files differ, and
says where.
"""

import argparse
from collections.abc import Mapping, Sequence
import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

import pandas as pd

from benchmarks import common
from benchmarks import experiments
from benchmarks import readme
from metamimic import config as config_lib
from metamimic import plain
from metamimic import run_description
from metamimic import statistics
from metamimic import unread
from metamimic.demonstrations import storage


def run(name: str, seeds: Sequence[int]) -> None:
  """Runs an experiment and writes its files.

  Args:
    name: in `EXPERIMENTS`.
    seeds: which runs; all that were made before count in the files too.

  Raises:
    subprocess.CalledProcessError: recording or a run failed.
    ValueError: there is a file of another number of demonstrations.
  """
  experiment = experiments.EXPERIMENTS[name]
  data = readme.ROOT / 'data' / f'{experiment.task}.hdf5'
  if not data.exists():
    train, valid = map(str, experiment.recorded)
    arguments = ['--task', experiment.task, '--output', str(data), '--seed', '0']
    _call('metamimic.record', *arguments, '--train', train, '--valid', valid)
  held = storage.counts(str(data))
  if held != experiment.recorded:
    raise ValueError(
      f'{data} holds {held} demonstrations to learn from and held out; this experiment '
      f'wants {experiment.recorded}. Move the file away, and it is recorded anew.'
    )
  for seed in seeds:
    arguments = ['--demonstrations', str(data), '--seed', str(seed)]
    directory = _directory(name, seed)
    if (directory / 'summary.json').exists():
      print(f'{directory} is finished')
      continue
    place = ['--run-dir', str(directory)]
    _call('launch_configs.local', *experiment.all_arguments, *place, *arguments)
  collect(name)


def _directory(name: str, seed: int) -> pathlib.Path:
  return common.RUNS / f'{name}-seed{seed}'


def _call(module: str, *arguments: str) -> None:
  command = [sys.executable, '-m', module, *arguments]
  subprocess.run(command, cwd=readme.ROOT, check=True)


def collect(name: str) -> None:
  """Writes results/NAME.csv and .json from the finished runs of an experiment.

  Seeds in these files whose runs are gone stay, if their configuration was the same.
  """
  evaluations, runs = {}, {}
  config: dict[str, Any] = {}
  for seed in experiments.EXPERIMENTS[name].seeds:
    directory = _directory(name, seed)
    if not (directory / 'summary.json').exists():
      continue
    evaluations[seed] = statistics.last(pd.read_csv(directory / 'evaluation.csv'))
    runs[seed] = {
      **json.loads((directory / 'summary.json').read_text()),
      'wall_seconds': round(run_description.seconds_running(directory), 1),
      'processor': common.processor(),
    }
    found = config_lib.to_dict(config_lib.load(str(directory / 'config.json')))
    del found['seed'], found['demonstrations']
    if config and _settings(found) != _settings(config):
      raise SystemExit(f'{directory}: its configuration is not that of earlier seeds')
    config = found
  if not evaluations:
    raise SystemExit(f'{name}: no finished run under {common.RUNS}')
  for seed, (about_run, rows) in _kept(name, config).items():
    evaluations.setdefault(seed, rows)
    runs.setdefault(seed, about_run)
  about = {
    'command': f'python -m benchmarks.results {name}',
    'runs': dict(sorted(runs.items())),
    'config': config,
    'machine': {'cores': os.cpu_count(), 'python': platform.python_version()},
  }
  readme.RESULTS.mkdir(exist_ok=True)
  rows = pd.concat([evaluations[seed] for seed in sorted(evaluations)])
  rows.to_csv(readme.RESULTS / f'{name}.csv', index=False)
  (readme.RESULTS / f'{name}.json').write_text(json.dumps(about, indent=2) + '\n')
  summary = statistics.summarise(rows)
  print(summary[['arm', 'split', 'seeds', 'n', 'reward', 'success']].to_string())


def _kept(
  name: str, config: dict[str, Any]
) -> dict[int, tuple[dict[str, Any], pd.DataFrame]]:
  """Returns run and episodes of the seeds in an experiment's files, by seed."""
  path = readme.RESULTS / f'{name}.json'
  if not path.exists():
    return {}
  about = json.loads(path.read_text())
  if _settings(about['config']) != _settings(config):
    print(f'{name}: the seeds in {path} had another configuration, and are dropped')
    return {}
  rows = pd.read_csv(readme.RESULTS / f'{name}.csv')
  return {
    int(seed): (run, rows[rows['seed'] == int(seed)])
    for seed, run in about['runs'].items()
  }


def _settings(config: dict[str, Any]) -> dict[str, Any]:
  """Returns what a run depends on, by dotted name; newer settings, too."""
  whole = _complete(config_lib.to_dict(config_lib.Config()), config)
  without = unread.unread(config_lib.from_dict(whole))
  settings = {**plain.flatten(whole), **plain.flatten(config)}
  return {name: value for name, value in settings.items() if name not in without}


def _complete(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
  """Returns all settings that there are, with the values that are given."""
  return {
    name: _complete(value, given.get(name, {}))
    if isinstance(value, Mapping)
    else given.get(name, value)
    for name, value in defaults.items()
  }


def check() -> int:
  """Prints the pages' numbers with their sources; returns 1 if any is wrong."""
  numbers, differences = readme.check()
  print('\n'.join(numbers))
  for difference in differences:
    print(f'WRONG: {difference}')
  return int(bool(differences))


def main() -> int:
  """Does what the command line asks for; returns the exit status."""
  parser = argparse.ArgumentParser('python -m benchmarks.results', description=__doc__)
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  names = sorted(experiments.EXPERIMENTS)
  parser.epilog = 'names:\n' + '\n'.join(f'  {name}' for name in names)
  parser.add_argument(
    'name', nargs='?', choices=names, metavar='NAME', help='see the end of this page'
  )
  parser.add_argument('--seeds', type=int, nargs='+', help='run only these')
  parser.add_argument('--collect', action='store_true', help='run nothing')
  parser.add_argument('--readme', action='store_true', help="write the pages' tables")
  parser.add_argument(
    '--check', action='store_true', help='compare them with the files'
  )
  options = parser.parse_args()
  if options.name and options.collect:
    collect(options.name)
  elif options.name:
    seeds = options.seeds or experiments.EXPERIMENTS[options.name].seeds
    run(options.name, seeds)
  elif not (options.readme or options.check):
    parser.error('expected a name, --readme or --check')
  if options.readme:
    readme.write()
  return check() if options.check else 0


if __name__ == '__main__':
  try:
    sys.exit(main())
  except ValueError as e:
    sys.exit(f'error: {e}')
  except subprocess.CalledProcessError as e:
    # It has said why.
    sys.exit(e.returncode)
