"""Tests of agents.self_imitation."""

from collections.abc import Iterator
import dataclasses
from typing import Any

import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf
import tree

from agents import off_policy
from agents.d4pg import losses as d4pg_losses
from agents.self_imitation import learning
from agents.self_imitation import losses
from metamimic import config as config_lib
from metamimic.networks import critics
from metamimic.networks import pictures
from metamimic.networks import policies

FEATURES, ACTIONS, COMPONENTS, BATCH = 7, 3, 4, 16
NETWORK = config_lib.NetworkConfig(policy_width=16, critic_width=16)
CONFIG = config_lib.D4PGConfig(
  discount=0.9,
  n_step=2,
  num_atoms=11,
  v_max=2.0,
  batch_size=BATCH,
  policy_learning_rate=1e-3,
  critic_learning_rate=2e-3,
  encoder_learning_rate=3e-3,
  target_update_rate=0.1,
  steps_per_call=1,
)


def _tensor(values: Any) -> tf.Tensor:
  return tf.constant(values, tf.float32)


def test_likelihood_by_hand() -> None:
  # Two components of probability 1/4 and 3/4; the action is the first's mean, and two
  # deviations of 1/2 from the second's in one of its two numbers.
  found = losses.mixture_log_likelihood(
    _tensor([[0, 0.5]]),
    _tensor([[[0, 0.5], [1, 0.5]]]),
    _tensor(np.log([[[1.0, 1.0], [0.5, 1.0]]])),
    _tensor(np.log([[1, 3]])),
  )
  expected = np.log(0.25 + 0.75 * np.exp(-2) / 0.5)
  np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_likelihood_agrees_with_numpy() -> None:
  rng = np.random.default_rng(5)
  action, means = rng.uniform(-1, 1, (20, 9)), rng.uniform(-1, 1, (20, 4, 9))
  deviations, logits = rng.uniform(0.3, 1, (20, 4, 9)), rng.normal(size=(20, 4))
  expected = np.zeros(20)
  for i in range(20):
    shares = np.exp(logits[i]) / np.exp(logits[i]).sum()
    for k in range(4):
      z = (action[i] - means[i, k]) / deviations[i, k]
      expected[i] += shares[k] * np.prod(np.exp(-(z**2) / 2) / deviations[i, k])
  found = losses.mixture_log_likelihood(
    _tensor(action), _tensor(means), _tensor(np.log(deviations)), _tensor(logits)
  )
  np.testing.assert_allclose(found, np.log(expected), rtol=1e-4, atol=1e-4)


def test_only_what_turned_out_better_is_imitated() -> None:
  likelihood = _tensor([1, 2, 4, 8])
  loss = losses.imitation_loss(likelihood, _tensor([0.1, -0.1, 0, 3]))
  assert loss == -4.5
  assert losses.imitation_loss(likelihood, _tensor([-1, 0, -1, -1])) == 0


def test_shapes_that_do_not_fit_are_refused() -> None:
  with pytest.raises(ValueError, match='shape'):
    losses.mixture_log_likelihood(
      tf.ones([2, 9]), tf.ones([2, 4, 9]), tf.ones([2, 4, 9]), tf.ones([2, 3])
    )
  with pytest.raises(ValueError, match='shape'):
    losses.imitation_loss(tf.ones([2]), tf.ones([2, 1]))


@dataclasses.dataclass
class Networks:
  """Policy, value and its target, and the policy's average."""

  policy: snt.Module
  value: snt.Module
  target_value: snt.Module
  averaged: snt.Module

  def weights(self, name: str) -> list[np.ndarray]:
    """Returns copies of a network's weights."""
    return [v.numpy() for v in getattr(self, name).variables]


def _networks(seed: int, features: int = FEATURES) -> Networks:
  """Returns networks with the weights of this seed."""

  def policy() -> snt.Module:
    made = policies.MixturePolicyNetwork(ACTIONS, COMPONENTS, NETWORK)
    made(tf.zeros([1, features]))
    return made

  def value() -> snt.Module:
    made = critics.ValueNetwork(NETWORK, CONFIG.num_atoms, CONFIG.v_min, CONFIG.v_max)
    made(tf.zeros([1, features]))
    return made

  networks = Networks(policy(), value(), value(), policy())
  rng = np.random.default_rng(seed)
  for variable in (*networks.policy.variables, *networks.value.variables):
    scale = 1 / np.sqrt(variable.shape[0]) if len(variable.shape) == 2 else 0.1
    start = 1.0 if 'scale' in variable.name else 0.0
    variable.assign(start + scale * rng.standard_normal(variable.shape))
  return networks


