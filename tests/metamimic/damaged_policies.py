"""Loads the policy of a run directory of which one file after the other is damaged.

In a process of its own: one that has used TensorFlow cannot be forked. Prints what goes
wrong; then how many were refused.
"""

from collections.abc import Callable, Iterator
import json
import pathlib
import resource
import sys

from metamimic import checkpoints
from metamimic import loading
from tests.metamimic import damage

_BEYOND = 2**29  # Bytes of memory, beyond those of a process that has loaded one.
_FILES = 1000
_CRAFTED = 100
_LEARNER = 'imitation'
_PARTS = ('state.index', 'state.data-00000-of-00001', 'steps')


def _each(run_dir: pathlib.Path) -> Iterator[tuple[int, pathlib.Path, bytes]]:
  """Yields seeds, files and what to put into them."""
  folder = run_dir / checkpoints.FOLDER / '1'
  texts = [run_dir / 'config.json', run_dir / 'run.json', folder / 'manifest.json']
  files = [*texts, *(folder / _LEARNER / name for name in _PARTS)]
  for seed in range(_FILES):
    path = files[seed % len(files)]
    content = path.read_bytes()
    if path in texts and seed % 4 < 2:
      yield seed, path, damage.changed(json.loads(content), seed).encode()
    else:
      yield seed, path, damage.damaged(content, seed)


def _with_their_checksums(
  run_dir: pathlib.Path,
) -> Iterator[tuple[int, pathlib.Path, bytes]]:
  """Yields what somebody did to a state, and to the manifest."""
  folder = run_dir / checkpoints.FOLDER / '1'
  for seed in range(_CRAFTED):
    yield (
      seed,
      folder / _LEARNER / _PARTS[seed % 2],
      damage.damaged((folder / _LEARNER / _PARTS[seed % 2]).read_bytes(), seed),
    )


def _sign(path: pathlib.Path) -> None:
  manifest = path.parents[1] / 'manifest.json'
  values = json.loads(manifest.read_text())
  file = checkpoints.fingerprint(path)
  values['files'][f'{_LEARNER}/{path.name}'] = vars(file)
  manifest.write_text(json.dumps(values))


def _refused(
  run_dir: pathlib.Path,
  cases: Iterator[tuple[int, pathlib.Path, bytes]],
  sign: Callable[[pathlib.Path], None] = lambda path: None,
) -> int:
  manifest = run_dir / checkpoints.FOLDER / '1' / 'manifest.json'
  refused = 0
  for seed, path, content in cases:
    before = path.read_bytes(), manifest.read_bytes()
    path.write_bytes(content)
    sign(path)
    try:
      loading.load(str(run_dir))
    except (ValueError, OSError) as e:
      refused += 1
      if str(run_dir) not in str(e):
        print(f'{seed}: {path.name}: no file is named: {e!r:.1000}')
    except Exception as e:
      print(f'{seed}: {path.name}: {e!r:.1000}')
    path.write_bytes(before[0])
    manifest.write_bytes(before[1])
  return refused


def main(run_dir: pathlib.Path) -> None:
  """Loads it once, then with limits."""
  loading.load(str(run_dir))
  with open('/proc/self/statm') as f:
    memory = int(f.read().split()[0]) * resource.getpagesize() + _BEYOND
  resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
  print(_refused(run_dir, _each(run_dir)))
  print(_refused(run_dir, _with_their_checksums(run_dir), _sign))


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]))
