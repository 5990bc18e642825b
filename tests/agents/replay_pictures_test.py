"""Tests of pictures in replay, over a Reverb server: written, kept and sampled."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import pathlib
import types
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
from envs import pictures as pictures_lib
from metamimic import config as config_lib
from metamimic.demonstrations import goals

SIZE = 8
PICTURES = pictures_lib.Pictures(('front', 'side'), SIZE, SIZE)
GROUPS = tuple(PICTURES.spec())
_SCALARS = dict.fromkeys(('imitation', 'task'), specs.Array((), np.float32))
SPEC = specs.EnvironmentSpec(
  observations={
    'body': specs.Array((3,), np.float32),
    'goal': specs.Array((2,), np.int32),
    **PICTURES.spec(),
  },
  actions=specs.Array((2,), np.float32),
  rewards=_SCALARS,
  discounts=_SCALARS,
)
SHORT, LONG = 2, 5
TABLES = {replay.IMITATION: SHORT, replay.SHARED: LONG}
PATIENCE = 60.0  # s; only for how long a failing test hangs.


def _config() -> config_lib.Config:
  """Returns settings of two learners, of two horizons."""
  small = config_lib.ReplayConfig(max_size=1000, min_size=1, samples_per_insert=20)
  base = config_lib.Config()
  d4pg = dataclasses.replace(base.d4pg, n_step=SHORT, steps_per_call=1)
  task = dataclasses.replace(
    base.task,
    learn=True,
    start_after=1,
    replay=small,
    d4pg=dataclasses.replace(d4pg, n_step=LONG),
  )
  return dataclasses.replace(base, d4pg=d4pg, replay=small, task=task)


CONFIG = _config()
CODEC = replay.Codec(SPEC, (SHORT, LONG), PICTURES)


@contextlib.contextmanager
def _serving(checkpointer: Any = None) -> Iterator[reverb.Client]:
  """Serves the tables; writers may be far ahead of samplers."""
  tables = [
    table.replace(rate_limiter=reverb.rate_limiters.RateLimiter(1.0, 1, -1e9, 1e9))
    for table in replay.tables(CODEC, CONFIG, demonstrated=0)
  ]
  server = reverb.Server(tables, checkpointer=checkpointer)
  try:
    yield server.localhost_client()
  finally:
    server.stop()


def _writer(
  client: reverb.Client,
  environments: int,
  tables: Mapping[str, int] = TABLES,
  codec: replay.Codec = CODEC,
) -> adders.PictureWriter:
  return adders.PictureWriter(client, codec, tables, environments, lambda: False)


def _observation(number: int, t: int) -> dict[str, np.ndarray]:
  """Returns what is seen at a step of an episode: noise, which occurs nowhere else."""
  rng = np.random.default_rng([number, t])
  return {
    'body': rng.normal(size=3).astype(np.float32),
    'goal': np.array([number, t], np.int32),
    **{g: rng.integers(0, 256, s.shape, np.uint8) for g, s in PICTURES.spec().items()},
  }


def _pixels(number: int, t: int) -> np.ndarray:
  observation = _observation(number, t)
  return np.concatenate([observation['pixels/front'], observation['pixels/side']], -1)


class _Environment:
  """Plays episodes, one after the other, a step at a time."""

  def __init__(self, adder: adders.StepAdder, episodes: Mapping[int, int]) -> None:
    """Takes the episodes' lengths by number."""
    self._adder = adder
    self._episodes = iter(episodes.items())
    self._begin()

  def _begin(self) -> None:
    self.number, self._length = next(self._episodes, (-1, 0))
    self._t = 0
    if self.number >= 0:
      first = _observation(self.number, 0)
      self._adder.add_first(dm_env.TimeStep(dm_env.StepType.FIRST, None, None, first))

  def step(self) -> bool:
    """Does a step, and begins what comes after it; false: there is nothing to do."""
    if self.number < 0:
      return False
    self._t += 1
    last = self._t == self._length
    one = dict.fromkeys(_SCALARS, np.float32(1))
    self._adder.add(
      np.array([self.number, self._t - 1], np.float32),
      dm_env.TimeStep(
        dm_env.StepType.LAST if last else dm_env.StepType.MID,
        one,
        one,
        _observation(self.number, self._t),
      ),
    )
    if last:
      self._begin()
    return True


