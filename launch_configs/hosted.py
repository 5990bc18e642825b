"""A program whose nodes Launchpad's own processes run, as they do on Vertex AI.

No launcher of ours is beside them: a node that fails ends the job, and one that has
nothing more to do has to see that itself.
"""

from collections.abc import Callable
import contextlib
import functools
import os
import pathlib
import sys
import threading
import time
import traceback
from typing import Any, TYPE_CHECKING

from launch_configs import entry
from launch_configs import run_directory
from metamimic import checkpoints
from metamimic import config

if TYPE_CHECKING:
  from launch_configs import program

_PERIOD = 2.0  # Seconds between two looks at whether the run is over.
# Seconds that a finished run has to write its report and last set; and then to end.
_LONGEST_FAREWELL, _FAREWELL = 600.0, 10.0
_READY = 'METAMIMIC_HOSTED'


class Builder:
  """Makes the node of this process, as `agents.builder.Builder` does."""

  def __init__(self, run_dir: str) -> None:
    """Reads the run.

    Args:
      run_dir: of a run that was prepared; the server's node holds its lock.
    """
    from agents import builder
    from launch_configs import program

    settings = config.load(os.path.join(run_dir, 'config.json'))
    self._run_dir = pathlib.Path(run_dir)
    self._held = contextlib.ExitStack()
    self._stop = program.stop_event()
    # Set while the work of this process's node needs no waiting for.
    self._done = threading.Event()
    self._done.set()
    self._builder = builder.Builder(settings, run_dir, self._stop)
    watch = functools.partial(_leave_when_over, self._run_dir, settings, self._done)
    threading.Thread(target=watch, daemon=True).start()

  def __getattr__(self, name: str) -> Callable[..., Any]:
    make = getattr(self._builder, name)
    if name == 'replay_tables':
      # As a launcher does that is beside its nodes; it ends with the process.
      self._held.enter_context(run_directory.locked(self._run_dir))
    if name.startswith('replay'):
      return make
    if name == 'evaluator':
      # It writes what says that the run is over.
      self._done.clear()
    return lambda *args: Worker(make(*args), self._stop, self._done)


class Worker:
  """Leaves the process when its work has failed, or it is asked to."""

  def __init__(
    self, worker: 'program.Worker', stop: threading.Event, done: threading.Event
  ) -> None:
    """Takes it.

    Args:
      worker: what works.
      stop: set when it shall leave.
      done: is set when it has done its work.
    """
    self._worker = worker
    self._stop = stop
    self._done = done

  def run(self) -> None:
    """Works, and leaves the process."""
    status = 1
    try:
      self._worker.run()
      self._done.set()
      # Where the first node leaves, the job may be over for Vertex AI.
      self._stop.wait()
      status = entry.STOPPED
    except BaseException:
      traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    # A Reverb thread that waits for a server which is gone would keep the process.
    os._exit(status)


def make_builder(run_dir: str) -> 'program.Builder':
  """Returns what makes the node of this process.

  Args:
    run_dir: of a run that was prepared.
  """
  _begin_anew()
  return Builder(run_dir)


def _begin_anew() -> None:
  """Starts this process's program again, once, with the environment of a node.

  Launchpad loads TensorFlow's library before TensorFlow is imported and says that it is
  the second; what then compiles functions does not find those within them. Nothing of
  ours runs earlier, and Launchpad has no option for the environment.
  """
  if _READY not in os.environ:
    environment = {
      **entry.THREAD_LIMITS,
      # Each node has a machine to itself there.
      'TF_NUM_INTRAOP_THREADS': str(len(os.sched_getaffinity(0))),
      'PYTHONUNBUFFERED': '1',
      **os.environ,
      'TF2_BEHAVIOR': '1',
      _READY: '1',
    }
    os.execve(sys.executable, sys.orig_argv, environment)


def _leave_when_over(
  run_dir: pathlib.Path, settings: config.Config, done: threading.Event
) -> None:
  """Ends this process when the run is over, which the server does not know.

  Args:
    run_dir: of the run.
    settings: of the run.
    done: set once this process may be ended.
  """
  finished = 0.0
  while not finished or time.monotonic() - finished < _LONGEST_FAREWELL:
    time.sleep(_PERIOD)
    # A file system that other hosts share has its moments.
    with contextlib.suppress(OSError, ValueError):
      if run_directory.is_finished(run_dir, settings):
        finished = finished or time.monotonic()
        if (run_dir / 'report.html').exists() and _is_saved(run_dir, settings):
          break
  done.wait(_LONGEST_FAREWELL)
  # Those who wrote these leave by themselves, or have nothing more to do.
  time.sleep(_FAREWELL)
  os._exit(0)


def _is_saved(run_dir: pathlib.Path, settings: config.Config) -> bool:
  """Returns whether the learners' last steps are in a checkpoint set."""
  found = checkpoints.last(run_dir)
  return found is not None and all(
    found.learner_steps.get(name, 0) >= settings.last_step(name)
    for name in settings.learners
  )


def make_program(run_dir: pathlib.Path, settings: config.Config) -> Any:
  """Returns the program of a run, whose nodes can be pickled.

  Args:
    run_dir: under the path that it has everywhere.
    settings: of the run.
  """
  from launch_configs import program

  make = functools.partial(make_builder, str(run_dir.absolute()))
  return program.make_program(settings, make)
