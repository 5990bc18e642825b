"""The directory of a run: made or resumed, locked, and where nodes find each other."""

from collections.abc import Callable, Iterator
import contextlib
import errno
import fcntl
import fnmatch
import hashlib
import os
import pathlib
import re
import threading
import time
from typing import Any

from metamimic import config
from metamimic import files

CHANGEABLE = (
  *('learner_steps', 'task.learner_steps', 'evaluation.*', 'gpu'),
  *('demonstrations', 'pixels.frames', 'checkpoint_period', 'stall_warning'),
  *('actor.num_actors', 'task.actor.num_actors'),
  *('actor.update_period', 'task.actor.update_period'),
)
"""Settings that may differ on resume. They say how long to go on, on what and with how
many, where files are, and what to measure, and change nothing of what has been learnt
so far."""

STARTUP_TIMEOUT = 300.0
"""Seconds after which a node gives up on a server that publishes no address."""

_ENDED = 'ended'  # File that says why nobody goes on with the run.
# A file: other hosts of a shared file system do not see the lock of a directory.
_LOCK = 'lock'
_DIGEST = 'demonstrations.sha256'
_MADE = ('logs', _LOCK)  # By `locked`, and no sign of a run.
# What a launcher leaves that dies, or refuses, before there is a config.json.
_LEFT = (
  *('run.json', f'run.json{files.TEMPORARY}', f'config.json{files.TEMPORARY}'),
  *(_DIGEST, f'{_DIGEST}{files.TEMPORARY}'),
  *('loopback-*.so', '.loopback-*.so.*'),
)

_HOST = r'[a-zA-Z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\]'
_PORT = r'[1-9][0-9]{0,4}'
_LAST_PORT = 65_535


def default_path(demonstrations: str) -> pathlib.Path:
  """Returns a new path under runs/, named after the file and the time."""
  stem = pathlib.Path(demonstrations).stem or 'run'
  return pathlib.Path('runs') / f'{stem}-{time.strftime("%Y%m%d-%H%M%S")}'


@contextlib.contextmanager
def locked(
  path: pathlib.Path, wait: Callable[[], bool] = lambda: False
) -> Iterator[None]:
  """Makes `path` if need be and holds its lock; leaves no empty directory behind.

  Nor does it leave, or find, what was written before there was a run.

  Args:
    path: of the run.
    wait: called again and again while another launcher holds it: waits for a while;
      false: long enough.

  Raises:
    RuntimeError: another launcher holds it.
    OSError: it cannot be made or written to; the message names it.
  """
  try:
    path.mkdir(parents=True, exist_ok=True)
    (path / 'logs').mkdir(exist_ok=True)
    # NFS locks what is open for writing alone.
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
  except OSError as e:
    raise OSError(f'cannot write to the run directory {path}: {e.strerror}') from e
  while True:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      break
    except BlockingIOError as e:
      if not wait():
        os.close(lock)
        raise RuntimeError(f'{path} is in use by another launcher') from e
  try:
    _clear(path)
    yield
  finally:
    with contextlib.suppress(OSError):
      _clear(path)
      (path / 'logs').rmdir()
      if [entry.name for entry in path.iterdir()] == [_LOCK]:
        (path / _LOCK).unlink()
        path.rmdir()
    os.close(lock)


def _clear(path: pathlib.Path) -> None:
  """Removes what a launcher has left where there is no run yet, and nothing else.

  Of a run that never began, a later one was to have the time and the reward.
  """
  if path.is_dir() and not (path / 'config.json').exists() and not _others(path):
    for entry in path.iterdir():
      if entry.name not in _MADE:
        entry.unlink()


def _others(path: pathlib.Path) -> list[str]:
  """Returns the names of what is in a directory and no launcher's own."""
  known = (*_MADE, *_LEFT)
  return [
    entry.name
    for entry in path.iterdir()
    if not any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in known)
  ]


def stored_config(path: pathlib.Path) -> config.Config | None:
  """Returns the configuration of the run in `path`; None: there is no run.

  Raises:
    ValueError: there is something else in it, or its config.json is broken.
  """
  if (path / 'config.json').exists():
    return config.load(str(path / 'config.json'))
  if path.is_dir() and _others(path):
    raise ValueError(
      f'{path} is not empty and holds no run (no config.json); expected a new '
      'or an empty directory, or that of a run'
    )
  return None


def check_resumable(path: pathlib.Path, settings: config.Config) -> None:
  """Refuses to go on with another configuration or with other demonstrations.

  Raises:
    ValueError: the message shows each difference.
  """
  stored = stored_config(path)
  if stored is None:
    return
  refused = [
    line
    for line in config.differences(stored, settings)
    if not any(fnmatch.fnmatchcase(line.partition(':')[0], c) for c in CHANGEABLE)
  ]
  if refused:
    raise ValueError(
      f'{path} holds a run of another configuration (there -> asked for):\n  '
      + '\n  '.join(refused)
      + f'\nOnly {", ".join(CHANGEABLE[:-1])} and {CHANGEABLE[-1]} may change. '
      'Take these back, or give another --run-dir'
    )
  _check_actors(path, stored, settings)
  digest = path / _DIGEST
  # Wherever it lies: its name is of no account.
  if digest.exists() and files.read_text(digest).split()[:1] != [_digest(settings)]:
    raise ValueError(
      f'{settings.demonstrations} is not the file that the run in {path} began '
      'with, and its replay refers to that one by demonstration and step. Bring '
      'it back, or give another --run-dir'
    )


