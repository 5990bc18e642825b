"""The README says what is there."""

import pathlib
import re

from benchmarks import readme

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_README = (_ROOT / 'README.md').read_text()


def test_results_are_those_of_the_files() -> None:
  numbers, differences = readme.check()
  assert len(numbers) > 100
  assert not differences


def test_every_file_of_the_table_exists_and_every_module_is_in_it() -> None:
  rows = re.findall(r'^\| (`[^|]*) \|', _README, re.MULTILINE)
  named: set[pathlib.Path] = set()
  for row in rows:
    folder: pathlib.Path | None = None
    for name in re.findall('`([^`]+)`', row):
      path = _ROOT / name
      if not path.exists() and folder is not None:
        path = folder / name
      assert path.exists(), f'{name} is in the README but not there'
      named.add(path)
      folder = path.parent
  modules = [
    path
    for package in ('envs', 'metamimic', 'agents', 'launch_configs')
    for path in (_ROOT / package).glob('*.py')
    if path.name != '__init__.py'
  ]
  # What a reader meets as a command, not as a file, is named where it is used.
  commands = set(re.findall(r'python -m ([\w.]+)', _README))
  missing = [
    str(path.relative_to(_ROOT))
    for path in modules
    if path not in named
    and '.'.join(path.relative_to(_ROOT).with_suffix('').parts) not in commands
    and f'`{path.relative_to(_ROOT)}`' not in _README
  ]
  assert not missing
