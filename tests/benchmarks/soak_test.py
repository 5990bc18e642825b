import pandas as pd

from benchmarks import soak


def _looks(process: str, memory: list[float], **other: list[int]) -> pd.DataFrame:
  count = len(memory)
  columns = {
    'seconds': [3600.0 * i / count for i in range(count)],
    'process': [process] * count,
    'pid': [1] * count,
    'memory': memory,
    'files': [7] * count,
    'threads': [9] * count,
  }
  return pd.DataFrame({**columns, **other})


def test_what_grows_in_the_first_half_alone_is_flat() -> None:
  table = soak.growth(_looks('replay-0', [100.0 + min(i, 20) for i in range(50)]))
  assert table.loc['replay-0'].to_dict() == {
    'memory': 120.0,
    'memory_growth': 0.0,
    'files': 0.0,
    'threads': 0.0,
    'restarts': 0.0,
  }
  assert soak.verdict(table, 2.0) == []


def test_a_leak_is_found_and_a_peak_is_none() -> None:
  leak = _looks('actor-0', [200.0 + 0.2 * i for i in range(50)])
  peak = _looks('learner-0', [300.0] * 40 + [900.0] + [300.0] * 9)
  table = soak.growth(pd.concat([leak, peak]))
  # .2 MB in 72 s are 10 MB an hour, of 207.4 MB.
  assert round(table.memory_growth['actor-0'], 2) == round(1000 / 207.4, 2)
  assert table.memory_growth['learner-0'] == 0
  assert soak.verdict(table, 2.0) == ['actor-0: memory grows by 4.8 % an hour']


def test_files_threads_and_restarts_are_told() -> None:
  rows = _looks(
    'evaluator-0',
    [50.0] * 50,
    files=[*range(50)],
    threads=[4] * 45 + [5] * 5,
    pid=[1] * 10 + [2] * 40,
  )
  assert soak.verdict(soak.growth(rows), 2.0) == [
    'evaluator-0: 20 more files',
    'evaluator-0: 1 more threads',
    'evaluator-0: was started again 1 times',
  ]
