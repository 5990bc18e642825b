"""Whether runs whose nodes are killed all along learn as others do.

    python -m benchmarks.fault_curves

Runs the experiment lift_brick (its runs count that are there), and again with further
seeds while a node is killed now and then with SIGKILL: all of them in turn, in a random
order, at random times. Of each run two numbers are compared, on held-out
demonstrations: the reward at its end, and the mean over the learning curve. What is
expected of a run that nothing happened to is the prediction interval of the undisturbed
ones.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import os
import pathlib
import random
import signal
import sys
import time

import numpy as np
import pandas as pd
from scipy import integrate
from scipy import stats
import tyro

from benchmarks import common
from benchmarks import experiments
from benchmarks import results
from benchmarks import running
from launch_configs import restarts
from metamimic import config

_EXPERIMENT = 'lift_brick'
_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Compares learning curves with and without faults."""

  runs: int = 3
  """How many runs are disturbed."""
  shortest: float = 10.0
  """Seconds between two kills, at least. A node that would not be started again, which
  it is five times within ten minutes, is let alone."""
  longest: float = 40.0
  """Seconds between two kills, at most."""
  patience: float = 1800.0
  """Seconds within which a run must have ended."""
  output_dir: str = 'runs/fault_curves'
  """Folder of the disturbed runs; must not hold any."""
  results: str = f'{common.RESULTS}/fault_curves.csv'
  """File of the results."""


def curve(run_dir: pathlib.Path) -> pd.Series:
  """Returns the held-out reward of a run's policy by learner steps."""
  rows = pd.read_csv(run_dir / 'evaluation.csv')
  arm = config.Config().arm(config.IMITATION)
  measured = rows[(rows.arm == arm) & (rows.split == 'valid')]
  return measured.groupby('learner_steps').total.mean()


def summary(rewards: pd.Series) -> tuple[float, float]:
  """Returns the reward at the end of a curve, and the mean over the curve.

  Args:
    rewards: by learner steps, not at equal distances.
  """
  steps = rewards.index.to_numpy(float)
  return float(rewards.iloc[-1]), float(
    integrate.trapezoid(rewards, steps) / np.ptp(steps)
  )


def expected(values: Sequence[float]) -> tuple[float, float]:
  """Returns between what one more value of the same kind is expected to be.

  Args:
    values: two or more, taken to be normally distributed.
  """
  n = len(values)
  half = stats.t.ppf((1 + _CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1)
  half *= np.sqrt(1 + 1 / n)
  return float(np.mean(values) - half), float(np.mean(values) + half)


def disturb(run: running.Run, arguments: Arguments, rng: random.Random) -> int:
  """Lets a run go to its end, kills its nodes meanwhile, and returns how many.

  Raises:
    RuntimeError: the run has failed, or does not end.
  """
  killed: dict[str, list[float]] = collections.defaultdict(list)
  run.start()
  try:
    if not run.wait(lambda: run.rows(0.0)):
      raise RuntimeError(f'{run.dir} does not learn')
    for node in _in_turn(run, rng):
      pause = rng.uniform(arguments.shortest, arguments.longest)
      run.wait((run.dir / 'summary.json').exists, pause)
      if run.ended or _is_learnt(run):
        break
      if not may_die(node, killed[node]):
        continue
      # It may not be back yet from the last time.
      with contextlib.suppress(ProcessLookupError):
        os.kill(run.pids()[node], signal.SIGKILL)
        killed[node].append(time.monotonic())
    end = time.monotonic() + arguments.patience
    while not run.ended and time.monotonic() < end:
      time.sleep(1.0)
    if not run.ended or run.status:
      raise RuntimeError(f'{run.dir} did not come to its end')
  finally:
    run.close()
  kills = sum(map(len, killed.values()))
  if not kills:
    raise RuntimeError(f'{run.dir} was at its end before anything was killed')
  return kills


def may_die(node: str, deaths: Sequence[float]) -> bool:
  """Returns whether a node is started again if it dies once more.

  Args:
    node: its name.
    deaths: so far, by time.monotonic().
  """
  policy = restarts.policy_of(node.rpartition('-')[0])
  recent = [death for death in deaths if time.monotonic() - death < policy.window]
  return len(recent) < policy.restarts


def _in_turn(run: running.Run, rng: random.Random) -> Iterator[str]:
  nodes = sorted(run.pids())
  while True:
    rng.shuffle(nodes)
    yield from nodes


def _is_learnt(run: running.Run) -> bool:
  """Returns whether a learner may have left, so that there is little to kill."""
  settings = config.load(str(run.dir / 'config.json'))
  return int(run.rows(0.0)[-1]['learner_steps']) >= settings.learner_steps


def main(arguments: Arguments) -> int:
  """Runs, writes and prints; returns the exit status, 1 if a run was set back."""
  folder = running.new_folder(arguments.output_dir)
  experiment = experiments.EXPERIMENTS[_EXPERIMENT]
  results.run(_EXPERIMENT, experiment.seeds)
  found: dict[tuple[int, int], pd.Series] = {
    (seed, 0): curve(common.RUNS / f'{_EXPERIMENT}-seed{seed}')
    for seed in experiment.seeds
  }
  for i in range(arguments.runs):
    seed = len(experiment.seeds) + i
    run = running.Run(
      folder / f'seed{seed}',
      experiment.preset,
      f'data/{experiment.task}.hdf5',
      arguments.patience,
      (*experiment.arguments, '--seed', str(seed)),
      learner_steps=None,
    )
    try:
      kills = disturb(run, arguments, random.Random(seed))
      found[seed, kills] = curve(run.dir)
    finally:
      # What there is, whatever ends it.
      _write(arguments.results, found)
  return compare(found)


def _write(path: str, found: Mapping[tuple[int, int], pd.Series]) -> None:
  rows = [
    {'seed': seed, 'kills': kills, 'learner_steps': steps, 'reward': reward}
    for (seed, kills), rewards in found.items()
    for steps, reward in rewards.items()
  ]
  common.write(path, rows)


def compare(found: dict[tuple[int, int], pd.Series]) -> int:
  """Prints what came of it; returns 1 if a run is worse than expected."""
  numbers = {key: summary(rewards) for key, rewards in found.items()}
  status = 0
  for index, what in enumerate(('reward at the end', 'mean over the curve')):
    undisturbed = [v[index] for (_, kills), v in numbers.items() if not kills]
    low, high = expected(undisturbed)
    print(f'{what}: expected {low:.3f} to {high:.3f}, of {len(undisturbed)} runs')
    for (seed, kills), values in numbers.items():
      if kills:
        status |= values[index] < low
        print(f'  seed {seed}, {kills} kills: {values[index]:.3f}')
  return status


if __name__ == '__main__':
  # So that a polite kill, too, takes the run along.
  signal.signal(signal.SIGTERM, lambda *unused: sys.exit(128 + signal.SIGTERM))
  try:
    sys.exit(main(tyro.cli(Arguments, description=__doc__)))
  except (ValueError, RuntimeError) as e:
    sys.exit(f'error: {e}')
