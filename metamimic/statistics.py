"""What the rows of evaluation.csv say, with 95 % intervals."""

from collections.abc import Sequence
import math

import numpy as np
import pandas as pd
from scipy import stats

CEILING = 'replay'
"""Arm that plays the demonstrator's own actions: the most there is to reach."""
FLOOR = 'zero'
"""Arm that does not move: what an imitator must beat."""
UNLEARNED = (CEILING, 'tracker', FLOOR)
"""Arms without a learned policy, the same at every learner step."""
MISGUIDED = ('wrong_demonstration', 'no_demonstration')
"""The policy shown another demonstration than it is rewarded for, or the present frame
as its goal."""
CONTROLS = (*UNLEARNED, *MISGUIDED)
"""Arms that are no learned policy shown the right demonstration."""
SPLITS = ('valid', 'train')
"""Held-out demonstrations, then those trained on."""

_CONFIDENCE = 0.95
_RESAMPLES = 5000
_TERM = 'reward/'
_KEYS = ('seed', 'learner_steps', 'arm', 'demonstration', 'split')
_VALUES = ('steps', 'completed', 'success', 'total')


def proportion_interval(successes: int, n: int) -> tuple[float, float]:
  """Returns Wilson's 95 % interval of a proportion; without trials (0, 1).

  Raises:
    ValueError: not 0 <= successes <= n.
  """
  if not 0 <= successes <= n:
    raise ValueError(f'{successes} successes of {n}; expected 0 to {n}')
  if not n:
    return 0.0, 1.0
  interval = stats.binomtest(successes, n).proportion_ci(_CONFIDENCE, method='wilson')
  return float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
  """Returns a bootstrapped (BCa) 95 % interval of the mean, the same at every call.

  Degenerate cases: (nan, nan) for fewer than two values, which tell nothing about
  their spread; (v, v) where all values are v; percentiles of the resampled means where
  there are too few distinct values for BCa's correction.

  Args:
    values: (n,), independent.

  Raises:
    ValueError: a value is not finite, or `values` has not one dimension.
  """
  array = np.asarray(values, float)
  if array.ndim != 1:
    raise ValueError(f'values have shape {array.shape}; expected one dimension')
  if not np.isfinite(array).all():
    raise ValueError('values hold numbers that are not finite')
  if array.size < 2:
    return math.nan, math.nan
  if np.ptp(array) == 0:
    return float(array[0]), float(array[0])
  low, high = _bootstrap(array, 'BCa')
  if math.isnan(low) or math.isnan(high):
    low, high = _bootstrap(array, 'percentile')
  return low, high


def _bootstrap(values: np.ndarray, method: str) -> tuple[float, float]:
  with np.errstate(all='ignore'):
    interval = stats.bootstrap(
      (values,),
      np.mean,
      n_resamples=_RESAMPLES,
      confidence_level=_CONFIDENCE,
      method=method,
      random_state=np.random.default_rng(0),
    ).confidence_interval
  return float(interval.low), float(interval.high)


def normalised(policy: float, floor: float, ceiling: float) -> float:
  """Returns where `policy` lies: 0 at the floor, 1 at the ceiling; nan if they meet."""
  return (policy - floor) / (ceiling - floor) if ceiling != floor else math.nan


def terms(table: pd.DataFrame) -> list[str]:
  """Returns the names of the reward terms that `table` has a column for, in order."""
  return [c[len(_TERM) :] for c in table.columns if c.startswith(_TERM)]


def order(arms: Sequence[str]) -> list[str]:
  """Returns the distinct arms, policies before the controls."""
  policies = [arm for arm in dict.fromkeys(arms) if arm not in CONTROLS]
  return policies + [arm for arm in CONTROLS if arm in set(arms)]


def last(evaluation: pd.DataFrame) -> pd.DataFrame:
  """Returns each arm's episodes at its last learner step (per seed).

  Controls that do not learn are measured once, the policy at many learner steps. Of an
  episode measured twice there, as after a resume, the later row counts: two of the same
  would feign a larger sample.

  Args:
    evaluation: rows of evaluation.csv.

  Raises:
    ValueError: columns are missing; the message names them.
  """
  missing = [c for c in _KEYS + _VALUES if c not in evaluation.columns]
  if missing:
    raise ValueError(
      f'columns {missing} are missing; there are {list(evaluation.columns)}'
    )
  newest = evaluation.groupby(['seed', 'arm'])['learner_steps'].transform('max')
  rows = evaluation[evaluation['learner_steps'] == newest]
  rows = rows.drop_duplicates(list(_KEYS), keep='last')
  # Nor does a seed of training change what an arm does that does not learn.
  again = rows.duplicated(['arm', 'demonstration', 'split'])
  return rows[~(again & rows['arm'].isin(UNLEARNED))]


