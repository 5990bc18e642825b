"""Checkpoint sets: the learners and the replay as they were at one time, kept together.

A run keeps them in `checkpoints/<number>`. A set is written beside, in
`checkpoints/<number>.partial`, and renamed when its manifest is there: what has a set's
name is whole. What a disk or somebody did to it later, checksums tell. Each learner has
a folder in it, named after it, and so has `replay`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
import time

from absl import logging

from metamimic import files

FOLDER = 'checkpoints'
"""Of all sets, in a run directory."""
REPLAY = 'replay'
"""Folder of the replay server's tables, in a set."""

_MANIFEST = 'manifest.json'
_STEPS = 'steps'  # File in a learner's folder.
_FILE = r'\w[\w-]*/[\w-][\w.-]*'  # Its name in the manifest.
_PARTIAL, _DAMAGED = '.partial', '.damaged'
# A file: other hosts of a shared file system do not see the lock of a directory.
_LOCK = 'lock'
_HOST = 'host'  # File that says which host began the last set.
_KEPT = 2
_BLOCK = 1 << 20


class DamagedError(ValueError):
  """A set is not as it was written; or no set of a run is."""


@dataclasses.dataclass(frozen=True)
class File:
  """What the manifest says of a file."""

  size: int
  """In bytes."""
  sha256: str


@dataclasses.dataclass(frozen=True)
class CheckpointSet:
  """A complete set and its manifest."""

  path: pathlib.Path
  """Its folder."""
  learner_steps: Mapping[str, int]
  """By learner."""
  environment_steps: Mapping[str, int]
  """By what the actors act for: the transitions that replay had been given."""
  seconds: float
  """How long it took to write, others kept waiting."""
  replay_seconds: float
  """How much of that was the replay; of the last time that it was saved anew."""
  time: float
  """When it was written (time.time())."""
  files: Mapping[str, File]
  """By name within `path`."""

  @property
  def number(self) -> int:
    """Counts a run's sets, from 1."""
    return _number(self.path.name)

  def part(self, name: str) -> dict[str, File]:
    """Returns the files of a learner, or of `REPLAY`."""
    return {f: v for f, v in self.files.items() if f.startswith(f'{name}/')}


