"""Tests of metamimic.controllers; others are in evaluation_test, in environments."""

from collections.abc import Sequence

import numpy as np

from metamimic import controllers


def test_misguided_arms_are_not_shown_what_they_are_rewarded_for() -> None:
  def act(batch: controllers.Batch) -> np.ndarray:
    return batch['goal'][:, 0]

  def unguided(batch: controllers.Batch) -> np.ndarray:
    return np.full(len(batch['goal']), -1)

  def shown(among: Sequence[int]) -> dict[str, list[int]]:
    goal = np.array([[i, 0] for i in (4, 6, 5)], np.int32)
    arms = controllers.misguided(act, unguided, among)
    return {name: arm({'goal': goal}, []).tolist() for name, arm in arms.items()}

  assert shown((4, 5, 6)) == {
    'wrong_demonstration': [6, 5, 4],
    'no_demonstration': [-1, -1, -1],
  }
  # There is no other than the one that is held out.
  assert set(shown((4,))) == {'no_demonstration'}
