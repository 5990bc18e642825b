"""The whole local program, as a user starts it, on a few recorded demonstrations.

One run directory goes through a stop, nodes that are killed, a refusal, a damaged
checkpoint and an end; the tests look at what it left. A second one clones the
demonstrators' actions. A third one learns a task policy, too, and goes through a stop.
A fourth one learns from pictures.
"""

import base64
from collections.abc import Callable, Iterator
import contextlib
import csv
import dataclasses
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import tensorflow as tf

from benchmarks import running
from envs import tasks
import metamimic
from metamimic import checkpoints
from metamimic import drafts
from metamimic import loading
from metamimic import statistics
from metamimic import video
from metamimic.demonstrations import storage
from tests.integration import sockets

ROOT = pathlib.Path(__file__).absolute().parents[2]
PATIENCE = 240.0  # s; only for how long a failing test hangs
ENDLESS = 1_000_000
_UNSENT = 100  # Environment steps: a burst, rows under way, transitions begun.
STEPS = 8000
"""Learner steps of the whole run, at least: enough to be better than its start."""
MORE = 2000
"""Of its last launch, at least, however far a fast machine came before."""
TERMS = ['arm', 'fingers', 'pinch', 'brick']
NODES = {'replay-0', 'learner-0', 'actor-0', 'actor-1', 'evaluator-0'}
KILLED = ['actor-1', 'learner-0', 'evaluator-0', 'replay-0']
BASICS = [
  *('--preset', 'tiny', '--seed', '7'),
  *('--evaluation.episodes', '3', '--evaluation.final-episodes', '3'),
]
SETTINGS = [
  *(*BASICS, '--actor.num-actors', '2'),
  *('--d4pg.policy-learning-rate', '1e-3', '--d4pg.critic-learning-rate', '2e-3'),
]


TASK_STEPS = {'imitation': 4000, 'task': 2000}
"""Learner steps of the run with a task policy, at least."""
START_AFTER = 500  # Transitions, in the tiny preset.
RESET_AT = 0.9975
"""Share of them after which the task policy begins anew."""


@dataclasses.dataclass
class Launch:
  """What one start of the program came to."""

  status: int
  output: str
  pids: dict[str, int]
  """Of its nodes, by name."""
  left: list[str]
  """Processes that outlived the launcher and sockets they listened on."""


@dataclasses.dataclass
class Runs:
  """What all the tests look at."""

  dir: pathlib.Path
  demonstrations: str
  stopped: Launch
  learnt_when_stopped: list[dict[str, str]]
  """Rows of the learner's log then."""
  weights_when_stopped: list[np.ndarray]
  killed: Launch
  """Each role once."""
  saved_when_killed: list[int]
  """Learner's steps in the newest set whenever something was killed."""
  learnt_when_killed: list[dict[str, str]]
  saved_before: int
  """Learner's steps in the set before the one that was damaged."""
  steps: int
  """Learner's in the end."""
  refused: Launch
  done: Launch
  cloning_dir: pathlib.Path
  cloned: Launch


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
  if not path.exists():
    return []
  with open(path, newline='') as f:
    return list(csv.DictReader(f))


def _learnt(run_dir: pathlib.Path, learner: str = 'imitation') -> list[dict[str, str]]:
  return _rows(run_dir / 'logs' / f'learner-{learner}.csv')


def _last(rows: list[dict[str, str]], column: str) -> int:
  return int(rows[-1][column])


def _pids(run_dir: pathlib.Path) -> dict[str, int]:
  """Returns the process ids of the last launch, by the node's name."""
  file = run_dir / 'events.jsonl'
  lines = file.read_text().splitlines() if file.exists() else []
  events = [json.loads(line) for line in lines]
  return {e['node']: e['pid'] for e in events if e['event'] == 'start'}


