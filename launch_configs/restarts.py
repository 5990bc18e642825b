"""When a node that died is started again, and what it died of."""

from collections.abc import Mapping
import dataclasses
import pathlib
import signal
import time

from launch_configs import entry

_TAIL_BYTES = 16_384
_TAIL_LINES = 20


@dataclasses.dataclass(frozen=True)
class Policy:
  """How the nodes of a role are treated; the values are ours."""

  restarts: int = 5
  """How often a node is started again within `window`."""
  window: float = 600.0
  """Seconds after which a death no longer counts."""
  first_pause: float = 0.5
  """Seconds before a node is started again; each further time twice as many."""
  longest_pause: float = 10.0
  """Seconds that they never exceed."""
  settled: float = 30.0
  """Seconds that a node has to have run for an exception to be worth another try. One
  at the start, or the same again, would come each time. Signals are always worth it."""
  grace: float = 6.5
  """Seconds a node has to leave after SIGTERM, before SIGKILL. A learner saves a last
  checkpoint in five; all of a run, servers last, is gone within ten."""


POLICIES: Mapping[str, Policy] = {'replay': Policy(grace=1.5)}
"""By role; the others have the defaults."""


def policy_of(role: str) -> Policy:
  """Returns how the nodes of a role are treated."""
  return POLICIES.get(role, Policy())


class History:
  """What a node died of so far."""

  def __init__(self, policy: Policy) -> None:
    """It has not died yet."""
    self.policy = policy
    self._deaths: list[float] = []
    self._words = ''
    self._said = 0.0  # When these were its last.

  @property
  def count(self) -> int:
    """Deaths within the policy's window."""
    return len(self._deaths)

  @property
  def pause(self) -> float:
    """Seconds before it is started again."""
    pause = self.policy.first_pause * 2 ** (self.count - 1)
    return min(pause, self.policy.longest_pause)

  def add(self, status: int, lived: float, log: pathlib.Path, log_start: int) -> str:
    """Adds a death.

    Args:
      status: as `subprocess.Popen.returncode` has it.
      lived: seconds.
      log: the node's log.
      log_start: where its part of that begins, in bytes.

    Returns:
      Why the node is not to be started again, in words that go on from how it ended;
      empty: it is.
    """
    policy, now = self.policy, time.monotonic()
    self._deaths = [t for t in self._deaths if now - t < policy.window] + [now]
    why = ''
    if self.count > policy.restarts:
      why = f', {self.count} times in {policy.window:.0f} s'
    elif 0 <= status < entry.SIGNALLED:
      try:
        words = _words(log, log_start).splitlines()[-1]
      except OSError:
        words = ''  # They may be any.
      if lived < policy.settled:
        why = f' after {lived:.0f} s'
      elif words and words == self._words and now - self._said < policy.window:
        why = ' as it did before'
      self._words, self._said = words, now
    return why


def describe_status(status: int) -> str:
  """Returns how a process ended, in words, from its `returncode`."""
  if status >= 0:
    return f'left with exit status {status}'
  name = signal.Signals(-status).name
  hint = ' (out of memory?)' if -status == signal.SIGKILL else ''
  return f'was ended by {name}{hint}'


def last_words(log: pathlib.Path, start: int = 0) -> str:
  """Returns the last traceback in a log and what follows it, else its last lines.

  Args:
    log: the file.
    start: bytes at its beginning to leave out: an earlier launch wrote them.
  """
  try:
    return _words(log, start)
  except OSError as e:
    return f'(the log cannot be read: {e.strerror})'


def _words(log: pathlib.Path, start: int) -> str:
  lines = _tail(log, start)
  begins = [i for i, line in enumerate(lines) if line.startswith('Traceback ')]
  words = lines[begins[-1] :] if begins else lines[-_TAIL_LINES:]
  return '\n'.join(words) or '(the log is empty)'


def _tail(log: pathlib.Path, start: int) -> list[str]:
  with open(log, 'rb') as f:
    f.seek(max(start, log.stat().st_size - _TAIL_BYTES))
    return f.read().decode(errors='replace').splitlines()
