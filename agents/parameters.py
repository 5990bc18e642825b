"""A policy's parameters, from its learner to everybody, as plain tensors.

They travel through a Reverb table of size one for each learner: one kind of server, one
protocol, and no port that decodes objects.
"""

from collections.abc import Callable, Sequence
import time
from typing import NamedTuple

from absl import logging
import numpy as np
import reverb
import tensorflow as tf


class Progress(NamedTuple):
  """How far the learner was when it published."""

  learner_steps: int
  finished: bool
  """Whether that was its last step."""


def table_name(learner: str) -> str:
  """Returns the name of the table of a learner's parameters."""
  return f'parameters_{learner}'


def table(learner: str) -> reverb.Table:
  """Returns the table of size one."""
  return reverb.Table(
    table_name(learner),
    sampler=reverb.selectors.Fifo(),
    remover=reverb.selectors.Fifo(),
    max_size=1,
    rate_limiter=reverb.rate_limiters.MinSize(1),
  )


def publish(
  client: reverb.Client,
  learner: str,
  variables: Sequence[tf.Variable],
  learner_steps: int,
) -> None:
  """Replaces what is published.

  Args:
    client: of the server.
    learner: its name.
    variables: in an order that readers know.
    learner_steps: how far the learner is.
  """
  values = [np.array(learner_steps, np.int64), *(v.numpy() for v in variables)]
  client.insert(values, {table_name(learner): 1.0})


class Reader:
  """Copies the published parameters into variables."""

  def __init__(
    self,
    client: reverb.Client,
    learner: str,
    variables: Sequence[tf.Variable],
    last_step: int,
    period: float = 0.0,
  ):
    """Reads nothing yet.

    Args:
      client: of the server.
      learner: whose parameters to read.
      variables: as those that are published.
      last_step: after which the learner is done. Not for the learner to tell: a resumed
        run may have another one than was published.
      period: seconds that must pass between two fetches of `update`.
    """
    self._client = client
    self._table = table_name(learner)
    self._variables = list(variables)
    self._last_step = last_step
    self._period = period
    self._fetched = -float('inf')
    self.progress = Progress(0, False)
    """The learner's, when it published what was read last."""

  def wait(self, should_stop: Callable[[], bool]) -> bool:
    """Waits for the first parameters and reads them; False: was stopped instead."""
    begun = said = time.monotonic()
    while not should_stop():
      try:
        if self._client.server_info(timeout=5)[self._table].current_size:
          self.update()
          return True
      except (RuntimeError, reverb.errors.ReverbError) as e:
        logging.info('the replay server does not answer yet: %s', e)
      now = time.monotonic()
      if now - said > 30:
        said = now
        logging.warning('waiting %.0f s for %s', now - begun, self._table)
      time.sleep(0.2)
    return False

  def update(self) -> Progress:
    """Reads the newest parameters, at most once a `period`."""
    now = time.monotonic()
    if now - self._fetched < self._period:
      return self.progress
    self._fetched = now
    sample = next(self._client.sample(self._table, emit_timesteps=False))
    steps, *values = sample.data
    for variable, value in zip(self._variables, values, strict=True):
      variable.assign(value[0])
    self.progress = Progress(int(steps[0]), int(steps[0]) >= self._last_step)
    return self.progress