def _batches(seed: int, count: int, size: int = BATCH) -> list[dict[str, Any]]:
  rng = np.random.default_rng(seed)
  steps = (size, CONFIG.n_step)
  batches = [
    {
      'observation': rng.standard_normal((size, FEATURES)).astype(np.float32),
      'next_observation': rng.standard_normal((size, FEATURES)).astype(np.float32),
      'action': rng.uniform(-1, 1, (size, ACTIONS)).astype(np.float32),
      'reward': {'task': rng.uniform(0, 1, steps).astype(np.float32)},
      'discount': {'task': rng.choice([0, 1], steps).astype(np.float32)},
      'real': np.ones(steps, np.float32),
    }
    for _ in range(count)
  ]
  return tree.map_structure(tf.constant, batches)


def _learner(
  networks: Networks, batches: Iterator[Any], config: config_lib.D4PGConfig = CONFIG
) -> learning.SelfImitationLearner:
  return learning.SelfImitationLearner(
    lambda observation: observation,
    networks.policy,
    networks.value,
    networks.target_value,
    tf.linspace(config.v_min, config.v_max, config.num_atoms),
    batches,
    lambda batch: batch,
    config,
    reward='task',
    averaged_policy=networks.averaged if config.averaged_steps else None,
  )


@pytest.mark.usefixtures('eagerly')
def test_an_update_is_the_one_that_was_meant() -> None:
  (batch,) = _batches(1, 1)
  ours, slow = _networks(0), _networks(0)
  metrics = _learner(ours, iter([batch])).step()

  atoms = np.linspace(CONFIG.v_min, CONFIG.v_max, CONFIG.num_atoms, dtype=np.float32)
  r, d = batch['reward']['task'].numpy(), batch['discount']['task'].numpy()
  rewards = r[:, 0] + 0.9 * d[:, 0] * r[:, 1]
  discounts = 0.81 * d[:, 0] * d[:, 1]
  # A new learner's target is a copy of the network.
  after = slow.value(batch['next_observation'])
  with tf.GradientTape(persistent=True) as tape:
    value = slow.value(batch['observation'])
    value_loss = tf.reduce_mean(
      d4pg_losses.categorical_td_loss(
        value.logits, _tensor(rewards), _tensor(discounts), after.logits, atoms
      )
    )
    better = rewards + discounts * after.mean().numpy() > value.mean().numpy()
    assert 2 < better.sum() < BATCH - 2
    mixture = slow.policy.mixture(batch['observation'])
    likelihood = losses.mixture_log_likelihood(batch['action'], *mixture)
    policy_loss = -tf.reduce_mean(likelihood[better])
  for network, loss, rate in (
    (slow.value, value_loss, CONFIG.critic_learning_rate),
    (slow.policy, policy_loss, CONFIG.policy_learning_rate),
  ):
    variables = network.trainable_variables
    snt.optimizers.Adam(rate).apply(tape.gradient(loss, variables), variables)
  for name in ('policy', 'value'):
    for a, b in zip(ours.weights(name), slow.weights(name), strict=True):
      np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
  assert metrics == {
    'value_loss': pytest.approx(float(value_loss), rel=1e-5),
    'policy_loss': pytest.approx(float(policy_loss), rel=1e-5),
    'better': pytest.approx(better.mean()),
  }


@pytest.mark.usefixtures('eagerly')
def test_targets_follow_and_the_policy_is_averaged() -> None:
  config = dataclasses.replace(CONFIG, averaged_steps=2)
  networks = _networks(0)
  learner = _learner(networks, iter(_batches(2, 4)), config)
  copies = zip(networks.weights('value'), networks.weights('target_value'), strict=True)
  assert all((a == b).all() for a, b in copies)
  average: list[np.ndarray] = []
  for step in range(1, 5):
    before = networks.weights('target_value')
    learner.step()
    for target, old, new in zip(
      networks.weights('target_value'), before, networks.weights('value'), strict=True
    ):
      np.testing.assert_allclose(target, old + 0.1 * (new - old), atol=1e-6)
    newest = networks.weights('policy')
    share = 1 / min(step, 2)
    average = [
      old + share * (new - old)
      for old, new in zip(average or newest, newest, strict=True)
    ]
  for variable, expected in zip(networks.weights('averaged'), average, strict=True):
    np.testing.assert_allclose(variable, expected, atol=1e-6)


