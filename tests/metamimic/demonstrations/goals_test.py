"""Tests of metamimic.demonstrations.goals."""

import types

import numpy as np
import pytest
import tensorflow as tf

from envs import observations
from envs import pictures
from metamimic.demonstrations import goals

_LAYOUT = observations.Layout(('brick',))


def _bank() -> goals.GoalBank:
  """Returns two demonstrations, of three and five frames."""

  def demonstration(number: int, frames: int) -> types.SimpleNamespace:
    frame = 100 * number + np.arange(frames, dtype=np.float32)
    return types.SimpleNamespace(
      observations={'body': np.stack([frame, -frame], 1), 'objects': frame[:, None]}
    )

  return goals.GoalBank([demonstration(0, 3), demonstration(1, 5)], _LAYOUT)


def _goal(*references: tuple[int, int]) -> tf.Tensor:
  return tf.constant(references, tf.int32)


def test_frames_ahead_are_looked_up() -> None:
  found = _bank().lookup(_goal((1, 0), (0, 0), (1, 2)), (1, 2))
  np.testing.assert_array_equal(
    found['objects'][..., 0], [[101, 102], [1, 2], [103, 104]]
  )
  np.testing.assert_array_equal(found['body'][2], [[103, -103], [104, -104]])
  assert found['body'].dtype == tf.float32


def test_past_the_end_stands_the_last_frame() -> None:
  found = _bank().lookup(_goal((0, 0), (0, 2), (1, 3), (1, 4), (1, 99)), (1, 2, 5))
  np.testing.assert_array_equal(
    found['objects'][..., 0],
    [[1, 2, 2], [2, 2, 2], [104, 104, 104], [104, 104, 104], [104, 104, 104]],
  )


def test_works_in_a_graph_with_any_batch() -> None:
  bank = _bank()

  @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int32)])
  def lookup(goal: tf.Tensor) -> tf.Tensor:
    return bank.lookup(goal, (1,))['objects']

  assert lookup(_goal((0, 1)))[:, 0, 0].numpy().tolist() == [2]
  assert lookup(_goal((0, 1), (1, 1)))[:, 0, 0].numpy().tolist() == [2, 102]


def test_no_demonstrations_are_refused() -> None:
  with pytest.raises(ValueError) as e:
    goals.GoalBank([], _LAYOUT)
  assert str(e.value) == 'no demonstrations; expected at least one'


def _seen(number: int, frames: int) -> types.SimpleNamespace:
  """Returns a demonstration with pictures of one colour each, of two cameras."""
  frame = 100 * number + np.arange(frames)
  shape = (frames, 2, 4, 3)
  return types.SimpleNamespace(
    observations={
      'body': np.zeros((frames, 2), np.float32),
      'objects': np.zeros((frames, 1), np.float32),
      'pixels/front': np.broadcast_to(frame[:, None, None, None], shape).astype('u1'),
      'pixels/side': np.broadcast_to(frame[:, None, None, None], shape).astype('u1')
      + 50,
    }
  )


def test_pictures_ahead_are_looked_up() -> None:
  wanted = pictures.Pictures(('front', 'side'), 2, 4)
  bank = goals.GoalBank(
    [_seen(0, 3), _seen(1, 5)], observations.Layout((), wanted)
  ).pictures
  assert bank is not None
  found = bank.lookup(np.array([[1, 0], [0, 0], [1, 3]]), (1, 2))
  assert (found.shape, found.dtype) == ((3, 2, 2, 4, 6), np.uint8)
  np.testing.assert_array_equal(found[:, :, 1, 2, 0], [[101, 102], [1, 2], [104, 104]])
  np.testing.assert_array_equal(found[..., 3:], found[..., :3] + 50)


def test_a_bank_holds_nothing_of_objects_that_a_layout_has_not() -> None:
  bank = goals.GoalBank([_seen(0, 3)], observations.Layout(()))
  assert bank.pictures is None
  assert list(bank.lookup(_goal((0, 1)), (1,))) == ['body']


def test_pictures_of_some_cameras_or_of_another_size_are_refused() -> None:
  wanted = pictures.Pictures(('side', 'front'), 2, 4)
  (half, small, none) = (_seen(0, 3) for _ in range(3))
  del half.observations['pixels/side']
  small.observations['pixels/front'] = small.observations['pixels/front'][:, :1]
  for demonstration, found in (
    (half, 'pixels/side of a demonstration are missing'),
    (small, r'pixels/front of a demonstration are \(1, 4, 3\)'),
  ):
    with pytest.raises(ValueError, match=rf'{found}; expected \(2, 4, 3\)'):
      goals.GoalBank([_seen(0, 3), demonstration], observations.Layout((), wanted))
  # Those that are not to be followed need none.
  for group in ('pixels/front', 'pixels/side'):
    del none.observations[group]
  bank = goals.GoalBank([_seen(0, 3), none], observations.Layout((), wanted)).pictures
  assert bank is not None and bank.lookup(np.array([[0, 1]]), (1,)).shape[0] == 1
  with pytest.raises(ValueError, match='demonstration 1 has no pictures'):
    bank.lookup(np.array([[1, 1]]), (1,))
