"""What nodes have to tell the user: lines that the launcher shows."""

import contextlib
import os

FILE = 'notices.log'
"""Name of the file, in the run directory."""


def tell(run_dir: str | os.PathLike[str], text: str) -> None:
  """Appends a line, or does nothing where that is impossible."""
  # A full disk is one of the things to tell of.
  with contextlib.suppress(OSError), open(os.path.join(run_dir, FILE), 'a') as f:
    f.write(' '.join(text.split()) + '\n')
