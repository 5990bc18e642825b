"""Tests of metamimic.run_description."""

import dataclasses
import json
import pathlib
from typing import Any

import pytest

from envs import reward_library
from envs import rewards
from envs import tasks
from metamimic import run_description

NAME = reward_library.DEFAULTS['lift_brick']
LAYOUT = tasks.get('lift_brick').layout
_LAUNCH, _START, _END = 'launch', 'start', 'end'
TEMPERATURES = {'arm': 0.1, 'fingers': 0.2, 'pinch': 0.1, 'brick': 0.02}


def _found() -> dict[str, Any]:
  reward = rewards.load(NAME, LAYOUT, TEMPERATURES)
  declaration = rewards.declaration(reward)
  return {
    'task': 'lift_brick',
    'reward': NAME,
    'terms': list(TEMPERATURES),
    'temperatures': TEMPERATURES,
    'training_reward': NAME,
    'training_temperatures': TEMPERATURES,
    'declaration': declaration,
    'training_declaration': declaration,
    'frames': {},
  }


def test_rewards_have_the_temperatures_that_were_agreed_on(
  tmp_path: pathlib.Path,
) -> None:
  warmer = {name: 2 * tau for name, tau in TEMPERATURES.items()}
  run_description.agree(str(tmp_path), {**_found(), 'training_temperatures': warmer})
  assert rewards.temperatures(run_description.reward(str(tmp_path))) == TEMPERATURES
  training = run_description.training_reward(str(tmp_path), LAYOUT)
  assert rewards.temperatures(training) == warmer


def test_what_is_agreed_on_stays(tmp_path: pathlib.Path) -> None:
  run_description.agree(str(tmp_path), _found())
  before = run_description.read(str(tmp_path))
  run_description.agree(str(tmp_path), _found())
  assert run_description.read(str(tmp_path)) == before
  for name, value, why in (
    ('terms', ['arm'], 'The reward has changed'),
    ('frames', {'pixels/front': '/x'}, 'Pictures are drawn in another way'),
  ):
    with pytest.raises(ValueError, match='the run began with ') as e:
      run_description.agree(str(tmp_path), {**_found(), name: value})
    assert str(e.value).startswith(f'{tmp_path}/run.json: the run began with {name} ')
    assert why in str(e.value)
  assert run_description.read(str(tmp_path)) == before


def test_damaged_fields_are_refused(tmp_path: pathlib.Path) -> None:
  for name, value, expected in (
    ('task', 'juggling', 'the name of a task'),
    ('terms', 'arm', 'a list of names'),
    ('declaration', {'arm': 1}, 'a text by term'),
    ('frames', {'pixels/front': 3}, 'a file by group'),
    ('frames', ['x'], 'a file by group'),
    ('training_reward', 5, 'package.module:attribute'),
    ('training_temperatures', {'arm': 'warm'}, 'numbers by term'),
    ('started', 'today', 'seconds'),
  ):
    run_description.write(str(tmp_path), {**_found(), name: value})
    with pytest.raises(ValueError, match='expected ') as e:
      run_description.read(str(tmp_path))
    assert f'{tmp_path}/run.json: {name} is ' in str(e.value)
    assert str(e.value).endswith(expected)


def test_missing_fields_are_named(tmp_path: pathlib.Path) -> None:
  with pytest.raises(FileNotFoundError, match=r'run\.json is missing: .* is not a run'):
    run_description.read(str(tmp_path))
  found = _found()
  del found['training_reward']
  run_description.write(str(tmp_path), found)
  run_description.reward(str(tmp_path))
  with pytest.raises(ValueError, match=r'run\.json: no training_reward; expected'):
    run_description.training_reward(str(tmp_path), LAYOUT)


def test_a_run_whose_reward_has_changed_is_refused(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  run_description.agree(str(tmp_path), _found())
  run_description.reward(str(tmp_path))
  attribute = NAME.partition(':')[2]
  declared = getattr(reward_library, attribute)
  first, *others = declared.terms
  heavier = [dataclasses.replace(first, weight=10 * first.weight), *others]
  changed = rewards.Reward(heavier)
  monkeypatch.setattr(reward_library, attribute, changed)
  with pytest.raises(ValueError, match=f'the run has the reward {NAME}, declared as '):
    run_description.reward(str(tmp_path))
  declaration = rewards.declaration(rewards.load(NAME, LAYOUT, TEMPERATURES))
  with pytest.raises(ValueError, match='the run began with declaration '):
    run_description.agree(str(tmp_path), {**_found(), 'declaration': declaration})


@pytest.mark.parametrize(
  ('events', 'seconds'),
  [
    ([(_LAUNCH, 100), (_START, 101), (_END, 160)], 60),
    ([(_LAUNCH, 100), (_END, 160), (_LAUNCH, 1000), (_START, 1001), (_END, 1030)], 90),
    # The first launcher was killed; nobody knows when.
    ([(_LAUNCH, 100), (_START, 103), (_LAUNCH, 500), (_END, 510)], 13),
  ],
)
def test_breaks_between_launches_do_not_count(
  events: list[tuple[str, float]], seconds: float, tmp_path: pathlib.Path
) -> None:
  (tmp_path / 'events.jsonl').write_text(
    ''.join(json.dumps({'wall_time': t, 'event': what}) + '\n' for what, t in events)
  )
  assert run_description.seconds_running(tmp_path) == pytest.approx(seconds)
  # While the last launcher is still there.
  later = events[-1][1] + 7
  assert run_description.seconds_running(tmp_path, later) == pytest.approx(seconds + 7)


def test_a_torn_event_costs_nothing_but_itself(tmp_path: pathlib.Path) -> None:
  launch, end = (json.dumps({'wall_time': t, 'event': _LAUNCH}) for t in (100, 130))
  end = end.replace(_LAUNCH, _END)
  text = '\n'.join([launch, f'{{"wall_time": 1{launch}', '\0' * 9, 'null', end])
  (tmp_path / 'events.jsonl').write_text(text)
  assert run_description.seconds_running(tmp_path) == 30.0