def _play(writer: adders.PictureWriter, *episodes: Mapping[int, int]) -> None:
  """Lets environments write by turns, each its episodes: lengths by number."""
  each = [adders.StepAdder(writer) for _ in episodes]
  environments = [_Environment(a, e) for a, e in zip(each, episodes, strict=True)]
  while sum(environment.step() for environment in environments):
    pass
  for adder in each:
    adder.reset()


def _items(client: reverb.Client, table: str, n: int) -> dict[tuple[int, int], Any]:
  """Returns each item of a table, unpacked, by the episode and step it begins with."""
  count = client.server_info()[table].current_size
  found: dict[int, Any] = {}
  while len(found) < count:
    for sample in client.sample(table, num_samples=50, emit_timesteps=False):
      found[sample.info.key] = tree.unflatten_as(CODEC.signature, sample.data)
  stacked = tree.map_structure(lambda *parts: tf.stack(parts), *found.values())
  batch = CODEC.unpack(stacked, n)
  items = [tree.map_structure(lambda x: x[i].numpy(), batch) for i in range(count)]  # noqa: B023
  by_start = {tuple(item['observation']['goal'].tolist()): item for item in items}
  assert len(by_start) == count
  return by_start


EPISODES: tuple[dict[int, int], ...] = ({0: 12, 1: 3, 2: 1}, {3: 1, 4: 5, 5: 2, 6: 9})
"""Of two environments: shorter than a transition, as long, and longer."""
STARTS = {
  (number, t): length
  for each in EPISODES
  for number, length in each.items()
  for t in range(length)
}


def test_signature_has_pictures_beside_the_row() -> None:
  assert CODEC.signature == {
    'row': tf.TensorSpec([CODEC.size], tf.float32),
    'pictures': tf.TensorSpec([2, SIZE, SIZE, 6], tf.uint8),
  }
  # A row is what it would be without them.
  vectors = {g: SPEC.observations[g] for g in ('body', 'goal')}
  bare = SPEC._replace(observations=vectors)
  plain = replay.Codec(bare, (SHORT, LONG))
  assert plain.signature == tf.TensorSpec([CODEC.size], tf.float32)
  observation = _observation(3, 4)
  np.testing.assert_array_equal(CODEC.flatten(observation), plain.flatten(observation))
  assert CODEC.flatten(observation).shape == (5,)


def test_goals_of_start_and_end_are_in_the_row() -> None:
  rows = np.stack(
    [
      CODEC.pack(
        CODEC.flatten(_observation(number, t)),
        np.zeros(2),
        [[0, 0]],
        [[1, 1]],
        [CODEC.flatten(_observation(number, t + n)) for n in (SHORT, LONG)],
      )
      for number, t in ((2**24 - 9, 4), (7, 0))
    ]
  )
  for n in (SHORT, LONG):
    start, end = CODEC.goals(rows, n)
    assert start.dtype == end.dtype == np.int32
    assert start.tolist() == [[2**24 - 9, 4], [7, 0]]
    assert end.tolist() == [[2**24 - 9, 4 + n], [7, n]]


def test_items_hold_the_pictures_of_their_start_and_their_end() -> None:
  with _serving() as client:
    _play(_writer(client, len(EPISODES)), *EPISODES)
    found = {table: _items(client, table, n) for table, n in TABLES.items()}
  for table, n in TABLES.items():
    assert set(found[table]) == set(STARTS)
    for (number, t), item in found[table].items():
      end = min(t + n, STARTS[number, t])
      for name, step in (('observation', t), ('next_observation', end)):
        assert item[name]['goal'].tolist() == [number, step]
        np.testing.assert_array_equal(
          item[name]['body'], _observation(number, step)['body']
        )
        np.testing.assert_array_equal(item[name]['pixels'], _pixels(number, step))
      assert item['real'].tolist() == [1] * (end - t) + [0] * (n - end + t)
      assert item['action'].tolist() == [number, t]


