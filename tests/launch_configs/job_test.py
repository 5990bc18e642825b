from collections.abc import Callable, Iterator
import json
import os
import pathlib
import signal
import subprocess
import sys
import types
from typing import Any

import pytest

from launch_configs import job
from launch_configs import local
from launch_configs import loopback
from launch_configs import run_directory
from launch_configs import slurm
from metamimic import config
from metamimic import notices

FAKE = pathlib.Path(__file__).with_name('fake.py')
ROOT = FAKE.parents[2]
WAIT = {'learner-0': 'wait', 'actor-0': 'wait', 'evaluator-0': 'wait'}
SCONTROL = """#!/bin/sh
echo "$@" >> {calls}
[ "$1" = show ] && echo "JobId=7 JobState=$FAKE_STATE Requeue=1 Restarts=1"
exit 0
"""


class Jobs:
  """Jobs of one run, each a process, with a stand-in for scontrol."""

  def __init__(self, folder: pathlib.Path) -> None:
    self.dir = folder / 'run'
    self._folder = folder
    self._processes: list[subprocess.Popen[str]] = []
    (folder / 'bin').mkdir()
    (folder / 'bin' / 'scontrol').write_text(SCONTROL.format(calls=folder / 'calls'))
    (folder / 'bin' / 'scontrol').chmod(0o755)
    self.dir.mkdir()
    (self.dir / 'logs').mkdir()

  def prepare(self, behaviours: dict[str, str], **changes: Any) -> None:
    """As a submission leaves the run directory."""
    self.behave(behaviours)
    settings = config.Config(
      demonstrations=str(self._folder / 'behaviours.json'),
      learner_steps=600,
      stall_warning=0.3,
      **changes,
    )
    run_directory.save(self.dir, settings)

  def behave(self, behaviours: dict[str, str]) -> None:
    """Gives the nodes that start from now on other behaviours."""
    (self._folder / 'behaviours.json').write_text(json.dumps(behaviours))

  def starts(self) -> list[dict[str, Any]]:
    """Returns the events of the head's nodes being started."""
    lines = (self.dir / 'events.jsonl').read_text().splitlines()
    return [e for e in map(json.loads, lines) if e['event'] == 'start']

  def pids(self) -> dict[str, int]:
    """Returns the process ids of the head's nodes, by name."""
    return {e['node']: e['pid'] for e in self.starts()}

  def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
    """Starts a job."""
    what, which = words
    process = subprocess.Popen(
      [sys.executable, str(FAKE), 'job', what, str(self.dir), which],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      env={
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'PATH': f'{self._folder / "bin"}:{os.environ["PATH"]}',
        'FAKE_HOST': '127.0.0.2',
        **env,
      },
      cwd=self._folder,
    )
    self._processes.append(process)
    return process

  def calls(self) -> list[str]:
    """Returns the calls of scontrol so far."""
    file = self._folder / 'calls'
    return file.read_text().splitlines() if file.exists() else []

  def log(self, node: str) -> str:
    """Returns a node's log."""
    file = self.dir / f'{node}.log'
    return file.read_text() if file.exists() else ''

  def kill(self) -> None:
    """Kills all jobs; their nodes die with them."""
    for process in self._processes:
      process.kill()
      process.communicate()


@pytest.fixture(name='jobs')
def jobs_fixture(tmp_path: pathlib.Path) -> Iterator[Jobs]:
  jobs = Jobs(tmp_path)
  yield jobs
  jobs.kill()


Wait = Callable[[Callable[[], bool]], None]


def _finish(process: subprocess.Popen[str]) -> tuple[int, str]:
  output, _ = process.communicate(timeout=400)
  return process.returncode, output


