"""Goals by reference: (demonstration, step) -> the demonstration's next frames.

Replay and environments carry two integers; whoever needs the frames, the policy or
the learner, looks them up here. Vectors are small, and are looked up within the graph;
pictures stay on disk, mapped into memory that all processes of a machine share.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from envs import observations as observations_lib
from envs import pictures as pictures_lib


class _Demonstration(Protocol):
  @property
  def observations(self) -> Mapping[str, np.ndarray]:
    """By group, (T+1, n) float32, and pictures, (T+1, height, width, 3) uint8."""


class GoalBank:
  """The frames of all demonstrations, as one tensor a group."""

  def __init__(
    self,
    demonstrations: Sequence[_Demonstration],
    layout: observations_lib.Layout,
  ):
    """Copies the frames, but for pictures.

    Args:
      demonstrations: in the order of the indices that references hold.
      layout: what of their observations is wanted.

    Raises:
      ValueError: there are none.
    """
    if not demonstrations:
      raise ValueError('no demonstrations; expected at least one')
    groups = list(layout.sizes)
    self.pictures = None
    """The pictures; None: the layout has none."""
    if layout.pictures is not None:
      self.pictures = PictureBank(demonstrations, layout.pictures)
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


class PictureBank:
  """The pictures of all demonstrations, wherever they are."""

  def __init__(
    self, demonstrations: Sequence[_Demonstration], pictures: pictures_lib.Pictures
  ):
    """Copies nothing.

    Args:
      demonstrations: in the order of the indices that references hold; those without
        any pictures cannot be looked up.
      pictures: which of them.

    Raises:
      ValueError: a demonstration has pictures of some of the cameras alone, or of
        another size.
    """
    self.shape = pictures.shape
    """Of all cameras' pictures as one."""
    self._frames = [_pictures(d.observations, pictures) for d in demonstrations]

  def lookup(self, goal: np.ndarray, look_ahead: Sequence[int]) -> np.ndarray:
    """Returns pictures of demonstrations; past their end, the last one.

    Args:
      goal: integers, (B, 2): demonstration and step.
      look_ahead: control steps ahead of that step, K of them.

    Returns:
      uint8, (B, K, height, width, 3 x cameras).

    Raises:
      ValueError: a demonstration has no pictures.
    """
    found = np.empty((len(goal), len(look_ahead), *self.shape), np.uint8)
    for row, (demonstration, step) in zip(found, goal.tolist(), strict=True):
      cameras = self._frames[demonstration]
      if not cameras:
        raise ValueError(
          f'demonstration {demonstration} has no pictures; expected some'
        )
      last = len(cameras[0]) - 1
      for into, ahead in zip(row, look_ahead, strict=True):
        for i, frames in enumerate(cameras):
          into[..., 3 * i : 3 * (i + 1)] = frames[min(step + ahead, last)]
    return found


def _pictures(
  observations: Mapping[str, np.ndarray], pictures: pictures_lib.Pictures
) -> list[np.ndarray]:
  """Returns what each camera saw of a demonstration; nothing if none was there."""
  wanted = pictures.spec()
  if not wanted.keys() & observations.keys():
    return []
  for group, spec in wanted.items():
    found = observations[group].shape[1:] if group in observations else 'missing'
    if found != spec.shape:
      raise ValueError(
        f'the pictures {group} of a demonstration are {found}; expected {spec.shape}'
      )
  return [observations[group] for group in wanted]
