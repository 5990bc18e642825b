import errno
import fcntl
import json
import os
import pathlib

import pytest

from metamimic import checkpoints
from metamimic import drafts
from tests.metamimic import checkpoint_sets


def test_the_last_two_are_kept(tmp_path: pathlib.Path) -> None:
  for steps in range(1, 5):
    checkpoint_sets.save(tmp_path, steps)
  assert checkpoint_sets.names(tmp_path) == ['3', '4']
  assert checkpoint_sets.steps(checkpoints.newest(tmp_path)) == 4


def test_beside_sets_with_the_same_files_one_is_kept_that_has_others(
  tmp_path: pathlib.Path,
) -> None:
  first, source = checkpoint_sets.save(tmp_path, 1), checkpoint_sets.save(tmp_path, 2)
  for steps in range(3, 6):
    with drafts.turn(tmp_path):
      draft = drafts.begin(tmp_path)
    draft.add_learner('imitation', steps, lambda f: (f / 'state').touch())
    draft.link(checkpoints.REPLAY, source)
    source = draft.complete({'imitation': 5}, lambda: 0.25, 0.125)
  # The second has the replay of the last two, the first has its own.
  assert checkpoint_sets.names(tmp_path) == ['1', '4', '5']
  os.truncate(source.path / 'replay' / 'tables', 1)
  assert checkpoints.recover(tmp_path, say=lambda text: None) == first
  for steps in (6, 7):
    checkpoint_sets.save(tmp_path, steps)
  assert checkpoint_sets.names(tmp_path) == ['6', '7']


def test_a_part_is_there_when_it_is_whole(tmp_path: pathlib.Path) -> None:
  with drafts.turn(tmp_path):
    draft = drafts.begin(tmp_path)

  def fail(folder: pathlib.Path) -> None:
    (folder / 'state').touch()
    raise OSError('the disk is full')

  with pytest.raises(OSError, match='the disk is full'):
    draft.add('imitation', fail)
  assert not draft.has('imitation')
  draft.add('imitation', lambda f: (f / 'state').touch())
  assert draft.has('imitation')
  draft.abandon()
  assert checkpoint_sets.names(tmp_path) == []


def test_it_is_the_turn_of_one_at_a_time(tmp_path: pathlib.Path) -> None:
  with drafts.turn(tmp_path) as first:
    with drafts.turn(tmp_path) as second:
      assert (first, second) == (True, False)
  with drafts.turn(tmp_path) as third:
    assert third


def test_the_lock_is_that_of_a_file_open_for_writing(tmp_path: pathlib.Path) -> None:
  # Of a directory, or of a file open for reading alone, NFS tells no other host.
  with drafts.turn(tmp_path):
    with open(tmp_path / 'checkpoints' / 'lock', 'r+') as lock:
      with pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (opened,) = (
      pathlib.Path('/proc/self/fdinfo', fd).read_text()
      for fd in os.listdir('/proc/self/fd')
      if os.path.realpath(f'/proc/self/fd/{fd}').endswith('/checkpoints/lock')
    )
  flags = next(line for line in opened.splitlines() if line.startswith('flags'))
  assert int(flags.split()[1], 8) & os.O_ACCMODE == os.O_RDWR


def test_set_without_a_part_that_it_has_to_have_is_not_completed(
  tmp_path: pathlib.Path,
) -> None:
  parts = ('imitation', 'task', checkpoints.REPLAY)
  with drafts.turn(tmp_path):
    draft = drafts.begin(tmp_path, parts)
  draft.add_learner('imitation', 1, lambda f: (f / 'state').touch())
  draft.add(checkpoints.REPLAY, lambda f: (f / 'tables').touch())
  with pytest.raises(checkpoints.DamagedError, match=r'1\.partial has no task$'):
    draft.complete({}, lambda: 0.0, 0.0)
  assert checkpoint_sets.names(tmp_path) == ['1.partial']
  draft.add_learner('task', 1, lambda f: (f / 'state').touch())
  assert draft.complete({}, lambda: 0.0, 0.0).learner_steps == {
    'imitation': 1,
    'task': 1,
  }


def test_what_has_a_sets_name_outlives_a_loss_of_power(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  synced: list[str] = []
  fsync = os.fsync

  def watched(descriptor: int) -> None:
    path = pathlib.Path(os.path.realpath(f'/proc/self/fd/{descriptor}'))
    synced.append(str(path.relative_to(tmp_path / 'checkpoints')))
    fsync(descriptor)

  monkeypatch.setattr(os, 'fsync', watched)
  saved = checkpoint_sets.save(tmp_path, 1)
  whole = {name.replace('.partial', '') for name in synced}
  assert {f'1/{name}' for name in ('manifest.json', *saved.files)} <= whole
  assert {'1/imitation', '1/replay'} <= whole
  # The name itself comes last.
  assert synced[-2:] == ['1.partial', '.']


def test_where_there_are_no_links_a_part_is_copied(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  source = checkpoint_sets.save(tmp_path, 1)

  def refuse(*unused: object) -> None:
    raise OSError(errno.ENOTSUP, 'not supported')

  monkeypatch.setattr(drafts.os, 'link', refuse)
  with drafts.turn(tmp_path):
    draft = drafts.begin(tmp_path)
  draft.add_learner('imitation', 2, lambda f: (f / 'state').touch())
  draft.link(checkpoints.REPLAY, source)
  done = draft.complete({'imitation': 2}, lambda: 0.25, 0.125)
  assert (done.path / 'replay' / 'tables').read_text() == 'abc'
  # So what happens to one does not happen to the other.
  os.truncate(source.path / 'replay' / 'tables', 1)
  assert checkpoints.newest(tmp_path) == done


def test_linked_part_takes_no_room_and_its_damage_is_found(
  tmp_path: pathlib.Path,
) -> None:
  before = checkpoint_sets.save(tmp_path, 1)
  with drafts.turn(tmp_path):
    draft = drafts.begin(tmp_path)
  draft.link('imitation', before)
  (before.path / 'replay' / 'tables').write_text('abd')
  draft.link(checkpoints.REPLAY, before)
  done = draft.complete({}, lambda: 0.0, 0.0)
  assert dict(done.learner_steps) == {'imitation': 1}
  for file in before.files:
    assert os.path.samefile(before.path / file, done.path / file)
  assert json.loads((done.path / 'manifest.json').read_text())['time'] > 0
  with pytest.raises(checkpoints.DamagedError, match='2/replay/tables has changed'):
    checkpoints.recover(tmp_path)
