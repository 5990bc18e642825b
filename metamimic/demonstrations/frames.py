"""Pictures of demonstrations: drawn once from their states, then mapped from disk.

Demonstrations are recorded without pictures. Their physics states are whole, so that
any camera and any size can be asked for later.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import fcntl
import glob
import hashlib
import itertools
import os
import secrets
import socket
from typing import BinaryIO

import numpy as np
from rich import progress

from envs import pictures as pictures_lib
from envs import rendering
from envs import tasks
from metamimic.demonstrations import types


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
  """A demonstration with pictures, to be followed in an `ImitationEnvironment`."""

  demonstration: types.Demonstration
  pictures: Mapping[str, np.ndarray]
  """Group -> (T + 1, height, width, 3) uint8."""

  @property
  def skill(self) -> str:
    """Name of the skill shown."""
    return self.demonstration.skill

  @property
  def observations(self) -> Mapping[str, np.ndarray]:
    """By group, pictures included, (T + 1, ...)."""
    return {**self.demonstration.observations, **self.pictures}

  @property
  def states(self) -> np.ndarray:
    """Physics states, (T + 1, S) float64."""
    return self.demonstration.states


def draw(
  demonstrations: Sequence[types.Demonstration],
  pictures: pictures_lib.Pictures,
  folder: str,
) -> dict[str, str]:
  """Draws the pictures of demonstrations that are not in the folder yet.

  Args:
    demonstrations: at least one, all of one task.
    pictures: cameras and size.
    folder: of the files, one for each camera; made if need be. Their names depend on
      all that pictures depend on, so that one folder serves any demonstrations.

  Returns:
    The files by group, for `load`.

  Raises:
    OSError: the folder cannot be written, or its disk is full.
    RuntimeError: this machine cannot render.
    ValueError: the states are not of this version of the task.
  """
  os.makedirs(folder, exist_ok=True)
  environment = tasks.load(demonstrations[0].task, seed=0)
  states = [d.states for d in demonstrations]
  whose = _digest(states)
  found = {}
  for camera in pictures.cameras:
    renderer = rendering.Renderer(environment, pictures.size, camera, coarse=True)
    # Two libraries, or versions of one, do not draw the same.
    how = _digest([*renderer.render_states(states[0][:1])])
    path = os.path.join(folder, f'{camera}-{how}-{whose}.npy')
    if not os.path.exists(path):
      _draw(renderer, states, path)
    found[pictures_lib.group(camera)] = path
  environment.close()
  return found


def load(
  demonstrations: Sequence[types.Demonstration], files: Mapping[str, str]
) -> list[Seen]:
  """Returns demonstrations with their pictures, read-only and in no one's memory.

  Args:
    demonstrations: those that were drawn, all of them, in that order.
    files: of `draw`.

  Raises:
    FileNotFoundError: a file is gone.
    ValueError: a file is no array, or one of other demonstrations.
  """
  length = sum(len(d.states) for d in demonstrations)
  whose = _digest([d.states for d in demonstrations])
  found = {}
  for group, path in files.items():
    if not path.endswith(f'-{whose}.npy'):
      raise ValueError(
        f'{path}: is of other demonstrations; expected a file of {whose}, which these '
        'have'
      )
    try:
      pictures = np.load(path, mmap_mode='r', allow_pickle=False)
    except (ValueError, EOFError) as e:
      raise ValueError(f'{path}: expected pictures as an array of NumPy ({e})') from e
    shape, dtype = getattr(pictures, 'shape', ()), getattr(pictures, 'dtype', None)
    if len(shape) != 4 or shape[::3] != (length, 3) or dtype != np.uint8:
      raise ValueError(
        f'{path}: holds {dtype} of shape {shape}; expected uint8 of ({length}, height, '
        'width, 3), the pictures of these demonstrations'
      )
    found[group] = pictures
  ends = np.cumsum([len(d.states) for d in demonstrations])
  seen = []
  for demonstration, end in zip(demonstrations, ends, strict=True):
    part = slice(end - len(demonstration.states), end)
    seen.append(Seen(demonstration, {g: frames[part] for g, frames in found.items()}))
  return seen


def see(
  demonstrations: Sequence[types.Demonstration], pictures: pictures_lib.Pictures
) -> list[Seen]:
  """Returns demonstrations with their pictures, drawn now and kept in memory.

  Args:
    demonstrations: at least one, all of one registered task.
    pictures: cameras and size.

  Raises:
    RuntimeError: this machine cannot render.
    ValueError: the states are not of this version of the task.
  """
  environment = tasks.load(demonstrations[0].task, seed=0)
  drawn: list[dict[str, np.ndarray]] = [{} for _ in demonstrations]
  for camera in pictures.cameras:
    renderer = rendering.Renderer(environment, pictures.size, camera, coarse=True)
    for demonstration, found in zip(demonstrations, drawn, strict=True):
      frames = np.stack([*renderer.render_states(demonstration.states)])
      found[pictures_lib.group(camera)] = frames
  environment.close()
  return [Seen(d, found) for d, found in zip(demonstrations, drawn, strict=True)]


def _digest(arrays: Sequence[np.ndarray]) -> str:
  """Returns what tells arrays apart from others, by shapes and values."""
  digest = hashlib.sha256()
  for array in arrays:
    digest.update(repr(array.shape).encode() + array.tobytes())
  return digest.hexdigest()[:16]


def _draw(
  renderer: rendering.Renderer, states: Sequence[np.ndarray], path: str
) -> None:
  """Writes the pictures of all states, one after the other, as one array."""
  _forget_drafts(path)
  # Others may be drawing the same, on other hosts, too.
  who = f'{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}'
  temporary = f'{path}.{who}.tmp'
  try:
    with _locked(temporary) as draft:
      frames = np.lib.format.open_memmap(
        temporary, 'w+', np.uint8, shape=(sum(map(len, states)), *renderer.size, 3)
      )
      _reserve(draft, temporary)
      drawn = itertools.chain.from_iterable(map(renderer.render_states, states))
      say = f'drawing the pictures of demonstrations, once: {path}'
      for i, picture in enumerate(progress.track(drawn, say, len(frames))):
        frames[i] = picture
      frames.flush()
      os.replace(temporary, path)
  finally:
    if os.path.exists(temporary):
      os.remove(temporary)


def _reserve(draft: BinaryIO, path: str) -> None:
  """Takes the disk space of a file now.

  Where a disk is full, writing to mapped memory would end the process.
  """
  size = os.path.getsize(path)
  try:
    os.posix_fallocate(draft.fileno(), 0, size)
  except OSError as e:
    why = f'{e.strerror}; expected room for {size / 1e6:,.0f} MB of pictures'
    raise OSError(e.errno, why, path) from None


def _locked(path: str) -> BinaryIO:
  """Returns a new file that nobody takes for one of somebody who died."""
  while True:
    file = open(path, 'w+b')
    fcntl.flock(file, fcntl.LOCK_EX)
    # Before it was locked, another may have removed it.
    with contextlib.suppress(FileNotFoundError):
      if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
        return file
    file.close()


def _forget_drafts(path: str) -> None:
  """Removes what those left who died while they drew; others hold their locks."""
  for draft in glob.glob(f'{glob.escape(path)}.*.tmp'):
    with contextlib.suppress(OSError), open(draft, 'r+b') as file:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      os.remove(draft)
