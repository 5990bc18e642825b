import errno
import fcntl
import json
import os
import pathlib
import shutil

import pytest

from metamimic import checkpoints


def _save(run_dir: pathlib.Path, steps: int, **more: str) -> checkpoints.CheckpointSet:
  with checkpoints.turn(run_dir) as granted:
    assert granted
    draft = checkpoints.begin(run_dir)
  draft.add_learner('imitation', steps, lambda f: (f / 'state').write_text(f'{steps}'))
  draft.add(checkpoints.REPLAY, lambda f: (f / 'tables').write_text('abc'))
  return draft.complete({'imitation': 2 * steps}, lambda: 0.25, 0.125)


def _names(run_dir: pathlib.Path) -> list[str]:
  names = {path.name for path in (run_dir / checkpoints.FOLDER).iterdir()}
  return sorted(names - {'lock', 'host'})


def _steps(found: checkpoints.CheckpointSet | None) -> int:
  assert found is not None
  return found.learner_steps['imitation']


def test_what_is_written_is_found_with_its_manifest(tmp_path: pathlib.Path) -> None:
  assert checkpoints.newest(tmp_path) is None
  saved = _save(tmp_path, 7)
  found = checkpoints.recover(tmp_path)
  assert found == saved
  assert found.number == 1
  assert found.path == tmp_path / 'checkpoints' / '1'
  assert (found.path / 'imitation' / 'state').read_text() == '7'
  assert dict(found.learner_steps) == {'imitation': 7}
  assert dict(found.environment_steps) == {'imitation': 14}
  assert (found.seconds, found.replay_seconds) == (0.25, 0.125)
  assert set(found.files) == {'imitation/state', 'imitation/steps', 'replay/tables'}
  assert found.files['replay/tables'] == checkpoints.File(
    3, 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
  )
  assert set(found.part('replay')) == {'replay/tables'}


def test_the_last_two_are_kept(tmp_path: pathlib.Path) -> None:
  for steps in range(1, 5):
    _save(tmp_path, steps)
  assert _names(tmp_path) == ['3', '4']
  assert _steps(checkpoints.newest(tmp_path)) == 4


def test_beside_sets_with_the_same_files_one_is_kept_that_has_others(
  tmp_path: pathlib.Path,
) -> None:
  first, source = _save(tmp_path, 1), _save(tmp_path, 2)
  for steps in range(3, 6):
    with checkpoints.turn(tmp_path):
      draft = checkpoints.begin(tmp_path)
    draft.add_learner('imitation', steps, lambda f: (f / 'state').touch())
    draft.link(checkpoints.REPLAY, source)
    source = draft.complete({'imitation': 5}, lambda: 0.25, 0.125)
  # The second has the replay of the last two, the first has its own.
  assert _names(tmp_path) == ['1', '4', '5']
  os.truncate(source.path / 'replay' / 'tables', 1)
  assert checkpoints.recover(tmp_path, say=lambda text: None) == first
  for steps in (6, 7):
    _save(tmp_path, steps)
  assert _names(tmp_path) == ['6', '7']


def test_a_set_under_way_is_none(tmp_path: pathlib.Path) -> None:
  _save(tmp_path, 1)
  with checkpoints.turn(tmp_path):
    draft = checkpoints.begin(tmp_path)
  draft.add_learner('imitation', 2, lambda f: (f / 'state').touch())
  assert _steps(checkpoints.newest(tmp_path)) == 1
  assert _steps(checkpoints.last(tmp_path)) == 1
  announced = checkpoints.announced(tmp_path)
  assert announced is not None and announced.path == draft.path
  assert announced.has('imitation') and not announced.has('task')
  # Whoever wrote it died: the next one takes its place.
  assert _steps(_save(tmp_path, 3)) == 3
  assert _names(tmp_path) == ['1', '2']
  assert checkpoints.announced(tmp_path) is None


