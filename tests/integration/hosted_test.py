"""A run whose nodes Launchpad's own processes run, as those of Vertex AI would.

What an image would hold lies in a folder; each process is started in it with the
command and the variable that Vertex AI gives.
"""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from typing import Any

import launchpad as lp
from launchpad.launch import serialization
from launchpad.nodes.python import process_entry
import pandas as pd
import pytest

from launch_configs import entry
from launch_configs import hosted
from launch_configs import local
from launch_configs import loopback
from launch_configs import vertex
from metamimic import checkpoints
from metamimic import config

PATIENCE = 240.0  # s; only for how long a failing test hangs
STEPS = 10_000


def _record(file: pathlib.Path) -> None:
  command = [sys.executable, '-m', 'metamimic.record', '--task', 'lift_brick']
  command += ['--output', str(file), '--train', '2', '--valid', '1']
  subprocess.run(command, check=True, cwd=local.CHECKOUT)


def _bind(program: Any) -> list[str]:
  """Gives nodes their addresses, as Launchpad does; returns those of workers."""
  workers = []
  for role, nodes in program.groups.items():
    for index, node in enumerate(nodes):
      node._initialize_context(lp.LaunchType.VERTEX_AI, launch_config=None)
      for handle in node.input_handles:
        handle.connect(node, role)
      node.bind_addresses(cluster=role, instance=index)
      workers.append(f'{role}-{index}')
  return workers


class Run:
  """Processes of one run."""

  def __init__(self, folder: pathlib.Path) -> None:
    demonstrations = folder / 'demonstrations.hdf5'
    _record(demonstrations)
    options = ['--preset', 'tiny', '--learner-steps', str(STEPS)]
    options += ['--demonstrations', str(demonstrations), '--evaluation.videos', '0']
    self.dir, settings = local.parse([*options, '--run-dir', str(folder / 'run')])
    self.dir.mkdir()
    local.prepare(self.dir, settings)
    self._code = folder / 'code'
    vertex.stage(self._code)
    shutil.copy(process_entry.__file__, self._code)
    program = hosted.make_program(self.dir, settings)
    self.workers = _bind(program)
    for role, nodes in program.groups.items():
      functions = [node.function for node in nodes]
      serialization.serialize_functions(
        str(self._code / f'{role}.pkl'), role, functions
      )
    self._claim = loopback.claim_port()  # Until the end, so that nobody else gets it.
    self._server = f'127.0.0.1:{self._claim.getsockname()[1]}'
    self._folder = folder

  def close(self) -> None:
    """Gives up the server's port."""
    self._claim.close()

  def start(self, worker: str) -> 'subprocess.Popen[bytes]':
    """Starts one of `workers`."""
    role, _, index = worker.partition('-')
    spec = {'cluster': {'replay': [self._server]}, 'task': {'index': int(index)}}
    library = loopback.build_library(local.CHECKOUT / 'build', self.dir)
    # What this process has imported has set some.
    env = {
      k: v for k, v in os.environ.items() if not k.startswith(('TF', 'PYTHONPATH'))
    }
    env |= {'CLUSTER_SPEC': json.dumps(spec), 'LD_PRELOAD': str(library)}
    env |= {loopback.HOST_VARIABLE: loopback.HOST}
    command = [sys.executable, '-m', 'process_entry', f'--data_file={role}.pkl']
    with open(self.log(worker), 'wb') as log:
      return subprocess.Popen(
        command, cwd=self._code, env=env, stdout=log, stderr=subprocess.STDOUT
      )

  def log(self, worker: str) -> pathlib.Path:
    """Returns the file with what a worker prints."""
    return self._folder / f'{worker}.log'


@pytest.fixture(name='run', scope='module')
def run_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
  with contextlib.closing(Run(tmp_path_factory.mktemp('hosted'))) as run:
    yield run


