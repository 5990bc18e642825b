"""Tests of benchmarks.seeing, on made-up results."""

from collections.abc import Callable
import math
import pathlib

from benchmarks import seeing
from benchmarks import tables
from tests.benchmarks import conftest


def test_what_is_learned_from_pictures_has_a_table_of_its_own(
  tmp_path: pathlib.Path, write: Callable[..., None]
) -> None:
  assert seeing.table(tmp_path) == []
  arms = [
    conftest.rows('metamimic', [0.8]),
    conftest.rows('wrong_demonstration', [0.3], math.nan),
  ]
  write('lift_brick_pixels', *arms, conftest.rows('replay', [1.0]))
  write('lift_brick_pixels_blind', conftest.rows('metamimic', [0.7]))
  write('lift_brick_pixels_bc', conftest.rows('bc', [0.6]))
  assert len(conftest.texts(tables.results(tmp_path)[0])) == 2  # Those of features.
  (table,) = seeing.table(tmp_path)
  sees, misled, blind, cloning = conftest.texts(table)
  assert {r['arm'] for r in (sees, misled, blind)} == {'MetaMimic'}
  assert cloning['arm'] == 'behavioural cloning (sees actions)'
  assert (sees['sees'], sees['is shown']) == ('body, one camera', 'body, picture')
  assert misled['is shown'] == 'body, picture of another demonstration'
  assert blind['sees'] == blind['is shown'] == 'body'
  assert [r['success (95 %)'][:4] for r in (sees, misled, blind)] == [
    *('1.00', '0.00', '1.00')
  ]
