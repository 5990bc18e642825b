"""What a run survives: killed nodes, an ended launcher, a damaged set, a full disk.

    python -m benchmarks.faults --rounds 20

A real run, on demonstrations that are recorded if there are none. Of each fault it is
measured whether the run went on by itself or by the same command, how many seconds
after the fault the learner logged its next step (a row comes every two seconds), and
what was lost. Nodes are killed with SIGKILL, one after the other, at random times; so
that no limit of restarts is reached, each round is a launch of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time

import psutil
import tyro

from benchmarks import common
from benchmarks import running
from metamimic import checkpoints

_SMALL_DISK = 64  # MB; a run of the tiny preset needs a third of them.


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Does harm to a run and watches what comes of it."""

  demonstrations: str = 'data/faults.hdf5'
  """File of demonstrations; recorded if it is not there."""
  output_dir: str = 'runs/faults'
  """Folder of the run; must not hold any."""
  preset: str = 'tiny'
  """Settings of the run."""
  rounds: int = 20
  """How often each fault happens; a full disk happens once."""
  seed: int = 0
  """Of the order and the times."""
  longest: float = 10.0
  """Seconds between two faults, at most; at least a fifth."""
  patience: float = 300.0
  """Seconds after which a run that does not go on has not recovered."""
  results: str = f'{common.RESULTS}/faults.csv'
  """File of the results."""


@dataclasses.dataclass(frozen=True)
class Fault:
  """One fault and what came of it."""

  round: int
  fault: str
  """A node that was killed, or what else was done."""
  recovered: bool
  """Whether the learner went on."""
  seconds: float
  """From the fault to the learner's next logged step."""
  learner_steps_lost: int
  """Learner steps that were to be done again."""
  environment_steps_lost: int
  """Transitions that replay had been given and no longer knew of."""


def _run(folder: pathlib.Path, arguments: Arguments) -> running.Run:
  return running.Run(
    folder / 'run', arguments.preset, arguments.demonstrations, arguments.patience
  )


def _outcome(
  run: running.Run,
  number: int,
  fault: str,
  do: Callable[[], checkpoints.CheckpointSet | None],
  back: Callable[[], float],
) -> Fault:
  """Does a fault and watches.

  What was lost is what there was less what is in the set that was gone on from. The
  first row afterwards would tell less: until then some of it has been done again.

  Args:
    run: a run whose learner is learning.
    number: of the round.
    fault: its name.
    do: does it, and returns the set that those who restore themselves then go on from;
      None: nobody does.
    back: returns since when all is there that the learner needs, else 0: no earlier row
      of it counts.
  """
  before = run.rows(0.0)[-1]
  begun = time.time()
  restored = do()
  since = [0.0]

  def is_back() -> bool:
    since[0] = back()
    return bool(since[0])

  recovered = run.wait(is_back) and run.wait(lambda: run.rows(since[0]))
  after = run.rows(since[0])[0] if recovered else before
  ended = float(after['wall_time']) if recovered else time.time()
  learner_steps, environment_steps = lost(before, restored, fault)
  return Fault(
    round=number,
    fault=fault,
    recovered=recovered,
    seconds=round(ended - begun, 2),
    learner_steps_lost=learner_steps,
    environment_steps_lost=environment_steps,
  )


def lost(
  before: Mapping[str, str], restored: checkpoints.CheckpointSet | None, fault: str
) -> tuple[int, int]:
  """Returns the learner steps and the environment steps that a fault has cost.

  Args:
    before: the learner's last row before the fault, of the observed learner.
    restored: the set that was gone on from; None: nobody restored anything.
    fault: a node, which alone restores itself, or something that befell all of them.
  """
  if restored is None:
    return 0, 0
  learner_steps = int(float(before['learner_steps']))
  environment_steps = int(float(before['environment_steps']))
  learner_steps -= restored.learner_steps[running.LEARNER]
  environment_steps -= sum(restored.environment_steps.values())
  if fault.startswith('replay'):
    learner_steps = 0
  if fault.startswith('learner'):
    environment_steps = 0
  # A set may be newer than the last row.
  return max(learner_steps, 0), max(environment_steps, 0)


