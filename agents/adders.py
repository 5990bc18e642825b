"""Writing experience: the steps of environments become transitions in the table."""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from acme import adders as acme_adders
import dm_env
import numpy as np
import reverb
from reverb import trajectory_writer

from agents import replay
from agents import waiting

_MAX_PENDING = 16  # Items of a burst still on their way when the next comes.
_BURST = 32  # Items written at a time; Reverb warns, at each, of 50 on their way.
_FLUSH_TIMEOUT_MS = 1000


class Writer:
  """Writes transitions of several environments, in bursts.

  A single one costs several times as much: the physics in between has emptied the
  processor's caches, and Reverb's threads are woken for each.
  """

  def __init__(
    self,
    client: reverb.Client,
    codec: replay.Codec,
    tables: Sequence[str],
    should_stop: Callable[[], bool],
  ):
    """Opens a stream to the server.

    Args:
      client: of the replay server.
      codec: that packs the rows.
      tables: in which each row shall be found.
      should_stop: asked while the server takes nothing.
    """
    self.codec = codec
    """That packs the rows."""
    self._writer = client.structured_writer(
      [replay.writer_config(codec, table) for table in tables]
    )
    self._should_stop = should_stop
    self._rows: list[np.ndarray] = []
    # A row is an item in each table.
    self._burst = _BURST // len(tables)

  def see(self, observation: Mapping[str, np.ndarray]) -> Any:
    """Returns what to hand to `append` of an observation's pictures: nothing."""
    del observation

  def append(
    self, row: np.ndarray, start: Any = None, ends: Sequence[Any] = ()
  ) -> None:
    """Writes a row, at once or soon.

    Args:
      row: of the codec.
      start: what `see` returned for the first observation.
      ends: likewise, of the last, for each of the codec's horizons.

    Raises:
      waiting.Stopped: `should_stop` said so while replay took nothing.
    """
    del start, ends
    self._rows.append(row)
    if len(self._rows) >= self._burst:
      self.flush(_MAX_PENDING)

  def flush(self, pending: int = 0) -> None:
    """Writes what there is, and waits until hardly any of it is under way.

    Args:
      pending: rows that may still be.

    Raises:
      waiting.Stopped: `should_stop` said so while replay took nothing.
    """
    for row in self._rows:
      self._writer.append(row)
    self._rows.clear()
    wait(
      lambda: self._writer.flush(pending, timeout_ms=_FLUSH_TIMEOUT_MS),
      self._should_stop,
    )


class PictureWriter:
  """Writes transitions with pictures, each of which is sent and kept once.

  Every picture and every row is a chunk of its own: whoever samples an item is sent two
  pictures then, and not all that were drawn in between.
  """

  def __init__(
    self,
    client: reverb.Client,
    codec: replay.Codec,
    tables: Mapping[str, int],
    environments: int,
    should_stop: Callable[[], bool],
  ):
    """Opens a stream to the server.

    Args:
      client: of the replay server.
      codec: that packs the rows.
      tables: in which each item shall be found, and over how many of the codec's
        horizons it goes there.
      environments: that write by turns.
      should_stop: asked while the server takes nothing.
    """
    self.codec = codec
    """That packs the rows."""
    assert codec.pictures is not None
    self._pictures = codec.pictures
    self._horizons = {name: codec.horizons.index(n) for name, n in tables.items()}
    self._should_stop = should_stop
    # Until its last item is made, each may write two pictures a step: of where an
    # episode ended, and of where the next one begins.
    kept = 2 * environments * (codec.n + 1)
    self._writer = client.trajectory_writer(num_keep_alive_refs=kept)
    for column in (replay.ROW, replay.PICTURES):
      self._writer.configure((column,), num_keep_alive_refs=kept, max_chunk_length=1)
    self._pending = 0

  def see(self, observation: Mapping[str, np.ndarray]) -> Any:
    """Writes an observation's pictures; returns a reference to them."""
    self._writer.append({replay.PICTURES: self._pictures.stack(observation)})
    (reference,) = self._writer.history[replay.PICTURES][-1]
    return reference

  def append(self, row: np.ndarray, start: Any, ends: Sequence[Any]) -> None:
    """Writes a row with its pictures; see `Writer.append`."""
    self._writer.append({replay.ROW: row})
    for table, horizon in self._horizons.items():
      pictures = trajectory_writer.TrajectoryColumn([start, ends[horizon]])
      item = {
        replay.ROW: self._writer.history[replay.ROW][-1],
        replay.PICTURES: pictures,
      }
      self._writer.create_item(table, 1.0, item)
      self._pending += 1
    if self._pending >= _BURST:
      self.flush(_MAX_PENDING)

  def flush(self, pending: int = 0) -> None:
    """Waits until hardly any item is under way; see `Writer.flush`."""
    self._pending = 0
    wait(
      lambda: self._writer.flush(pending, timeout_ms=_FLUSH_TIMEOUT_MS),
      self._should_stop,
    )


