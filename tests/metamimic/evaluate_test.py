"""Tests of `python -m metamimic.evaluate`, on a policy that was never trained."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from envs import tasks
from metamimic import config as config_lib
from metamimic import evaluate
from metamimic import policy as policy_lib
from metamimic import preparation
from metamimic import video
from metamimic.demonstrations import storage
from metamimic.demonstrations import types

TASK = 'lift_brick'
STEPS = 12
TERMS = {'arm': 0.1, 'fingers': 0.1, 'pinch': 0.02, 'brick': 0.02}


def _demonstration(number: int) -> types.Demonstration:
  environment = tasks.load(TASK, seed=number)
  observations = [environment.reset().observation]
  states = [environment.get_state()]
  actions = np.random.default_rng(number).uniform(-0.5, 0.5, (STEPS, 9))
  for action in actions:
    observations.append(environment.advance(action.astype(np.float32)))
    states.append(environment.get_state())
  return types.Demonstration(
    f'demo_{number}',
    TASK,
    {group: np.stack([o[group] for o in observations]) for group in observations[0]},
    np.stack(states),
    actions.astype(np.float32),
  )


@pytest.fixture(name='run_dir', scope='module')
def run_dir_fixture(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Returns a run directory and, in it, demonstrations.hdf5: 1 + 2 of them."""
  path = tmp_path_factory.mktemp('run')
  demonstrations = types.DemonstrationSet(
    TASK, tuple(_demonstration(i) for i in range(3)), train=(0,), valid=(1, 2)
  )
  storage.save(str(path / 'demonstrations.hdf5'), demonstrations)
  config = dataclasses.replace(config_lib.PRESETS['tiny'][1], seed=4)
  config_lib.save(config, str(path / 'config.json'))
  preparation.describe(
    str(path),
    {
      'task': TASK,
      'reward': 'envs.reward_library:LIFT_BRICK',
      'temperatures': TERMS,
    },
  )
  policy = policy_lib.create(tasks.load(TASK, 0).layout, config, demonstrations)
  checkpoint = tf.train.Checkpoint(
    policy=policy.network,
    features=policy.features,
    num_steps=tf.Variable(70, dtype=tf.int64),
  )
  folder = str(path / policy_lib.CHECKPOINTS)
  tf.train.CheckpointManager(checkpoint, folder, max_to_keep=1).save(70)
  return path


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
  arms = ('metamimic', 'replay', 'tracker', 'zero')
  expected = {
    (arm, split): n for arm in arms for split, n in (('train', 1), ('valid', 2))
  }
  # With one demonstration there is none to be swapped for it.
  assert counts == {**expected, ('wrong_demonstration', 'valid'): 2}
  assert set(table['seed']) == {4} and set(table['learner_steps']) == {70}
  assert (table[table['arm'] == 'replay']['total'] > 0.99).all()
  assert (table[table['arm'] == 'zero']['total'] < 0.9).all()
  assert {f'reward/{name}' for name in TERMS} < set(table.columns)
  assert 'wrong_demonstration' in capsys.readouterr().out


def test_videos(run_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
  evaluate.main(
    _arguments(run_dir, max_demonstrations=1, video_folder=str(tmp_path / 'videos'))
  )
  assert len(video.frames(str(tmp_path / 'videos' / 'demo_1.mp4'))) == STEPS + 1


def test_a_file_of_another_task_is_refused(
  run_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  config = tmp_path / 'run.json'
  config.write_text('{"task": "reach_duplo"}')
  arguments = dataclasses.replace(_arguments(run_dir), run_dir=str(tmp_path))
  with pytest.raises(
    ValueError, match="its task is 'lift_brick'; expected 'reach_duplo'"
  ):
    evaluate.main(arguments)


def test_an_output_that_is_there_is_kept(
  run_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  output = tmp_path / 'out.csv'
  output.write_text('mine')
  with pytest.raises(FileExistsError, match=r'out\.csv'):
    evaluate.main(_arguments(run_dir, output=str(output)))
  assert output.read_text() == 'mine'
