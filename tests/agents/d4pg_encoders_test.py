"""Tests of agents.d4pg.learning where an encoder learns to see pictures, too."""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf
import tree

from agents import off_policy
from agents.d4pg import learning
from agents.d4pg import losses
from metamimic import config as config_lib
from metamimic.networks import critics
from metamimic.networks import pictures
from metamimic.networks import policies

FEATURES, EMBEDDING, ACTIONS, BATCH = 3, 4, 2, 12
SIZE, CHANNELS, AHEAD = 8, 3, 2
RATE = 1e-3
NETWORK = config_lib.NetworkConfig(
  policy_width=8, critic_width=8, filters=(3,), embedding=EMBEDDING
)
CONFIG = config_lib.D4PGConfig(
  n_step=1,
  num_atoms=11,
  batch_size=BATCH,
  policy_learning_rate=RATE,
  critic_learning_rate=RATE,
  encoder_learning_rate=RATE,
  target_update_rate=0.1,
  steps_per_call=1,
)
ONLINE = ('policy', 'critic', 'encoder')


def _part() -> dict[str, snt.Module]:
  """Returns an encoder, a policy and a critic."""
  encoder = pictures.Encoder(NETWORK.filters, NETWORK.embedding, NETWORK.normalise)
  seen = pictures.Seen(
    tf.zeros([1, FEATURES]), tf.zeros([1, SIZE, SIZE, CHANNELS * (1 + AHEAD)])
  )
  encoded = encoder(seen)
  policy = policies.PolicyNetwork(ACTIONS, NETWORK)
  policy(encoded)
  critic = critics.CriticNetwork(NETWORK, CONFIG.num_atoms, CONFIG.v_min, CONFIG.v_max)
  critic(encoded, tf.zeros([1, ACTIONS]))
  return {'policy': policy, 'critic': critic, 'encoder': encoder}


@dataclasses.dataclass
class Networks:
  """What is learned, its targets, and what is averaged."""

  online: dict[str, snt.Module]
  target: dict[str, snt.Module]
  averaged: dict[str, snt.Module]


def _networks(seed: int = 0) -> Networks:
  networks = Networks(_part(), _part(), _part())
  rng = np.random.default_rng(seed)
  for network in networks.online.values():
    for variable in network.variables:
      scale = (
        1 / np.sqrt(np.prod(variable.shape[:-1])) if variable.shape.rank > 1 else 0.1
      )
      start = 1.0 if 'scale' in variable.name else 0.0
      variable.assign(start + scale * rng.standard_normal(variable.shape))
  return networks


def _weights(networks: Mapping[str, snt.Module], *names: str) -> list[np.ndarray]:
  """Returns copies of the weights of these networks, of all unless named."""
  return [v.numpy() for name in names or networks for v in networks[name].variables]


def _distance(a: list[np.ndarray], b: list[np.ndarray]) -> float:
  return max(np.abs(x - y).max() for x, y in zip(a, b, strict=True))


def _batches(seed: int, count: int, size: int = BATCH) -> list[dict[str, Any]]:
  rng = np.random.default_rng(seed)

  def observation() -> dict[str, np.ndarray]:
    shape = (SIZE, SIZE, CHANNELS)
    return {
      'features': rng.standard_normal((size, FEATURES)).astype(np.float32),
      'pixels': rng.integers(0, 256, (size, *shape), np.uint8),
      'goal_pixels': rng.integers(0, 256, (size, AHEAD, *shape), np.uint8),
    }

  batches = [
    {
      'observation': observation(),
      'next_observation': observation(),
      'action': rng.uniform(-1, 1, (size, ACTIONS)).astype(np.float32),
      'reward': {'imitation': rng.uniform(0, 2, (size, 1)).astype(np.float32)},
      'discount': {'imitation': rng.choice([0, 1], (size, 1)).astype(np.float32)},
      'real': np.ones((size, 1), np.float32),
    }
    for _ in range(count)
  ]
  return tree.map_structure(tf.constant, batches)


def _embed(observation: Mapping[str, tf.Tensor]) -> pictures.Shown:
  return pictures.Shown(
    *(observation[name] for name in ('features', 'pixels', 'goal_pixels'))
  )


