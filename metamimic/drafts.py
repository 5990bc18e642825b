"""Writes checkpoint sets: one at a time, each a draft until it is whole.

Whoever's `turn` it is begins a draft, and others find it `announced`; each adds its own
part. What a set is, and how a good one is found, is in `checkpoints`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import socket
import time

from metamimic import checkpoints
from metamimic import files

_STEPS = 'steps'  # File in a learner's folder.
_KEPT = 2


class Draft:
  """A set that is being written."""

  def __init__(self, path: pathlib.Path, parts: Collection[str] = ()) -> None:
    """Takes its folder, and what has to be in it; see `begin` and `announced`."""
    self.path = path
    """Its folder, until it is complete."""
    self._parts = tuple(parts)
    self._linked: dict[str, checkpoints.File] = {}

  def has(self, name: str) -> bool:
    """Returns whether a learner, or `checkpoints.REPLAY`, is in it."""
    return (self.path / name).exists()

  def add(self, name: str, write: Callable[[pathlib.Path], object]) -> None:
    """Puts a part into it, in one piece.

    Args:
      name: of the part.
      write: writes into the folder that it is given.
    """
    temporary = self.path / f'{name}{checkpoints.PARTIAL}'
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

  def link(self, name: str, source: checkpoints.CheckpointSet) -> None:
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
  ) -> checkpoints.CheckpointSet:
    """Writes the manifest, gives the set its name, and removes older ones.

    Args:
      environment_steps: see `checkpoints.CheckpointSet`.
      seconds: likewise; called when all but the manifest is there.
      replay_seconds: likewise.

    Raises:
      DamagedError: a part is not in it: another learner, which did not see the lock of
        this one, has begun anew in its place.
      OSError: it cannot be written.
    """
    # Of a learner that came too late, for whom an earlier state was taken.
    for late in self.path.glob(f'*{checkpoints.PARTIAL}'):
      shutil.rmtree(late, ignore_errors=True)
    written = {
      str(path.relative_to(self.path)): path
      for path in sorted(self.path.rglob('*'))
      if path.is_file()
    }
    found = {
      name: self._linked.get(name) or checkpoints.fingerprint(p)
      for name, p in written.items()
    }
    there = {name.partition('/')[0] for name in found}
    for part in self._parts:
      if part not in there:
        raise checkpoints.DamagedError(f'{self.path} has no {part}')
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
    (self.path / checkpoints.MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in (self.path / checkpoints.MANIFEST, self.path):
      files.sync(path)
    done = self.path.with_suffix('')
    self.path.rename(done)
    files.sync(done.parent)
    _prune(done.parent)
    return checkpoints.read(done)

  def abandon(self) -> None:
    """Removes it."""
    shutil.rmtree(self.path, ignore_errors=True)


def server_folder(run_dir: str | os.PathLike[str]) -> str:
  """Returns where the replay server writes what then becomes part of a set."""
  folder = pathlib.Path(run_dir) / checkpoints.FOLDER
  return str(folder / f'{checkpoints.REPLAY}{checkpoints.PARTIAL}')


@contextlib.contextmanager
def turn(run_dir: str | os.PathLike[str]) -> Iterator[bool]:
  """Yields whether it is the caller's turn to write a set, as it is of one at a time.

  The turn ends with the context, or with the process. Where hosts do not see each
  other's locks, as with a mounted bucket, there may be several; see `Draft.complete`.
  """
  folder = pathlib.Path(run_dir) / checkpoints.FOLDER
  folder.mkdir(exist_ok=True)
  # NFS locks what is open for writing alone.
  descriptor = os.open(folder / checkpoints.LOCK, os.O_RDWR | os.O_CREAT, 0o644)
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
  folder = pathlib.Path(run_dir) / checkpoints.FOLDER
  number = 1 + max((checkpoints.number_of(p.name) for p in folder.iterdir()), default=0)
  path = folder / f'{number}{checkpoints.PARTIAL}'
  path.mkdir()
  (folder / checkpoints.HOST).write_text(socket.gethostname())
  return Draft(path, parts)


def forget_drafts(run_dir: str | os.PathLike[str]) -> None:
  """Removes what nobody completes any more."""
  for draft in _drafts(pathlib.Path(run_dir) / checkpoints.FOLDER):
    shutil.rmtree(draft)


def was_begun_here(run_dir: str | os.PathLike[str]) -> bool:
  """Returns whether this host began the last set: its lock would be seen here."""
  folder = pathlib.Path(run_dir) / checkpoints.FOLDER
  try:
    host = files.read_text(folder / checkpoints.HOST)
  except (OSError, ValueError):
    return False
  return host == socket.gethostname()


def announced(run_dir: str | os.PathLike[str]) -> Draft | None:
  """Returns the set that is being written, if there is one."""
  drafts = _drafts(pathlib.Path(run_dir) / checkpoints.FOLDER)
  return Draft(drafts[-1]) if drafts else None


def _prune(folder: pathlib.Path) -> None:
  """Removes all but the last sets, and the last that shares no file with the newest.

  What happens to a file of the newest set happens to those that it was taken from.
  """
  sets = checkpoints.sets(folder)
  newest, *older = sets
  there = _inodes(newest)
  kept = {*sets[:_KEPT], *[s for s in older if there.isdisjoint(_inodes(s))][:1]}
  oldest = min(map(checkpoints.number_of, (path.name for path in sets[:_KEPT])))
  for path in checkpoints.entries(folder):
    if 0 < checkpoints.number_of(path.name) < oldest and path not in kept:
      shutil.rmtree(path, ignore_errors=True)


def _inodes(path: pathlib.Path) -> set[int]:
  return {file.stat().st_ino for file in path.rglob('*') if file.is_file()}


def _drafts(folder: pathlib.Path) -> list[pathlib.Path]:
  drafts = [
    p
    for p in checkpoints.entries(folder)
    if checkpoints.is_draft(p) and checkpoints.number_of(p.name)
  ]
  return sorted(drafts, key=lambda path: checkpoints.number_of(path.name))
