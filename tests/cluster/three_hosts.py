"""A run on three hosts that loses one after the other; `make test-cluster` runs it.

An actor joins and leaves; then the run goes through the loss of an actor's host, the
loss of the head's, a cancellation, and an end. The tests look at what it left. Not one
of the usual tests: it needs root and a Slurm (see conftest.py), and takes a quarter of
an hour, minutes of which Slurm holds back what it has queued again.
"""

from collections.abc import Callable, Iterator
import csv
import dataclasses
import json
import pathlib
import re
import sys
import time
from typing import Any

import pytest

from benchmarks import running
from metamimic import checkpoints

pytestmark = pytest.mark.timeout(7200)

ROOT = pathlib.Path(__file__).absolute().parents[2]
PATIENCE = 1800.0  # s; only for how long a failing test hangs
ENDLESS = 1_000_000
MORE = 300
"""Learner steps of the run's last part."""
# The head fits in beside an actor, and two actors do not.
SETTINGS = [
  *('--preset', 'tiny', '--actor.num-actors', '2', '--cluster-network', '10.77.0.0/24'),
  *('--head-job.cpus', '3', '--head-job.memory', '3G', '--actor-job.cpus', '5'),
  *('--actor-job.sbatch', 'exclude=h1'),
  *('--evaluation.episodes', '1', '--evaluation.final-episodes', '1'),
  *('--evaluation.videos', '0'),
]


@dataclasses.dataclass
class Loss:
  """What came of the loss of a host."""

  host: str
  time: float
  saved: int
  """Learner steps of the last set before it."""
  noticed: float = 0.0
  """Seconds until Slurm had noticed."""
  recovered: float = 0.0
  """Seconds until those that were lost worked again."""
  learnt_meanwhile: int = 0
  """Learner steps while Slurm had not put anything back."""
  followed: float = 0.0
  """Seconds until an actor of another host had written again."""


@dataclasses.dataclass
class Run:
  """What all the tests look at."""

  cluster: Any
  dir: pathlib.Path
  listening: dict[str, list[str]] = dataclasses.field(default_factory=dict)
  """Addresses of all that listens, by host, while all went well."""
  joined: dict[str, str] = dataclasses.field(default_factory=dict)
  """What Slurm said of a further actor that was asked to leave."""
  losses: dict[str, Loss] = dataclasses.field(default_factory=dict)
  """By what was lost: actor or head."""
  jobs: dict[str, str] = dataclasses.field(default_factory=dict)
  """Of the first part of the run."""
  heads: list[str] = dataclasses.field(default_factory=list)
  """Hosts of the head, in the order in which it was there."""
  starts: dict[int, int] = dataclasses.field(default_factory=dict)
  """How often each actor had been started, before the cancellation."""
  cancelled: list[str] = dataclasses.field(default_factory=list)
  """Last line of each actor's job after the cancellation."""
  last: int = 0
  """Learner steps after which the last part was done."""
  states: dict[str, str] = dataclasses.field(default_factory=dict)
  """How each job of the last part ended."""

  def submit(self, demonstrations: str, steps: int) -> dict[str, str]:
    """Submits the run; returns the numbers of its jobs."""
    output = self.cluster.run(
      *(sys.executable, '-m', 'launch_configs.slurm', '--run-dir', str(self.dir)),
      *('--demonstrations', demonstrations, '--learner-steps', str(steps), *SETTINGS),
    )
    found = re.findall(r'^job (\d+): (\w+)', output, re.MULTILINE)
    assert [name for _, name in found] == ['head', 'actors'], output
    return {name: job for job, name in found}

  def rows(self, name: str) -> list[dict[str, str]]:
    """Returns the rows of a log, by role and index."""
    path = self.dir / 'logs' / f'{name}.csv'
    if not path.exists():
      return []
    with open(path, newline='') as f:
      return list(csv.DictReader(f))

  def steps(self) -> int:
    """Returns how far the learner is."""
    rows = self.rows('learner-imitation')
    return int(rows[-1]['learner_steps']) if rows else 0

  def since(self, name: str, moment: float) -> int:
    """Returns how many rows a log was given since then."""
    return sum(float(row['wall_time']) > moment for row in self.rows(name))

  def job(self, job: str) -> dict[str, str]:
    """Returns what Slurm says of a job."""
    words = self.cluster.run('scontrol', 'show', 'job', '--oneliner', job).split()
    return dict(word.split('=', 1) for word in words if '=' in word)

  def saved(self) -> int:
    """Returns the learner steps of the last set."""
    found = checkpoints.last(self.dir)
    return found.learner_steps['imitation'] if found else 0

  def log(self, name: str) -> str:
    """Returns a log of a job or of a node."""
    path = self.dir / name
    return path.read_text() if path.exists() else ''

  def wait(self, condition: Callable[[], bool], what: str) -> float:
    """Waits, and returns for how many seconds."""
    begun = time.monotonic()
    while not condition():
      if time.monotonic() - begun > PATIENCE:
        pytest.fail(
          f'waited in vain until {what}:\n{self.log("slurm/head.log")[-3000:]}'
          f'\n{self.cluster.run("squeue", "-r")}'
        )
      time.sleep(0.5)
    print(f'after {time.monotonic() - begun:.0f} s {what}', flush=True)
    return time.monotonic() - begun