def _left_over(pids: dict[str, int], port: int | None) -> list[str]:
  found = [
    name
    for name, pid in pids.items()
    if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
  ]
  listening = {
    c.laddr.port
    for c in psutil.net_connections(kind='tcp')
    if c.status == psutil.CONN_LISTEN
  }
  return found + ([f'port {port}'] if port in listening else [])


def _launch(
  run_dir: pathlib.Path,
  *flags: str,
  meanwhile: Callable[[subprocess.Popen[str]], object] = lambda process: None,
) -> Launch:
  """Starts the program, does something meanwhile, and waits for its end."""
  begun = len(_pids(run_dir))
  process = subprocess.Popen(
    [sys.executable, '-m', 'launch_configs.local', '--run-dir', str(run_dir), *flags],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    cwd=ROOT,
  )
  try:
    meanwhile(process)
    address = run_dir / 'addresses' / 'replay'
    port = int(address.read_text().split(':')[1]) if address.exists() else None
    output, _ = process.communicate(timeout=PATIENCE)
  finally:
    # Its nodes die with it.
    process.kill()
    process.wait()
  pids = _pids(run_dir) if begun or run_dir.exists() else {}
  return Launch(process.returncode, output, pids, _left_over(pids, port))


def _wait_for_steps(
  process: subprocess.Popen[str],
  run_dir: pathlib.Path,
  more: int,
  learner: str = 'imitation',
) -> None:
  """Waits until a learner's log has this many rows more, or the program is over."""
  end, have = time.monotonic() + PATIENCE, len(_learnt(run_dir, learner))
  while len(_learnt(run_dir, learner)) < have + more and process.poll() is None:
    assert time.monotonic() < end, 'the learner does not learn'
    time.sleep(0.1)


def _wait_for_evaluation(process: subprocess.Popen[str], run_dir: pathlib.Path) -> None:
  """Waits until the policy has been measured, or the program is over."""
  end, file = time.monotonic() + PATIENCE, run_dir / 'evaluation.csv'
  while process.poll() is None:
    if any(row['arm'] == 'metamimic' for row in _rows(file)):
      return
    assert time.monotonic() < end, 'the policy is not measured'
    time.sleep(0.1)


def _weights(run_dir: pathlib.Path) -> list[np.ndarray]:
  found = checkpoints.newest(run_dir)
  assert found is not None
  checkpoint = loading.state_path(found.path / 'imitation')
  names = [name for name, _ in tf.train.list_variables(checkpoint)]
  return [
    tf.train.load_variable(checkpoint, name)
    for name in sorted(names)
    if name.startswith('policy/') and 'OPTIMIZER' not in name
  ]


def _saved(run_dir: pathlib.Path) -> int:
  """Returns the learner's steps in the newest set; 0: there is none."""
  found = checkpoints.last(run_dir)
  return found.learner_steps['imitation'] if found else 0


def _kill(process: subprocess.Popen[str], run_dir: pathlib.Path, node: str) -> None:
  """Kills a node, and waits until it has been started again."""
  killed = _pids(run_dir)[node]
  os.kill(killed, signal.SIGKILL)
  end = time.monotonic() + PATIENCE
  while _pids(run_dir)[node] == killed and process.poll() is None:
    assert time.monotonic() < end, f'{node} is not started again'
    time.sleep(0.1)


def _damage(run_dir: pathlib.Path) -> int:
  """Cuts the replay in the newest checkpoint set short.

  Returns:
    The learner's steps in the set before.
  """
  found = checkpoints.newest(run_dir)
  assert found is not None
  os.truncate(found.path / checkpoints.REPLAY / 'chunks.tfrecord', 1000)
  before = checkpoints.newest(run_dir, say=lambda text: None)
  assert before is not None and before.path != found.path
  return before.learner_steps['imitation']


@pytest.fixture(name='demonstrations', scope='module')
def demonstrations_fixture(tmp_path_factory: pytest.TempPathFactory) -> str:
  path = str(tmp_path_factory.mktemp('demonstrations') / 'lift.hdf5')
  running.record(path)
  return path


