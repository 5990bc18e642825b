"""Tests of benchmarks.results."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import pandas as pd
import pytest

from benchmarks import common
from benchmarks import experiments
from benchmarks import readme
from benchmarks import results
from metamimic import config as config_lib

NAME = 'reach_duplo'


@pytest.fixture(name='runs')
def runs_fixture(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> pathlib.Path:
  monkeypatch.setattr(common, 'RUNS', tmp_path / 'runs')
  monkeypatch.setattr(readme, 'RESULTS', tmp_path / 'results')
  two = dataclasses.replace(experiments.EXPERIMENTS[NAME], seeds=(0, 1))
  monkeypatch.setitem(experiments.EXPERIMENTS, NAME, two)
  return tmp_path / 'runs'


def _finish(runs: pathlib.Path, seed: int, reward: float, **config: Any) -> None:
  """Leaves what a run leaves when it is done."""
  found = pd.read_csv(readme.ROOT / 'results' / f'{NAME}.csv')
  folder = runs / f'{NAME}-seed{seed}'
  folder.mkdir(parents=True)
  found.assign(seed=seed, reward=reward).to_csv(folder / 'evaluation.csv', index=False)
  (folder / 'summary.json').write_text('{"learner_steps": {"imitation": 20000}}')
  about = dataclasses.replace(config_lib.Config(), seed=seed, **config)
  config_lib.save(about, str(folder / 'config.json'))
  event = {'wall_time': 100.0, 'event': 'launch'}
  (folder / 'events.jsonl').write_text(json.dumps(event) + '\n')


def _collected() -> dict[int, float]:
  """Returns the reward of each seed in the files."""
  results.collect(NAME)
  rows = pd.read_csv(readme.RESULTS / f'{NAME}.csv')
  policy = rows[rows['arm'] == 'metamimic']
  about = json.loads((readme.RESULTS / f'{NAME}.json').read_text())
  assert [int(seed) for seed in about['runs']] == sorted(policy['seed'].unique())
  return policy.groupby('seed')['reward'].mean().to_dict()


def test_seed_whose_run_is_gone_stays_in_the_files(runs: pathlib.Path) -> None:
  _finish(runs, 1, 0.5, learner_steps=1)
  _collected()
  shutil.rmtree(runs)
  _finish(runs, 0, 0.25, learner_steps=1)
  assert _collected() == {0: 0.25, 1: 0.5}


def test_new_run_takes_the_place_of_the_same_seed(runs: pathlib.Path) -> None:
  _finish(runs, 1, 0.5, learner_steps=1)
  _collected()
  shutil.rmtree(runs)
  _finish(runs, 1, 0.75, learner_steps=1)
  assert _collected() == {1: 0.75}


def test_seed_of_another_configuration_goes(runs: pathlib.Path) -> None:
  _finish(runs, 1, 0.5, learner_steps=1)
  _collected()
  shutil.rmtree(runs)
  _finish(runs, 0, 0.25, learner_steps=2)
  assert _collected() == {0: 0.25}


@pytest.mark.parametrize(
  ('algorithm', 'learn', 'change', 'kept'),
  [
    ('metamimic', False, {'turned': False}, True),
    ('metamimic', True, {'turned': False}, False),
    ('d4pg', False, {'turned': False}, False),
    ('d4pg', False, {'patience': 9.0}, True),
    ('d4pgfd', False, {'patience': 9.0}, False),
    ('bc_no_goal', False, {'turned': False}, False),
    ('bc_no_goal', False, {'patience': 9.0}, True),
  ],
)
def test_how_a_task_is_learned_matters_where_it_is(
  runs: pathlib.Path, algorithm: str, learn: bool, change: dict[str, Any], kept: bool
) -> None:
  task = config_lib.TaskConfig(learn=learn)
  _finish(runs, 1, 0.5, algorithm=algorithm, task=task)
  _collected()
  shutil.rmtree(runs)
  changed = dataclasses.replace(task, **change)
  _finish(runs, 0, 0.25, algorithm=algorithm, task=changed)
  assert _collected() == ({0: 0.25, 1: 0.5} if kept else {0: 0.25})


def test_a_run_of_other_settings_than_todays_is_refused(runs: pathlib.Path) -> None:
  _finish(runs, 0, 0.5)
  path = runs / f'{NAME}-seed0' / 'config.json'
  path.write_text(path.read_text().replace('"reset_at"', '"reset_after"'))
  with pytest.raises(ValueError, match=f'^{path}: .*reset_a'):
    results.collect(NAME)


def test_runs_of_different_configurations_are_refused(runs: pathlib.Path) -> None:
  _finish(runs, 0, 0.5, learner_steps=1)
  _finish(runs, 1, 0.5, learner_steps=2)
  with pytest.raises(SystemExit, match='-seed1: its configuration is not that of'):
    results.collect(NAME)
