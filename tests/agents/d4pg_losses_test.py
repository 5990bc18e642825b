"""Tests of agents.d4pg.losses: literal numbers, and slow references in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from agents.d4pg import losses

_ATOMS = np.linspace(0, 10, 11, dtype=np.float32)


def _tensor(values: object) -> tf.Tensor:
  return tf.constant(values, tf.float32)


def _slow_return(
  r: np.ndarray, d: np.ndarray, real: np.ndarray, discount: float
) -> tuple[float, float]:
  total, left = 0.0, 1.0
  for reward, keep, taken in zip(r, d, real, strict=True):
    if taken:
      total += left * reward
      left *= discount * keep
  return total, left


def _slow_projection(z_p: np.ndarray, p: np.ndarray, z_q: np.ndarray) -> np.ndarray:
  """Algorithm 1 of Bellemare et al. 2017, an atom at a time."""
  projected = np.zeros((len(p), len(z_q)))
  spacing = z_q[1] - z_q[0]
  for b in range(len(p)):
    for z, mass in zip(z_p[b], p[b], strict=True):
      place = (np.clip(z, z_q[0], z_q[-1]) - z_q[0]) / spacing
      low, high = int(np.floor(place)), int(np.ceil(place))
      if low == high:
        projected[b, low] += mass
      else:
        projected[b, low] += mass * (high - place)
        projected[b, high] += mass * (place - low)
  return projected


def _softmax(logits: np.ndarray) -> np.ndarray:
  exp = np.exp(logits - logits.max(-1, keepdims=True))
  return exp / exp.sum(-1, keepdims=True)


def test_n_step_return_by_hand() -> None:
  r, d = losses.n_step_return(
    _tensor([[1, 2, 4], [1, 2, 4], [1, 2, 4]]),
    _tensor([[1, 1, 1], [1, 0, 1], [1, 1, 0]]),
    tf.ones([3, 3]),
    0.5,
  )
  # 1 + 2/2 + 4/4; the second ends after its second reward, the third after its last.
  np.testing.assert_array_equal(r, [3, 2, 3])
  np.testing.assert_array_equal(d, [0.125, 0, 0])


def test_one_step_return_is_the_reward() -> None:
  r, d = losses.n_step_return(
    _tensor([[0.25], [0.5]]), _tensor([[1], [0]]), tf.ones([2, 1]), 0.5
  )
  np.testing.assert_array_equal(r, [0.25, 0.5])
  np.testing.assert_array_equal(d, [0.5, 0])


def test_padding_neither_rewards_nor_discounts() -> None:
  r, d = losses.n_step_return(
    # What stands in a padded step must not matter.
    _tensor([[1, 2, 99], [1, 99, 99], [1, 99, 99]]),
    _tensor([[1, 1, 0], [1, 0, 7], [0, 1, 1]]),
    _tensor([[1, 1, 0], [1, 0, 0], [1, 0, 0]]),
    0.5,
  )
  np.testing.assert_array_equal(r, [2, 1, 1])
  np.testing.assert_array_equal(d, [0.25, 0.5, 0])


@pytest.mark.parametrize('n', [1, 2, 5])
def test_n_step_return_agrees_with_the_reference(n: int) -> None:
  rng = np.random.default_rng(n)
  r = rng.uniform(0, 1, (64, n))
  d = rng.choice([0.0, 0.5, 1.0], (64, n))
  real = (np.arange(n) < rng.integers(1, n + 1, (64, 1))).astype(float)
  found = losses.n_step_return(_tensor(r), _tensor(d), _tensor(real), 0.9)
  expected = [_slow_return(*row, 0.9) for row in zip(r, d, real, strict=True)]
  np.testing.assert_allclose(np.stack(found, 1), expected, atol=1e-6)


def test_projection_by_hand() -> None:
  z_p = _tensor([[0, 1, 2], [0.25, 1.25, 2.25], [-5, 0.5, 9]])
  p = _tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
  np.testing.assert_array_equal(
    losses.categorical_projection(z_p, p, _tensor([0, 1, 2])),
    [
      [0.5, 0.25, 0.25],
      [0.375, 0.3125, 0.3125],  # the last atom is cut to 2
      [0.625, 0.125, 0.25],
    ],
  )


def test_projection_agrees_with_the_reference_and_keeps_mass_and_mean() -> None:
  rng = np.random.default_rng(0)
  z_p = rng.uniform(-3, 13, (50, 7)).astype(np.float32)
  p = rng.dirichlet(np.ones(7), 50).astype(np.float32)
  found = losses.categorical_projection(z_p, p, _ATOMS).numpy()
  np.testing.assert_allclose(found, _slow_projection(z_p, p, _ATOMS), atol=2e-6)
  np.testing.assert_allclose(found.sum(1), 1, atol=2e-6)
  mean = (np.clip(z_p, 0, 10) * p).sum(1)
  np.testing.assert_allclose((found * _ATOMS).sum(1), mean, atol=2e-5)


def test_td_loss_by_hand() -> None:
  # The target is certain of 1: half of it lies on the atom 0, half on 2.
  logits_t = _tensor([[-1000, 1000], [-1000, 1000]])
  loss = losses.categorical_td_loss(
    tf.math.log(_tensor([[0.25, 0.75], [0.5, 0.5]])),
    _tensor([0, 1]),
    _tensor([0.5, 0]),
    logits_t,
    _tensor([0, 2]),
  )
  expected = [-(np.log(0.25) + np.log(0.75)) / 2, np.log(2)]
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_td_loss_agrees_with_the_reference() -> None:
  rng = np.random.default_rng(1)
  logits_tm1, logits_t = rng.normal(0, 2, (2, 40, 11)).astype(np.float32)
  r = rng.uniform(0, 3, 40).astype(np.float32)
  d = rng.choice([0.0, 0.729, 0.9], 40).astype(np.float32)
  found = losses.categorical_td_loss(
    *map(_tensor, (logits_tm1, r, d, logits_t, _ATOMS))
  )
  z_t = r[:, None] + d[:, None] * _ATOMS
  target = _slow_projection(z_t, _softmax(logits_t), _ATOMS)
  expected = -(target * np.log(_softmax(logits_tm1))).sum(1)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_td_loss_sends_no_gradient_to_the_target() -> None:
  rng = np.random.default_rng(2)
  logits_tm1, logits_t = map(_tensor, rng.normal(size=(2, 6, 11)))
  r, d = tf.ones([6]), tf.fill([6], 0.9)
  with tf.GradientTape() as tape:
    tape.watch([logits_tm1, logits_t, r, d])
    loss = losses.categorical_td_loss(logits_tm1, r, d, logits_t, _tensor(_ATOMS))
  gradients = tape.gradient(loss, [logits_tm1, logits_t, r, d])
  assert gradients[1:] == [None, None, None]
  # Softmax and cross-entropy: the prediction less the target.
  target = _slow_projection(
    1 + 0.9 * np.tile(_ATOMS, (6, 1)), _softmax(logits_t.numpy()), _ATOMS
  )
  expected = _softmax(logits_tm1.numpy()) - target
  np.testing.assert_allclose(gradients[0], expected, atol=2e-6)


def test_of_several_critics_each_state_has_the_lowest() -> None:
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 2, (3, 40, 7)).astype(np.float32)
  atoms = np.linspace(-1, 2, 7, dtype=np.float32)
  exps = np.exp(logits)
  means = (exps / exps.sum(-1, keepdims=True)) @ atoms
  np.testing.assert_allclose(losses.mean(logits, atoms), means, atol=1e-6)
  chosen = means.argmin(0)
  assert set(chosen) == {0, 1, 2}
  found = losses.lowest(tf.constant(logits), tf.constant(atoms))
  np.testing.assert_array_equal(found, logits[chosen, np.arange(40)])
  np.testing.assert_array_equal(losses.lowest(logits[:1], atoms), logits[0])


def test_policy_gradient_by_hand() -> None:
  dqda = _tensor([[3, 4], [0.3, 0.4]])
  np.testing.assert_allclose(
    losses.policy_gradient(dqda), [[-1.5, -2], [-0.15, -0.2]], rtol=1e-6
  )
  # Only the first has a norm above 1.
  np.testing.assert_allclose(
    losses.policy_gradient(dqda, clip=1.0), [[-0.3, -0.4], [-0.15, -0.2]], rtol=1e-6
  )
  np.testing.assert_allclose(
    losses.policy_gradient(dqda, clip=0.25), [[-0.075, -0.1]] * 2, rtol=1e-6
  )


@pytest.mark.parametrize('clip', [0.0, 0.7])
def test_policy_gradient_agrees_with_the_reference(clip: float) -> None:
  dqda = np.random.default_rng(3).normal(size=(20, 9)).astype(np.float32)
  expected = np.zeros_like(dqda)
  for i, row in enumerate(dqda):
    norm = np.sqrt((row**2).sum())
    expected[i] = -row / 20 * (clip / norm if clip and norm > clip else 1)
  np.testing.assert_allclose(
    losses.policy_gradient(_tensor(dqda), clip), expected, rtol=1e-5
  )


def test_smoothed_action_by_hand() -> None:
  # Noise is cut at 2.5 deviations of 0.2, and then the action at 1.
  action = [[0.5, 0.5, -0.5, 0.9, -0.9], [0, 0, 0, 0, 0]]
  noise = [[1, 3, -3, 1, -1], [2.5, -2.5, 0, -1, 10]]
  found = losses.smoothed_action(_tensor(action), _tensor(noise), 0.2)
  expected = [[0.7, 1, -1, 1, -1], [0.5, -0.5, 0, -0.2, 0.5]]
  np.testing.assert_allclose(found, expected, atol=1e-7)


def test_cloning_gradient_by_hand() -> None:
  # The critic prefers the replayed action of the first, not of the others.
  found = losses.cloning_gradient(
    _tensor([[0.5, -0.5], [0.5, 0.5], [1, 1], [0, 0]]),
    _tensor([[0, 0.5], [0, 0], [0, 0], [1, 1]]),
    _tensor([1, 1, 1, -1]),
    _tensor([2, 1, 0.5, -2]),
  )
  expected = [[0.25, -0.5], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
  np.testing.assert_array_equal(found, expected)


def test_cloning_gradient_is_that_of_the_loss() -> None:
  rng = np.random.default_rng(4)
  action, replayed = map(_tensor, rng.uniform(-1, 1, (2, 20, 9)))
  value, replayed_value = rng.normal(size=(2, 20)).astype(np.float32)
  with tf.GradientTape() as tape:
    tape.watch(action)
    total = tf.constant(0.0)
    for i in range(20):
      if replayed_value[i] > value[i]:
        total += tf.norm(action[i] - replayed[i]) ** 2
    loss = total / 20
  found = losses.cloning_gradient(
    action, replayed, _tensor(value), _tensor(replayed_value)
  )
  assert 5 < (replayed_value > value).sum() < 15
  np.testing.assert_allclose(found, tape.gradient(loss, action), atol=1e-6)


def test_shapes_that_do_not_fit_are_refused() -> None:
  with pytest.raises(ValueError, match='shape'):
    losses.n_step_return(tf.ones([2, 3]), tf.ones([2, 3]), tf.ones([2, 1]), 0.9)
  with pytest.raises(ValueError, match='shape'):
    losses.categorical_td_loss(
      tf.ones([2, 11]), tf.ones([2, 1]), tf.ones([2]), tf.ones([2, 11]), _ATOMS
    )
  with pytest.raises(ValueError, match='shape'):
    losses.smoothed_action(tf.ones([2, 9]), tf.ones([9]), 0.2)
  with pytest.raises(ValueError, match='shape'):
    losses.cloning_gradient(
      tf.ones([2, 9]), tf.ones([2, 9]), tf.ones([2, 1]), tf.ones([2])
    )
