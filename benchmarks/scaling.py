"""Environment steps per second of 1, 2 and 4 actors on one machine.

    python -m benchmarks.scaling

The actors are as a run has them, each a process, and write to one Reverb server; the
learner is paused. Time is what a clock on the wall shows: actors that wait for each
other, or for the server, get less done in it. One actor is measured on one core, with
the server beside it there, and on two; the others on two. The policy is cloned
beforehand, as for `benchmarks.actor`. Run it with nothing beside it.
"""

from collections.abc import Collection, Iterator, Sequence
import contextlib
import dataclasses
import functools
import multiprocessing
from multiprocessing import connection
import os
import statistics
import tempfile
import threading
import time

import psutil
import reverb
import tyro

from agents import actors
from agents import builder
from agents import parameters
from benchmarks import acme_replay
from benchmarks import actor as actor_benchmark
from benchmarks import common
from metamimic import config as config_lib
from metamimic import preparation

TURNS = ((1, 1), (1, 2), (2, 2), (4, 2))
"""How many act at a time, and on how many cores."""
_MOST = max(actors for actors, _ in TURNS)
_AT_A_TIME = 160  # Environment steps between two looks at the clock.


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Measures environment steps per second of several actors."""

  demonstrations: str = 'data/lift_brick.hdf5'
  """File of lift demonstrations to follow."""
  learner_steps: int = 5000
  """Of behavioural cloning beforehand."""
  rounds: int = 5
  """Turns of each number of actors."""
  seconds: float = 10.0
  """Of a turn."""
  output: str = f'{common.RESULTS}/benchmark_scaling.csv'
  """File of the results."""


@dataclasses.dataclass(frozen=True)
class Turn:
  """Some actors in one round."""

  round: int
  actors: int
  cores_given: int
  """That they and the server have."""
  steps: int
  """Environment steps of all of them."""
  seconds: float
  """On the wall."""

  @property
  def name(self) -> str:
    """What it is called where it is shown."""
    return f'actors: {self.actors}, cores: {self.cores_given}'

  @property
  def rate(self) -> float:
    """Environment steps per second."""
    return self.steps / self.seconds


def tables(config: config_lib.Config, run_dir: str) -> list[reverb.Table]:
  """Returns a run's tables, of which none makes a writer wait.

  Args:
    config: of the run.
    run_dir: its directory.
  """
  made = builder.Builder(config, run_dir, threading.Event()).replay_tables()
  experience, *published = made
  return [acme_replay.unthrottled(experience), *published]


def _act(
  config: config_lib.Config,
  run_dir: str,
  address: str,
  index: int,
  parent: connection.Connection,
) -> None:
  """Acts for as many seconds as the parent says, again and again."""
  common.limit_threads()
  client = reverb.Client(address)
  actor = builder.Builder(config, run_dir, threading.Event()).actor(client, index)
  _act_for(actor, 1.0)
  parent.send(0)
  # Until the other end is closed, or its process has died.
  with contextlib.suppress(EOFError):
    while True:
      parent.send(_act_for(actor, parent.recv()))


def _act_for(actor: actors.Actor, seconds: float) -> int:
  steps, end = 0, time.monotonic() + seconds
  while time.monotonic() < end:
    actor.run(_AT_A_TIME)
    steps += _AT_A_TIME
  return steps


@contextlib.contextmanager
def _actors(
  config: config_lib.Config, run_dir: str, address: str
) -> Iterator[list[connection.Connection]]:
  context = multiprocessing.get_context('spawn')
  ends, processes = [], []
  for index in range(_MOST):
    ours, theirs = context.Pipe()
    arguments = (config, run_dir, address, index, theirs)
    process = context.Process(target=_act, args=arguments, daemon=True)
    process.start()
    theirs.close()
    ends.append(ours)
    processes.append(process)
  try:
    for end in ends:
      end.recv()
    yield ends
  finally:
    for end, process in zip(ends, processes, strict=True):
      end.close()
      process.join(5)
      process.kill()


def _turns(
  ends: Sequence[connection.Connection], arguments: Arguments
) -> Iterator[Turn]:
  every = os.sched_getaffinity(0)
  for number in range(1, arguments.rounds + 1):
    for count, cores in TURNS:
      given = set(sorted(every)[:cores])
      _keep_to(given)
      begun = time.monotonic()
      for end in ends[:count]:
        end.send(arguments.seconds)
      steps = sum(end.recv() for end in ends[:count])
      seconds = round(time.monotonic() - begun, 3)
      turn = Turn(number, count, len(given), steps, seconds)
      print(f'round {number}: {turn.name} {turn.rate:.0f}', flush=True)
      yield turn
  _keep_to(every)


def _keep_to(cores: Collection[int]) -> None:
  """Lets all threads of the actors and the server run on no other cores."""
  for child in psutil.Process().children():
    for thread in child.threads():
      with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(thread.id, cores)


def main(arguments: Arguments) -> int:
  """Measures, writes and prints; returns the exit status, 1 for a miss.

  Raises:
    RuntimeError: there is but one core.
  """
  if len(os.sched_getaffinity(0)) < 2:
    raise RuntimeError('this process has one core; expected two or more')
  common.limit_threads()
  config = actor_benchmark.laptop(arguments.demonstrations)
  config = dataclasses.replace(
    config, actor=dataclasses.replace(config.actor, num_actors=_MOST)
  )
  with tempfile.TemporaryDirectory() as run_dir:
    preparation.prepare(config, run_dir)
    make_tables = functools.partial(tables, config, run_dir)
    with common.server(make_tables) as server:
      policy = actor_benchmark.clone(config, arguments.learner_steps)
      parameters.publish(
        reverb.Client(server.address),
        config_lib.IMITATION,
        policy.variables,
        arguments.learner_steps,
      )
      with _actors(config, run_dir, server.address) as ends:
        turns = list(_turns(ends, arguments))
  rows = [
    dataclasses.asdict(turn) | {'per_second': f'{turn.rate:.1f}'} for turn in turns
  ]
  common.write(arguments.output, rows)
  for name in dict.fromkeys(turn.name for turn in turns):
    rate = statistics.median(turn.rate for turn in turns if turn.name == name)
    print(f'{name}: {rate:.0f} environment steps per second')
  return common.report([common.scaling(rows)])


if __name__ == '__main__':
  common.leave(main(tyro.cli(Arguments, description=__doc__)))
