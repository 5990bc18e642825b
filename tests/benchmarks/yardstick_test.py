"""Tests of benchmarks.yardstick, on made-up runs."""

from collections.abc import Sequence
import math
import pathlib

import numpy as np
import pandas as pd
import pytest

from benchmarks import experiments
from benchmarks import figures
from benchmarks import yardstick
from metamimic import config as config_lib


def _run(
  folder: pathlib.Path, seed: int, returns: Sequence[float], factor: float
) -> pathlib.Path:
  """Writes what a run leaves whose every 1,000 learner steps take 10 s.

  Args:
    folder: of the runs.
    seed: of the run.
    returns: of its evaluations, each as long after the last as these steps take.
    factor: environment steps for each learner step, of two actors together.
  """
  run_dir = folder / f'{experiments.YARDSTICK}-seed{seed}'
  (run_dir / 'logs').mkdir(parents=True)
  config_lib.save(config_lib.Config(seed=seed), str(run_dir / 'config.json'))
  pd.DataFrame(
    [
      {
        'wall_time': 5000.0 + 10 * i - (split == 'valid'),
        'learner_steps': 1000 * i,
        'arm': arm,
        'split': split,
        'return': returned + offset if arm == 'd4pg' else math.nan,
      }
      for i, returned in enumerate(returns)
      for arm in ('d4pg', 'replay')
      for split, offset in (('valid', 10), ('train', -10))
    ]
  ).to_csv(run_dir / 'logs' / 'evaluator.csv', index=False)
  # Rows at other times than evaluations; one actor does three times as much.
  for actor, share in enumerate((0.25, 0.75)):
    seconds = [0, 7, 13, 100]
    pd.DataFrame(
      {
        'wall_time': [5000.0 + s for s in seconds],
        'environment_steps': [share * factor * 100 * s for s in seconds],
      }
    ).to_csv(run_dir / 'logs' / f'actor-{actor}.csv', index=False)
  return run_dir


def test_frames_are_the_environment_steps_of_all_actors_at_each_evaluation(
  tmp_path: pathlib.Path,
) -> None:
  _run(tmp_path, 3, [10, 60, 160], factor=20)
  rows = yardstick.collect(tmp_path)
  ours = rows[rows['who'] == yardstick.OURS]
  assert ours[['seed', 'frame', 'return']].values.tolist() == [
    [3, 0, 10],
    [3, 20_000, 60],
    [3, 40_000, 160],
  ]


def test_what_a_resumed_run_lost_counts(tmp_path: pathlib.Path) -> None:
  run_dir = _run(tmp_path, 0, [0, 60, 160], factor=20)
  log = pd.read_csv(run_dir / 'logs' / 'evaluator.csv')
  # It went on from step 500, and was at 800 when it had been beyond 1,000 before.
  log.loc[log['learner_steps'] == 2000, 'learner_steps'] = 800
  log.to_csv(run_dir / 'logs' / 'evaluator.csv', index=False)
  rows = yardstick.evaluations(run_dir)
  assert rows['frame'].tolist() == [0, 20_000, 40_000]
  assert rows['return'].tolist() == [0, 60, 160]


def test_means_are_over_seeds_as_far_as_all_of_them_have_come(
  tmp_path: pathlib.Path,
) -> None:
  _run(tmp_path, 0, [0, 60, 160, 200], factor=20)
  _run(tmp_path, 1, [0, 20, 100], factor=40)
  rows = yardstick.collect(tmp_path)
  curve = yardstick.mean_curve(rows[rows['who'] == yardstick.OURS])
  # The other's at 20,000 lies half-way between two evaluations.
  assert curve.to_dict() == {0: 0, 20_000: 35, 40_000: 90, 60_000: 130}
  ours = yardstick.summary(rows).set_index('who').loc[yardstick.OURS]
  assert ours['seeds'] == 2
  assert (ours['reaches_50'], ours['reaches_100']) == (40_000, 60_000)
  assert math.isnan(ours['reaches_150'])
  assert (ours['frames'], ours['last']) == (60_000, 130)


def test_what_was_published_is_what_its_authors_say(tmp_path: pathlib.Path) -> None:
  _run(tmp_path, 0, [0, 60], factor=20)
  summary = yardstick.summary(yardstick.collect(tmp_path)).set_index('who')
  published = summary.loc[yardstick.PUBLISHED]
  assert published['seeds'] == 10
  assert published['reaches_150'] == 520_000
  assert published['frames'] == 1_000_000
  assert published['last'] == pytest.approx(202, abs=1)


def test_it_is_written_and_shown(tmp_path: pathlib.Path) -> None:
  _run(tmp_path, 0, [0, 60, 160], factor=20)
  assert yardstick.table(tmp_path) == []
  (shown,) = yardstick.main(
    yardstick.Arguments(runs=str(tmp_path), output_dir=str(tmp_path))
  )
  ours, published = ([cell.text for cell in row] for row in shown.rows)
  assert ours == ['D4PG, ours', '20,000', '40,000', '40,000', '160', '40,000', '1']
  assert published[0] == 'DrQ-v2' and published[3] == '520,000'
  assert (tmp_path / 'yardstick.svg').stat().st_size > 1000
  (again,) = yardstick.table(tmp_path)
  assert again == shown


def test_the_figure_has_every_seed_and_the_mean_of_all(tmp_path: pathlib.Path) -> None:
  _run(tmp_path, 0, [0, 60, 160, 200], factor=20)
  _run(tmp_path, 1, [0, 20, 100], factor=39)
  rows = yardstick.collect(tmp_path)
  means = {
    who: yardstick.mean_curve(rows[rows['who'] == who])
    for who in (yardstick.OURS, yardstick.PUBLISHED)
  }
  (axes,) = figures.yardstick(rows, means).axes
  first, second, mean, *published = axes.lines
  assert np.asarray(first.get_ydata()).tolist() == [0, 60, 160, 200]
  assert np.asarray(second.get_xdata()).tolist() == [0, 39_000, 78_000]
  # The two are never evaluated at the same frames.
  assert np.asarray(mean.get_xdata()).tolist() == [0, 20_000, 40_000, 60_000]
  assert np.asarray(mean.get_ydata()).tolist() == means[yardstick.OURS].tolist()
  assert len(published) == 11


@pytest.mark.parametrize('begun', [False, True])
def test_without_evaluations_it_says_how_they_are_made(
  begun: bool, tmp_path: pathlib.Path
) -> None:
  if begun:
    log = _run(tmp_path, 0, [0], factor=20) / 'logs' / 'evaluator.csv'
    rows = pd.read_csv(log)
    rows[rows['arm'] == 'replay'].to_csv(log, index=False)
  output = tmp_path / 'results'
  output.mkdir()
  with pytest.raises(ValueError, match='no evaluated runs; expected those of `python'):
    yardstick.main(yardstick.Arguments(runs=str(tmp_path), output_dir=str(output)))
  assert not list(output.iterdir())
