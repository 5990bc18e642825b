"""Tests of benchmarks.skills and benchmarks.film_strips, on made-up results."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from benchmarks import experiments
from benchmarks import figures
from benchmarks import film_strips
from benchmarks import skills

_REWARDS = {'metamimic': 0.8, 'replay': 1.0, 'zero': 0.25}
_NOVEL = 0.72  # MetaMimic's reward of a skill that it was not trained on.


def _write(folder: pathlib.Path, name: str, shown: list[str], seeds: int = 1) -> None:
  """Writes an experiment's file: two episodes of each arm, skill and seed."""
  rows = [
    {
      'seed': seed,
      'learner_steps': 9 if arm == 'metamimic' else 0,
      'arm': arm,
      'demonstration': f'{skill}_{i}',
      'skill': skill,
      'split': 'novel' if skill in experiments.EXPERIMENTS[name].novel else 'valid',
      'steps': 10,
      'completed': 1.0,
      'success': int(arm == 'replay' or i),
      'total': (
        _NOVEL
        if arm == 'metamimic' and skill in experiments.EXPERIMENTS[name].novel
        else reward
      ),
    }
    for arm, reward in _REWARDS.items()
    for skill in shown
    for i in range(2)
    for seed in range(seeds)
  ]
  pd.DataFrame(rows).to_csv(folder / f'{name}.csv', index=False)


def test_a_skill_is_compared_between_who_was_trained_on_it_and_who_was_not(
  tmp_path: pathlib.Path,
) -> None:
  shown = ['push', 'stack', 'reach', 'wave']
  _write(tmp_path, 'two_bricks_without_push_stack', shown, seeds=2)
  _write(tmp_path, 'two_bricks_without_reach_unstack', shown)
  summary = skills.summary(tmp_path).set_index('skill')
  # Nobody was trained without waving.
  assert sorted(summary.index) == ['push', 'reach', 'stack']
  push = summary.loc['push']
  assert push['novel'] == pytest.approx(0.72) and push['seen'] == pytest.approx(0.8)
  assert push['kept'] == pytest.approx(0.9)
  assert push['floor'] == pytest.approx(0.25)
  assert (push['success_novel'], push['success_replay']) == (0.5, 1.0)
  # Two of each of two seeds; two of the one run that was trained on it.
  assert push['episodes'] == '2 × 2, 1 × 2'
  assert summary.loc['reach', 'episodes'] == '1 × 2, 2 × 2'
  assert push['novel_low'] == pytest.approx(0.72)
  (table,) = skills.table(tmp_path)
  cells = dict(zip(table.header, table.rows[0], strict=True))
  assert cells['never / trained'].text == '0.90'
  assert cells['never shown (95 %)'].text == '0.72 (0.72–0.72)'
  assert cells['never shown (95 %)'].source == (
    'results/two_bricks_without_*.csv, arm=metamimic skill=push split=novel: mean of '
    "total, over replay's"
  )


def test_without_files_there_is_no_table(tmp_path: pathlib.Path) -> None:
  assert skills.table(tmp_path) == []


def test_without_runs_it_says_what_makes_them(tmp_path: pathlib.Path) -> None:
  with pytest.raises(ValueError, match=r'no finished run without a skill.*results'):
    film_strips.main(film_strips.Arguments(str(tmp_path), str(tmp_path / 'skills.png')))
  assert not (tmp_path / 'skills.png').exists()


def test_film_strips_of_finished_runs_are_drawn(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  run = tmp_path / 'two_bricks_without_push_stack-seed0'
  run.mkdir()
  (run / 'summary.json').write_text('{}')
  (tmp_path / 'two_bricks_without_lift_top_wave-seed0').mkdir()  # is not finished
  strip = np.zeros((7, 12, 16, 3), np.uint8)
  monkeypatch.setattr(film_strips, '_strips', lambda run, skill: [strip, strip + 99])
  output = tmp_path / 'skills.png'
  arguments = film_strips.Arguments(str(tmp_path), str(output))
  assert film_strips.main(arguments) == ['push', 'stack']
  assert output.stat().st_size > 1000


def test_a_strip_has_the_demonstration_above_the_policy() -> None:
  shown, done = np.full((2, 3, 4, 5, 3), [[[[[[10]]]], [[[[20]]]]]][0], np.uint8)
  figure = figures.film_strips(['lift_top'], [np.stack([shown, done])])
  (axes,) = figure.axes
  picture = np.asarray(axes.images[0].get_array())
  assert picture.shape == (8, 15, 3)
  assert (picture[:4] == 10).all() and (picture[4:] == 20).all()
  assert axes.get_ylabel() == 'lift top'