@pytest.mark.usefixtures('eagerly')
def test_restored_learner_goes_on_bit_for_bit(tmp_path: Any) -> None:
  config = dataclasses.replace(CONFIG, averaged_steps=3, gradient_clip=1.0)
  batches = _batches(6, 6)
  networks, fresh = _networks(0), _networks(1)
  learner = _learner(networks, iter(batches), config)
  for _ in range(3):
    learner.step()
  path = tf.train.Checkpoint(**learner.state).save(str(tmp_path / 'checkpoint'))
  resumed = _learner(fresh, iter(batches[3:]), config)
  tf.train.Checkpoint(**resumed.state).restore(path).assert_consumed()
  assert resumed.num_steps == 3
  for _ in range(3):
    assert learner.step() == resumed.step()
  for name in ('policy', 'value', 'target_value', 'averaged'):
    for a, b in zip(networks.weights(name), fresh.weights(name), strict=True):
      np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures('eagerly')
def test_an_encoder_learns_from_the_value_alone() -> None:
  (batch,) = _batches(3, 1)
  rng = np.random.default_rng(0)
  drawn = {
    name: tf.constant(rng.integers(0, 256, (BATCH, 8, 8, 3)), tf.uint8)
    for name in ('observation', 'next_observation')
  }

  def embed(observation: tf.Tensor) -> pictures.Shown:
    now = observation is batch['observation']
    return pictures.Shown(
      observation, drawn['observation' if now else 'next_observation'], None
    )

  def encoder() -> pictures.Encoder:
    tf.random.set_seed(0)
    made = pictures.Encoder((3,), 4, normalise=True)
    made(pictures.Seen(tf.zeros([1, FEATURES]), tf.zeros([1, 8, 8, 3])))
    return made

  def step(action: tf.Tensor) -> tuple[list[np.ndarray], Networks]:
    networks = _networks(0, FEATURES + 4)
    encoders = off_policy.Encoders(encoder(), encoder())
    start = [v.numpy() for v in encoders.online.variables]
    learner = learning.SelfImitationLearner(
      embed,
      networks.policy,
      networks.value,
      networks.target_value,
      tf.linspace(CONFIG.v_min, CONFIG.v_max, CONFIG.num_atoms),
      iter([{**batch, 'action': action}]),
      lambda batch: batch,
      CONFIG,
      reward='task',
      encoders=encoders,
    )
    learner.step()
    after = [v.numpy() for v in encoders.online.variables]
    assert all((a != b).any() for a, b in zip(start, after, strict=True))
    return after, networks

  one, first = step(batch['action'])
  other, second = step(-batch['action'])
  for a, b in zip(one, other, strict=True):
    np.testing.assert_array_equal(a, b)
  assert any(
    (a != b).any()
    for a, b in zip(first.weights('policy'), second.weights('policy'), strict=True)
  )


def test_learns_one_of_two_ways_and_not_their_mean() -> None:
  """Either of two opposite actions is rewarded; what lies between them is not."""
  rng = np.random.default_rng(0)
  config = dataclasses.replace(
    CONFIG,
    n_step=1,
    batch_size=64,
    steps_per_call=10,
    policy_learning_rate=3e-3,
    averaged_steps=0,
  )
  size = config.batch_size * config.steps_per_call

  def good(seen: np.ndarray, action: np.ndarray) -> np.ndarray:
    way = 0.7 * np.tanh(3 * seen[:, :ACTIONS])
    distance = np.minimum(np.abs(action - way).max(-1), np.abs(action + way).max(-1))
    return (distance < 0.4).astype(np.float32)

  def batches() -> Iterator[Any]:
    while True:
      seen = rng.standard_normal((size, FEATURES)).astype(np.float32)
      action = rng.uniform(-1, 1, (size, ACTIONS)).astype(np.float32)
      yield {
        'observation': tf.constant(seen),
        'next_observation': tf.constant(seen),
        'action': tf.constant(action),
        'reward': {'task': tf.constant(good(seen, action)[:, None])},
        'discount': {'task': tf.zeros([size, 1])},
        'real': tf.ones([size, 1]),
      }

  networks = _networks(0)
  learner = _learner(networks, batches(), config)
  test = rng.standard_normal((500, FEATURES)).astype(np.float32)

  def successes() -> float:
    return good(test, networks.policy(tf.constant(test)).numpy()).mean()

  before = successes()
  for _ in range(150):
    learner.step()
  assert learner.num_steps == 1500
  chance = good(test, rng.uniform(-1, 1, (500, ACTIONS))).mean()
  assert max(before, chance) < 0.4
  assert successes() > 0.8
