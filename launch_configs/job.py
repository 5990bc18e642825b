"""Runs a job of a cluster: the head of a run, or one of its actors.

  python -m launch_configs.job head RUN_DIR NETWORK
  python -m launch_configs.job actor RUN_DIR INDEX

`launch_configs.slurm` submits both. The head is all but the actors, and goes on from
the last checkpoint set wherever it is started; an actor is started again whenever the
head is somewhere else. Whoever is asked to leave and was not cancelled, as before the
end of the job's time, is put into Slurm's queue again. Exit status: 0 there is nothing
more to do, 1 a node failed for good, 2 refused, 143 asked to leave.
"""

import argparse
import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

from launch_configs import entry
from launch_configs import local
from launch_configs import loopback
from launch_configs import nursery as nursery_lib
from launch_configs import restarts
from launch_configs import run_directory
from launch_configs import slurm
from launch_configs import supervisor
from metamimic import checkpoints
from metamimic import config
from metamimic import notices

PERIOD = 1.0
"""Seconds between two looks at what an actor depends on."""

_LOOK_AT_QUEUE = 60.0  # Seconds between two looks for a head that an actor waits for.
_LOOKS = 3  # In so many in a row it is not there: nobody goes on with the run.
_TRIES, _PAUSE = 6, 5.0  # Of asking Slurm, which may be busy; seconds in between.

Received = list[int]
"""Signals so far that ask to leave."""


def head(run_dir: pathlib.Path, network: str, received: Received) -> int:
  """Runs all but the actors and returns the exit status.

  Args:
    run_dir: of a run that was prepared.
    network: in which this host's servers can be reached; see `loopback.host_in`.
    received: what has to be looked at before the nodes run.
  """
  try:
    settings = config.load(str(run_dir / 'config.json'))
    # After the loss of a host its locks last until the file server gives it up. And it
    # may be alive, lost to Slurm alone: two heads at once would spoil the run.
    waiting = _Reminder(f'another launcher of {run_dir} to end', settings.stall_warning)
    lock = run_directory.locked(run_dir, lambda: not received and waiting.sleep())
    with lock:
      status = _head(run_dir, settings, network, received)
      if status >= entry.SIGNALLED and not _will_be_back():
        run_directory.end(run_dir, 'its head was cancelled')
  except (ValueError, OSError, RuntimeError) as e:
    if received:
      # Without the lock: the run is another head's, to go on with or to end.
      _will_be_back()
      return entry.STOPPED
    print(f'error: {e}', file=sys.stderr)
    return local.REFUSED
  return status


def _head(
  run_dir: pathlib.Path, settings: config.Config, network: str, received: Received
) -> int:
  try:
    host, name = loopback.host_in(network), socket.gethostname()
    count = os.environ.get('SLURM_RESTART_COUNT', '0')
    print(f'head on {name}, serving at {host}, restart {count}', flush=True)
    if local.is_done(run_dir, settings):
      return supervisor.DONE
    with local.nursery(run_dir, host) as nodes:
      local.prepare(run_dir, settings)
      if received:
        return entry.STOPPED
      status = local.start(run_dir, settings, nodes, ['actor'], received)
  except BaseException:
    run_directory.end(run_dir, 'its head failed')
    raise
  if status == supervisor.FAILED:
    run_directory.end(run_dir, 'its head failed')
  return status


class _Reminder:
  """Sleeps, and says now and then for what."""

  def __init__(self, what: str, period: float) -> None:
    self._what = what
    self._period = period
    self._begun = self._said = time.monotonic()

  def sleep(self) -> bool:
    """Sleeps for a moment; returns true."""
    time.sleep(PERIOD)
    now = time.monotonic()
    if now - self._said >= self._period:
      self._said = now
      print(f'waiting for {self._what} for {now - self._begun:.0f} s', flush=True)
    return True


