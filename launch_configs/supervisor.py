"""Starts the nodes of a run as processes of this machine, and keeps watch over them.

It ends by itself when every node but the servers has done its work. A node that dies is
started again, a few times (see `restarts`): an actor or the evaluator while others go
on; a learner or the server from the last checkpoint set, while those who need it wait
of themselves. Beyond that, or where it would be of no use, the run ends with the node's
role and its last words. No process survives: each is in a session of its own which is
ended as a whole, and dies with the launcher even when that is killed. How a node is
started, the nursery knows.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import time
from typing import Any

from launch_configs import disk
from launch_configs import display
from launch_configs import entry
from launch_configs import loopback
from launch_configs import nursery as nursery_lib
from launch_configs import restarts
from launch_configs import run_directory
from metamimic import config
from metamimic import notices

DONE, FAILED = 0, 1
_POLL = 0.1
_PAUSE = 2.0  # Seconds before a node is tried again that could not be started.


@dataclasses.dataclass(frozen=True)
class Node:
  """One process to run."""

  role: str
  index: int
  serves: bool
  """Whether others connect to it: it is stopped last, and the run is done without
  its leaving."""

  @property
  def name(self) -> str:
    """role-index."""
    return f'{self.role}-{self.index}'


@dataclasses.dataclass
class _Running:
  node: Node
  process: nursery_lib.Process
  log: pathlib.Path
  log_start: int
  begun: float

  @property
  def policy(self) -> restarts.Policy:
    return restarts.policy_of(self.node.role)


class Supervisor:
  """Runs nodes until all is done, one fails, or a signal arrives."""

  def __init__(
    self,
    run_dir: pathlib.Path,
    settings: config.Config,
    nodes: Sequence[Node],
    nursery: nursery_lib.Nursery,
    signals: list[int] | None = None,
  ) -> None:
    """Starts nothing yet.

    Args:
      run_dir: of the run.
      settings: of the run.
      nodes: of the run.
      nursery: starts them; another one if it dies.
      signals: that have arrived so far; one asks to stop. Appended to.
    """
    self._run_dir = run_dir
    self._settings = settings
    self._nodes = nodes
    self._nursery = nursery
    self._progress = display.Progress(run_dir, settings)
    self._display = display.Display(self._progress, settings)
    self._running: dict[str, _Running] = {}
    # Servers first.
    self._due = {
      node.name: (0.0, node) for node in sorted(nodes, key=lambda n: not n.serves)
    }
    self._histories: dict[str, restarts.History] = {}
    self._finished: list[Node] = []
    self._notices = display.LineTail(run_dir / notices.FILE, new=True)
    self._said: set[str] = set()
    self._signals = [] if signals is None else signals
    self._disk = disk.Watch(run_dir)
    self._next_stall = 0.0
    self._last_exit = time.monotonic()
    self._next_start = 0.0

  def run(self) -> int:
    """Returns the exit status of the run: 0 done, 1 failed, 128 + signal stopped.

    Has to be called on the main thread, for the sake of signals.
    """
    with self._signals_caught(), self._display.shown():
      self._event('launch', pid=os.getpid(), nursery=self._nursery.pid)
      try:
        status = self._watch()
      finally:
        self._stop()
        self._tell_notices()
      if status == DONE:
        self._display.update([], last=True)
      elif status != FAILED:
        self._display.say('stopped; the same command goes on from the last checkpoint')
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

  def _start(self, node: Node) -> bool:
    """Starts a node, and returns whether that was possible; if not, it is still due.

    Raises:
      OSError: its log could not be opened.
    """
    log = self._log(node)
    with open(log, 'ab') as output:
      # Read before the node writes: the two share the position.
      begin = output.tell()
      try:
        process = self._nursery.start(node.role, node.index, output)
      except nursery_lib.Gone as e:
        self._display.say(f'{e}; there will be another', 'yellow')
        return False
      # Here, because closing may fail, too.
      del self._due[node.name]
      self._running[node.name] = _Running(node, process, log, begin, time.monotonic())
    self._event('start', node=node.name, pid=process.pid)
    return True

  def _watch(self) -> int:
    self._next_stall = time.monotonic() + self._settings.stall_warning
    while True:
      if self._signals:
        name = signal.Signals(self._signals[0]).name
        self._display.say(f'{name}: stopping', 'yellow')
        return 128 + self._signals[0]
      for run in self._exited():
        # A server that leaves takes the others' work with it, whatever its status.
        if run.process.returncode or (run.node.serves and self._clients()):
          if not self._will_restart(run):
            return FAILED
      try:
        self._start_due()
      except RuntimeError as e:
        self._display.say(str(e), 'bold red')
        return FAILED
      self._tell_notices()
      self._tell_full_disk()
      if not self._clients():
        return DONE
      self._display.update(list(self._running))
      self._warn_of_stall()
      time.sleep(_POLL)

  def _start_due(self) -> None:
    """Starts the nodes whose time has come.

    Raises:
      RuntimeError: no node can be started.
    """
    for due, node in list(self._due.values()):
      if time.monotonic() < max(due, self._next_start):
        continue
      try:
        if self._nursery.ready() and self._start(node) and node.serves:
          self._publish_again()
      except OSError as e:
        # A file system that other hosts share has its moments.
        self._next_start = time.monotonic() + _PAUSE
        self._display.say(f'{node.name}: {e}; it is tried again', 'yellow')
        if node.name in self._due:
          # After the others.
          self._due[node.name] = self._due.pop(node.name)

  def _publish_again(self) -> None:
    """Starts learners that were done: others may wait for what they had published.

    A server comes back with what it had at the last checkpoint set. A learner restores
    itself, publishes, saves a set, and leaves.
    """
    for node in self._finished:
      self._display.say(f'{node.name} was done, and is started to tell the server so')
      self._due[node.name] = 0.0, node
    self._finished = []

  def _clients(self) -> list[Node]:
    """Returns the nodes that have not done their work; one may be about to start."""
    nodes = [run.node for run in self._running.values()]
    nodes += [node for _, node in self._due.values()]
    return [node for node in nodes if not node.serves]

  def _will_restart(self, run: _Running) -> bool:
    """Sees to it that a dead node is started again; False: the run has failed."""
    name, now, status = run.node.name, time.monotonic(), run.process.returncode
    history = self._histories.setdefault(name, restarts.History(run.policy))
    why = history.add(status, now - run.begun, run.log, run.log_start)
    if why:
      self._report(run, why)
      return False
    count, pause = history.count, history.pause
    self._due[name] = now + pause, run.node
    self._event('restart', node=name, status=status, count=count, pause=pause)
    self._display.say(
      f'{name} {restarts.describe_status(status)}; it is started again in {pause:g} s '
      f'({count} of {run.policy.restarts})',
      'yellow',
    )
    return True

  def _tell_notices(self) -> None:
    for line in self._notices.read():
      self._display.say(line, 'yellow')

  def _tell_full_disk(self) -> None:
    if said := self._disk.look():
      self._display.say(said, 'bold red' if self._disk.full else 'yellow')

  def _exited(self) -> list[_Running]:
    exited = [run for run in self._running.values() if run.process.poll() is not None]
    for run in exited:
      self._last_exit = time.monotonic()
      del self._running[run.node.name]
      # Its own children, if it left any, are in its session.
      self._signal(run, signal.SIGKILL)
      self._event('exit', node=run.node.name, status=run.process.returncode)
      if run.node.role == 'learner' and not run.process.returncode:
        self._finished.append(run.node)
    return exited

  def _report(self, run: _Running, more: str = '') -> None:
    status = restarts.describe_status(run.process.returncode) + more
    self._display.say(f'{run.node.name} {status}; the end of {run.log}:', 'bold red')
    self._display.say(restarts.last_words(run.log, run.log_start))

  def _warn_of_stall(self) -> None:
    now, period = time.monotonic(), self._settings.stall_warning
    if now < self._next_stall:
      return
    self._progress.update()
    learning = {
      name: now - learner.last_row
      for (name, learner), node in self._learners()
      if node in self._clients()
    }
    # Once the learners have left, the others' farewell is what takes long.
    silent = learning or {'': now - self._last_exit}
    longest = max(silent.values())
    if longest < period:
      self._next_stall = now + period - longest
      return
    self._next_stall = now + period
    running = f'; running: {" ".join(self._running)}'
    if not learning:
      logs = ' '.join(str(self._log(node)) for node in self._clients())
      what = f'the learner left; waiting {longest:.0f} s for others, see {logs}'
      self._display.say(what + running, 'yellow')
    for name, seconds in learning.items():
      if seconds >= period and not self._waits_as_it_should(name):
        who = (
          'the learner' if len(self._settings.learners) == 1 else f'the {name} learner'
        )
        done = self._progress.learners[name].done
        what = f'{who} is done, and has not exited' if done else f'no progress of {who}'
        why = self._waits_on(name)
        self._display.say(f'{what} for {seconds:.0f} s: {why}{running}', 'yellow')

  def _waits_as_it_should(self, learner: str) -> bool:
    """Returns whether it has not begun, as others have, and that was said before."""
    progress = self._progress.learners
    if progress[learner].steps or not any(p.steps for p in progress.values()):
      return False
    said = learner in self._said
    self._said.add(learner)
    return said

  def _learners(self) -> Iterator[tuple[tuple[str, display.LearnerProgress], Node]]:
    nodes = sorted(
      (n for n in self._nodes if n.role == 'learner'), key=lambda n: n.index
    )
    return zip(self._progress.learners.items(), nodes, strict=False)

  def _log(self, node: Node) -> pathlib.Path:
    return self._run_dir / f'{node.name}.log'

  def _waits_on(self, learner: str) -> str:
    """Returns in words what keeps a learner waiting, the likeliest cause first."""
    node = next(node for (name, _), node in self._learners() if name == learner)
    if node.name not in self._running:
      return f'{node.name} is about to be started again'
    for server in self._nodes:
      if server.serves and not server.index:
        try:
          address = run_directory.published_address(self._run_dir, server.role)
        except (ValueError, OSError) as e:
          return str(e)
        log = self._log(server)
        if address is None:
          return f'{server.name} does not serve yet, see {log}'
        if not loopback.answers(address):
          return f'{server.name} does not answer, see {log}'
    run = self._running[node.name]
    # Nodes say now and then on what they wait; see `agents.waiting`.
    _, waits, what = restarts.last_words(run.log, run.log_start).rpartition('waiting ')
    what = f'{waits}{what}, ' if waits and '\n' not in what else ''
    says = f'{what}see {run.log}'
    if self._progress.learners[learner].done:
      # It saves what it has come to, or waits for the replay server to do so.
      return says
    actors = self._settings.actors
    needed = self._settings.replay_of(actors[0]).min_size if actors else 0
    # On a cluster they are none of this launcher's.
    if any(node.role == 'actor' for node in self._nodes) and not any(
      r.node.role == 'actor' for r in self._running.values()
    ):
      return 'no actor runs'
    seen = self._progress.replay_size or self._progress.environment_steps
    if seen < needed:
      return f'replay holds {seen:,.0f} of the {needed:,} transitions it begins with'
    return says

  def _stop(self) -> None:
    """Ends what still runs, those who use a server before the server."""
    self._due.clear()
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
        if time.monotonic() - start > run.policy.grace or len(self._signals) > patience:
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
    line = {'wall_time': round(time.time(), 3), 'event': what, **values}
    # A full disk does not end a run.
    with (
      contextlib.suppress(OSError),
      open(self._run_dir / 'events.jsonl', 'a') as events,
    ):
      events.write(json.dumps(line) + '\n')