class StepAdder(acme_adders.Adder):
  """Makes transitions of the steps of one environment."""

  def __init__(self, writer: Writer | PictureWriter):
    """Begins with nothing.

    Args:
      writer: of this and other environments.
    """
    self._writer, self._codec = writer, writer.codec
    self._observation = np.zeros(0)
    self._seen: Any = None
    self._steps: collections.deque[_Step] = collections.deque()

  def add_first(self, timestep: dm_env.TimeStep) -> None:
    """Begins an episode."""
    self._observation = self._codec.flatten(timestep.observation)
    self._seen = self._writer.see(timestep.observation)

  def add(
    self, action: np.ndarray, next_timestep: dm_env.TimeStep, extras: Any = ()
  ) -> None:
    """Adds one step; the last one of an episode makes its last n transitions.

    Args:
      action: what was done, (9,) float32.
      next_timestep: what came of it.
      extras: nothing is kept of them.

    Raises:
      waiting.Stopped: the run was stopped while replay took nothing.
    """
    reward, discount = next_timestep.reward, next_timestep.discount
    following = self._codec.flatten(next_timestep.observation)
    then_seen = self._writer.see(next_timestep.observation)
    self._steps.append(
      _Step(
        self._observation,
        action,
        [reward[name] for name in self._codec.rewards],
        [discount[name] for name in self._codec.rewards],
        following,
        self._seen,
        then_seen,
      )
    )
    self._observation, self._seen = following, then_seen
    if len(self._steps) == self._codec.n:
      self._complete()
    if next_timestep.last():
      self._end()

  def _complete(self) -> None:
    """Writes the transition that begins with the oldest step."""
    steps = self._steps
    ends = [steps[min(n, len(steps)) - 1] for n in self._codec.horizons]
    row = self._codec.pack(
      steps[0].observation,
      steps[0].action,
      [step.rewards for step in steps],
      [step.discounts for step in steps],
      [end.following for end in ends],
    )
    start = self._steps.popleft()
    self._writer.append(row, start.seen, [end.then_seen for end in ends])

  def _end(self) -> None:
    while self._steps:
      self._complete()

  def reset(self) -> None:
    """Ends an episode where it is; all that was added is then in the table.

    The last transitions of an episode under way are shorter: they bootstrap from where
    it is.

    Raises:
      waiting.Stopped: the run was stopped while replay took nothing.
    """
    self._end()
    self._writer.flush()


class _Step(NamedTuple):
  observation: np.ndarray
  action: np.ndarray
  rewards: Sequence[float]
  discounts: Sequence[float]
  following: np.ndarray
  seen: Any
  then_seen: Any


def wait(call: Callable[[], None], should_stop: Callable[[], bool]) -> None:
  """Calls until it does not time out, saying now and then on what it waits.

  Raises:
    waiting.Stopped: `should_stop` said so meanwhile.
  """
  reminder = waiting.Reminder()
  while True:
    try:
      return call()
    except reverb.errors.DeadlineExceededError:
      if should_stop():
        raise waiting.Stopped() from None
      reminder.remind(
        lambda: (
          'replay to take something: its rate limiter waits for the learner, or '
          'the server is gone'
        )
      )
