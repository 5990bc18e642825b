"""Sampling: batches of rows from the replay server, fetched ahead."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import functools
import queue
import threading
import time
from typing import Any

import numpy as np
import reverb
import tensorflow as tf

from agents import replay
from metamimic.demonstrations import goals


class Starved(Exception):
  """A table had nothing to sample for a while."""

  def __init__(self, table: str):
    """Takes its name."""
    super().__init__(f'nothing to sample in {table}')
    self.table = table
    """Its name."""


class Sampler(Iterator[Any]):
  """Yields `steps_per_call` batches at a time, as items one after the other.

  A thread for each table fetches the next ones meanwhile, because a call that waits for
  the server cannot be interrupted. It goes on by itself when a server that was gone is
  back. Which rows come is the server's choice, at random and without a seed.
  """

  def __init__(
    self,
    client: reverb.Client,
    sources_: Mapping[str, int],
    steps_per_call: int,
    timeout: float = 1.0,
    complete: Callable[[Any], Any] = lambda items: items,
  ):
    """Begins to fetch.

    Args:
      client: of the replay server.
      sources_: rows of each batch by table; see `replay.sources`.
      steps_per_call: batches.
      timeout: seconds to wait for batches before raising `Starved`.
      complete: what to do to the items of a table; called in its thread.
    """
    self._steps_per_call = steps_per_call
    self._timeout = timeout
    self._iterators = {
      table: BackgroundIterator(
        functools.partial(_batches, client, table, k, steps_per_call, complete), depth=2
      )
      for table, k in sources_.items()
    }
    self._parts: dict[str, Any] = {}

  def __next__(self) -> Any:
    """Returns the next batches.

    Raises:
      Starved: there are none yet; what there is of them is kept for the next call.
    """
    for table, iterator in self._iterators.items():
      if table not in self._parts:
        batch = iterator.get(self._timeout)
        if batch is None:
          raise Starved(table)
        self._parts[table] = batch
    parts = [self._parts.pop(table) for table in self._iterators]
    if len(parts) == 1:
      return parts[0]
    return tf.nest.map_structure(self._merged, *parts)

  def _merged(self, *parts: tf.Tensor) -> tf.Tensor:
    """Returns items of several tables so that each batch has its share of each."""
    shape = parts[0].shape[1:]
    batches = [tf.reshape(part, [self._steps_per_call, -1, *shape]) for part in parts]
    return tf.reshape(tf.concat(batches, 1), [-1, *shape])


class WithGoals:
  """Adds to items the pictures that their goals refer to."""

  def __init__(
    self,
    codec: replay.Codec,
    bank: goals.PictureBank,
    look_ahead: Sequence[int],
    n: int,
  ):
    """Takes what it looks up.

    Args:
      codec: of the items' rows.
      bank: the demonstrations' pictures.
      look_ahead: control steps ahead, K of them.
      n: steps of a transition, one of the codec's horizons.
    """
    self._codec, self._bank = codec, bank
    self._look_ahead, self._n = look_ahead, n

  def __call__(self, items: Any) -> Any:
    """Returns the items with `replay.GOALS`."""
    both = self._codec.goals(items[replay.ROW].numpy(), self._n)
    found = [self._bank.lookup(goal, self._look_ahead) for goal in both]
    return {**items, replay.GOALS: tf.constant(np.stack(found, 1))}


def _batches(
  client: reverb.Client,
  table: str,
  k: int,
  steps_per_call: int,
  complete: Callable[[Any], Any],
) -> Iterator[Any]:
  while True:
    with contextlib.suppress(*replay.GONE):
      dataset = reverb.TrajectoryDataset.from_table_signature(
        client.server_address,
        table,
        max_in_flight_samples_per_worker=2 * k,
        num_workers_per_iterator=1,
      )
      # Batched first: a call for each sample would cost as much as learning from it.
      samples = iter(dataset.batch(k * steps_per_call, drop_remainder=True))
      return (complete(sample.data) for sample in samples)
    time.sleep(1)


class BackgroundIterator:
  """Reads an iterator in a thread, a few elements ahead."""

  def __init__(self, make: Callable[[], Iterator[Any]], depth: int):
    """Starts the thread.

    Args:
      make: called there; returns what to read.
      depth: elements held ready.
    """
    self._ready: queue.Queue[Any] = queue.Queue(depth)
    threading.Thread(target=self._read, args=(make,), daemon=True).start()

  def _read(self, make: Callable[[], Iterator[Any]]) -> None:
    try:
      for element in make():
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
