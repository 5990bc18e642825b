import pathlib
import shutil

import pytest

from metamimic import checkpoints
from metamimic import drafts
from tests.metamimic import checkpoint_sets


def test_what_is_written_is_found_with_its_manifest(tmp_path: pathlib.Path) -> None:
  assert checkpoints.newest(tmp_path) is None
  saved = checkpoint_sets.save(tmp_path, 7)
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


def test_a_set_under_way_is_none(tmp_path: pathlib.Path) -> None:
  checkpoint_sets.save(tmp_path, 1)
  with drafts.turn(tmp_path):
    draft = drafts.begin(tmp_path)
  draft.add_learner('imitation', 2, lambda f: (f / 'state').touch())
  assert checkpoint_sets.steps(checkpoints.newest(tmp_path)) == 1
  assert checkpoint_sets.steps(checkpoints.last(tmp_path)) == 1
  announced = drafts.announced(tmp_path)
  assert announced is not None and announced.path == draft.path
  assert announced.has('imitation') and not announced.has('task')
  # Whoever wrote it died: the next one takes its place.
  assert checkpoint_sets.steps(checkpoint_sets.save(tmp_path, 3)) == 3
  assert checkpoint_sets.names(tmp_path) == ['1', '2']
  assert drafts.announced(tmp_path) is None


def test_set_without_a_learner_of_the_run_is_none_to_go_on_from(
  tmp_path: pathlib.Path,
) -> None:
  with drafts.turn(tmp_path):
    draft = drafts.begin(tmp_path)
  for name in ('imitation', 'task'):
    draft.add_learner(name, 1, lambda f: (f / 'state').touch())
  draft.add(checkpoints.REPLAY, lambda f: (f / 'tables').touch())
  both = draft.complete({}, lambda: 0.0, 0.0)
  checkpoint_sets.save(tmp_path, 2)
  said: list[str] = []
  learners = ('imitation', 'task')
  assert checkpoints.recover(tmp_path, said.append, learners) == both
  assert said == [f'{tmp_path}/checkpoints/2 has no task; skipped for {both.path}']
  assert checkpoint_sets.names(tmp_path) == ['1', '2.damaged']
  shutil.rmtree(both.path / checkpoints.REPLAY)
  with pytest.raises(checkpoints.DamagedError):
    checkpoints.recover(tmp_path, said.append, learners)


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
  checkpoint_sets.save(tmp_path, 1)
  DAMAGES[expected](checkpoint_sets.save(tmp_path, 2).path)
  said: list[str] = []
  assert checkpoint_sets.steps(checkpoints.newest(tmp_path, say=said.append)) == 1
  (text,) = said
  assert f'{tmp_path}/checkpoints/2' in text
  assert expected in text
  assert text.endswith(f'; skipped for {tmp_path}/checkpoints/1')
  assert checkpoint_sets.steps(checkpoints.recover(tmp_path, said.append)) == 1
  assert checkpoint_sets.names(tmp_path) == ['1', '2.damaged']
  # It was put aside: neither looked at again, nor one of the two that are kept.
  said.clear()
  assert checkpoint_sets.steps(checkpoints.recover(tmp_path, said.append)) == 1
  assert said == []
  assert checkpoint_sets.save(tmp_path, 3).number == 3
  assert checkpoint_sets.names(tmp_path) == ['1', '2.damaged', '3']
  checkpoint_sets.save(tmp_path, 4)
  assert checkpoint_sets.names(tmp_path) == ['3', '4']


def test_a_part_may_be_good_where_another_is_not(tmp_path: pathlib.Path) -> None:
  checkpoint_sets.save(tmp_path, 1)
  _truncate(checkpoint_sets.save(tmp_path, 2).path)
  assert checkpoint_sets.steps(checkpoints.newest(tmp_path, 'imitation')) == 2
  assert checkpoint_sets.steps(checkpoints.newest(tmp_path, checkpoints.REPLAY)) == 1
  with pytest.raises(checkpoints.DamagedError, match='has no task'):
    checkpoints.newest(tmp_path, 'task')


@pytest.mark.parametrize('find', [checkpoints.newest, checkpoints.recover])
def test_without_a_good_set_nothing_begins_anew(
  tmp_path: pathlib.Path, find: object
) -> None:
  assert callable(find)
  _forget(checkpoint_sets.save(tmp_path, 1).path)
  _truncate(checkpoint_sets.save(tmp_path, 2).path)
  for _ in range(2):
    with pytest.raises(checkpoints.DamagedError) as e:
      find(tmp_path)
    assert f'no checkpoint set in {tmp_path}/checkpoints is good:' in str(e.value)
    assert '/checkpoints/1 has no manifest.json' in str(e.value)
    assert '/checkpoints/2/replay/tables has 2 bytes' in str(e.value)
  assert checkpoint_sets.names(tmp_path) == ['1', '2']


def test_neither_what_was_put_aside_nor_something_else_is_forgotten(
  tmp_path: pathlib.Path,
) -> None:
  saved = checkpoint_sets.save(tmp_path, 1).path
  saved.rename(saved.with_name('1.damaged'))
  with pytest.raises(
    checkpoints.DamagedError, match=r'1\.damaged is no checkpoint set'
  ):
    checkpoints.recover(tmp_path)
  shutil.rmtree(tmp_path / 'checkpoints')
  (tmp_path / 'checkpoints' / 'imitation').mkdir(parents=True)
  with pytest.raises(checkpoints.DamagedError, match='imitation is no checkpoint set'):
    checkpoints.recover(tmp_path)
