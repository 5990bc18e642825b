"""What the benchmarks share: measuring side by side, servers, results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import csv
import dataclasses
from importlib import metadata
import multiprocessing
from multiprocessing import connection
import os
import pathlib
import platform
import statistics
import sys
import time
from typing import Any, NamedTuple, NoReturn

from launch_configs import loopback

RESULTS = 'results'
"""Folder of the results, in the working directory."""
RUNS = pathlib.Path(__file__).resolve().parents[1] / 'runs' / 'results'
"""Folder of the runs that results are of."""

_PACKAGES = ('tensorflow-cpu', 'dm-reverb', 'dm-acme', 'dm-control', 'mujoco', 'numpy')
_CHECKOUT = pathlib.Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What a benchmark is for."""

  name: str
  arm: str
  other: str
  bar: float
  """How many times as fast `arm` must be as `other`."""


COMPARISONS = {
  'actor': (
    Comparison('actor / mj_step', 'ours', 'mj_step', 0.6),
    Comparison("actor / Acme's", 'ours', 'acme', 2.5),
  ),
  'learner': (Comparison("learner / Acme's", 'ours', 'acme', 1.2),),
  'rendering': (Comparison("pictures / dm_control's", 'ours', 'dm_control', 60),),
}
"""By the benchmark's name."""

_STEP = 12_000  # Bytes in replay, at most, of a step with a picture of 84 x 84 pixels.
_TWO_ACTORS = 1.8  # How many times as fast they must be as one, on two cores.

Arm = Callable[[], tuple[float, float]]
"""Does a piece of work; returns how much it was, and the CPU seconds it took."""


@dataclasses.dataclass(frozen=True)
class Measurement:
  """One arm in one round."""

  round: int
  arm: str
  amount: float
  """Of work done, in the benchmark's unit."""
  cpu_seconds: float
  """Of the measured process, all of its threads."""

  @property
  def rate(self) -> float:
    """Work per CPU second."""
    return self.amount / self.cpu_seconds


@dataclasses.dataclass(frozen=True)
class Bar:
  """A ratio, and what it must reach."""

  name: str
  ratio: float
  bar: float
  is_lower_bound: bool = False
  """The ratio is at least this; how much more was not waited for."""


def limit_threads() -> None:
  """Gives TensorFlow one thread, as a node of a run has it, and no accelerator."""
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  tf.config.set_visible_devices([], 'GPU')


def timed(work: Callable[[], float]) -> Arm:
  """Returns an arm of which everything counts.

  Args:
    work: returns how much it did.
  """

  def arm() -> tuple[float, float]:
    begun = time.process_time()
    amount = work()
    return amount, time.process_time() - begun

  return arm


def measure(arms: Mapping[str, Arm], rounds: int) -> list[Measurement]:
  """Runs the arms in turn, round after round, and prints what comes.

  What else runs on the machine then slows all of them alike. The first turn of each is
  not counted: it compiles, and fills caches.

  Args:
    arms: by name.
    rounds: turns of each arm that count.
  """
  measurements = []
  for number in range(rounds + 1):
    for name, arm in arms.items():
      measurement = Measurement(number, name, *arm())
      if number:
        measurements.append(measurement)
        print(f'round {number}: {name} {measurement.rate:.1f}', flush=True)
  return measurements


def medians(measurements: Sequence[Measurement]) -> dict[str, float]:
  """Returns each arm's median rate."""
  rates: dict[str, list[float]] = {}
  for m in measurements:
    rates.setdefault(m.arm, []).append(m.rate)
  return {arm: statistics.median(values) for arm, values in rates.items()}


def ratio(measurements: Sequence[Measurement], arm: str, other: str) -> float:
  """Returns the median, over rounds, of how many times as fast as `other` `arm` is."""
  rates = {(m.round, m.arm): m.rate for m in measurements}
  rounds = {m.round for m in measurements}
  return statistics.median(rates[r, arm] / rates[r, other] for r in rounds)


def compare(measurements: Sequence[Measurement], benchmark: str) -> list[Bar]:
  """Returns the ratios that a benchmark is for."""
  return [
    Bar(c.name, ratio(measurements, c.arm, c.other), c.bar)
    for c in COMPARISONS[benchmark]
  ]


def scaling(rows_: Sequence[Mapping[str, Any]]) -> Bar:
  """Returns how many times as fast two actors on two cores are as one on one.

  It is the median over rounds.

  Args:
    rows_: of `benchmarks.scaling`; numbers may be strings.
  """
  rates = {
    (row['round'], int(row['actors']), int(row['cores_given'])): float(
      row['per_second']
    )
    for row in rows_
  }
  rounds = {row['round'] for row in rows_}
  value = statistics.median(rates[r, 2, 2] / rates[r, 1, 1] for r in rounds)
  return Bar('two actors, two cores / one, one', value, _TWO_ACTORS)


