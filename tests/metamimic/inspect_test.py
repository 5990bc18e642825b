"""Tests of metamimic.inspect."""

import pathlib

import numpy as np
import pytest

from metamimic import inspect
from metamimic import video
from metamimic.demonstrations import recording
from metamimic.demonstrations import storage
from metamimic.demonstrations import types


@pytest.fixture(name='demonstrations', scope='module')
def demonstrations_fixture() -> types.DemonstrationSet:
  return recording.record('reach_duplo', 2, 1, seed=0)[0]


@pytest.fixture(name='path')
def path_fixture(demonstrations: types.DemonstrationSet, tmp_path: pathlib.Path) -> str:
  path = str(tmp_path / 'reach.hdf5')
  storage.save(path, demonstrations)
  return path


def _rows(output: str) -> dict[str, list[str]]:
  """Returns the cells of the tables' rows by their first cell, or their second."""
  rows = {}
  for line in output.splitlines():
    cells = [cell.strip() for cell in line.strip('│ ').split('│')]
    rows[cells[0]] = cells[1:]
    if cells[0] in ('body', 'objects'):
      rows[cells[1]] = cells[2:]
  return rows


def test_names_of_parameters_do_nothing_to_a_terminal(
  demonstrations: types.DemonstrationSet,
  tmp_path: pathlib.Path,
  capsys: pytest.CaptureFixture[str],
) -> None:
  first = demonstrations.demonstrations[0]
  expert = {'[/]\x1b[2J': '[link=x]\x07:bomb:', 'speed': 1e300}
  strange = types.Demonstration(
    'demo_0', first.task, first.skill, first.observations, first.states, expert=expert
  )
  path = str(tmp_path / 'strange.hdf5')
  storage.save(path, types.DemonstrationSet(first.task, (strange,), (0,), ()))
  inspect.main(inspect.Arguments(path, demonstration='demo_0'))
  output = capsys.readouterr().out
  assert '  [/]?[2J: [link=x]?:bomb:' in output
  assert not {'\x1b', '\x07'} & set(output)


def test_prints_what_is_in_a_file(
  demonstrations: types.DemonstrationSet,
  path: str,
  capsys: pytest.CaptureFixture[str],
) -> None:
  inspect.main(inspect.Arguments(path))
  output = capsys.readouterr().out
  assert output.startswith(f'{path}: ')
  assert 'reach_duplo, actions recorded' in output
  rows = _rows(output)
  steps = [d.num_steps for d in demonstrations.split('train')]
  assert rows['train'] == [
    '2',
    '2',
    f'{min(steps)} to {max(steps)}',
    f'{np.mean(steps):.0f}',
    f'{min(steps) * 0.04:.1f} to {max(steps) * 0.04:.1f}',
  ]
  assert rows['valid'][:2] == ['1', '1']
  pinch = np.concatenate(
    [d.observations['body'][:, 24:27] for d in demonstrations.demonstrations]
  )
  assert rows['pinch_position'] == ['3', f'{pinch.min():.3f}', f'{pinch.max():.3f}']
  speeds = sorted(d.expert['speed'] for d in demonstrations.split('train'))
  held_out = demonstrations.split('valid')[0].expert['speed']
  assert rows['speed'] == [f'{speeds[0]:.3g} to {speeds[1]:.3g}', f'{held_out:.3g}']
  assert 'demo_' not in output


def test_says_when_there_are_no_actions(
  demonstrations: types.DemonstrationSet,
  tmp_path: pathlib.Path,
  capsys: pytest.CaptureFixture[str],
) -> None:
  path = str(tmp_path / 'watched.hdf5')
  watched = tuple(
    types.Demonstration(d.name, d.task, d.skill, d.observations, d.states)
    for d in demonstrations.demonstrations
  )
  storage.save(path, types.DemonstrationSet('reach_duplo', watched, (), (0, 1, 2)))
  inspect.main(inspect.Arguments(path, demonstration='demo_1'))
  output = capsys.readouterr().out
  assert 'actions not recorded' in output
  rows = _rows(output)
  assert rows['train'][:2] == ['0', '0']
  assert rows['valid'][:2] == ['3', '0']
  assert 'never solved' in output


def test_counts_the_demonstrations_of_each_skill_where_there_are_several(
  demonstrations: types.DemonstrationSet,
  path: str,
  tmp_path: pathlib.Path,
  capsys: pytest.CaptureFixture[str],
) -> None:
  inspect.main(inspect.Arguments(path))
  assert 'skill' not in capsys.readouterr().out
  shown = ('wave', 'stack', 'wave', 'wave')
  two = tuple(
    types.Demonstration(
      f'demo_{i}',
      'two_bricks',
      skill,
      {'body': np.zeros((2, 33), np.float32), 'objects': np.zeros((2, 26), np.float32)},
      np.zeros((2, 3)),
    )
    for i, skill in enumerate(shown)
  )
  path = str(tmp_path / 'two.hdf5')
  storage.save(path, types.DemonstrationSet('two_bricks', two, (0, 1, 2), (3,)))
  inspect.main(inspect.Arguments(path, demonstration='demo_1'))
  output = capsys.readouterr().out
  rows = _rows(output)
  assert rows['wave'] == ['2', '1']
  assert rows['stack'] == ['1', '0']
  assert '  skill: stack' in output.splitlines()


def test_tells_about_one_demonstration(
  demonstrations: types.DemonstrationSet,
  path: str,
  capsys: pytest.CaptureFixture[str],
) -> None:
  inspect.main(inspect.Arguments(path, demonstration='demo_2'))
  lines = capsys.readouterr().out.splitlines()
  d = demonstrations.demonstrations[2]
  first = 1 + int(np.flatnonzero(d.rewards)[0])
  assert (
    f'demo_2: {d.num_steps} steps ({d.num_steps * 0.04:.1f} s), '
    f'solved from step {first} on'
  ) in lines
  assert f'  speed: {d.expert["speed"]:.3g}' in lines


def test_plays_a_demonstration(
  demonstrations: types.DemonstrationSet, path: str, tmp_path: pathlib.Path
) -> None:
  target = str(tmp_path / 'demo.mp4')
  inspect.main(inspect.Arguments(path, demonstration='demo_1', video=target))
  frames = video.frames(target)
  d = demonstrations.demonstrations[1]
  assert frames.shape == (d.num_steps + 1, 240, 320, 3)
  moved = abs(frames[-1].astype(int) - frames[0]).max(axis=-1) > 60
  assert moved.mean() > 0.01  # the arm has left one place for another


@pytest.mark.parametrize(
  'changes, message',
  [
    (
      {'demonstration': 'demo_3'},
      "{path}: no demonstration 'demo_3'; expected one of demo_0, demo_1, demo_2",
    ),
    ({'video': 'demo.avi'}, "video is 'demo.avi'; expected a name that ends in .mp4"),
  ],
)
def test_refuses(path: str, changes: dict, message: str) -> None:
  with pytest.raises(ValueError) as e:
    inspect.main(inspect.Arguments(path, **changes))
  assert str(e.value) == message.format(path=path)
