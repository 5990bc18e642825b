"""Tests of saving in turns and together, with a stand-in for the replay server."""

from collections.abc import Callable, Iterator
import contextlib
import errno
import pathlib
import threading
import time
from typing import Any

import pytest
import tensorflow as tf

from agents import checkpointing
from metamimic import checkpoints
from metamimic import drafts
from metamimic import notices

PATIENCE = 60.0  # s; only for how long a failing test hangs.
LAST = {'imitation': 100, 'task': 50}


class _Server:
  """Saves its tables as a Reverb server does, or fails to."""

  def __init__(self, run_dir: pathlib.Path) -> None:
    self._folder = pathlib.Path(drafts.server_folder(run_dir))
    self.saved = 0
    self.fail: Callable[[], object] = lambda: None

  def checkpoint(self) -> str:
    self.fail()
    self.saved += 1
    path = self._folder / str(self.saved)
    path.mkdir(parents=True)
    (path / 'tables').write_text(f'{self.saved}')
    return str(path)

  def server_info(self, timeout: float) -> Any:
    del timeout
    return {}


class _Learner:
  """Its part in saving, and a count of steps."""

  def __init__(
    self,
    run_dir: pathlib.Path,
    server: Any,
    name: str = 'imitation',
    learners: tuple[str, ...] = ('imitation',),
    period: float = 1e6,
    stop: threading.Event | None = None,
  ) -> None:
    self.steps = tf.Variable(0, dtype=tf.int64)
    self.saving = checkpointing.Checkpointer(
      str(run_dir),
      name,
      {learner: LAST[learner] for learner in learners},
      {'steps': self.steps},
      lambda: self.num_steps,
      lambda info: {'imitation': 7},
      server,
      period,
      stop or threading.Event(),
    )

  @property
  def num_steps(self) -> int:
    return int(self.steps.numpy())

  def work(self, steps: int) -> None:
    self.steps.assign(steps)

  def poll(self) -> None:
    """Polls as after a while."""
    self.saving._next_look = 0.0
    self.saving.poll()


def _saved(run_dir: pathlib.Path) -> dict[str, int]:
  found = checkpoints.newest(run_dir)
  return dict(found.learner_steps) if found else {}


def _notices(run_dir: pathlib.Path) -> str:
  file = run_dir / notices.FILE
  return file.read_text() if file.exists() else ''


def _tables(run_dir: pathlib.Path) -> str:
  found = checkpoints.newest(run_dir)
  assert found is not None
  return (found.path / checkpoints.REPLAY / 'tables').read_text()


BOTH = ('imitation', 'task')


def test_learners_are_saved_together_and_neither_waits(tmp_path: pathlib.Path) -> None:
  server = _Server(tmp_path)
  first, second = (_Learner(tmp_path, server, name, BOTH) for name in BOTH)
  first.work(3)
  second.work(4)
  first.poll()
  assert _saved(tmp_path) == {}
  first.work(5)
  second.poll()
  second.work(6)
  assert (_saved(tmp_path), server.saved) == ({}, 0)
  first.poll()
  assert _saved(tmp_path) == {'imitation': 5, 'task': 4}
  assert _tables(tmp_path) == '1'
  # The next one is due a period later, for both.
  first.poll()
  second.poll()
  assert server.saved == 1
  found = checkpoints.newest(tmp_path)
  assert found is not None and dict(found.environment_steps) == {'imitation': 7}
  again = [_Learner(tmp_path, server, name, BOTH) for name in BOTH]
  assert [learner.num_steps for learner in again] == [5, 4]
  again[0].poll()
  assert server.saved == 1


