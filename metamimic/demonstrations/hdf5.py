"""HDF5 files that anybody may have written, read with care.

HDF5 can do more than hold arrays: refer to other files, unfold a few bytes into any
number of them, name plug-ins to read them with, nest objects within themselves. Here
only what lies in the file itself is followed, no filter but gzip and checksums is used,
and what all arrays take in memory is bounded by the size of the file before any is
read.
"""

from collections.abc import Callable, Iterator
import contextlib
import math
import os
from typing import Any, TypeVar
import zlib

import h5py
import numpy as np

from metamimic import limits

FACTOR = 32
"""Of the file's size: the memory that its arrays may take together, ..."""
FLOOR = 32 * 2**20
"""... or so many bytes, if that is more. (Ours: recorded files unfold to twice theirs.)
"""

_MOST_ATTRIBUTE = 64 * 2**10  # Bytes, as of an attribute in an object's header.
_LONGEST_NAME = 64  # Bytes of an item in a list of names.
_FILTERS = (
  h5py.h5z.FILTER_DEFLATE,
  h5py.h5z.FILTER_SHUFFLE,
  h5py.h5z.FILTER_FLETCHER32,
)
_CHECKSUM = 4  # Bytes that a checksum adds to a chunk.

# Of the child that goes first.
_SPARE = 256 * 2**20  # Bytes of memory, beside those for arrays.
_SECONDS = 2  # Of CPU time, and one more for ...
_BYTES_PER_SECOND = 2**22  # ... so much of the file.

_T = TypeVar('_T')


class DamagedError(ValueError):
  """A file is damaged, or holds what is not read from a file."""


class _Budget:
  """What may still be read of a file."""

  def __init__(self, size: int) -> None:
    """Takes the size of the file."""
    self.unfolded = max(FACTOR * size, FLOOR)
    """Bytes in memory."""
    self.stored = size
    """Bytes in compressed chunks, each counted as often as it is referred to."""


@contextlib.contextmanager
def _reading(where: str) -> Iterator[None]:
  """Makes one error of all that h5py raises."""
  try:
    yield
  except DamagedError:
    raise
  except Exception as e:  # Any: it depends on where the damage is.
    raise DamagedError(
      f'{where} is damaged; expected it readable ({type(e).__name__}: {e})'
    ) from e


def read(path: str, interpret: Callable[['Group'], _T], vetted: bool = False) -> _T:
  """Returns what is made of the root of a file.

  Of about one damaged file in a thousand libhdf5 dies instead of refusing it. So a
  child of this process goes first, with limits of memory and time. A process in which
  TensorFlow's threads run is not to be forked: read files before it works here, or ones
  that are vetted.

  Args:
    path: of the file.
    interpret: called with the root, twice; what it refuses it says by ValueError.
    vetted: whether the same has been read by another process, so that no child of this
      one has to go first.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no HDF5 file, damaged, or refused.
  """
  if not vetted:
    vet(path, interpret)
  return _interpreted(path, interpret)


def vet(path: str, interpret: Callable[['Group'], object]) -> None:
  """Reads a file in a child, with limits of memory and time.

  Args:
    path: of the file.
    interpret: called there with the root, as by `read`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: as of `read`.
  """
  _check_exists(path)
  size = os.path.getsize(path)
  failure = limits.failure(
    lambda: _interpreted(path, interpret),
    # The arrays, and copies of them.
    3 * max(FACTOR * size, FLOOR) + _SPARE,
    _SECONDS + size // _BYTES_PER_SECOND,
  )
  if failure is not None:
    said = failure.startswith(path)
    raise DamagedError(
      failure if said else f'{path}: damaged; expected a complete HDF5 file ({failure})'
    )


def _check_exists(path: str) -> None:
  if not os.path.isfile(path):
    raise FileNotFoundError(
      f'{path}: no such file; expected demonstrations in HDF5 '
      f'(python -m metamimic.record makes them)'
    )


