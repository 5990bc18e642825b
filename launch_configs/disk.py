"""Whether the disk of a run is full, which its nodes cannot write down."""

import errno
import os
import pathlib
import shutil

_LITTLE = 1_000_000  # Bytes on a disk that is as good as full.


class Watch:
  """Tells once that a disk is full, and once that it is no more."""

  def __init__(self, folder: pathlib.Path):
    """Looks at nothing yet.

    Args:
      folder: on the disk.
    """
    self._folder = folder
    self.full = False
    """Whether it was, when it was looked at last."""

  def look(self) -> str:
    """Returns what has changed, in words; empty: nothing."""
    try:
      free = shutil.disk_usage(self._folder).free
    except OSError:
      return ''  # A file system that other hosts share has its moments.
    full = free < (2 * _LITTLE if self.full else _LITTLE)
    if full == self.full:
      return ''
    self.full = full
    if full:
      return (
        f'{self._folder}: {os.strerror(errno.ENOSPC)} ({free / 1e6:.1f} MB are free); '
        'until there is room nothing is logged or saved'
      )
    return f'{self._folder}: there is room again'
