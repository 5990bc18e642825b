import contextlib
import dataclasses
import json
import pathlib
import threading

import pytest

from launch_configs import run_directory
from metamimic import config
from tests.metamimic import damage


@pytest.fixture(name='settings')
def settings_fixture(tmp_path: pathlib.Path) -> config.Config:
  file = tmp_path / 'demonstrations.hdf5'
  file.write_bytes(b'abc')
  return config.Config(demonstrations=str(file))


@pytest.fixture(name='path')
def path_fixture(tmp_path: pathlib.Path) -> pathlib.Path:
  path = tmp_path / 'run'
  path.mkdir()
  return path


def test_digest_can_be_checked_with_sha256sum(
  path: pathlib.Path, settings: config.Config
) -> None:
  run_directory.save(path, settings)
  assert (path / 'demonstrations.sha256').read_text() == (
    'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  '
    f'{settings.demonstrations}\n'
  )


def test_saving_forgets_old_addresses(
  path: pathlib.Path, settings: config.Config
) -> None:
  run_directory.publish_address(path, 'replay', '127.0.0.1:1')
  assert run_directory.published_address(path, 'replay') == '127.0.0.1:1'
  run_directory.save(path, settings)
  assert run_directory.published_address(path, 'replay') is None


@pytest.mark.parametrize(
  'text',
  ['', ':', '127.0.0.1', '127.0.0.1:', '127.0.0.1:0', '127.0.0.1:65536', 'a b:1'],
)
def test_what_is_no_address_is_refused(path: pathlib.Path, text: str) -> None:
  run_directory.publish_address(path, 'replay', text)
  with pytest.raises(ValueError, match=r'replay holds .*; expected host:port'):
    run_directory.published_address(path, 'replay')