def _join_and_leave(run: Run) -> dict[str, str]:
  """Adds an actor, and asks it to leave as Slurm does at the end of a job's time."""
  script = str(run.dir / 'slurm' / 'actors.sbatch')
  more = ['--array=2', '--cpus-per-task=1']
  job = run.cluster.run('sbatch', '--parsable', *more, script).strip() + '_2'
  run.wait(lambda: run.since('actor-2', 0) > 1, 'a further actor acts')
  run.cluster.run('scancel', '--batch', '--signal=TERM', job)
  run.wait(lambda: run.job(job)['JobState'] == 'PENDING', 'it is queued again')
  found = run.job(job)
  run.cluster.run('scancel', job)
  return found


def _lose_actor(run: Run) -> Loss:
  job = f'{run.jobs["actors"]}_1'
  loss = Loss(run.job(job)['NodeList'], time.time(), run.saved())
  before = run.steps()
  run.cluster.lose(loss.host)
  loss.noticed = run.wait(
    lambda: run.job(job)['JobState'] != 'RUNNING', f'the loss of {loss.host} is noticed'
  )
  run.wait(lambda: run.steps() > before + 50, 'the learner went on')
  loss.learnt_meanwhile = run.steps() - before
  run.cluster.start(loss.host)
  run.wait(lambda: run.since('actor-1', loss.time + 1) > 1, 'the actor acts again')
  loss.recovered = time.time() - loss.time
  return loss


def _lose_head(run: Run) -> Loss:
  job = run.jobs['head']
  loss = Loss(run.job(job)['NodeList'], time.time(), run.saved())
  run.cluster.lose(loss.host)
  loss.noticed = run.wait(
    lambda: run.job(job)['JobState'] != 'RUNNING', f'the loss of {loss.host} is noticed'
  )
  run.wait(lambda: run.job(job)['JobState'] == 'RUNNING', 'the head runs again')
  again = time.time()
  run.wait(lambda: run.since('learner-imitation', again) > 1, 'the learner learns')
  loss.recovered = time.time() - loss.time
  run.wait(
    lambda: all(run.since(f'actor-{i}', again) > 1 for i in range(2)), 'all actors act'
  )
  loss.followed = time.time() - loss.time
  # To see whether anybody is started over and over.
  time.sleep(20)
  return loss


@pytest.fixture(name='demonstrations', scope='module')
def demonstrations_fixture(tmp_path_factory: pytest.TempPathFactory) -> str:
  path = str(tmp_path_factory.mktemp('demonstrations') / 'lift.hdf5')
  running.record(path)
  return path


