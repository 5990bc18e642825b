"""The one table of all experience: what is written, how, and how it is sampled.

An actor writes every control step once, in one stream for each environment: after an
episode come n rows of padding, then the next one. The table's items are segments of
that stream, cut by Reverb itself: every `segment` steps one of `segment + n`, so that
each transition of n steps is in exactly one item. A dozen transitions then cost about
what one of its own would, of writing and of sampling; they are shuffled over all the
updates of a learner's call, and those that begin in padding are left out. The learner
unpacks them and sums the n rewards. Both rewards and discounts of a step, imitation's
and the task's, are there; the goal is there by reference.

An unpacked batch is a dict of

  observation, next_observation: groups, (B, n), and goal, (B, 2) int32
  action: (B, 9)
  reward, discount: {imitation, task}, (B, n)
  real: (B, n), 1 for a step that was taken; see `losses.n_step_return`
"""

from collections.abc import Callable, Iterator, Mapping
import threading
import time
from typing import Any

from absl import logging
from acme import adders
import dm_env
import numpy as np
import reverb
from reverb import structured_writer
import tensorflow as tf
import tree

from envs import imitation
from metamimic import config as config_lib

TABLE = 'experience'
_MAX_PENDING = 24  # Items on their way to the server; Reverb warns at about 50.
_BURST = 8  # Steps that are written at a time.
_FLUSH_TIMEOUT_MS = 1000


class Stopped(Exception):
  """The run was asked to stop while something waited for replay."""


class Codec:
  """Packs a control step into one row of float32, and unpacks windows of rows.

  One column instead of a dozen: Reverb's cost, of writing and even more of sampling, is
  by column. The goal's integers are exact in float32 up to 2**24.
  """

  def __init__(self, environment: dm_env.Environment, n: int):
    """Lays out the row.

    Args:
      environment: gives the specs.
      n: steps of a transition.
    """
    self.n = n
    """Steps of a transition."""
    spec = {
      'observation': dict(environment.observation_spec()),
      'action': environment.action_spec(),
      'reward': environment.reward_spec(),
      'discount': environment.discount_spec(),
      'real': environment.discount_spec()[imitation.IMITATION],
    }
    self._structure = spec
    self._specs = tree.flatten(spec)
    ends = np.cumsum([int(np.prod(s.shape)) for s in self._specs])
    self._slices = [
      slice(end - int(np.prod(s.shape)), end)
      for s, end in zip(self._specs, ends, strict=True)
    ]
    self._real = tree.flatten_with_path(spec).index((('real',), spec['real']))
    self.size = int(ends[-1])
    """Numbers in a row."""

  def pack(self, step: Mapping[str, Any]) -> np.ndarray:
    """Returns a step, by the names of the module's docstring, as a row, (size,)."""
    row = np.empty(self.size, np.float32)
    for part, value in zip(self._slices, tree.flatten(step), strict=True):
      row[part] = value
    return row

  def cut(self, items: tf.Tensor) -> tf.Tensor:
    """Returns the windows of all transitions, those that begin in padding included.

    Args:
      items: (I, segment + n, size).

    Returns:
      (I * segment, n + 1, size).
    """
    segment = items.shape[1] - self.n
    windows = [items[:, i : i + self.n + 1] for i in range(segment)]
    return tf.reshape(tf.stack(windows, 1), [-1, self.n + 1, self.size])

  def shuffle(self, items: tf.Tensor) -> tf.Tensor:
    """Returns as many windows as items have, in random order, each of a real step.

    Where windows begin in padding, others are there twice.

    Args:
      items: (I, segment + n, size), not padding alone.

    Returns:
      (I * segment, n + 1, size).
    """
    windows = self.cut(items)
    column = self._slices[self._real].start
    real = tf.random.shuffle(tf.where(windows[:, 0, column] > 0)[:, 0])
    count = tf.shape(windows)[0]
    return tf.gather(windows, tf.gather(real, tf.range(count) % tf.size(real)))

  def unpack(self, rows: tf.Tensor) -> dict[str, Any]:
    """Returns the batch of transitions that is described above.

    Args:
      rows: windows, (B, n + 1, size).
    """
    window = tree.unflatten_as(
      self._structure,
      [
        tf.cast(tf.reshape(rows[..., part], [*rows.shape[:2], *spec.shape]), spec.dtype)
        for part, spec in zip(self._slices, self._specs)  # noqa: B905 (autograph)
      ],
    )
    observation, each = window['observation'], tree.map_structure
    return {
      'observation': each(lambda x: x[:, 0], observation),
      'next_observation': each(lambda x: x[:, -1], observation),
      'action': window['action'][:, 0],
      'reward': each(lambda x: x[:, :-1], window['reward']),
      'discount': each(lambda x: x[:, :-1], window['discount']),
      'real': window['real'][:, :-1],
    }


