import dataclasses
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from launch_configs import local
from metamimic import checkpoints
from metamimic import config
from metamimic import drafts
from metamimic import plain
from metamimic import presets

WAIT = {'learner-0': 'wait', 'actor-0': 'wait', 'evaluator-0': 'wait'}


def test_settings_come_from_the_preset_and_the_flags(tmp_path: pathlib.Path) -> None:
  run_dir, settings = local.parse(
    [
      '--preset',
      'tiny',
      '--run-dir',
      str(tmp_path / 'x'),
      '--demonstrations',
      '/a/b.h5',
    ]
    + ['--d4pg.discount', '.95', '--imitation.look-ahead', '3', '4']
    + ['--network.no-normalise', '--learner_steps', '7', '--task.learn']
  )
  assert run_dir == tmp_path / 'x'
  assert config.differences(presets.PRESETS['tiny'][1], settings) == [
    'demonstrations:  -> /a/b.h5',
    'learner_steps: 600 -> 7',
    'imitation.look_ahead: [1, 2, 5] -> [3, 4]',
    'network.normalise: True -> False',
    'd4pg.discount: 0.9 -> 0.95',
    'task.learn: False -> True',
  ]
  with pytest.raises(ValueError, match=r'  task\.d4pg\.discount: expected task\.learn'):
    local.parse(['--task.d4pg.discount', '.95'])