@pytest.fixture(name='runs', scope='module')
def runs_fixture(
  tmp_path_factory: pytest.TempPathFactory, demonstrations: str
) -> Iterator[Runs]:
  folder = tmp_path_factory.mktemp('local')
  run_dir, cloning_dir = folder / 'run', folder / 'cloning'
  settings = [*SETTINGS, '--demonstrations', demonstrations]

  def stop(process: subprocess.Popen[str]) -> None:
    _wait_for_steps(process, run_dir, 2)
    _wait_for_evaluation(process, run_dir)
    process.send_signal(signal.SIGTERM)

  saved: list[int] = []

  def kill_each(process: subprocess.Popen[str]) -> None:
    for node in KILLED:
      _wait_for_steps(process, run_dir, 2)
      saved.append(_saved(run_dir))
      _kill(process, run_dir, node)
    _wait_for_steps(process, run_dir, 2)
    process.send_signal(signal.SIGINT)

  endless = ['--learner-steps', str(ENDLESS)]
  stopped = _launch(run_dir, *settings, *endless, meanwhile=stop)
  learnt_when_stopped = _learnt(run_dir)
  weights_when_stopped = _weights(run_dir)
  killed = _launch(run_dir, *settings, *endless, meanwhile=kill_each)
  learnt_when_killed = _learnt(run_dir)
  refused = _launch(run_dir, '--d4pg.n-step', '2', '--actor.sigma', '0.5')
  saved_before = _damage(run_dir)
  steps = max(STEPS, saved_before + MORE)
  done = _launch(run_dir, *settings, '--learner-steps', str(steps))
  cloned = _launch(
    cloning_dir,
    *(*BASICS, '--demonstrations', demonstrations, '--evaluation.videos', '0'),
    *('--algorithm', 'bc', '--learner-steps', '2000'),
  )
  yield Runs(
    run_dir,
    demonstrations,
    stopped,
    learnt_when_stopped,
    weights_when_stopped,
    killed,
    saved,
    learnt_when_killed,
    saved_before,
    steps,
    refused,
    done,
    cloning_dir,
    cloned,
  )


def test_terminated_run_says_that_it_can_go_on(runs: Runs) -> None:
  assert runs.stopped.status == 143
  assert set(runs.stopped.pids) == NODES
  assert 'the same command goes on from the last checkpoint' in runs.stopped.output
  assert runs.stopped.left == []


def test_killed_nodes_are_started_again_and_the_run_goes_on(runs: Runs) -> None:
  assert runs.killed.status == 130, runs.killed.output
  for node in KILLED:
    assert (
      f'{node} was ended by SIGKILL (out of memory?); it is started again in 0.5 s '
      '(1 of 5)\n'
    ) in runs.killed.output
  assert runs.killed.left == []


def test_no_learner_step_of_a_set_was_lost(runs: Runs) -> None:
  log = (runs.dir / 'learner-0.log').read_text()
  begun = [int(words) for words in re.findall(r'goes on from step (\d+) of ', log)]
  # When it was killed, and in each further launch.
  assert len(begun) == 3
  assert begun[1] >= runs.saved_when_killed[KILLED.index('learner-0')] > begun[0] > 0
  steps = [int(row['learner_steps']) for row in runs.learnt_when_killed]
  assert all(
    after >= min(before, begun[1]) for before, after in itertools.pairwise(steps)
  )
  # The newest set was damaged, and the one before was taken.
  assert begun[2] == runs.saved_before > 0


def test_damaged_set_is_named_and_the_one_before_is_taken(runs: Runs) -> None:
  (line,) = [x for x in runs.done.output.splitlines() if '; skipped for ' in x]
  assert line.startswith(f'{runs.dir}/checkpoints/')
  assert '/replay/chunks.tfrecord has 1,000 bytes instead of the ' in line


