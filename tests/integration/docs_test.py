"""Runs what the README and docs/ tell people to write."""

from collections.abc import Iterator
import dataclasses
import importlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import types as python_types
from typing import Any

import numpy as np
import pytest

from envs import distances
from envs import imitation
from envs import observations
from envs import picture_distances
from envs import reward_library
from envs import rewards
from envs import stepping
from envs import success
from envs import tasks
from launch_configs import local
from launch_configs import slurm
from launch_configs import vertex
from metamimic import config
from metamimic import preparation
from metamimic import presets
from metamimic import validation
from metamimic.demonstrations import recording
from metamimic.demonstrations import storage
from metamimic.demonstrations import types
from tests.metamimic import untrained

_ROOT = pathlib.Path(__file__).absolute().parents[2]
_PAGE = _ROOT / 'docs' / 'add_a_reward.md'
_MODULE = 'my_package.my_rewards'
_TERMS = {
  'GENTLE': ['arm', 'speed', 'brick', 'turn'],
  'ABOVE': ['aside', 'pinch'],
  'grasp': ['hand', 'fingers', 'brick'],
}


def _code(page: str) -> list[str]:
  """Returns the Python of a page, block by block."""
  text = (_ROOT / page).read_text()
  return re.findall(r'^```python\n(.*?)^```$', text, re.M | re.S)


