"""Tests of agents.replay and agents.adders, over a Reverb server."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import pathlib
import threading
import time
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
from agents import sampling
from agents import waiting
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


def _config(n: int = 1, **changes: Any) -> config_lib.Config:
  return config_lib.Config(
    d4pg=config_lib.D4PGConfig(n_step=n, batch_size=512, steps_per_call=1),
    replay=config_lib.ReplayConfig(
      **{'max_size': 1000, 'min_size': 1, 'samples_per_insert': 20.0, **changes},
    ),
  )


def _codec(config: config_lib.Config) -> replay.Codec:
  horizons = [config.d4pg_of(name).n_step for name in config.learners]
  return replay.Codec(SPEC, horizons)


def _adder(
  client: reverb.Client,
  config: config_lib.Config,
  should_stop: Callable[[], bool] = lambda: False,
  tables: Sequence[str] = (replay.IMITATION,),
) -> adders.StepAdder:
  return adders.StepAdder(adders.Writer(client, _codec(config), tables, should_stop))


@contextlib.contextmanager
def _serving(config: config_lib.Config, ahead: int = 0) -> Iterator[reverb.Client]:
  """Serves the tables; if `ahead`, writers may be so many items ahead of samplers."""
  tables = replay.tables(_codec(config), config, demonstrated=0)
  if ahead:
    limiter = reverb.rate_limiters.RateLimiter(1.0, 1, -1e9, ahead)
    tables = [table.replace(rate_limiter=limiter) for table in tables]
  server = reverb.Server(tables)
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
  samples = client.sample(replay.IMITATION, num_samples=number, emit_timesteps=False)
  return list(samples)


def _transitions(
  client: reverb.Client, codec: replay.Codec, n: int
) -> list[dict[str, Any]]:
  """Returns every item of the table once, unpacked."""
  count = client.server_info()[replay.IMITATION].current_size
  rows: dict[int, np.ndarray] = {}
  while len(rows) < count:
    for sample in _sample(client, 20):
      rows[sample.info.key] = tree.flatten(sample.data)[0]
  batch = codec.unpack(tf.constant(np.stack([*rows.values()])), n)
  return [tree.map_structure(lambda x: x[i].numpy(), batch) for i in range(count)]  # noqa: B023


def test_codec_round_trip() -> None:
  codec = replay.Codec(SPEC, [2])
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
    [codec.flatten({key: 2 * value for key, value in observation.items()})],
  )
  assert (row.shape, row.dtype) == ((codec.size,), np.float32)
  batch = codec.unpack(tf.constant([row, 0 * row]), 2)
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


def test_a_row_of_two_horizons_serves_each() -> None:
  codec = replay.Codec(SPEC, [10, 3, 10])
  assert (codec.horizons, codec.n) == ((3, 10), 10)
  # One more observation, and the steps of the longer.
  assert codec.size == 3 * (3 + 2 + 2) + ACTIONS + 10 * (2 + 2 + 1)
  row = codec.pack(
    np.full(7, 5),
    np.full(ACTIONS, 6),
    [[t, 100 + t] for t in range(4)],
    [[1, 1]] * 4,
    [np.full(7, 7), np.full(7, 8)],
  )
  short, long = (codec.unpack(tf.constant([row]), n) for n in (3, 10))
  assert short['reward']['task'].numpy().tolist() == [[100, 101, 102]]
  assert long['reward']['task'].numpy().tolist() == [[100, 101, 102, 103] + [0] * 6]
  assert short['real'].numpy().tolist() == [[1] * 3]
  assert long['real'].numpy().tolist() == [[1] * 4 + [0] * 6]
  assert short['next_observation']['body'].numpy().tolist() == [[7] * 3]
  assert long['next_observation']['body'].numpy().tolist() == [[8] * 3]
  for batch in (short, long):
    assert batch['observation']['body'].numpy().tolist() == [[5] * 3]
    assert batch['action'].numpy().tolist() == [[6] * ACTIONS]
  with pytest.raises(ValueError):
    codec.unpack(tf.constant([row]), 4)


@pytest.mark.parametrize(('n', 'other'), [(1, 1), (3, 3), (3, 10), (10, 3)])
def test_every_transition_is_there_once(n: int, other: int) -> None:
  # The second ends early; the third is shorter than a transition.
  episodes = [_episode(0, 12, False), _episode(1, 4, True), _episode(2, 2, False)]
  config = _config(n)
  codec = replay.Codec(SPEC, [n, other])
  server = reverb.Server(replay.tables(codec, config, demonstrated=0))
  client = server.localhost_client()
  writer = adders.Writer(client, codec, (replay.IMITATION,), lambda: False)
  adder = adders.StepAdder(writer)
  for episode in episodes:
    _write(adder, episode)
  adder.reset()
  items = _transitions(client, codec, n)
  server.stop()
  found = {tuple(item['observation']['goal']): item for item in items}
  starts = [(i, 5 + t) for i, e in enumerate(episodes) for t in range(len(e.actions))]
  assert len(items) == len(starts) == 18
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


@pytest.mark.parametrize('tables', [('a',), ('a', 'b')])
def test_reverb_does_not_warn_of_what_is_under_way(
  tables: Sequence[str], capfd: pytest.CaptureFixture[str]
) -> None:
  config = _config(3)
  codec = _codec(config)
  served = [reverb.Table.queue(name, 100_000) for name in tables]
  server = reverb.Server(served)
  client = server.localhost_client()
  writer = adders.Writer(client, codec, tables, lambda: False)
  for number in range(1_000):
    writer.append(np.full(codec.size, number, np.float32))
  writer.flush()
  sizes = {name: info.current_size for name, info in client.server_info().items()}
  server.stop()
  assert sizes == dict.fromkeys(tables, 1_000)
  assert 'pending' not in capfd.readouterr().err


def test_episode_cut_short_ends_where_it_is() -> None:
  config = _config(3)
  with _serving(config) as client:
    adder = _adder(client, config)
    adder.reset()
    assert client.server_info()[replay.IMITATION].current_size == 0
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
    items = _transitions(client, _codec(config), 3)
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
  episode = _episode(3, 6, True)
  codec = _codec(config)
  with _serving(config) as client:
    adder = _adder(client, config)
    _write(adder, episode)
    adder.reset()
    rows = next(sampling.Sampler(client, {replay.IMITATION: 64}, 2, PATIENCE))
  batch = codec.unpack(rows, 3)
  assert batch['action'].shape == (128, ACTIONS)
  steps = batch['observation']['goal'][:, 1].numpy() - 5
  assert set(steps) == set(range(6))
  for i, step in enumerate(steps):
    item = tree.map_structure(lambda x: x[i].numpy(), batch)  # noqa: B023
    expected = _expected(episode, step, 3)
    tree.map_structure(np.testing.assert_array_equal, item, expected, check_types=False)


PATIENCE = 60.0  # s; only for how long a failing test hangs.
BESIDE = config_lib.Config(task=config_lib.TaskConfig(learn=True))
_SMALL = config_lib.ReplayConfig(max_size=1000, min_size=1, samples_per_insert=20)
MIXED = dataclasses.replace(
  BESIDE,
  replay=_SMALL,
  task=dataclasses.replace(BESIDE.task, replay=_SMALL, start_after=1),
)


def _sharing(config: config_lib.Config, share: float) -> config_lib.Config:
  return dataclasses.replace(
    config, task=dataclasses.replace(config.task, imitation_share=share)
  )


@pytest.mark.parametrize(
  ('config', 'learner', 'expected'),
  [
    (config_lib.Config(), 'imitation', {'imitation': 128}),
    (BESIDE, 'imitation', {'imitation': 128}),
    (BESIDE, 'task', {'imitation_for_task': 96, 'task': 32}),
    (_sharing(BESIDE, 0.3), 'task', {'imitation_for_task': 38, 'task': 90}),
    (_sharing(BESIDE, 1.0), 'task', {'imitation_for_task': 128}),
    (_sharing(BESIDE, 0.0), 'task', {'task': 128}),
    (config_lib.Config(algorithm='d4pg'), 'task', {'task': 128}),
    (config_lib.Config(algorithm='d4pgfd'), 'task', {'demonstrations': 32, 'task': 96}),
  ],
)
def test_what_a_batch_is_made_of(
  config: config_lib.Config, learner: str, expected: dict[str, int]
) -> None:
  assert replay.sources(config, learner) == expected


@pytest.mark.parametrize(
  ('config', 'expected'),
  [
    (config_lib.Config(), {'imitation': ('imitation',)}),
    (
      BESIDE,
      {'imitation': ('imitation', 'imitation_for_task'), 'task': ('task',)},
    ),
    (_sharing(BESIDE, 1.0), {'imitation': ('imitation', 'imitation_for_task')}),
    (_sharing(BESIDE, 0.0), {'imitation': ('imitation',), 'task': ('task',)}),
    (config_lib.Config(algorithm='d4pg'), {'task': ('task',)}),
    (config_lib.Config(algorithm='d4pgfd'), {'task': ('task',)}),
  ],
)
def test_actors_write_to_tables_that_are_there(
  config: config_lib.Config, expected: dict[str, tuple[str, ...]]
) -> None:
  found = {actor: replay.written_by(config, actor) for actor in config.actors}
  assert found == expected
  made = {table.name for table in replay.tables(_codec(config), config, 7)}
  assert made - {replay.DEMONSTRATIONS} == {
    t for names in found.values() for t in names
  }


@pytest.mark.parametrize(
  ('config', 'expected'),
  [
    # Size; samples per insert; items before sampling; how far samples may be from so
    # many per item, in samples: a tenth of those of the first 2,000 items, or 4 calls'.
    (config_lib.Config(), {'imitation': (400_000, 51, 2000, 10_200)}),
    (
      BESIDE,
      {
        'imitation': (400_000, 51, 2000, 10_200),
        'imitation_for_task': (400_000, 1, 40_000, None),
        'task': (400_000, 25.5, 2000, 5100),
      },
    ),
    (config_lib.Config(algorithm='d4pg'), {'task': (400_000, 102, 2000, 20_400)}),
    (
      config_lib.Config(algorithm='d4pgfd'),
      {'demonstrations': (7, 1, 7, None), 'task': (400_000, 76.5, 2000, 15_300)},
    ),
    (_config(), {'imitation': (1000, 20, 1, 4 * 512)}),
  ],
)
def test_tables_and_the_pace_they_keep(
  config: config_lib.Config, expected: dict[str, tuple[float, ...]]
) -> None:
  found: dict[str, Any] = {}
  for table in replay.tables(_codec(config), config, demonstrated=7):
    info = table.info
    rates = info.rate_limiter_info
    middle = rates.samples_per_insert * rates.min_size_to_sample
    buffer = rates.max_diff - middle
    free = rates.max_diff > 1e300
    assert free or middle - rates.min_diff == pytest.approx(buffer)
    found[info.name] = (
      info.max_size,
      rates.samples_per_insert,
      rates.min_size_to_sample,
      None if free else pytest.approx(buffer),
    )
  assert found == expected


def test_every_batch_has_its_share_of_each_table() -> None:
  with _serving(MIXED) as client:
    imitating = _adder(client, MIXED, tables=replay.written_by(MIXED, 'imitation'))
    solving = _adder(client, MIXED, tables=replay.written_by(MIXED, 'task'))
    for i in range(4):
      _write(imitating, _episode(i, 20, False))
      _write(solving, _episode(100 + i, 20, False))
    imitating.reset()
    solving.reset()
    batches = sampling.Sampler(
      client, {'imitation_for_task': 24, 'task': 8}, 3, PATIENCE
    )
    codec = _codec(MIXED)
    for _ in range(2):
      batch = codec.unpack(next(batches), MIXED.task.d4pg.n_step)
      numbers = batch['observation']['goal'][:, 0].numpy().reshape(3, 32)
      assert ((numbers >= 100).sum(1) == 8).all()
      assert len(np.unique(numbers)) == 8


def _chunks(folder: pathlib.Path, tables: Sequence[str]) -> int:
  """Returns how many pieces a server stores for 40 transitions in these tables."""
  checkpointer = reverb.platform.checkpointers_lib.DefaultCheckpointer(str(folder))
  made = replay.tables(_codec(MIXED), MIXED, demonstrated=0)
  server = reverb.Server(made, checkpointer=checkpointer)
  client = server.localhost_client()
  adder = _adder(client, MIXED, tables=tables)
  for i in range(2):
    _write(adder, _episode(i, 20, False))
  adder.reset()
  info = client.server_info()
  assert {name: info[name].current_size for name in info} == {
    name: 40 if name in tables else 0 for name in info
  }
  kept = pathlib.Path(client.checkpoint())
  server.stop()
  records = tf.data.TFRecordDataset(str(kept / 'chunks.tfrecord'), 'ZLIB')
  return len(list(records))


def test_what_imitation_actors_write_is_in_both_tables_and_stored_once(
  tmp_path: pathlib.Path,
) -> None:
  both = _chunks(tmp_path / 'both', replay.written_by(MIXED, 'imitation'))
  one = _chunks(tmp_path / 'one', (replay.IMITATION,))
  # Stored twice it would be 80. A busy server was once seen to hold one chunk more.
  assert min(both, one) >= 40
  assert abs(both - one) <= 2


def test_waiting_for_experience_counts_what_has_been_written(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setattr(replay.time, 'sleep', lambda seconds: None)
  config = _config(max_size=5)
  with _serving(config) as client:
    adder = _adder(client, config)
    _write(adder, _episode(0, 12, False))
    adder.reset()
    # Older ones have left already.
    assert client.server_info()[replay.IMITATION].current_size == 5
    assert replay.wait_for(client, replay.IMITATION, 12, lambda: False)
    asked = iter([False] * 3 + [True])
    assert not replay.wait_for(client, replay.IMITATION, 13, lambda: next(asked))
    assert next(asked, None) is None


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
    with pytest.raises(waiting.Stopped):
      for number in range(1000):
        _write(adder, _episode(number, 50, False))
    assert asked == [True]
    assert client.server_info()[replay.IMITATION].current_size == 10
    assert replay.describe(client, replay.IMITATION) == (
      'imitation, which holds 10 transitions; sampling starts at 1; 10 inserted, '
      '0 sampled'
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
    items = _transitions(client, _codec(config), 3)
  assert len(waits) > 1
  assert sorted(tuple(item['observation']['goal']) for item in items) == [
    (i, 5 + t) for i in range(len(episodes)) for t in range(30)
  ]


def test_sampler_says_of_which_table_it_has_nothing_and_keeps_what_it_has() -> None:
  with _serving(MIXED) as client:
    imitating = _adder(client, MIXED, tables=replay.written_by(MIXED, 'imitation'))
    _write(imitating, _episode(0, 40, False))
    imitating.reset()
    batches = sampling.Sampler(client, {'imitation_for_task': 24, 'task': 8}, 1, 0.01)

    def starved_of() -> str:
      with pytest.raises(sampling.Starved) as e:
        next(batches)
      return e.value.table

    end = time.monotonic() + PATIENCE
    while starved_of() != 'task':
      assert time.monotonic() < end
    solving = _adder(client, MIXED, tables=replay.written_by(MIXED, 'task'))
    _write(solving, _episode(100, 40, False))
    solving.reset()
    found: list[tf.Tensor] = []
    while not found:
      with contextlib.suppress(sampling.Starved):
        found.append(next(batches))
      assert time.monotonic() < end
    assert found[0].shape[0] == 32


def test_server_that_is_gone_is_described() -> None:
  class Gone:
    def server_info(self, timeout: float) -> Any:
      raise reverb.errors.DeadlineExceededError(f'{timeout} s')

  client: Any = Gone()
  expected = 'the replay server, which does not answer'
  assert replay.describe(client, replay.TASK) == expected


def test_background_iterator_hands_on_elements_and_errors() -> None:
  def numbers() -> Iterator[int]:
    yield 1
    yield 2
    raise OSError('the disk is full')

  iterator = sampling.BackgroundIterator(numbers, depth=1)
  assert [iterator.get(timeout=60), iterator.get(timeout=60)] == [1, 2]
  with pytest.raises(OSError, match='the disk is full'):
    iterator.get(timeout=60)


def test_background_iterator_returns_none_when_there_is_nothing_yet() -> None:
  release = threading.Event()

  def slow() -> Iterator[int]:
    release.wait()
    yield 7

  iterator = sampling.BackgroundIterator(slow, depth=1)
  assert iterator.get(timeout=0.01) is None
  release.set()
  assert iterator.get(timeout=60) == 7
