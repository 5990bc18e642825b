"""The one table of all experience: what is written, how, and how it is sampled.

An actor writes every control step once. The table's items are windows of n + 1 steps,
cut by Reverb itself, so that writing costs one append a step; the learner sums the n
rewards when it samples. Both rewards and discounts of a step, imitation's and the
task's, are in the item; the goal is there by reference.

A sampled batch is a dict of

  observation, next_observation: groups, (B, n), and goal, (B, 2) int32
  action: (B, 9)
  reward, discount: {imitation, task}, (B, n)
  real: (B, n), 1 for a step that was taken; see `losses.n_step_return`
"""

import threading
import time
from typing import Any, Callable, Iterator

from absl import logging
from acme import adders
import dm_env
import numpy as np
import reverb
from reverb import structured_writer
import tensorflow as tf

from envs import imitation
from metamimic import config as config_lib

TABLE = 'experience'
_MAX_PENDING = 40  # Items on their way to the server; Reverb warns at about 128.
_FLUSH_TIMEOUT_MS = 1000


class Stopped(Exception):
  """The run was asked to stop while something waited for replay."""


def _step_spec(environment: dm_env.Environment) -> dict[str, Any]:
  return {
      'observation': dict(environment.observation_spec()),
      'action': environment.action_spec(),
      'reward': environment.reward_spec(),
      'discount': environment.discount_spec(),
      'real': environment.discount_spec()[imitation.IMITATION],
  }


def _writer_config(step_spec: Any, n: int):  # noqa: ANN202
  """The pattern that cuts n-step transitions out of the stream of steps."""
  step = structured_writer.create_reference_step(step_spec)
  over_n = slice(-n - 1, -1)
  pick = tf.nest.map_structure
  pattern = {
      'observation': pick(lambda c: c[-n - 1], step['observation']),
      'action': step['action'][-n - 1],
      'reward': pick(lambda c: c[over_n], step['reward']),
      'discount': pick(lambda c: c[over_n], step['discount']),
      'real': step['real'][over_n],
      'next_observation': pick(lambda c: c[-1], step['observation']),
  }
  return structured_writer.create_config(pattern, TABLE)


def table(
    environment: imitation.ImitationEnvironment, config: config_lib.Config
) -> reverb.Table:
  """Returns the table of all experience.

  Args:
    environment: gives the specs.
    config: sizes, n, and how often an item is sampled.
  """
  spec = _step_spec(environment)
  step_spec = tf.nest.map_structure(lambda s: tf.TensorSpec(s.shape, s.dtype), spec)
  writer = _writer_config(spec, config.d4pg.n_step)
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
      signature=structured_writer.infer_signature([writer], step_spec),
  )


class StepAdder(adders.Adder):
  """Writes the steps of one environment."""

  def __init__(
      self,
      client: reverb.Client,
      environment: imitation.ImitationEnvironment,
      n: int,
      stop: threading.Event,
  ):
    """Opens a stream to the server.

    Args:
      client: of the replay server.
      environment: gives the specs.
      n: steps of a transition.
      stop: ends waiting for the server.
    """
    spec = _step_spec(environment)
    self._writer = client.structured_writer([_writer_config(spec, n)])
    self._n = n
    self._stop = stop
    zero = tf.nest.map_structure(lambda s: np.zeros(s.shape, s.dtype), spec)
    self._padding = zero
    self._observation: Any = None
    self._real = np.float32(1)

  def add_first(self, timestep: dm_env.TimeStep) -> None:
    """Begins an episode."""
    self._observation = timestep.observation

  def add(
      self, action: np.ndarray, next_timestep: dm_env.TimeStep, extras: Any = ()
  ) -> None:
    """Writes one step; the last one of an episode makes its last n transitions too.

    Args:
      action: what was done, (9,) float32.
      next_timestep: what came of it.
      extras: nothing is kept of them.

    Raises:
      Stopped: the run was stopped while replay took nothing.
    """
    self._writer.append({
        'observation': self._observation,
        'action': action,
        'reward': next_timestep.reward,
        'discount': next_timestep.discount,
        'real': self._real,
    })
    self._observation = next_timestep.observation
    if next_timestep.last():
      for _ in range(self._n):
        self._writer.append({**self._padding, 'observation': self._observation})
      wait(lambda: self._writer.end_episode(timeout_ms=_FLUSH_TIMEOUT_MS), self._stop)
    else:
      wait(
          lambda: self._writer.flush(_MAX_PENDING, timeout_ms=_FLUSH_TIMEOUT_MS),
          self._stop,
      )

  def reset(self) -> None:
    """Forgets an unfinished episode."""
    self._writer.end_episode(timeout_ms=_FLUSH_TIMEOUT_MS)


def wait(call: Callable[[], None], stop: threading.Event) -> None:
  """Calls until it does not time out, saying now and then on what it waits.

  Raises:
    Stopped: `stop` was set meanwhile.
  """
  begun = said = time.monotonic()
  while True:
    try:
      return call()
    except reverb.errors.DeadlineExceededError:
      if stop.is_set():
        raise Stopped() from None
      now = time.monotonic()
      if now - said > 30:
        said = now
        logging.warning(
            'replay has taken nothing for %.0f s: its rate limiter waits for the '
            'learner, or the server is gone', now - begun
        )


def sample(
    client: reverb.Client, config: config_lib.D4PGConfig, stop: threading.Event
) -> Iterator[dict[str, Any]]:
  """Yields batches of `steps_per_call * batch_size` transitions.

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
      max_in_flight_samples_per_worker=2 * size,
      num_workers_per_iterator=1,
  )
  dataset = dataset.map(lambda sample: sample.data).batch(size, drop_remainder=True)
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
