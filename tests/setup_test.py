"""scripts/setup.sh with an installer that only notes what it is asked for."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).absolute().parents[1]
_TOOLS = ('bash', 'cat', 'chmod', 'cmp', 'cp', 'dirname', 'grep', 'ln', 'mkdir', 'rm')
_UV = """#!/bin/sh
echo "$*" >> uv.log
case "$1" in
  venv) mkdir -p .venv/bin; ln -s "$REAL_PYTHON" .venv/bin/python;;
  pip) touch .venv/installed; [ ! -e fail ];;
esac
"""


class Checkout:
  """A checkout with a PATH of its own, so that this machine's Pythons stay unseen."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.bin = folder / 'bin'
    self.bin.mkdir()
    (folder / 'scripts').mkdir()
    shutil.copy(ROOT / 'scripts' / 'setup.sh', folder / 'scripts')
    (folder / 'requirements.txt').write_text('uv==0.13.9\n')
    for tool in (*_TOOLS, 'touch', 'uname'):
      (self.bin / tool).symlink_to(shutil.which(tool) or tool)

  def add(self, name: str, script: str) -> None:
    (self.bin / name).write_text(script)
    (self.bin / name).chmod(0o755)

  def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
      ['bash', 'scripts/setup.sh'],
      cwd=self.folder,
      env={
        'PATH': str(self.bin),
        'HOME': str(self.folder),
        'REAL_PYTHON': sys.executable,
        **environment,
      },
      capture_output=True,
      text=True,
    )

  def log(self) -> list[str]:
    """Returns the first two words of each call of uv since the last `log`."""
    path = self.folder / 'uv.log'
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [' '.join(line.split()[:2]) for line in lines]


@pytest.fixture
def checkout(tmp_path: pathlib.Path) -> Checkout:
  made = Checkout(tmp_path)
  made.add('uv', _UV)
  # The shim of a version that is not selected: it exists, and fails.
  made.add('python3.10', '#!/bin/sh\nexit 127\n')
  return made


def test_it_is_done_once(checkout: Checkout) -> None:
  first = checkout.run()
  assert first.returncode == 0, first.stderr
  assert checkout.log() == ['venv --quiet', 'pip install']
  second = checkout.run()
  assert (second.returncode, second.stdout) == (0, '')
  assert checkout.log() == []


def test_what_runs_import_is_compiled_where_nobody_else_writes_bytecode(
  checkout: Checkout,
) -> None:
  package = checkout.folder / 'launch_configs'
  package.mkdir()
  (package / '__init__.py').touch()
  (package / 'entry.py').write_text('def import_all():\n  import imported\n')
  (checkout.folder / 'imported.py').touch()
  assert checkout.run(PYTHONDONTWRITEBYTECODE='1').returncode == 0
  assert list((checkout.folder / '__pycache__').glob('imported.*.pyc'))


def test_another_lock_is_installed_into_the_same_environment(
  checkout: Checkout,
) -> None:
  checkout.run()
  checkout.log()
  (checkout.folder / 'requirements.txt').write_text('uv==0.13.9\nrich==1.0\n')
  assert checkout.run().returncode == 0
  assert checkout.log() == ['pip install']
  assert checkout.run().stdout == ''


def test_an_interrupted_set_up_is_done_afresh(checkout: Checkout) -> None:
  (checkout.folder / 'fail').touch()
  failed = checkout.run()
  assert failed.returncode == 1
  assert 'requirements.txt could not be installed' in failed.stderr
  (checkout.folder / '.venv' / 'half').touch()
  (checkout.folder / 'fail').unlink()
  checkout.log()
  assert checkout.run().returncode == 0
  assert checkout.log() == ['venv --quiet', 'pip install']
  assert not (checkout.folder / '.venv' / 'half').exists()


def test_a_python_of_pyenv_is_found(checkout: Checkout) -> None:
  folder = checkout.folder / '.pyenv' / 'versions' / '3.10.99' / 'bin'
  folder.mkdir(parents=True)
  (folder / 'python').symlink_to(sys.executable)
  assert f'with uv and {folder}/python\n' in checkout.run().stdout


def test_without_python_what_provides_it_is_named(checkout: Checkout) -> None:
  os.remove(checkout.bin / 'uv')
  failed = checkout.run()
  assert failed.returncode == 1
  assert 'no Python 3.10 found' in failed.stderr
  assert 'pyenv install 3.10' in failed.stderr
  assert 'pipx install uv' in failed.stderr
  assert not (checkout.folder / '.venv').exists()


def test_a_python_that_is_named_has_to_fit(checkout: Checkout) -> None:
  failed = checkout.run(PYTHON='python3.10')
  assert failed.returncode == 1
  assert 'PYTHON=python3.10 does not run as Python 3.10' in failed.stderr
  assert checkout.run(PYTHON=sys.executable).returncode == 0


def test_another_machine_is_refused(checkout: Checkout) -> None:
  os.remove(checkout.bin / 'uname')
  checkout.add('uname', '#!/bin/sh\necho Darwin arm64\n')
  failed = checkout.run()
  assert failed.returncode == 1
  assert 'this is Darwin arm64' in failed.stderr


@pytest.mark.parametrize('named', [False, True])
def test_demonstrations_that_are_named_are_not_recorded(named: bool) -> None:
  given = ['DEMONSTRATIONS=mine.hdf5'] if named else []
  environment = {k: v for k, v in os.environ.items() if k != 'DEMONSTRATIONS'}
  done = subprocess.run(
    ['make', '--dry-run', 'train', *given],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  )
  assert ('-m metamimic.record' in done.stdout) != named
  file = 'mine.hdf5' if named else 'data/lift_brick.hdf5'
  assert f'--demonstrations {file}' in done.stdout
