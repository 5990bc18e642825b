"""A run of the launcher, watched from outside by the benchmarks that last."""

from collections.abc import Callable, Sequence
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil

LEARNER = 'imitation'
"""Name of the learner of such a run."""
POLL = 0.05
"""Seconds between two looks at what is waited for."""
ENDLESS = 100_000_000
"""Learner steps that nobody waits for."""
_CHECKOUT = pathlib.Path(__file__).resolve().parents[1]


def record(demonstrations: str) -> None:
  """Records a few demonstrations of lifting, if the file is not there.

  Raises:
    subprocess.CalledProcessError: that failed; it has said why.
  """
  if os.path.exists(demonstrations):
    return
  os.makedirs(os.path.dirname(demonstrations) or '.', exist_ok=True)
  command = [sys.executable, '-m', 'metamimic.record', '--task', 'lift_brick']
  command += ['--output', os.path.abspath(demonstrations)]
  command += ['--train', '6', '--valid', '3']
  subprocess.run(command, check=True, cwd=_CHECKOUT)


def new_folder(path: str) -> pathlib.Path:
  """Makes a folder.

  Raises:
    ValueError: it is there and holds something.
  """
  os.makedirs(path, exist_ok=True)
  if os.listdir(path):
    raise ValueError(f'{path} is not empty; expected a new folder')
  return pathlib.Path(path)


class Run:
  """A run directory, and its launcher while there is one."""

  def __init__(
    self,
    run_dir: pathlib.Path,
    preset: str,
    demonstrations: str,
    patience: float,
    settings: Sequence[str] = (),
    learner_steps: int | None = ENDLESS,
  ) -> None:
    """Starts nothing yet; output goes to a file beside the directory's parent.

    Args:
      run_dir: the run directory.
      preset: its settings.
      demonstrations: file of them.
      patience: seconds after which what is waited for does not come.
      settings: more arguments of the launcher.
      learner_steps: of the run; None: those of the preset.
    """
    self.dir = run_dir
    """The run directory."""
    self._patience = patience
    self._command = [
      *(sys.executable, '-m', 'launch_configs.local', '--run-dir', str(run_dir)),
      *('--preset', preset, '--demonstrations', demonstrations, *settings),
    ]
    if learner_steps is not None:
      self._command += ['--learner-steps', str(learner_steps)]
    self._log = run_dir.parent.with_suffix('.log')
    self._process: subprocess.Popen[bytes] | None = None

  def start(self) -> None:
    """Launches it, for the first time or again."""
    with open(self._log, 'ab') as log:
      self._process = subprocess.Popen(
        self._command, stdout=log, stderr=subprocess.STDOUT
      )

  def signal(self, signum: int) -> int:
    """Sends the launcher a signal and returns its exit status."""
    assert self._process is not None
    self._process.send_signal(signum)
    return self._process.wait(self._patience)

  def close(self) -> None:
    """Ends it, if it still runs."""
    if self._process is not None and self._process.poll() is None:
      self.signal(signal.SIGTERM)

  @property
  def ended(self) -> bool:
    """Whether the launcher has left."""
    return self._process is None or self._process.poll() is not None

  @property
  def status(self) -> int | None:
    """The launcher's exit status; None: it has not left."""
    return None if self._process is None else self._process.poll()

  def said(self, text: str) -> bool:
    """Returns whether the launcher has said something."""
    return text in self._log.read_text()

  def events(self, what: str) -> list[dict]:
    """Returns the events of a kind."""
    lines = (self.dir / 'events.jsonl').read_text().splitlines()
    return [e for e in map(json.loads, lines) if e['event'] == what]

  @property
  def pid(self) -> int:
    """The launcher's."""
    assert self._process is not None
    return self._process.pid

  def pids(self) -> dict[str, int]:
    """Returns the process id of each node's newest process."""
    return {e['node']: e['pid'] for e in self.events('start')}

  @property
  def nursery(self) -> int:
    """The process id of what forks the nodes."""
    return self.events('launch')[-1]['nursery']

  def nothing_left(self) -> bool:
    """Returns whether none of its processes runs."""
    return not any(_runs(pid) for pid in [*self.pids().values(), self.nursery])

  def rows(self, since: float) -> list[dict[str, str]]:
    """Returns what the learner has logged after a time (time.time())."""
    log = self.dir / 'logs' / f'learner-{LEARNER}.csv'
    if not log.exists():
      return []
    with open(log, newline='') as f:
      return [row for row in csv.DictReader(f) if float(row['wall_time']) > since]

  def wait(self, condition: Callable[[], object], patience: float = 0.0) -> bool:
    """Waits for something; returns whether it came, while there was a launcher."""
    end = time.monotonic() + (patience or self._patience)
    while not condition():
      if time.monotonic() > end or self.ended:
        return False
      time.sleep(POLL)
    return True


def _runs(pid: int) -> bool:
  try:
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
  except psutil.NoSuchProcess:
    return False