def save(path: pathlib.Path, settings: config.Config) -> None:
  """Writes what `check_resumable` compares; forgets old addresses, and `end`."""
  # The format of sha256sum, so that `sha256sum -c` checks it too.
  line = f'{_digest(settings)}  {settings.demonstrations}\n'
  files.write_text(path / _DIGEST, line)
  config.save(settings, str(path / 'config.json'))
  (path / 'addresses').mkdir(exist_ok=True)
  for address in (path / 'addresses').iterdir():
    address.unlink()
  (path / _ENDED).unlink(missing_ok=True)


def _check_actors(
  path: pathlib.Path, stored: config.Config, settings: config.Config
) -> None:
  """Raises a ValueError if an actor would act for another learner than it did.

  Its log goes on, and the columns are others.
  """
  for log in sorted((path / 'logs').glob('actor-*.csv')) if stored.actors else ():
    number = log.stem.partition('-')[2]
    if not number.isdecimal():
      continue
    before, now = (c.acts_for(int(number)) for c in (stored, settings))
    if before != now:
      raise ValueError(
        f'with {settings.actor.num_actors} imitation and '
        f'{settings.task.actor.num_actors} task actors actor {number} of the run in '
        f'{path} would act for {now}, and not for {before} as before. Expected numbers '
        'that leave each its part'
      )


def _digest(settings: config.Config) -> str:
  digest = hashlib.sha256()
  with open(settings.demonstrations, 'rb') as f:
    while block := f.read(1 << 20):
      digest.update(block)
  return digest.hexdigest()


def is_finished(path: pathlib.Path, settings: config.Config) -> bool:
  """Returns whether the run's summary says that each learner reached its steps.

  Raises:
    ValueError: summary.json is broken; the message names it.
  """
  summary = path / 'summary.json'
  text = _text(summary)
  if text is None:
    return False
  done: Any = files.parse_json(text, str(summary)).get('learner_steps')
  try:
    return settings.is_done(done)
  except (KeyError, TypeError) as e:
    raise ValueError(
      f'{summary}: expected a JSON object with the steps of {settings.learners} in '
      f'learner_steps ({e!r})'
    ) from e


def end(path: pathlib.Path, why: str) -> None:
  """Lets all who work for a run on other hosts know that nobody goes on with it."""
  temporary = path / f'.{_ENDED}'
  temporary.write_text(why)
  temporary.replace(path / _ENDED)


def why_over(path: pathlib.Path, settings: config.Config) -> str:
  """Returns why there is no more work for a run, in words; empty: there is.

  Raises:
    ValueError: summary.json is broken; the message names it.
  """
  if is_finished(path, settings):
    return f'{path} is finished'
  why = _text(path / _ENDED)
  return '' if why is None else f'{path} was ended: {why}'


def _text(file: pathlib.Path) -> str | None:
  """Returns what is in a file; None: there is none.

  Raises:
    ValueError: it is no text.
  """
  try:
    return files.read_text(file)
  except OSError as e:
    # Of a file that another host replaced meanwhile, NFS has only a stale handle.
    if e.errno in (errno.ENOENT, errno.ESTALE):
      return None
    raise


def publish_address(path: pathlib.Path, role: str, address: str) -> None:
  """Writes where the server of `role` listens, in one piece."""
  file = path / 'addresses' / role
  file.parent.mkdir(exist_ok=True)
  temporary = file.with_name(f'.{role}.{os.getpid()}')
  temporary.write_text(address)
  temporary.replace(file)


def published_address(path: pathlib.Path, role: str) -> str | None:
  """Returns where the server of `role` listens; None: it does not yet.

  Raises:
    ValueError: something else than an address is written there.
  """
  file = path / 'addresses' / role
  address = _text(file)
  if address is None:
    return None
  host, _, port = address.rpartition(':')
  good = re.fullmatch(_HOST, host) and re.fullmatch(_PORT, port)
  if not good or int(port) > _LAST_PORT:
    raise ValueError(f'{file} holds {address!r:.100}; expected host:port')
  return address


def wait_for_address(
  path: pathlib.Path,
  role: str,
  stop: threading.Event,
  timeout: float | None = None,
  remind: float = 30.0,
) -> str:
  """Waits until the server of `role` listens and returns its host:port.

  Args:
    path: the run directory.
    role: whose address.
    stop: ends the waiting.
    timeout: seconds to wait at most; None: STARTUP_TIMEOUT.
    remind: seconds between messages that say on what it waits.

  Raises:
    InterruptedError: `stop` was set.
    TimeoutError: no address appeared; the message names the log to read.
  """
  limit = STARTUP_TIMEOUT if timeout is None else timeout
  start = time.monotonic()
  next_message = start + remind
  while (address := published_address(path, role)) is None:
    now = time.monotonic()
    what = f'the address of {role} ({path / "addresses" / role})'
    if now - start > limit:
      raise TimeoutError(
        f'waited {limit:.0f} s for {what}; see {path / (role + "-0.log")}'
      )
    if now > next_message:
      print(f'waiting for {what} for {now - start:.0f} s', flush=True)
      next_message += remind
    if stop.wait(0.1):
      raise InterruptedError(f'stopped while waiting for {what}')
  return address
