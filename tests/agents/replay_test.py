"""Tests of agents.replay, over a Reverb server."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import threading
from typing import Any

import dm_env
from dm_env import specs
import numpy as np
import pytest
import reverb
import tensorflow as tf
import tree

from agents import replay
from metamimic import config as config_lib

GROUPS = {'body': 3, 'objects': 2}
ACTIONS = 2


class _Specs:
  """As much of an ImitationEnvironment as replay looks at."""

  def observation_spec(self) -> dict[str, specs.Array]:
    groups = {g: specs.Array((n,), np.float32) for g, n in GROUPS.items()}
    return {**groups, 'goal': specs.Array((2,), np.int32)}

  def action_spec(self) -> specs.Array:
    return specs.Array((ACTIONS,), np.float32)

  def reward_spec(self) -> dict[str, specs.Array]:
    return dict.fromkeys(('imitation', 'task'), specs.Array((), np.float32))

  discount_spec = reward_spec


ENVIRONMENT: Any = _Specs()


def _config(n: int, **changes: Any) -> config_lib.Config:
  return config_lib.Config(
    d4pg=config_lib.D4PGConfig(n_step=n, batch_size=512, steps_per_call=1),
    replay=config_lib.ReplayConfig(
      **{'max_size': 1000, 'min_size': 1, 'samples_per_insert': 20.0, **changes}
    ),
  )


@contextlib.contextmanager
def _serving(config: config_lib.Config) -> Iterator[reverb.Client]:
  server = reverb.Server([replay.table(ENVIRONMENT, config)])
  try:
    yield server.localhost_client()
  finally:
    server.stop()


@dataclasses.dataclass
class _Episode:
  """What happened, with numbers that occur nowhere else."""

  observations: list[dict[str, np.ndarray]]
  actions: list[np.ndarray]
  rewards: list[dict[str, np.float32]]
  discounts: list[dict[str, np.float32]]


def _episode(number: int, steps: int, lost: bool) -> _Episode:
  """Returns an episode that follows demonstration `number` from its step 5."""
  rng = np.random.default_rng(number)
  observations: list[dict[str, np.ndarray]] = []
  for t in range(steps + 1):
    groups = {g: rng.normal(size=n).astype(np.float32) for g, n in GROUPS.items()}
    observations.append({**groups, 'goal': np.array([number, 5 + t], np.int32)})
  return _Episode(
    observations,
    [rng.normal(size=ACTIONS).astype(np.float32) for _ in range(steps)],
    [
      {'imitation': np.float32(rng.uniform()), 'task': np.float32(t == steps - 1)}
      for t in range(steps)
    ],
    [
      {
        'imitation': np.float32(not (lost and t == steps - 1)),
        'task': np.float32(t < steps - 1),
      }
      for t in range(steps)
    ],
  )


def _write(adder: replay.StepAdder, episode: _Episode) -> None:
  first, *following = episode.observations
  adder.add_first(dm_env.TimeStep(dm_env.StepType.FIRST, None, None, first))
  for t, observation in enumerate(following):
    last = t == len(following) - 1
    step_type = dm_env.StepType.LAST if last else dm_env.StepType.MID
    timestep = dm_env.TimeStep(
      step_type, episode.rewards[t], episode.discounts[t], observation
    )
    adder.add(episode.actions[t], timestep)


def _expected(episode: _Episode, t: int, n: int) -> dict[str, Any]:
  """Returns the transition that begins at step t, by its definition."""
  length = len(episode.actions)
  steps = range(t, t + n)

  def padded(values: Sequence[Any]) -> Any:
    zero = dict.fromkeys(('imitation', 'task'), 0.0)
    each = [values[s] if s < length else zero for s in steps]
    return tree.map_structure(lambda *x: np.array(x, np.float32), *each)

  return {
    'observation': episode.observations[t],
    'next_observation': episode.observations[min(t + n, length)],
    'action': episode.actions[t],
    'reward': padded(episode.rewards),
    'discount': padded(episode.discounts),
    'real': np.array([s < length for s in steps], np.float32),
  }


def _items(client: reverb.Client, codec: replay.Codec) -> list[dict[str, Any]]:
  """Returns every item of the table once, unpacked."""
  count = client.server_info()[replay.TABLE].current_size
  rows: dict[int, np.ndarray] = {}
  while len(rows) < count:
    for sample in client.sample(replay.TABLE, num_samples=20, emit_timesteps=False):
      rows[sample.info.key] = tree.flatten(sample.data)[0]
  batch = codec.unpack(tf.constant(np.stack(list(rows.values()))))
  return [tree.map_structure(lambda x: x[i].numpy(), batch) for i in range(count)]  # noqa: B023


def test_codec_round_trip() -> None:
  codec = replay.Codec(ENVIRONMENT)
  assert codec.size == 3 + 2 + 2 + ACTIONS + 2 + 2 + 1
  step = {
    'observation': {
      'body': np.array([0.1, 2, 3], np.float32),
      'objects': np.array([4, 5], np.float32),
      'goal': np.array([2**24, 2**24 - 1], np.int32),
    },
    'action': np.array([-1, 1], np.float32),
    'reward': {'imitation': np.float32(0.3), 'task': np.float32(1)},
    'discount': {'imitation': np.float32(1), 'task': np.float32(0)},
    'real': 1.0,
  }
  row = codec.pack(step)
  assert (row.shape, row.dtype) == ((codec.size,), np.float32)
  after = tree.map_structure(lambda x: 2 * x, step)
  batch = codec.unpack(tf.constant([[row, codec.pack(after)]]))
  for group, values in step['observation'].items():  # type: ignore[attr-defined]
    assert batch['observation'][group].dtype == values.dtype
    np.testing.assert_array_equal(batch['observation'][group][0], values)
  np.testing.assert_array_equal(batch['next_observation']['objects'], [[8, 10]])
  np.testing.assert_array_equal(batch['action'], [[-1, 1]])
  np.testing.assert_array_equal(batch['reward']['imitation'], [[np.float32(0.3)]])
  np.testing.assert_array_equal(batch['discount']['task'], [[0]])
  np.testing.assert_array_equal(batch['real'], [[1]])


@pytest.mark.parametrize('n', [1, 3])
def test_every_transition_is_there_once(n: int) -> None:
  # The second ends early; the third is shorter than a transition.
  episodes = [_episode(0, 7, False), _episode(1, 4, True), _episode(2, 2, False)]
  with _serving(_config(n)) as client:
    adder = replay.StepAdder(client, ENVIRONMENT, n, lambda: False)
    for episode in episodes:
      _write(adder, episode)
    items = _items(client, replay.Codec(ENVIRONMENT))
  found = {tuple(item['observation']['goal']): item for item in items}
  starts = [(i, 5 + t) for i, e in enumerate(episodes) for t in range(len(e.actions))]
  assert len(items) == len(starts) == 13
  assert sorted(found) == starts
  for number, step in starts:
    expected = _expected(episodes[number], step - 5, n)
    tree.map_structure(
      np.testing.assert_array_equal, found[number, step], expected, check_types=False
    )
  tail = found[1, 8]
  assert tail['discount']['imitation'].tolist() == [0] * n
  assert tail['real'].tolist() == [1] + [0] * (n - 1)
  assert tail['next_observation']['goal'].tolist() == [1, 9]


def test_forgotten_episode_leaves_no_transition_across_episodes() -> None:
  with _serving(_config(3)) as client:
    adder = replay.StepAdder(client, ENVIRONMENT, 3, lambda: False)
    begun, whole = _episode(0, 9, False), _episode(1, 4, False)
    adder.add_first(
      dm_env.TimeStep(dm_env.StepType.FIRST, None, None, begun.observations[0])
    )
    for t in range(5):
      timestep = dm_env.TimeStep(
        dm_env.StepType.MID,
        begun.rewards[t],
        begun.discounts[t],
        begun.observations[t + 1],
      )
      adder.add(begun.actions[t], timestep)
    adder.reset()
    _write(adder, whole)
    items = _items(client, replay.Codec(ENVIRONMENT))
  starts = sorted(tuple(item['observation']['goal']) for item in items)
  # Of the first only what was complete after five steps: windows of four rows.
  assert starts == [(0, 5), (0, 6), (1, 5), (1, 6), (1, 7), (1, 8)]
  assert all(
    item['observation']['goal'][0] == item['next_observation']['goal'][0]
    for item in items
  )


def test_sampled_batches_unpack_to_what_was_written() -> None:
  config = _config(3)
  episode, stop = _episode(3, 6, True), threading.Event()
  codec = replay.Codec(ENVIRONMENT)
  settings = dataclasses.replace(config.d4pg, batch_size=8, steps_per_call=2)
  with _serving(config) as client:
    _write(replay.StepAdder(client, ENVIRONMENT, 3, lambda: False), episode)
    batch = codec.unpack(next(replay.sample(client, settings, stop)))
  assert batch['action'].shape == (16, ACTIONS)
  for i in range(16):
    item = tree.map_structure(lambda x: x[i].numpy(), batch)  # noqa: B023
    expected = _expected(episode, item['observation']['goal'][1] - 5, 3)
    tree.map_structure(np.testing.assert_array_equal, item, expected, check_types=False)


def test_writer_stops_waiting_when_told_to() -> None:
  config = _config(1, samples_per_insert=100.0)
  asked = []

  def should_stop() -> bool:
    asked.append(True)
    return True

  with _serving(config) as client:
    adder = replay.StepAdder(client, ENVIRONMENT, 1, should_stop)
    # Nobody samples: the table takes some, and then no more.
    with pytest.raises(replay.Stopped):
      for number in range(100):
        _write(adder, _episode(number, 50, False))
    held = client.server_info()[replay.TABLE].current_size
    assert 0 < held < 200
    assert asked == [True]
    assert replay.describe(client) == (
      f'replay holds {held} transitions, sampling starts at 1; {held} inserted, '
      '0 sampled'
    )
    # Taken now: a writer that holds items waits for its server when it is deleted.
    for _ in client.sample(replay.TABLE, num_samples=4_500, emit_timesteps=False):
      pass
    adder.reset()


def test_nothing_is_lost_or_doubled_by_waiting() -> None:
  config = _config(3, samples_per_insert=100.0)
  episodes = [_episode(i, 30, False) for i in range(3)]
  with _serving(config) as client:
    codec = replay.Codec(ENVIRONMENT)
    waits = []

    def sampled_meanwhile() -> bool:
      # Asked each time that the writer has waited in vain.
      waits.append(True)
      for _ in client.sample(replay.TABLE, num_samples=2_000, emit_timesteps=False):
        pass
      return False

    adder = replay.StepAdder(client, ENVIRONMENT, 3, sampled_meanwhile)
    for episode in episodes:
      _write(adder, episode)
    items = _items(client, codec)
  assert waits
  assert sorted(tuple(item['observation']['goal']) for item in items) == [
    (i, 5 + t) for i in range(3) for t in range(30)
  ]


def test_sampler_stops_waiting_when_told_to() -> None:
  stop = threading.Event()
  stop.set()
  with _serving(_config(1, min_size=10)) as client:
    batches = replay.sample(client, _config(1).d4pg, stop)
    with pytest.raises(replay.Stopped):
      next(batches)


def test_server_that_is_gone_is_described() -> None:
  class Gone:
    def server_info(self, timeout: float) -> Any:
      raise reverb.errors.DeadlineExceededError(f'{timeout} s')

  client: Any = Gone()
  assert replay.describe(client) == 'the replay server does not answer (5 s)'


def test_background_iterator_hands_on_elements_and_errors() -> None:
  def numbers() -> Iterator[int]:
    yield 1
    yield 2
    raise OSError('the disk is full')

  iterator = replay.BackgroundIterator(numbers(), depth=1)
  assert [iterator.get(timeout=60), iterator.get(timeout=60)] == [1, 2]
  with pytest.raises(OSError, match='the disk is full'):
    iterator.get(timeout=60)


def test_background_iterator_returns_none_when_there_is_nothing_yet() -> None:
  release = threading.Event()

  def slow() -> Iterator[int]:
    release.wait()
    yield 7

  iterator = replay.BackgroundIterator(slow(), depth=1)
  assert iterator.get(timeout=0.01) is None
  release.set()
  assert iterator.get(timeout=60) == 7
