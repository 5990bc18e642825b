"""Wall time until a run imitates held-out demonstrations, ours against Acme's settings.

    python -m benchmarks.time_to_imitate --output-dir runs/time_to_imitate

The same program runs twice, one after the other: with a preset as it is, and with the
settings of D4PG in Acme. The clock starts with the launcher and stops at the first
evaluation whose reward on held-out demonstrations, over that of open-loop replay of the
demonstrators' actions, reaches the threshold. The second run is given up after a
multiple of the first one's time; the ratio is then a lower bound.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import pandas as pd
import tyro

from benchmarks import common
from metamimic import statistics

_HELD_OUT = statistics.SPLITS[0]
_POLL = 1.0  # s
_GRACE = 60.0  # s for a launcher to stop its nodes

# Stock Acme: acme.agents.tf.d4pg's D4PGConfig and make_default_networks, and no
# starts but the first state of a demonstration.
STOCK = {
  'd4pg.policy-learning-rate': '1e-4',
  'd4pg.critic-learning-rate': '1e-4',
  'd4pg.discount': '0.99',
  'd4pg.n-step': '5',
  'd4pg.v-min': '-150',
  'd4pg.v-max': '150',
  'd4pg.batch-size': '256',
  'd4pg.target-update-rate': '1',
  'd4pg.target-update-period': '100',
  'd4pg.gradient-clip': '40',
  'd4pg.action-gradient-clip': '1',
  'actor.sigma': '0.3',
  'actor.sigma-factors': '1.0',
  'replay.samples-per-insert': '32',
  'imitation.start-within': '0',
}
"""Our settings that make D4PG as Acme has it, by name."""


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Measures the wall time to imitation."""

  demonstrations: str = 'data/lift_brick.hdf5'
  """File of demonstrations, with actions."""
  output_dir: str = 'runs/time_to_imitate'
  """Folder of the two runs; must not hold any."""
  preset: str = 'laptop'
  """Settings of the first run, and what those of the second are based on."""
  threshold: float = 0.75
  """Reward over that of open-loop replay, on held-out demonstrations."""
  period: float = 15.0
  """Seconds between evaluations, in both runs."""
  patience: float = 3600.0
  """Seconds after which the first run is given up."""
  limit: float = 10.0
  """The second run is given up after this many times the first one's time."""
  learner_steps: int = 100_000_000
  """Of a run; by itself one shall not end before it is stopped."""
  results: str = f'{common.RESULTS}/benchmark_time_to_imitate.csv'
  """File of the results."""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of one run."""

  settings: str
  """ours or stock."""
  reached: bool
  """Whether the threshold was reached."""
  seconds: float
  """Wall time to the threshold, or until the run was given up."""
  best: float
  """Highest reward over open-loop replay's at any evaluation; nan without one."""
  learner_steps: int
  """At the last evaluation."""


def evaluations(run_dir: pathlib.Path) -> pd.DataFrame:
  """Returns the policy's evaluations on held-out demonstrations so far.

  Args:
    run_dir: of a run, under way or not.

  Returns:
    Columns wall_time, learner_steps and ratio: reward over open-loop replay's.
  """
  path = run_dir / 'logs' / 'evaluator.csv'
  columns = ['wall_time', 'learner_steps', 'ratio']
  if not path.exists() or not path.stat().st_size:
    return pd.DataFrame(columns=columns)
  rows = pd.read_csv(path)
  rows = rows[rows['split'] == _HELD_OUT]
  ceiling = rows[rows['arm'] == statistics.CEILING]['reward']
  policy = rows[~rows['arm'].isin(statistics.CONTROLS)]
  if ceiling.empty:
    return pd.DataFrame(columns=columns)
  return policy.assign(ratio=policy['reward'] / ceiling.iloc[0])[columns]


def run(
  name: str, arguments: Arguments, settings: Sequence[str], limit: float
) -> Outcome:
  """Runs the program until it imitates well enough.

  Args:
    name: of the settings, and of the run's directory.
    arguments: of the benchmark.
    settings: arguments of the launcher beside those that both runs have.
    limit: seconds after which it is given up.

  Raises:
    RuntimeError: the run failed.
  """
  run_dir = pathlib.Path(arguments.output_dir) / name
  command = [
    *(sys.executable, '-m', 'launch_configs.local'),
    *('--run-dir', str(run_dir), '--preset', arguments.preset),
    *('--demonstrations', arguments.demonstrations),
    *('--learner-steps', str(arguments.learner_steps)),
    *('--evaluation.period', str(arguments.period), '--evaluation.videos', '0'),
    *settings,
  ]
  started = time.time()
  with open(f'{run_dir}.log', 'w') as log:
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
  try:
    while True:
      seconds = time.time() - started
      ended = process.poll()
      rows = evaluations(run_dir)
      good = rows[rows['ratio'] >= arguments.threshold]
      if ended:
        raise RuntimeError(f'{name}: the launcher failed ({ended}); see {run_dir}.log')
      if not good.empty or ended is not None or seconds > limit:
        break
      time.sleep(_POLL)
  finally:
    _stop(process)
  reached = not good.empty
  return Outcome(
    settings=name,
    reached=reached,
    seconds=float(good['wall_time'].iloc[0]) - started if reached else seconds,
    best=float(rows['ratio'].max()) if len(rows) else math.nan,
    learner_steps=int(rows['learner_steps'].iloc[-1]) if len(rows) else 0,
  )


def _stop(process: subprocess.Popen) -> None:
  with contextlib.suppress(ProcessLookupError):
    process.send_signal(signal.SIGTERM)
  try:
    process.wait(_GRACE)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()


def bar(outcomes: Sequence[Outcome]) -> common.Bar:
  """Returns how many times as long the stock settings took, and what it must be."""
  ours, stock = outcomes
  ratio = stock.seconds / ours.seconds
  return common.Bar('time to imitate, stock / ours', ratio, 10.0, not stock.reached)


def read(path: str) -> list[Outcome]:
  """Returns what `main` wrote."""
  rows = pd.read_csv(path)
  names = [f.name for f in dataclasses.fields(Outcome)]
  return [Outcome(**row) for row in rows[names].to_dict('records')]


def main(arguments: Arguments) -> int:
  """Measures, writes and prints; returns the exit status."""
  os.makedirs(arguments.output_dir, exist_ok=True)
  if os.listdir(arguments.output_dir):
    raise ValueError(f'{arguments.output_dir} is not empty; expected a new folder')
  ours = run('ours', arguments, (), arguments.patience)
  print(ours, flush=True)
  if not ours.reached:
    print(f'ours did not reach {arguments.threshold} in {ours.seconds:.0f} s')
    return 1
  settings = [word for k, v in STOCK.items() for word in (f'--{k}', v)]
  stock = run('stock', arguments, settings, arguments.limit * ours.seconds)
  print(stock)
  outcomes = [ours, stock]
  common.write(arguments.results, [dataclasses.asdict(o) for o in outcomes])
  return common.report([bar(outcomes)])


if __name__ == '__main__':
  # So that a polite kill, too, takes the run along.
  signal.signal(signal.SIGTERM, lambda *unused: sys.exit(128 + signal.SIGTERM))
  try:
    sys.exit(main(tyro.cli(Arguments, description=__doc__)))
  except (ValueError, RuntimeError) as e:
    sys.exit(f'error: {e}')
