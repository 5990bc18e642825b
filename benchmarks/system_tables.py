"""Tables on the system: how fast it is, and what it survives."""

import pathlib

import pandas as pd

from benchmarks import common
from benchmarks import fault_curves
from benchmarks import profiling
from benchmarks import soak
from benchmarks import tables
from benchmarks import time_to_imitate

_LITTLE = 0.01  # Of a process's time, which is not shown.


def speed(folder: pathlib.Path) -> list[tables.Table]:
  """Returns the table of the benchmarks that have been run.

  Args:
    folder: of the files.
  """
  rows = []
  for name in (*common.COMPARISONS, 'time_to_imitate', 'scaling', 'replay_memory'):
    path = folder / f'benchmark_{name}.csv'
    if not path.exists():
      continue
    if name in common.COMPARISONS:
      bars = common.compare(common.read(str(path)), name)
      how = 'median over rounds of the ratio of per_cpu_second'
    elif name == 'scaling':
      bars = [common.scaling(pd.read_csv(path).to_dict('records'))]
      how = 'median over rounds of the ratio of per_second'
    elif name == 'replay_memory':
      bars = [common.replay_memory(pd.read_csv(path).to_dict('records'))]
      how = '12,000 over bytes_per_step of ours'
    else:
      bars = [time_to_imitate.bar(time_to_imitate.read(str(path)))]
      how = 'ratio of seconds'
    for bar in bars:
      least = '≥ ' if bar.is_lower_bound else ''
      rows.append(
        {
          'what': tables.Cell(bar.name),
          'ratio': tables.Cell(
            f'{least}{bar.ratio:.2f}', f'results/{path.name}: {how}'
          ),
          'bar': tables.Cell(f'{bar.bar:g}', f'benchmarks/, the bar of {name}'),
          'command': tables.Cell(f'`python -m benchmarks.{name}`'),
        }
      )
  return tables.table(rows)


def profile(folder: pathlib.Path) -> list[tables.Table]:
  """Returns the tables of what presets get done, and of what actors and learners do.

  Args:
    folder: of the files.
  """
  path = folder / 'benchmark_profiling.csv'
  if not path.exists():
    return []
  rows = pd.read_csv(path)
  done, doing = [], []
  for setting, rates in profiling.rates(rows).iterrows():
    where = f'results/{path.name}, setting={setting}'
    cells = {'preset': tables.Cell(str(setting))}
    for name, rate in rates.items():
      # Rates, and each kind of process's share of CPU time.
      text = f'{rate:,.0f}' if str(name).endswith('s') else f'{rate:.2f}'
      cells[str(name)] = tables.Cell(text, f'{where}: {name}, by profiling.rates')
    done.append(cells)
  acting = rows[~rows.process.str.match('evaluator|replay')]
  for (setting, process), parts in acting.groupby(['setting', 'process'], sort=False):
    where = f'results/{path.name}, setting={setting} process={process}'
    said = parts.sort_values('share', ascending=False)
    told = ', '.join(
      f'{part} {share:.2f}'
      for part, share in zip(said.part, said.share, strict=True)
      if share >= _LITTLE
    )
    doing.append(
      {
        'preset': tables.Cell(str(setting)),
        'process': tables.Cell(str(process)),
        'its time': tables.Cell(told, f'{where}: share of each part'),
      }
    )
  return [*tables.table(done), *tables.table(doing)]


def faults(folder: pathlib.Path) -> list[tables.Table]:
  """Returns the table of what came of each kind of fault, if that was measured.

  Args:
    folder: of the files.
  """
  path = folder / 'faults.csv'
  if not path.exists():
    return []
  rows = []
  for fault, found in pd.read_csv(path).groupby('fault', sort=True):
    where = f'results/{path.name}, fault={fault}'
    row = {'fault': tables.Cell(str(fault))}
    row['recovered'] = tables.Cell(
      f'{found.recovered.sum()} of {len(found)}', f'{where}: rows with recovered'
    )
    for column, name in (
      ('seconds, median', 'seconds'),
      ('learner steps lost', 'learner_steps_lost'),
      ('environment steps lost', 'environment_steps_lost'),
    ):
      form = '.1f' if name == 'seconds' else ',.0f'
      row[column] = tables.Cell(
        f'{found[name].median():{form}}', f'{where}: median of {name}'
      )
      row[column.replace(', median', '') + ', most'] = tables.Cell(
        f'{found[name].max():{form}}', f'{where}: maximum of {name}'
      )
    rows.append(row)
  return tables.table(rows)


def curves(folder: pathlib.Path) -> list[tables.Table]:
  """Returns the table of runs whose nodes were killed all along, beside others.

  Args:
    folder: of the files.
  """
  path = folder / 'fault_curves.csv'
  if not path.exists():
    return []
  runs = {
    key: fault_curves.summary(run.set_index('learner_steps').reward)
    for key, run in pd.read_csv(path).groupby(['seed', 'kills'])
  }
  undisturbed = [values for (_, kills), values in runs.items() if not kills]
  columns = ('reward at the end', 'mean over the curve')
  expected = [
    fault_curves.expected(values) for values in zip(*undisturbed, strict=True)
  ]
  where = f'results/{path.name}'
  rows = [
    {
      'runs': tables.Cell(f'expected, of {len(undisturbed)} undisturbed ones'),
      'kills': tables.Cell('0', f'{where}: kills'),
      **{
        column: tables.Cell(
          f'{low:.3f}–{high:.3f}', f'{where}, kills=0: prediction interval'
        )
        for column, (low, high) in zip(columns, expected, strict=True)
      },
    }
  ]
  for (seed, kills), values in runs.items():
    if kills:
      rows.append(
        {
          'runs': tables.Cell(f'seed {seed}'),
          'kills': tables.Cell(str(kills), f'{where}, seed={seed}: kills'),
          **{
            column: tables.Cell(f'{value:.3f}', f'{where}, seed={seed}: {column}')
            for column, value in zip(columns, values, strict=True)
          },
        }
      )
  return tables.table(rows)


def memory(folder: pathlib.Path) -> list[tables.Table]:
  """Returns the table of what processes take of the machine, if that was measured.

  Args:
    folder: of the files.
  """
  path = folder / 'soak.csv'
  if not path.exists():
    return []
  looks = pd.read_csv(path)
  hours = looks.seconds.max() / 3600
  rows = []
  for process, row in soak.growth(looks).iterrows():
    where = f'results/{path.name}, process={process}, second half'
    rows.append(
      {
        'process': tables.Cell(str(process)),
        'MB': tables.Cell(f'{row.memory:.0f}', f'{where}: median of memory'),
        '% an hour': tables.Cell(
          f'{row.memory_growth:+.1f}', f'{where}: slope of memory over its median'
        ),
        'files': tables.Cell(f'{row.files:+.0f}', f'{where}: change of files'),
        'threads': tables.Cell(f'{row.threads:+.0f}', f'{where}: change of threads'),
        'hours': tables.Cell(f'{hours:.2f}', f'results/{path.name}: last of seconds'),
      }
    )
  return tables.table(rows)
