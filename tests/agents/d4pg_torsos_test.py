"""Tests of agents.d4pg.learning where policy and critic look for themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

from agents import off_policy
from agents.d4pg import learning
from metamimic import config as config_lib
from metamimic.networks import critics
from metamimic.networks import pictures
from metamimic.networks import policies
from metamimic.networks import torsos

FEATURES, ACTIONS, BATCH, SIZE, CHANNELS = 3, 2, 6, 8, 3
NETWORK = config_lib.NetworkConfig(policy_width=8, critic_width=8)
CONFIG = config_lib.D4PGConfig(
  n_step=1, num_atoms=5, batch_size=BATCH, cloning_weight=1.0, steps_per_call=1
)


class _Counting(snt.Module):
  """A torso that counts how often it looks."""

  def __init__(self) -> None:
    super().__init__()
    self.torso = torsos.ResidualTorso((2,), 1, 4, normalise=True)
    self.looks = 0

  def __call__(self, seen: pictures.Seen) -> tf.Tensor:
    self.looks += 1
    return self.torso(seen)


class _Opaque(snt.Module):
  """A critic of which nobody sees what it looks with."""

  def __init__(self, critic: torsos.Seeing) -> None:
    super().__init__()
    self._critic = critic

  def __call__(self, *seen: Any) -> Any:
    return self._critic(*seen)


def _blank(rows: int) -> pictures.Seen:
  shape = [rows, SIZE, SIZE, 2 * CHANNELS]
  return pictures.Seen(tf.zeros([rows, FEATURES]), tf.zeros(shape))


def _updated(
  members: int, show: Callable[[torsos.Seeing], snt.Module]
) -> tuple[list[np.ndarray], list[int]]:
  """Returns all weights after two updates, and how often the critics' torsos looked."""
  networks, looking = [], []
  for _ in range(2):
    policy = torsos.Seeing(_Counting(), policies.PolicyNetwork(ACTIONS, NETWORK))
    of = [
      critics.CriticNetwork(NETWORK, CONFIG.num_atoms, CONFIG.v_min, CONFIG.v_max)
      for _ in range(members)
    ]
    looking.append(_Counting())
    critic = torsos.Seeing(looking[-1], critics.Critics(of) if members > 1 else of[0])
    policy(_blank(1))
    critic(_blank(1), tf.zeros([1, ACTIONS]))
    networks.append((policy, critic))
  (policy, critic), (target_policy, target_critic) = networks
  rng = np.random.default_rng(0)
  for variable in (*policy.variables, *critic.variables):
    variable.assign(0.3 * rng.standard_normal(variable.shape))
  batch = {
    **{
      name: pictures.Shown(
        tf.constant(rng.standard_normal((BATCH, FEATURES)), tf.float32),
        tf.constant(rng.integers(0, 256, (BATCH, SIZE, SIZE, CHANNELS)), tf.uint8),
        tf.constant(rng.integers(0, 256, (BATCH, 1, SIZE, SIZE, CHANNELS)), tf.uint8),
      )
      for name in ('observation', 'next_observation')
    },
    'action': tf.constant(rng.uniform(-1, 1, (BATCH, ACTIONS)), tf.float32),
    'reward': {'imitation': tf.constant(rng.uniform(0, 1, (BATCH, 1)), tf.float32)},
    'discount': {'imitation': tf.ones([BATCH, 1])},
    'real': tf.ones([BATCH, 1]),
  }
  learner = learning.D4PGLearner(
    lambda observation: observation,
    policy,
    show(critic),
    target_policy,
    target_critic,
    tf.linspace(CONFIG.v_min, CONFIG.v_max, CONFIG.num_atoms),
    iter([batch] * 2),
    lambda rows: rows,
    CONFIG,
    reward='imitation',
    encoders=off_policy.Encoders(pictures.NoEncoder(), pictures.NoEncoder()),
  )
  for torso in looking:
    torso.looks = 0
  for _ in range(2):
    learner.step()
  weights = [v.numpy() for pair in networks for n in pair for v in n.variables]
  return weights, [torso.looks for torso in looking]


@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize('members', [1, 2])
def test_a_critic_looks_once_at_what_it_judges_twice(members: int) -> None:
  weights, looks = _updated(members, lambda critic: critic)
  expected, more = _updated(members, _Opaque)
  # Two updates; the target's looks at what comes after.
  assert (looks, more) == ([2, 2], [4, 2])
  for a, b in zip(weights, expected, strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_network_without_a_torso_judges_what_it_is_given() -> None:
  network = policies.PolicyNetwork(ACTIONS, NETWORK)
  look, judge = torsos.parts(network)
  assert judge is network and look(network) is network