def test_head_and_actors_end_with_the_run_and_at_once_when_started_again(
  jobs: Jobs, wait_until: Wait
) -> None:
  jobs.prepare({'learner-0': 'wait'})
  # One more than the run began with, and it need not be the next.
  others = [jobs.start('actor', index) for index in ('0', '5')]
  head = jobs.start('head', 'net')
  wait_until(lambda: 'behaviour:' in jobs.log('actor-0'))
  wait_until(lambda: 'behaviour:' in jobs.log('actor-5'))
  jobs.behave({})
  os.kill(jobs.pids()['learner-0'], signal.SIGTERM)
  status, output = _finish(head)
  assert status == 0, output
  assert 'serving at 127.0.0.2, restart 0\n' in output
  assert set(jobs.pids()) == {'replay-0', 'learner-0', 'evaluator-0'}
  for process in others:
    status, output = _finish(process)
    assert status == 0, output
    assert 'starts, with replay at 127.0.0.2:' in output
  # With the "demonstrations" that it began with.
  jobs.behave({'learner-0': 'wait'})
  for words in (('head', 'net'), ('actor', '0')):
    status, output = _finish(jobs.start(*words))
    assert status == 0
    assert f'{jobs.dir} is finished' in output
  assert jobs.log('actor-0').count('behaviour:') == 1


def test_actor_follows_a_head_that_moves_and_is_started_once_for_that(
  jobs: Jobs, wait_until: Wait
) -> None:
  jobs.prepare(WAIT)
  actor = jobs.start('actor', '0')
  head = jobs.start('head', 'net')
  wait_until(lambda: 'behaviour:' in jobs.log('actor-0'))
  before = run_directory.published_address(jobs.dir, 'replay')
  head.kill()
  head.wait()
  jobs.start('head', 'net', FAKE_HOST='127.0.0.3')
  wait_until(lambda: jobs.log('actor-0').count('behaviour:') == 2)
  now = run_directory.published_address(jobs.dir, 'replay')
  assert now is not None and now.startswith('127.0.0.3:')
  assert f'actor-0: replay moved from {before} to {now}\n' in jobs.log('actor-0')
  # Nobody else moved, and the actor stays.
  nodes = sorted(e['node'] for e in jobs.starts())
  assert nodes == sorted(['replay-0', 'learner-0', 'evaluator-0'] * 2)
  actor.send_signal(signal.SIGTERM)
  status, output = _finish(actor)
  assert status == 143
  assert output.count('starts, with replay at') == 2
  assert 'actor 0 left with exit status 75\n' in output


def test_server_that_is_started_again_where_it_was_moves_nobody(
  jobs: Jobs, wait_until: Wait
) -> None:
  jobs.prepare(WAIT)
  actor = jobs.start('actor', '0')
  jobs.start('head', 'net')
  wait_until(lambda: 'behaviour:' in jobs.log('actor-0'))
  address = run_directory.published_address(jobs.dir, 'replay')
  os.kill(jobs.pids()['replay-0'], signal.SIGKILL)
  wait_until(lambda: jobs.log('replay-0').count('behaviour:') == 2)
  assert run_directory.published_address(jobs.dir, 'replay') == address
  actor.send_signal(signal.SIGTERM)
  assert _finish(actor)[1].count('starts, with replay at') == 1


@pytest.mark.parametrize(
  ('variables', 'name'),
  [
    ({'SLURM_JOB_ID': '7'}, '7'),
    (
      {
        'SLURM_JOB_ID': '9',
        'SLURM_ARRAY_JOB_ID': '7',
        'SLURM_ARRAY_TASK_ID': '3',
      },
      '7_3',
    ),
  ],
)
def test_head_that_is_asked_to_leave_before_its_time_is_over_is_queued_again(
  jobs: Jobs, wait_until: Wait, variables: dict[str, str], name: str
) -> None:
  jobs.prepare(WAIT)
  head = jobs.start('head', 'net', FAKE_STATE='RUNNING', **variables)
  wait_until(lambda: 'behaviour:' in jobs.log('learner-0'))
  head.send_signal(signal.SIGTERM)
  status, output = _finish(head)
  assert status == 143
  assert f'asked to leave; job {name} is RUNNING\n' in output
  assert jobs.calls() == [f'show job --oneliner {name}', f'requeue {name}']
  assert not (jobs.dir / 'ended').exists()


