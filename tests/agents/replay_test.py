"""Tests of agents.replay and agents.adders, over a Reverb server."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import threading
from typing import Any

from acme import specs
import dm_env
import numpy as np
import pytest
import reverb
import tensorflow as tf
import tree

from agents import adders
from agents import replay
from metamimic import config as config_lib

GROUPS = {'body': 3, 'objects': 2}
ACTIONS = 2


_SCALARS = dict.fromkeys(('imitation', 'task'), specs.Array((), np.float32))
SPEC = specs.EnvironmentSpec(
  observations={
    **{g: specs.Array((n,), np.float32) for g, n in GROUPS.items()},
    'goal': specs.Array((2,), np.int32),
  },
  actions=specs.Array((ACTIONS,), np.float32),
  rewards=_SCALARS,
  discounts=_SCALARS,
)


def _config(n: int, **changes: Any) -> config_lib.Config:
  return config_lib.Config(
    d4pg=config_lib.D4PGConfig(n_step=n, batch_size=512, steps_per_call=1),
    replay=config_lib.ReplayConfig(
      **{'max_size': 1000, 'min_size': 1, 'samples_per_insert': 20.0, **changes},
    ),
  )


def _adder(
  client: reverb.Client,
  config: config_lib.Config,
  should_stop: Callable[[], bool] = lambda: False,
) -> adders.StepAdder:
  codec = replay.Codec(SPEC, config.d4pg.n_step)
  return adders.StepAdder(adders.Writer(client, codec, should_stop))


@contextlib.contextmanager
def _serving(config: config_lib.Config, ahead: int = 0) -> Iterator[reverb.Client]:
  """Serves the table; if `ahead`, writers may be so many items ahead of samplers."""
  table = replay.table(SPEC, config)
  if ahead:
    limiter = reverb.rate_limiters.RateLimiter(1.0, 1, -1e9, ahead)
    table = table.replace(rate_limiter=limiter)
  server = reverb.Server([table])
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


def _write(adder: adders.StepAdder, episode: _Episode) -> None:
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


def _sample(client: reverb.Client, number: int) -> list[Any]:
  samples = client.sample(replay.TABLE, num_samples=number, emit_timesteps=False)
  return list(samples)


def _transitions(client: reverb.Client, n: int) -> list[dict[str, Any]]:
  """Returns every item of the table once, unpacked."""
  count = client.server_info()[replay.TABLE].current_size
  rows: dict[int, np.ndarray] = {}
  while len(rows) < count:
    for sample in _sample(client, 20):
      rows[sample.info.key] = tree.flatten(sample.data)[0]
  batch = replay.Codec(SPEC, n).unpack(tf.constant(np.stack([*rows.values()])))
  return [tree.map_structure(lambda x: x[i].numpy(), batch) for i in range(count)]  # noqa: B023


def test_codec_round_trip() -> None:
  codec = replay.Codec(SPEC, 2)
  assert codec.rewards == ['imitation', 'task']
  assert codec.size == 2 * (3 + 2 + 2) + ACTIONS + 2 * (2 + 2 + 1)
  observation = {
    'body': np.array([0.1, 2, 3], np.float32),
    'objects': np.array([4, 5], np.float32),
    'goal': np.array([2**24, 2**24 - 1], np.int32),
  }
  row = codec.pack(
    codec.flatten(observation),
    np.array([-1, 1], np.float32),
    [[0.3, 1]],
    [[0.5, 0]],
    codec.flatten({key: 2 * value for key, value in observation.items()}),
  )
  assert (row.shape, row.dtype) == ((codec.size,), np.float32)
  batch = codec.unpack(tf.constant([row, 0 * row]))
  for group, values in observation.items():
    assert batch['observation'][group].dtype == values.dtype
    np.testing.assert_array_equal(batch['observation'][group], [values, 0 * values])
  np.testing.assert_array_equal(batch['next_observation']['objects'][0], [8, 10])
  np.testing.assert_array_equal(batch['action'], [[-1, 1], [0, 0]])
  np.testing.assert_array_equal(
    batch['reward']['imitation'][0], np.array([0.3, 0], np.float32)
  )
  np.testing.assert_array_equal(batch['reward']['task'][0], [1, 0])
  np.testing.assert_array_equal(batch['discount']['imitation'][0], [0.5, 0])
  np.testing.assert_array_equal(batch['discount']['task'], [[0, 0], [0, 0]])
  np.testing.assert_array_equal(batch['real'], [[1, 0], [0, 0]])


@pytest.mark.parametrize('n', [1, 3])
def test_every_transition_is_there_once(n: int) -> None:
  # The second ends early; the third is shorter than a transition.
  episodes = [_episode(0, 7, False), _episode(1, 4, True), _episode(2, 2, False)]
  config = _config(n)
  with _serving(config) as client:
    adder = _adder(client, config)
    for episode in episodes:
      _write(adder, episode)
    adder.reset()
    items = _transitions(client, n)
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


def test_episode_cut_short_ends_where_it_is() -> None:
  config = _config(3)
  with _serving(config) as client:
    adder = _adder(client, config)
    adder.reset()
    assert client.server_info()[replay.TABLE].current_size == 0
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
    adder.reset()
    items = _transitions(client, n=3)
  goals = {
    tuple(item['observation']['goal']): tuple(item['next_observation']['goal'])
    for item in items
  }
  assert goals == {
    **{(0, 5 + t): (0, min(8 + t, 10)) for t in range(5)},
    **{(1, 5 + t): (1, min(8 + t, 9)) for t in range(4)},
  }


def test_sampled_batches_unpack_to_what_was_written() -> None:
  config = _config(3)
  episode, stop = _episode(3, 6, True), threading.Event()
  codec = replay.Codec(SPEC, 3)
  settings = dataclasses.replace(config.d4pg, batch_size=64, steps_per_call=2)
  with _serving(config) as client:
    adder = _adder(client, config)
    _write(adder, episode)
    adder.reset()
    batch = codec.unpack(next(replay.sample(client, settings, stop)))
  assert batch['action'].shape == (128, ACTIONS)
  steps = batch['observation']['goal'][:, 1].numpy() - 5
  assert set(steps) == set(range(6))
  for i, step in enumerate(steps):
    item = tree.map_structure(lambda x: x[i].numpy(), batch)  # noqa: B023
    expected = _expected(episode, step, 3)
    tree.map_structure(np.testing.assert_array_equal, item, expected, check_types=False)


def test_writer_stops_waiting_when_told_to() -> None:
  config = _config(1)
  asked = []

  with _serving(config, ahead=10) as client:

    def should_stop() -> bool:
      asked.append(True)
      if len(asked) > 1:
        # A writer that holds items waits for its server when it is deleted.
        _sample(client, 100)
      return len(asked) == 1

    adder = _adder(client, config, should_stop)
    # Nobody samples: the table takes some, and then no more.
    with pytest.raises(replay.Stopped):
      for number in range(1000):
        _write(adder, _episode(number, 50, False))
    assert asked == [True]
    assert client.server_info()[replay.TABLE].current_size == 10
    assert replay.describe(client) == (
      'replay holds 10 transitions, sampling starts at 1; 10 inserted, 0 sampled'
    )
    adder.reset()


def test_nothing_is_lost_or_doubled_by_waiting() -> None:
  config = _config(3)
  episodes = [_episode(i, 30, False) for i in range(12)]
  with _serving(config, ahead=10) as client:
    waits = []

    def sampled_meanwhile() -> bool:
      # Asked each time that the writer has waited in vain.
      waits.append(True)
      _sample(client, 150)
      return False

    adder = _adder(client, config, sampled_meanwhile)
    for episode in episodes:
      _write(adder, episode)
    adder.reset()
    items = _transitions(client, n=3)
  assert len(waits) > 1
  assert sorted(tuple(item['observation']['goal']) for item in items) == [
    (i, 5 + t) for i in range(len(episodes)) for t in range(30)
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