def test_other_configuration_is_refused_with_the_difference(runs: Runs) -> None:
  assert runs.refused.status == 2
  assert '  d4pg.n_step: 3 -> 2\n  actor.sigma: 0.05 -> 0.5\n' in runs.refused.output
  assert runs.refused.pids == runs.killed.pids


def test_resumed_run_ends_with_status_0_and_leaves_nothing(runs: Runs) -> None:
  assert runs.done.status == 0, runs.done.output
  assert f'learner {runs.steps:,}/{runs.steps:,}' in runs.done.output
  assert runs.done.left == []
  summary = json.loads((runs.dir / 'summary.json').read_text())
  assert summary['learner_steps'] == {'imitation': runs.steps}


def test_learner_went_on_from_its_checkpoint_with_its_replay(runs: Runs) -> None:
  rows = _learnt(runs.dir)
  assert _last(rows, 'learner_steps') == runs.steps
  last = runs.learnt_when_stopped[-1]
  following = rows[len(runs.learnt_when_stopped)]
  for column in ('learner_steps', 'replay_size', 'environment_steps'):
    assert 0 < int(last[column]) <= int(following[column])
  log = (runs.dir / 'learner-0.log').read_text()
  assert 'Traceback' not in log


def test_every_actor_wrote_to_replay(runs: Runs) -> None:
  written = 0
  for index in range(2):
    rows = _rows(runs.dir / 'logs' / f'actor-{index}.csv')
    for column in ('environment_steps', 'episodes'):
      counts = [int(row[column]) for row in rows]
      assert 0 < counts[-1]
      assert counts == sorted(counts)  # Over launches and restarts.
    assert [c for c in rows[0] if c.startswith('reward/')] == [
      f'reward/{term}' for term in TERMS
    ]
    assert all(0 <= float(row['reward']) <= 1 for row in rows)
    written += int(rows[-1]['environment_steps'])
  # What a killed server had not saved is lost, and so is what came after a set that was
  # damaged; what an actor did in its last seconds it had not logged when it was killed.
  assert 0 < _last(_learnt(runs.dir), 'environment_steps') < 1.1 * written


def test_policy_moved_and_can_act_without_a_server(runs: Runs) -> None:
  after = _weights(runs.dir)
  assert len(after) == len(runs.weights_when_stopped) > 0
  moved = [
    np.abs(a - b).max() for a, b in zip(after, runs.weights_when_stopped, strict=True)
  ]
  assert min(moved) > 1e-4
  demonstration = storage.load(runs.demonstrations).split('valid')[0]
  follow = metamimic.load(str(runs.dir)).watch(demonstration)
  action = follow({g: v[0] for g, v in demonstration.observations.items()}, 0)
  assert (action.shape, action.dtype) == ((9,), np.float32)
  assert 0 < np.abs(action).max() <= 1


def test_evaluation_has_a_row_an_episode_for_every_arm(runs: Runs) -> None:
  table = pd.read_csv(runs.dir / 'evaluation.csv')
  assert list(table) == [
    *('seed', 'learner_steps', 'arm', 'demonstration', 'skill', 'split', 'steps'),
    *('completed', 'success', 'solved'),
    *(f'reward/{term}' for term in TERMS),
    *('total', 'return'),
  ]
  controls = table[table.arm.isin(['replay', 'tracker', 'zero'])]
  # Measured once, however often the run was started.
  assert controls.groupby(['arm', 'split']).size().to_dict() == {
    (arm, split): 3
    for arm in ('replay', 'tracker', 'zero')
    for split in ('train', 'valid')
  }
  final = table[table.learner_steps == runs.steps]
  assert final.groupby(['arm', 'split']).size().to_dict() == {
    ('metamimic', 'train'): 3,
    ('metamimic', 'valid'): 3,
    ('wrong_demonstration', 'valid'): 3,
    ('no_demonstration', 'valid'): 3,
  }
  assert set(table.seed) == {7}
  names = {('train', f'demo_{i}') for i in range(3)}
  names |= {('valid', f'demo_{i}') for i in range(6, 9)}
  assert set(zip(table.split, table.demonstration, strict=True)) == names
  means = table.groupby('arm').total.mean()
  assert means['replay'] == pytest.approx(1, abs=1e-4)
  assert means['zero'] < 0.5 < 0.8 < means['tracker'] < 1