class Draft:
  """A set that is being written."""

  def __init__(self, path: pathlib.Path, parts: Collection[str] = ()) -> None:
    """Takes its folder, and what has to be in it; see `begin` and `announced`."""
    self.path = path
    """Its folder, until it is complete."""
    self._parts = tuple(parts)
    self._linked: dict[str, File] = {}

  def has(self, name: str) -> bool:
    """Returns whether a learner, or `REPLAY`, is in it."""
    return (self.path / name).exists()

  def add(self, name: str, write: Callable[[pathlib.Path], object]) -> None:
    """Puts a part into it, in one piece.

    Args:
      name: of the part.
      write: writes into the folder that it is given.
    """
    temporary = self.path / f'{name}{_PARTIAL}'
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    write(temporary)
    for path in [*temporary.rglob('*'), temporary]:
      files.sync(path)
    temporary.rename(self.path / name)

  def add_learner(
    self, name: str, steps: int, write: Callable[[pathlib.Path], object]
  ) -> None:
    """Puts a learner into it, in one piece.

    Args:
      name: of the learner.
      steps: how far it is.
      write: writes into the folder that it is given.
    """

    def write_all(folder: pathlib.Path) -> None:
      write(folder)
      (folder / _STEPS).write_text(str(steps))

    self.add(name, write_all)

  def link(self, name: str, source: CheckpointSet) -> None:
    """Takes a part from an earlier set; it needs no room, and no time.

    But where a file system has no hard links, it is copied.
    """
    part = source.part(name)

    def write(folder: pathlib.Path) -> None:
      for file in part:
        there = folder / pathlib.Path(file).name
        try:
          os.link(source.path / file, there)
        except OSError:
          shutil.copy2(source.path / file, there)

    self.add(name, write)
    # Not looked at again: what has happened to it since shall be found.
    self._linked.update(part)

  def complete(
    self,
    environment_steps: Mapping[str, int],
    seconds: Callable[[], float],
    replay_seconds: float,
  ) -> CheckpointSet:
    """Writes the manifest, gives the set its name, and removes older ones.

    Args:
      environment_steps: see `CheckpointSet`.
      seconds: likewise; called when all but the manifest is there.
      replay_seconds: likewise.

    Raises:
      DamagedError: a part is not in it: another learner, which did not see the lock of
        this one, has begun anew in its place.
      OSError: it cannot be written.
    """
    # Of a learner that came too late, for whom an earlier state was taken.
    for late in self.path.glob(f'*{_PARTIAL}'):
      shutil.rmtree(late, ignore_errors=True)
    written = {
      str(path.relative_to(self.path)): path
      for path in sorted(self.path.rglob('*'))
      if path.is_file()
    }
    found = {name: self._linked.get(name) or _file(p) for name, p in written.items()}
    there = {name.partition('/')[0] for name in found}
    for part in self._parts:
      if part not in there:
        raise DamagedError(f'{self.path} has no {part}')
    manifest = {
      'learner_steps': {
        path.parent.name: int(path.read_text())
        for path in self.path.glob(f'*/{_STEPS}')
      },
      'environment_steps': dict(environment_steps),
      'seconds': round(seconds(), 3),
      'replay_seconds': round(replay_seconds, 3),
      'time': time.time(),
      'files': {name: dataclasses.asdict(file) for name, file in found.items()},
    }
    (self.path / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in (self.path / _MANIFEST, self.path):
      files.sync(path)
    done = self.path.with_suffix('')
    self.path.rename(done)
    files.sync(done.parent)
    _prune(done.parent)
    return _read(done)

  def abandon(self) -> None:
    """Removes it."""
    shutil.rmtree(self.path, ignore_errors=True)


def server_folder(run_dir: str | os.PathLike[str]) -> str:
  """Returns where the replay server writes what then becomes part of a set."""
  return str(pathlib.Path(run_dir) / FOLDER / f'{REPLAY}{_PARTIAL}')


@contextlib.contextmanager
def turn(run_dir: str | os.PathLike[str]) -> Iterator[bool]:
  """Yields whether it is the caller's turn to write a set, as it is of one at a time.

  The turn ends with the context, or with the process. Where hosts do not see each
  other's locks, as with a mounted bucket, there may be several; see `Draft.complete`.
  """
  folder = pathlib.Path(run_dir) / FOLDER
  folder.mkdir(exist_ok=True)
  # NFS locks what is open for writing alone.
  descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      free = True
    except BlockingIOError:
      free = False
    yield free
  finally:
    os.close(descriptor)


def begin(run_dir: str | os.PathLike[str], parts: Collection[str] = ()) -> Draft:
  """Begins a set, for all to see, and forgets earlier drafts; see `turn`.

  Args:
    run_dir: of the run.
    parts: without which the set is not to be completed.
  """
  forget_drafts(run_dir)
  folder = pathlib.Path(run_dir) / FOLDER
  number = 1 + max((_number(p.name) for p in folder.iterdir()), default=0)
  path = folder / f'{number}{_PARTIAL}'
  path.mkdir()
  (folder / _HOST).write_text(socket.gethostname())
  return Draft(path, parts)


def forget_drafts(run_dir: str | os.PathLike[str]) -> None:
  """Removes what nobody completes any more."""
  for draft in _drafts(pathlib.Path(run_dir) / FOLDER):
    shutil.rmtree(draft)


def was_begun_here(run_dir: str | os.PathLike[str]) -> bool:
  """Returns whether this host began the last set: its lock would be seen here."""
  try:
    host = files.read_text(pathlib.Path(run_dir) / FOLDER / _HOST)
  except (OSError, ValueError):
    return False
  return host == socket.gethostname()


def announced(run_dir: str | os.PathLike[str]) -> Draft | None:
  """Returns the set that is being written, if there is one."""
  drafts = _drafts(pathlib.Path(run_dir) / FOLDER)
  return Draft(drafts[-1]) if drafts else None


def last(run_dir: str | os.PathLike[str]) -> CheckpointSet | None:
  """Returns the newest set with a manifest that can be read, and does not check it."""
  for path in _sets(pathlib.Path(run_dir) / FOLDER):
    with contextlib.suppress(DamagedError):
      return _read(path)
  return None


def newest(
  run_dir: str | os.PathLike[str],
  part: str = '',
  say: Callable[[str], object] = logging.warning,
) -> CheckpointSet | None:
  """Returns the newest good set; None: none has been written yet.

  Args:
    run_dir: of the run.
    part: the only one to check: a learner, or `REPLAY`; empty: all of it.
    say: is told of each set that is skipped, and why.

  Raises:
    DamagedError: there are sets, and none is good; the message names them.
  """
  return _newest(run_dir, part, say)[0]


def recover(
  run_dir: str | os.PathLike[str],
  say: Callable[[str], object] = logging.warning,
  learners: Collection[str] = (),
) -> CheckpointSet | None:
  """As `newest`, for those who go on from it: damaged sets are put aside.

  They then neither count as one of the sets that are kept, nor are looked at again.

  Args:
    run_dir: of the run.
    say: is told of each set that is skipped, and why.
    learners: of the run, if the caller knows them: a set without one of them, or
      without the replay, is none to go on from.

  Raises:
    DamagedError: there are sets, and none is good; the message names them.
  """
  parts = [*learners, REPLAY] if learners else []
  found, skipped = _newest(run_dir, '', say, parts)
  for path in skipped if found else ():
    if not path.name.endswith(_DAMAGED):
      # Another node may have been here at the same time.
      with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name(path.name + _DAMAGED))
  return found


