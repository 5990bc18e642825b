"""Tests of agents.d4pg.demonstrators, over a Reverb server."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import reverb
import tensorflow as tf
import tree

from agents import replay
from agents.d4pg import demonstrators
from envs import observations
from metamimic import config as config_lib
from metamimic.demonstrations import types

N = 3
LAYOUT = observations.Layout(('brick',))
CODEC = replay.Codec(replay.spec(LAYOUT), [N])
CONFIG = config_lib.Config(algorithm='d4pgfd')


def _demonstration(
  number: int, rewards: list[int], with_actions: bool
) -> types.Demonstration:
  rng = np.random.default_rng(number)
  steps = len(rewards)
  return types.Demonstration(
    name=f'demo_{number}',
    task='lift_brick',
    skill='lift',
    observations={
      group: rng.normal(size=(steps + 1, size)).astype(np.float32)
      for group, size in LAYOUT.sizes.items()
    },
    states=np.zeros((steps + 1, 3)),
    actions=rng.uniform(-1, 1, (steps, 9)).astype(np.float32) if with_actions else None,
    rewards=np.array(rewards, np.float32),
  )


def _set(with_actions: bool = True) -> types.DemonstrationSet:
  """Returns a success at step 6 of 9, one that is held out, and a failure."""
  rewards = [[0, 0, 0, 0, 0, 1, 0, 1, 1], [0, 0, 1], [0, 0, 0, 0]]
  return types.DemonstrationSet(
    'lift_brick',
    tuple(_demonstration(i, r, with_actions) for i, r in enumerate(rewards)),
    train=(0, 2),
    valid=(1,),
  )


@pytest.fixture(name='client')
def client_fixture() -> Iterator[reverb.Client]:
  written = demonstrators.num_transitions(_set())
  server = reverb.Server(replay.tables(CODEC, CONFIG, written))
  yield server.localhost_client()
  server.stop()


def _rows(client: reverb.Client) -> list[dict[str, Any]]:
  """Returns what is in the table, unpacked, each row once."""
  found: dict[int, np.ndarray] = {}
  count = client.server_info()[replay.DEMONSTRATIONS].current_size
  while len(found) < count:
    for sample in client.sample(replay.DEMONSTRATIONS, 20, emit_timesteps=False):
      found[sample.info.key] = tree.flatten(sample.data)[0]
  batch = CODEC.unpack(tf.constant(np.stack([*found.values()])), N)
  return [tree.map_structure(lambda x: x[i].numpy(), batch) for i in range(count)]  # noqa: B023


def test_training_demonstrations_are_written_up_to_their_first_success(
  client: reverb.Client,
) -> None:
  demonstrations = _set()
  assert demonstrators.num_transitions(demonstrations) == 6 + 4
  demonstrators.write(client, CODEC, demonstrations, lambda: False)
  rows = {row['observation']['body'].tobytes(): row for row in _rows(client)}
  assert len(rows) == 10
  for number, length, success in ((0, 6, True), (2, 4, False)):
    shown = demonstrations.demonstrations[number]
    for t in range(length):
      row = rows[shown.observations['body'][t].tobytes()]
      real = min(N, length - t)
      np.testing.assert_array_equal(row['action'], shown.actions[t])
      for group, values in shown.observations.items():
        np.testing.assert_array_equal(row['observation'][group], values[t])
        np.testing.assert_array_equal(row['next_observation'][group], values[t + real])
      assert row['real'].tolist() == [1] * real + [0] * (N - real)
      # The end without success is a truncation: the value goes on.
      solved = [success and t + k == length - 1 for k in range(real)]
      assert row['reward']['task'][:real].tolist() == solved
      assert row['discount']['task'][:real].tolist() == [not s for s in solved]
      assert not row['reward']['imitation'].any()


def test_they_are_written_once(client: reverb.Client) -> None:
  for _ in range(2):
    demonstrators.write(client, CODEC, _set(), lambda: False)
  info = client.server_info()[replay.DEMONSTRATIONS]
  assert info.current_size == info.rate_limiter_info.insert_stats.completed == 10


def test_they_need_actions(client: reverb.Client) -> None:
  with pytest.raises(types.ActionsNotAvailable, match='actions were not loaded'):
    demonstrators.write(client, CODEC, _set(with_actions=False), lambda: False)