def _interpreted(path: str, interpret: Callable[['Group'], _T]) -> _T:
  _check_exists(path)
  if not h5py.is_hdf5(path):
    raise DamagedError(
      f'{path}: not an HDF5 file; expected demonstrations as '
      f'python -m metamimic.record writes them'
    )
  try:
    file = h5py.File(path, 'r')
  except Exception as e:  # As in `_reading`.
    raise DamagedError(
      f'{path}: damaged; expected a complete HDF5 file ({type(e).__name__}: {e})'
    ) from e
  with file:
    return interpret(Group(path, file, _Budget(os.path.getsize(path))))


class Group:
  """A group of a file."""

  def __init__(self, where: str, group: h5py.Group, budget: _Budget) -> None:
    """Wraps it; see `read`."""
    self.where = where
    """Names it in errors."""
    self._group = group
    self._budget = budget

  def names(self) -> list[str]:
    """Returns the names of what is in it."""
    with _reading(self.where):
      names = list(self._group)
      for name in names:
        if not isinstance(name, str):
          raise DamagedError(
            f'{self.where}: a name is {name!r:.200}; expected it in UTF-8'
          )
      return names

  def has(self, name: str) -> bool:
    """Returns whether something has this name in it, whatever it is."""
    with _reading(f'{self.where}: {name}'):
      return self._group.id.links.exists(name.encode())

  def group(self, name: str, where: str) -> 'Group | None':
    """Returns a group in it; None: there is nothing of that name.

    Args:
      name: of the group.
      where: how errors call it.

    Raises:
      ValueError: it is no group, or in another file.
    """
    found = self._find(name)
    if found is not None and not isinstance(found, h5py.Group):
      raise DamagedError(f'{where} is {_kind(found)}; expected a group')
    return None if found is None else Group(where, found, self._budget)

  def array(self, name: str, dtype: type) -> np.ndarray:
    """Returns an array in it.

    Args:
      name: of the array; groups on the way to it are separated by slashes.
      dtype: that it shall have.

    Raises:
      ValueError: it is not there, not in this file, damaged, of another type, or takes
        too much memory.
    """
    where = f'{self.where}: {name}'
    dataset = self._find(name)
    if not isinstance(dataset, h5py.Dataset):
      raise ValueError(
        f'{self.where}: no dataset {name}; expected one of {np.dtype(dtype)}'
      )
    with _reading(where):
      if dataset.dtype != dtype:
        raise DamagedError(f'{where} is {dataset.dtype}; expected {np.dtype(dtype)}')
      _charge(where, dataset, self._budget)
      return dataset[()]

  def strings(self, name: str, most: int) -> Iterator[str] | None:
    """Returns a list of texts in it, one after the other; None: there is no list.

    Args:
      name: as for `array`.
      most: texts that there may be.

    Raises:
      ValueError: as for `array`, or there are more.
    """
    where = f'{self.where}: {name}'
    dataset = self._find(name)
    with _reading(where):
      if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1:
        return None
      kind = h5py.check_string_dtype(dataset.dtype)
      if kind is None:
        return None
      if len(dataset) > most or (kind.length or 0) > _LONGEST_NAME:
        raise DamagedError(
          f'{where} has {len(dataset)} names of {kind.length or "any"} bytes; expected '
          f'at most {most} of {_LONGEST_NAME}'
        )
      _charge(where, dataset, self._budget)
    return _strings(where, dataset)

  def attribute(self, name: str) -> Any:
    """Returns the text or the number that an attribute is; None: there is none.

    Raises:
      ValueError: it is damaged, or anything else.
    """
    where = f'{self.where}: attribute {name}'
    with _reading(where):
      if name not in self._group.attrs:
        return None
      attribute = self._group.attrs.get_id(name)
      scalar = attribute.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
      if not scalar or attribute.get_storage_size() > _MOST_ATTRIBUTE:
        raise DamagedError(f'{where} is no single value; expected a text or a number')
      value = self._group.attrs[name]
      if isinstance(value, str):
        # What is no UTF-8 comes as half characters, which cannot be printed.
        value.encode()
      elif not isinstance(value, (bool, np.bool_, int, float, np.number)):
        raise DamagedError(
          f'{where} is a {type(value).__name__}; expected a text or a number'
        )
      return value

  def _find(self, name: str) -> Any:
    """Returns an object of the file; None: there is nothing of that name."""
    found, where = self._group, f'{self.where}: {name}'
    with _reading(where):
      for part in name.split('/'):
        links = found.id.links if isinstance(found, h5py.Group) else None
        if links is None or not links.exists(part.encode()):
          return None
        if links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
          raise DamagedError(f'{where} is a link; expected it in the file itself')
        found = found[part]
      return found


