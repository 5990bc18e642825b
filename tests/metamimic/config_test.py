"""Tests of metamimic.config."""

import dataclasses
import json
import pathlib
from typing import Any

import pytest

from metamimic import config

PATH = '/data/lift.hdf5'
VALID = config.Config(demonstrations=PATH)


def _changed(name: str, value: Any) -> config.Config:
  """Returns VALID with one setting, by its dotted name, changed."""
  section, _, field = name.rpartition('.')
  if not section:
    return dataclasses.replace(VALID, **{field: value})
  part = dataclasses.replace(getattr(VALID, section), **{field: value})
  return dataclasses.replace(VALID, **{section: part})


@pytest.mark.parametrize('name', list(config.PRESETS))
def test_presets_are_valid_and_survive_a_file(
  name: str, tmp_path: pathlib.Path
) -> None:
  text, preset = config.PRESETS[name]
  assert text.endswith('.')
  preset = dataclasses.replace(preset, demonstrations=PATH)
  config.validate(preset)
  path = str(tmp_path / 'config.json')
  config.save(preset, path)
  assert config.load(path) == preset
  assert [p.name for p in tmp_path.iterdir()] == ['config.json']


def test_tuples_stay_tuples() -> None:
  changed = _changed('imitation.look_ahead', (3, 4))
  values = config.to_dict(changed)
  assert values['imitation']['look_ahead'] == [3, 4]
  assert config.from_dict(values).imitation.look_ahead == (3, 4)


def test_differences_are_named() -> None:
  changed = dataclasses.replace(_changed('d4pg.discount', 0.95), seed=4, algorithm='bc')
  assert config.differences(VALID, changed) == [
    'algorithm: metamimic -> bc',
    'seed: 0 -> 4',
    'd4pg.discount: 0.9 -> 0.95',
  ]
  assert config.differences(VALID, VALID) == []


def test_flatten_names_by_dots() -> None:
  assert config.flatten({'a': 1, 'b': {'c': 2, 'd': {'e': [3]}}}) == {
    'a': 1,
    'b.c': 2,
    'b.d.e': [3],
  }


def test_every_setting_has_a_meaning() -> None:
  source = pathlib.Path(config.__file__).read_text().splitlines()
  for name in config.flatten(config.to_dict(VALID)):
    field = name.rpartition('.')[2]
    # Below the setting of that name stands its docstring.
    lines = [i for i, line in enumerate(source) if line.startswith(f'  {field}: ')]
    assert lines, name
    assert all(source[i + 1].startswith('  """') for i in lines), name


def test_unknown_and_missing_fields_are_refused_by_name(tmp_path: pathlib.Path) -> None:
  values = config.to_dict(VALID)
  values['d4pg']['lambda'] = values['d4pg'].pop('discount')
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(values))
  with pytest.raises(ValueError) as e:
    config.load(str(path))
  assert str(e.value) == (
    f"{path}: config.d4pg: unknown fields ['lambda'], missing fields ['discount']"
  )


def test_broken_file_is_refused_by_name(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'config.json'
  path.write_text('{')
  with pytest.raises(ValueError) as e:
    config.load(str(path))
  assert str(e.value).startswith(f'{path}: ')


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('learner_steps', 0, 'learner_steps is 0; expected a number above 0'),
    ('d4pg.n_step', -1, 'd4pg.n_step is -1; expected a number above 0'),
    (
      'replay.samples_per_insert',
      0.0,
      'replay.samples_per_insert is 0.0; expected a number above 0',
    ),
    (
      'evaluation.period',
      -1.0,
      'evaluation.period is -1.0; expected a number above 0',
    ),
    ('d4pg.discount', 1.5, 'd4pg.discount is 1.5; expected a number in [0, 1]'),
    (
      'imitation.early_end',
      -0.1,
      'imitation.early_end is -0.1; expected a number in [0, 1]',
    ),
    (
      'd4pg.v_max',
      0.0,
      'd4pg.v_max is 0.0; expected more than d4pg.v_min (0.0)',
    ),
    ('d4pg.num_atoms', 1, 'd4pg.num_atoms is 1; expected at least 2'),
    (
      'replay.min_size',
      500_000,
      'replay.min_size is 500000; expected at most replay.max_size (400000)',
    ),
    ('imitation.look_ahead', (), 'imitation.look_ahead is (); expected steps >= 1'),
    (
      'imitation.look_ahead',
      (1, 0),
      'imitation.look_ahead is (1, 0); expected steps >= 1',
    ),
    (
      'demonstrations',
      '',
      'demonstrations is empty; expected the path of an HDF5 file '
      '(python -m metamimic.record makes one)',
    ),
  ],
)
def test_values_that_cannot_work_are_refused(
  name: str, value: Any, message: str
) -> None:
  with pytest.raises(ValueError) as e:
    config.validate(_changed(name, value))
  assert str(e.value) == message
