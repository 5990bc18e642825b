"""Tests of metamimic.networks.pictures: how networks see."""

import numpy as np
import pytest
import tensorflow as tf

from metamimic import validation
from metamimic.networks import pictures


def _random(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_goals_are_differences_to_the_present() -> None:
  now, goals = _random(4, 5, 6, 3), _random(4, 2, 5, 6, 3)[::-1]
  found = pictures.compare(tf.constant(now), tf.constant(goals))
  seen, shown = (x.astype(np.float32) / np.float32(255) for x in (now, goals))
  expected = np.concatenate(
    [
      seen - np.float32(0.5),
      np.float32(3) * (shown[:, 0] - seen),
      np.float32(3) * (shown[:, 1] - seen),
    ],
    -1,
  )
  assert (found.shape, found.dtype) == ((4, 5, 6, 9), tf.float32)
  np.testing.assert_array_equal(found, expected)


def test_without_a_goal_there_is_the_present_alone() -> None:
  now = _random(4, 5, 6, 3)
  found = pictures.compare(tf.constant(now), None)
  np.testing.assert_array_equal(
    found, now.astype(np.float32) / np.float32(255) - np.float32(0.5)
  )
  # Somebody who stands still shows nothing else.
  still = pictures.compare(tf.constant(now), tf.constant(now[:, None]))
  np.testing.assert_array_equal(still[..., :3], found)
  np.testing.assert_array_equal(still[..., 3:], np.zeros_like(found))


def _shifted(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
  """Returns a picture moved, pixel by pixel."""
  height, width, _ = picture.shape
  found = np.empty_like(picture)
  for i in range(height):
    for j in range(width):
      row = min(max(i + rows, 0), height - 1)
      column = min(max(j + columns, 0), width - 1)
      found[i, j] = picture[row, column]
  return found


def _shown(batch: int, goals: int) -> pictures.Shown:
  now, goal = _random(batch, 6, 8, 3), _random(batch, goals, 6, 8, 3)[::-1]
  features = tf.random.stateless_normal([batch, 7], (0, 1))
  return pictures.Shown(
    features, tf.constant(now), tf.constant(goal) if goals else None
  )


@pytest.mark.parametrize('goals', [0, 2])
def test_pictures_are_looked_at_as_a_whole_and_shifted_with_their_edges(
  goals: int,
) -> None:
  most, batch = 2, 60
  shown = _shown(batch, goals)
  seen = pictures.compare(shown.pixels, shown.goal_pixels).numpy()
  looked = pictures.look(shown, most, tf.constant([3, 4], tf.int64))
  np.testing.assert_array_equal(looked.features, shown.features)
  found = looked.pictures.numpy()
  assert (found.shape, found.dtype) == (seen.shape, np.float32)
  offsets = []
  for before, after in zip(seen, found, strict=True):
    fitting = [
      (rows, columns)
      for rows in range(-most, most + 1)
      for columns in range(-most, most + 1)
      if np.allclose(_shifted(before, rows, columns), after, atol=1e-5)
    ]
    # All channels by the same.
    assert len(fitting) == 1
    offsets += fitting
  # Each its own, as far as that in each direction, and at times not at all.
  assert {rows for rows, _ in offsets} == set(range(-most, most + 1))
  assert {columns for _, columns in offsets} == set(range(-most, most + 1))
  assert len(set(offsets)) > 15


def test_shifts_follow_from_their_seed() -> None:
  shown = _shown(20, 1)
  first, again, other = (
    pictures.look(shown, 2, tf.constant(seed, tf.int64)).pictures.numpy()
    for seed in ([7, 1], [7, 1], [8, 1])
  )
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()


def test_who_acts_looks_at_pictures_where_they_are_and_features_pass() -> None:
  shown = _shown(4, 2)
  still = pictures.compare(shown.pixels, shown.goal_pixels)
  # Compiled, a division is a multiplication.
  np.testing.assert_allclose(pictures.look(shown).pictures, still, atol=1e-6)
  assert pictures.look(shown.features) is shown.features
  assert pictures.look(shown.features, 2, tf.constant([7, 1])) is shown.features


@pytest.mark.parametrize('normalise', [True, False])
def test_all_of_the_encoder_learns(normalise: bool) -> None:
  encoder = pictures.Encoder((4, 6), 5, normalise)
  features = tf.random.stateless_normal([3, 7], seed=(0, 1))
  seen = pictures.Seen(features, tf.random.stateless_normal([3, 16, 24, 9], (0, 2)))
  # Sonnet's norm of a new encoder has no offset yet: any weights will do.
  weights = tf.random.stateless_normal([5], (0, 3))
  with tf.GradientTape() as tape:
    found = encoder(seen)
    loss = tf.reduce_sum(found[:, 7:] * weights)
  assert (found.shape, found.dtype) == ((3, 12), tf.float32)
  # What is no picture passes through.
  np.testing.assert_array_equal(found[:, :7], features)
  assert np.abs(found[:, 7:]).max() <= 1
  assert np.abs(found[0, 7:] - found[1, 7:]).max() > 1e-3
  variables = encoder.trainable_variables
  # Weights and offsets of two convolutions and a layer; scale and offset of a norm.
  assert len(variables) == len(encoder.variables) == 6 + 2 * normalise
  for gradient, variable in zip(tape.gradient(loss, variables), variables, strict=True):
    assert np.isfinite(gradient).all(), variable.name
    assert np.abs(gradient).max() > 0, variable.name


def test_what_is_decoded_is_not_taught_by_who_uses_it() -> None:
  encoder = pictures.Encoder((4, 6), 5, normalise=True, decoded=(2, 3))
  seen = pictures.Seen(
    tf.random.stateless_normal([3, 7], (0, 1)),
    tf.random.stateless_normal([3, 16, 16, 9], (0, 2)),
  )
  with tf.GradientTape(persistent=True) as tape:
    found, difference = encoder.decode(seen)
    assert difference is not None
    used = tf.reduce_sum(found[:, 12:])
    wrong = tf.reduce_sum(difference)
  assert (found.shape, difference.shape) == ((3, 7 + 5 + 2 * 2 * 3), (3, 2, 3))
  np.testing.assert_array_equal(found, encoder(seen))
  # As they are, and four times as large, of each goal; each within its bounds.
  d = difference.numpy()
  told = np.concatenate([np.clip(d, -5, 5), np.clip(4 * d, -2, 2)], -1)
  np.testing.assert_allclose(found[:, 12:], told.reshape(3, 12), atol=1e-6)
  for gradient in tape.gradient(used, encoder.trainable_variables):
    assert gradient is None or not np.any(gradient)
  gradients = tape.gradient(wrong, encoder.trainable_variables)
  assert all(np.abs(g).max() > 0 for g in gradients if g is not None)


def test_without_pictures_there_is_nothing_to_encode() -> None:
  encoder = pictures.NoEncoder()
  features = tf.ones([2, 3])
  assert encoder(features) is features
  assert encoder.variables == encoder.trainable_variables == ()


@pytest.mark.parametrize('convolutions', [1, 2, 3, 4])
def test_the_smallest_picture_is_the_least_that_leaves_something(
  convolutions: int,
) -> None:
  smallest = validation.smallest_picture(convolutions)

  encoder = pictures.Encoder([2] * convolutions, 1, normalise=False)

  @tf.function
  def convolve(h: tf.Tensor) -> tf.Tensor:
    for convolution in encoder._convolutions:
      h = convolution(h)
    return h

  def left(size: int) -> tuple[int, ...]:
    """Returns the shape of what the convolutions leave of a picture."""
    traced = convolve.get_concrete_function(tf.TensorSpec([1, size, size, 3]))
    return tuple(traced.structured_outputs.shape[1:])

  assert left(smallest) == (1, 1, 2)
  with pytest.raises(ValueError, match='Negative dimension size'):
    left(smallest - 1)


def test_what_is_told_stands_where_it_would_have_been_decoded() -> None:
  encoder = pictures.Encoder((4, 6), 5, normalise=True, decoded=(2, 3))
  shown = pictures.Seen(
    tf.random.stateless_normal([3, 7], (0, 1)),
    tf.random.stateless_normal([3, 16, 16, 9], (0, 2)),
  )
  features, difference = encoder.decode(shown)
  assert difference is not None
  np.testing.assert_array_equal(encoder.tell(features, difference), features)
  told = encoder.tell(features, tf.fill([3, 2, 3], 0.25))
  np.testing.assert_array_equal(told[:, :12], features[:, :12])
  # As it is, and four times as large, of each goal.
  np.testing.assert_array_equal(told[:, 12:], [([0.25] * 3 + [1.0] * 3) * 2] * 3)
