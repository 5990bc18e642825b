"""Tests of benchmarks.demonstrations_study, on made-up results."""

from collections.abc import Callable
import pathlib

import pytest

from benchmarks import demonstrations_study
from tests.benchmarks import conftest


def test_of_the_plain_run_alone_nothing_is_shown(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  del write
  assert demonstrations_study.table(tmp_path) == []
  assert demonstrations_study.summary(tmp_path).empty


def test_numbers_of_demonstrations_end_with_the_plain_run(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  for count, reward in ((100, 0.6), (10, 0.3)):
    write(
      f'lift_brick_demonstrations_{count}',
      conftest.rows('metamimic', [reward] * 3),
      conftest.rows('replay', [1.0]),
    )
  (table,) = demonstrations_study.table(tmp_path)
  counts = [row['training demonstrations'] for row in conftest.texts(table)]
  assert counts == ['10', '100', '500']
  summary = demonstrations_study.summary(tmp_path)
  assert summary['demonstrations'].tolist() == [10, 100, 500]
  assert summary['ratio'].tolist() == pytest.approx(
    [r / 1.015 for r in (0.315, 0.615, 0.815)]
  )
  assert (summary['ratio_low'] < summary['ratio']).all()
  assert (summary['ratio_high'] > summary['ratio']).all()