def test_policy_beats_its_own_start(runs: Runs) -> None:
  table = pd.read_csv(runs.dir / 'evaluation.csv')
  held_out = table[(table.arm == 'metamimic') & (table.split == 'valid')]
  means = held_out.groupby('learner_steps').total.mean()
  assert means.index[0] == 0
  assert means[runs.steps] > means[0] + 0.05


def test_videos_open_and_the_report_shows_them(runs: Runs) -> None:
  videos = sorted((runs.dir / 'videos').iterdir())
  assert [v.name for v in videos] == ['demo_6.mp4']
  frames = video.frames(videos[0])
  demonstration = storage.load(runs.demonstrations).split('valid')[0]
  assert len(frames) == demonstration.num_steps + 1
  # Two pictures side by side, in which something moves.
  assert frames.shape[2] > 2 * frames.shape[1] * 0.9
  assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1
  report = (runs.dir / 'report.html').read_text()
  content = base64.b64encode(videos[0].read_bytes()).decode()
  assert f'src="data:video/mp4;base64,{content}"' in report
  assert all(term in report for term in TERMS)


def test_cloning_runs_in_one_go_and_is_evaluated_alike(runs: Runs) -> None:
  assert runs.cloned.status == 0, runs.cloned.output
  assert set(runs.cloned.pids) == {'replay-0', 'learner-0', 'evaluator-0'}
  assert runs.cloned.left == []
  table = pd.read_csv(runs.cloning_dir / 'evaluation.csv')
  misguided = {'wrong_demonstration', 'no_demonstration'}
  assert set(table.arm) == {'bc', 'replay', 'tracker', 'zero', *misguided}
  held_out = table[table.split == 'valid'].groupby(['arm', 'learner_steps']).total
  means = held_out.mean()
  assert means['bc', 2000] > means['zero', 0] + 0.1
  assert (runs.cloning_dir / 'report.html').exists()


def test_a_learner_that_dies_before_its_end_is_saved_comes_to_it_again(
  tmp_path: pathlib.Path, demonstrations: str
) -> None:
  run_dir, steps = tmp_path / 'run', 4000
  saved: list[int] = []
  acted: list[bool] = []

  def kill_at_the_end(process: subprocess.Popen[str]) -> None:
    _wait_for_steps(process, run_dir, 1)
    with contextlib.ExitStack() as stack:
      # While this one writes a set, nobody else does.
      while not stack.enter_context(drafts.turn(run_dir)) or not _saved(run_dir):
        stack.close()
        assert process.poll() is None
        time.sleep(0.05)
      while _last(_learnt(run_dir), 'learner_steps') < steps and process.poll() is None:
        time.sleep(0.1)
      saved.append(_saved(run_dir))
      time.sleep(2.0)  # For those who act, to learn of its end.
      _kill(process, run_dir, 'learner-0')
      acted.append(psutil.pid_exists(_pids(run_dir)['actor-0']))

  settings = ['--preset', 'tiny', '--evaluation.videos', '0']
  done = _launch(
    run_dir,
    *(*settings, '--demonstrations', demonstrations, '--learner-steps', str(steps)),
    meanwhile=kill_at_the_end,
  )
  assert done.status == 0 and done.left == [], done.output
  # It had experience to learn from, though its actor had nothing more to do before.
  assert saved[0] < steps and acted == [True]
  assert _saved(run_dir) == steps
  evaluated = pd.read_csv(run_dir / 'evaluation.csv')
  assert evaluated[evaluated.arm == 'metamimic'].learner_steps.max() == steps


