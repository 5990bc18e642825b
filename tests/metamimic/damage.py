"""Damage to files, and whether who reads them takes it as they should.

A file is refused, by an error that names it; or it is as good as before, where nothing
tells the damage. All of it is tried in a child with limits, which dies if one case ends
the process, or takes more.
"""

from collections.abc import Callable, Iterable
import functools
import json
import os
import pathlib
import random
from typing import Any

from metamimic import limits

CASES = 1000
MEMORY = 512 * 2**20
"""Bytes that all cases may take beyond those of this process."""
_SECONDS = 240  # Of CPU time, for all cases; ...
_LONGEST = 5.0  # ... and for one, children's included.

Load = Callable[[], object]


def damaged(content: bytes, seed: int) -> bytes:
  """Returns what is left of a file's content; the same for the same seed."""
  rng = random.Random(seed)
  found = bytearray(content)
  if rng.random() < 0.15:
    return bytes(found[: rng.randrange(len(found))])
  for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
    at = rng.randrange(len(found) or 1)
    run = rng.choice((2, 4, 8, 64))
    kind = rng.randrange(6)
    if not found:
      return b''
    if kind == 0:
      found[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
      found[at] = rng.randrange(256)
    elif kind == 2:
      found[at] = rng.choice((0, 1, 127, 128, 255))
    elif kind == 3:
      found[at : at + run] = rng.choice((b'\xff', b'\0', b'\x7f')) * run
    elif kind == 4:
      other = rng.randrange(len(found))
      found[at : at + run] = found[other : other + run]
    else:
      found[at : at + rng.randrange(run)] = found[:0] if rng.random() < 0.5 else b'\xff'
  return bytes(found)


_STRANGE: tuple[Any, ...] = (
  *(None, True, -1, 0, 1.5, 1e308, -1e-308, 10**30, 2**63, [], {}, [[]], [None], ''),
  *('many', 'os:abort', '../../etc/passwd', '\0', '\ud800', '\x1b[2J', 'x' * 100_000),
  *({'': {'': []}}, [1] * 10_000, float('nan'), float('inf')),
)


def changed(values: Any, seed: int) -> str:
  """Returns JSON in which one value is another, missing, or beside one more."""
  rng = random.Random(seed)
  values = json.loads(json.dumps(values))
  places = list(_places(values))
  holder, key = rng.choice(places)
  kind = rng.randrange(8)
  if kind == 0:
    del holder[key]
  elif kind == 1 and isinstance(holder, dict):
    holder[rng.choice(('', 'more', key + '_'))] = holder[key]
  elif kind == 2:
    other, at = rng.choice(places)
    holder[key] = json.loads(json.dumps(other[at]))
  elif kind == 3:
    holder[key] = 'DEEP'
    depth = rng.choice((100, 900, 100_000))
    return json.dumps(values).replace('"DEEP"', '[' * depth + ']' * depth)
  else:
    holder[key] = rng.choice(_STRANGE)
  return json.dumps(values)


def _places(values: Any) -> Iterable[tuple[Any, Any]]:
  items = values.items() if isinstance(values, dict) else enumerate(values)
  for key, value in list(items):
    yield values, key
    if isinstance(value, (dict, list)):
      yield from _places(value)


def assert_refused(
  load: Load,
  path: str | os.PathLike[str],
  contents: Iterable[bytes | str],
  named: str | os.PathLike[str] = '',
  least: int = 0,
) -> None:
  """Puts each content into a file and sees how it is taken.

  Args:
    load: reads the file.
    path: of the file.
    contents: damaged ones.
    named: what errors name; empty: the file.
    least: contents that have to be refused.
  """
  check = functools.partial(_check, load, pathlib.Path(path), contents, named, least)
  assert limits.failure(check, MEMORY, _SECONDS) is None


def _check(
  load: Load,
  path: pathlib.Path,
  contents: Iterable[bytes | str],
  named: str | os.PathLike[str],
  least: int,
) -> None:
  refused, wrong = 0, []
  for case, content in enumerate(contents):
    path.unlink(missing_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    begun = sum(os.times()[:4])
    try:
      load()
    except (ValueError, OSError) as e:
      refused += 1
      if str(named or path) not in str(e):
        wrong.append(f'{case}: the file is not named: {e!r}')
    except Exception as e:
      wrong.append(f'{case}: {e!r}')
    seconds = sum(os.times()[:4]) - begun
    if seconds > _LONGEST:
      wrong.append(f'{case}: took {seconds:.1f} s')
  if wrong or refused < least:
    raise ValueError('\n'.join([f'{refused} were refused', *wrong[:20]]))


def message(load: Load) -> str:
  """Returns by which error something is refused, within the limits."""
  failure = limits.failure(load, MEMORY, _SECONDS)
  assert failure is not None, 'it is not refused'
  return failure