def test_task_actors_write_to_their_own_table() -> None:
  with _serving() as client:
    _play(_writer(client, 2, {replay.TASK: LONG}), *EPISODES)
    sizes = {name: info.current_size for name, info in client.server_info().items()}
    found = _items(client, replay.TASK, LONG)
  assert sizes == {'imitation': 0, 'imitation_for_task': 0, 'task': len(STARTS)}
  for (number, t), item in found.items():
    end = min(t + LONG, STARTS[number, t])
    np.testing.assert_array_equal(
      item['next_observation']['pixels'], _pixels(number, end)
    )


def test_a_long_transition_outlives_others_shortest_episodes() -> None:
  # Whose environments each write two pictures a step.
  short = [dict.fromkeys(range(100 * i, 100 * i + 20), 1) for i in range(1, 4)]
  with _serving() as client:
    _play(_writer(client, 4), {0: 20}, *short)
    found = _items(client, replay.SHARED, LONG)
  for t in range(20):
    item = found[0, t]
    for name, step in (('observation', t), ('next_observation', min(t + LONG, 20))):
      np.testing.assert_array_equal(item[name]['pixels'], _pixels(0, step))
  assert len(found) == 20 + 3 * 20


def test_episode_cut_short_ends_in_what_is_seen_then() -> None:
  with _serving() as client:
    writer = _writer(client, 1)
    adder = adders.StepAdder(writer)
    environment = _Environment(adder, {0: 9})
    for _ in range(4):
      environment.step()
    adder.reset()
    found = _items(client, replay.SHARED, LONG)
  assert sorted(found) == [(0, t) for t in range(4)]
  for t in range(4):
    np.testing.assert_array_equal(found[0, t]['observation']['pixels'], _pixels(0, t))
    np.testing.assert_array_equal(
      found[0, t]['next_observation']['pixels'], _pixels(0, 4)
    )


def _checkpointer(folder: pathlib.Path, *saved: str) -> Any:
  return reverb.platform.checkpointers_lib.DefaultCheckpointer(str(folder), '', *saved)


def test_each_picture_is_stored_once(tmp_path: pathlib.Path) -> None:
  with _serving(_checkpointer(tmp_path)) as client:
    _play(_writer(client, len(EPISODES)), *EPISODES)
    saved = pathlib.Path(client.checkpoint())
  chunks = tf.data.TFRecordDataset(str(saved / 'chunks.tfrecord'), 'ZLIB')
  sizes = sorted(len(chunk.numpy()) for chunk in chunks)
  # A row of each transition in two tables, and a picture of each state: each a chunk.
  # Noise does not get smaller; a row does, for most of it is nought or one.
  noise = SIZE * SIZE * 6
  states = sum(length + 1 for each in EPISODES for length in each.values())
  assert len(sizes) == len(STARTS) + states
  assert all(noise <= size < 2 * noise for size in sizes[-states:])
  assert max(sizes[:-states]) < noise
  # Stored for each item they would be four times as many.
  assert 2 * 2 * len(STARTS) > 2 * states