def summarise(evaluation: pd.DataFrame) -> pd.DataFrame:
  """Condenses each arm's last evaluation to one row for each split.

  Args:
    evaluation: rows of evaluation.csv, one an episode.

  Returns:
    Rows ordered by arm (policies first) and split (held-out first), with the columns
    arm; split; learner_steps; n (episodes); seeds; reward, reward_low, reward_high
    (mean reward per step, of 1); ratio (reward over that of open-loop replay on the
    same split); normalised (0: zero action, 1: replay); completed (mean share of the
    demonstration); success, success_low, success_high; and reward/<term>, means. What
    needs an arm that was not measured is nan, as is what an arm has none of. Episodes
    of several seeds are pooled.

  Raises:
    ValueError: columns are missing; the message names them.
  """
  rows = last(evaluation)
  summary = pd.DataFrame(
    [
      _row(str(arm), str(split), episodes)
      for (arm, split), episodes in rows.groupby(['arm', 'split'])
    ],
    columns=list(_row('', '', rows.iloc[:0])),
  )
  rewards = {(r['arm'], r['split']): r['reward'] for _, r in summary.iterrows()}
  for place, row in summary.iterrows():
    ceiling = rewards.get((CEILING, row['split']), math.nan)
    floor = rewards.get((FLOOR, row['split']), math.nan)
    summary.loc[place, 'ratio'] = row['reward'] / ceiling if ceiling else math.nan
    summary.loc[place, 'normalised'] = normalised(row['reward'], floor, ceiling)
  return _ordered(summary)


def solving(evaluation: pd.DataFrame) -> pd.DataFrame:
  """Says how often and how fast each arm solves the task.

  Args:
    evaluation: rows of evaluation.csv, one an episode; `solved` holds the control steps
      to success, or nan.

  Returns:
    Rows ordered as those of `summarise`, with the columns arm; split; n (episodes);
    seeds; solved, solved_low, solved_high (share of the episodes in which the task was
    solved at any time); steps (median control steps to success, of those); ratio (of
    the median steps to those that open-loop replay, which is the demonstrator, takes
    from the same starts; where either fails the start does not count, of several seeds
    it is their mean), ratio_low and ratio_high (bootstrapped over the starts).

  Raises:
    ValueError: columns are missing; the message names them.
  """
  rows = last(evaluation)
  if 'solved' not in rows:
    raise ValueError(f"columns ['solved'] are missing; there are {list(rows.columns)}")
  found = []
  keys = ['demonstration', 'split']
  shown = rows[rows['arm'] == CEILING].groupby(keys)['solved'].mean()
  for (arm, split), episodes in rows.groupby(['arm', 'split']):
    n, successes = len(episodes), int(episodes['solved'].notna().sum())
    low, high = proportion_interval(successes, n)
    solved = episodes.groupby(keys)['solved'].mean().to_frame()
    pairs = solved.join(shown, rsuffix='_shown')
    ratio, ratio_low, ratio_high = _ratio(pairs.dropna().to_numpy(float))
    found.append(
      {
        'arm': str(arm),
        'split': str(split),
        'n': n,
        'seeds': episodes['seed'].nunique(),
        'solved': successes / n,
        'solved_low': low,
        'solved_high': high,
        'steps': episodes['solved'].dropna().median(),
        'ratio': ratio,
        'ratio_low': ratio_low,
        'ratio_high': ratio_high,
      }
    )
  return _ordered(pd.DataFrame(found))


def _ratio(pairs: np.ndarray) -> tuple[float, float, float]:
  """Returns the ratio of the columns' medians and its interval."""
  if len(pairs) < 2:
    return math.nan, math.nan, math.nan

  def ratio(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.median(first) / np.median(second))

  interval = stats.bootstrap(
    (pairs[:, 0], pairs[:, 1]),
    ratio,
    n_resamples=_RESAMPLES,
    confidence_level=_CONFIDENCE,
    method='percentile',
    paired=True,
    vectorized=False,
    random_state=np.random.default_rng(0),
  ).confidence_interval
  return ratio(pairs[:, 0], pairs[:, 1]), float(interval.low), float(interval.high)


def _ordered(summary: pd.DataFrame) -> pd.DataFrame:
  """Sorts rows by arm (policies first) and split (held-out first)."""
  rank = {arm: i for i, arm in enumerate(order(list(summary['arm'])))}
  return summary.sort_values(
    ['arm', 'split'],
    key=lambda column: column.map(lambda v: rank.get(v, v != SPLITS[0])),
    ignore_index=True,
  )


def _row(arm: str, split: str, episodes: pd.DataFrame) -> dict[str, object]:
  n, successes = len(episodes), int(episodes['success'].sum())
  # An arm that follows no demonstration has no reward.
  reward_low, reward_high = mean_interval(episodes['total'].dropna().to_numpy(float))
  success_low, success_high = proportion_interval(successes, n)
  return {
    'arm': arm,
    'split': split,
    'learner_steps': int(episodes['learner_steps'].max()) if n else 0,
    'n': n,
    'seeds': episodes['seed'].nunique(),
    'reward': episodes['total'].mean(),
    'reward_low': reward_low,
    'reward_high': reward_high,
    'ratio': math.nan,
    'normalised': math.nan,
    'completed': episodes['completed'].mean(),
    'success': successes / n if n else math.nan,
    'success_low': success_low,
    'success_high': success_high,
    **{_TERM + term: episodes[_TERM + term].mean() for term in terms(episodes)},
  }
