"""How each arm fares where something goes wrong: success over strength.

    python -m benchmarks.robustness lift_brick
    python -m benchmarks.robustness lift_brick_pixels --disturbance displacement

Measures the policies of finished runs that `benchmarks.results` made on a task, and
the arms that do not learn, on held-out demonstrations: policies that see features, or
with `_pixels` those that learned from pictures, and the former's imitation policies
beside them. Every arm meets the same disturbances from the same starts. Writes
results/robustness_<name>.csv, a row an episode, and .svg, and prints the share of
episodes in which the task is solved. An arm that follows has until the demonstration's
end for that, one that is shown nothing until the time limit.
"""

from collections.abc import Iterator
import dataclasses
import os
import pathlib
import sys
import time
from typing import Annotated, Any, Literal

import pandas as pd
import tyro

from benchmarks import common
from benchmarks import experiments
from benchmarks import figures
from envs import disturbances
from metamimic import config as config_lib
from metamimic import evaluate
from metamimic import loading
from metamimic import plotting
from metamimic import preparation
from metamimic import run_description
from metamimic import statistics
from metamimic.demonstrations import storage
from metamimic.demonstrations import types

SWEEPS: dict[str, tuple[float, ...]] = {
  'action_noise': (0.1, 0.2, 0.4, 0.8),
  'action_delay': (1, 2, 4),
  'displacement': (0.005, 0.01, 0.02, 0.03, 0.04, 0.06),
  'turn': (0.2, 0.5, 1.0),
  'push': (0.1, 0.2, 0.4),
  'observation_noise': (0.001, 0.003, 0.01),
  'mass': (0.5, 2.0, 4.0),
  'friction': (0.25, 0.5, 2.0),
}
"""Strengths of each disturbance, by its field; see `disturbances.Disturbance`."""


@dataclasses.dataclass(frozen=True)
class Arguments:
  """How each arm fares where something goes wrong."""

  name: Annotated[str, tyro.conf.Positional]
  """Whose runs to measure: a task, or a task and _pixels."""
  disturbance: Literal[
    'all',
    'action_noise',
    'action_delay',
    'displacement',
    'turn',
    'push',
    'observation_noise',
    'mass',
    'friction',
  ] = 'all'
  """Which to measure; rows of others are kept, and of arms that are not measured."""
  episodes: int = 50
  """Held-out demonstrations."""
  runs: str = str(common.RUNS)
  """Folder of the runs."""
  output_dir: str = common.RESULTS
  """Folder of the CSV and the figure."""


def settings(which: str) -> Iterator[tuple[str, float, disturbances.Disturbance]]:
  """Yields name, strength and disturbance; strength 0 of each is none at all."""
  for name, strengths in SWEEPS.items():
    if which in ('all', name):
      for strength in strengths:
        values: dict[str, Any] = {name: strength}
        yield name, strength, disturbances.Disturbance(**values)
  yield 'none', 0.0, disturbances.NONE


FOLLOWERS = ('', *experiments.VARIANTS, 'bc')
ARMS = (*FOLLOWERS, 'task_reset', 'task_displaced', 'bc_no_goal', 'd4pgfd_reset')
"""Experiments, after the task's name, whose policies are measured, the plain one as
`experiments.BESIDE_VARIANTS` says; an arm that several have is that of the first. D4PG
is not among them, since it never solves a task where nothing goes wrong."""
SEEING = 'pixels'
SEEING_ARMS = (
  *(SEEING, f'{SEEING}_blind', f'{SEEING}_bc'),
  *(f'{SEEING}_relative', f'{SEEING}_relative_blind', *FOLLOWERS),
)
"""Likewise where policies see pictures; what sees features is the ceiling."""


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished run, and whom of it to measure."""

  path: pathlib.Path
  config: config_lib.Config
  arms: dict[str, str]
  """Learner -> name of its policy in the results."""


def name_arm(config: config_lib.Config, learner: str) -> str:
  """Returns the arm's name, which tells what it was trained for."""
  following = learner == config_lib.IMITATION
  disturbance = config.disturbance_of(learner)
  arm = config.arm(learner)
  if config.pictures:
    arm += '_blind' if config.pixels.blind else '_pixels'
  if following and config.imitation.relative:
    return f'{arm}_relative'
  if disturbance == disturbances.NONE or learner == config_lib.CLONING:
    return arm
  return f'{arm}_displaced' if disturbance.displacement else f'{arm}_noisy'


