"""The README and docs/ say what is there."""

import pathlib
import re

import pytest

from benchmarks import readme

_ROOT = pathlib.Path(__file__).absolute().parents[1]
_CODE = (_ROOT / 'docs' / 'code.md').read_text()
_PAGES = ['README.md', *sorted(f'docs/{p.name}' for p in (_ROOT / 'docs').glob('*.md'))]
_FOLDERS = 'agents|benchmarks|docs|envs|launch_configs|metamimic|results|scripts|tests'


def test_results_are_those_of_the_files() -> None:
  numbers, differences = readme.check()
  assert len(numbers) > 100
  assert not differences


def test_every_file_of_the_table_exists_and_every_module_is_in_it() -> None:
  rows = re.findall(r'^\| (`[^|]*) \|', _CODE, re.MULTILINE)
  named: set[pathlib.Path] = set()
  for row in rows:
    folder: pathlib.Path | None = None
    for name in re.findall('`([^`]+)`', row):
      path = _ROOT / name
      if not path.exists() and folder is not None:
        path = folder / name
      assert path.exists(), f'{name} is in docs/code.md but not there'
      named.add(path)
      folder = path.parent
  modules = [
    path
    for package in ('envs', 'metamimic', 'agents', 'launch_configs')
    for path in (_ROOT / package).glob('*.py')
    if path.name != '__init__.py'
  ]
  # What a reader meets as a command, not as a file, is named where it is used.
  text = _CODE + (_ROOT / 'README.md').read_text()
  commands = set(re.findall(r'python -m ([\w.]+)', text))
  missing = [
    str(path.relative_to(_ROOT))
    for path in modules
    if path not in named
    and '.'.join(path.relative_to(_ROOT).with_suffix('').parts) not in commands
  ]
  assert not missing


def _anchors(path: pathlib.Path) -> set[str]:
  """Returns what GitHub calls a page's headings in links."""
  titles = re.findall(r'^#+ (.*)$', path.read_text(), re.MULTILINE)
  return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', _PAGES)
def test_links_and_pictures_are_there(page: str) -> None:
  here = _ROOT / page
  for link in re.findall(r'(?:\]\(|src=")([^)\s"]+)', here.read_text()):
    if link.startswith('https://'):
      continue
    name, _, anchor = link.partition('#')
    path = here.parent / name if name else here
    assert path.exists(), link
    assert not anchor or anchor in _anchors(path), link


@pytest.mark.parametrize('page', _PAGES)
def test_files_that_are_named_are_there(page: str) -> None:
  text = (_ROOT / page).read_text()
  for name in re.findall(rf'`((?:{_FOLDERS})/[\w/*]+\.\w+)`', text):
    assert list(_ROOT.glob(name)), name