class _Queue:
  """Looks now and then whether the head is in Slurm's queue.

  A head that is cancelled while it waits there, or is killed, cannot say so.
  """

  def __init__(self, run_dir: pathlib.Path) -> None:
    self._run_dir = run_dir
    self._due = time.monotonic() + _LOOK_AT_QUEUE
    self._missed = 0

  def has_no_head(self) -> bool:
    """Returns whether it was not there in several looks; who cannot look says no."""
    if time.monotonic() < self._due:
      return False
    self._due = time.monotonic() + _LOOK_AT_QUEUE
    job = slurm.job_of(self._run_dir, slurm.HEAD)
    queued = slurm.queued()
    if not job or queued is None or job in queued:
      self._missed = 0
    else:
      self._missed += 1
    return self._missed >= _LOOKS


class ActorKeeper:
  """Keeps one actor running for as long as the run goes on."""

  def __init__(
    self,
    run_dir: pathlib.Path,
    settings: config.Config,
    index: int,
    received: Received,
    nursery: nursery_lib.Nursery,
  ) -> None:
    """Starts nothing yet.

    Args:
      run_dir: of the run.
      settings: of the run.
      index: of the actor.
      received: ends the actor.
      nursery: starts it.
    """
    self._run_dir = run_dir
    self._settings = settings
    self._index = index
    self._received = received
    self._nursery = nursery
    self._policy = restarts.policy_of('actor')
    self._history = restarts.History(self._policy)
    self._log = run_dir / f'actor-{index}.log'
    self._log_start = 0
    self._begun = 0.0
    self._due = 0.0
    self._process: nursery_lib.Process | None = None
    self._address: str | None = None
    self._done = False
    self._waiting = self._wait_for_head()
    self._queue = _Queue(run_dir)

  def run(self) -> int:
    """Returns the exit status once there is no more work for the actor."""
    status: int | None = None
    try:
      while status is None and not self._received:
        try:
          status = self._look()
        except (OSError, nursery_lib.Gone) as e:
          # A file system that other hosts share has its moments.
          print(f'{e}; looking again', flush=True)
          self._waiting.sleep()
      return entry.STOPPED if status is None else status
    finally:
      self._stop()

  def _look(self) -> int | None:
    """Does what there is to do now; returns the exit status, None: there will be more.

    Raises:
      OSError: the run directory could not be read.
    """
    if why := run_directory.why_over(self._run_dir, self._settings):
      print(why)
      return supervisor.DONE
    if self._process is not None:
      status = self._process.poll()
      if status is not None and not self._ended(status):
        return supervisor.FAILED
      time.sleep(PERIOD)
      self._waiting, self._queue = self._wait_for_head(), _Queue(self._run_dir)
    elif self._is_saved():
      print('its learner has finished')
      return supervisor.DONE
    elif self._can_start():
      self._start()
    elif self._queue.has_no_head():
      print(f'the head of {self._run_dir} is not in the queue any more')
      return supervisor.DONE
    else:
      self._waiting.sleep()
    return None

  def _wait_for_head(self) -> _Reminder:
    return _Reminder(f'the head of {self._run_dir}', self._settings.stall_warning)

  def _is_saved(self) -> bool:
    """Returns whether the actor is done and its learner's end was saved.

    Before that, a learner that is restored may need it once more.
    """
    name = self._settings.acts_for(self._index)
    last = self._settings.last_step(name)
    return self._done and checkpoints.has_reached(self._run_dir, name, last)

  def _can_start(self) -> bool:
    address = run_directory.published_address(self._run_dir, 'replay')
    if address is None or time.monotonic() < self._due:
      return False
    if self._done and address == self._address:
      return False
    if not loopback.answers(address) or not self._nursery.ready():
      return False
    self._address = address
    return True

  def _start(self) -> None:
    with open(self._log, 'ab') as output:
      self._log_start = output.tell()
      self._process = self._nursery.start('actor', self._index, output)
    self._begun = time.monotonic()
    print(f'actor {self._index} starts, with replay at {self._address}', flush=True)

  def _ended(self, status: int) -> bool:
    """Sees to what comes after the actor's end; false: nothing, it has failed."""
    assert self._process is not None
    self._signal(signal.SIGKILL)
    self._process = None
    self._done = status == 0
    said = restarts.describe_status(status)
    # Without its server it could not but fail.
    if status in (0, entry.MOVED) or not loopback.answers(str(self._address)):
      print(f'actor {self._index} {said}', flush=True)
      return True
    lived = time.monotonic() - self._begun
    if why := self._history.add(status, lived, self._log, self._log_start):
      failed = f'actor {self._index} {said}{why}'
      notices.tell(self._run_dir, f'{failed}; the others go on, see {self._log}')
      print(f'{failed}; the end of {self._log}:')
      print(restarts.last_words(self._log, self._log_start), flush=True)
      return False
    self._due = time.monotonic() + self._history.pause
    print(
      f'actor {self._index} {said}; it is started again in {self._history.pause:g} s '
      f'({self._history.count} of {self._policy.restarts})',
      flush=True,
    )
    return True

  def _stop(self) -> None:
    if self._process is None:
      return
    self._signal(signal.SIGTERM)
    try:
      self._process.wait(self._policy.grace)
    except subprocess.TimeoutExpired:
      print(f'actor {self._index} did not leave and was killed', flush=True)
    self._signal(signal.SIGKILL)
    self._process.wait()

  def _signal(self, signum: int) -> None:
    assert self._process is not None
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, signum)


