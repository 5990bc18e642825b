"""What networks that see cost: parameters, processor time of an update and an action.

    python -m benchmarks.networks

Each kind does updates of a whole D4PG learner, on transitions with pictures of one
camera, of 84 × 84 pixels, and of the goal; and it chooses actions, one at a time.
TensorFlow has one thread. The arms take turns.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import itertools
import statistics
import sys
import tempfile
import time
from typing import Any

import numpy as np
import tensorflow as tf
import tyro

from agents import learners
from agents import off_policy
from agents.d4pg import learning
from benchmarks import common
from benchmarks import replay_memory
from envs import imitation
from metamimic import config as config_lib
from metamimic import policy as policy_lib
from metamimic import presets
from metamimic.demonstrations import frames
from metamimic.demonstrations import goals
from metamimic.demonstrations import storage
from metamimic.networks import features

LAYOUT = replay_memory.LAYOUT
"""What policies see."""
ARMS: Mapping[str, config_lib.NetworkConfig] = {
  'patches': config_lib.NetworkConfig(),
  'small': presets.SMALL_TORSOS,
  'small, normalised': dataclasses.replace(presets.SMALL_TORSOS, normalise=True),
  'large, not normalised': dataclasses.replace(presets.LARGE_TORSOS, normalise=False),
  'large': presets.LARGE_TORSOS,
}
"""Kinds of networks."""


@dataclasses.dataclass(frozen=True)
class Arguments:
  """Measures networks that see."""

  demonstrations: str = 'data/lift_brick.hdf5'
  """File of demonstrations, two of which are goals."""
  batch_size: int = 16
  """Transitions of an update."""
  updates: int = 2
  """Updates, and actions, in a turn."""
  rounds: int = 3
  """Turns of each arm."""
  output: str = f'{common.RESULTS}/benchmark_networks.csv'
  """File of the results."""


class _Arm:
  """One kind of networks: a learner of them, and a policy."""

  def __init__(
    self, network: config_lib.NetworkConfig, bank: goals.GoalBank, batch_size: int
  ) -> None:
    pictures = replay_memory.PICTURES
    config = config_lib.Config(
      network=network,
      pixels=config_lib.PixelsConfig(pictures.cameras, pictures.height),
      d4pg=dataclasses.replace(
        config_lib.D4PGConfig(), batch_size=batch_size, steps_per_call=1
      ),
    )
    size = features.present_size(LAYOUT)
    policy, target = (
      policy_lib.GoalConditionedPolicy(
        LAYOUT, config, np.zeros(size), np.ones(size), components=1
      )
      for _ in range(2)
    )
    critic, target_critic = (
      learners.make_critic(policy, network, config.d4pg) for _ in range(2)
    )
    self.parameters = sum(
      v.shape.num_elements()
      for module in (policy.encoder, policy.network, critic)
      for v in module.trainable_variables
    )
    self._learner = learning.D4PGLearner(
      functools.partial(policy.embed, bank=bank),
      policy.network,
      critic,
      target.network,
      target_critic,
      tf.linspace(config.d4pg.v_min, config.d4pg.v_max, config.d4pg.num_atoms),
      itertools.repeat(_batch(config, batch_size)),
      lambda rows: rows,
      config.d4pg,
      reward=imitation.IMITATION,
      encoders=off_policy.Encoders(policy.encoder, target.encoder, shift=4),
    )
    self._act = policy.actor(bank)
    self._observation = {
      group: np.zeros([1, *spec.shape], spec.dtype)
      for group, spec in LAYOUT.spec().items()
    } | {imitation.GOAL: np.zeros([1, 2], np.int32)}
    # Compiled before anything is measured.
    self.update(1)
    self.act(1)

  def update(self, times: int) -> None:
    """Does updates."""
    for _ in range(times):
      self._learner.step()

  def act(self, times: int) -> None:
    """Chooses actions."""
    for _ in range(times):
      self._act(self._observation)


def _batch(config: config_lib.Config, size: int) -> dict[str, Any]:
  """Returns transitions of nothing in particular."""
  rng = np.random.default_rng(0)
  n, ahead = config.d4pg.n_step, len(config.pixels.look_ahead)

  def observation() -> dict[str, tf.Tensor]:
    shape = replay_memory.PICTURES.shape
    return {
      **{
        group: tf.constant(rng.normal(size=(size, length)), tf.float32)
        for group, length in LAYOUT.sizes.items()
      },
      imitation.GOAL: tf.zeros([size, 2], tf.int32),
      policy_lib.PIXELS: tf.constant(rng.integers(0, 256, (size, *shape)), tf.uint8),
      policy_lib.GOAL_PIXELS: tf.constant(
        rng.integers(0, 256, (size, ahead, *shape)), tf.uint8
      ),
    }

  ones = tf.ones([size, n])
  return {
    'observation': observation(),
    'next_observation': observation(),
    'action': tf.constant(rng.uniform(-1, 1, (size, 9)), tf.float32),
    'reward': {imitation.IMITATION: ones},
    'discount': {imitation.IMITATION: ones},
    'real': ones,
  }


def _cpu_seconds(work: Callable[[int], None], times: int) -> float:
  begun = time.process_time()
  work(times)
  return (time.process_time() - begun) / times


def _bank(path: str, folder: str) -> goals.GoalBank:
  shown = storage.load(path).demonstrations[:2]
  drawn = frames.draw(shown, replay_memory.PICTURES, folder)
  return goals.GoalBank(frames.load(shown, drawn), LAYOUT)


def main(arguments: Arguments) -> int:
  """Measures, writes and prints; returns the exit status."""
  common.limit_threads()
  with tempfile.TemporaryDirectory() as folder:
    bank = _bank(arguments.demonstrations, folder)
    arms = {
      name: _Arm(network, bank, arguments.batch_size) for name, network in ARMS.items()
    }
    rows = [
      {
        'round': number,
        'arm': name,
        'parameters': arm.parameters,
        'batch_size': arguments.batch_size,
        'update_seconds': round(_cpu_seconds(arm.update, arguments.updates), 5),
        'action_seconds': round(_cpu_seconds(arm.act, arguments.updates), 5),
      }
      for number in range(1, arguments.rounds + 1)
      for name, arm in arms.items()
    ]
  common.write(arguments.output, rows)
  for name, arm in arms.items():
    update, action = (
      statistics.median(row[what] for row in rows if row['arm'] == name)
      for what in ('update_seconds', 'action_seconds')
    )
    print(
      f'{name}: {arm.parameters:,} parameters; an update of {arguments.batch_size} '
      f'{1000 * update:.0f} ms, an action {1000 * action:.1f} ms'
    )
  return 0


if __name__ == '__main__':
  sys.exit(main(tyro.cli(Arguments, description=__doc__)))