def test_a_learner_that_does_not_answer_costs_the_set_alone(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  server = _Server(tmp_path)
  first = _Learner(tmp_path, server, 'imitation', BOTH, period=1e-9)
  monkeypatch.setattr(checkpointing, '_PATIENCE', 0.05)
  first.poll()
  time.sleep(0.1)
  first.poll()
  assert _saved(tmp_path) == {}
  assert 'set 1 was given up: no answer of the learner task' in _notices(tmp_path)
  # It has been started again.
  second = _Learner(tmp_path, server, 'task', BOTH)
  first.saving._pause = 0.0
  first.poll()
  second.poll()
  first.poll()
  assert _saved(tmp_path) == {'imitation': 0, 'task': 0}


@contextlib.contextmanager
def _unlocked(run_dir: str) -> Iterator[bool]:
  """As `drafts.turn` on a host that does not see the locks of others."""
  (pathlib.Path(run_dir) / 'checkpoints').mkdir(exist_ok=True)
  yield True


def test_set_that_another_host_writes_is_left_to_it(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(drafts, 'turn', _unlocked)
  server = _Server(tmp_path)
  first, second = (_Learner(tmp_path, server, n, BOTH, period=1e-9) for n in BOTH)
  monkeypatch.setattr(drafts.socket, 'gethostname', lambda: 'there')
  first.poll()
  monkeypatch.setattr(drafts.socket, 'gethostname', lambda: 'here')
  first.work(3)

  def save_for_long() -> None:
    # The other's next set is due meanwhile, and it is in this one already.
    for _ in range(3):
      second.poll()

  second.poll()
  server.fail = save_for_long
  first.poll()
  assert _saved(tmp_path) == {'imitation': 3, 'task': 0}
  assert _notices(tmp_path) == ''
  # Nobody completes one whose host was lost, and nobody waits for it for ever.
  first.saving._pause = second.saving._pause = 0.0
  monkeypatch.setattr(drafts.socket, 'gethostname', lambda: 'lost')
  first.poll()
  monkeypatch.setattr(drafts.socket, 'gethostname', lambda: 'here')
  second.poll()
  monkeypatch.setattr(checkpointing, '_LONGEST_SET', 0.0)
  second.saving._pause = 0.0
  second.poll()
  assert second.saving._draft is not None


def test_set_that_was_begun_anew_by_another_is_not_completed_without_it(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(drafts, 'turn', _unlocked)
  server = _Server(tmp_path)
  first, second = (_Learner(tmp_path, server, n, BOTH, period=1e-9) for n in BOTH)
  first.poll()
  second.poll()
  server.fail = lambda: drafts.begin(tmp_path)
  first.poll()
  assert _saved(tmp_path) == {}
  assert 'set 1 was given up: ' in _notices(tmp_path)
  assert '/checkpoints/1.partial has no imitation; ' in _notices(tmp_path)
  server.fail = lambda: None
  first.saving._pause = 0.0
  for learner in (first, second, first):
    learner.poll()
  assert _saved(tmp_path) == {'imitation': 0, 'task': 0}


def test_a_learner_that_was_done_is_taken_from_the_set_before(
  tmp_path: pathlib.Path,
) -> None:
  server = _Server(tmp_path)
  first = _Learner(tmp_path, server, 'imitation', BOTH)
  second = _Learner(tmp_path, server, 'task', BOTH)
  first.work(10)
  second.work(LAST['task'])
  leaving = threading.Thread(target=second.saving.finish)
  leaving.start()
  end = time.monotonic() + PATIENCE
  while leaving.is_alive():
    first.poll()
    assert time.monotonic() < end
  assert _saved(tmp_path) == {'imitation': 10, 'task': LAST['task']}
  first.work(LAST['imitation'])
  first.saving.finish()
  assert _saved(tmp_path) == LAST


def test_both_may_be_done_at_once(tmp_path: pathlib.Path) -> None:
  server = _Server(tmp_path)
  learners = [_Learner(tmp_path, server, name, BOTH) for name in BOTH]
  for learner, steps in zip(learners, LAST.values(), strict=True):
    learner.work(steps)
  threads = [threading.Thread(target=each.saving.finish) for each in learners]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(PATIENCE)
    assert not thread.is_alive()
  assert _saved(tmp_path) == LAST


def test_sets_come_by_the_clock_and_take_a_fiftieth_of_the_time(
  tmp_path: pathlib.Path,
) -> None:
  server = _Server(tmp_path)
  server.fail = lambda: time.sleep(0.2)
  learner = _Learner(tmp_path, server, period=1e-9)
  for steps in (1, 2, 3):
    learner.work(steps)
    learner.poll()
  assert (server.saved, _saved(tmp_path)) == (1, {'imitation': 1})
  assert learner.saving._pause >= 0.2 * 50
  learner.saving._pause = 0.0
  learner.poll()
  assert _saved(tmp_path) == {'imitation': 3}


def test_full_disk_leaves_earlier_sets_and_is_told_with_the_file_and_what_is_free(
  tmp_path: pathlib.Path,
) -> None:
  server = _Server(tmp_path)
  learner = _Learner(tmp_path, server, period=1e-9)
  learner.work(1)
  learner.poll()

  def full() -> None:
    raise IndexError(f'{tmp_path}/chunks.tfrecord; No space left on device')

  server.fail = full
  learner.work(2)
  learner.saving._pause = 0.0
  learner.poll()
  text = _notices(tmp_path)
  assert f'set 2 was given up: {tmp_path}/chunks.tfrecord; No space left' in text
  assert ' MB are free, and earlier sets are as they were' in text
  names = sorted(p.name for p in (tmp_path / 'checkpoints').glob('[0-9]*'))
  assert (names, _saved(tmp_path)) == (['1'], {'imitation': 1})
  server.fail = lambda: None
  learner.saving._pause = 0.0
  learner.poll()
  assert _saved(tmp_path) == {'imitation': 2}


def test_full_disk_while_a_learner_is_written(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  def full(*unused: Any) -> None:
    raise OSError(errno.ENOSPC, 'No space left on device', 'state')

  learner = _Learner(tmp_path, _Server(tmp_path), period=1e-9)
  monkeypatch.setattr(learner.saving._checkpoint, 'write', full)
  learner.poll()
  assert "No space left on device: 'state'" in _notices(tmp_path)
  assert list((tmp_path / 'checkpoints').glob('[0-9]*')) == []


def test_server_that_is_gone_costs_the_set_and_is_not_told_again(
  tmp_path: pathlib.Path,
) -> None:
  server = _Server(tmp_path)

  def gone() -> None:
    raise RuntimeError('connections to all backends failing')

  server.fail = gone
  learner = _Learner(tmp_path, server, period=1e-9)
  learner.poll()
  assert (_saved(tmp_path), _notices(tmp_path)) == ({}, '')


@pytest.mark.parametrize('why', ['slow', 'known to be slow', 'gone'])
def test_stopped_run_has_its_learners_and_the_replay_that_there_is(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
  server, stop, release = _Server(tmp_path), threading.Event(), threading.Event()
  learner = _Learner(tmp_path, server, stop=stop)
  learner.work(1)
  if why == 'known to be slow':
    server.fail = lambda: time.sleep(0.3)
  learner.poll()
  monkeypatch.setattr(checkpointing, '_MOST_STOPPED', 0.25)
  learner.work(2)
  stop.set()

  def gone() -> None:
    raise RuntimeError('connections to all backends failing')

  server.fail = gone if why == 'gone' else lambda: release.wait(PATIENCE)
  learner.saving.finish()
  release.set()
  assert _saved(tmp_path) == {'imitation': 2}
  assert _tables(tmp_path) == '1'
  reason = 'cannot be saved' if why == 'gone' else 'takes too long to save'
  assert f'replay {reason}' in _notices(tmp_path)
  assert f'that of {tmp_path}/checkpoints/1 goes with' in _notices(tmp_path)


def test_stopped_learner_takes_the_state_that_there_is_of_another(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  server, stop = _Server(tmp_path), threading.Event()
  first = _Learner(tmp_path, server, 'imitation', BOTH, stop=stop)
  second = _Learner(tmp_path, server, 'task', BOTH)
  first.poll()
  second.poll()
  first.poll()
  first.work(8)
  stop.set()
  monkeypatch.setattr(checkpointing, '_PATIENCE_STOPPED', 0.1)
  first.saving.finish()
  assert _saved(tmp_path) == {'imitation': 8, 'task': 0}
  assert _tables(tmp_path) == '2'


def test_stopped_before_there_is_anything_ends(tmp_path: pathlib.Path) -> None:
  server, stop = _Server(tmp_path), threading.Event()

  def gone() -> None:
    raise RuntimeError('connections to all backends failing')

  server.fail = gone
  stop.set()
  _Learner(tmp_path, server, stop=stop).saving.finish()
  assert _saved(tmp_path) == {}


def test_last_set_is_tried_until_it_is_there(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  server, failures = _Server(tmp_path), iter([True, True])

  def full_twice() -> None:
    if next(failures, False):
      raise IndexError('chunks.tfrecord; No space left on device')

  server.fail = full_twice
  monkeypatch.setattr(checkpointing, '_MOST_SAVING', 1e6)
  learner = _Learner(tmp_path, server, period=1e-9)
  learner.work(LAST['imitation'])
  learner.saving.finish()
  assert _saved(tmp_path) == {'imitation': LAST['imitation']}
  assert _notices(tmp_path).count('was given up') == 2


def test_state_of_another_learner_is_refused(tmp_path: pathlib.Path) -> None:
  server: Any = _Server(tmp_path)
  _Learner(tmp_path, server).poll()
  with pytest.raises(AssertionError):
    checkpointing.Checkpointer(
      str(tmp_path),
      'imitation',
      {'imitation': LAST['imitation']},
      {'steps': tf.Variable(0, dtype=tf.int64), 'more': tf.Variable(1.0)},
      lambda: 0,
      lambda info: {},
      server,
      1.0,
      threading.Event(),
    )
