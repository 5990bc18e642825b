"""The one table of all experience: what is written, how, and how it is sampled.

An actor writes every control step once. The table's items are windows of n + 1 steps,
cut by Reverb itself, so that writing costs one append a step; the learner unpacks them
and sums the n rewards. Both rewards and discounts of a step, imitation's and the
task's, are in the item; the goal is there by reference.

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
_BURST = 16  # Steps that are written at a time.
_FLUSH_TIMEOUT_MS = 1000


class Stopped(Exception):
  """The run was asked to stop while something waited for replay."""


class Codec:
  """Packs a control step into one row of float32, and unpacks windows of rows.

  One column instead of a dozen: Reverb's cost, of writing and even more of sampling, is
  by column. The goal's integers are exact in float32 up to 2**24.
  """

  def __init__(self, environment: dm_env.Environment):
    """Lays out the row.

    Args:
      environment: gives the specs.
    """
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
    self.size = int(ends[-1])
    """Numbers in a row."""

  def pack(self, step: Mapping[str, Any]) -> np.ndarray:
    """Returns a step, by the names of the module's docstring, as a row, (size,)."""
    row = np.empty(self.size, np.float32)
    for part, value in zip(self._slices, tree.flatten(step), strict=True):
      row[part] = value
    return row

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


def _writer_config(codec: Codec, n: int) -> Any:
  """The pattern that cuts windows of n + 1 steps out of the stream of steps."""
  row = structured_writer.create_reference_step(np.zeros(codec.size, np.float32))
  return structured_writer.create_config(row[-n - 1 :], TABLE)


def table(
  environment: imitation.ImitationEnvironment, config: config_lib.Config
) -> reverb.Table:
  """Returns the table of all experience.

  Args:
    environment: gives the specs.
    config: sizes, n, and how often an item is sampled.
  """
  codec = Codec(environment)
  row = tf.TensorSpec([codec.size], tf.float32)
  writer = _writer_config(codec, config.d4pg.n_step)
  replay = config.replay
  # Wide enough that neither side waits for the other's batch or episode: a learner
  # takes a whole call's samples at once.
  batch = config.d4pg.batch_size * config.d4pg.steps_per_call
  buffer = max(4 * batch, 0.1 * replay.samples_per_insert * replay.min_size)
  return reverb.Table(
    TABLE,
    sampler=reverb.selectors.Uniform(),
    remover=reverb.selectors.Fifo(),
    max_size=replay.max_size,
    rate_limiter=reverb.rate_limiters.SampleToInsertRatio(
      replay.samples_per_insert, replay.min_size, buffer
    ),
    signature=structured_writer.infer_signature([writer], row),
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
    n: int,
    should_stop: Callable[[], bool],
  ):
    """Opens a stream to the server.

    Args:
      client: of the replay server.
      environment: gives the specs.
      n: steps of a transition.
      should_stop: asked while the server takes nothing.
    """
    self._codec = Codec(environment)
    self._writer = client.structured_writer([_writer_config(self._codec, n)])
    self._n = n
    self._should_stop = should_stop
    self._zero = {
      'action': np.zeros(environment.action_spec().shape),
      'reward': dict.fromkeys(environment.reward_spec(), 0.0),
      'discount': dict.fromkeys(environment.discount_spec(), 0.0),
      'real': 0.0,
    }
    self._observation: Any = None
    self._steps: list[dict[str, Any]] = []

  def add_first(self, timestep: dm_env.TimeStep) -> None:
    """Begins an episode."""
    self._observation = timestep.observation

  def add(
    self, action: np.ndarray, next_timestep: dm_env.TimeStep, extras: Any = ()
  ) -> None:
    """Adds one step; the last one of an episode makes its last n transitions too.

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
    self._observation = next_timestep.observation
    if next_timestep.last():
      padding = {**self._zero, 'observation': self._observation}
      self._steps += [padding] * self._n
      self._write()
      wait(
        lambda: self._writer.end_episode(timeout_ms=_FLUSH_TIMEOUT_MS),
        self._should_stop,
      )
    elif len(self._steps) >= _BURST:
      self._write()
      wait(
        lambda: self._writer.flush(_MAX_PENDING, timeout_ms=_FLUSH_TIMEOUT_MS),
        self._should_stop,
      )

  def _write(self) -> None:
    for step in self._steps:
      self._writer.append(self._codec.pack(step))
    self._steps.clear()

  def reset(self) -> None:
    """Ends an episode where it is; its transitions of n steps stay."""
    self._write()
    self._writer.end_episode(timeout_ms=_FLUSH_TIMEOUT_MS)


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
  client: reverb.Client, config: config_lib.D4PGConfig, stop: threading.Event
) -> Iterator[tf.Tensor]:
  """Yields batches of `steps_per_call * batch_size` windows; see `Codec.unpack`.

  A thread fetches the next batches meanwhile, because a call that waits for the server
  cannot be interrupted.

  Args:
    client: of the replay server.
    config: sizes.
    stop: ends waiting for the server.

  Raises:
    Stopped: the run was stopped while there was nothing to sample.
  """
  size = config.batch_size * config.steps_per_call
  dataset = reverb.TrajectoryDataset.from_table_signature(
    client.server_address,
    TABLE,
    max_in_flight_samples_per_worker=2 * config.batch_size,
    num_workers_per_iterator=1,
  )
  # Batched first: a call for each sample would cost as much as learning from it.
  dataset = dataset.batch(size, drop_remainder=True)
  batches = BackgroundIterator(iter(dataset), depth=2)
  begun = said = time.monotonic()
  while True:
    batch = batches.get(timeout=1.0)
    if batch is not None:
      yield batch.data
      begun = time.monotonic()
      continue
    if stop.is_set():
      raise Stopped()
    now = time.monotonic()
    if now - begun > 30 and now - said > 30:
      said = now
      logging.warning('no batch for %.0f s: %s', now - begun, describe(client))


def describe(client: reverb.Client) -> str:
  """Returns in words what the replay table holds and waits for."""
  try:
    info = client.server_info(timeout=5)[TABLE]
  except (RuntimeError, reverb.errors.ReverbError) as e:
    return f'the replay server does not answer ({e})'
  rates = info.rate_limiter_info
  return (
    f'replay holds {info.current_size} transitions, sampling starts at '
    f'{rates.min_size_to_sample}; {rates.insert_stats.completed} inserted, '
    f'{rates.sample_stats.completed} sampled'
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