def _learner(
  networks: Networks,
  batches: Iterator[Any],
  config: config_lib.D4PGConfig = CONFIG,
  shift: int = 0,
  seed: int = 0,
  reset_after: int = 0,
) -> learning.D4PGLearner:
  online, target, averaged = networks.online, networks.target, networks.averaged
  averages = config.averaged_steps > 0
  return learning.D4PGLearner(
    _embed,
    online['policy'],
    online['critic'],
    target['policy'],
    target['critic'],
    tf.linspace(config.v_min, config.v_max, config.num_atoms),
    batches,
    lambda batch: batch,
    config,
    reward='imitation',
    seed=seed,
    averaged_policy=averaged['policy'] if averages else None,
    encoders=off_policy.Encoders(
      online['encoder'],
      target['encoder'],
      averaged['encoder'] if averages else None,
      shift,
    ),
    reset_after=reset_after,
  )


def _stepped(
  steps: int, shift: int = 0, seed: int = 0, **changes: Any
) -> dict[str, list[np.ndarray]]:
  """Returns the weights by network after some steps, from the same start."""
  networks = _networks()
  config = dataclasses.replace(CONFIG, **changes)
  learner = _learner(networks, iter(_batches(1, steps)), config, shift, seed)
  for _ in range(steps):
    learner.step()
  return {name: _weights(networks.online, name) for name in networks.online}


@pytest.mark.usefixtures('eagerly')
def test_an_update_is_that_of_the_critics_loss_with_its_encoder() -> None:
  ours, slow = _networks(), _networks()
  (batch,) = _batches(2, 1)
  metrics = _learner(ours, iter([batch])).step()

  # A new learner's targets are copies of the networks.
  encoder, critic, policy = (slow.online[n] for n in ('encoder', 'critic', 'policy'))
  o_t = encoder(pictures.look(_embed(batch['next_observation'])))
  q_t = critic(o_t, policy(o_t))
  with tf.GradientTape() as tape:
    o_tm1 = encoder(pictures.look(_embed(batch['observation'])))
    q_tm1 = critic(o_tm1, batch['action'])
    loss = tf.reduce_mean(
      losses.categorical_td_loss(
        q_tm1.logits,
        batch['reward']['imitation'][:, 0],
        CONFIG.discount * batch['discount']['imitation'][:, 0],
        q_t.logits,
        q_t.values,
      )
    )
  with tf.GradientTape() as policy_tape:
    value = critic(o_tm1, policy(o_tm1)).mean()
    minus_value = -tf.reduce_mean(value)
  both = (critic.trainable_variables, encoder.trainable_variables)
  gradients = tape.gradient(loss, both)
  policy_gradients = policy_tape.gradient(minus_value, policy.trainable_variables)
  assert all(np.abs(g).max() > 1e-5 for g in gradients[1])
  for values, variables in zip(gradients, both, strict=True):
    snt.optimizers.Adam(RATE).apply(values, variables)
  snt.optimizers.Adam(RATE).apply(policy_gradients, policy.trainable_variables)

  assert metrics['critic_loss'] == pytest.approx(float(loss), rel=1e-5)
  assert metrics['policy_loss'] == pytest.approx(float(minus_value), rel=1e-5)
  start = _networks()
  for name in ONLINE:
    mine, theirs = (_weights(networks.online, name) for networks in (ours, slow))
    assert _distance(mine, theirs) < 1e-5, name
    assert _distance(mine, _weights(start.online, name)) > RATE / 2, name


@pytest.mark.usefixtures('eagerly')
def test_the_policys_loss_teaches_the_encoder_nothing() -> None:
  # Targets stay: else a policy changes what the critic is taught.
  fixed: dict[str, Any] = {'target_update_period': 1000}
  usual = _stepped(3, **fixed)
  fast = _stepped(3, policy_learning_rate=100 * RATE, **fixed)
  cloning = _stepped(3, cloning_weight=50.0, **fixed)
  for other in (fast, cloning):
    assert _distance(usual['policy'], other['policy']) > RATE / 2
    for name in ('critic', 'encoder'):
      assert _distance(usual[name], other[name]) == 0


@pytest.mark.usefixtures('eagerly')
def test_an_encoder_has_its_own_learning_rate_and_clip() -> None:
  start = {name: _weights(net, name) for net in [_networks().online] for name in net}
  usual, none = _stepped(1), _stepped(1, encoder_learning_rate=0.0)
  assert _distance(none['encoder'], start['encoder']) == 0
  assert _distance(none['critic'], usual['critic']) == 0
  assert _distance(none['critic'], start['critic']) > RATE / 2
  # So little is left of gradients that Adam's epsilon is large beside it.
  clipped = _stepped(1, gradient_clip=1e-10)
  for name in ONLINE:
    moved, as_usual = (
      _distance(weights[name], start[name]) for weights in (clipped, usual)
    )
    assert moved < 0.05 * as_usual, name