@pytest.fixture(name='run', scope='module')
def run_fixture(
  cluster: Any, demonstrations: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
  run = Run(cluster, tmp_path_factory.mktemp('cluster') / 'run')
  run.jobs = run.submit(demonstrations, ENDLESS)
  run.wait(
    lambda: (
      all(run.since(f'actor-{i}', 0) for i in range(2))
      and run.since('learner-imitation', 0) > 2
      and run.saved() > 0
    ),
    'all work',
  )
  run.listening = {host: cluster.listening(host) for host in cluster.computing}
  run.joined = _join_and_leave(run)
  run.losses['actor'] = _lose_actor(run)
  run.losses['head'] = _lose_head(run)
  run.heads = re.findall(r'^head on (\w+), ', run.log('slurm/head.log'), re.MULTILINE)
  for i in range(2):
    run.starts[i] = run.log(f'slurm/actor-{i}.log').count('starts, with replay at')
  cluster.start(run.losses['head'].host)
  cluster.run('scancel', run.jobs['head'])
  run.wait(lambda: not cluster.run('squeue', '-h'), 'nothing is left in the queue')
  for i in range(2):
    run.cancelled.append(run.log(f'slurm/actor-{i}.log').splitlines()[-1])
  # What is logged may be behind what a cancelled learner has saved.
  run.last = max(run.steps(), run.saved()) + MORE
  jobs = run.submit(demonstrations, run.last)
  run.wait(lambda: not cluster.run('squeue', '-h'), 'the run is finished')
  names = [jobs['head'], *(f'{jobs["actors"]}_{i}' for i in range(2))]
  for name in names:
    found = run.job(name)
    run.states[name] = f'{found["JobState"]} {found["ExitCode"]}'
  print({name: dataclasses.asdict(loss) for name, loss in run.losses.items()})
  yield run


def test_replay_alone_listens_and_on_its_host_in_the_network_alone(run: Run) -> None:
  head = run.heads[0]
  address = re.findall(r'with replay at (\S+)', run.log('slurm/actor-0.log'))[0]
  assert address.startswith('10.77.0.11:')
  assert {
    ip.replace('[::ffff:', '').replace(']', '') for ip in run.listening[head]
  } == {address}
  assert [run.listening[host] for host in run.listening if host != head] == [[], []]


def test_actor_joined_and_was_queued_again_when_it_was_asked_to_leave(
  run: Run,
) -> None:
  steps = [int(row['environment_steps']) for row in run.rows('actor-2')]
  assert steps[-1] > 0
  assert (run.joined['Restarts'], run.joined['Reason']) == ('1', 'BeginTime')


def test_learner_went_on_without_an_actors_host(run: Run) -> None:
  loss = run.losses['actor']
  assert loss.host != run.heads[0]
  assert loss.learnt_meanwhile > 50
  assert len(run.heads) == 2  # Only its own host's loss moved the head.


def test_lost_actor_came_back(run: Run) -> None:
  # At first, after its host was lost, and once when the head had moved.
  assert run.starts[1] == 3
  steps = [int(row['environment_steps']) for row in run.rows('actor-1')]
  assert steps == sorted(steps)


def test_head_moved_and_went_on_from_its_last_checkpoint(run: Run) -> None:
  loss = run.losses['head']
  assert run.heads[0] == loss.host == 'h1'
  assert run.heads[1] != loss.host
  log = run.log('learner-0.log')
  begun = [int(n) for n in re.findall(r'goes on from step (\d+) of ', log)]
  assert begun[0] >= loss.saved > 0
  later = [
    int(row['learner_steps'])
    for row in run.rows('learner-imitation')
    if float(row['wall_time']) > loss.time
  ]
  assert min(later) >= begun[0]


def test_actors_followed_the_head_and_nobody_was_started_more_than_once(
  run: Run,
) -> None:
  assert run.starts[0] == 2
  moved = re.findall(r'replay moved from (\S+) to (\S+)', run.log('actor-0.log'))
  assert len(moved) >= 1
  before, after = moved[0]
  assert before.startswith('10.77.0.11:')
  assert not after.startswith('10.77.0.11:')


def test_cancelled_head_ended_the_actors(run: Run) -> None:
  for line in run.cancelled:
    assert line == f'{run.dir} was ended: its head was cancelled'


def test_submitted_again_the_run_was_finished_by_all_jobs(run: Run) -> None:
  assert set(run.states.values()) == {'COMPLETED 0:0'}
  summary = json.loads((run.dir / 'summary.json').read_text())
  assert summary['learner_steps']['imitation'] == run.last
