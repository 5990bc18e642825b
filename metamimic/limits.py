"""Something that may end the process or take all there is, tried in a child first."""

from collections.abc import Callable
import faulthandler
import os
import resource
import signal
from typing import NoReturn

_LONGEST = 600  # Seconds, of a child that waits instead of working.
_MOST_TEXT = 2**16  # Bytes, of what it says of its failure.


def failure(attempt: Callable[[], object], memory: int, seconds: int) -> str | None:
  """Returns why an attempt fails, made in a child with limits; None: it does not.

  Args:
    attempt: called in a fork of this process, which then ends. It may raise.
    memory: bytes that it may take beyond those that this process has.
    seconds: of CPU time.
  """
  reader, writer = os.pipe()
  # No new interpreter: what it would import takes longer than most attempts.
  child = os.fork()
  if not child:
    _attempt(attempt, memory, seconds, writer)
  os.close(writer)
  with open(reader, 'rb') as pipe:
    text = pipe.read().decode(errors='replace')
  _, status = os.waitpid(child, 0)
  if os.WIFSIGNALED(status):
    return f'ended by {signal.Signals(os.WTERMSIG(status)).name}'
  return text if os.WEXITSTATUS(status) else None


def _attempt(
  attempt: Callable[[], object], memory: int, seconds: int, writer: int
) -> NoReturn:
  status = 1
  try:
    # How the parent takes a crash or a signal is not for a child that expects them.
    faulthandler.disable()
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
      signal.signal(signum, signal.SIG_DFL)
    signal.alarm(_LONGEST)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with open('/proc/self/statm') as f:
      has = int(f.read().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, has + memory)
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_CORE, 0)
    attempt()
    status = 0
  except BaseException as e:
    text = str(e) if isinstance(e, ValueError) else f'{type(e).__name__}: {e}'
    os.write(writer, text.encode(errors='replace')[:_MOST_TEXT])
  finally:
    os._exit(status)


def _limit(what: int, value: int) -> None:
  _, most = resource.getrlimit(what)
  if most != resource.RLIM_INFINITY:
    value = min(value, most)
  resource.setrlimit(what, (value, value))