def _writer_config(codec: Codec, segment: int) -> Any:
  """The pattern that cuts segments out of the stream of steps."""
  row = structured_writer.create_reference_step(np.zeros(codec.size, np.float32))
  length = segment + codec.n
  index = structured_writer.Condition.step_index()
  complete = index % segment == (length - 1) % segment
  return structured_writer.create_config(row[-length:], TABLE, [complete])


def table(
  environment: imitation.ImitationEnvironment, config: config_lib.Config
) -> reverb.Table:
  """Returns the table of all experience.

  Args:
    environment: gives the specs.
    config: sizes, n, and how often an item is sampled.
  """
  codec = Codec(environment, config.d4pg.n_step)
  replay = config.replay
  # Wide enough that neither side waits for the other's batch or episode: a learner
  # takes a whole call's samples at once.
  batch = config.d4pg.batch_size * config.d4pg.steps_per_call
  buffer = max(4 * batch, 0.1 * replay.samples_per_insert * replay.min_size)
  return reverb.Table(
    TABLE,
    sampler=reverb.selectors.Uniform(),
    remover=reverb.selectors.Fifo(),
    max_size=replay.max_size // replay.segment,
    rate_limiter=reverb.rate_limiters.SampleToInsertRatio(
      replay.samples_per_insert,
      max(1, replay.min_size // replay.segment),
      buffer / replay.segment,
    ),
    signature=structured_writer.infer_signature(
      [_writer_config(codec, replay.segment)], tf.TensorSpec([codec.size], tf.float32)
    ),
  )


class StepAdder(adders.Adder):
  """Writes the steps of one environment, in bursts.

  A single step costs several times as much: the physics in between has emptied the
  processor's caches, and Reverb's threads are woken for each. What is added is kept
  until then and must not be changed.
  """

  def __init__(
    self,
    client: reverb.Client,
    environment: imitation.ImitationEnvironment,
    config: config_lib.Config,
    should_stop: Callable[[], bool],
  ):
    """Opens a stream to the server.

    Args:
      client: of the replay server.
      environment: gives the specs.
      config: n and the segments' length.
      should_stop: asked while the server takes nothing.
    """
    self._codec = Codec(environment, config.d4pg.n_step)
    self._segment = config.replay.segment
    self._writer = client.structured_writer(
      [_writer_config(self._codec, self._segment)]
    )
    self._should_stop = should_stop
    self._zero = {
      'action': np.zeros(environment.action_spec().shape),
      'reward': dict.fromkeys(environment.reward_spec(), 0.0),
      'discount': dict.fromkeys(environment.discount_spec(), 0.0),
      'real': 0.0,
    }
    self._observation: Any = None
    self._steps: list[dict[str, Any]] = []
    self._rows = 0  # In this stream, those not written yet included.
    self._end = 0  # Rows up to and with the last real step.

  def add_first(self, timestep: dm_env.TimeStep) -> None:
    """Begins an episode."""
    self._observation = timestep.observation

  def add(
    self, action: np.ndarray, next_timestep: dm_env.TimeStep, extras: Any = ()
  ) -> None:
    """Adds one step.

    Args:
      action: what was done, (9,) float32.
      next_timestep: what came of it.
      extras: nothing is kept of them.

    Raises:
      Stopped: `should_stop` said so while replay took nothing.
    """
    self._steps.append(
      {
        'observation': self._observation,
        'action': action,
        'reward': next_timestep.reward,
        'discount': next_timestep.discount,
        'real': 1.0,
      }
    )
    self._rows += 1
    self._end = self._rows
    self._observation = next_timestep.observation
    if next_timestep.last():
      self._pad(self._codec.n)
    if len(self._steps) >= _BURST:
      self._write()
      wait(
        lambda: self._writer.flush(_MAX_PENDING, timeout_ms=_FLUSH_TIMEOUT_MS),
        self._should_stop,
      )

  def _pad(self, rows: int) -> None:
    self._steps += rows * [{**self._zero, 'observation': self._observation}]
    self._rows += rows

  def _write(self) -> None:
    for step in self._steps:
      self._writer.append(self._codec.pack(step))
    self._steps.clear()

  def reset(self) -> None:
    """Ends the stream where it is; all that was added is then in the table.

    The last transitions of an episode under way are shorter: they bootstrap from where
    it is.

    Raises:
      Stopped: `should_stop` said so while replay took nothing.
    """
    if self._rows:
      segments = -(-self._end // self._segment)
      self._pad(segments * self._segment + self._codec.n - self._rows)
      self._write()
      self._rows = self._end = 0
      wait(lambda: self._writer.flush(timeout_ms=_FLUSH_TIMEOUT_MS), self._should_stop)
      self._writer.end_episode()


def wait(call: Callable[[], None], should_stop: Callable[[], bool]) -> None:
  """Calls until it does not time out, saying now and then on what it waits.

  Raises:
    Stopped: `should_stop` said so meanwhile.
  """
  begun = said = time.monotonic()
  while True:
    try:
      return call()
    except reverb.errors.DeadlineExceededError:
      if should_stop():
        raise Stopped() from None
      now = time.monotonic()
      if now - said > 30:
        said = now
        logging.warning(
          'replay has taken nothing for %.0f s: its rate limiter waits for the '
          'learner, or the server is gone',
          now - begun,
        )


def sample(
  client: reverb.Client,
  codec: Codec,
  config: config_lib.Config,
  stop: threading.Event,
) -> Iterator[tf.Tensor]:
  """Yields batches of `steps_per_call * batch_size` windows; see `Codec.unpack`.

  A thread fetches the next batches meanwhile, because a call that waits for the server
  cannot be interrupted.

  Args:
    client: of the replay server.
    codec: of what is in the table.
    config: sizes.
    stop: ends waiting for the server.

  Raises:
    Stopped: the run was stopped while there was nothing to sample.
  """
  items = config.d4pg.batch_size * config.d4pg.steps_per_call // config.replay.segment
  dataset = reverb.TrajectoryDataset.from_table_signature(
    client.server_address,
    TABLE,
    max_in_flight_samples_per_worker=items,
    num_workers_per_iterator=1,
  )
  # Batched first: a call for each sample would cost as much as learning from it.
  dataset = dataset.batch(items, drop_remainder=True)
  dataset = dataset.map(lambda batch: codec.shuffle(batch.data))
  batches = BackgroundIterator(iter(dataset), depth=2)
  begun = said = time.monotonic()
  while True:
    batch = batches.get(timeout=1.0)
    if batch is not None:
      yield batch
      begun = time.monotonic()
      continue
    if stop.is_set():
      raise Stopped()
    now = time.monotonic()
    if now - begun > 30 and now - said > 30:
      said = now
      logging.warning('no batch for %.0f s: %s', now - begun, describe(client, config))


def inserted(info: Any, config: config_lib.ReplayConfig) -> int:
  """Returns the control steps that have been written, padding included.

  Args:
    info: the server's on the table.
    config: the segments' length.
  """
  return info.rate_limiter_info.insert_stats.completed * config.segment


def describe(client: reverb.Client, config: config_lib.Config) -> str:
  """Returns in words what the replay table holds and waits for."""
  try:
    info = client.server_info(timeout=5)[TABLE]
  except (RuntimeError, reverb.errors.ReverbError) as e:
    return f'the replay server does not answer ({e})'
  segment, rates = config.replay.segment, info.rate_limiter_info
  return (
    f'replay holds {info.current_size * segment} transitions, sampling starts at '
    f'{rates.min_size_to_sample * segment}; {inserted(info, config.replay)} inserted, '
    f'{rates.sample_stats.completed * segment} sampled'
  )


class BackgroundIterator:
  """Reads an iterator in a thread, a few elements ahead."""

  def __init__(self, iterator: Iterator[Any], depth: int):
    """Starts the thread.

    Args:
      iterator: what to read.
      depth: elements held ready.
    """
    self._ready: list[Any] = []
    self._depth = depth
    self._error: Exception | None = None
    self._changed = threading.Condition()
    threading.Thread(target=self._read, args=(iterator,), daemon=True).start()

  def _read(self, iterator: Iterator[Any]) -> None:
    try:
      for element in iterator:
        with self._changed:
          self._changed.wait_for(lambda: len(self._ready) < self._depth)
          self._ready.append(element)
          self._changed.notify_all()
    except Exception as e:  # Handed to the reader, who can act on it.
      with self._changed:
        self._error = e
        self._changed.notify_all()

  def get(self, timeout: float) -> Any:
    """Returns the next element, or None after `timeout` seconds without one.

    Raises:
      Exception: whatever the iterator raised.
    """
    with self._changed:
      self._changed.wait_for(lambda: self._ready or self._error, timeout)
      if self._ready:
        element = self._ready.pop(0)
        self._changed.notify_all()
        return element
      if self._error:
        raise self._error
      return None
