"""Tests of agents.d4pg.learning, beside Acme's own D4PG learner."""

from collections.abc import Iterator
import dataclasses
from typing import Any

from acme import types as acme_types
from acme.agents.tf.d4pg import learning as acme_learning
from acme.tf import losses as acme_losses
from acme.utils import loggers
import numpy as np
import pytest
import reverb
import sonnet as snt
import tensorflow as tf
import tree

from agents.d4pg import learning
from agents.d4pg import losses
from metamimic import config as config_lib
from metamimic.networks import critics
from metamimic.networks import policies

FEATURES, ACTIONS, BATCH = 7, 3, 16
RATE = 1e-3
SCALE = 100.0
NETWORK = config_lib.NetworkConfig(policy_width=16, critic_width=16)
# What Acme's learner does: one step, copies as targets.
LIKE_ACME = config_lib.D4PGConfig(
  discount=0.9,
  n_step=1,
  num_atoms=11,
  batch_size=BATCH,
  policy_learning_rate=RATE,
  critic_learning_rate=RATE,
  target_update_rate=1.0,
  target_update_period=1,
  steps_per_call=1,
)
CLIPPED = dataclasses.replace(LIKE_ACME, action_gradient_clip=1.0, gradient_clip=40.0)


@dataclasses.dataclass
class Networks:
  """Policy, critic and their targets."""

  policy: snt.Module
  critic: snt.Module
  target_policy: snt.Module
  target_critic: snt.Module

  def weights(self, *names: str) -> list[np.ndarray]:
    """Returns copies of the weights of these networks, of all unless named."""
    names = names or tuple(f.name for f in dataclasses.fields(self))
    return [v.numpy() for name in names for v in getattr(self, name).variables]


def _networks(seed: int, gain: float = 1.0) -> Networks:
  """Returns networks with the weights of this seed; `gain` makes gradients large."""

  def pair() -> tuple[snt.Module, snt.Module]:
    policy = policies.PolicyNetwork(ACTIONS, NETWORK)
    policy(tf.zeros([1, FEATURES]))
    critic = critics.CriticNetwork(
      NETWORK, LIKE_ACME.num_atoms, LIKE_ACME.v_min, LIKE_ACME.v_max
    )
    critic(tf.zeros([1, FEATURES]), tf.zeros([1, ACTIONS]))
    return policy, critic

  networks = Networks(*pair(), *pair())
  rng = np.random.default_rng(seed)
  for variable in (*networks.policy.variables, *networks.critic.variables):
    scale = gain / np.sqrt(variable.shape[0]) if len(variable.shape) == 2 else 0.1
    start = 1.0 if 'scale' in variable.name else 0.0
    variable.assign(start + scale * rng.standard_normal(variable.shape))
  return networks


def _weaken_first_layers(networks: Networks) -> None:
  """Makes room for observations of SCALE, which make the gradients large."""
  for network in (networks.policy, networks.critic):
    for variable in network.variables:
      if variable.shape[0] in (FEATURES, FEATURES + ACTIONS):
        weights = variable.numpy()
        weights[:FEATURES] /= SCALE
        variable.assign(weights)


def _batches(
  seed: int, count: int, n: int = 1, size: int = BATCH, same: bool = False
) -> list[dict[str, Any]]:
  """Returns transitions; `same`: the next observation is the observation."""
  rng = np.random.default_rng(seed)
  batches = []
  for _ in range(count):
    now, after = rng.standard_normal((2, size, FEATURES)).astype(np.float32)
    batches.append(
      {
        'observation': now,
        'next_observation': now if same else after,
        'action': rng.uniform(-1, 1, (size, ACTIONS)).astype(np.float32),
        'reward': {'imitation': rng.uniform(0, 2, (size, n)).astype(np.float32)},
        'discount': {'imitation': rng.choice([0, 1], (size, n)).astype(np.float32)},
        'real': np.ones((size, n), np.float32),
      }
    )
  return tree.map_structure(tf.constant, batches)