def test_a_part_is_there_when_it_is_whole(tmp_path: pathlib.Path) -> None:
  with checkpoints.turn(tmp_path):
    draft = checkpoints.begin(tmp_path)

  def fail(folder: pathlib.Path) -> None:
    (folder / 'state').touch()
    raise OSError('the disk is full')

  with pytest.raises(OSError, match='the disk is full'):
    draft.add('imitation', fail)
  assert not draft.has('imitation')
  draft.add('imitation', lambda f: (f / 'state').touch())
  assert draft.has('imitation')
  draft.abandon()
  assert _names(tmp_path) == []


def test_it_is_the_turn_of_one_at_a_time(tmp_path: pathlib.Path) -> None:
  with checkpoints.turn(tmp_path) as first:
    with checkpoints.turn(tmp_path) as second:
      assert (first, second) == (True, False)
  with checkpoints.turn(tmp_path) as third:
    assert third


def test_the_lock_is_that_of_a_file_open_for_writing(tmp_path: pathlib.Path) -> None:
  # Of a directory, or of a file open for reading alone, NFS tells no other host.
  with checkpoints.turn(tmp_path):
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
  with checkpoints.turn(tmp_path):
    draft = checkpoints.begin(tmp_path, parts)
  draft.add_learner('imitation', 1, lambda f: (f / 'state').touch())
  draft.add(checkpoints.REPLAY, lambda f: (f / 'tables').touch())
  with pytest.raises(checkpoints.DamagedError, match=r'1\.partial has no task$'):
    draft.complete({}, lambda: 0.0, 0.0)
  assert _names(tmp_path) == ['1.partial']
  draft.add_learner('task', 1, lambda f: (f / 'state').touch())
  assert draft.complete({}, lambda: 0.0, 0.0).learner_steps == {
    'imitation': 1,
    'task': 1,
  }


def test_set_without_a_learner_of_the_run_is_none_to_go_on_from(
  tmp_path: pathlib.Path,
) -> None:
  with checkpoints.turn(tmp_path):
    draft = checkpoints.begin(tmp_path)
  for name in ('imitation', 'task'):
    draft.add_learner(name, 1, lambda f: (f / 'state').touch())
  draft.add(checkpoints.REPLAY, lambda f: (f / 'tables').touch())
  both = draft.complete({}, lambda: 0.0, 0.0)
  _save(tmp_path, 2)
  said: list[str] = []
  learners = ('imitation', 'task')
  assert checkpoints.recover(tmp_path, said.append, learners) == both
  assert said == [f'{tmp_path}/checkpoints/2 has no task; skipped for {both.path}']
  assert _names(tmp_path) == ['1', '2.damaged']
  shutil.rmtree(both.path / checkpoints.REPLAY)
  with pytest.raises(checkpoints.DamagedError):
    checkpoints.recover(tmp_path, said.append, learners)


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
  saved = _save(tmp_path, 1)
  whole = {name.replace('.partial', '') for name in synced}
  assert {f'1/{name}' for name in ('manifest.json', *saved.files)} <= whole
  assert {'1/imitation', '1/replay'} <= whole
  # The name itself comes last.
  assert synced[-2:] == ['1.partial', '.']


def _truncate(path: pathlib.Path) -> None:
  file = path / 'replay' / 'tables'
  file.write_text('ab')


def _change(path: pathlib.Path) -> None:
  (path / 'replay' / 'tables').write_text('abd')


def _remove(path: pathlib.Path) -> None:
  (path / 'imitation' / 'state').unlink()


def _forget(path: pathlib.Path) -> None:
  (path / 'manifest.json').unlink()


def _garble(path: pathlib.Path) -> None:
  (path / 'manifest.json').write_text('{"files"')


def _simplify(path: pathlib.Path) -> None:
  (path / 'manifest.json').write_text('{"files": {}}')


DAMAGES = {
  'replay/tables has 2 bytes instead of the 3 of its manifest': _truncate,
  'replay/tables has changed since it was written': _change,
  'imitation/state cannot be read: No such file or directory': _remove,
  ' has no manifest.json': _forget,
  'manifest.json: expected a JSON object': _garble,
  'manifest.json cannot be read: TypeError': _simplify,
}


