"""The rules of the source tree that no other tool enforces."""

import ast
from collections.abc import Iterator
import dataclasses
from importlib import metadata
import pathlib
import re
import sys

import pytest

import agents
import envs
import launch_configs
import metamimic
from metamimic import config as config_lib

ROOT = pathlib.Path(__file__).absolute().parents[1]
LAYERS = ('envs', 'metamimic', 'agents', 'launch_configs')
"""Each may import those before it, and itself."""
FOLDERS = (*LAYERS, 'benchmarks', 'tests')
CONFIG = 'metamimic/config.py'


def _files(*folders: str) -> list[str]:
  found = [p.relative_to(ROOT) for f in folders for p in (ROOT / f).rglob('*.py')]
  return sorted(map(str, found))


def _parse(path: str) -> ast.Module:
  return ast.parse((ROOT / path).read_text(), path)


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
  """Yields line and dotted name of every import, those within functions included."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from ((node.lineno, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.lineno, '.' * node.level + (node.module or '')


def _upward(path: str, tree: ast.AST) -> list[str]:
  """Returns the imports of a later layer, and the relative ones, which hide theirs."""
  allowed = LAYERS[: LAYERS.index(path.split('/')[0]) + 1]
  return [
    f'{path}:{line}: imports {name}'
    for line, name in _imports(tree)
    if name.startswith('.')
    or (name.split('.')[0] in FOLDERS and name.split('.')[0] not in allowed)
  ]


def _values(tree: ast.AST) -> Iterator[tuple[int, str, ast.expr]]:
  """Yields line, name and value of each parameter and field declared with one."""
  for node in ast.walk(tree):
    if isinstance(node, ast.arguments):
      arguments = [*node.posonlyargs, *node.args]
      arguments = arguments[len(arguments) - len(node.defaults) :] + node.kwonlyargs
      values = [*node.defaults, *node.kw_defaults]
      for argument, value in zip(arguments, values, strict=True):
        if value is not None:
          yield argument.lineno, argument.arg, value
    elif isinstance(node, ast.ClassDef):
      for field in node.body:
        if isinstance(field, ast.AnnAssign) and field.value is not None:
          yield field.lineno, ast.unparse(field.target), field.value


def _second_values(path: str, tree: ast.AST, names: set[str]) -> list[str]:
  """Returns the declarations that give a hyperparameter a value.

  Nothing, nought and empty are none: they leave the thing out.
  """
  return [
    f'{path}:{line}: {name} = {ast.unparse(value)}; the value is in {CONFIG}'
    for line, name, value in _values(tree)
    if name in names and ast.unparse(value) not in ('None', 'False', '0', '0.0', '()')
  ]


# What policies see has these, and so has what only people look at.
_OF_ANY_PICTURE = {'cameras', 'frames', 'size'}


def _hyperparameters() -> set[str]:
  """The names in the sections of a run's configuration."""
  sections = (field.type for field in dataclasses.fields(config_lib.Config))
  names = {
    field.name
    for section in sections
    if isinstance(section, type) and dataclasses.is_dataclass(section)
    for field in dataclasses.fields(section)
    # What has fields of its own holds values, but is none.
    if not dataclasses.is_dataclass(field.type)
  }
  return names - _OF_ANY_PICTURE


def _provided() -> set[str]:
  """The top-level names that the distributions in requirements.in install."""
  # Of requirements-vertex.txt, which is not installed here.
  names = {'xmanager', 'google'}
  for line in (ROOT / 'requirements.in').read_text().splitlines():
    if match := re.match(r'[\w.-]+', line):
      distribution = metadata.distribution(match.group())
      names |= set((distribution.read_text('top_level.txt') or '').split())
      record = distribution.read_text('RECORD') or ''
      names |= set(re.findall(r'^(\w+)(?:/|\.py,)', record, re.MULTILINE))
  return names


@pytest.mark.parametrize('path', _files(*LAYERS))
def test_layers_are_imported_one_way(path: str) -> None:
  assert not _upward(path, _parse(path))


def test_upward_imports_are_seen() -> None:
  tree = ast.parse('import envs\ndef f():\n  from agents import bc\nfrom . import x')
  assert sorted(_upward('metamimic/x.py', tree)) == [
    'metamimic/x.py:3: imports agents',
    'metamimic/x.py:4: imports .',
  ]
  assert _upward('launch_configs/x.py', ast.parse('import agents.bc, envs')) == []
  assert _upward('envs/x.py', ast.parse('import tests.layering_test'))


def test_launchpad_is_imported_in_one_file() -> None:
  importing = {
    path
    for path in _files(*LAYERS, 'benchmarks')
    for _, name in _imports(_parse(path))
    if name.split('.')[0] in ('launchpad', 'courier')
  }
  assert importing == {'launch_configs/program.py'}


@pytest.mark.parametrize('package', [agents, envs, launch_configs, metamimic])
def test_packages_are_those_of_this_checkout(package: object) -> None:
  # `agents` is also the name of distributions that somebody may have installed.
  name = package.__name__  # type: ignore[attr-defined]
  path = package.__file__  # type: ignore[attr-defined]
  assert pathlib.Path(path).resolve() == (ROOT / name / '__init__.py').resolve()


@pytest.mark.parametrize('path', [p for p in _files(*LAYERS) if p != CONFIG])
def test_hyperparameters_have_one_value(path: str) -> None:
  names = _hyperparameters()
  assert {'discount', 'policy_width', 'sigma'} <= names
  assert not _second_values(path, _parse(path), names)


def test_second_values_are_seen() -> None:
  tree = ast.parse(
    'def f(a, b=1, /, c=2, *, d, e=3, g=0): x = 4\nclass C:\n  h: int = 5\n  i: int\n'
  )
  seen = _second_values('x.py', tree, set('abcdeghix'))
  assert sorted(line.split(';')[0] for line in seen) == [
    'x.py:1: b = 1',
    'x.py:1: c = 2',
    'x.py:1: e = 3',
    'x.py:3: h = 5',
  ]


@pytest.mark.parametrize('folder', FOLDERS)
def test_what_is_imported_is_chosen_in_requirements(folder: str) -> None:
  known = _provided() | set(FOLDERS) | sys.stdlib_module_names
  unknown = {
    f'{path}: {name}'
    for path in _files(folder)
    for _, name in _imports(_parse(path))
    if name.split('.')[0] not in known
  }
  assert not unknown