def _newest(
  run_dir: str | os.PathLike[str],
  part: str,
  say: Callable[[str], object],
  parts: Collection[str] = (),
) -> tuple[CheckpointSet | None, list[pathlib.Path]]:
  folder = pathlib.Path(run_dir) / FOLDER
  skipped: list[pathlib.Path] = []
  wrong: list[str] = []
  for path in _sets(folder):
    try:
      found = _read(path)
      _check(found, part)
      for each in parts:
        _check_has(found, each)
    except DamagedError as e:
      wrong.append(str(e))
      skipped.append(path)
      continue
    for text in wrong:
      say(f'{text}; skipped for {path}')
    return found, skipped
  aside = [p for p in _entries(folder) if not _is_draft(p) and p not in skipped]
  wrong += [f'{path} is no checkpoint set, or was damaged' for path in aside]
  if wrong:
    raise DamagedError(
      f'no checkpoint set in {folder} is good:\n  '
      + '\n  '.join(wrong)
      + '\nBring one back, or remove the folder to begin anew'
    )
  return None, []


def _read(path: pathlib.Path) -> CheckpointSet:
  try:
    manifest = files.read_json(path / _MANIFEST)
    listed = {name: File(**file) for name, file in manifest.pop('files').items()}
    found = CheckpointSet(path=path, files=listed, **manifest)
  except FileNotFoundError as e:
    raise DamagedError(f'{path} has no {_MANIFEST}') from e
  except ValueError as e:
    raise DamagedError(str(e)) from e
  except (OSError, TypeError, KeyError, AttributeError) as e:
    raise DamagedError(f'{path / _MANIFEST} cannot be read: {e!r:.500}') from e
  if not (
    files.are_counts(found.learner_steps)
    and files.are_counts(found.environment_steps)
    and all(
      files.is_number(v) for v in (found.seconds, found.replay_seconds, found.time)
    )
    and all(
      # Of this set, and of no other place.
      re.fullmatch(_FILE, name) and files.is_count(file.size)
      for name, file in listed.items()
    )
  ):
    raise DamagedError(
      f'{path / _MANIFEST} cannot be read: expected counts of steps, seconds, and '
      'files of the set'
    )
  return found


def _check(found: CheckpointSet, part: str) -> None:
  listed = found.part(part) if part else found.files
  if part:
    _check_has(found, part)
  for path in (found.path / part).glob('**/*'):
    inside = path.relative_to(found.path)
    # Of a learner that came too late there may be a rest.
    if inside.parts[0].endswith(_PARTIAL) or (path.is_dir() and not path.is_symlink()):
      continue
    known = str(inside) in {*listed, _MANIFEST} and path.is_file()
    if not known or path.is_symlink():
      raise DamagedError(f'{path} is no file of its manifest')
  for name, expected in listed.items():
    path = found.path / name
    try:
      size = path.stat().st_size
      if size != expected.size:
        raise DamagedError(
          f'{path} has {size:,} bytes instead of the {expected.size:,} of its manifest'
        )
      if _file(path) != expected:
        raise DamagedError(f'{path} has changed since it was written')
    except OSError as e:
      raise DamagedError(f'{path} cannot be read: {e.strerror}') from e


def _check_has(found: CheckpointSet, part: str) -> None:
  # A learner and its steps are read together.
  if not found.part(part) or part not in {*found.learner_steps, REPLAY}:
    raise DamagedError(f'{found.path} has no {part}')


def _file(path: pathlib.Path) -> File:
  digest, size = hashlib.sha256(), 0
  with open(path, 'rb') as f:
    while block := f.read(_BLOCK):
      digest.update(block)
      size += len(block)
  return File(size, digest.hexdigest())


def _prune(folder: pathlib.Path) -> None:
  """Removes all but the last sets, and the last that shares no file with the newest.

  What happens to a file of the newest set happens to those that it was taken from.
  """
  sets = _sets(folder)
  newest, *older = sets
  there = _inodes(newest)
  kept = {*sets[:_KEPT], *[s for s in older if there.isdisjoint(_inodes(s))][:1]}
  oldest = min(map(_number, (path.name for path in sets[:_KEPT])))
  for path in _entries(folder):
    if 0 < _number(path.name) < oldest and path not in kept:
      shutil.rmtree(path, ignore_errors=True)


def _inodes(path: pathlib.Path) -> set[int]:
  return {file.stat().st_ino for file in path.rglob('*') if file.is_file()}


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
  if not folder.is_dir():
    return []
  return sorted(path for path in folder.iterdir() if path.name not in (_LOCK, _HOST))


def _sets(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns what is named as a set is, the newest first."""
  sets = [path for path in _entries(folder) if path.name.isdecimal()]
  return sorted(sets, key=lambda path: -_number(path.name))


def _drafts(folder: pathlib.Path) -> list[pathlib.Path]:
  drafts = [p for p in _entries(folder) if _is_draft(p) and _number(p.name)]
  return sorted(drafts, key=lambda path: _number(path.name))


def _is_draft(path: pathlib.Path) -> bool:
  return path.name.endswith(_PARTIAL)


def _number(name: str) -> int:
  digits = re.match(r'\d+', name)
  return int(digits[0]) if digits else 0