def test_head_that_slurm_has_queued_again_ends_nobody(
  jobs: Jobs, wait_until: Wait
) -> None:
  jobs.prepare(WAIT)
  # As after a preemption: scontrol tells of a restart more than the job knows of.
  head = jobs.start('head', 'net', SLURM_JOB_ID='7', FAKE_STATE='COMPLETING')
  wait_until(lambda: 'behaviour:' in jobs.log('learner-0'))
  head.send_signal(signal.SIGTERM)
  assert _finish(head)[0] == 143
  assert jobs.calls() == ['show job --oneliner 7']
  assert not (jobs.dir / 'ended').exists()


def test_cancelled_head_ends_the_actors(jobs: Jobs, wait_until: Wait) -> None:
  jobs.prepare(WAIT)
  actor = jobs.start('actor', '0')
  variables = {'SLURM_JOB_ID': '7', 'SLURM_RESTART_COUNT': '1'}
  variables |= {'FAKE_STATE': 'COMPLETING'}
  head = jobs.start('head', 'net', **variables)
  wait_until(lambda: 'behaviour:' in jobs.log('actor-0'))
  head.send_signal(signal.SIGTERM)
  assert _finish(head)[0] == 143
  assert jobs.calls() == ['show job --oneliner 7']
  status, output = _finish(actor)
  assert status == 0
  assert f'{jobs.dir} was ended: its head was cancelled\n' in output
  # Who submits the run again does away with that.
  jobs.prepare(WAIT)
  actor = jobs.start('actor', '0')
  assert actor.stdout is not None
  next(line for line in actor.stdout if 'waiting for the head of' in line)


def test_cancelled_actor_ends_nobody(jobs: Jobs, wait_until: Wait) -> None:
  jobs.prepare(WAIT)
  variables = {'SLURM_JOB_ID': '7', 'SLURM_RESTART_COUNT': '1'}
  variables |= {'FAKE_STATE': 'COMPLETING'}
  actor = jobs.start('actor', '0', **variables)
  head = jobs.start('head', 'net')
  wait_until(lambda: 'behaviour:' in jobs.log('actor-0'))
  actor.send_signal(signal.SIGTERM)
  assert _finish(actor)[0] == 143
  assert not (jobs.dir / 'ended').exists()
  assert head.poll() is None


def test_failed_head_ends_the_actors(jobs: Jobs) -> None:
  jobs.prepare(WAIT | {'learner-0': 'raise'})
  actor = jobs.start('actor', '0')
  status, output = _finish(jobs.start('head', 'net'))
  assert status == 1
  assert 'the brick is gone' in output
  status, output = _finish(actor)
  assert status == 0
  assert 'was ended: its head failed\n' in output


def test_head_that_is_refused_ends_the_actors(jobs: Jobs) -> None:
  jobs.prepare(WAIT)
  (jobs.dir.parent / 'behaviours.json').write_text('{"other": "wait"}')
  status, output = _finish(jobs.start('head', 'net'))
  assert status == local.REFUSED
  assert 'is not the file that the run in' in output
  status, output = _finish(jobs.start('actor', '0'))
  assert status == 0
  assert 'was ended: its head failed\n' in output


def test_head_that_waits_for_another_one_ends_nobody(
  jobs: Jobs, wait_until: Wait
) -> None:
  jobs.prepare(WAIT)
  first = jobs.start('head', 'net')
  wait_until(lambda: 'behaviour:' in jobs.log('learner-0'))
  second = jobs.start('head', 'net')
  assert second.stdout is not None
  next(line for line in second.stdout if line.startswith('waiting for another'))
  second.send_signal(signal.SIGTERM)
  assert _finish(second)[0] == 143
  assert not (jobs.dir / 'ended').exists()
  assert first.poll() is None


def _keeper(jobs: Jobs) -> job.ActorKeeper:
  settings = config.load(str(jobs.dir / 'config.json'))
  nursery: Any = types.SimpleNamespace(ready=lambda: True)
  return job.ActorKeeper(jobs.dir, settings, 0, [], nursery)