def test_damaged_files_are_refused_or_as_good_as_before(
  path: pathlib.Path, settings: config.Config
) -> None:
  run_directory.save(path, settings)
  cases = range(damage.CASES // 4)
  run_directory.publish_address(path, 'replay', '127.0.0.1:34567')
  damage.assert_refused(
    lambda: run_directory.published_address(path, 'replay'),
    path / 'addresses' / 'replay',
    (damage.damaged(b'127.0.0.1:34567', seed) for seed in cases),
  )
  summary = {'learner_steps': {'imitation': 9}, 'wall_seconds': 3.5}
  damage.assert_refused(
    lambda: run_directory.is_finished(path, settings),
    path / 'summary.json',
    [damage.changed(summary, seed) for seed in cases]
    + [damage.damaged(json.dumps(summary).encode(), seed) for seed in cases],
  )
  digest = (path / 'demonstrations.sha256').read_bytes()
  (path / 'summary.json').unlink()
  damage.assert_refused(
    lambda: run_directory.check_resumable(path, settings),
    path / 'demonstrations.sha256',
    (damage.damaged(digest, seed) for seed in cases),
    named=path,
  )


def test_waiting_for_an_address(path: pathlib.Path) -> None:
  stop = threading.Event()
  publish = threading.Timer(
    0.2, run_directory.publish_address, (path, 'replay', '127.0.0.1:7')
  )
  publish.start()
  assert run_directory.wait_for_address(path, 'replay', stop) == '127.0.0.1:7'
  with pytest.raises(TimeoutError, match='waited 0 s for the address of other'):
    run_directory.wait_for_address(path, 'other', stop, timeout=0)
  stop.set()
  with pytest.raises(InterruptedError, match='stopped while waiting'):
    run_directory.wait_for_address(path, 'other', stop)


@pytest.mark.parametrize(
  ('text', 'finished'),
  [
    ('{"learner_steps": {"imitation": 999999}}', False),
    ('{"learner_steps": {"imitation": 1000000}, "wall_seconds": 3}', True),
  ],
)
def test_finished(
  path: pathlib.Path, settings: config.Config, text: str, finished: bool
) -> None:
  assert not run_directory.is_finished(path, settings)
  (path / 'summary.json').write_text(text)
  assert run_directory.is_finished(path, settings) == finished


@pytest.mark.parametrize(
  ('steps', 'finished'), [(60_000, True), (59_999, False), (0, False)]
)
def test_finished_with_two_learners(
  path: pathlib.Path, settings: config.Config, steps: int, finished: bool
) -> None:
  task = config.TaskConfig(learn=True, learner_steps=60_000)
  both = dataclasses.replace(settings, task=task)
  done = {'learner_steps': {'imitation': 1_000_000, 'task': steps}}
  (path / 'summary.json').write_text(json.dumps(done))
  assert run_directory.is_finished(path, both) == finished


def test_each_learner_may_go_on_for_longer_or_on_a_gpu_but_no_other(
  path: pathlib.Path, settings: config.Config
) -> None:
  run_directory.save(path, settings)
  more = dataclasses.replace(
    settings, learner_steps=7, task=config.TaskConfig(learner_steps=8), gpu=True
  )
  run_directory.check_resumable(path, more)
  another = dataclasses.replace(settings, task=config.TaskConfig(learn=True))
  with pytest.raises(ValueError, match=r'  task\.learn: False -> True\n') as e:
    run_directory.check_resumable(path, another)
  told = '\nOnly learner_steps, task.learner_steps, evaluation.*, gpu, demonstrations, '
  assert told in str(e.value)
  assert ', actor.update_period and task.actor.update_period may change. ' in str(
    e.value
  )


def test_what_changes_nothing_of_what_was_learnt_may_differ(
  path: pathlib.Path, settings: config.Config
) -> None:
  run_directory.save(path, settings)
  more = {'num_actors': 3, 'update_period': 1.5}
  actor: config.ActorConfig = dataclasses.replace(settings.actor, **more)  # type: ignore[arg-type]
  task: config.ActorConfig = dataclasses.replace(settings.task.actor, **more)  # type: ignore[arg-type]
  run_directory.check_resumable(
    path,
    dataclasses.replace(
      settings,
      checkpoint_period=5.0,
      stall_warning=7.0,
      actor=actor,
      task=dataclasses.replace(settings.task, actor=task),
      pixels=dataclasses.replace(settings.pixels, frames='/elsewhere'),
    ),
  )
  for changes, name in (
    ({'actor': dataclasses.replace(actor, sigma=0.5)}, 'actor.sigma'),
    ({'replay': config.ReplayConfig(max_size=9)}, 'replay.max_size'),
    ({'train_demonstrations': 1}, 'train_demonstrations'),
  ):
    other: config.Config = dataclasses.replace(settings, **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f'\n  {name}: '):
      run_directory.check_resumable(path, other)


def test_demonstrations_are_known_by_what_is_in_them(
  path: pathlib.Path, settings: config.Config
) -> None:
  run_directory.save(path, settings)
  moved = path / 'moved.hdf5'
  pathlib.Path(settings.demonstrations).rename(moved)
  elsewhere = dataclasses.replace(settings, demonstrations=str(moved))
  run_directory.check_resumable(path, elsewhere)
  run_directory.save(path, elsewhere)
  assert run_directory.stored_config(path) == elsewhere
  moved.write_bytes(b'abd')
  with pytest.raises(ValueError, match='is not the file that the run in'):
    run_directory.check_resumable(path, elsewhere)


def test_no_actor_comes_to_act_for_another_learner(
  path: pathlib.Path, settings: config.Config
) -> None:
  both = dataclasses.replace(settings, task=config.TaskConfig(learn=True))
  run_directory.save(path, both)
  (path / 'logs').mkdir()
  for index in range(2):
    (path / 'logs' / f'actor-{index}.csv').touch()
  actor = dataclasses.replace(both.task.actor, num_actors=2)
  more = config.TaskConfig(learn=True, actor=actor)
  run_directory.check_resumable(path, dataclasses.replace(both, task=more))
  other = dataclasses.replace(both, actor=config.ActorConfig(num_actors=2))
  with pytest.raises(ValueError, match=r'actor 1 of the run in .* for imitation, and'):
    run_directory.check_resumable(path, other)


_LEFT = (
  *('run.json', 'run.json.tmp', 'config.json.tmp', 'demonstrations.sha256'),
  *('demonstrations.sha256.tmp', 'loopback-0123456789ab.so', '.loopback-01.so.7'),
)


def test_what_a_launcher_left_before_there_was_a_run_is_cleared_away(
  path: pathlib.Path,
) -> None:
  for name in _LEFT:
    (path / name).touch()
  assert run_directory.stored_config(path) is None
  with run_directory.locked(path):
    assert sorted(entry.name for entry in path.iterdir()) == ['lock', 'logs']
    (path / 'run.json').touch()
  assert not path.exists()


@pytest.mark.parametrize('name', ['config.json', 'thesis.tmp'])
def test_nothing_of_a_run_or_of_somebody_else_is_cleared_away(
  path: pathlib.Path, name: str
) -> None:
  for each in (name, *_LEFT):
    (path / each).touch()
  with run_directory.locked(path):
    pass
  left = {entry.name for entry in path.iterdir()}
  assert left == {name, *_LEFT, 'lock'}


@pytest.mark.parametrize(
  'text',
  [
    '',
    '[]',
    '{}',
    '{"learner_steps": "many"}',
    '{"learner_steps": {"imitation": "many"}}',
    '{"learner_steps": {"task": 1000000}}',
  ],
)
def test_broken_summary_is_named(
  path: pathlib.Path, settings: config.Config, text: str
) -> None:
  (path / 'summary.json').write_text(text)
  with pytest.raises(ValueError, match=r'summary.json: expected a JSON object'):
    run_directory.is_finished(path, settings)


def test_those_on_other_hosts_see_why_a_run_is_over(
  path: pathlib.Path, settings: config.Config
) -> None:
  assert run_directory.why_over(path, settings) == ''
  run_directory.end(path, 'it was cancelled')
  assert run_directory.why_over(path, settings) == f'{path} was ended: it was cancelled'
  run_directory.save(path, settings)
  assert run_directory.why_over(path, settings) == ''
  (path / 'summary.json').write_text('{"learner_steps": {"imitation": 1000000}}')
  assert run_directory.why_over(path, settings) == f'{path} is finished'


def test_lock_is_waited_for_as_long_as_the_caller_likes(path: pathlib.Path) -> None:
  left = [True, True, False]
  with run_directory.locked(path):
    with pytest.raises(RuntimeError, match='is in use by another launcher'):
      with run_directory.locked(path, lambda: left.pop(0)):
        pass
  assert left == []
  released = []
  with contextlib.ExitStack() as stack:
    stack.enter_context(run_directory.locked(path))

    def release() -> bool:
      stack.close()
      released.append(True)
      return True

    with run_directory.locked(path, release):
      assert released == [True]


def test_lock_is_exclusive_and_leaves_no_empty_directory(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / 'a' / 'run'
  with run_directory.locked(path):
    with pytest.raises(RuntimeError, match='is in use by another launcher'):
      with run_directory.locked(path):
        pass
    assert path.is_dir()
  assert not path.exists()
  with run_directory.locked(path):
    (path / 'kept').touch()
  assert path.exists()
