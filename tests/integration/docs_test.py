"""Runs what docs/add_a_reward.md tells people to write."""

from collections.abc import Iterator
import dataclasses
import json
import pathlib
import re
import sys

import numpy as np
import pytest

from envs import distances
from envs import imitation
from envs import observations
from envs import picture_distances
from envs import reward_library
from envs import rewards
from envs import tasks
from metamimic import config
from metamimic.demonstrations import recording
from metamimic.demonstrations import types

_PAGE = pathlib.Path(__file__).absolute().parents[2] / 'docs' / 'add_a_reward.md'
_MODULE = 'my_package.my_rewards'
_TERMS = {
  'GENTLE': ['arm', 'speed', 'brick', 'turn'],
  'HIGH': ['height', 'pinch'],
  'grasp': ['hand', 'fingers', 'brick'],
}


@pytest.fixture(scope='module', autouse=True)
def _my_package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
  """Writes the page's Python to the file that the page says it is."""
  folder = tmp_path_factory.mktemp('somebody')
  (folder / 'my_package').mkdir()
  code = re.findall(r'^```python\n(.*?)^```$', _PAGE.read_text(), re.M | re.S)
  file = folder / 'my_package' / 'my_rewards.py'
  file.write_text('\n\n'.join(code))
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.syspath_prepend(folder)
    yield
  for name in (_MODULE, 'my_package'):
    sys.modules.pop(name, None)


@pytest.fixture(scope='module')
def demonstration() -> types.Demonstration:
  recorded, _ = recording.record('lift_brick', train=1, valid=0, seed=0)
  return recorded.demonstrations[0]


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
