"""The one table of all experience: what an item is, and how it is sampled.

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

from collections.abc import Iterator, Mapping, Sequence
import queue
import threading
import time
from typing import Any

from absl import logging
from acme import specs
import numpy as np
import reverb
from reverb import structured_writer
import tensorflow as tf
import tree

from envs import imitation
from envs import observations
from envs import stepping
from metamimic import config as config_lib

TABLE = 'experience'


class Stopped(Exception):
  """The run was asked to stop while something waited for replay."""


def spec(layout: observations.Layout) -> specs.EnvironmentSpec:
  """Returns the specs of an imitation environment with such observations."""
  return specs.EnvironmentSpec(
    observations=imitation.observation_spec(layout),
    actions=stepping.ACTION_SPEC,
    rewards=imitation.REWARD_SPEC,
    discounts=imitation.DISCOUNT_SPEC,
  )


class Codec:
  """Packs a transition into one row of float32, and unpacks rows.

  The goal's integers are exact in float32 up to 2**24.
  """

  def __init__(self, environment_spec: specs.EnvironmentSpec, n: int):
    """Lays out the row.

    Args:
      environment_spec: of the environment.
      n: steps of a transition.
    """
    self.n = n
    """Steps of a transition."""
    observation = dict(environment_spec.observations)
    self._groups = sorted(observation)
    self.rewards = sorted(environment_spec.rewards)
    """Names of the rewards and discounts, in the row's order."""
    steps = specs.Array((n,), np.float32)
    # Flattened in the order of sorted keys, on which `pack` relies.
    self._structure = {
      'action': environment_spec.actions,
      'discount': dict.fromkeys(self.rewards, steps),
      'next_observation': observation,
      'observation': observation,
      'real': steps,
      'reward': dict.fromkeys(self.rewards, steps),
    }
    self._specs = tree.flatten(self._structure)
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
        for part, spec in zip(self._slices, self._specs, strict=True)
      ],
    )


def writer_config(codec: Codec) -> Any:
  """The pattern that makes an item of each row."""
  row = structured_writer.create_reference_step(np.zeros(codec.size, np.float32))
  return structured_writer.create_config(row[-1], TABLE)


def table(
  environment_spec: specs.EnvironmentSpec, config: config_lib.Config
) -> reverb.Table:
  """Returns the table of all experience.

  Args:
    environment_spec: of the environment.
    config: sizes, n, and how often an item is sampled.
  """
  codec = Codec(environment_spec, config.d4pg.n_step)
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
      [writer_config(codec)], tf.TensorSpec([codec.size], tf.float32)
    ),
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
    self._ready: queue.Queue[Any] = queue.Queue(depth)
    threading.Thread(target=self._read, args=(iterator,), daemon=True).start()

  def _read(self, iterator: Iterator[Any]) -> None:
    try:
      for element in iterator:
        self._ready.put(element)
    except Exception as e:  # Handed to the reader, who can act on it.
      self._ready.put(e)

  def get(self, timeout: float) -> Any:
    """Returns the next element, or None after `timeout` seconds without one.

    Raises:
      Exception: whatever the iterator raised.
    """
    try:
      element = self._ready.get(timeout=timeout)
    except queue.Empty:
      return None
    if isinstance(element, Exception):
      raise element
    return element
