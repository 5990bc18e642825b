"""What the tests of tables share: made-up results, and what tables say."""

from collections.abc import Callable
import json
import math
import pathlib

import pandas as pd
import pytest

from benchmarks import tables

_STARTS = 4


def rows(arm: str, rewards: list[float], solved: float = 20.0) -> pd.DataFrame:
  """Returns an arm's held-out episodes, its seeds' rewards given."""
  learned = 0 if arm in ('replay', 'zero') else 40_000
  return pd.DataFrame(
    [
      {
        'seed': seed,
        'learner_steps': learned,
        'arm': arm,
        'demonstration': f'demo_{i}',
        'split': 'valid',
        'steps': 40,
        'completed': 0.9,
        'success': int(not math.isnan(solved)),
        'solved': solved,
        'reward/arm': reward,
        'total': reward + 0.01 * i,
      }
      for seed, reward in enumerate(rewards)
      for i in range(_STARTS)
    ]
  )


@pytest.fixture(name='write')
def write_fixture(tmp_path: pathlib.Path) -> Callable[..., None]:
  """Returns a function that writes the files of an experiment."""

  def write(name: str, *arms: pd.DataFrame) -> None:
    pd.concat(arms).to_csv(tmp_path / f'{name}.csv', index=False)
    run = {'wall_seconds': 90.0, 'environment_steps': {'imitation': 7, 'task': 3000}}
    about = {'runs': {'0': run, '1': {**run, 'wall_seconds': 150.0}}}
    (tmp_path / f'{name}.json').write_text(json.dumps(about))

  write('lift_brick', rows('metamimic', [0.7, 0.8, 0.9]), rows('replay', [1.0]))
  return write


def texts(table: tables.Table) -> list[dict[str, str]]:
  """Returns what a table's rows say, by column."""
  return [
    dict(zip(table.header, (cell.text for cell in row), strict=True))
    for row in table.rows
  ]