def kill_nodes(
  run: running.Run, number: int, rng: random.Random, longest: float
) -> Iterator[Fault]:
  """Kills each node once, in a random order, at random times.

  Args:
    run: that is under way.
    number: of the round.
    rng: order and times.
    longest: seconds between two.
  """
  nodes = sorted(run.pids())
  rng.shuffle(nodes)
  for node in nodes:
    _let_learn(run, rng, longest)
    pid = run.pids()[node]
    kill = functools.partial(_kill, run, node, pid)
    back = functools.partial(_back_at_work, run, node, pid)
    yield _outcome(run, number, node, kill, back)


def _let_learn(run: running.Run, rng: random.Random, longest: float) -> None:
  """Waits until the run learns, and then at random: a set may be fresh or old."""
  run.wait(functools.partial(run.rows, time.time()))
  time.sleep(rng.uniform(longest / 5, longest))


def _kill(run: running.Run, node: str, pid: int) -> checkpoints.CheckpointSet | None:
  os.kill(pid, signal.SIGKILL)
  restores = node.startswith(('learner', 'replay'))
  return checkpoints.last(run.dir) if restores else None


def _back_at_work(run: running.Run, node: str, killed: int) -> float:
  """Returns since when a node that was killed is back at its work; 0: it is not."""
  pid = run.pids()[node]
  if pid == killed:
    return 0.0
  started = [e['wall_time'] for e in run.events('start') if e['node'] == node][-1]
  if node.startswith('replay'):
    with contextlib.suppress(psutil.Error):
      connections = psutil.Process(pid).net_connections(kind='tcp')
      if any(c.status == psutil.CONN_LISTEN for c in connections):
        return time.time()
    return 0.0
  if node.startswith('actor'):
    log = run.dir / 'logs' / f'{node}.csv'
    return time.time() if log.stat().st_mtime > started else 0.0
  return started


def _launched(run: running.Run, since: float) -> float:
  """Returns when the run was last launched; 0: before `since`."""
  last = run.events('launch')[-1]['wall_time']
  return last if last > since else 0.0


def end_launcher(run: running.Run, number: int, signum: signal.Signals) -> Fault:
  """Ends the launcher and starts it again.

  Args:
    run: that is under way.
    number: of the round.
    signum: how.
  """

  def do() -> checkpoints.CheckpointSet | None:
    run.signal(signum)
    end = time.monotonic() + 10
    while not run.nothing_left():
      if time.monotonic() > end:
        raise RuntimeError('nodes outlive their launcher')
      time.sleep(running.POLL)
    saved = checkpoints.last(run.dir)
    run.start()
    return saved

  back = functools.partial(_launched, run, time.time())
  return _outcome(run, number, f'launcher {signum.name}', do, back)