def test_laptop_is_the_default_and_the_directory_is_named_after_the_file(
  monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
  monkeypatch.chdir(tmp_path)
  run_dir, settings = local.parse(['--demonstrations', 'lift.hdf5'])
  assert settings.demonstrations == str(tmp_path / 'lift.hdf5')
  assert settings.learner_steps == presets.LAPTOP.learner_steps
  assert run_dir.parent == pathlib.Path('runs')
  assert run_dir.name.startswith('lift-20')


def test_folder_of_pictures_does_not_depend_on_where_nodes_run(
  monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
  monkeypatch.chdir(tmp_path)
  flags = ['--demonstrations', 'lift.hdf5', '--pixels.cameras', 'side', 'front']
  _, settings = local.parse([*flags, '--pixels.frames', 'drawn'])
  assert settings.pixels.frames == str(tmp_path / 'drawn')
  assert settings.pixels.cameras == ('side', 'front')
  assert local.parse(flags)[1].pixels.frames == ''


def test_resumed_run_needs_no_flags(tmp_path: pathlib.Path) -> None:
  stored = config.Config(demonstrations='/a/b.h5', seed=5, learner_steps=9)
  config.save(stored, str(tmp_path / 'config.json'))
  assert local.parse(['--run-dir', str(tmp_path)]) == (tmp_path, stored)
  _, changed = local.parse(['--run-dir', str(tmp_path), '--seed', '6'])
  assert config.differences(stored, changed) == ['seed: 5 -> 6']


def test_reward_that_only_the_run_names_is_not_imported(
  tmp_path: pathlib.Path,
) -> None:
  own = config.ImitationConfig(reward='theirs:REWARD')
  stored = config.Config(demonstrations='/a/b.h5', imitation=own)
  config.save(stored, str(tmp_path / 'config.json'))
  for other in ([], ['--imitation.reward', 'mine:REWARD']):
    with pytest.raises(ValueError) as e:
      local.parse(['--run-dir', str(tmp_path), *other])
    assert str(e.value) == (
      f"{tmp_path}: its reward is 'theirs:REWARD', and importing it runs code; "
      'expected --imitation.reward theirs:REWARD from whoever trusts it'
    )
  trusted = ['--run-dir', str(tmp_path), '--imitation.reward', 'theirs:REWARD']
  assert local.parse(trusted) == (tmp_path, stored)
  ours = dataclasses.replace(own, reward='envs.reward_library:LIFT_BRICK')
  stored = dataclasses.replace(stored, imitation=ours)
  config.save(stored, str(tmp_path / 'config.json'))
  assert local.parse(['--run-dir', str(tmp_path)]) == (tmp_path, stored)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--preset', 'huge'], 'invalid choice'),
    (['--d4pg.discont', '1'], '--d4pg.discount FLOAT'),
    (['--d4pg.n-step', '.5'], 'Error parsing --d4pg.n-step'),
  ],
)
def test_wrong_command_line(
  flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
  with pytest.raises(SystemExit) as stopped:
    local.parse(flags)
  assert stopped.value.code == 2
  captured = capsys.readouterr()
  assert message in captured.out + captured.err


def test_help_lists_every_setting_with_its_meaning_and_the_presets() -> None:
  done = subprocess.run(
    [sys.executable, '-m', 'launch_configs.local', '--help'],
    capture_output=True,
    text=True,
    env={**os.environ, 'COLUMNS': '100'},
    check=True,
  )
  text = ' '.join(re.sub('[│]', ' ', done.stdout).split())
  for name in plain.flatten(config.to_dict(config.Config())):
    option = '--' + name.replace('_', '-')
    assert re.search(re.escape(option) + '[ ,]', text), option
  assert 'Standard deviation of the exploration noise, of full scale 1.' in text
  assert 'after which the launcher says on what it waits. (default: 30.0)' in text
  assert 'laptop: The default run: minutes on two cores.' in text


def test_finished_run_says_so(launch: Any) -> None:
  assert launch({}).finish()[0] == 0
  again = launch(None)
  status, output = again.finish()
  assert status == 0
  assert output == f'{again.dir} is finished; see {again.dir}/report.html\n'
  assert len(again.events('launch')) == 1


def test_more_learner_steps_resume_a_finished_run(launch: Any) -> None:
  first = launch({})
  assert first.finish()[0] == 0
  (first.dir / 'learnt-imitation').unlink()
  more = launch(None, '--learner-steps', '660')
  assert more.finish()[0] == 0
  assert len(more.events('launch')) == 2
  stored = config.load(str(more.dir / 'config.json'))
  assert stored.learner_steps == 660


def test_a_run_is_finished_when_both_learners_are(launch: Any) -> None:
  run = launch({}, '--task.learn')
  assert run.finish()[0] == 0
  assert set(run.pids()) == {
    'replay-0',
    *('learner-0', 'learner-1', 'evaluator-0'),
    *('actor-0', 'actor-1'),
  }
  assert 'is finished' in launch(None, '--task.learn').finish()[1]
  (run.dir / 'learnt-task').unlink()
  more = launch(None, '--task.learn', '--task.learner-steps', '450')
  status, output = more.finish()
  assert status == 0
  assert 'imitation learner 600/600 ' in output
  assert 'task learner 450/450 ' in output
  assert len(more.events('launch')) == 2


def test_other_configuration_is_refused_with_the_difference(launch: Any) -> None:
  run = launch({})
  assert run.finish()[0] == 0
  before = (run.dir / 'config.json').read_text()
  status, output = launch(None, '--d4pg.discount', '.5', '--seed', '1').finish()
  assert status == local.REFUSED
  assert f'error: {run.dir} holds a run of another configuration' in output
  assert '  seed: 0 -> 1\n  d4pg.discount: 0.9 -> 0.5\n' in output
  assert (run.dir / 'config.json').read_text() == before
  assert len(run.events('launch')) == 1


def test_other_demonstrations_under_the_same_name_are_refused(launch: Any) -> None:
  assert launch({}).finish()[0] == 0
  status, output = launch({'actor-0': 'wait'}, '--learner-steps', '700').finish()
  assert status == local.REFUSED
  assert 'is not the file that the run in' in output


def test_second_launcher_is_refused(launch: Any) -> None:
  run = launch(WAIT)
  run.wait_until_works('learner-0')
  status, output = launch(None).finish()
  assert status == local.REFUSED
  assert output == f'error: {run.dir} is in use by another launcher\n'
  assert not run.nothing_left()


def test_refused_launch_leaves_no_directory(launch: Any, tmp_path: Any) -> None:
  run = launch({}, '--d4pg.discount', '2')
  status, output = run.finish()
  assert status == local.REFUSED
  assert output == 'error: d4pg.discount is 2.0; expected a number in [0, 1]\n'
  assert not run.dir.exists()
  (tmp_path / 'broken').write_text('no JSON')
  run = launch(None, '--demonstrations', str(tmp_path / 'broken'))
  assert run.finish()[0] == local.REFUSED
  assert not run.dir.exists()


def test_launch_that_was_refused_or_killed_does_not_hinder_the_next(
  launch: Any, tmp_path: pathlib.Path
) -> None:
  run_dir = tmp_path / 'run'
  run_dir.mkdir()
  # Of one that was killed before it had written the configuration.
  (run_dir / 'run.json').write_text('{"task": "another", "started": 1}')
  (run_dir / 'loopback-0123.so').touch()
  (tmp_path / 'broken').write_text('no JSON')
  status, output = launch({}, '--demonstrations', str(tmp_path / 'broken')).finish()
  assert (status, 'error: Expecting value' in output) == (local.REFUSED, True)
  assert not run_dir.exists()
  run_dir.mkdir()
  (run_dir / 'run.json').write_text('{"task": "another", "started": 1}')
  assert launch({}).finish()[0] == 0
  assert json.loads((run_dir / 'run.json').read_text()) == {}


def test_unwritable_run_directory(launch: Any, tmp_path: pathlib.Path) -> None:
  (tmp_path / 'file').touch()
  status, output = launch({}, '--run-dir', str(tmp_path / 'file' / 'run')).finish()
  assert status == local.REFUSED
  expected = f'cannot write to the run directory {tmp_path}/file/run: Not a directory'
  assert output == f'error: {expected}\n'


def test_directory_of_something_else_is_refused(
  launch: Any, tmp_path: pathlib.Path
) -> None:
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'thesis.tex').touch()
  status, output = launch({}).finish()
  assert status == local.REFUSED
  assert 'is not empty and holds no run (no config.json)' in output


