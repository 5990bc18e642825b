"""Tests of metamimic.record."""

from collections.abc import Callable
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from metamimic import record
from metamimic.demonstrations import storage

_PATIENCE = 60.0  # s; only for how long a failing test hangs


def _arguments(path: str, **changes: object) -> record.Arguments:
  values: dict = dict(
    task='reach_duplo', output=path, train=2, valid=1, seed=4, processes=1
  )
  return record.Arguments(**(values | changes))


def test_records_a_file(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  path = str(tmp_path / 'data' / 'reach.hdf5')
  record.main(_arguments(path))
  found = storage.load(path, with_actions=True)
  assert (found.task, found.train, found.valid) == ('reach_duplo', (0, 1), (2,))
  assert all(d.success for d in found.demonstrations)
  assert os.listdir(tmp_path / 'data') == ['reach.hdf5']
  output = capsys.readouterr().out
  assert 'kept 3 of 3 attempts in ' in output
  assert f'{path}: reach_duplo, 2 train + 1 valid, ' in output


def test_records_the_skills_asked_for(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  path = str(tmp_path / 'two.hdf5')
  record.main(
    _arguments(path, task='two_bricks', skills=('reach', 'lift_top'), train=3)
  )
  found = storage.load(path)
  assert [d.skill for d in found.split('train')] == ['reach', 'lift_top', 'reach']
  assert [d.skill for d in found.split('valid')] == ['reach']
  output = capsys.readouterr().out
  assert '  reach: kept 3, rejected ' in output
  assert '  lift_top: kept 1, rejected ' in output


def test_does_not_overwrite_unless_told(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'reach.hdf5'
  path.write_text('precious')
  with pytest.raises(FileExistsError) as e:
    record.main(_arguments(str(path)))
  assert str(e.value) == (
    f'{path}: it is there already; expected a new file, or --overwrite'
  )
  assert path.read_text() == 'precious'
  record.main(_arguments(str(path), train=1, valid=0, overwrite=True))
  assert storage.load(str(path)).train == (0,)


def _session(leader: int) -> list[int]:
  """Returns the processes of a session that run."""
  found = []
  for entry in os.listdir('/proc'):
    if entry.isdigit():
      try:
        stat = pathlib.Path('/proc', entry, 'stat').read_text()
      except (FileNotFoundError, ProcessLookupError):
        continue
      state, _, _, session = stat.rpartition(')')[2].split()[:4]
      if int(session) == leader and state != 'Z':
        found.append(int(entry))
  return found


def _start(folder: pathlib.Path) -> subprocess.Popen[str]:
  """Starts a recording that would take hours, with two workers that are there."""
  process = subprocess.Popen(
    [
      sys.executable,
      '-m',
      'metamimic.record',
      '--task',
      'reach_duplo',
      '--output',
      str(folder / 'reach.hdf5'),
      '--train',
      '50000',
      '--processes',
      '2',
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  # This process, multiprocessing's resource tracker and the workers.
  _wait_for(lambda: len(_session(process.pid)) >= 4)
  return process


def _wait_for(condition: Callable[[], bool]) -> None:
  deadline = time.monotonic() + _PATIENCE
  while not condition():
    assert time.monotonic() < deadline, 'waited in vain'
    time.sleep(0.1)


@pytest.mark.parametrize(
  'number, to_all, status',
  [
    (signal.SIGINT, True, 1),  # Ctrl-C reaches every process of the terminal
    (signal.SIGTERM, False, 143),
  ],
)
def test_stopping_leaves_no_process_and_no_file(
  tmp_path: pathlib.Path, number: signal.Signals, to_all: bool, status: int
) -> None:
  process = _start(tmp_path)
  if to_all:
    os.killpg(process.pid, number)
  else:
    process.send_signal(number)
  _, errors = process.communicate(timeout=_PATIENCE)
  assert process.returncode == status
  assert 'Traceback' not in errors
  if number == signal.SIGINT:
    assert errors.splitlines()[-1] == 'stopped; nothing was written'
  _wait_for(lambda: not _session(process.pid))
  assert os.listdir(tmp_path) == []


def test_workers_do_not_outlive_a_killed_recorder(tmp_path: pathlib.Path) -> None:
  process = _start(tmp_path)
  process.kill()
  process.communicate(timeout=_PATIENCE)
  _wait_for(lambda: not _session(process.pid))
  assert not _session(process.pid)


def test_a_worker_that_is_killed_is_told_of_in_a_line(tmp_path: pathlib.Path) -> None:
  process = _start(tmp_path)

  def workers() -> list[int]:
    names = {pid: pathlib.Path(f'/proc/{pid}/cmdline') for pid in _session(process.pid)}
    return [pid for pid, name in names.items() if b'spawn_main' in name.read_bytes()]

  _wait_for(lambda: len(workers()) == 2)
  os.kill(workers()[0], signal.SIGKILL)
  _, errors = process.communicate(timeout=_PATIENCE)
  assert process.returncode == 1
  assert 'Traceback' not in errors
  assert errors.splitlines()[-1].startswith(
    'error: a recording process was killed (out of memory?); nothing was written.'
  )
  _wait_for(lambda: not _session(process.pid))
  assert os.listdir(tmp_path) == []


def test_a_system_that_does_not_tell_the_cores_of_a_process(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.delattr('os.sched_getaffinity')
  assert record.Arguments('reach_duplo', 'a.hdf5').processes == os.cpu_count()


@pytest.mark.parametrize(
  'arguments, message',
  [
    (
      ('--task', 'juggle'),
      "error: no expert for task 'juggle'; there are those of ['lift_brick', "
      "'reach_duplo', 'stack_2_bricks', 'two_bricks']",
    ),
    (
      ('--task', 'two_bricks', '--skills', 'stack', 'juggle'),
      "error: two_bricks has no skill 'juggle'; there are ['reach', 'push', "
      "'lift_top', 'lift_base', 'beside', 'unstack', 'wave', 'stack']",
    ),
  ],
)
def test_command_line_names_what_is_wrong(
  tmp_path: pathlib.Path, arguments: tuple[str, ...], message: str
) -> None:
  output = str(tmp_path / 'a.hdf5')
  done = subprocess.run(
    [sys.executable, '-m', 'metamimic.record', *arguments, '--output', output],
    capture_output=True,
    text=True,
    timeout=_PATIENCE,
  )
  assert done.returncode == 1
  assert done.stderr.splitlines()[-1] == message
  assert os.listdir(tmp_path) == []
