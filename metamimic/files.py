"""Small files of a run directory: written whole, read so that no damage does harm.

Whatever is there instead of the file, reading ends soon, takes little memory, and fails
with a message that names the file. Nothing that is read is ever run.
"""

from collections.abc import Mapping
import contextlib
import json
import math
import os
import stat
from typing import Any

TEMPORARY = '.tmp'
"""End of the name of a file that is being written."""

_MOST_BYTES = 1 << 20  # Manifests, configurations and the like have a few thousand.


def read_text(path: str | os.PathLike[str]) -> str:
  """Returns what is in a text file.

  Raises:
    OSError: there is none, or it cannot be read.
    ValueError: it is something else than a file, too large, or no text.
  """
  # A pipe without a writer would keep who opens it waiting.
  descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
  if not stat.S_ISREG(os.fstat(descriptor).st_mode):
    os.close(descriptor)
    raise ValueError(f'{path}: expected a regular file')
  with open(descriptor, 'rb') as f:
    content = f.read(_MOST_BYTES + 1)
  if len(content) > _MOST_BYTES:
    raise ValueError(f'{path}: expected at most {_MOST_BYTES:,} bytes')
  try:
    return content.decode()
  except UnicodeDecodeError as e:
    raise ValueError(f'{path}: expected text in UTF-8 ({e})') from e


def cut_torn_line(path: str | os.PathLike[str]) -> None:
  """Removes a last line without its end, within which a process died, if there is one.

  Raises:
    OSError: the file cannot be read or written.
  """
  if os.path.exists(path):
    with open(path, 'rb+') as f:
      f.truncate(f.read().rfind(b'\n') + 1)


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns the object that is in a file of JSON.

  Raises:
    OSError: there is no such file, or it cannot be read.
    ValueError: it holds anything else, or a number that is not finite.
  """
  return parse_json(read_text(path), str(path))


def write_json(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
  """Writes an object as JSON, in one piece: to a temporary name first.

  Raises:
    OSError: it cannot be written.
  """
  write_text(path, json.dumps(values, indent=2))


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes a text in one piece: to a temporary name first, `TEMPORARY` at its end.

  Raises:
    OSError: it cannot be written.
  """
  temporary = f'{os.fspath(path)}{TEMPORARY}'
  with open(temporary, 'w') as f:
    f.write(text)
  sync(temporary)
  os.replace(temporary, path)
  sync(os.path.dirname(os.path.abspath(path)))


def sync(path: str | os.PathLike[str]) -> None:
  """Returns once a file's content, or the names in a folder, outlive a loss of power.

  Without it a name may be on the disk before what it stands for.

  Raises:
    OSError: a file cannot be written after all.
  """
  descriptor = os.open(path, os.O_RDONLY)
  try:
    is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    # Not all file systems can do it to folders.
    with contextlib.suppress(*([OSError] if is_folder else [])):
      os.fsync(descriptor)
  finally:
    os.close(descriptor)


def parse_json(text: str, where: str) -> dict[str, Any]:
  """Returns the object that a text is in JSON.

  Args:
    text: to parse.
    where: it was found, for errors.

  Raises:
    ValueError: it is anything else, or holds a number that is not finite.
  """
  try:
    values = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    # Half characters, which cannot be printed, can be written in ASCII.
    json.dumps(values, ensure_ascii=False).encode()
  except (ValueError, RecursionError) as e:
    raise ValueError(f'{where}: expected a JSON object ({e})') from e
  if not isinstance(values, dict):
    raise ValueError(
      f'{where}: expected a JSON object, found a {type(values).__name__}'
    )
  return values


def _refuse(constant: str) -> float:
  raise ValueError(f'{constant} is no number of JSON')


def _finite(text: str) -> float:
  value = float(text)
  if not math.isfinite(value):
    raise ValueError(f'{text} is too large')
  return value


def is_count(value: object) -> bool:
  """Returns whether a value from JSON is a whole number, 0 or more, of 64 bits."""
  return type(value) is int and 0 <= value < 1 << 63


def are_counts(values: object) -> bool:
  """Returns whether a value from JSON is an object of such numbers."""
  return isinstance(values, Mapping) and all(is_count(v) for v in values.values())


def is_number(value: object) -> bool:
  """Returns whether a value from JSON is a number, 0 or more."""
  return (is_count(value) or type(value) is float) and value >= 0  # type: ignore[operator]


def are_numbers(values: object) -> bool:
  """Returns whether a value from JSON is an object of such numbers."""
  return isinstance(values, Mapping) and all(is_number(v) for v in values.values())
