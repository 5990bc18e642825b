"""Checkpoint sets: the learners and the replay as they were at one time, kept together.

A run keeps them in `checkpoints/<number>`. A set is written beside, in
`checkpoints/<number>.partial`, and renamed when its manifest is there: what has a set's
name is whole. What a disk or somebody did to it later, checksums tell. Each learner has
a folder in it, named after it, and so has `replay`.
"""

from collections.abc import Callable, Collection, Mapping
import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re

from absl import logging

from metamimic import files

FOLDER = 'checkpoints'
"""Of all sets, in a run directory."""
REPLAY = 'replay'
"""Folder of the replay server's tables, in a set."""
MANIFEST = 'manifest.json'
"""File of a set, written last."""
PARTIAL = '.partial'
"""What the name of a set, or of a part, ends with until it is whole."""
# A file: other hosts of a shared file system do not see the lock of a directory.
LOCK = 'lock'
"""File beside the sets, locked by whoever writes one."""
HOST = 'host'
"""File beside the sets that says which host began the last one."""

_FILE = r'\w[\w-]*/[\w-][\w.-]*'  # A file's name in the manifest.
_DAMAGED = '.damaged'
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
    return number_of(self.path.name)

  def part(self, name: str) -> dict[str, File]:
    """Returns the files of a learner, or of `REPLAY`."""
    return {f: v for f, v in self.files.items() if f.startswith(f'{name}/')}


def last(run_dir: str | os.PathLike[str]) -> CheckpointSet | None:
  """Returns the newest set with a manifest that can be read, and does not check it."""
  for path in sets(pathlib.Path(run_dir) / FOLDER):
    with contextlib.suppress(DamagedError):
      return read(path)
  return None


def has_reached(run_dir: str | os.PathLike[str], learner: str, step: int) -> bool:
  """Returns whether the newest set has a learner at a step, or later; see `last`."""
  found = last(run_dir)
  return found is not None and found.learner_steps.get(learner, 0) >= step


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


def read(path: pathlib.Path) -> CheckpointSet:
  """Returns a set by its folder; its files are not checked.

  Raises:
    DamagedError: it has no manifest, or one that cannot be read.
  """
  try:
    manifest = files.read_json(path / MANIFEST)
    listed = {name: File(**file) for name, file in manifest.pop('files').items()}
    found = CheckpointSet(path=path, files=listed, **manifest)
  except FileNotFoundError as e:
    raise DamagedError(f'{path} has no {MANIFEST}') from e
  except ValueError as e:
    raise DamagedError(str(e)) from e
  except (OSError, TypeError, KeyError, AttributeError) as e:
    raise DamagedError(f'{path / MANIFEST} cannot be read: {e!r:.500}') from e
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
      f'{path / MANIFEST} cannot be read: expected counts of steps, seconds, and '
      'files of the set'
    )
  return found


def fingerprint(path: pathlib.Path) -> File:
  """Returns what a manifest has to say of a file."""
  digest, size = hashlib.sha256(), 0
  with open(path, 'rb') as f:
    while block := f.read(_BLOCK):
      digest.update(block)
      size += len(block)
  return File(size, digest.hexdigest())


def entries(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns all that is in the folder of all sets, but for `LOCK` and `HOST`."""
  if not folder.is_dir():
    return []
  return sorted(path for path in folder.iterdir() if path.name not in (LOCK, HOST))


def sets(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns what is named as a set is, the newest first."""
  found = [path for path in entries(folder) if path.name.isdecimal()]
  return sorted(found, key=lambda path: -number_of(path.name))


def is_draft(path: pathlib.Path) -> bool:
  """Returns whether something is named as a set, or a part, that is being written."""
  return path.name.endswith(PARTIAL)


def number_of(name: str) -> int:
  """Returns the number that a name begins with; 0: it begins with none."""
  digits = re.match(r'\d+', name)
  return int(digits[0]) if digits else 0


def _newest(
  run_dir: str | os.PathLike[str],
  part: str,
  say: Callable[[str], object],
  parts: Collection[str] = (),
) -> tuple[CheckpointSet | None, list[pathlib.Path]]:
  folder = pathlib.Path(run_dir) / FOLDER
  skipped: list[pathlib.Path] = []
  wrong: list[str] = []
  for path in sets(folder):
    try:
      found = read(path)
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
  aside = [p for p in entries(folder) if not is_draft(p) and p not in skipped]
  wrong += [f'{path} is no checkpoint set, or was damaged' for path in aside]
  if wrong:
    raise DamagedError(
      f'no checkpoint set in {folder} is good:\n  '
      + '\n  '.join(wrong)
      + '\nBring one back, or remove the folder to begin anew'
    )
  return None, []


def _check(found: CheckpointSet, part: str) -> None:
  listed = found.part(part) if part else found.files
  if part:
    _check_has(found, part)
  for path in (found.path / part).glob('**/*'):
    inside = path.relative_to(found.path)
    # Of a learner that came too late there may be a rest.
    if inside.parts[0].endswith(PARTIAL) or (path.is_dir() and not path.is_symlink()):
      continue
    known = str(inside) in {*listed, MANIFEST} and path.is_file()
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
      if fingerprint(path) != expected:
        raise DamagedError(f'{path} has changed since it was written')
    except OSError as e:
      raise DamagedError(f'{path} cannot be read: {e.strerror}') from e


def _check_has(found: CheckpointSet, part: str) -> None:
  # A learner and its steps are read together.
  if not found.part(part) or part not in {*found.learner_steps, REPLAY}:
    raise DamagedError(f'{found.path} has no {part}')
