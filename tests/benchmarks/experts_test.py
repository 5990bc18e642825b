"""Tests of benchmarks.experts."""

import pathlib

import pandas as pd
import pytest

from benchmarks import experts


def test_a_row_an_attempt(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  path = str(tmp_path / 'experts.csv')
  arguments = experts.Arguments(2, ('two_bricks',), ('reach', 'lift_top'), path)
  assert experts.main(arguments) == 0
  rows = pd.read_csv(path)
  found = rows.groupby(['task', 'skill', 'split'])['success'].agg(['size', 'sum'])
  assert found.to_dict('index') == {
    ('two_bricks', skill, split): {'size': 2, 'sum': 2}
    for skill in ('lift_top', 'reach')
    for split in ('train', 'valid')
  }
  assert rows['steps'].between(20, 400).all()
  assert list(rows['seed'].unique()) == [20_000, 20_001]
  table = capsys.readouterr().out
  assert 'lift_top' in table and 'p95' in table


def _rows(skill: str, successes: int, steps: int) -> list[dict[str, object]]:
  return [
    {
      'task': 'two_bricks',
      'skill': skill,
      'split': 'train',
      'seed': i,
      'success': int(i < successes),
      'steps': str(steps) if i < successes else '',
      'reason': '' if i < successes else 'lift: time-out',
    }
    for i in range(50)
  ]


def test_failures_have_no_say_in_the_steps() -> None:
  table = experts.summary(pd.DataFrame(_rows('wave', 46, 150)))
  assert table.loc['two_bricks', 'wave', 'train'].to_dict() == {
    'attempts': 50,
    'successes': 46,
    'mean': 150,
    'p95': 150,
    'max': 150,
    'limit': 400,
  }


@pytest.mark.parametrize(
  'skill, successes, steps, expected',
  [
    ('wave', 45, 400, []),
    (
      'wave',
      44,
      400,
      ['two_bricks wave train: 44 of 50 attempts succeeded; expected 90%'],
    ),
    ('unstack', 41, 300, []),
    (
      'unstack',
      40,
      300,
      ['two_bricks unstack train: 40 of 50 attempts succeeded; expected 82%'],
    ),
    ('wave', 50, 401, ['two_bricks wave train: p95 of the steps is 401 of 400']),
  ],
)
def test_what_is_not_good_enough_is_named(
  skill: str, successes: int, steps: int, expected: list[str]
) -> None:
  rows = pd.DataFrame(_rows(skill, successes, steps))
  assert experts.missed(experts.summary(rows)) == expected