def _statuses(processes: dict[str, 'subprocess.Popen[bytes]']) -> dict[str, int | None]:
  """Waits for all, ends those that do not leave, and returns how they left."""
  end = time.monotonic() + PATIENCE
  while time.monotonic() < end and any(p.poll() is None for p in processes.values()):
    time.sleep(0.1)
  statuses = {name: process.poll() for name, process in processes.items()}
  for process in processes.values():
    process.kill()
    process.wait()
  return statuses


def test_run_is_stopped_goes_on_to_its_end_and_all_leave(run: Run) -> None:
  started = {worker: run.start(worker) for worker in run.workers}
  log = run.dir / 'logs' / 'learner-imitation.csv'
  end = time.monotonic() + PATIENCE
  while not log.exists() or not checkpoints.last(run.dir):
    assert time.monotonic() < end, run.log('learner-0').read_text()[-2000:]
    time.sleep(0.1)
  begun = checkpoints.last(run.dir)
  started['learner-0'].terminate()
  assert started['learner-0'].wait(PATIENCE) == entry.STOPPED
  saved = checkpoints.last(run.dir)
  assert begun and saved and saved.number > begun.number
  steps = saved.learner_steps['imitation']
  assert 0 < steps < STEPS
  for process in started.values():
    process.kill()
    process.wait()

  started = {worker: run.start(worker) for worker in run.workers}
  statuses = _statuses(started)
  logs = '\n'.join(run.log(worker).read_text()[-2000:] for worker in run.workers)
  assert statuses == dict.fromkeys(run.workers, 0), logs
  assert f'goes on from step {steps} of' in run.log('learner-0').read_text()
  assert sorted(started) == ['actor-0', 'evaluator-0', 'learner-0', 'replay-0']
  summary = json.loads((run.dir / 'summary.json').read_text())
  assert summary['learner_steps'] == {'imitation': STEPS}
  rows = pd.read_csv(run.dir / 'evaluation.csv')
  arm = config.Config().arm(config.IMITATION)
  last = rows[(rows.arm == arm) & (rows.learner_steps == STEPS)]
  assert set(last.split) == {'train', 'valid'}


def test_node_that_cannot_be_made_leaves_with_its_traceback(run: Run) -> None:
  (run.dir / 'run.json').rename(run.dir / 'elsewhere.json')
  try:
    statuses = _statuses({'learner-0': run.start('learner-0')})
  finally:
    (run.dir / 'elsewhere.json').rename(run.dir / 'run.json')
  assert statuses == {'learner-0': 1}
  assert 'run.json' in run.log('learner-0').read_text()


def test_process_is_not_ended_before_its_node_has_done_its_work(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(hosted, '_PERIOD', 0.01)
  monkeypatch.setattr(hosted, '_FAREWELL', 0.0)
  monkeypatch.setattr(hosted, '_is_saved', lambda run_dir, settings: True)
  left, done = threading.Event(), threading.Event()
  monkeypatch.setattr(hosted.os, '_exit', lambda status: left.set())
  (tmp_path / 'report.html').touch()
  (tmp_path / 'summary.json').write_text('{"learner_steps": {"imitation": 5}}')
  settings = config.Config(learner_steps=5)
  watch = threading.Thread(
    target=hosted._leave_when_over, args=(tmp_path, settings, done)
  )
  watch.start()
  assert not left.wait(0.5)
  done.set()
  assert left.wait(PATIENCE)
  watch.join()


def test_worker_that_fails_leaves_whatever_else_still_runs() -> None:
  program = (
    'import threading, time\n'
    'from launch_configs import hosted\n'
    'threading.Thread(target=time.sleep, args=(1000,)).start()\n'
    'class Worker:\n'
    '  def run(self):\n'
    '    raise ValueError("the brick is gone")\n'
    'hosted.Worker(Worker(), threading.Event(), threading.Event()).run()'
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    capture_output=True,
    text=True,
    cwd=local.CHECKOUT,
    timeout=PATIENCE,
  )
  assert done.returncode == 1
  assert 'ValueError: the brick is gone' in done.stderr
