"""Tests of `python -m metamimic.evaluate`, on a policy that was never trained."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from envs import rendering
from envs import stepping
from envs import tasks
import metamimic
from metamimic import config as config_lib
from metamimic import controllers
from metamimic import evaluate
from metamimic import report
from metamimic import run_description
from metamimic import video
from metamimic.demonstrations import storage
from tests.metamimic import untrained

_ROOT = pathlib.Path(__file__).absolute().parents[2]
TASK, STEPS, TERMS = untrained.TASK, untrained.STEPS, untrained.TERMS


@pytest.fixture(name='run_dir', scope='module')
def run_dir_fixture(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Returns a run directory and, in it, demonstrations.hdf5: 1 + 2 of them."""
  return untrained.make_run(tmp_path_factory.mktemp('run'))


def _arguments(run_dir: pathlib.Path, **changes: object) -> evaluate.Arguments:
  base = evaluate.Arguments(str(run_dir), str(run_dir / 'demonstrations.hdf5'))
  return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_rows_of_every_arm_and_split(
  run_dir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  output = tmp_path / 'out.csv'
  table = evaluate.main(_arguments(run_dir, split='all', output=str(output)))
  pd.testing.assert_frame_equal(pd.read_csv(output), table)
  counts = table.groupby(['arm', 'split']).size().to_dict()
  arms = ('metamimic', 'no_demonstration', 'replay', 'task_policy', 'tracker', 'zero')
  expected = {
    (arm, split): n for arm in arms for split, n in (('train', 1), ('valid', 2))
  }
  # With one demonstration there is none to be swapped for it.
  assert counts == {**expected, ('wrong_demonstration', 'valid'): 2}
  assert set(table['seed']) == {4}
  steps = table.groupby('arm')['learner_steps'].agg(['min', 'max'])
  learned = {'metamimic': 70, 'wrong_demonstration': 70, 'no_demonstration': 70}
  for arm, expected_steps in {**learned, 'task_policy': 50, 'zero': 0}.items():
    assert steps.loc[arm].tolist() == [expected_steps] * 2
  assert (table[table['arm'] == 'replay']['total'] > 0.99).all()
  assert (table[table['arm'] == 'zero']['total'] < 0.9).all()
  assert {f'reward/{name}' for name in TERMS} < set(table.columns)
  assert 'wrong_demonstration' in capsys.readouterr().out


def test_of_a_runs_own_file_only_what_it_was_trained_on_is_train(
  tmp_path: pathlib.Path,
) -> None:
  run_dir = untrained.make_run(tmp_path)
  path = str(tmp_path / 'demonstrations.hdf5')
  whole = storage.load(path, with_actions=True)
  storage.save(path, dataclasses.replace(whole, train=(0, 1), valid=(2,)))
  config = config_lib.load(str(tmp_path / 'config.json'))
  config = dataclasses.replace(config, train_demonstrations=1)
  config_lib.save(config, str(tmp_path / 'config.json'))
  table = evaluate.main(_arguments(run_dir, split='all'))
  train = table[table['split'] == 'train']
  assert set(train['demonstration']) == {'demo_0'}
  assert set(table['demonstration']) == {'demo_0', 'demo_2'}


@pytest.mark.parametrize('blind', [False, True])
def test_policies_that_see_are_measured_as_others_are(
  blind: bool, tmp_path: pathlib.Path
) -> None:
  pixels = config_lib.PixelsConfig(('side',), 28, blind=blind)
  run_dir = untrained.make_run(tmp_path, pixels)
  table = evaluate.main(_arguments(run_dir))
  arms = ('metamimic', 'no_demonstration', 'wrong_demonstration', 'task_policy')
  assert table.groupby('arm').size().to_dict() == dict.fromkeys(
    (*arms, 'replay', 'tracker', 'zero'), 2
  )
  followed = table[table['arm'] != 'task_policy']
  assert followed['total'].between(0, 1).all()
  assert followed[[f'reward/{name}' for name in TERMS]].notna().all(axis=None)
  assert (table[table['arm'] == 'replay']['total'] > 0.99).all()
  # Its pictures, and nothing else, are drawn: none are left beside the file.
  assert not list(tmp_path.glob('*.frames'))


def test_the_task_policy_has_until_the_time_limit(run_dir: pathlib.Path) -> None:
  table = evaluate.main(_arguments(run_dir))
  rows = table[table['arm'] == 'task_policy']
  # Never trained, it does not lift anything.
  assert set(rows['steps']) == {tasks.get(TASK).max_steps}
  assert set(rows['success']) == {0}
  columns = ['solved', 'completed', 'reward/arm', 'total']
  assert rows[columns].isna().all(axis=None)


def test_a_dense_reward_is_measured_as_it_was_learned_from(
  run_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  copy = tmp_path / 'run'
  shutil.copytree(run_dir, copy)
  path = str(copy / 'config.json')
  config = config_lib.load(path)
  task = dataclasses.replace(config.task, reward='dense')
  config_lib.save(dataclasses.replace(config, task=task), path)
  table = evaluate.main(_arguments(copy))
  rows = table[table['arm'] == 'task_policy']
  assert set(rows['steps']) == {stepping.DENSE_STEPS}
  # Never trained, it is not near the brick for long.
  assert rows['return'].between(0, 0.5 * stepping.DENSE_STEPS).all()
  assert rows['return'].min() > 0
  assert table[table['arm'] == 'metamimic']['return'].isna().all()


def test_what_goes_wrong_is_measured_and_the_run_left_as_it_was(
  run_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  def contents() -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in run_dir.rglob('*') if p.is_file()}

  before, output = contents(), tmp_path / 'noisy.csv'

  def run(*more: str) -> 'subprocess.CompletedProcess[str]':
    command = [sys.executable, '-m', 'metamimic.evaluate', str(run_dir), *more]
    quiet = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', 'CUDA_VISIBLE_DEVICES': ''}
    return subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, env=quiet)

  demonstrations = ['--demonstrations', str(run_dir / 'demonstrations.hdf5')]
  noise = ['--disturbance.action-noise', '.9', '--output', str(output)]
  done = run(*demonstrations, *noise)
  assert done.returncode == 0, done.stderr
  assert 'metamimic' in done.stdout
  table = pd.read_csv(output)
  assert (table[table['arm'] == 'replay']['total'] < 0.99).all()
  refused = run('--demonstrations', 'nowhere.hdf5')
  assert refused.returncode == 1
  assert refused.stderr.startswith('error: ') and 'nowhere.hdf5' in refused.stderr
  assert refused.stderr.count('\n') == 1
  assert contents() == before


def test_videos(run_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
  evaluate.main(
    _arguments(run_dir, max_demonstrations=1, video_folder=str(tmp_path / 'videos'))
  )
  folder = tmp_path / 'videos'
  assert len(video.frames(str(folder / 'demo_1.mp4'))) == STEPS + 1
  assert (folder / 'demo_1-task_policy.mp4').exists()


def test_a_file_of_another_task_is_refused(
  run_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  (tmp_path / 'run.json').write_text('{"task": "reach_duplo"}')
  shutil.copy(run_dir / 'config.json', tmp_path)
  arguments = dataclasses.replace(_arguments(run_dir), run_dir=str(tmp_path))
  with pytest.raises(
    ValueError, match="its task is 'lift_brick'; expected 'reach_duplo'"
  ):
    evaluate.main(arguments)


def test_reward_that_only_the_run_names_is_not_imported(
  run_dir: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  theirs = pathlib.Path(shutil.copytree(run_dir, tmp_path / 'run'))
  (tmp_path / 'theirs.py').write_text('raise SystemExit("imported")')
  monkeypatch.syspath_prepend(tmp_path)
  about = run_description.read(str(theirs))
  run_description.write(str(theirs), {**about, 'reward': 'theirs:REWARD'})
  assert metamimic.load(str(theirs)).learner_steps == 70
  report.write(str(theirs))
  with pytest.raises(
    ValueError, match='runs code; expected --trust-reward theirs:REWARD'
  ):
    evaluate.main(_arguments(theirs))
  with pytest.raises(SystemExit, match='imported'):
    evaluate.main(_arguments(theirs, trust_reward='theirs:REWARD'))


def test_an_output_that_is_there_is_kept(
  run_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  output = tmp_path / 'out.csv'
  output.write_text('mine')
  with pytest.raises(FileExistsError, match=r'out\.csv'):
    evaluate.main(_arguments(run_dir, output=str(output)))
  assert output.read_text() == 'mine'


def test_an_output_that_cannot_be_written_is_refused_at_once(
  run_dir: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(evaluate, 'Measure', None)
  folder = tmp_path / 'nowhere'
  message = f'^output is {folder}/out.csv; expected {folder} to be a folder that can be'
  with pytest.raises(OSError, match=message):
    evaluate.main(_arguments(run_dir, output=str(folder / 'out.csv')))


def test_arms_that_do_not_look_are_not_drawn_for(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  run_dir = untrained.make_run(tmp_path, config_lib.PixelsConfig(('front',), size=32))
  drawn: list[str] = []
  arm = ['']

  def render(self: rendering.Renderer) -> np.ndarray:
    drawn.append(arm[0])
    return np.zeros((32, 32, 3), np.uint8)

  def controls(*given: Any) -> Any:
    arm[0] = 'controls'
    return found(*given)

  found = controllers.controls
  monkeypatch.setattr(rendering.Renderer, 'render', render)
  monkeypatch.setattr(controllers, 'controls', controls)
  table = evaluate.main(_arguments(run_dir))
  assert {'replay', 'tracker', 'zero', 'metamimic'} < set(table['arm'])
  assert '' in drawn and 'controls' not in drawn
