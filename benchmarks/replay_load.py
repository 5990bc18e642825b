"""How many actors one replay server bears.

    python -m benchmarks.replay_load

Loads a server of the laptop preset's lift run with the traffic of many actors, but not
their physics: each writes transitions in bursts as a real one does, at the rate that
`benchmarks.scaling` measured, and fetches the policy's parameters as often. A learner
samples its batches meanwhile at its own rate. Where less is written than asked for, or
parameters come late, the server is saturated, or what loads it is: the CPU time of
both is measured, so that what the server costs can be told for a larger machine. Run it
with nothing beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
import contextlib
import csv
import dataclasses
import functools
import heapq
import multiprocessing
from multiprocessing import connection
import statistics
import sys
import tempfile
import threading
import time
from typing import Any, TypeVar

import numpy as np
import psutil
import reverb
import tyro

from agents import adders
from agents import parameters
from agents import replay
from agents import sampling
from benchmarks import actor as actor_benchmark
from benchmarks import common
from benchmarks import scaling
from envs import tasks
from metamimic import config as config_lib
from metamimic import policy as policy_lib
from metamimic import preparation
from metamimic.demonstrations import storage

_BURST = 32  # Transitions that an actor writes at a time; see `agents.adders`.
_THREADS = 8  # Of a process that write, and as many that fetch.

_T = TypeVar('_T')


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Loads one replay server with the traffic of many actors."""

  demonstrations: str = 'data/lift_brick.hdf5'
  """File of lift demonstrations, for the sizes of what is written and fetched."""
  actors: tuple[int, ...] = (16, 64, 256)
  """How many, one number after the other; each a multiple of `processes`."""
  rate: float = 0.0
  """Environment steps per second of an actor; 0: what `benchmarks.scaling` measured of
  one."""
  updates: float = 200.0
  """Learner steps per second, a batch each."""
  processes: int = 2
  """That write and fetch, each for as many actors as the others."""
  seconds: float = 20.0
  """For each number of actors."""
  output: str = f'{common.RESULTS}/benchmark_replay_load.csv'
  """File of the results."""


@dataclasses.dataclass(frozen=True)
class Load:
  """What came of the traffic of some actors; rates are per second."""

  actors: int
  rows_asked: float
  """Transitions that they are to write."""
  rows_written: float
  fetches_asked: float
  fetches_done: float
  fetch_median_ms: float
  """For which an actor waited for parameters."""
  fetch_p95_ms: float
  rows_sampled: float
  """By the learner."""
  server_cpu: float
  """CPU seconds of the server per second."""
  traffic_cpu: float
  """CPU seconds of all who load it."""


class _Actors:
  """The traffic of some actors, from several threads: most of the time one waits."""

  def __init__(self, config: config_lib.Config, address: str, count: int):
    codec, policy = _make(config)
    rows = np.random.default_rng(0).normal(size=(256, codec.size)).astype(np.float32)
    self._rows = list(rows)
    tables = replay.written_by(config, config_lib.IMITATION)
    name, last = config_lib.IMITATION, config.learner_steps
    self._period = config.actor.update_period
    self._writers, self._readers = [], []
    for _ in range(count):
      client = reverb.Client(address)
      self._writers.append(adders.Writer(client, codec, tables, lambda: False))
      self._readers.append(parameters.Reader(client, name, policy.variables, last))

  def run(self, rate: float, seconds: float) -> tuple[int, list[float]]:
    """Writes and fetches.

    Args:
      rate: transitions per second and actor.
      seconds: for how long.

    Returns:
      Transitions written, and for how many seconds each fetch took.
    """
    end = time.monotonic() + seconds
    number = min(_THREADS, len(self._writers))
    shares = [slice(i, None, number) for i in range(number)]
    with futures.ThreadPoolExecutor(2 * number) as threads:
      writing = [
        threads.submit(self._write, self._writers[share], _BURST / rate, end)
        for share in shares
      ]
      fetching = [
        threads.submit(self._fetch, self._readers[share], end) for share in shares
      ]
      fetches = [took for future in fetching for took in future.result()]
      return sum(future.result() for future in writing), fetches

  def _write(self, writers: Sequence[adders.Writer], period: float, end: float) -> int:
    written = 0
    for writer in _due(writers, period, end):
      for row in range(_BURST):
        writer.append(self._rows[(written + row) % len(self._rows)])
      written += _BURST
    return written

  def _fetch(self, readers: Sequence[parameters.Reader], end: float) -> list[float]:
    took = []
    for reader in _due(readers, self._period, end):
      begun = time.monotonic()
      reader.update()
      took.append(time.monotonic() - begun)
    return took