def _save(run_dir: pathlib.Path, steps: int) -> pathlib.Path:
  with drafts.turn(run_dir):
    draft = drafts.begin(run_dir)
  draft.add_learner('imitation', steps, lambda folder: (folder / 'state').touch())
  draft.add(checkpoints.REPLAY, lambda folder: (folder / 'tables').touch())
  return draft.complete({}, lambda: 0.0, 0.0).path


def test_damaged_set_is_skipped_with_a_message(launch: Any, wait_until: Any) -> None:
  run = launch(WAIT)
  run.wait_until_works('learner-0', 'actor-0')
  run.signal(signal.SIGTERM)
  run.finish()
  _save(run.dir, 1)
  (_save(run.dir, 2) / 'manifest.json').unlink()
  again = launch(None)
  wait_until(lambda: again.log('actor-0').count('behaviour:') == 2)
  again.signal(signal.SIGTERM)
  status, output = again.finish()
  assert status == 143
  folder = run.dir / 'checkpoints'
  assert output.startswith(f'{folder}/2 has no manifest.json; skipped for {folder}/1\n')


def test_run_without_a_good_set_is_refused_and_left_as_it_is(launch: Any) -> None:
  run = launch(WAIT)
  run.wait_until_works('learner-0')
  run.signal(signal.SIGTERM)
  run.finish()
  (_save(run.dir, 1) / 'manifest.json').unlink()
  (_save(run.dir, 2) / 'imitation' / 'state').unlink()
  for _ in range(2):
    status, output = launch(None).finish()
    assert status == local.REFUSED
    assert output.startswith(
      f'error: no checkpoint set in {run.dir}/checkpoints is good:\n  '
    )
    assert output.endswith('Bring one back, or remove the folder to begin anew\n')
  assert len(run.events('launch')) == 1
  sets = sorted(p.name for p in (run.dir / 'checkpoints').glob('[0-9]*'))
  assert sets == ['1', '2']


def test_stop_and_resume(launch: Any, wait_until: Any) -> None:
  run = launch(WAIT)
  run.wait_until_works('learner-0', 'actor-0')
  run.signal(signal.SIGTERM)
  status, output = run.finish()
  assert status == 143
  assert 'the same command goes on from the last checkpoint' in output
  again = launch(None)
  wait_until(lambda: again.log('actor-0').count('behaviour:') == 2)
  assert len(again.events('launch')) == 2
  assert json.loads((run.dir / 'config.json').read_text())['learner_steps'] == 600
  with open(run.dir / 'lock', 'a') as lock, pytest.raises(BlockingIOError):
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_launcher_needs_neither_tensorflow_nor_launchpad() -> None:
  code = (
    'import sys, launch_configs.local, metamimic.preparation; '
    'sys.exit(bool({"tensorflow", "launchpad"} & set(sys.modules)))'
  )
  assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
