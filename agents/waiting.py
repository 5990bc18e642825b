"""Waiting for others: said now and then, and never for ever in a call that is deaf."""

from collections.abc import Callable
from concurrent import futures
import threading
import time
from typing import Generic, TypeVar

from absl import logging

PERIOD = 15.0
"""Seconds between two messages on what something waits. So the launcher, which warns
later of a run that stands still, finds one in the node's log to quote."""

_T = TypeVar('_T')


class Stopped(InterruptedError):
  """The run was asked to stop while something waited."""


class Reminder:
  """Says now and then on what something waits."""

  def __init__(self) -> None:
    """The waiting begins now."""
    self._begun = self._said = time.monotonic()

  def remind(self, describe: Callable[[], str]) -> None:
    """Says it, if it was not said for a while.

    Args:
      describe: returns on what it waits, to be read after "waiting 15 s for".
    """
    now = time.monotonic()
    if now - self._said >= PERIOD:
      self._said = now
      logging.warning('waiting %.0f s for %s', now - self._begun, describe())


class Call(Generic[_T]):
  """A call that may take for ever, one at a time, in a thread of its own.

  While a server is away Reverb's calls neither end nor let a signal through. They go on
  by themselves when it is back, so a call that was given up is waited for once more,
  and not made again. A process does not wait for it to leave.
  """

  def __init__(self, function: Callable[..., _T]) -> None:
    """Takes what is to be called."""
    self._function = function
    self._pending: futures.Future[_T] | None = None

  @property
  def under_way(self) -> bool:
    """Whether it was called, and nobody has had what came of it."""
    return self._pending is not None

  def __call__(self, timeout: float, *args: object) -> _T:
    """Calls, or waits for the call that is under way.

    Args:
      timeout: seconds to wait.
      *args: what it is called with, unless a call is under way.

    Raises:
      TimeoutError: it has not returned yet.
      Exception: whatever the function raises.
    """
    if self._pending is None:
      self._pending = futures.Future()
      # Not an executor's, which would be joined when the process leaves.
      threading.Thread(
        target=self._run, args=(self._pending, args), daemon=True
      ).start()
    pending = self._pending
    # Not `result`: it raises the same where the function has raised that of its own, or
    # has returned just after the time was over.
    if not futures.wait([pending], timeout).done:
      raise TimeoutError(f'no answer in {timeout:g} s')
    self._pending = None
    return pending.result()

  def _run(self, made: 'futures.Future[_T]', args: tuple[object, ...]) -> None:
    try:
      made.set_result(self._function(*args))
    except BaseException as e:  # Any: it is raised in the thread that waits.
      made.set_exception(e)