def _learner(
  networks: Networks,
  batches: Iterator[Any],
  config: config_lib.D4PGConfig,
  seed: int = 0,
  averaged: snt.Module | None = None,
  reset_after: int = 0,
) -> learning.D4PGLearner:
  return learning.D4PGLearner(
    lambda observation: observation,
    networks.policy,
    networks.critic,
    networks.target_policy,
    networks.target_critic,
    tf.linspace(config.v_min, config.v_max, config.num_atoms),
    batches,
    lambda batch: batch,
    config,
    reward='imitation',
    seed=seed,
    averaged_policy=averaged,
    reset_after=reset_after,
  )


def _step(
  networks: Networks, batches: list[Any], config: config_lib.D4PGConfig
) -> list[dict[str, float]]:
  learner = _learner(networks, iter(batches), config)
  return [learner.step() for _ in batches]


def _step_acme(networks: Networks, batches: list[Any], clipping: bool) -> list[Any]:
  """Lets Acme's learner take the same batches; returns its losses."""
  stacked = tree.map_structure(lambda *parts: tf.stack(parts), *batches)
  transitions = acme_types.Transition(
    observation=stacked['observation'],
    action=stacked['action'],
    reward=stacked['reward']['imitation'][..., 0],
    discount=stacked['discount']['imitation'][..., 0],
    next_observation=stacked['next_observation'],
  )
  # One of TensorFlow's own iterators: the step is a graph, and a Python one would give
  # it its first batch for ever.
  dataset = tf.data.Dataset.from_tensor_slices(transitions)
  samples = dataset.map(lambda t: reverb.ReplaySample(info=(), data=t))
  logger = loggers.InMemoryLogger()
  learner = acme_learning.D4PGLearner(
    networks.policy,
    networks.critic,
    networks.target_policy,
    networks.target_critic,
    discount=LIKE_ACME.discount,
    target_update_period=1,
    dataset_iterator=iter(samples),
    policy_optimizer=snt.optimizers.Adam(RATE),
    critic_optimizer=snt.optimizers.Adam(RATE),
    clipping=clipping,
    logger=logger,
    checkpoint=False,
  )
  for _ in batches:
    learner.step()
  return list(logger.data)


def _assert_close(a: list[np.ndarray], b: list[np.ndarray]) -> None:
  for x, y in zip(a, b, strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)


def _distance(a: list[np.ndarray], b: list[np.ndarray]) -> float:
  return max(np.abs(x - y).max() for x, y in zip(a, b, strict=True))


def test_agrees_with_acme_where_next_observation_is_the_observation() -> None:
  ours, acmes, start = (_networks(0) for _ in range(3))
  batches = _batches(1, 3, same=True)
  metrics = _step(ours, batches, LIKE_ACME)
  reported = _step_acme(acmes, batches, clipping=False)
  for name in ('policy', 'critic'):
    _assert_close(ours.weights(name), acmes.weights(name))
    assert _distance(ours.weights(name), start.weights(name)) > 2 * RATE
  for mine, theirs in zip(metrics, reported, strict=True):
    np.testing.assert_allclose(
      mine['critic_loss'], theirs['critic_loss'].numpy(), rtol=1e-5
    )


@pytest.mark.usefixtures('eagerly')
def test_agrees_with_acme_when_clipped() -> None:
  ours, acmes, plain = (_networks(0, gain=2.0) for _ in range(3))
  batches = _batches(1, 3, same=True)
  for batch in batches:
    batch['observation'] = batch['next_observation'] = SCALE * batch['observation']
  for networks in (ours, acmes, plain):
    _weaken_first_layers(networks)
  _step(ours, batches, CLIPPED)
  _step_acme(acmes, batches, clipping=True)
  _step(plain, batches, LIKE_ACME)
  for name in ('policy', 'critic'):
    _assert_close(ours.weights(name), acmes.weights(name))
    # The gradients were large enough for clipping to matter.
    assert _distance(ours.weights(name), plain.weights(name)) > 1e-4