def _due(items: Sequence[_T], period: float, end: float) -> Iterator[_T]:
  """Yields each item once a period, as far as there is time, from now to the end."""
  begun = time.monotonic()
  # Spread over the first period, so that they do not all come at once.
  due = [(begun + period * i / len(items), i) for i in range(len(items))]
  while due[0][0] < end:
    when, i = heapq.heappop(due)
    now = time.monotonic()
    if now >= end:
      break
    if when > now:
      time.sleep(when - now)
    yield items[i]
    # Who is late does not catch up: a real actor waits, too.
    heapq.heappush(due, (max(when, now - period) + period, i))


def _make(config: config_lib.Config) -> tuple[replay.Codec, policy_lib.Policy]:
  """Returns what is written, and whose parameters are fetched."""
  demonstrations = storage.load(config.demonstrations, vetted=True)
  layout = tasks.get(demonstrations.task).layout
  policy = policy_lib.create(config_lib.IMITATION, layout, config, demonstrations)
  return replay.codec(layout, config), policy


def _load(
  config: config_lib.Config,
  address: str,
  count: int,
  rate: float,
  parent: connection.Connection,
) -> None:
  """Is so many actors for as long as the parent says."""
  common.limit_threads()
  actors = _Actors(config, address, count)
  actors.run(rate, 1.0)
  parent.send(None)
  seconds = parent.recv()
  begun = time.process_time()
  written, fetches = actors.run(rate, seconds)
  parent.send((written, fetches, time.process_time() - begun))
  # Until the other end is closed: who leaves sooner would stop what others measure.
  with contextlib.suppress(EOFError):
    parent.recv()


def _learn(
  config: config_lib.Config,
  address: str,
  updates: float,
  parent: connection.Connection,
) -> None:
  """Samples for as long as the parent says."""
  common.limit_threads()
  settings = config.d4pg
  sources = replay.sources(config, config_lib.IMITATION)
  sampler = sampling.Sampler(reverb.Client(address), sources, settings.steps_per_call)
  _sample(sampler, updates / settings.steps_per_call, 1.0)
  parent.send(None)
  seconds = parent.recv()
  begun = time.process_time()
  rows = _sample(sampler, updates / settings.steps_per_call, seconds)
  parent.send((rows, [], time.process_time() - begun))
  with contextlib.suppress(EOFError):
    parent.recv()


def _sample(sampler: sampling.Sampler, calls: float, seconds: float) -> int:
  """Takes what `calls` calls per second take, for some seconds; returns rows."""
  begun, rows, number = time.monotonic(), 0, 0
  while (now := time.monotonic()) < begun + seconds:
    if now < begun + number / calls:
      time.sleep(begun + number / calls - now)
    with contextlib.suppress(sampling.Starved):
      rows += len(next(sampler))
    number += 1
  return rows


