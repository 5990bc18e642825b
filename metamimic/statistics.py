"""What the rows of evaluation.csv say, with 95 % intervals."""

from collections.abc import Sequence
import itertools
import math
import warnings

import numpy as np
import pandas as pd

from metamimic import intervals

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
SPLITS = ('valid', 'novel', 'train')
"""Held-out demonstrations, those of skills that were never trained on, then those that
were trained on."""

_TERM = 'reward/'
_KEYS = ('seed', 'learner_steps', 'arm', 'demonstration', 'split')
_VALUES = ('steps', 'completed', 'success', 'total')


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


def by_seed(episodes: pd.DataFrame, column: str = 'total') -> pd.DataFrame:
  """Returns an arm's episodes of one split as (seeds, demonstrations).

  Args:
    episodes: rows of evaluation.csv, of one learner step a seed; see `last`.
    column: what the values are.
  """
  return episodes.groupby(['seed', 'demonstration'])[column].mean().unstack()


def success_interval(episodes: pd.DataFrame) -> tuple[float, float]:
  """Returns `intervals.rate` of how often an arm's episodes end in success.

  Args:
    episodes: as for `by_seed`.
  """
  return intervals.rate(by_seed(episodes, 'success').to_numpy(float))


def solved_interval(episodes: pd.DataFrame) -> tuple[float, float]:
  """Returns `intervals.rate` of how often an arm solves the task at any time.

  Args:
    episodes: as for `by_seed`.
  """
  solved = episodes.assign(solved=episodes['solved'].notna())
  return intervals.rate(by_seed(solved, 'solved').to_numpy(float))


def reward_interval(episodes: pd.DataFrame) -> tuple[float, float]:
  """Returns `intervals.of_seeds` of an arm's rewards, within [0, 1].

  Args:
    episodes: as for `by_seed`.
  """
  # Widened for few seeds, it can reach beyond what a reward can be.
  interval = np.clip(intervals.of_seeds(by_seed(episodes).to_numpy(float)), 0, 1)
  return float(interval[0]), float(interval[1])


def summarise(evaluation: pd.DataFrame) -> pd.DataFrame:
  """Condenses each arm's last evaluation to one row for each split.

  Args:
    evaluation: rows of evaluation.csv, one an episode.

  Returns:
    Rows ordered by arm (policies first) and split (held-out first), with the columns
    arm; split; learner_steps; n (episodes); seeds; reward, reward_low, reward_high
    (mean reward per step, of 1); ratio (reward over that of open-loop replay on the
    same split); normalised (0: no action, 1: replay); completed (mean share of the
    demonstration); success, success_low, success_high; and reward/<term>, means. What
    needs an arm that was not measured is nan, as is what an arm has none of. Episodes
    of several seeds are pooled; intervals are over seeds, too.

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
    it is their mean), ratio_low and ratio_high (bootstrapped over starts, of
      several seeds over these too).

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
    low, high = solved_interval(episodes)
    steps = episodes.groupby(['seed', *keys])['solved'].mean().unstack(keys)
    ratio, ratio_low, ratio_high = _ratio(steps, shown)
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


def _ratio(
  policy: pd.DataFrame, shown: 'pd.Series[float]'
) -> tuple[float, float, float]:
  """Returns the ratio of median steps and its interval.

  Args:
    policy: steps to success, nan for none; a row a seed, a column a start.
    shown: the demonstrators', by start.
  """
  both = [s for s in policy.columns if policy[s].notna().any() and s in shown.index]
  both = [start for start in both if not math.isnan(shown[start])]
  if len(both) < 2:
    return math.nan, math.nan, math.nan
  steps = policy[both].to_numpy(float)
  theirs = shown[both].to_numpy(float)

  def ratio(seeds: Sequence[np.ndarray], starts: np.ndarray) -> np.ndarray:
    means = intervals.finite_mean(intervals.drawn(steps, seeds[0], starts), 1)
    shown_ = np.where(np.isfinite(means), theirs[starts], math.nan)
    with warnings.catch_warnings():
      # Of a resample in which no seed solves anything.
      warnings.simplefilter('ignore', RuntimeWarning)
      return np.nanmedian(means, 1) / np.nanmedian(shown_, 1)

  (found,) = ratio([np.arange(len(steps))[None]], np.arange(len(both))[None])
  return float(found), *intervals.crossed(ratio, [len(steps)], len(both))


def _ordered(summary: pd.DataFrame) -> pd.DataFrame:
  """Sorts rows by arm (policies first) and split (held-out first)."""
  rank = {arm: i for i, arm in enumerate(order(list(summary['arm'])))}
  return summary.sort_values(
    ['arm', 'split'],
    key=lambda column: column.map({**rank, **dict(zip(SPLITS, itertools.count()))}),
    ignore_index=True,
  )


def _row(arm: str, split: str, episodes: pd.DataFrame) -> dict[str, object]:
  n, successes = len(episodes), int(episodes['success'].sum())
  reward_low, reward_high = reward_interval(episodes) if n else (math.nan, math.nan)
  success_low, success_high = success_interval(episodes) if n else (0.0, 1.0)
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