def actor(run_dir: pathlib.Path, index: int, received: Received) -> int:
  """Keeps an actor and returns the exit status.

  Args:
    run_dir: of a run that was prepared.
    index: of the actor; a run has as many as there are jobs for.
    received: see `ActorKeeper`.
  """
  try:
    settings = config.load(str(run_dir / 'config.json'))
    if not settings.actors:
      raise ValueError(f'{run_dir}: the algorithm {settings.algorithm} has no actors')
    with local.nursery(run_dir) as nodes:
      return ActorKeeper(run_dir, settings, index, received, nodes).run()
  except (ValueError, OSError, RuntimeError) as e:
    print(f'error: {e}', file=sys.stderr)
    return local.REFUSED


def _this_job() -> str:
  """Returns the name of this job to Slurm; empty: it is none of its jobs."""
  array = os.environ.get('SLURM_ARRAY_JOB_ID')
  # The number alone of an array's job may stand for the whole array.
  if array:
    return f'{array}_{os.environ["SLURM_ARRAY_TASK_ID"]}'
  return os.environ.get('SLURM_JOB_ID', '')


def _scontrol(*args: str) -> str | None:
  """Returns what scontrol says; None: it fails, and goes on to."""
  for _ in range(_TRIES):
    try:
      return subprocess.run(
        ['scontrol', *args], capture_output=True, text=True, check=True
      ).stdout
    except (OSError, subprocess.CalledProcessError) as e:
      print(f'scontrol {" ".join(args)}: {getattr(e, "stderr", "") or e}', flush=True)
      time.sleep(_PAUSE)
  return None


def _will_be_back() -> bool:
  """Sees to it that a job which was asked to leave is started again, if it shall be."""
  job = _this_job()
  if not job:
    return False
  shown = _scontrol('show', 'job', '--oneliner', job)
  found = re.search(r'JobState=(\w+) .*Restarts=(\d+)', shown or '')
  if not found:
    return True
  state, restarts_ = found[1], int(found[2])
  print(f'asked to leave; job {job} is {state}', flush=True)
  if state == 'RUNNING':
    # Slurm requeues of itself after the loss of a host, but not at the end of the time.
    return _scontrol('requeue', job) is not None
  # A job that was cancelled and one that was requeued are both completing at first.
  return restarts_ > int(os.environ.get('SLURM_RESTART_COUNT', '0'))


def main() -> int:
  """Runs what the command line asks for and returns the exit status."""
  parser = argparse.ArgumentParser(prog='python -m launch_configs.job')
  parser.add_argument('what', choices=['head', 'actor'])
  parser.add_argument('run_dir', type=pathlib.Path, help='directory of the run')
  parser.add_argument('which', help="the head's network, or the actor's index")
  args = parser.parse_args()
  received: Received = []
  for signum in (signal.SIGTERM, signal.SIGINT):
    signal.signal(signum, lambda signum, frame: received.append(signum))
  if args.what == 'head':
    return head(args.run_dir, args.which, received)
  status = actor(args.run_dir, int(args.which), received)
  if status >= entry.SIGNALLED:
    _will_be_back()
  return status


if __name__ == '__main__':
  sys.exit(main())