def test_d4pgfd_goes_on_though_replay_and_its_demonstrations_are_lost(
  tmp_path: pathlib.Path, demonstrations: str
) -> None:
  run_dir = tmp_path / 'run'

  def kill_replay(process: subprocess.Popen[str]) -> None:
    _wait_for_steps(process, run_dir, 1, 'task')
    saved = checkpoints.last(run_dir)
    if saved:
      shutil.rmtree(saved.path)  # A new server is to begin with nothing.
    _kill(process, run_dir, 'replay-0')

  done = _launch(
    run_dir,
    *('--preset', 'tiny', '--demonstrations', demonstrations, '--algorithm', 'd4pgfd'),
    *('--checkpoint-period', '100000', '--evaluation.videos', '0'),
    *('--task.learner-steps', '4000'),
    meanwhile=kill_replay,
  )
  assert done.status == 0 and done.left == [], done.output
  assert 'replay-0 was ended by SIGKILL' in done.output
  assert _last(_learnt(run_dir, 'task'), 'learner_steps') == 4000
  evaluated = statistics.last(pd.read_csv(run_dir / 'evaluation.csv'))
  assert set(evaluated.arm) == {'d4pgfd', 'replay', 'tracker', 'zero'}


@dataclasses.dataclass
class TaskRun:
  """A run that learns a task policy beside the policy that imitates."""

  dir: pathlib.Path
  stopped: Launch
  learnt_when_stopped: dict[str, list[dict[str, str]]]
  """Rows of each learner's log then."""
  steps: dict[str, int]
  """Of each learner in the end."""
  reset_after: int
  """Learner steps of the task policy after which it begins anew; in no whole call."""
  done: Launch
  reachable: set[sockets.Socket]
  """By what its processes could be reached, from the second launch to its end."""


