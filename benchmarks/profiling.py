"""Where the time of a run goes, and how much it gets done, for each preset.

    python -m benchmarks.profiling

Runs each preset for a while. Of each process: CPU seconds, all threads together, and
of its main thread, which acts or learns, what it was at, looked at from outside many
times a second. That is time on the wall: waiting counts, for the learner's samples or
for a core, too. Work that threads of TensorFlow or Reverb do meanwhile is in the CPU
seconds alone. The run slows down by a few percent.

Looking into another process may want root, or `sysctl kernel.yama.ptrace_scope=0`.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

import pandas as pd
import psutil
import tyro

from benchmarks import common
from benchmarks import running

SETTINGS: Mapping[str, tuple[str, tuple[str, ...]]] = {
  'laptop': ('laptop', ()),
  'laptop, task policy too': (
    'laptop',
    ('--task.learn', '--task.learner-steps', str(running.ENDLESS)),
  ),
  'pixels': ('pixels', ()),
  'pixels, two cameras': ('pixels', ('--pixels.cameras', 'front', 'side')),
}
"""Name -> preset and further arguments of the launcher."""

PARTS: Mapping[str, str] = {
  'agents/adders.py': 'writing',
  'agents/bc/learning.py': 'updates',
  'agents/checkpointing.py': 'checkpoints',
  'agents/evaluator.py': 'evaluating',
  'agents/logs.py': 'logging',
  'agents/off_policy.py': 'updates',
  'agents/parameters.py': 'parameters',
  'agents/replay.py': 'writing',
  'agents/sampling.py': 'waiting for samples',
  'envs/observations.py': 'observing',
  'envs/pictures.py': 'drawing',
  'envs/rendering.py': 'drawing',
  'envs/rewards.py': 'reward',
  'envs/stepping.py': 'physics',
  'metamimic/policy.py': 'policy',
}
"""Source file -> what is done there, whatever it calls."""
_OTHER = 'else'
_FRAME = re.compile(r'\((?P<file>[^()]*):\d+\)$')
_MAIN = '_run_module_as_main'
_RATE = 50  # Looks a second.
_NODES = ('actor', 'learner', 'evaluator', 'replay')


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Measures what a run gets done, and where its time goes."""

  demonstrations: str = 'data/lift_brick.hdf5'
  """File of demonstrations; recorded, but few, if it is not there."""
  output_dir: str = 'runs/profiling'
  """Folder of the runs; must not hold any."""
  settings: tuple[str, ...] = tuple(SETTINGS)
  """Which of `SETTINGS`."""
  seconds: float = 40.0
  """How long to look at each."""
  warm_up: float = 30.0
  """Seconds that each has learned before."""
  patience: float = 600.0
  """Seconds within which each must have begun to learn; drawing takes minutes."""
  output: str = f'{common.RESULTS}/benchmark_profiling.csv'
  """File of the results."""


@dataclasses.dataclass(frozen=True)
class Row:
  """One part of what a process did."""

  setting: str
  """In `SETTINGS`."""
  process: str
  """Its node."""
  part: str
  """In `PARTS`, or `else`."""
  share: float
  """Of the main thread's time on the wall."""
  cpu_seconds: float
  """Of the whole process, all threads."""
  seconds: float
  """On the wall."""
  learner_steps: int
  """Of all learners in that time."""
  environment_steps: int
  """Of all actors in that time."""


def parts(stacks: Sequence[str]) -> dict[str, float]:
  """Returns what a main thread was at, in shares of the looks at it.

  Args:
    stacks: lines of py-spy's raw output, 'outermost;...;innermost count'; those of
      other threads are left out.
  """
  counts: dict[str, int] = {}
  for line in stacks:
    stack, _, count = line.rpartition(' ')
    frames = stack.split(';')
    if not any(frame.startswith(_MAIN) for frame in frames[:2]):
      continue
    part = next(filter(None, map(_part, reversed(frames))), _OTHER)
    counts[part] = counts.get(part, 0) + int(count)
  total = sum(counts.values())
  return {part: count / total for part, count in sorted(counts.items())}


def _part(frame: str) -> str:
  found = _FRAME.search(frame)
  if not found:
    return ''
  file = found['file']
  return next((part for end, part in PARTS.items() if file.endswith(end)), '')


def measure(run: running.Run, setting: str, seconds: float) -> Iterator[Row]:
  """Yields what each process of a run did in a while.

  Args:
    run: that is under way.
    setting: its name.
    seconds: how long to look.

  Raises:
    RuntimeError: a process cannot be looked into.
  """
  pids = {n: p for n, p in run.pids().items() if n.partition('-')[0] in _NODES}
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
    before = {node: _cpu_seconds(node, pid) for node, pid in pids.items()}
    begun, steps = time.monotonic(), _steps(run.dir)
    lookers = {}
    for node, pid in pids.items():
      looker = _look(pid, seconds, pathlib.Path(folder) / node)
      stack.callback(looker.kill)
      lookers[node] = looker
    said = {node: looker.communicate()[0] for node, looker in lookers.items()}
    spent = {n: _cpu_seconds(n, pid) - before[n] for n, pid in pids.items()}
    took, after = time.monotonic() - begun, _steps(run.dir)
    for node, looker in lookers.items():
      if looker.returncode:
        raise RuntimeError(f'{node} cannot be looked into: {said[node].strip()}')
      shares = parts((pathlib.Path(folder) / node).read_text().splitlines())
      for part, share in shares.items():
        yield Row(
          setting,
          node,
          part,
          round(share, 4),
          round(spent[node], 2),
          round(took, 2),
          after[0] - steps[0],
          after[1] - steps[1],
        )