def _kind(found: Any) -> str:
  return 'a dataset' if isinstance(found, h5py.Dataset) else 'a type'


def _strings(where: str, dataset: h5py.Dataset) -> Iterator[str]:
  for i in range(len(dataset)):
    # One at a time: each may be as long as the file, and who asks stops at a wrong one.
    with _reading(where):
      text = dataset[i].decode()
    yield text


def _charge(where: str, dataset: h5py.Dataset, budget: _Budget) -> None:
  """Refuses what is not in the file itself, or takes more than there is left.

  Args:
    where: the dataset is, for errors.
    dataset: that shall be read.
    budget: from which that is taken.
  """
  properties = dataset.id.get_create_plist()
  if dataset.is_virtual or properties.get_external_count():
    raise DamagedError(f'{where} lies in other files; expected it in the file itself')
  if dataset.shape is None:
    raise DamagedError(f'{where} is empty; expected an array')
  size, number = dataset.dtype.itemsize, 1
  for length, chunk in zip(dataset.shape, dataset.chunks or dataset.shape, strict=True):
    # A last chunk is unfolded as a whole.
    size *= max(chunk, 1)
    number *= math.ceil(length / max(chunk, 1))
  unfolded = size * (number if dataset.chunks else 1)
  if unfolded > budget.unfolded:
    raise DamagedError(
      f'{where} has shape {dataset.shape}, for which there is no room; expected all '
      f'arrays to take at most {FACTOR} times the memory of the file'
    )
  budget.unfolded -= unfolded
  if dataset.chunks:
    _check_chunks(where, dataset, properties, size, number, budget)


def _check_chunks(
  where: str,
  dataset: h5py.Dataset,
  properties: Any,
  size: int,
  number: int,
  budget: _Budget,
) -> None:
  """Refuses chunks that are too many, or unfold to more than they should.

  Args:
    where: the dataset is, for errors.
    dataset: to which they belong.
    properties: with which it was made.
    size: bytes of a chunk in memory.
    number: of its chunks.
    budget: from which their bytes in the file are taken.
  """
  filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
  if len(set(filters)) < len(filters) or not set(filters) <= set(_FILTERS):
    raise DamagedError(f'{where} has filters {filters}; expected gzip or none')
  chunks: list[Any] = []
  if number <= budget.stored:
    dataset.id.chunk_iter(chunks.append)
  if len(chunks) != number:
    raise DamagedError(f'{where} has {len(chunks)} chunks; expected {number}')
  for chunk in chunks:
    budget.stored -= chunk.size
    if budget.stored < 0 or chunk.filter_mask:
      raise DamagedError(f'{where} has damaged chunks; expected each once')
    if h5py.h5z.FILTER_DEFLATE in filters:
      _, packed = dataset.id.read_direct_chunk(chunk.chunk_offset)
      # libhdf5 goes on for as long as anything comes.
      unpacked = zlib.decompressobj().decompress(packed, size + _CHECKSUM + 1)
      if len(unpacked) > size + _CHECKSUM:
        raise DamagedError(
          f'{where} unfolds to more than its shape; expected {size:,} bytes'
        )