def _measure(
  config: config_lib.Config, server: common.Server, count: int, arguments: Arguments
) -> Load:
  context = multiprocessing.get_context('spawn')
  ends, processes = [], []

  def start(target: Any, *values: Any) -> None:
    ours, theirs = context.Pipe()
    values = (config, server.address, *values, theirs)
    process = context.Process(target=target, args=values, daemon=True)
    process.start()
    theirs.close()
    ends.append(ours)
    processes.append(process)

  each = count // arguments.processes
  try:
    for _ in range(arguments.processes):
      start(_load, each, arguments.rate)
    start(_learn, arguments.updates)
    for end in ends:
      end.recv()
    before, begun = psutil.Process(server.pid).cpu_times(), time.monotonic()
    for end in ends:
      end.send(arguments.seconds)
    *loads, (sampled, _, learner_cpu) = [end.recv() for end in ends]
    seconds = time.monotonic() - begun
    after = psutil.Process(server.pid).cpu_times()
  finally:
    for end, process in zip(ends, processes, strict=True):
      end.close()
      process.join(5)
      process.kill()
  fetches = [1000 * fetch for _, found, _ in loads for fetch in found]
  actors = each * arguments.processes
  cpu = after.user + after.system - before.user - before.system
  return Load(
    actors=actors,
    rows_asked=round(actors * arguments.rate, 1),
    rows_written=round(sum(written for written, _, _ in loads) / seconds, 1),
    fetches_asked=round(actors / config.actor.update_period, 1),
    fetches_done=round(len(fetches) / seconds, 1),
    fetch_median_ms=round(statistics.median(fetches), 2),
    fetch_p95_ms=round(float(np.percentile(fetches, 95)), 2),
    rows_sampled=round(sampled / seconds, 1),
    server_cpu=round(cpu / seconds, 3),
    traffic_cpu=round((sum(c for _, _, c in loads) + learner_cpu) / seconds, 3),
  )


def measured_rate(path: str) -> float:
  """Returns the environment steps per second of one actor, from a file of `scaling`.

  It has a core to itself: the server has another one.

  Raises:
    FileNotFoundError: there is none.
  """
  with open(path, newline='') as f:
    rates = [
      float(row['per_second'])
      for row in csv.DictReader(f)
      if (row['actors'], row['cores_given']) == ('1', '2')
    ]
  return statistics.median(rates)


def lines(loads: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  """Yields what came of each number of actors, for people.

  Args:
    loads: fields of `Load`.
  """
  for load in loads:
    share = load['rows_written'] / load['rows_asked']
    yield (
      f'{load["actors"]} actors: {share:.0%} of {load["rows_asked"]:,.0f} transitions '
      f'a second written, parameters in {load["fetch_median_ms"]:.1f} ms '
      f'(95 %: {load["fetch_p95_ms"]:.1f}), {load["rows_sampled"]:,.0f} sampled a '
      f'second; CPU: server {load["server_cpu"]:.2f}, traffic {load["traffic_cpu"]:.2f}'
    )


def _check(arguments: Arguments) -> None:
  if arguments.processes < 1:
    raise ValueError(f'processes is {arguments.processes}; expected 1 or more')
  for count in arguments.actors:
    if count < 1 or count % arguments.processes:
      raise ValueError(
        f'actors is {count}; expected a multiple of processes ({arguments.processes}), '
        'each of which is as many as the others'
      )


def main(arguments: Arguments) -> None:
  """Measures, writes and prints.

  Raises:
    ValueError: so many actors cannot be shared out, or the demonstrations cannot be
      used.
    OSError: a file is missing.
  """
  _check(arguments)
  common.limit_threads()
  config = actor_benchmark.laptop(arguments.demonstrations)
  if not arguments.rate:
    rate = measured_rate(f'{common.RESULTS}/benchmark_scaling.csv')
    arguments = dataclasses.replace(arguments, rate=rate)
  found = []
  with tempfile.TemporaryDirectory() as run_dir:
    preparation.prepare(config, run_dir)
    codec, policy = _make(config)
    make_tables = functools.partial(scaling.tables, config, run_dir)
    with common.server(make_tables) as server:
      client = reverb.Client(server.address)
      parameters.publish(client, config_lib.IMITATION, policy.variables, 0)
      filling = adders.Writer(
        client,
        codec,
        replay.written_by(config, config_lib.IMITATION),
        threading.Event().is_set,
      )
      for _ in range(config.replay.min_size):
        filling.append(np.zeros(codec.size, np.float32))
      filling.flush()
      for count in arguments.actors:
        load = dataclasses.asdict(_measure(config, server, count, arguments))
        found.append(load)
        print(*lines([load]), flush=True)
  common.write(arguments.output, found)


if __name__ == '__main__':
  try:
    main(tyro.cli(Arguments, description=__doc__))
  except (OSError, ValueError) as e:
    print(f'error: {e}', file=sys.stderr)
    common.leave(1)
  common.leave(0)