@pytest.mark.parametrize('expected', DAMAGES)
def test_damaged_set_is_skipped_by_name_for_the_one_before(
  tmp_path: pathlib.Path, expected: str
) -> None:
  _save(tmp_path, 1)
  DAMAGES[expected](_save(tmp_path, 2).path)
  said: list[str] = []
  assert _steps(checkpoints.newest(tmp_path, say=said.append)) == 1
  (text,) = said
  assert f'{tmp_path}/checkpoints/2' in text
  assert expected in text
  assert text.endswith(f'; skipped for {tmp_path}/checkpoints/1')
  assert _steps(checkpoints.recover(tmp_path, said.append)) == 1
  assert _names(tmp_path) == ['1', '2.damaged']
  # It was put aside: neither looked at again, nor one of the two that are kept.
  said.clear()
  assert _steps(checkpoints.recover(tmp_path, said.append)) == 1
  assert said == []
  assert _save(tmp_path, 3).number == 3
  assert _names(tmp_path) == ['1', '2.damaged', '3']
  _save(tmp_path, 4)
  assert _names(tmp_path) == ['3', '4']


def test_a_part_may_be_good_where_another_is_not(tmp_path: pathlib.Path) -> None:
  _save(tmp_path, 1)
  _truncate(_save(tmp_path, 2).path)
  assert _steps(checkpoints.newest(tmp_path, 'imitation')) == 2
  assert _steps(checkpoints.newest(tmp_path, checkpoints.REPLAY)) == 1
  with pytest.raises(checkpoints.DamagedError, match='has no task'):
    checkpoints.newest(tmp_path, 'task')


@pytest.mark.parametrize('find', [checkpoints.newest, checkpoints.recover])
def test_without_a_good_set_nothing_begins_anew(
  tmp_path: pathlib.Path, find: object
) -> None:
  assert callable(find)
  _forget(_save(tmp_path, 1).path)
  _truncate(_save(tmp_path, 2).path)
  for _ in range(2):
    with pytest.raises(checkpoints.DamagedError) as e:
      find(tmp_path)
    assert f'no checkpoint set in {tmp_path}/checkpoints is good:' in str(e.value)
    assert '/checkpoints/1 has no manifest.json' in str(e.value)
    assert '/checkpoints/2/replay/tables has 2 bytes' in str(e.value)
  assert _names(tmp_path) == ['1', '2']


def test_neither_what_was_put_aside_nor_something_else_is_forgotten(
  tmp_path: pathlib.Path,
) -> None:
  saved = _save(tmp_path, 1).path
  saved.rename(saved.with_name('1.damaged'))
  with pytest.raises(
    checkpoints.DamagedError, match=r'1\.damaged is no checkpoint set'
  ):
    checkpoints.recover(tmp_path)
  shutil.rmtree(tmp_path / 'checkpoints')
  (tmp_path / 'checkpoints' / 'imitation').mkdir(parents=True)
  with pytest.raises(checkpoints.DamagedError, match='imitation is no checkpoint set'):
    checkpoints.recover(tmp_path)


def test_where_there_are_no_links_a_part_is_copied(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  source = _save(tmp_path, 1)

  def refuse(*unused: object) -> None:
    raise OSError(errno.ENOTSUP, 'not supported')

  monkeypatch.setattr(checkpoints.os, 'link', refuse)
  with checkpoints.turn(tmp_path):
    draft = checkpoints.begin(tmp_path)
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
  before = _save(tmp_path, 1)
  with checkpoints.turn(tmp_path):
    draft = checkpoints.begin(tmp_path)
  draft.link('imitation', before)
  _change(before.path)
  draft.link(checkpoints.REPLAY, before)
  done = draft.complete({}, lambda: 0.0, 0.0)
  assert dict(done.learner_steps) == {'imitation': 1}
  for file in before.files:
    assert os.path.samefile(before.path / file, done.path / file)
  assert json.loads((done.path / 'manifest.json').read_text())['time'] > 0
  with pytest.raises(checkpoints.DamagedError, match='2/replay/tables has changed'):
    checkpoints.recover(tmp_path)
