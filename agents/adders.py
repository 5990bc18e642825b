"""Writing experience: the steps of environments become transitions in the table."""

import collections
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from acme import adders as acme_adders
import dm_env
import numpy as np
import reverb

from agents import replay
from agents import waiting

_MAX_PENDING = 16  # Rows of a burst still on their way when the next comes.
_BURST = 32  # Transitions written at a time; Reverb warns of 50 on their way.
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

  def append(self, row: np.ndarray) -> None:
    """Writes a row, at once or soon.

    Raises:
      waiting.Stopped: `should_stop` said so while replay took nothing.
    """
    self._rows.append(row)
    if len(self._rows) >= _BURST:
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


class StepAdder(acme_adders.Adder):
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
      waiting.Stopped: the run was stopped while replay took nothing.
    """
    reward, discount = next_timestep.reward, next_timestep.discount
    following = self._codec.flatten(next_timestep.observation)
    self._steps.append(
      _Step(
        self._observation,
        action,
        [reward[name] for name in self._codec.rewards],
        [discount[name] for name in self._codec.rewards],
        following,
      )
    )
    self._observation = following
    if len(self._steps) == self._codec.n:
      self._complete()
    if next_timestep.last():
      self._end()

  def _complete(self) -> None:
    """Writes the transition that begins with the oldest step."""
    steps = self._steps
    row = self._codec.pack(
      steps[0].observation,
      steps[0].action,
      [step.rewards for step in steps],
      [step.discounts for step in steps],
      [steps[min(n, len(steps)) - 1].following for n in self._codec.horizons],
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
