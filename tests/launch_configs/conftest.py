"""Launches runs of stand-in nodes (fake.py), and sees to it that nothing outlives."""

from collections.abc import Callable, Iterator
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil
import pytest

FAKE = pathlib.Path(__file__).with_name('fake.py')
ROOT = FAKE.parents[2]


class Run:
  """A launcher in a process of its own."""

  def __init__(self, run_dir: pathlib.Path, process: subprocess.Popen[str]) -> None:
    self.dir = run_dir
    self.process = process

  def finish(self) -> tuple[int, str]:
    """Waits for the launcher's end; returns its exit status and output."""
    output, _ = self.process.communicate(timeout=120)
    return self.process.returncode, output

  def signal(self, signum: int) -> None:
    """Sends a signal to the launcher."""
    self.process.send_signal(signum)

  def events(self, what: str) -> list[dict]:
    """Returns the events of this kind so far."""
    file = self.dir / 'events.jsonl'
    lines = file.read_text().splitlines() if file.exists() else []
    return [e for e in map(json.loads, lines) if e['event'] == what]

  def pids(self) -> dict[str, int]:
    """Returns the process ids of the nodes of the last launch, by name."""
    return {e['node']: e['pid'] for e in self.events('start')}

  def log(self, node: str) -> str:
    """Returns a node's log."""
    file = self.dir / f'{node}.log'
    return file.read_text() if file.exists() else ''

  def wait_until_works(self, *nodes: str) -> None:
    """Waits until each of `nodes` has begun its work."""
    wait_until(lambda: all('behaviour:' in self.log(node) for node in nodes))

  def behave(self, behaviours: dict[str, str]) -> None:
    """Gives the nodes that start from now on other behaviours."""
    config = json.loads((self.dir / 'config.json').read_text())
    pathlib.Path(config['demonstrations']).write_text(json.dumps(behaviours))

  def nothing_left(self) -> bool:
    """Returns whether neither a node nor what forks them lives."""
    nurseries = [e['nursery'] for e in self.events('launch')]
    return not any(alive(pid) for pid in [*self.pids().values(), *nurseries])


def alive(pid: int) -> bool:
  """Returns whether a process runs."""
  try:
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
  except psutil.NoSuchProcess:
    return False


def wait_until(condition: Callable[[], bool]) -> None:
  """Waits until `condition` holds; fails after minutes."""
  end = time.monotonic() + 240
  while not condition():
    assert time.monotonic() < end, 'waited for minutes in vain'
    time.sleep(0.02)


Launch = Callable[..., Run]


@pytest.fixture
def launch(tmp_path: pathlib.Path) -> Iterator[Launch]:
  """Gives launch(behaviours, *flags, env...) -> Run, in one run directory."""
  runs: list[Run] = []
  run_dir = tmp_path / 'run'
  file = tmp_path / 'behaviours.json'

  def start(behaviours: dict[str, str] | None, *flags: str, **env: str) -> Run:
    if behaviours is not None:
      file.write_text(json.dumps(behaviours))
    process = subprocess.Popen(
      [sys.executable, str(FAKE), 'local', '--preset', 'tiny']
      + ['--run-dir', str(run_dir), '--demonstrations', str(file), *flags],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      env={**os.environ, 'PYTHONPATH': str(ROOT), **env},
      cwd=tmp_path,
      # Under nohup it is ignored, and so would the launcher.
      preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    runs.append(Run(run_dir, process))
    return runs[-1]

  yield start
  for run in runs:
    run.process.kill()
    run.process.communicate()
    for pid in filter(alive, run.pids().values()):
      os.kill(pid, signal.SIGKILL)


@pytest.fixture(name='wait_until')
def wait_until_fixture() -> Callable[[Callable[[], bool]], None]:
  """Gives `wait_until`."""
  return wait_until


@pytest.fixture(name='alive')
def alive_fixture() -> Callable[[int], bool]:
  """Gives `alive`."""
  return alive
