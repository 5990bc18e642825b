"""Runs benchmarks that measure speed as a user does, but hardly long enough.

What they measure is no matter here: that every arm does real work, and is reported.
"""

import csv
import pathlib
import subprocess
import sys

import pytest

from benchmarks import common
from benchmarks import networks

ROOT = pathlib.Path(__file__).absolute().parents[2]


def _call(*arguments: str) -> subprocess.CompletedProcess[str]:
  command = [sys.executable, '-m', *arguments]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


@pytest.fixture(name='demonstrations', scope='module')
def demonstrations_fixture(tmp_path_factory: pytest.TempPathFactory) -> str:
  path = tmp_path_factory.mktemp('demonstrations') / 'lift_brick.hdf5'
  settings = ('--train', '4', '--valid', '1', '--output', str(path))
  assert _call('metamimic.record', '--task', 'lift_brick', *settings).returncode == 0
  return str(path)


@pytest.mark.parametrize(
  ('module', 'settings', 'arms', 'bars'),
  [
    (
      'benchmarks.actor',
      ('--steps', '80', '--learner-steps', '20'),
      ['ours', 'mj_step', 'acme'],
      ['actor / mj_step', "actor / Acme's"],
    ),
    (
      'benchmarks.learner',
      ('--updates', '10', '--episodes', '4'),
      ['ours', 'acme', 'ours fixed', 'acme fixed'],
      ["learner / Acme's"],
    ),
  ],
)
def test_every_arm_works_and_is_reported(
  module: str,
  settings: tuple[str, ...],
  arms: list[str],
  bars: list[str],
  demonstrations: str,
  tmp_path: pathlib.Path,
) -> None:
  settings = ('--demonstrations', demonstrations, *settings)
  rows, done = _measure(module, settings, tmp_path)
  assert [row['arm'] for row in rows] == arms
  assert all(float(row['amount']) > 0 < float(row['cpu_seconds']) for row in rows)
  verdicts = done.stdout.splitlines()[-len(bars) :]
  assert [line.partition(':')[0] for line in verdicts] == bars
  assert done.returncode == int(any('MISSED' in line for line in verdicts))


def test_networks_that_see_learn_and_act(
  demonstrations: str,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  capsys: pytest.CaptureFixture[str],
) -> None:
  sizes = {name: networks.ARMS[name] for name in ('patches', 'small, normalised')}
  monkeypatch.setattr(networks, 'ARMS', sizes)
  monkeypatch.setattr(common, 'limit_threads', lambda: None)
  output = tmp_path / 'networks.csv'
  arguments = networks.Arguments(demonstrations, 2, 1, 2, str(output))
  assert networks.main(arguments) == 0
  rows = _rows(output)
  assert [(row['round'], row['arm']) for row in rows] == [
    (number, name) for number in '12' for name in sizes
  ]
  for row in rows:
    assert float(row['update_seconds']) > 0 < float(row['action_seconds'])
  patches, small = (int(row['parameters']) for row in rows[:2])
  assert 400_000 < patches < 500_000 < 2_000_000 < small < 3_000_000
  shown = capsys.readouterr().out.splitlines()[-2:]
  assert [line.partition(': ')[0] for line in shown] == list(sizes)


def test_pictures_are_drawn_and_compared(tmp_path: pathlib.Path) -> None:
  rows, done = _measure('benchmarks.rendering', ('--states', '4'), tmp_path)
  assert [row['arm'] for row in rows] == ['ours', 'fine', 'dm_control']
  assert all(float(row['amount']) > 0 < float(row['cpu_seconds']) for row in rows)
  verdict = done.stdout.splitlines()[-1]
  assert verdict.startswith("pictures / dm_control's: ")
  assert done.returncode == int('MISSED' in verdict)
  # The same from the same camera, but for the floor's shade; dm_control's own has none.
  assert all(0 < float(row['difference']) < 0.4 for row in rows[:2])
  assert rows[2]['difference'] == ''


def _measure(
  module: str, settings: tuple[str, ...], folder: pathlib.Path
) -> tuple[list[dict[str, str]], subprocess.CompletedProcess[str]]:
  """Runs one round of a benchmark; returns the rows of its file, and what it said."""
  output = folder / 'results.csv'
  done = _call(module, '--output', str(output), '--rounds', '1', *settings)
  assert output.exists(), done.stderr
  return _rows(output), done


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
  with open(path, newline='') as f:
    return list(csv.DictReader(f))


def test_several_actors_and_their_traffic(
  demonstrations: str, tmp_path: pathlib.Path
) -> None:
  scaling, load = tmp_path / 'scaling.csv', tmp_path / 'load.csv'
  common = ('--demonstrations', demonstrations, '--output')
  settings = ('--rounds', '1', '--seconds', '.5', '--learner-steps', '20')
  done = _call('benchmarks.scaling', *common, str(scaling), *settings)
  assert [row['actors'] for row in _rows(scaling)] == list('1124'), done.stderr
  assert [row['cores_given'] for row in _rows(scaling)] == list('1222')
  assert all(float(row['per_second']) > 0 for row in _rows(scaling))
  assert done.stdout.splitlines()[-1].startswith('two actors, two cores / one, one: ')

  traffic = ('--actors', '2', '4', '--rate', '64', '--seconds', '3', '--updates', '5')
  done = _call('benchmarks.replay_load', *common, str(load), *traffic)
  rows = _rows(load)
  assert [row['actors'] for row in rows] == ['2', '4'], done.stderr
  assert [float(row['rows_asked']) for row in rows] == [128, 256]
  for row in rows:
    measured = ('rows_written', 'fetches_done', 'fetch_median_ms', 'rows_sampled')
    assert all(float(row[name]) > 0 for name in (*measured, 'server_cpu'))
    # Nobody writes more than was asked for, but for a burst that each has in hand.
    most = float(row['rows_asked']) + 32 * int(row['actors']) / 3
    assert float(row['rows_written']) <= most


@pytest.mark.parametrize('actors', ['1', '3'])
def test_actors_that_cannot_be_shared_out_are_refused(actors: str) -> None:
  done = _call('benchmarks.replay_load', '--actors', actors, '--processes', '2')
  assert done.returncode == 1
  assert done.stderr.splitlines()[-1] == (
    f'error: actors is {actors}; expected a multiple of processes (2), each of which '
    'is as many as the others'
  )