def test_pictures_come_back_with_a_server_that_is_restored(
  tmp_path: pathlib.Path,
) -> None:
  with _serving(_checkpointer(tmp_path / 'first')) as client:
    _play(_writer(client, len(EPISODES)), *EPISODES)
    saved = client.checkpoint()
    before = {table: _items(client, table, n) for table, n in TABLES.items()}
  with _serving(_checkpointer(tmp_path / 'second', saved)) as client:
    after = {table: _items(client, table, n) for table, n in TABLES.items()}
    # It takes new ones, too.
    _play(_writer(client, 1), {50: 3})
    more = _items(client, replay.IMITATION, SHORT)
  assert sorted(before) == sorted(after)
  for table, items in before.items():
    assert set(items) == set(after[table]) == set(STARTS)
    for start, item in items.items():
      tree.map_structure(np.testing.assert_array_equal, after[table][start], item)
  assert set(more) == {*STARTS, *((50, t) for t in range(3))}
  np.testing.assert_array_equal(
    more[50, 2]['next_observation']['pixels'], _pixels(50, 3)
  )


def _demonstrations(count: int, length: int) -> goals.PictureBank:
  """Returns demonstrations whose frames are what is seen in episodes from 200 on."""
  shown = [
    types.SimpleNamespace(
      observations={
        group: np.stack([_observation(200 + i, t)[group] for t in range(length + 1)])
        for group in GROUPS
      }
    )
    for i in range(count)
  ]
  return goals.PictureBank(shown, PICTURES)


@pytest.mark.parametrize(('table', 'n'), TABLES.items())
def test_sampled_items_have_the_goals_pictures_of_both_ends(table: str, n: int) -> None:
  length, ahead = 10, (1, 4)
  complete = sampling.WithGoals(CODEC, _demonstrations(9, length), ahead, n)
  with _serving() as client:
    _play(_writer(client, len(EPISODES)), *EPISODES)
    items = next(sampling.Sampler(client, {table: 64}, 2, PATIENCE, complete=complete))
  assert items[replay.GOALS].shape == (128, 2, 2, SIZE, SIZE, 6)
  assert items[replay.GOALS].dtype == tf.uint8
  batch = CODEC.unpack(items, n)
  seen = set()
  for i in range(128):
    number, t = batch['observation']['goal'][i].numpy().tolist()
    seen.add((number, t))
    end = min(t + n, STARTS[number, t])
    for name, step in (('observation', t), ('next_observation', end)):
      np.testing.assert_array_equal(batch[name]['pixels'][i], _pixels(number, step))
      for k, steps in enumerate(ahead):
        # Past the demonstration's end, its last.
        np.testing.assert_array_equal(
          batch[name]['goal_pixels'][i, k],
          _pixels(200 + number, min(step + steps, length)),
        )
  assert {number for number, _ in seen} >= {0, 6}
  assert any(t + n + max(ahead) > length for _, t in seen)


def test_without_who_looks_them_up_there_are_no_goals() -> None:
  with _serving() as client:
    _play(_writer(client, 2), *EPISODES)
    items = next(sampling.Sampler(client, {replay.IMITATION: 8}, 1, PATIENCE))
  assert set(items) == {replay.ROW, replay.PICTURES}
  batch = CODEC.unpack(items, SHORT)
  for name in ('observation', 'next_observation'):
    assert set(batch[name]) == {'body', 'goal', 'pixels'}


def test_every_batch_has_its_share_of_each_table_in_all_its_parts() -> None:
  other: Sequence[dict[int, int]] = ({100: 12}, {101: 12})
  calls, shares = 3, {replay.SHARED: 12, replay.TASK: 4}
  with _serving() as client:
    _play(_writer(client, 2), *EPISODES)
    _play(_writer(client, 2, {replay.TASK: LONG}), *other)
    batches = sampling.Sampler(client, shares, calls, PATIENCE)
    for _ in range(2):
      items = next(batches)
      assert items[replay.PICTURES].shape == (calls * 16, 2, SIZE, SIZE, 6)
      batch = CODEC.unpack(items, LONG)
      goal = batch['observation']['goal'].numpy()
      numbers = goal[:, 0].reshape(calls, 16)
      assert ((numbers >= 100).sum(1) == 4).all()
      # Row and pictures are still those of one item.
      for i, (number, t) in enumerate(goal.tolist()):
        np.testing.assert_array_equal(
          batch['observation']['pixels'][i], _pixels(number, t)
        )