@pytest.mark.usefixtures('eagerly')
def test_acme_copies_targets_before_the_step_and_we_after_it() -> None:
  ours, acmes, earlier = (_networks(0) for _ in range(3))
  batches = _batches(1, 2, same=True)
  _step(ours, batches, LIKE_ACME)
  _step_acme(acmes, batches, clipping=False)
  for online, target in (('policy', 'target_policy'), ('critic', 'target_critic')):
    assert _distance(ours.weights(online), ours.weights(target)) == 0
    assert _distance(acmes.weights(online), acmes.weights(target)) > RATE / 2
  # Acme's are one step old: those that its second update bootstrapped from.
  _step(earlier, batches[:1], LIKE_ACME)
  targets = ('target_policy', 'target_critic')
  _assert_close(acmes.weights(*targets), earlier.weights(*targets))


def _policy_after(networks: Networks, observation: tf.Tensor) -> list[np.ndarray]:
  """Returns the policy after one update with Acme's loss at this observation."""
  policy = networks.policy
  with tf.GradientTape(persistent=True) as tape:
    action = policy(observation)
    value = networks.critic(observation, action).mean()
    loss = tf.reduce_mean(acme_losses.dpg(value, action, tape))
  variables = policy.trainable_variables
  snt.optimizers.Adam(RATE).apply(tape.gradient(loss, variables), variables)
  return networks.weights('policy')


@pytest.mark.usefixtures('eagerly')
def test_policy_gradient_is_taken_at_the_observation_and_by_acme_at_the_next() -> None:
  ours, acmes = _networks(0), _networks(0)
  batches = _batches(2, 1)
  _step(ours, batches, LIKE_ACME)
  _step_acme(acmes, batches, clipping=False)
  _assert_close(ours.weights('critic'), acmes.weights('critic'))
  assert _distance(ours.weights('policy'), acmes.weights('policy')) > RATE
  here = _policy_after(_networks(0), batches[0]['observation'])
  _assert_close(ours.weights('policy'), here)
  following = _policy_after(_networks(0), batches[0]['next_observation'])
  _assert_close(acmes.weights('policy'), following)


@pytest.mark.usefixtures('eagerly')
def test_policy_loss_is_minus_the_mean_value() -> None:
  networks = _networks(3)
  batch = _batches(3, 1)[0]
  policy, critic = networks.policy, networks.critic
  value = critic(batch['observation'], policy(batch['observation'])).mean()
  expected = -tf.reduce_mean(value).numpy()
  metrics = _step(networks, [batch], LIKE_ACME)[0]
  np.testing.assert_allclose(metrics['policy_loss'], expected, rtol=1e-5)


def _noises(
  monkeypatch: pytest.MonkeyPatch, deviation: float, seed: int
) -> tuple[list[np.ndarray], Networks]:
  """Returns the noise of each of three updates, and the networks after them."""
  found: list[np.ndarray] = []
  smoothed = losses.smoothed_action

  def watched(action: tf.Tensor, noise: tf.Tensor, deviation: float) -> tf.Tensor:
    found.append(noise.numpy())
    return smoothed(action, noise, deviation)

  config = dataclasses.replace(LIKE_ACME, target_noise=deviation)
  networks = _networks(0)
  learner = _learner(networks, iter(_batches(7, 3)), config, seed)
  with monkeypatch.context() as patch:
    patch.setattr(losses, 'smoothed_action', watched)
    for _ in range(3):
      learner.step()
  return found, networks