def _look(pid: int, seconds: float, output: pathlib.Path) -> 'subprocess.Popen[str]':
  # Beside this interpreter, whether its environment is activated or not.
  program = pathlib.Path(sys.executable).parent / 'py-spy'
  return subprocess.Popen(
    [
      *(str(program), 'record', '--pid', str(pid), '--idle', '--format', 'raw'),
      *('--rate', str(_RATE), '--duration', str(round(seconds))),
      *('--output', str(output)),
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def _cpu_seconds(node: str, pid: int) -> float:
  try:
    times = psutil.Process(pid).cpu_times()
  except psutil.NoSuchProcess as e:
    raise RuntimeError(f'{node} cannot be looked into: {e}') from e
  return times.user + times.system


def _steps(run_dir: pathlib.Path) -> tuple[int, int]:
  """Returns learner steps and environment steps, as last logged."""
  learned, acted = (
    sum(int(pd.read_csv(log)[f'{what}_steps'].iloc[-1]) for log in logs)
    for what, logs in (
      ('learner', (run_dir / 'logs').glob('learner-*.csv')),
      ('environment', (run_dir / 'logs').glob('actor-*.csv')),
    )
  )
  return learned, acted


def learns(run: running.Run) -> bool:
  """Returns whether all learners of a run have told of steps."""
  logs = [*(run.dir / 'logs').glob('learner-*.csv')]
  # A task's learner begins later than the other one; its log is empty until then.
  told = [log for log in logs if len(log.read_text().splitlines()) > 2]
  if not told:
    return False
  learners = [node for node in run.pids() if node.startswith('learner')]
  return len(told) == len(learners)


def watch(arguments: Arguments) -> Iterator[Row]:
  """Runs each setting and yields what is seen.

  Raises:
    RuntimeError: one does not learn, or cannot be looked into.
    ValueError: the folder is not empty, or there is no such setting.
  """
  unknown = sorted(set(arguments.settings) - set(SETTINGS))
  if unknown:
    raise ValueError(f'settings are {unknown}; expected some of {sorted(SETTINGS)}')
  folder = running.new_folder(arguments.output_dir)
  running.record(arguments.demonstrations)
  for i, setting in enumerate(arguments.settings):
    preset, further = SETTINGS[setting]
    run_dir = folder / str(i) / 'run'
    run_dir.parent.mkdir()
    run = running.Run(
      run_dir, preset, arguments.demonstrations, arguments.patience, further
    )
    run.start()
    try:
      if not run.wait(lambda run=run: learns(run)):  # type: ignore[misc]
        raise RuntimeError(f'{run_dir} does not learn; see {run_dir.parent}.log')
      time.sleep(arguments.warm_up)
      yield from measure(run, setting, arguments.seconds)
    finally:
      run.close()


def rates(rows: pd.DataFrame) -> pd.DataFrame:
  """Returns for each setting what it gets done.

  Args:
    rows: of `Row`.

  Returns:
    Indexed by setting: learner and environment steps a second; the same per CPU second
    of learners and of actors; and each kind of process's share of all CPU seconds.
  """
  found = {}
  for setting, of in rows.groupby('setting', sort=False):
    processes = of.drop_duplicates('process')
    role = processes['process'].str.partition('-')[0]
    cpu = processes.groupby(role.to_numpy())['cpu_seconds'].sum()
    first = processes.iloc[0]
    found[setting] = {
      'learner steps / s': first.learner_steps / first.seconds,
      'environment steps / s': first.environment_steps / first.seconds,
      'learner steps / CPU s': first.learner_steps / cpu['learner'],
      'environment steps / CPU s': first.environment_steps / cpu['actor'],
      **{name: cpu.get(name, 0.0) / cpu.sum() for name in _NODES},
    }
  return pd.DataFrame.from_dict(found, orient='index')


def main(arguments: Arguments) -> pd.DataFrame:
  """Measures, writes and prints; returns the rows.

  Raises:
    RuntimeError: as `watch` does.
    ValueError: likewise.
  """
  found: list[dict[str, Any]] = []
  try:
    found.extend(map(dataclasses.asdict, watch(arguments)))
  finally:
    # Minutes of it, whatever ends them.
    if found:
      common.write(arguments.output, found)
  rows = pd.DataFrame(found)
  print(rates(rows).round(2).to_string())
  table = rows.pivot_table('share', ['setting', 'process'], 'part', fill_value=0.0)
  print(table.round(2).to_string())
  return rows


if __name__ == '__main__':
  try:
    main(tyro.cli(Arguments, description=__doc__))
  except (ValueError, OSError, RuntimeError) as e:
    sys.exit(f'error: {e}')