def truncate_newest(run: running.Run, number: int) -> Fault:
  """Stops the run, cuts a file of its newest set short, and starts it again."""

  def do() -> checkpoints.CheckpointSet | None:
    run.signal(signal.SIGTERM)
    newest = checkpoints.newest(run.dir)
    if newest is None:
      raise RuntimeError('there is no checkpoint set')
    file = max(
      (newest.path / name for name in newest.files), key=lambda f: f.stat().st_size
    )
    os.truncate(file, file.stat().st_size // 2)
    before = checkpoints.newest(run.dir, say=lambda text: None)
    run.start()
    return before

  back = functools.partial(_launched, run, time.time())
  outcome = _outcome(run, number, 'newest set truncated', do, back)
  told = run.said('; skipped for ')
  return dataclasses.replace(outcome, recovered=outcome.recovered and told)


@contextlib.contextmanager
def _small_disk(folder: pathlib.Path) -> Iterator[bool]:
  """Mounts a small file system, and yields whether that was possible."""
  folder.mkdir(parents=True)
  command = ['mount', '-t', 'tmpfs', '-o', f'size={_SMALL_DISK}m', 'tmpfs', str(folder)]
  if os.geteuid() or shutil.which('mount') is None:
    yield False
    return
  if subprocess.run(command, check=False).returncode:
    yield False
    return
  try:
    yield True
  finally:
    subprocess.run(['umount', '--lazy', str(folder)], check=False)


def fill_disk(arguments: Arguments) -> Iterator[Fault]:
  """Fills the disk under a run of its own, and makes room again."""
  folder = pathlib.Path(arguments.output_dir) / 'small_disk'
  with _small_disk(folder) as mounted:
    if not mounted:
      print('full disk: left out, because a small one cannot be mounted (not root?)')
      return
    run = _run(folder, arguments)
    run.start()
    try:
      if not run.wait(lambda: checkpoints.last(run.dir) and run.rows(0.0)):
        raise RuntimeError(f'{run.dir} does not learn')
      fill = functools.partial(_fill, run, folder / 'filling')
      yield _outcome(run, 1, 'disk full', fill, time.time)
      if not run.said('No space left on device'):
        raise RuntimeError('nobody was told of the full disk')
    finally:
      run.close()


def _fill(run: running.Run, file: pathlib.Path) -> None:
  saved = checkpoints.last(run.dir)
  with contextlib.suppress(OSError), open(file, 'wb', buffering=0) as f:
    while True:
      f.write(bytes(1 << 16))
  run.wait(lambda: run.said('No space left on device'))
  file.unlink()
  run.wait(lambda: checkpoints.last(run.dir) != saved)


def table(faults: Sequence[Fault]) -> str:
  """Returns what came of each kind of fault, as lines."""
  lines = [
    f'{"fault":22} {"recovered":>9} {"median s":>9} {"most s":>7} '
    f'{"most learner steps":>18} {"environment steps":>17} lost'
  ]
  kinds: Mapping[str, list[Fault]] = {f.fault: [] for f in faults}
  for fault in faults:
    kinds[fault.fault].append(fault)
  for kind, found in kinds.items():
    good = sum(f.recovered for f in found)
    seconds = [f.seconds for f in found]
    lines.append(
      f'{kind:22} {f"{good}/{len(found)}":>9} {statistics.median(seconds):>9.1f} '
      f'{max(seconds):>7.1f} {max(f.learner_steps_lost for f in found):>18,} '
      f'{max(f.environment_steps_lost for f in found):>17,}'
    )
  return '\n'.join(lines)


def _faults(arguments: Arguments) -> Iterator[Fault]:
  rng = random.Random(arguments.seed)
  run = _run(pathlib.Path(arguments.output_dir) / 'disk', arguments)
  run.dir.parent.mkdir()
  run.start()
  try:
    for number in range(1, arguments.rounds + 1):
      rows = functools.partial(run.rows, time.time())
      if not run.wait(rows) or not run.wait(lambda: checkpoints.last(run.dir)):
        raise RuntimeError(f'{run.dir} does not learn')
      yield from kill_nodes(run, number, rng, arguments.longest)
      ends: list[Callable[[running.Run, int], Fault]] = [
        functools.partial(end_launcher, signum=signal.SIGTERM),
        functools.partial(end_launcher, signum=signal.SIGKILL),
        truncate_newest,
      ]
      for end in ends:
        _let_learn(run, rng, arguments.longest)
        yield end(run, number)
  finally:
    run.close()
  yield from fill_disk(arguments)


def main(arguments: Arguments) -> int:
  """Measures, writes and prints; returns the exit status, 1 if it did not recover."""
  running.new_folder(arguments.output_dir)
  running.record(arguments.demonstrations)
  found: list[Fault] = []
  try:
    for fault in _faults(arguments):
      print(fault, flush=True)
      found.append(fault)
  finally:
    # An hour of it, whatever ends it.
    if found:
      common.write(arguments.results, [dataclasses.asdict(fault) for fault in found])
  print(table(found))
  return int(not all(fault.recovered for fault in found))


if __name__ == '__main__':
  # So that a polite kill, too, takes the run along.
  signal.signal(signal.SIGTERM, lambda *unused: sys.exit(128 + signal.SIGTERM))
  try:
    sys.exit(main(tyro.cli(Arguments, description=__doc__)))
  except (ValueError, RuntimeError) as e:
    sys.exit(f'error: {e}')