@pytest.mark.usefixtures('eagerly')
def test_noise_is_anothers_at_each_step_and_follows_from_the_seed(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  noise, networks = _noises(monkeypatch, 0.2, seed=5)
  again, same = _noises(monkeypatch, 0.2, seed=5)
  others, other = _noises(monkeypatch, 0.2, seed=6)
  none, without = _noises(monkeypatch, 0.0, seed=5)
  np.testing.assert_array_equal(noise, again)
  assert np.std(noise) == pytest.approx(1, abs=0.15)
  for values in (*noise[1:], *others):
    assert np.abs(values - noise[0]).max() > 0.1
  assert none == []
  assert _distance(networks.weights(), same.weights()) == 0
  for networks_ in (other, without):
    assert _distance(networks.weights('critic'), networks_.weights('critic')) > RATE / 9


@pytest.mark.usefixtures('eagerly')
def test_noise_moves_the_action_that_the_critic_bootstraps_from() -> None:
  ours, slow = _networks(0), _networks(0)
  (batch,) = _batches(8, 1)
  config = dataclasses.replace(LIKE_ACME, target_noise=0.5)
  _learner(ours, iter([batch]), config, seed=3).step()

  # A new learner's targets are copies of the networks.
  policy, critic = slow.policy, slow.critic
  noise = tf.random.stateless_normal([BATCH, ACTIONS], [0, 3]).numpy()
  o_t = batch['next_observation']
  a_t = np.clip(policy(o_t).numpy() + np.clip(0.5 * noise, -1.25, 1.25), -1, 1)
  q_t = critic(o_t, tf.constant(a_t))
  with tf.GradientTape() as tape:
    q_tm1 = critic(batch['observation'], batch['action'])
    loss = tf.reduce_mean(
      losses.categorical_td_loss(
        q_tm1.logits,
        batch['reward']['imitation'][:, 0],
        0.9 * batch['discount']['imitation'][:, 0],
        q_t.logits,
        q_t.values,
      )
    )
  variables = critic.trainable_variables
  snt.optimizers.Adam(RATE).apply(tape.gradient(loss, variables), variables)
  _assert_close(ours.weights('critic'), slow.weights('critic'))


@pytest.mark.usefixtures('eagerly')
def test_cloning_adds_to_the_policys_loss_what_the_critic_prefers() -> None:
  ours, slow, plain = _networks(0), _networks(0), _networks(0)
  (batch,) = _batches(9, 1)
  weight = 3.0
  _step(ours, [batch], dataclasses.replace(LIKE_ACME, cloning_weight=weight))
  _step(plain, [batch], LIKE_ACME)

  policy, critic, o_tm1 = slow.policy, slow.critic, batch['observation']
  replayed = critic(o_tm1, batch['action']).mean().numpy()
  with tf.GradientTape() as tape:
    action = policy(o_tm1)
    value = critic(o_tm1, action).mean()
    size = np.abs(value.numpy()).mean() + 1e-3
    preferred = replayed > value.numpy()
    assert 2 < preferred.sum() < BATCH - 2
    error = tf.reduce_sum((action - batch['action']) ** 2, -1)
    cloning = tf.reduce_mean(tf.where(preferred, error, 0.0))
    loss = -tf.reduce_mean(value) / size + weight * cloning
  variables = policy.trainable_variables
  snt.optimizers.Adam(RATE).apply(tape.gradient(loss, variables), variables)
  _assert_close(ours.weights('policy'), slow.weights('policy'))
  assert _distance(ours.weights('policy'), plain.weights('policy')) > RATE / 2
  # It is the policy's loss alone.
  _assert_close(ours.weights('critic'), plain.weights('critic'))


@pytest.mark.usefixtures('eagerly')
def test_two_critics_that_are_alike_are_as_one() -> None:
  config = dataclasses.replace(LIKE_ACME, cloning_weight=1.0, critics=2)
  one, two = _networks(0), _networks(0)
  twins = []
  for name in ('critic', 'target_critic'):
    single = getattr(two, name)
    other = getattr(_networks(0), name)
    twins.append(critics.Critics([single, other]))
  both = dataclasses.replace(two, critic=twins[0], target_critic=twins[1])
  batches = _batches(1, 3)
  expected = _step(one, batches, config)
  found = _step(both, batches, config)
  _assert_close(one.weights('policy'), two.weights('policy'))
  for member in twins[0]._members:
    _assert_close(one.weights('critic'), [v.numpy() for v in member.variables])
  for a, b in zip(found, expected, strict=True):
    assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.usefixtures('eagerly')
def test_the_lower_of_two_critics_counts_everywhere() -> None:
  config = dataclasses.replace(LIKE_ACME, cloning_weight=1.0, critics=2)
  (batch,) = _batches(1, 1)
  low, high = _networks(0, gain=2.0), _networks(1, gain=2.0)
  for networks, shift in ((low, -6.0), (high, 6.0)):
    # So much that one is lower than the other everywhere.
    for name in ('critic', 'target_critic'):
      head = getattr(networks, name)._head
      head.b.assign(shift * np.linspace(-1, 1, config.num_atoms, dtype=np.float32))
  alone = _networks(0, gain=2.0)
  for name in ('critic', 'target_critic'):
    for to, of in zip(
      getattr(alone, name).variables, getattr(low, name).variables, strict=True
    ):
      to.assign(of)
  (expected,) = _step(alone, [batch], config)
  before = high.weights('critic')
  both = Networks(
    low.policy,
    critics.Critics([high.critic, low.critic]),
    low.target_policy,
    critics.Critics([high.target_critic, low.target_critic]),
  )
  (found,) = _step(both, [batch], config)
  assert found['policy_loss'] == pytest.approx(expected['policy_loss'], rel=1e-5)
  _assert_close(alone.weights('policy'), low.weights('policy'))
  # But for Adam's epsilon: as one of two its gradient is half as large.
  assert _distance(alone.weights('critic'), low.weights('critic')) < RATE / 5
  # The other one learns, too, and from the same target.
  assert _distance(before, high.weights('critic')) > 0
  assert found['critic_loss'] > expected['critic_loss']


# Noise is the same to the last bit only in graphs, where an update takes seconds more.
@pytest.mark.parametrize(
  ('more', 'eager'),
  [({}, True), ({'target_noise': 0.2, 'cloning_weight': 1.0}, False)],
)
def test_k_updates_in_a_call_are_k_calls_of_one(
  more: dict[str, Any], eager: bool
) -> None:
  k, n = 4, 3
  config = dataclasses.replace(
    LIKE_ACME,
    n_step=n,
    target_update_rate=0.1,
    target_update_period=2,
    **more,
  )
  batches = _batches(4, k, n=n)
  apart, together = _networks(0), _networks(0)
  tf.config.run_functions_eagerly(eager)
  metrics = _step(apart, batches, config)
  tf.config.run_functions_eagerly(False)
  joined = tree.map_structure(lambda *parts: tf.concat(parts, 0), *batches)
  learner = _learner(
    together, iter([joined]), dataclasses.replace(config, steps_per_call=k)
  )
  mean = learner.step(k + 1)
  assert learner.num_steps == k
  for a, b in zip(apart.weights(), together.weights(), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
  for name, value in mean.items():
    np.testing.assert_allclose(value, np.mean([m[name] for m in metrics]), rtol=1e-5)


def test_one_call_may_do_fewer_updates() -> None:
  batches = _batches(4, 3, n=1)
  apart, together = _networks(0), _networks(0)
  metrics = _step(apart, batches[:2], LIKE_ACME)
  joined = tree.map_structure(lambda *parts: tf.concat(parts, 0), *batches)
  config = dataclasses.replace(LIKE_ACME, steps_per_call=3)
  learner = _learner(together, iter([joined]), config)
  mean = learner.step(2)
  assert learner.num_steps == 2
  for a, b in zip(apart.weights(), together.weights(), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
  for name, value in mean.items():
    np.testing.assert_allclose(value, np.mean([m[name] for m in metrics]), rtol=1e-5)


def test_compiling_does_no_update() -> None:
  (batch,) = _batches(1, 1, n=LIKE_ACME.n_step)
  networks = _networks(0)
  learner = _learner(networks, iter([batch]), LIKE_ACME)
  before = [w.copy() for w in networks.weights()]
  learner.compile(batch)
  assert learner.num_steps == 0
  for a, b in zip(before, networks.weights(), strict=True):
    np.testing.assert_array_equal(a, b)
  traces = learner._updates.experimental_get_tracing_count()
  learner.step()
  assert learner.num_steps == 1
  assert learner._updates.experimental_get_tracing_count() == traces


@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize(
  ('rate', 'period', 'moves'),
  [(0.25, 1, [True] * 4), (0.25, 3, [False, False, True, False]), (1.0, 2, [0, 1] * 2)],
)
def test_targets_follow_at_their_rate_and_period(
  rate: float, period: int, moves: list[bool]
) -> None:
  config = dataclasses.replace(
    LIKE_ACME, target_update_rate=rate, target_update_period=period
  )
  networks = _networks(0)
  online, target = ('policy', 'critic'), ('target_policy', 'target_critic')
  learner = _learner(networks, iter(_batches(5, len(moves))), config)
  # A new learner's targets are copies.
  assert _distance(networks.weights(*online), networks.weights(*target)) == 0
  for moved in moves:
    before = networks.weights(*target)
    learner.step()
    after = networks.weights(*online)
    expected = [
      t + rate * (o - t) if moved else t for t, o in zip(before, after, strict=True)
    ]
    for x, y in zip(networks.weights(*target), expected, strict=True):
      np.testing.assert_allclose(x, y, rtol=0, atol=1e-7)


@pytest.mark.usefixtures('eagerly')
def test_policy_is_averaged_over_its_last_steps() -> None:
  span, steps = 4, 9
  config = dataclasses.replace(LIKE_ACME, averaged_steps=span)
  networks, averaged = _networks(seed=0), _networks(seed=1).policy
  learner = _learner(networks, iter(_batches(5, steps)), config, averaged=averaged)
  expected: list[np.ndarray] = []
  for step in range(1, steps + 1):
    learner.step()
    newest = networks.weights('policy')
    share = 1 / min(step, span)
    expected = [
      share * new + (1 - share) * old
      for new, old in zip(newest, expected or newest, strict=True)
    ]
    for variable, value in zip(averaged.variables, expected, strict=True):
      np.testing.assert_allclose(variable.numpy(), value, atol=1e-6)
  assert not np.allclose(expected[0], networks.weights('policy')[0], atol=1e-4)


@pytest.mark.parametrize('in_graphs', [False, True])
def test_from_a_reset_on_it_learns_as_a_new_learner(
  in_graphs: bool, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
  if not in_graphs:
    request.getfixturevalue('eagerly')
  config = dataclasses.replace(
    LIKE_ACME, averaged_steps=2, target_update_rate=0.1, steps_per_call=3
  )
  calls = _batches(5, 4, size=3 * BATCH)
  networks, averaged = _networks(0), _networks(1).policy
  learner = _learner(networks, iter(calls), config, reset_after=5, averaged=averaged)
  learner.step()
  assert learner.num_steps == 3
  assert _distance(networks.weights(), _networks(0).weights()) > RATE
  path = tf.train.Checkpoint(**learner.state).save(str(tmp_path / 'checkpoint'))
  # A learner that goes on from before the reset is reset like the other.
  others = _networks(2).policy
  again = _learner(
    _networks(0), iter(calls[1:]), config, reset_after=5, averaged=others
  )
  tf.train.Checkpoint(**again.state).restore(path).assert_consumed()
  new = _networks(0)
  fresh = _learner(new, iter(calls[2:]), config, averaged=_networks(0).policy)
  for each in (learner, again):
    # What more was sampled than is left until the reset, is left.
    each.step()
    assert each.num_steps == 5
    for a, b in zip(_everything(each)[:-2], _everything(fresh)[:-2], strict=True):
      np.testing.assert_array_equal(a, b)
  for each in (learner, again, fresh):
    each.step()
    each.step(1)
  assert (learner.num_steps, fresh.num_steps) == (9, 4)
  assert _distance(new.weights(), _networks(0).weights()) > RATE
  for each in (again, fresh):
    for a, b in zip(_everything(learner)[:-2], _everything(each)[:-2], strict=True):
      np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 if in_graphs else 0)


@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize(
  ('before', 'then', 'anew'),
  [
    (3, 6, False),  # It is to go on for longer, and has begun anew already.
    (0, 2, False),  # It is past that, because it is to end sooner than before.
    (0, 6, True),
    (6, 0, False),
  ],
)
def test_a_learner_that_goes_on_begins_anew_once(
  before: int, then: int, anew: bool, tmp_path: Any
) -> None:
  config = dataclasses.replace(LIKE_ACME, steps_per_call=3)
  calls = _batches(2, 4, size=3 * BATCH)
  learner = _learner(_networks(0), iter(calls), config, reset_after=before)
  learner.step()
  path = tf.train.Checkpoint(**learner.state).save(str(tmp_path / 'checkpoint'))
  networks = _networks(0)
  resumed = _learner(networks, iter(calls[1:]), config, reset_after=then)
  tf.train.Checkpoint(**resumed.state).restore(path).assert_consumed()
  resumed.step()
  assert resumed.num_steps == 6
  learned, at_first = (n.weights('policy', 'critic') for n in (networks, _networks(0)))
  assert (_distance(learned, at_first) == 0) == anew


@pytest.mark.usefixtures('eagerly')
def test_restored_learner_goes_on_bit_for_bit(tmp_path: Any) -> None:
  config = dataclasses.replace(LIKE_ACME, target_update_rate=0.1)
  batches = _batches(6, 6)
  networks = _networks(0)
  learner = _learner(networks, iter(batches), config)
  for _ in range(3):
    learner.step()
  path = tf.train.Checkpoint(**learner.state).save(str(tmp_path / 'checkpoint'))
  fresh = _networks(1)
  resumed = _learner(fresh, iter(batches[3:]), config)
  tf.train.Checkpoint(**resumed.state).restore(path).assert_consumed()
  assert resumed.num_steps == 3
  for _ in range(3):
    assert learner.step() == resumed.step()
  assert resumed.num_steps == 6
  for a, b in zip(_everything(learner), _everything(resumed), strict=True):
    np.testing.assert_array_equal(a, b)


def _everything(learner: learning.D4PGLearner) -> list[np.ndarray]:
  """Returns all that a learner holds, the slots of the optimisers included.

  Last come the steps that it has done, and after how many of them it began anew.
  """
  found = []
  for value in learner.state.values():
    variables = value.variables if hasattr(value, 'variables') else [value]
    found += [v.numpy() for v in tree.flatten(variables)]
  slots = sum(
    len(o.m) + len(o.v)
    for name, o in learner.state.items()
    if name.endswith('optimizer')
  )
  assert slots == 2 * sum(
    len(learner.state[name].trainable_variables) for name in ('policy', 'critic')
  )
  return found


def test_learns_to_choose_actions() -> None:
  """Single steps: the reward is how near an action is to a function of what is seen."""
  rng = np.random.default_rng(0)
  matrix = rng.normal(0, 0.3, (FEATURES, ACTIONS)).astype(np.float32)

  def error(seen: np.ndarray, action: np.ndarray) -> np.ndarray:
    return ((action - np.tanh(seen @ matrix)) ** 2).mean(-1)

  calls, steps = 40, 10
  size = 64 * steps

  def batches() -> Iterator[Any]:
    while True:
      batch = _batches(int(rng.integers(2**31)), 1, size=size)[0]
      reward = 10 - 2.5 * error(batch['observation'].numpy(), batch['action'].numpy())
      batch['reward']['imitation'] = tf.constant(reward[:, None])
      batch['discount']['imitation'] = tf.zeros([size, 1])
      yield batch

  config = dataclasses.replace(LIKE_ACME, batch_size=64, steps_per_call=steps)
  networks = _networks(0, gain=0.3)
  seen = rng.standard_normal((500, FEATURES)).astype(np.float32)
  before = error(seen, networks.policy(seen).numpy()).mean()
  learner = _learner(networks, batches(), config)
  metrics = [learner.step() for _ in range(calls)]
  after = error(seen, networks.policy(seen).numpy()).mean()
  assert after < 0.5 * before
  assert metrics[-1]['critic_loss'] < metrics[0]['critic_loss'] - 0.5
