"""Goals by reference: (demonstration, step) -> the demonstration's next frames.

Replay and environments carry two integers; whoever needs the frames, the policy or
the learner, looks them up here.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf


class _Demonstration(Protocol):
  @property
  def observations(self) -> Mapping[str, np.ndarray]:
    """By group, (T+1, n) float32."""


class GoalBank:
  """The frames of all demonstrations, as one tensor a group."""

  def __init__(self, demonstrations: Sequence[_Demonstration]):
    """Copies the frames.

    Args:
      demonstrations: in the order of the indices that references hold.

    Raises:
      ValueError: there are none.
    """
    if not demonstrations:
      raise ValueError('no demonstrations; expected at least one')
    groups = list(demonstrations[0].observations)
    lengths = [len(d.observations[groups[0]]) for d in demonstrations]
    self._frames = {
      group: tf.constant(
        np.concatenate([d.observations[group] for d in demonstrations])
      )
      for group in groups
    }
    self._start = tf.constant(np.cumsum([0, *lengths[:-1]]), tf.int32)
    self._last = tf.constant(np.array(lengths) - 1, tf.int32)

  def lookup(self, goal: tf.Tensor, look_ahead: Sequence[int]) -> dict[str, tf.Tensor]:
    """Returns frames of demonstrations; past their end, the last one.

    Args:
      goal: int32, (B, 2): demonstration and step.
      look_ahead: control steps ahead of that step, K of them.

    Returns:
      By group, (B, K, n) float32.
    """
    demonstration, step = goal[:, 0], goal[:, 1]
    steps = step[:, None] + tf.constant(look_ahead, tf.int32)[None]
    steps = tf.minimum(steps, tf.gather(self._last, demonstration)[:, None])
    rows = tf.gather(self._start, demonstration)[:, None] + steps
    return {group: tf.gather(frames, rows) for group, frames in self._frames.items()}
