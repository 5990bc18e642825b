import dataclasses
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from launch_configs import local
from launch_configs import vertex
from metamimic import config

HERE = pathlib.Path(__file__)
RUN = pathlib.Path('/gcs/bucket/run')
GOOD = vertex.Options(
  demonstrations='/gcs/bucket/lift.hdf5',
  listen_everywhere=True,
  evaluation=config.EvaluationConfig(videos=0),
)


def _refusal(run_dir: pathlib.Path = RUN, **changes: Any) -> str:
  """Returns what is said of options that differ from good ones."""
  options = dataclasses.replace(GOOD, **changes)
  try:
    vertex.validate(options, run_dir, local.resolve(options)[1])
  except ValueError as e:
    return str(e)
  return ''


def test_good_options_are_not_refused() -> None:
  assert _refusal() == ''


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    ({'listen_everywhere': False}, 'listen_everywhere is False; expected True'),
    ({'run_dir': pathlib.Path('runs/lift')}, 'run_dir is runs/lift; expected a path'),
    ({'demonstrations': '/data/lift.hdf5'}, 'demonstrations is /data/lift.hdf5; exp'),
    (
      {'evaluation': config.EvaluationConfig(videos=2)},
      'evaluation.videos is 2; expected 0: there is nothing to draw with',
    ),
    (
      {'pixels': config.PixelsConfig(cameras=('front',))},
      "pixels.cameras is ('front',); expected none",
    ),
    ({'gpu': True}, 'gpu is True; expected False: the images hold TensorFlow for proc'),
    ({'dry_run': str(HERE.parent)}, f'dry_run is {HERE.parent}, which is not empty'),
    (
      {'imitation': config.ImitationConfig(reward='mine.rewards:REWARD')},
      'imitation.reward is mine.rewards:REWARD; expected one in agents, envs',
    ),
    ({'actor_machine': vertex.Machine(cpus=0)}, 'actor_machine.cpus is 0; expected 1'),
    ({'replay_machine': vertex.Machine(memory=-1)}, 'replay_machine.memory is -1; exp'),
  ],
)
def test_what_cannot_run_there_is_refused(
  changes: dict[str, Any], expected: str
) -> None:
  assert _refusal(**changes).startswith(expected)


def test_without_what_launchpad_submits_with_nothing_is_written(
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  capsys: pytest.CaptureFixture[str],
) -> None:
  monkeypatch.setattr(vertex, 'MOUNTS', tmp_path)
  monkeypatch.setattr(vertex, 'NEEDS', ('no.such.package',))
  options = ['--run-dir', str(tmp_path / 'run'), '--listen-everywhere']
  options += ['--demonstrations', str(tmp_path / 'lift.hdf5')]
  monkeypatch.setattr(sys, 'argv', ['vertex', *options, '--evaluation.videos', '0'])
  assert vertex.main() == local.REFUSED
  assert 'no.such.package is not installed; expected' in capsys.readouterr().err
  assert list(tmp_path.iterdir()) == []


def test_staged_code_imports_without_the_checkout(tmp_path: pathlib.Path) -> None:
  requirements = vertex.stage(tmp_path)
  program = (
    'import acme, agents, envs, metamimic, launch_configs.hosted as hosted, os\n'
    'print({os.path.dirname(os.path.dirname(m.__file__)) '
    'for m in (acme, agents, envs, metamimic, hosted)})'
  )
  # -P is of later Pythons: the working directory comes first.
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    env={'PYTHONPATH': ''},
  )
  assert done.stdout.strip() == str({str(tmp_path)}), done.stderr
  names = [line.partition('==')[0] for line in requirements.read_text().splitlines()]
  assert {'dm-launchpad-nightly', 'dm-reverb', 'dm-sonnet'} <= set(names)
  assert not {'dm-acme', 'dm-launchpad', 'pytest', 'uv', ''} & set(names)