@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize(
  ('rate', 'period', 'moves'),
  [(0.25, 1, [True] * 3), (0.25, 3, [False, False, True]), (1.0, 2, [False, True])],
)
def test_the_target_encoder_follows_as_the_networks_do(
  rate: float, period: int, moves: list[bool]
) -> None:
  config = dataclasses.replace(
    CONFIG, target_update_rate=rate, target_update_period=period
  )
  networks = _networks()
  learner = _learner(networks, iter(_batches(3, len(moves))), config)
  # A new learner's targets are copies.
  assert _distance(_weights(networks.online), _weights(networks.target)) == 0
  for moved in moves:
    before = _weights(networks.target)
    learner.step()
    after = _weights(networks.online)
    expected = [
      t + rate * (o - t) if moved else t for t, o in zip(before, after, strict=True)
    ]
    for name, x, y in zip(
      (n for n in networks.target for _ in networks.target[n].variables),
      _weights(networks.target),
      expected,
      strict=True,
    ):
      np.testing.assert_allclose(x, y, rtol=0, atol=1e-7, err_msg=name)


@pytest.mark.usefixtures('eagerly')
def test_the_encoder_is_averaged_with_its_policy() -> None:
  span, steps = 3, 6
  config = dataclasses.replace(CONFIG, averaged_steps=span)
  networks = _networks()
  learner = _learner(networks, iter(_batches(4, steps)), config)
  expected: list[np.ndarray] = []
  for step in range(1, steps + 1):
    learner.step()
    newest = _weights(networks.online, 'policy', 'encoder')
    share = 1 / min(step, span)
    expected = [
      share * new + (1 - share) * old
      for new, old in zip(newest, expected or newest, strict=True)
    ]
    found = _weights(networks.averaged, 'policy', 'encoder')
    assert _distance(found, expected) < 1e-6
  assert _distance(expected, newest) > RATE / 2


@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize('averaged_steps', [0, 3])
def test_restored_learner_goes_on_bit_for_bit(
  averaged_steps: int, tmp_path: Any
) -> None:
  config = dataclasses.replace(CONFIG, averaged_steps=averaged_steps, target_noise=0.2)
  batches = _batches(6, 6)
  first, second = _networks(0), _networks(1)
  learner = _learner(first, iter(batches), config, shift=2)
  for _ in range(3):
    learner.step()
  path = tf.train.Checkpoint(**learner.state).save(str(tmp_path / 'checkpoint'))
  resumed = _learner(second, iter(batches[3:]), config, shift=2)
  tf.train.Checkpoint(**resumed.state).restore(path).assert_consumed()
  assert resumed.num_steps == 3
  parts = [(first.online, second.online), (first.target, second.target)]
  if averaged_steps:
    names = ('policy', 'encoder')
    averages = (first.averaged, second.averaged)
    parts.append(tuple({n: part[n] for n in names} for part in averages))  # type: ignore[arg-type]
  for mine, other in parts:
    assert _distance(_weights(mine), _weights(other)) == 0
  for _ in range(3):
    assert learner.step() == resumed.step()
  for mine, other in parts:
    assert _distance(_weights(mine), _weights(other)) == 0
  own, theirs = (of.state['encoder_optimizer'] for of in (learner, resumed))
  for a, b in zip([*own.m, *own.v], [*theirs.m, *theirs.v], strict=True):
    np.testing.assert_array_equal(a, b)
  assert len(own.m) == len(first.online['encoder'].trainable_variables) > 0


@pytest.mark.usefixtures('eagerly')
def test_from_a_reset_on_the_encoder_learns_anew_too() -> None:
  config = dataclasses.replace(CONFIG, averaged_steps=2)
  batches = _batches(6, 5)
  first, second = _networks(), _networks()
  for averaged, online in zip(
    _variables(second.averaged), _variables(second.online), strict=True
  ):
    averaged.assign(online)
  learner = _learner(first, iter(batches), config, reset_after=2)
  for _ in range(2):
    learner.step()
  fresh = _learner(second, iter(batches[2:]), config)
  for step in range(4):
    for part in ('online', 'target', 'averaged'):
      names = ('policy', 'encoder') + ('critic',) * (part != 'averaged')
      mine, other = (_weights(getattr(n, part), *names) for n in (first, second))
      assert _distance(mine, other) == 0, (part, step)
    own, theirs = (of.state['encoder_optimizer'] for of in (learner, fresh))
    for a, b in zip([*own.m, *own.v], [*theirs.m, *theirs.v], strict=True):
      np.testing.assert_array_equal(a, b)
    if step < 3:
      assert learner.step() == fresh.step()