def test_actor_leaves_if_its_head_is_in_the_queue_no_more(
  jobs: Jobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  jobs.prepare(WAIT)
  looks = iter([{'7', '8'}, {'8'}, None, {'8'}, {'8'}, {'8', '9'}])
  monkeypatch.setattr(job, 'PERIOD', 0)
  monkeypatch.setattr(job, '_LOOK_AT_QUEUE', 0)
  monkeypatch.setattr(slurm, 'queued', lambda: next(looks))
  monkeypatch.setattr(slurm, 'job_of', lambda run_dir, name: '7')
  assert _keeper(jobs).run() == 0
  # In three looks one after the other; one that Slurm does not answer is none.
  assert next(looks, 'none are left') == 'none are left'
  said = f'the head of {jobs.dir} is not in the queue any more\n'
  assert capsys.readouterr().out.endswith(said)


def test_run_that_was_submitted_elsewhere_is_waited_for(
  jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
  jobs.prepare(WAIT)
  monkeypatch.setattr(job, '_LOOK_AT_QUEUE', 0)
  monkeypatch.setattr(slurm, 'queued', set)
  queue = job._Queue(jobs.dir)
  assert not any(queue.has_no_head() for _ in range(9))


def test_actor_that_was_done_follows_a_head_that_answers_late(
  jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
  jobs.prepare(WAIT)
  keeper = _keeper(jobs)
  keeper._done, keeper._address = True, '10.0.0.1:5'
  answers = iter([False, True])
  monkeypatch.setattr(loopback, 'answers', lambda address: next(answers))
  run_directory.publish_address(jobs.dir, 'replay', '10.0.0.1:5')
  assert not keeper._can_start()
  run_directory.publish_address(jobs.dir, 'replay', '10.0.0.2:5')
  assert not keeper._can_start()
  assert keeper._can_start()


def test_file_system_that_fails_now_and_then_ends_no_actor(
  jobs: Jobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  jobs.prepare(WAIT)
  monkeypatch.setattr(job, 'PERIOD', 0)
  answers: list[OSError | str] = [OSError(5, 'Input/output error'), 'it is finished']

  def why_over(*unused: Any) -> str:
    answer = answers.pop(0)
    if isinstance(answer, OSError):
      raise answer
    return answer

  monkeypatch.setattr(run_directory, 'why_over', why_over)
  assert _keeper(jobs).run() == 0
  assert 'Input/output error; looking again' in capsys.readouterr().out


def test_second_head_waits_for_the_first(jobs: Jobs, wait_until: Wait) -> None:
  jobs.prepare(WAIT)
  first = jobs.start('head', 'net')
  wait_until(lambda: 'behaviour:' in jobs.log('learner-0'))
  second = jobs.start('head', 'net')
  assert second.stdout is not None
  expected = f'waiting for another launcher of {jobs.dir} to end for '
  next(line for line in second.stdout if line.startswith(expected))
  first.kill()
  first.wait()
  wait_until(lambda: jobs.log('learner-0').count('behaviour:') == 2)


def test_actor_that_fails_at_its_start_is_shown_and_not_started_again(
  jobs: Jobs,
) -> None:
  jobs.prepare(WAIT | {'actor-0': 'raise'})
  jobs.start('head', 'net')
  status, output = _finish(jobs.start('actor', '0'))
  assert status == 1
  assert 'actor 0 left with exit status 1 after ' in output
  assert "actor-0 failed: ValueError('the brick is gone')" in output
  told = (jobs.dir / notices.FILE).read_text()
  assert told.startswith('actor 0 left with exit status 1 after ')
  assert told.endswith(f'; the others go on, see {jobs.dir}/actor-0.log\n')


def test_killed_actor_is_started_again(
  jobs: Jobs, wait_until: Wait, alive: Callable[[int], bool]
) -> None:
  jobs.prepare(WAIT | {'actor-0': 'die'})
  jobs.start('head', 'net')
  actor = jobs.start('actor', '0', FAKE_POLICY='{"restarts": 1}')
  status, output = _finish(actor)
  assert status == 1
  assert 'was ended by SIGKILL (out of memory?); it is started again in 0.1 s' in output
  assert ', 2 times in 600 s; the end of' in output
  assert jobs.log('actor-0').count('behaviour: die') == 2


def test_algorithm_without_actors_is_refused(jobs: Jobs) -> None:
  jobs.prepare({}, algorithm='bc')
  status, output = _finish(jobs.start('actor', '0'))
  assert status == local.REFUSED
  assert output == f'error: {jobs.dir}: the algorithm bc has no actors\n'