def find_runs(arguments: Arguments) -> list[Run]:
  """Returns the finished runs of `ARMS`.

  Raises:
    ValueError: there are none.
  """
  found: list[Run] = []
  task = arguments.name.removesuffix(f'_{SEEING}')
  for suffix in ARMS if task == arguments.name else SEEING_ARMS:
    name = '_'.join(filter(None, (task, suffix)))
    name = experiments.BESIDE_VARIANTS.get(name, name)
    taken = {arm for run in found for arm in run.arms.values()}
    for path in sorted(pathlib.Path(arguments.runs).glob(f'{name}-seed*/summary.json')):
      config = config_lib.load(str(path.parent / 'config.json'))
      arms = {learner: name_arm(config, learner) for learner in config.learners}
      new = {learner: arm for learner, arm in arms.items() if arm not in taken}
      if new:
        found.append(Run(path.parent, config, new))
  if not found:
    raise ValueError(
      f'{arguments.runs}: no finished run on {arguments.name!r}; expected some of '
      '`python -m benchmarks.results`'
    )
  return found


def measure(
  run: Run,
  demonstrations: types.DemonstrationSet,
  disturbance: disturbances.Disturbance,
  episodes: int,
  controls: bool,
) -> pd.DataFrame:
  """Returns rows of a run's policies, and if asked for of the arms beside them."""
  path = str(run.path)
  measured = evaluate.Measure(
    demonstrations,
    run_description.reward(path),
    run_description.read(path)['terms'],
    run.config.seed,
    {'valid': demonstrations.valid[:episodes]},
    disturbance,
    preparation.seen_layout(run.config, demonstrations.task),
  )
  for learner, arm in run.arms.items():
    if run.config.follows(learner):
      measured.imitator(arm, loading.load(path))
    else:
      measured.solver(arm, loading.load_task(path))
  if controls:
    measured.controls()
  return pd.DataFrame(measured.rows)


def main(arguments: Arguments) -> pd.DataFrame:
  """Measures, writes and prints; returns all rows.

  Raises:
    ValueError: there are no runs of the task, or one's reward has changed since.
  """
  runs = find_runs(arguments)
  for run in runs:  # All of them, before hours go into the first.
    run_description.reward(str(run.path))
  path = runs[0].config.demonstrations
  demonstrations = storage.load(path, with_actions=storage.has_actions(path))
  tables = []
  wanted = list(settings(arguments.disturbance))
  for i, (name, strength, disturbance) in enumerate(wanted):
    begun = time.monotonic()
    for run in runs:
      # The arms that do not learn are the same for every run.
      first = run == runs[0]
      table = measure(run, demonstrations, disturbance, arguments.episodes, first)
      tables.append(table.assign(disturbance=name, strength=strength))
    rows = _write(arguments, pd.concat(tables, ignore_index=True))
    seconds = time.monotonic() - begun
    print(f'{i + 1} of {len(wanted)}: {name} {strength:g}, {seconds:.0f} s', flush=True)
  print(summary(rows).to_string())
  return rows


def _write(arguments: Arguments, rows: pd.DataFrame) -> pd.DataFrame:
  """Writes the rows in the place of earlier ones of these disturbances, arms and seeds.

  Runs of other seeds may be on other machines. What an arm does that does not learn is
  the same for every seed.
  """
  target = pathlib.Path(arguments.output_dir) / f'robustness_{arguments.name}.csv'
  if target.exists():
    before = pd.read_csv(target)
    measured = _which(rows).unique()
    kept = before[~_which(before).isin(measured)]
    rows = pd.concat([kept, rows], ignore_index=True)
  rows.to_csv(f'{target}.tmp', index=False)
  os.replace(f'{target}.tmp', target)
  plotting.save(figures.robustness(rows), target.with_suffix('.svg'))
  return rows


def _which(rows: pd.DataFrame) -> pd.MultiIndex:
  seeds = rows['seed'].where(~rows['arm'].isin(statistics.UNLEARNED), -1)
  return pd.MultiIndex.from_frame(rows[['disturbance', 'arm']].assign(seed=seeds))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
  """Returns the share of episodes in which the task is solved, a column an arm."""
  return (
    rows.assign(solved=rows['solved'].notna())
    .groupby(['disturbance', 'strength', 'arm'])['solved']
    .mean()
    .unstack('arm')
    .round(2)
  )


if __name__ == '__main__':
  try:
    main(tyro.cli(Arguments, description=__doc__))
  except (ValueError, OSError, RuntimeError) as e:
    sys.exit(f'error: {e}')
