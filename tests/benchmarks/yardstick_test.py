"""Tests of benchmarks.yardstick, on made-up runs."""

from collections.abc import Sequence
import math
import pathlib

import pandas as pd
import pytest

from benchmarks import experiments
from benchmarks import yardstick


def _run(
  folder: pathlib.Path, seed: int, returns: Sequence[float], factor: float
) -> None:
  """Writes what a run leaves that is evaluated every 1,000 learner steps."""
  run_dir = folder / f'{experiments.YARDSTICK}-seed{seed}'
  (run_dir / 'logs').mkdir(parents=True)
  steps = range(0, 1000 * len(returns), 1000)
  pd.DataFrame(
    [
      {
        'seed': seed,
        'learner_steps': step,
        'arm': arm,
        'split': split,
        'return': returned + offset if arm == 'd4pg' else math.nan,
      }
      for step, returned in zip(steps, returns, strict=True)
      for arm in ('d4pg', 'replay')
      for split, offset in (('train', -10), ('valid', 10))
    ]
  ).to_csv(run_dir / 'evaluation.csv', index=False)
  # The log has other rows than evaluations; the first time, one step less was written.
  logged = [500, 1500, 1500, 10_000]
  pd.DataFrame(
    {
      'learner_steps': logged,
      'environment_steps': [factor * step - (i == 1) for i, step in enumerate(logged)],
    }
  ).to_csv(run_dir / 'logs' / 'learner-task.csv', index=False)


def test_frames_are_the_environment_steps_at_each_evaluation(
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


def test_without_runs_it_says_how_they_are_made(tmp_path: pathlib.Path) -> None:
  with pytest.raises(ValueError, match='no runs; expected those of `python -m benchm'):
    yardstick.main(yardstick.Arguments(runs=str(tmp_path), output_dir=str(tmp_path)))
  assert not list(tmp_path.iterdir())