def _python(folder: pathlib.Path, *arguments: str) -> str:
  """Runs Python in a folder, with this repository on its path; returns its output."""
  path = os.pathsep.join([str(_ROOT), os.environ.get('PYTHONPATH', '')])
  done = subprocess.run(
    [sys.executable, *arguments],
    cwd=folder,
    env={**os.environ, 'PYTHONPATH': path},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.fixture(scope='module', autouse=True)
def _my_package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
  """Writes the page's Python to the file that the page says it is."""
  folder = tmp_path_factory.mktemp('somebody')
  (folder / 'my_package').mkdir()
  file = folder / 'my_package' / 'my_rewards.py'
  file.write_text('\n\n'.join(_code('docs/add_a_reward.md')))
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.syspath_prepend(folder)
    yield
  for name in (_MODULE, 'my_package'):
    sys.modules.pop(name, None)


@pytest.fixture(scope='module')
def demonstration() -> types.Demonstration:
  recorded, _ = recording.record('lift_brick', train=1, valid=0, seed=0)
  return recorded.demonstrations[0]


def _commands(page: str, start: str) -> list[list[str]]:
  """Returns a page's commands that begin so, word by word, without that."""
  text = (_ROOT / page).read_text().replace('\\\n', ' ')
  found = re.findall(rf'{start}\b([^`\n]*)', text)
  return [shlex.split(words, comments=True) for words in found]


_PAGES = ['README.md', *sorted(f'docs/{p.name}' for p in (_ROOT / 'docs').glob('*.md'))]


def test_trainings_that_the_pages_show_are_taken() -> None:
  shown = []
  for page in _PAGES:
    for words in _commands(page, 'make train'):
      given = dict(word.split('=', 1) for word in words)
      assert given.keys() <= {'TASK', 'RUN', 'PRESET', 'ARGS', 'DEMONSTRATIONS'}
      assert given.get('TASK', 'lift_brick') in (*tasks.TASKS, 'lift_large_box')
      preset = ['--preset', given.get('PRESET', 'laptop')]
      arguments = shlex.split(given.get('ARGS', ''))
      _, settings = local.parse([*preset, '--demonstrations', 'FILE', *arguments])
      validation.validate(settings)
      shown.append(settings)
  assert len(shown) > 15
  assert any(s.task.learn for s in shown) and any(s.pictures for s in shown)


@pytest.mark.parametrize(
  ('module', 'options'),
  [
    ('launch_configs.local', local.Options),
    ('launch_configs.slurm', slurm.Options),
    ('launch_configs.vertex', vertex.Options),
  ],
)
def test_launches_that_the_pages_show_are_taken(
  module: str, options: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
  monkeypatch.chdir(tmp_path)  # Where there are no runs.
  commands = [c for page in _PAGES for c in _commands(page, f'-m {module}')]
  assert any('--run-dir' in command for command in commands)
  for command in commands:
    if command != ['--help']:
      asked = local.parse_options(options, module, '', command)
      _, settings = local.resolve(dataclasses.replace(asked, demonstrations='FILE'))
      validation.validate(settings)


def test_the_page_names_the_rewards_on_the_command_line() -> None:
  named = re.findall(r'--imitation\.reward (\S+?:\w+)', _PAGE.read_text())
  assert sorted(named) == sorted(f'{_MODULE}:{name}' for name in _TERMS)
  assert config.Config().imitation.reward == ''


def test_the_page_names_settings_that_exist() -> None:
  settings = set(re.findall(r'--imitation\.([\w-]+)', _PAGE.read_text()))
  assert settings == {'reward', 'early-end'}
  for setting in settings:
    assert hasattr(config.Config().imitation, setting.replace('-', '_'))


def test_the_page_lists_every_distance() -> None:
  listed = re.findall(r'^\| `(\w+)\.(\w+)\(', _PAGE.read_text(), re.M)
  assert listed == [
    (module.__name__.removeprefix('envs.'), name)
    for module in (distances, picture_distances)
    for name, value in vars(module).items()
    if isinstance(value, type)
    and hasattr(value, 'bind')
    and dataclasses.is_dataclass(value)
  ]
  assert ('distances', 'Euclidean') in listed


@pytest.mark.parametrize('name', sorted(_TERMS))
def test_the_pages_rewards_work(name: str, demonstration: types.Demonstration) -> None:
  env = tasks.load('lift_brick', seed=0)
  reward = rewards.load(f'{_MODULE}:{name}', env.layout)
  frames = demonstration.observations
  if isinstance(reward, rewards.Reward):
    reward = rewards.calibrate(reward, [frames])
    taus = rewards.temperatures(reward)
    assert list(taus) == _TERMS[name]
    assert taus.get('turn', 0.3) == 0.3
    # As nodes do that find the temperatures in the run's description.
    again = rewards.load(f'{_MODULE}:{name}', env.layout, json.loads(json.dumps(taus)))
    assert rewards.temperatures(again) == taus
  first, last = (
    {group: values[i] for group, values in frames.items()} for i in (0, -1)
  )
  assert rewards.check(name, reward, frames) == _TERMS[name]
  assert reward(last, last).total == pytest.approx(1)
  assert reward(first, last).total < 0.5

  following = imitation.ImitationEnvironment(env, [demonstration], reward)
  following.reset(0, step=0)
  timestep = following.step(np.zeros(9, np.float32))
  assert timestep.mid()
  assert list(following.result.terms) == _TERMS[name]
  assert 0 < timestep.reward['imitation'] < 1
  following.close()


def test_the_pages_rewards_refuse_another_task() -> None:
  layout = observations.Layout(tasks.get('reach_duplo').objects)
  with pytest.raises(ValueError, match="no field 'brick/position'"):
    rewards.load(f'{_MODULE}:GENTLE', layout)


def test_the_experts_own_actions_score_1(demonstration: types.Demonstration) -> None:
  # Under the task's own reward, its temperatures calibrated as a run does.
  env = tasks.load('lift_brick', seed=5)
  declared = rewards.load(reward_library.DEFAULTS['lift_brick'], env.layout)
  assert isinstance(declared, rewards.Reward)
  reward = rewards.calibrate(declared, [demonstration.observations])
  following = imitation.ImitationEnvironment(env, [demonstration], reward)
  timestep, totals = following.reset(0, step=0), []
  for action in demonstration.actions:
    timestep = following.step(action)
    totals.append(timestep.reward['imitation'])
  assert np.mean(totals) >= 0.99
  assert timestep.last()
  assert timestep.reward['task'] == 1
  assert timestep.discount == {'imitation': 1, 'task': 0}
  following.close()


@pytest.fixture(name='trained', scope='module')
def trained_fixture(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A folder with what the README's commands leave; its policies never learned."""
  folder = tmp_path_factory.mktemp('clone')
  run = untrained.make_run(folder / 'runs' / 'lift_brick')
  shutil.copytree(run, folder / 'runs' / 'both')
  (folder / 'data').mkdir()
  shutil.copy(run / 'demonstrations.hdf5', folder / 'data' / 'lift_brick.hdf5')
  return folder


@pytest.mark.parametrize(
  ('number', 'printed'), [(0, 'not lifted'), (1, 'not lifted'), (2, 'drawing')]
)
def test_the_readmes_code_runs(
  number: int, printed: str, trained: pathlib.Path
) -> None:
  assert _python(trained, '-c', _code('README.md')[number]).startswith(printed)


def test_all_of_the_readmes_code_is_run() -> None:
  assert len(_code('README.md')) == 3


@pytest.fixture(name='mine', scope='module')
def mine_fixture(
  tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[python_types.ModuleType]:
  """The file of docs/your_own_demonstrations.md, imported."""
  folder = tmp_path_factory.mktemp('mine')
  whole, _ = _code('docs/your_own_demonstrations.md')
  (folder / 'my_demonstrations.py').write_text(whole)
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module('my_demonstrations')
  del sys.modules['my_demonstrations']


def test_own_demonstrations_are_written(mine: python_types.ModuleType) -> None:
  folder = pathlib.Path(str(mine.__file__)).parent
  _python(folder, '-m', 'my_demonstrations')
  printed = _python(folder, '-m', 'metamimic.inspect', 'data/mine.hdf5')
  assert 'lift_brick, actions recorded' in printed
  found = storage.load(str(folder / 'data' / 'mine.hdf5'), with_actions=True)
  assert (found.train, found.valid) == ((0, 1), (2,))
  assert {d.num_steps for d in found.demonstrations} == {mine.STEPS}


def test_a_run_takes_own_demonstrations_without_actions(
  mine: python_types.ModuleType,
  demonstration: types.Demonstration,
  tmp_path: pathlib.Path,
) -> None:
  path = str(tmp_path / 'states.hdf5')
  mine.write(path, [(demonstration.states,), (demonstration.states,)])
  _, tiny = presets.PRESETS['tiny']
  run = dataclasses.replace(tiny, demonstrations=path)
  preparation.prepare(run)
  with pytest.raises(ValueError, match='the algorithm bc needs them'):
    preparation.prepare(dataclasses.replace(run, algorithm='bc'))
  first, _ = storage.load(path).demonstrations
  assert not first.has_actions
  for group, values in demonstration.observations.items():
    np.testing.assert_allclose(first.observations[group], values, atol=1e-5)


def test_a_state_is_made_of_positions_and_velocities(
  mine: python_types.ModuleType, demonstration: types.Demonstration
) -> None:
  _, block = _code('docs/your_own_demonstrations.md')
  names = vars(mine).copy()
  exec(block, names)
  seen = mine.env.set_state(demonstration.states[50])
  data = mine.env.physics.data
  made = names['state'](data.qpos.copy(), data.qvel.copy())
  again = mine.env.set_state(made)
  for group, values in seen.items():
    np.testing.assert_allclose(again[group], values, atol=1e-5)


def test_the_pages_task_works() -> None:
  function, entry, declaration = _code('docs/add_a_task.md')
  there = vars(success).copy()
  exec(function, there)
  made = python_types.SimpleNamespace(**there)
  task = eval(entry, {'stepping': stepping, 'success': made})
  env = stepping.ManipulationEnvironment(task, seed=0)
  env.reset()
  still = np.zeros(9, np.float32)
  assert not any(env.step(still).reward for _ in range(2 * task.hold_steps))
  upright = np.array([1.0, 0.0, 0.0, 0.0])
  env.scene.place_object('box', np.array([0.3, -0.3, 0.6]), upright)
  for _ in range(task.hold_steps):
    timestep = env.step(still)
  assert timestep.last() and timestep.reward == 1

  library = {**vars(reward_library), 'DEFAULTS': {}}
  exec(declaration, library)
  ((name, reward),) = library['DEFAULTS'].items()
  assert (name, reward) == (task.name, 'envs.reward_library:LIFT_LARGE_BOX')
  bound = library['LIFT_LARGE_BOX'].bind(env.layout)
  assert [term.name for term in bound.terms] == ['arm', 'fingers', 'pinch', 'box']
  env.close()
