"""The one table of all experience: what is written, how, and how it is sampled.

An item is a transition of n steps, packed into one row of numbers by the actor: what
Reverb charges, of writing and even more of sampling, is by column and by row. The
learner unpacks it and sums the n rewards. Both rewards and discounts of a step,
imitation's and the task's, are there; the goal is there by reference.

An unpacked batch is a dict of

  observation, next_observation: groups, (B, n), and goal, (B, 2) int32
  action: (B, 9)
  reward, discount: {imitation, task}, (B, n)
  real: (B, n), 1 for a step that was taken; see `losses.n_step_return`
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import threading
import time
from typing import Any, NamedTuple

from absl import logging
from acme import adders
import dm_env
from dm_env import specs
import numpy as np
import reverb
from reverb import structured_writer
import tensorflow as tf
import tree

from envs import imitation
from metamimic import config as config_lib

TABLE = 'experience'
_MAX_PENDING = 24  # Items on their way to the server; Reverb warns at about 50.
_BURST = 32  # Transitions that are written at a time.
_FLUSH_TIMEOUT_MS = 1000


class Stopped(Exception):
  """The run was asked to stop while something waited for replay."""


class Codec:
  """Packs a transition into one row of float32, and unpacks rows.

  The goal's integers are exact in float32 up to 2**24.
  """

  def __init__(self, environment: dm_env.Environment, n: int):
    """Lays out the row.

    Args:
      environment: gives the specs.
      n: steps of a transition.
    """
    self.n = n
    """Steps of a transition."""
    observation = dict(environment.observation_spec())
    self._groups = sorted(observation)
    self.rewards = sorted(environment.reward_spec())
    """Names of the rewards and discounts, in the row's order."""
    steps = specs.Array((n,), np.float32)
    # Flattened in the order of sorted keys, on which `pack` relies.
    spec = {
      'action': environment.action_spec(),
      'discount': dict.fromkeys(self.rewards, steps),
      'next_observation': observation,
      'observation': observation,
      'real': steps,
      'reward': dict.fromkeys(self.rewards, steps),
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

  def flatten(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns an observation as `pack` wants it."""
    return np.concatenate([observation[group] for group in self._groups])

  def pack(
    self,
    observation: np.ndarray,
    action: np.ndarray,
    rewards: Sequence[Sequence[float]],
    discounts: Sequence[Sequence[float]],
    next_observation: np.ndarray,
  ) -> np.ndarray:
    """Returns a transition as a row, (size,) float32.

    Args:
      observation: of `flatten`.
      action: what was done.
      rewards: of each step, at most n, in the order of `rewards`.
      discounts: likewise.
      next_observation: of `flatten`.
    """
    missing = (0.0,) * (self.n - len(rewards))
    # Not an array for each list: for so few numbers that would take most of the time.
    real_and_rewards = [1.0] * len(rewards) + [*missing]
    all_discounts: list[float] = []
    for i in range(len(self.rewards)):
      all_discounts += [step[i] for step in discounts]
      all_discounts += missing
      real_and_rewards += [step[i] for step in rewards]
      real_and_rewards += missing
    row = np.empty(self.size, np.float32)
    parts: Any = (
      action,
      all_discounts,
      next_observation,
      observation,
      real_and_rewards,
    )
    return np.concatenate(parts, out=row, casting='unsafe')

  def unpack(self, rows: tf.Tensor) -> dict[str, Any]:
    """Returns the batch of transitions that is described above.

    Args:
      rows: (B, size).
    """
    return tree.unflatten_as(
      self._structure,
      [
        tf.cast(tf.reshape(rows[:, part], [-1, *spec.shape]), spec.dtype)
        for part, spec in zip(self._slices, self._specs)  # noqa: B905 (autograph)
      ],
    )


def _writer_config(codec: Codec) -> Any:
  """The pattern that makes an item of each row."""
  row = structured_writer.create_reference_step(np.zeros(codec.size, np.float32))
  return structured_writer.create_config(row[-1], TABLE)


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
    max_size=replay.max_size,
    rate_limiter=reverb.rate_limiters.SampleToInsertRatio(
      replay.samples_per_insert, replay.min_size, buffer
    ),
    signature=structured_writer.infer_signature(
      [_writer_config(codec)], tf.TensorSpec([codec.size], tf.float32)
    ),
  )


class Writer:
  """Writes transitions of several environments, in bursts.

  A single one costs several times as much: the physics in between has emptied the
  processor's caches, and Reverb's threads are woken for each.
  """

  def __init__(
    self, client: reverb.Client, codec: Codec, should_stop: Callable[[], bool]
  ):
    """Opens a stream to the server.

    Args:
      client: of the replay server.
      codec: that packs the rows.
      should_stop: asked while the server takes nothing.
    """
    self.codec = codec
    """That packs the rows."""
    self._writer = client.structured_writer([_writer_config(codec)])
    self._should_stop = should_stop
    self._rows: list[np.ndarray] = []

  def append(self, row: np.ndarray) -> None:
    """Writes a row, at once or soon.

    Raises:
      Stopped: `should_stop` said so while replay took nothing.
    """
    self._rows.append(row)
    if len(self._rows) >= _BURST:
      self.flush(_MAX_PENDING)

  def flush(self, pending: int = 0) -> None:
    """Writes what there is, and waits until hardly any of it is under way.

    Args:
      pending: rows that may still be.

    Raises:
      Stopped: `should_stop` said so while replay took nothing.
    """
    for row in self._rows:
      self._writer.append(row)
    self._rows.clear()
    wait(
      lambda: self._writer.flush(pending, timeout_ms=_FLUSH_TIMEOUT_MS),
      self._should_stop,
    )


class StepAdder(adders.Adder):
  """Makes transitions of the steps of one environment."""

  def __init__(self, writer: Writer):
    """Begins with nothing.

    Args:
      writer: of this and other environments.
    """
    self._writer, self._codec = writer, writer.codec
    self._observation = np.zeros(0)
    self._steps: collections.deque[_Step] = collections.deque()

  def add_first(self, timestep: dm_env.TimeStep) -> None:
    """Begins an episode."""
    self._observation = self._codec.flatten(timestep.observation)

  def add(
    self, action: np.ndarray, next_timestep: dm_env.TimeStep, extras: Any = ()
  ) -> None:
    """Adds one step; the last one of an episode makes its last n transitions.

    Args:
      action: what was done, (9,) float32.
      next_timestep: what came of it.
      extras: nothing is kept of them.

    Raises:
      Stopped: the run was stopped while replay took nothing.
    """
    reward, discount = next_timestep.reward, next_timestep.discount
    self._steps.append(
      _Step(
        self._observation,
        action,
        [reward[name] for name in self._codec.rewards],
        [discount[name] for name in self._codec.rewards],
      )
    )
    self._observation = self._codec.flatten(next_timestep.observation)
    if len(self._steps) == self._codec.n:
      self._complete()
    if next_timestep.last():
      self._end()

  def _complete(self) -> None:
    """Writes the transition from the oldest step to the present observation."""
    row = self._codec.pack(
      self._steps[0].observation,
      self._steps[0].action,
      [step.rewards for step in self._steps],
      [step.discounts for step in self._steps],
      self._observation,
    )
    self._steps.popleft()
    self._writer.append(row)

  def _end(self) -> None:
    while self._steps:
      self._complete()

  def reset(self) -> None:
    """Ends an episode where it is; all that was added is then in the table.

    The last transitions of an episode under way are shorter: they bootstrap from where
    it is.

    Raises:
      Stopped: the run was stopped while replay took nothing.
    """
    self._end()
    self._writer.flush()


class _Step(NamedTuple):
  observation: np.ndarray
  action: np.ndarray
  rewards: Sequence[float]
  discounts: Sequence[float]


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
  """Yields batches of `steps_per_call * batch_size` rows; see `Codec.unpack`.

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
