"""95 % intervals of rates, means and differences, over episodes and over seeds."""

from collections.abc import Callable, Sequence
import math

import numpy as np
from scipy import stats

_CONFIDENCE = 0.95
_TAIL = (1 + _CONFIDENCE) / 2
_RESAMPLES = 5000


def proportion(successes: int, n: int) -> tuple[float, float]:
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


def rate(successes: np.ndarray) -> tuple[float, float]:
  """Returns a 95 % interval of a rate over runs and demonstrations.

  Wilson's, for as many episodes as would be as uncertain if they were independent:
  those of one seed are not, nor are those of one demonstration. How uncertain the mean
  is, `of_seeds` tells. Where all episodes agree there is nothing to tell it by, and
  distinct demonstrations alone count. (Kish's effective sample size.)

  Args:
    successes: (seeds, demonstrations), 0 or 1; nan where one was not measured.

  Raises:
    ValueError: `successes` has not two dimensions.
  """
  successes = _table(successes)
  known = np.isfinite(successes)
  n, count = int(known.sum()), float(successes[known].sum())
  if len(successes) < 2 or not n:
    return proportion(round(count), n)
  share = count / n
  low, high = of_seeds(successes)
  half = (high - low) / 2
  if half > 0:
    independent = share * (1 - share) * (stats.norm.ppf(_TAIL) / half) ** 2
  else:
    independent = float(known.any(axis=0).sum())
  return _wilson(share, min(max(independent, 1.0), n))


def _wilson(share: float, n: float) -> tuple[float, float]:
  """Returns Wilson's interval of a share of `n`, which need not be a whole number."""
  z = float(stats.norm.ppf(_TAIL))
  middle = share + z**2 / (2 * n)
  half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
  scale = 1 + z**2 / n
  return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)


def mean(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
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


def of_seeds(values: np.ndarray) -> tuple[float, float]:
  """Returns a 95 % interval of the mean over runs and demonstrations.

  With one seed it is `mean` over the demonstrations, and says nothing about
  what another seed would come to. With several, seeds are resampled, and the
  demonstrations, which are the same for all of them; see `crossed`. The same at every
  call.

  Args:
    values: (seeds, demonstrations); nan where one was not measured.

  Raises:
    ValueError: `values` has not two dimensions.
  """
  values = _table(values)
  if len(values) < 2:
    return mean(values[np.isfinite(values)])
  return crossed(
    lambda seeds, demonstrations: finite_mean(drawn(values, seeds[0], demonstrations)),
    [len(values)],
    values.shape[1],
  )


def difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
  """Returns a 95 % interval of the difference of two experiments' means.

  As for `of_seeds`; the demonstrations are those of both, so what makes one of
  them hard for either does not widen it. If one has a single seed, its seeds are taken
  to differ as the other's do; if both have, what other seeds would come to is left out.

  Args:
    first: (seeds, demonstrations); nan where one was not measured.
    second: (its own seeds, the same demonstrations), subtracted.

  Raises:
    ValueError: an argument has not two dimensions, or they differ in demonstrations.
  """
  first, second = _table(first), _table(second)
  if first.shape[1] != second.shape[1]:
    raise ValueError(
      f'{first.shape[1]} and {second.shape[1]} demonstrations; expected the same ones'
    )
  return crossed(
    lambda seeds, demonstrations: (
      finite_mean(drawn(first, seeds[0], demonstrations))
      - finite_mean(drawn(second, seeds[1], demonstrations))
    ),
    [len(first), len(second)],
    first.shape[1],
    alike=True,
  )


def _table(values: np.ndarray) -> np.ndarray:
  array = np.asarray(values, float)
  if array.ndim != 2:
    raise ValueError(
      f'values have shape {array.shape}; expected (seeds, demonstrations)'
    )
  return array


def drawn(
  values: np.ndarray, seeds: np.ndarray, demonstrations: np.ndarray
) -> np.ndarray:
  """Returns resamples of a table, (R, seeds, demonstrations).

  Args:
    values: (seeds, demonstrations).
    seeds: indices, (R or 1, k).
    demonstrations: indices, (R or 1, n).
  """
  return values[seeds[:, :, None], demonstrations[:, None, :]]


def finite_mean(values: np.ndarray, axis: int | tuple[int, int] = (1, 2)) -> np.ndarray:
  """Returns means of what is there, nan where nothing is.

  Args:
    values: nan where nothing was measured.
    axis: as of numpy's mean; by default all but the first of `drawn`.
  """
  measured = np.isfinite(values)
  counts = measured.sum(axis)
  sums = np.where(measured, values, 0).sum(axis)
  return np.where(counts, sums, math.nan) / np.maximum(counts, 1)


Statistic = Callable[[Sequence[np.ndarray], np.ndarray], np.ndarray]
"""Indices of seeds, (R or 1, k) of each experiment, and of demonstrations, (R or 1, n)
-> an estimate of each resample, (R,)."""


def crossed(
  statistic: Statistic,
  seeds: Sequence[int],
  demonstrations: int,
  alike: bool = False,
) -> tuple[float, float]:
  """Bootstraps over seeds and over the demonstrations that all of them share.

  How far the estimate moves as seeds are resampled, and as demonstrations are, is
  added up. Three seeds resampled vary less than three other seeds would, and say little
  about by how much: so the first is widened as Student's t interval is, by
  sqrt(k / (k - 1)) for k seeds and by the quantiles of t to the normal's, with Welch's
  degrees of freedom for several experiments. Without that, intervals of three seeds
  cover three times of four.

  Args:
    statistic: what is estimated.
    seeds: how many each experiment has; one seed of one is not resampled.
    demonstrations: how many there are.
    alike: of two experiments, that one with a single seed differs between seeds as the
      other does: the mean of k varies by 1 / k of what a single one does.

  Returns:
    Low and high; nan with nothing to resample.
  """
  random = np.random.default_rng(0)

  def resampled(count: int) -> np.ndarray:
    return random.integers(count, size=(_RESAMPLES, count))

  every = [np.arange(k)[None] for k in seeds]
  everything = np.arange(demonstrations)[None]
  (estimate,) = statistic(every, everything)
  if math.isnan(estimate) or (max(seeds) < 2 and demonstrations < 2):
    return math.nan, math.nan
  moved = statistic(every, resampled(demonstrations))
  shifts, variances, freedoms = [], [], []
  for place, k in enumerate(seeds):
    if k > 1:
      others = [*every[:place], resampled(k), *every[place + 1 :]]
      shift = statistic(others, everything) - estimate
      borrowed = 1 + k if alike and min(seeds) == 1 else 1
      shifts.append(shift * math.sqrt(borrowed * k / (k - 1)))
      variances.append(float(np.nanvar(shifts[-1])))
      freedoms.append(k - 1)
  if sum(variances):
    shares = sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))
    freedom = sum(variances) ** 2 / shares
    moved += sum(shifts) * (stats.t.ppf(_TAIL, freedom) / stats.norm.ppf(_TAIL))
  outside = 50 * (1 - _CONFIDENCE)
  low, high = np.nanpercentile(moved, [outside, 100 - outside])
  return float(low), float(high)
