"""Sampling: batches of rows from the replay server, fetched ahead."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import queue
import threading
import time
from typing import Any

import reverb
import tensorflow as tf

from agents import replay


class Starved(Exception):
  """A table had nothing to sample for a while."""

  def __init__(self, table: str):
    """Takes its name."""
    super().__init__(f'nothing to sample in {table}')
    self.table = table
    """Its name."""


class Sampler(Iterator[tf.Tensor]):
  """Yields `steps_per_call` batches at a time, as rows one after the other.

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
  ):
    """Begins to fetch.

    Args:
      client: of the replay server.
      sources_: rows of each batch by table; see `replay.sources`.
      steps_per_call: batches.
      timeout: seconds to wait for batches before raising `Starved`.
    """
    self._steps_per_call = steps_per_call
    self._timeout = timeout
    self._iterators = {
      table: BackgroundIterator(
        functools.partial(_batches, client, table, k, steps_per_call), depth=2
      )
      for table, k in sources_.items()
    }
    self._parts: dict[str, tf.Tensor] = {}

  def __next__(self) -> tf.Tensor:
    """Returns the next batches.

    Raises:
      Starved: there are none yet; what there is of them is kept for the next call.
    """
    for table, iterator in self._iterators.items():
      if table not in self._parts:
        batch = iterator.get(self._timeout)
        if batch is None:
          raise Starved(table)
        self._parts[table] = batch.data
    parts = [self._parts.pop(table) for table in self._iterators]
    if len(parts) == 1:
      return parts[0]
    batches = [tf.reshape(p, [self._steps_per_call, -1, p.shape[-1]]) for p in parts]
    return tf.reshape(tf.concat(batches, 1), [-1, parts[0].shape[-1]])


def _batches(
  client: reverb.Client, table: str, k: int, steps_per_call: int
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
      return iter(dataset.batch(k * steps_per_call, drop_remainder=True))
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
