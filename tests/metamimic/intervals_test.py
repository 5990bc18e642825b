"""Tests of metamimic.intervals."""

import math

import numpy as np
import pytest

from metamimic import intervals


def test_wilson_interval_of_a_textbook_case() -> None:
  # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), p = 9/10, z = 1.959964.
  assert intervals.proportion(9, 10) == pytest.approx((0.59585, 0.98212), abs=1e-5)
  assert intervals.proportion(40, 40) == pytest.approx((0.91238, 1), abs=1e-5)
  assert intervals.proportion(0, 0) == (0, 1)


def test_proportion_interval_refuses() -> None:
  with pytest.raises(ValueError, match='5 successes of 4; expected 0 to 4'):
    intervals.proportion(5, 4)


def test_mean_interval_covers_the_mean_as_often_as_it_says() -> None:
  random = np.random.default_rng(1)
  covered = 0
  for _ in range(60):
    low, high = intervals.mean(random.normal(0.7, 0.1, 50))
    covered += low < 0.7 < high
  assert 52 <= covered <= 60


def test_mean_interval_agrees_with_the_normal_one_and_repeats() -> None:
  values = np.random.default_rng(0).normal(0.5, 0.1, 400)
  low, high = intervals.mean(values)
  half = 1.96 * values.std(ddof=1) / 20
  assert low == pytest.approx(values.mean() - half, abs=1e-3)
  assert high == pytest.approx(values.mean() + half, abs=1e-3)
  assert intervals.mean(values) == (low, high)


def test_mean_interval_degenerate_cases() -> None:
  assert all(math.isnan(v) for v in intervals.mean([]))
  assert all(math.isnan(v) for v in intervals.mean([0.3]))
  assert intervals.mean([0.3, 0.3, 0.3]) == (0.3, 0.3)
  low, high = intervals.mean([0.2, 0.4])
  assert 0.2 <= low <= high <= 0.4


def test_mean_interval_refuses() -> None:
  with pytest.raises(ValueError, match='not finite'):
    intervals.mean([0.1, math.nan])
  with pytest.raises(ValueError, match=r'shape \(1, 2\); expected one dimension'):
    intervals.mean(np.ones((1, 2)))


def _sample(random: np.random.Generator, seeds: int, spread: float) -> np.ndarray:
  """Returns (seeds, 30): mean .7, effects of seed and demonstration, and noise."""
  of_seed = random.normal(0, spread, (seeds, 1))
  of_demonstration = random.normal(0, 0.02, (1, 30))
  return 0.7 + of_seed + of_demonstration + random.normal(0, 0.02, (seeds, 30))