@pytest.fixture(name='task_run', scope='module')
def task_run_fixture(
  tmp_path_factory: pytest.TempPathFactory, demonstrations: str
) -> TaskRun:
  run_dir = tmp_path_factory.mktemp('local') / 'task'

  def stop(process: subprocess.Popen[str]) -> None:
    for learner in TASK_STEPS:
      _wait_for_steps(process, run_dir, 1, learner)
    process.send_signal(signal.SIGTERM)

  def launch(steps: dict[str, int], **meanwhile: Any) -> Launch:
    return _launch(
      run_dir,
      *('--preset', 'tiny', '--demonstrations', demonstrations, '--task.learn'),
      *('--learner-steps', str(steps['imitation'])),
      *('--task.learner-steps', str(steps['task'])),
      *('--task.d4pg.reset-at', str(RESET_AT)),
      **meanwhile,
    )

  reachable: set[sockets.Socket] = set()

  def watch(process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
      reachable.update(sockets.reachable(psutil.Process(process.pid)))
      time.sleep(0.2)

  stopped = launch(dict.fromkeys(TASK_STEPS, ENDLESS), meanwhile=stop)
  learnt = {learner: _learnt(run_dir, learner) for learner in TASK_STEPS}
  steps = {
    learner: max(least, _last(learnt[learner], 'learner_steps') + MORE // 2)
    for learner, least in TASK_STEPS.items()
  }
  while not round(RESET_AT * steps['task']) % 10:
    steps['task'] += 1
  reset_after = round(RESET_AT * steps['task'])
  done = launch(steps, meanwhile=watch)
  return TaskRun(run_dir, stopped, learnt, steps, reset_after, done, reachable)


def test_one_port_of_loopback_is_all_there_is(task_run: TaskRun) -> None:
  address = (task_run.dir / 'addresses' / 'replay').read_text()
  host, port = address.split(':')
  assert host == '127.0.0.1'
  server = task_run.done.pids['replay-0']
  assert {s._replace(host='') for s in task_run.reachable} == {
    sockets.Socket(server, 'tcp', '', int(port))
  }
  assert {s.host for s in task_run.reachable} <= {'127.0.0.1', '::ffff:127.0.0.1'}


def test_both_learners_go_on_to_their_last_step(task_run: TaskRun) -> None:
  assert task_run.stopped.status == 143, task_run.stopped.output
  assert task_run.done.status == 0, task_run.done.output
  nodes = {'replay-0', 'learner-0', 'learner-1', 'actor-0', 'actor-1', 'evaluator-0'}
  for launch in (task_run.stopped, task_run.done):
    assert set(launch.pids) == nodes
    assert launch.left == []
  summary = json.loads((task_run.dir / 'summary.json').read_text())
  assert summary['learner_steps'] == task_run.steps
  for learner, last in task_run.steps.items():
    rows, before = _learnt(task_run.dir, learner), task_run.learnt_when_stopped[learner]
    assert _last(rows, 'learner_steps') == last
    following = rows[len(before)]
    assert 0 < _last(before, 'learner_steps') < int(following['learner_steps'])
    assert _last(before, 'replay_size') <= int(following['replay_size'])
  imitator = metamimic.load(str(task_run.dir))
  assert imitator.learner_steps == task_run.steps['imitation']
  solver = metamimic.load_task(str(task_run.dir))
  assert solver.learner_steps == task_run.steps['task']


def test_task_learner_begins_anew_once(task_run: TaskRun) -> None:
  log = (task_run.dir / 'learner-1.log').read_text()
  assert log.count(f'learning begins anew after {task_run.reset_after} steps') == 1
  assert 'begins anew' not in (task_run.dir / 'learner-0.log').read_text()
  told = f'the learner of task begins anew after {task_run.reset_after} steps'
  assert told in task_run.done.output
  assert '>begins anew</text>' in (task_run.dir / 'report.html').read_text()


def test_task_learner_has_what_both_kinds_of_actors_wrote(task_run: TaskRun) -> None:
  summary = json.loads((task_run.dir / 'summary.json').read_text())
  written = summary['environment_steps']
  assert set(written) == set(TASK_STEPS)
  assert all(count > 0 for count in written.values())
  sampled = _last(_learnt(task_run.dir, 'task'), 'environment_steps')
  assert START_AFTER <= sampled - written['task'] <= written['imitation']
  imitating, solving = (
    _rows(task_run.dir / 'logs' / f'actor-{index}.csv') for index in range(2)
  )
  assert {'reward', 'completed'} < set(imitating[0]) and 'success' not in imitating[0]
  assert {'success', 'episode_steps', 'return'} < set(
    solving[0]
  ) and 'reward' not in solving[0]
  assert 0 < _last(solving, 'environment_steps') <= written['task'] + _UNSENT


def test_task_policy_is_evaluated_beside_the_other(task_run: TaskRun) -> None:
  table = pd.read_csv(task_run.dir / 'evaluation.csv')
  final = statistics.last(table)
  held_out = final[final.split == 'valid'].groupby('arm')
  misguided = {'wrong_demonstration', 'no_demonstration'}
  arms = {'metamimic', 'task_policy', 'replay', 'tracker', 'zero', *misguided}
  assert held_out.size().to_dict() == dict.fromkeys(arms, 3)
  rows = table[table.arm == 'task_policy']
  assert rows.learner_steps.max() == task_run.steps['task']
  assert rows[['completed', 'total', 'reward/arm']].isna().all(axis=None)
  assert (rows.solved.notna() == rows.success.eq(1)).all()
  assert (rows['return'] == rows.success).all()
  assert (rows.solved.fillna(300) == rows.steps).all()
  shown = table[table.arm == 'replay']
  assert ((0 < shown.solved) & (shown.solved <= shown.steps)).all()


def test_both_policies_are_drawn_and_reported(task_run: TaskRun) -> None:
  videos = sorted((task_run.dir / 'videos').iterdir())
  assert [v.name for v in videos] == ['demo_6-task_policy.mp4', 'demo_6.mp4']
  report = (task_run.dir / 'report.html').read_text()
  for path in videos:
    assert len(video.frames(path)) > 1
    content = base64.b64encode(path.read_bytes()).decode()
    assert f'src="data:video/mp4;base64,{content}"' in report
  assert 'Shown nothing, the task policy solves the task from' in report


@dataclasses.dataclass
class SeeingRun:
  """A run from pictures."""

  dir: pathlib.Path
  demonstrations: str
  done: Launch


SEEING_STEPS = 200


@pytest.fixture(name='seeing_run', scope='module')
def seeing_run_fixture(
  tmp_path_factory: pytest.TempPathFactory, demonstrations: str
) -> SeeingRun:
  run_dir = tmp_path_factory.mktemp('local') / 'seeing'
  done = _launch(
    run_dir,
    *('--preset', 'tiny', '--demonstrations', demonstrations),
    *('--pixels.cameras', 'front', '--pixels.size', '32'),
    *('--learner-steps', str(SEEING_STEPS), '--evaluation.episodes', '1'),
    *('--evaluation.final-episodes', '1'),
  )
  return SeeingRun(run_dir, demonstrations, done)


def test_a_run_from_pictures_draws_them_and_learns_to_its_end(
  seeing_run: SeeingRun,
) -> None:
  assert seeing_run.done.status == 0, seeing_run.done.output
  assert set(seeing_run.done.pids) == {
    *('replay-0', 'learner-0', 'actor-0', 'evaluator-0')
  }
  assert seeing_run.done.left == []
  (drawn,) = pathlib.Path(f'{seeing_run.demonstrations}.frames').iterdir()
  shown = storage.load(seeing_run.demonstrations).demonstrations
  pictures = np.load(drawn, mmap_mode='r')
  assert pictures.shape == (sum(d.num_steps + 1 for d in shown), 32, 32, 3)
  about = json.loads((seeing_run.dir / 'run.json').read_text())
  assert about['frames'] == {'pixels/front': str(drawn)}
  rows = _learnt(seeing_run.dir)
  assert _last(rows, 'learner_steps') == SEEING_STEPS
  assert all(np.isfinite(float(row['critic_loss'])) for row in rows)
  written = json.loads((seeing_run.dir / 'summary.json').read_text())
  assert written['environment_steps']['imitation'] >= 200  # Of the tiny preset.


def test_what_learns_from_pictures_is_measured_as_everything_else(
  seeing_run: SeeingRun,
) -> None:
  (acted,) = [_rows(seeing_run.dir / 'logs' / 'actor-0.csv')[-1:]]
  given = {column for row in acted for column in row if column.startswith('reward/')}
  terms = ('arm', 'fingers', 'pinch', 'picture', 'colour')
  assert given == {f'reward/{term}' for term in terms}
  table = pd.read_csv(seeing_run.dir / 'evaluation.csv')
  found = [column for column in table if column.startswith('reward/')]
  assert found == [f'reward/{term}' for term in TERMS]
  final = table[table.learner_steps == SEEING_STEPS]
  arms = {'metamimic', 'wrong_demonstration', 'no_demonstration'}
  assert set(final[final.split == 'valid'].arm) == arms
  assert final.total.between(0, 1).all()


def test_a_policy_that_sees_can_act_without_a_server(seeing_run: SeeingRun) -> None:
  (shown,) = storage.load(seeing_run.demonstrations).split('valid')[:1]
  imitator = metamimic.load(str(seeing_run.dir))
  assert imitator.learner_steps == SEEING_STEPS
  environment = tasks.load('lift_brick', 0, imitator.policy.layout.pictures)
  observation = environment.set_state(shown.states[3])
  action = imitator.watch(shown)(observation, 3)
  assert (action.shape, action.dtype) == ((9,), np.float32)
  assert 0 < np.abs(action).max() <= 1
  (video_file,) = (seeing_run.dir / 'videos').iterdir()
  assert len(video.frames(video_file)) > 1