def replay_memory(rows_: Sequence[Mapping[str, Any]]) -> Bar:
  """Returns how many of our steps with pictures fit where there may be one.

  Args:
    rows_: of `benchmarks.replay_memory`; numbers may be strings.
  """
  taken = {row['arm']: float(row['bytes_per_step']) for row in rows_}
  return Bar('12 kB / a step with a picture in replay', _STEP / taken['ours'], 1)


def report(bars: Sequence[Bar]) -> int:
  """Prints the ratios beside their bars; returns the exit status, 1 for a miss."""
  for bar in bars:
    verdict = 'reached' if bar.ratio >= bar.bar else 'MISSED'
    least = 'at least ' if bar.is_lower_bound else ''
    print(f'{bar.name}: {least}{bar.ratio:.2f} (bar {bar.bar:g}: {verdict})')
  return int(any(bar.ratio < bar.bar for bar in bars))


def machine() -> dict[str, str]:
  """Returns what the measurements were made on."""
  info = {
    'date': time.strftime('%Y-%m-%d %H:%M'),
    'cpu': processor(),
    'cores': str(len(os.sched_getaffinity(0))),
    'load': f'{os.getloadavg()[0]:.1f}',
    'python': platform.python_version(),
  }
  return info | {name: metadata.version(name) for name in _PACKAGES}


def processor() -> str:
  """Returns the name of this machine's processor."""
  with contextlib.suppress(OSError), open('/proc/cpuinfo') as f:
    for line in f:
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()


def rows(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
  """Returns a row for each measurement."""
  return [
    dataclasses.asdict(m) | {'per_cpu_second': f'{m.rate:.2f}'} for m in measurements
  ]


def read(path: str) -> list[Measurement]:
  """Returns what was written of `rows`."""
  with open(path, newline='') as f:
    return [
      Measurement(
        int(row['round']), row['arm'], float(row['amount']), float(row['cpu_seconds'])
      )
      for row in csv.DictReader(f)
    ]


def write(path: str, rows_: Sequence[Mapping[str, Any]]) -> None:
  """Writes rows to a CSV file, each with the machine's columns, and says so.

  Args:
    path: the file; its folder is made if need be. It is replaced once all is written.
    rows_: with the same columns.
  """
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  info = machine()
  with open(path + '.tmp', 'w', newline='') as f:
    writer = csv.DictWriter(f, [*rows_[0], *info])
    writer.writeheader()
    writer.writerows({**row, **info} for row in rows_)
  os.replace(path + '.tmp', path)
  print(f'{path}: {len(rows_)} rows')


class Server(NamedTuple):
  """A Reverb server in a process of its own."""

  address: str
  """host:port"""
  pid: int


@contextlib.contextmanager
def server(make_tables: Callable[[], Sequence[Any]]) -> Iterator[Server]:
  """Serves Reverb tables from another process, on loopback.

  Args:
    make_tables: called there, so it must be possible to pickle it.

  Raises:
    RuntimeError: the server did not start; why is on its standard error.
  """
  library = loopback.build_library(_CHECKOUT / 'build')
  context = multiprocessing.get_context('spawn')
  ours, theirs = context.Pipe()
  preloaded = os.environ.get('LD_PRELOAD')
  os.environ['LD_PRELOAD'] = f'{library} {preloaded or ""}'.strip()
  try:
    process = context.Process(target=_serve, args=(make_tables, theirs))
    process.start()
  finally:
    if preloaded is None:
      del os.environ['LD_PRELOAD']
    else:
      os.environ['LD_PRELOAD'] = preloaded
  theirs.close()
  try:
    yield Server(f'{loopback.HOST}:{ours.recv()}', process.pid or 0)
  except EOFError as e:
    raise RuntimeError('the Reverb server ended before it was ready') from e
  finally:
    ours.close()
    process.join(10)
    process.kill()


def _serve(
  make_tables: Callable[[], Sequence[Any]], parent: connection.Connection
) -> None:
  import reverb

  running = reverb.Server(make_tables())
  parent.send(running.port)
  # Until the other end is closed, or its process has died.
  with contextlib.suppress(EOFError):
    parent.recv()
  os._exit(0)


def leave(status: int) -> NoReturn:
  """Ends the process at once.

  Threads of Reverb that wait for a server which is gone would keep it for ever.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)