@pytest.mark.parametrize(('seeds', 'spread'), [(3, 0.02), (3, 0.0), (5, 0.02)])
def test_seeds_interval_covers_the_mean_of_all_seeds(
  seeds: int, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(intervals, '_RESAMPLES', 400)
  random = np.random.default_rng(3)
  covered = pooled = 0
  for _ in range(150):
    values = _sample(random, seeds, spread)
    low, high = intervals.of_seeds(values)
    covered += low < 0.7 < high
    half = 1.96 * values.std(ddof=1) / math.sqrt(values.size)
    pooled += abs(values.mean() - 0.7) < half
  assert covered >= 0.91 * 150
  # To call all episodes independent would promise too much, above all where seeds
  # differ.
  assert pooled < (0.6 if spread else 0.9) * 150


def test_difference_interval_covers_the_difference(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setattr(intervals, '_RESAMPLES', 400)
  random = np.random.default_rng(4)
  covered = 0
  for _ in range(150):
    # The same demonstrations, far harder ones among them.
    shared = random.normal(0, 0.2, (1, 30))
    first, second = (_sample(random, 3, 0.02) + shared for _ in range(2))
    low, high = intervals.difference(first + 0.1, second)
    covered += low < 0.1 < high
    assert high - low < 0.25
  assert 0.91 * 150 <= covered


def test_seeds_interval_degenerate_cases() -> None:
  values = np.random.default_rng(0).normal(0.5, 0.1, (1, 40))
  # One seed: over the demonstrations alone.
  alone = intervals.mean(values[0])
  assert intervals.of_seeds(values) == alone
  gap = np.append(values, [[math.nan]], axis=1)
  assert intervals.of_seeds(gap) == alone
  # Seeds that agree: as one, by percentiles.
  agreeing = intervals.of_seeds(np.repeat(values, 3, axis=0))
  assert agreeing == pytest.approx(alone, abs=3e-3)
  assert intervals.of_seeds(np.full((3, 4), 0.25)) == (0.25, 0.25)
  # Demonstrations that agree, two seeds: one or the other is drawn twice, in a quarter
  # of the resamples each, and is sqrt(2) 12.706 / 1.960 times as far from the mean.
  low, high = intervals.of_seeds(np.array([[0.4] * 5, [0.6] * 5]))
  factor = math.sqrt(2) * 12.7062 / 1.95996
  assert (low, high) == pytest.approx((0.5 - 0.1 * factor, 0.5 + 0.1 * factor), 1e-4)
  assert all(math.isnan(v) for v in intervals.of_seeds(np.full((3, 2), np.nan)))
  assert all(math.isnan(v) for v in intervals.of_seeds(np.array([[0.4]])))
  assert all(math.isnan(v) for v in intervals.of_seeds(np.zeros((0, 0))))


def test_difference_interval_degenerate_cases() -> None:
  values = np.random.default_rng(0).uniform(0, 1, (2, 20))
  difference = intervals.difference
  assert difference(values[:1], values[:1]) == (0, 0)
  assert difference(values[:1] + 0.5, values[:1]) == pytest.approx((0.5, 0.5))
  low, high = difference(values, values)
  assert low == pytest.approx(-high, rel=0.2) and high > 0
  # A single seed on one side varies as those of the other do: twice as much as the mean
  # of two, and both vary.
  constant = np.zeros((1, 5))
  low, high = intervals.of_seeds(np.array([[0.4] * 5, [0.6] * 5]))
  half = math.sqrt(3) * (high - low) / 2
  assert difference(np.array([[0.4] * 5, [0.6] * 5]), constant) == pytest.approx(
    (0.5 - half, 0.5 + half)
  )
  assert all(math.isnan(v) for v in difference(np.ones((1, 1)), np.ones((1, 1))))


def test_difference_to_a_single_seed_covers_the_difference(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setattr(intervals, '_RESAMPLES', 400)
  random = np.random.default_rng(5)
  covered = 0
  for _ in range(150):
    single, several = _sample(random, 1, 0.02), _sample(random, 4, 0.02)
    low, high = intervals.difference(single + 0.1, several)
    covered += low < 0.1 < high
  assert 0.91 * 150 <= covered


def _outcomes(random: np.random.Generator, seeds: int, spread: float) -> np.ndarray:
  """Returns (seeds, 40) of 0 and 1 at a mean rate of .8, of hard and easy starts."""
  of_seed = random.normal(0, spread, (seeds, 1))
  of_start = random.choice([-0.15, 0.15], (1, 40))
  return (random.random((seeds, 40)) < 0.8 + of_seed + of_start).astype(float)


@pytest.mark.parametrize(('seeds', 'spread'), [(3, 0.0), (3, 0.08), (5, 0.08)])
def test_rate_interval_covers_the_rate_of_all_seeds(
  seeds: int, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(intervals, '_RESAMPLES', 400)
  random = np.random.default_rng(6)
  covered = pooled = 0
  for _ in range(150):
    outcomes = _outcomes(random, seeds, spread)
    # Of all seeds; which starts there are is part of what is uncertain.
    low, high = intervals.rate(outcomes)
    covered += low < 0.8 < high
    low, high = intervals.proportion(int(outcomes.sum()), outcomes.size)
    pooled += low < 0.8 < high
  assert covered >= 0.91 * 150
  # To call all episodes independent would promise too much where seeds differ.
  assert pooled < covered if not spread else pooled < 0.85 * 150


def test_rate_interval_degenerate_cases() -> None:
  # One seed: Wilson's own.
  single = np.array([[1.0, 0.0, 1.0, 1.0, math.nan]])
  assert intervals.rate(single) == intervals.proportion(3, 4)
  assert intervals.rate(np.full((1, 2), math.nan)) == (0, 1)
  # All agree: the starts alone count, and no seed adds to them.
  assert intervals.rate(np.ones((5, 50))) == pytest.approx(intervals.proportion(50, 50))
  assert intervals.rate(np.zeros((3, 20))) == pytest.approx(intervals.proportion(0, 20))
  # Never narrower than of independent episodes, never beyond what a rate can be.
  random = np.random.default_rng(7)
  outcomes = (random.random((4, 30)) < 0.97).astype(float)
  low, high = intervals.rate(outcomes)
  least = intervals.proportion(int(outcomes.sum()), outcomes.size)
  assert 0 <= low <= least[0] + 1e-9 and least[1] - 1e-9 <= high <= 1
  with pytest.raises(ValueError, match=r'expected \(seeds, demonstrations\)'):
    intervals.rate(np.ones(3))


def test_intervals_of_seeds_refuse() -> None:
  with pytest.raises(ValueError, match=r'shape \(3,\); expected \(seeds, demo'):
    intervals.of_seeds(np.ones(3))
  with pytest.raises(ValueError, match='3 and 4 demonstrations; expected the same'):
    intervals.difference(np.ones((2, 3)), np.ones((2, 4)))
