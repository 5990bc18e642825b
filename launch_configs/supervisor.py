"""Starts the nodes of a run as processes of this machine, and keeps watch over them.

It ends by itself when every node but the servers has done its work; whatever else
happens to a node ends the run with its role and its last words. No process survives:
each is in a session of its own which is ended as a whole, and dies with the launcher
even when that is killed (see `entry`).
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import time
from typing import Any, IO

from launch_configs import display
from launch_configs import entry
from launch_configs import run_directory
from metamimic import config

DONE, FAILED = 0, 1
_POLL = 0.1
_TAIL_BYTES = 16_384
_TAIL_LINES = 20


@dataclasses.dataclass(frozen=True)
class Policy:
  """How the nodes of a role are treated. Rules for restarting them belong here."""

  grace: float = 10.0
  """Seconds a node has to leave after SIGTERM, before SIGKILL."""


POLICIES: Mapping[str, Policy] = {
  # It saves a last checkpoint; a full replay takes 7 s per 200,000 transitions.
  'learner': Policy(grace=30.0),
}
"""By role; the others have the defaults."""


@dataclasses.dataclass(frozen=True)
class Node:
  """One process to run."""

  role: str
  index: int
  serves: bool
  """Whether others connect to it: it is stopped last, and the run is done without
  its leaving."""
  command: Sequence[str]

  @property
  def name(self) -> str:
    """role-index."""
    return f'{self.role}-{self.index}'


@dataclasses.dataclass
class _Running:
  node: Node
  process: subprocess.Popen[bytes]
  log: pathlib.Path
  log_start: int


class Supervisor:
  """Runs nodes until all is done, one fails, or a signal arrives."""

  def __init__(
    self,
    run_dir: pathlib.Path,
    settings: config.Config,
    nodes: Sequence[Node],
    env: Mapping[str, str],
  ) -> None:
    self._run_dir = run_dir
    self._settings = settings
    self._nodes = nodes
    self._env = dict(env)
    self._progress = display.Progress(run_dir, settings)
    self._display = display.Display(self._progress, settings)
    self._running: dict[str, _Running] = {}
    self._signals: list[int] = []
    self._next_stall = 0.0
    self._last_exit = time.monotonic()

  def run(self) -> int:
    """Returns the exit status of the run: 0 done, 1 failed, 128 + signal stopped.

    Has to be called on the main thread: nodes die with the thread that made them.
    """
    with open(self._run_dir / 'events.jsonl', 'a', buffering=1) as self._events:
      with self._signals_caught(), self._display.shown():
        self._event('launch', pid=os.getpid())
        try:
          for node in sorted(self._nodes, key=lambda node: not node.serves):
            self._start(node)
          status = self._watch()
        finally:
          self._stop()
        if status == DONE:
          self._display.update([], last=True)
        elif status != FAILED:
          self._display.say(
            'stopped; the same command goes on from the last checkpoint'
          )
        self._event('end', status=status)
    return status

  @contextlib.contextmanager
  def _signals_caught(self) -> Iterator[None]:
    signals = [signal.SIGINT, signal.SIGTERM]
    # Under nohup a lost terminal is no reason to stop.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
      signals.append(signal.SIGHUP)
    old = {s: signal.signal(s, self._on_signal) for s in signals}
    try:
      yield
    finally:
      for signum, handler in old.items():
        signal.signal(signum, handler)

  def _on_signal(self, signum: int, frame: Any) -> None:
    del frame
    self._signals.append(signum)

  def _start(self, node: Node) -> None:
    log = self._run_dir / f'{node.name}.log'
    with open(log, 'ab') as output:
      # Read before the node writes: the two share the position.
      begin = output.tell()
      process = subprocess.Popen(
        node.command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=self._env,
        start_new_session=True,
      )
      self._running[node.name] = _Running(node, process, log, begin)
    self._event('start', node=node.name, pid=process.pid)

  def _watch(self) -> int:
    self._next_stall = time.monotonic() + self._settings.stall_warning
    while True:
      if self._signals:
        name = signal.Signals(self._signals[0]).name
        self._display.say(f'{name}: stopping', 'yellow')
        return 128 + self._signals[0]
      failed = False
      for run in self._exited():
        # A server that leaves takes the others' work with it, whatever its status.
        if run.process.returncode or (run.node.serves and self._clients()):
          self._report(run)
          failed = True
      if failed:
        return FAILED
      if not self._clients():
        return DONE
      self._display.update(list(self._running))
      self._warn_of_stall()
      time.sleep(_POLL)

  def _clients(self) -> list[_Running]:
    return [run for run in self._running.values() if not run.node.serves]

  def _exited(self) -> list[_Running]:
    exited = [run for run in self._running.values() if run.process.poll() is not None]
    for run in exited:
      self._last_exit = time.monotonic()
      del self._running[run.node.name]
      # Its own children, if it left any, are in its session.
      self._signal(run, signal.SIGKILL)
      self._event('exit', node=run.node.name, status=run.process.returncode)
    return exited

  def _report(self, run: _Running) -> None:
    status = describe_status(run.process.returncode)
    self._display.say(f'{run.node.name} {status}; the end of {run.log}:', 'bold red')
    self._display.say(last_words(run.log, run.log_start))

  def _warn_of_stall(self) -> None:
    now, period = time.monotonic(), self._settings.stall_warning
    if now < self._next_stall:
      return
    self._progress.update()
    # Once the learner has left, the others' farewell is what takes long.
    learns = any(run.node.role == 'learner' for run in self._clients())
    since = self._progress.last_learner_row
    silent = now - (since if learns else self._last_exit)
    if silent < period:
      self._next_stall = now + period - silent
      return
    self._next_stall = now + period
    what = f'no progress of the learner for {silent:.0f} s: {self._waits_on()}'
    if not learns:
      logs = ' '.join(str(run.log) for run in self._clients())
      what = f'the learner left; waiting {silent:.0f} s for others, see {logs}'
    self._display.say(f'{what}; running: {" ".join(self._running)}', 'yellow')

  def _waits_on(self) -> str:
    for run in self._running.values():
      role = run.node.role
      if run.node.serves and not run.node.index:
        if run_directory.published_address(self._run_dir, role) is None:
          return f'{run.node.name} does not serve yet, see {run.log}'
    actors = self._settings.actors
    needed = self._settings.replay_of(actors[0]).min_size if actors else 0
    seen = self._progress.replay_size or self._progress.environment_steps
    if seen < needed:
      return f'replay holds {seen:,.0f} of the {needed:,} transitions it begins with'
    logs = [run.log for run in self._clients() if run.node.role == 'learner']
    return f'see {" ".join(map(str, logs))}'

  def _stop(self) -> None:
    """Ends what still runs, those who use a server before the server."""
    # One signal more than those so far, and more than one: at once.
    patience = max(len(self._signals), 1)
    for serves in (False, True):
      group = [r for r in self._running.values() if r.node.serves == serves]
      for run in group:
        self._signal(run, signal.SIGTERM)
      self._await(group, patience)

  def _await(self, group: Sequence[_Running], patience: int) -> None:
    start = time.monotonic()
    while left := [run for run in group if run.node.name in self._running]:
      for run in self._exited():
        if run.process.returncode not in (0, -signal.SIGTERM, entry.STOPPED):
          self._report(run)
      for run in left:
        grace = POLICIES.get(run.node.role, Policy()).grace
        if time.monotonic() - start > grace or len(self._signals) > patience:
          self._kill(run)
      time.sleep(_POLL / 2)

  def _kill(self, run: _Running) -> None:
    if run.process.poll() is not None:
      return
    # Entry answers with the stack of every thread: where it hung.
    self._signal(run, signal.SIGUSR1)
    time.sleep(_POLL)
    self._signal(run, signal.SIGKILL)
    run.process.wait()
    self._event('kill', node=run.node.name)
    self._display.say(f'{run.node.name} did not leave and was killed', 'yellow')

  def _signal(self, run: _Running, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(run.process.pid, signum)

  def _event(self, what: str, **values: Any) -> None:
    events: IO[str] = self._events
    line = {'wall_time': round(time.time(), 3), 'event': what, **values}
    events.write(json.dumps(line) + '\n')


def describe_status(status: int) -> str:
  """Returns how a process ended, in words, from its `returncode`."""
  if status >= 0:
    return f'left with exit status {status}'
  name = signal.Signals(-status).name
  hint = ' (out of memory?)' if -status == signal.SIGKILL else ''
  return f'was ended by {name}{hint}'


def last_words(log: pathlib.Path, start: int = 0) -> str:
  """Returns the last traceback in a log and what follows it, else its last lines.

  Args:
    log: the file.
    start: bytes at its beginning to leave out: an earlier launch wrote them.
  """
  with open(log, 'rb') as f:
    f.seek(max(start, log.stat().st_size - _TAIL_BYTES))
    lines = f.read().decode(errors='replace').splitlines()
  begins = [i for i, line in enumerate(lines) if line.startswith('Traceback ')]
  words = lines[begins[-1] :] if begins else lines[-_TAIL_LINES:]
  return '\n'.join(words) or '(the log is empty)'