def _variables(networks: Mapping[str, snt.Module]) -> list[tf.Variable]:
  return [v for network in networks.values() for v in network.variables]


@pytest.mark.usefixtures('eagerly')
def test_pictures_are_shifted_anew_for_each_step_and_each_end(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  shifted: list[tuple[np.ndarray, np.ndarray]] = []
  look = pictures.look

  def watched(shown: Any, pixels: int, seed: tf.Tensor) -> Any:
    assert pixels == 2
    moved = look(shown, pixels, seed)
    still = pictures.compare(shown.pixels, shown.goal_pixels)
    shifted.append((still.numpy(), moved.pictures.numpy()))
    return moved

  def seen_of(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    shifted.clear()
    (batch,) = _batches(8, 1)
    # Both ends, and both steps, are the same but for how they are shifted.
    batch['next_observation'] = batch['observation']
    learner = _learner(_networks(), iter([batch] * 2), shift=2, seed=seed)
    for _ in range(2):
      learner.step()
    return [*shifted]

  with monkeypatch.context() as patch:
    patch.setattr(pictures, 'look', watched)
    found, again, others = seen_of(0), seen_of(0), seen_of(9)
  assert len(found) == 4
  for (before, moved), (_, same), (_, other) in zip(found, again, others, strict=True):
    np.testing.assert_array_equal(before, found[0][0])
    np.testing.assert_array_equal(moved, same)
    assert (moved != before).any() and (moved != other).any()
  for i in range(4):
    for j in range(i):
      assert (found[i][1] != found[j][1]).any()
  # Without, it is another update.
  assert _distance(_stepped(1)['encoder'], _stepped(1, shift=2)['encoder']) > RATE / 9


def test_many_updates_in_a_graph_are_as_many_of_one() -> None:
  k = 3
  config = dataclasses.replace(CONFIG, averaged_steps=2)
  batches = _batches(4, k)
  apart, together = _networks(), _networks()
  tf.config.run_functions_eagerly(True)
  learner = _learner(apart, iter(batches), config)
  metrics = [learner.step() for _ in batches]
  tf.config.run_functions_eagerly(False)
  joined = tree.map_structure(lambda *parts: tf.concat(parts, 0), *batches)
  many = dataclasses.replace(config, steps_per_call=k)
  learner = _learner(together, iter([joined]), many)
  before = _weights(together.online)
  learner.compile(tree.map_structure(tf.zeros_like, joined))
  assert learner.num_steps == 0
  assert _distance(before, _weights(together.online)) == 0
  mean = learner.step()
  assert learner.num_steps == k
  # It was compiled once.
  assert learner._updates.experimental_get_tracing_count() == 1
  for part in ('online', 'target'):
    a, b = (_weights(getattr(networks, part)) for networks in (apart, together))
    assert _distance(a, b) < 1e-5
  averages = (_weights(n.averaged, 'policy', 'encoder') for n in (apart, together))
  assert _distance(*averages) < 1e-5
  for name, value in mean.items():
    np.testing.assert_allclose(value, np.mean([m[name] for m in metrics]), rtol=1e-4)


def test_without_encoders_nothing_of_them_is_learned_or_saved() -> None:
  networks = _networks()
  learner = learning.D4PGLearner(
    lambda observation: observation,
    networks.online['policy'],
    networks.online['critic'],
    networks.target['policy'],
    networks.target['critic'],
    tf.linspace(CONFIG.v_min, CONFIG.v_max, CONFIG.num_atoms),
    iter([]),
    lambda batch: batch,
    CONFIG,
    reward='imitation',
  )
  for name in ('encoder', 'target_encoder'):
    assert isinstance(learner.state[name], pictures.NoEncoder)
  assert learner.state['encoder_optimizer'].m == []


DECODED = (AHEAD, 3)
WEIGHT = 2.0


def _decodes(networks: Networks) -> Networks:
  """Replaces the encoders by some that decode, and policy and critic with them."""
  for part in (networks.online, networks.target, networks.averaged):
    encoder = pictures.Encoder(NETWORK.filters, NETWORK.embedding, True, DECODED)
    shape = [1, SIZE, SIZE, CHANNELS * (1 + AHEAD)]
    encoded = encoder(pictures.Seen(tf.zeros([1, FEATURES]), tf.zeros(shape)))
    part['encoder'] = encoder
    part['policy'] = policies.PolicyNetwork(ACTIONS, NETWORK)
    part['policy'](encoded)
    part['critic'] = critics.CriticNetwork(
      NETWORK, CONFIG.num_atoms, CONFIG.v_min, CONFIG.v_max
    )
    part['critic'](encoded, tf.zeros([1, ACTIONS]))
  return networks


def _told(observation: Mapping[str, tf.Tensor]) -> tf.Tensor:
  size = AHEAD * DECODED[1]
  return tf.reshape(
    observation['features'][:, :1] * np.ones(size, 'f4'), [-1, *DECODED]
  )


def _hindsight(
  observation: Mapping[str, tf.Tensor], later: Mapping[str, tf.Tensor]
) -> tuple[pictures.Shown, tf.Tensor]:
  came = tf.repeat(later['pixels'][:, None], AHEAD, 1)
  shown = pictures.Shown(observation['features'], observation['pixels'], came)
  return shown, _told(later)


@pytest.mark.usefixtures('eagerly')
def test_an_encoder_that_decodes_is_taught_by_goals_and_by_what_came_of_it() -> None:
  (batch,) = _batches(2, 1)
  config = dataclasses.replace(CONFIG, encoder_learning_rate=10 * RATE)
  after, errors = {}, {}
  for weight in (0.0, WEIGHT):
    tf.random.set_seed(3)
    networks = _decodes(_networks())
    encoder = networks.online['encoder']
    seen, came = _hindsight(batch['observation'], batch['next_observation'])
    _, decoded = encoder.decode(pictures.look(_embed(batch['observation'])))
    _, foreseen = encoder.decode(pictures.look(seen))
    expected = np.mean(
      [
        np.abs(decoded - _told(batch['observation'])).mean(),
        np.abs(foreseen - came).mean(),
      ]
    )
    encoders = off_policy.Encoders(
      encoder,
      networks.target['encoder'],
      decoding=off_policy.Decoding(weight, _told, _hindsight),
    )
    learner = learning.D4PGLearner(
      _embed,
      networks.online['policy'],
      networks.online['critic'],
      networks.target['policy'],
      networks.target['critic'],
      tf.linspace(config.v_min, config.v_max, config.num_atoms),
      iter([batch] * 40),
      lambda b: b,
      config,
      reward='imitation',
      encoders=encoders,
    )
    first = learner.step()
    assert first['decoding_error'] == pytest.approx(expected, rel=1e-5)
    for _ in range(39):
      last = learner.step()
    errors[weight] = last['decoding_error'] / first['decoding_error']
    after[weight] = first['critic_loss']
  # It is no part of the critic's loss, and learns from its own.
  assert after[0.0] == after[WEIGHT]
  assert errors[WEIGHT] < 0.5
  assert errors[0.0] > 0.9


@pytest.mark.usefixtures('eagerly')
def test_a_critic_that_is_told_judges_by_what_is_so() -> None:
  (batch,) = _batches(2, 1)
  losses_found = {}
  for tells in (False, True):
    tf.random.set_seed(3)
    networks = _decodes(_networks())
    encoder, critic, policy = (
      networks.online[n] for n in ('encoder', 'critic', 'policy')
    )
    if tells:
      o_tm1, o_t = (
        encoder(pictures.look(_embed(batch[name])))
        for name in ('observation', 'next_observation')
      )
      told_tm1, told_t = (
        encoder.tell(o, _told(batch[name]))
        for o, name in ((o_tm1, 'observation'), (o_t, 'next_observation'))
      )
      # The policy has to see it.
      q_t = critic(told_t, policy(o_t))
      loss = losses.categorical_td_loss(
        critic(told_tm1, batch['action']).logits,
        batch['reward']['imitation'][:, 0],
        CONFIG.discount * batch['discount']['imitation'][:, 0],
        q_t.logits,
        q_t.values,
      )
      expected = float(tf.reduce_mean(loss))
      value = float(tf.reduce_mean(critic(told_tm1, policy(o_tm1)).mean()))
    learner = learning.D4PGLearner(
      _embed,
      policy,
      critic,
      networks.target['policy'],
      networks.target['critic'],
      tf.linspace(CONFIG.v_min, CONFIG.v_max, CONFIG.num_atoms),
      iter([batch]),
      lambda b: b,
      CONFIG,
      reward='imitation',
      encoders=off_policy.Encoders(
        encoder,
        networks.target['encoder'],
        decoding=off_policy.Decoding(WEIGHT, _told, _hindsight, tells),
      ),
    )
    losses_found[tells] = learner.step()
  assert losses_found[True]['critic_loss'] == pytest.approx(expected, rel=1e-5)
  assert losses_found[True]['policy_loss'] == pytest.approx(-value, rel=1e-5)
  assert losses_found[False]['critic_loss'] != pytest.approx(expected, rel=1e-3)
