"""A policy's parameters, from its learner to everybody, as plain tensors.

They travel through Reverb tables of size one: one kind of server, one protocol, and no
port that decodes objects. A learner has one for those who act, and another for those
who use the policy, if they get an average.
"""

from collections.abc import Callable, Sequence
import time
from typing import NamedTuple

import numpy as np
import reverb
import tensorflow as tf

from agents import replay
from agents import waiting
from metamimic import config as config_lib

_PATIENCE = 1.0  # Seconds for the server to answer those who can wait.
# Seconds for it to answer who learns or acts; then it goes on in the background.
_BRIEF = 0.002


class Progress(NamedTuple):
  """How far the learner was when it published."""

  learner_steps: int
  finished: bool
  """Whether that was its last step, and is saved."""


def used(config: config_lib.Config, learner: str) -> str:
  """Returns under which name a learner publishes what is evaluated."""
  return f'{learner}_averaged' if config.averages(learner) else learner


def names(config: config_lib.Config, learner: str) -> list[str]:
  """Returns all names under which a learner publishes; its own is for those who act."""
  return list(dict.fromkeys([learner, used(config, learner)]))


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
  """Replaces what is published; waits for the server if it is away.

  Args:
    client: of the server.
    learner: its name.
    variables: in an order that readers know.
    learner_steps: how far the learner is.
  """
  client.insert(_values(variables, learner_steps), {table_name(learner): 1.0})


def _values(variables: Sequence[tf.Variable], learner_steps: int) -> list[np.ndarray]:
  return [np.array(learner_steps, np.int64), *(v.numpy() for v in variables)]


class Publisher:
  """Publishes a learner's parameters, and does not wait for a slow server.

  A server that is restored has older parameters until the learner publishes again.
  """

  def __init__(
    self,
    client: reverb.Client,
    learner: str,
    variables: Sequence[tf.Variable],
    num_steps: Callable[[], int],
  ):
    """Publishes nothing yet.

    Args:
      client: of the server.
      learner: its name.
      variables: in an order that readers know.
      num_steps: returns how far the learner is.
    """
    self._client = client
    self._learner = learner
    self._variables = list(variables)
    self._num_steps = num_steps
    self._insert = waiting.Call(self._insert_now)

  def publish(self, timeout: float = _BRIEF) -> int | None:
    """Replaces what is published; returns its learner step, None: not yet.

    It is then done in the background. While that takes, nothing newer is sent.

    Args:
      timeout: seconds to wait.
    """
    try:
      if self._insert.under_way:
        self._insert(timeout)
      # As they are now: they may have changed before the server has them.
      return self._insert(timeout, _values(self._variables, self._num_steps()))
    except (TimeoutError, *replay.GONE):
      return None

  def publish_surely(self, should_stop: Callable[[], bool]) -> None:
    """Publishes the present parameters, or is stopped before there is a server."""
    reminder = waiting.Reminder()
    while self.publish(_PATIENCE) != self._num_steps() and not should_stop():
      reminder.remind(lambda: f'the replay server, to publish for {self._learner}')

  def _insert_now(self, values: Sequence[np.ndarray]) -> int:
    self._client.insert(values, {table_name(self._learner): 1.0})
    return int(values[0])


class Reader:
  """Copies the published parameters into variables."""

  def __init__(
    self,
    client: reverb.Client,
    learner: str,
    variables: Sequence[tf.Variable],
    last_step: int,
    period: float = 0.0,
    is_saved: Callable[[], bool] = lambda: True,
    can_wait: bool = True,
  ):
    """Reads nothing yet.

    Args:
      client: of the server.
      learner: whose parameters to read.
      variables: as those that are published.
      last_step: after which the learner is done. Not for the learner to tell: a resumed
        run may have another one than was published.
      period: seconds that must pass between two fetches of `update`.
      is_saved: says of a learner that has published its last step whether that is in a
        checkpoint set. Before, its end may be lost with it.
      can_wait: whether `update` waits for the server. An actor has no time for that: it
        gets what has been on its way since an earlier call.
    """
    self._client = client
    self._table = table_name(learner)
    self._variables = list(variables)
    self._last_step = last_step
    self._period = period
    self._is_saved = is_saved
    self._patience = _PATIENCE if can_wait else _BRIEF
    self._fetched = -float('inf')
    self._fetch = waiting.Call(self._fetch_now)
    self.progress = Progress(0, False)
    """The learner's, when it published what was read last."""

  def wait(self, should_stop: Callable[[], bool]) -> bool:
    """Waits for the first parameters and reads them; False: was stopped instead."""
    reminder, before = waiting.Reminder(), self._fetched
    while not should_stop():
      info = replay.info(self._client)
      if info is not None and info[self._table].current_size:
        self._update(_PATIENCE)
        if self._fetched > before:
          return True
      reminder.remind(lambda: f'the first parameters in {self._table}')
      time.sleep(0.2)
    return False

  def wait_for_learning(self, should_stop: Callable[[], bool]) -> None:
    """Waits until the learner publishes again, as it does once it learns.

    Before, it compiles. What was read stays as it is.
    """
    reminder = waiting.Reminder()
    while not should_stop():
      info = replay.info(self._client)
      if info and info[self._table].rate_limiter_info.insert_stats.completed > 1:
        return
      reminder.remind(lambda: f'learning to begin, and more in {self._table}')
      time.sleep(0.2)

  def update(self) -> Progress:
    """Reads the newest parameters, at most once a `period`.

    They stay as they are while the server does not answer.
    """
    if time.monotonic() - self._fetched < self._period:
      return self.progress
    return self._update(self._patience)

  def _update(self, timeout: float) -> Progress:
    try:
      steps, *values = self._fetch(timeout)
    except (TimeoutError, *replay.GONE):
      return self.progress
    self._fetched = time.monotonic()
    for variable, value in zip(self._variables, values, strict=True):
      variable.assign(value[0])
    finished = int(steps[0]) >= self._last_step and self._is_saved()
    self.progress = Progress(int(steps[0]), finished)
    return self.progress

  def _fetch_now(self) -> Sequence[np.ndarray]:
    return next(self._client.sample(self._table, emit_timesteps=False)).data
