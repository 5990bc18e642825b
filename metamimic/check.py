"""Says whether this machine can run MetaMimic, and how to mend what does not fit.

    python -m metamimic.check

Only the standard library is imported here: where an installation is broken, this is
the command that has to work.
"""

import argparse
from collections.abc import Callable
import dataclasses
from importlib import metadata
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

from envs import gl

LOCK = pathlib.Path(__file__).absolute().parents[1] / 'requirements.txt'
"""The list of every package and its version that this checkout was tested with."""

_PYTHON = (3, 10)
# Launchpad before TensorFlow and MuJoCo after it, as in the processes of a run: in
# another set of versions one order loads and another does not.
_MODULES = (
  'launchpad',
  'reverb',
  'tensorflow',
  'sonnet',
  'acme',
  'mujoco',
  'dm_control',
)
_SHOWN = (
  'tensorflow-cpu',
  'dm-reverb',
  'dm-launchpad-nightly',
  'dm-acme',
  'dm-sonnet',
  'dm-control',
  'mujoco',
  'numpy',
)
_DRAW = """
import time
from envs import pictures
from envs import rendering
from envs import tasks
env = tasks.load('lift_brick', 0, pictures.Pictures(height=84, width=84))
env.reset()
begun = time.process_time()
for _ in range(100):
  env.observe()
rate = 100 / (time.process_time() - begun)
print(f'{rendering.device()}: {rate:.0f} pictures of 84 x 84 per CPU second')
"""
_REINSTALL = 'rm -rf .venv && make setup'
_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class Finding:
  """What one check found."""

  name: str
  """What was looked at."""
  detail: str
  """Versions and the like; what is wrong, if something is."""
  remedy: str = ''
  """The command or the step that mends it; empty: it fits."""

  def __str__(self) -> str:
    first, *rest = self.detail.splitlines()
    lines = [f'{"WRONG" if self.remedy else "ok":5}  {self.name:9}  {first}']
    lines += [f'{"":18}{line}' for line in rest]
    if self.remedy:
      lines.append(f'{"":18}to mend it: {self.remedy}')
    return '\n'.join(lines)


def check_platform() -> Finding:
  """The operating system and the processor."""
  system, machine = platform.system(), platform.machine()
  detail = f'{system} {machine}, {" ".join(platform.libc_ver()) or "no glibc"}'
  if (system, machine) != ('Linux', 'x86_64'):
    return Finding(
      'platform',
      f'{detail}; expected Linux x86_64, which alone has wheels of dm-reverb',
      'use such a machine or a virtual one',
    )
  # Other systems may not tell.
  return Finding('platform', f'{detail}, {len(os.sched_getaffinity(0))} CPU cores')


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
  """The interpreter, of which dm-launchpad's wheels fix the version."""
  detail = f'{".".join(map(str, version))} ({sys.executable})'
  if version[:2] != _PYTHON:
    return Finding(
      'python',
      f'{detail}; expected 3.10, the last that dm-launchpad has wheels for',
      'make setup, then .venv/bin/python -m metamimic.check',
    )
  return Finding('python', detail)


def read_lock(lock: pathlib.Path) -> dict[str, str]:
  """Returns the version of each package that a lock file lists.

  Raises:
    ValueError: a line is neither `name==version` nor a comment; the message names it.
  """
  versions = {}
  for number, line in enumerate(lock.read_text().splitlines(), 1):
    line = line.partition('#')[0].strip()
    if not line:
      continue
    match = re.fullmatch(r'([\w.-]+)==([\w.!+-]+)', line)
    if not match:
      raise ValueError(f'{lock}:{number}: {line!r}; expected name==version')
    versions[match[1]] = match[2]
  return versions


def check_packages(lock: pathlib.Path = LOCK) -> Finding:
  """Every installed package against the lock."""
  try:
    wanted = read_lock(lock)
  except (OSError, ValueError) as e:
    return Finding('packages', str(e), f'git checkout {lock.name}')
  misfits = []
  for name, version in wanted.items():
    try:
      installed = metadata.version(name)
    except metadata.PackageNotFoundError:
      installed = 'missing'
    if installed != version:
      misfits.append(f'{name}: {installed}; expected {version}')
  if misfits:
    head = f'{len(misfits)} of {len(wanted)} are not as in {lock.name}'
    return Finding('packages', '\n'.join([head, *misfits]), _REINSTALL)
  shown = [f'{name} {wanted[name]}' for name in _SHOWN if name in wanted]
  return Finding('packages', '\n'.join([f'{len(wanted)} as in {lock.name}', *shown]))


def check_imports(modules: tuple[str, ...] = _MODULES) -> Finding:
  """The native libraries, loaded into one process: a fault may end that process."""
  code = (
    'import sys\n'
    'for name in sys.argv[1:]:\n'
    '  print(name, flush=True)\n'
    '  __import__(name)\n'
    'print("done")'
  )
  environment = os.environ | {'MUJOCO_GL': 'disable', 'TF_CPP_MIN_LOG_LEVEL': '2'}
  try:
    done = subprocess.run(
      [sys.executable, '-c', code, *modules],
      env=environment,
      capture_output=True,
      text=True,
      timeout=_SECONDS,
    )
  except subprocess.TimeoutExpired:
    return Finding('imports', f'not done within {_SECONDS:.0f} s', _REINSTALL)
  reached = (done.stdout.split() or ['nothing'])[-1]
  if done.returncode == 0 and reached == 'done':
    return Finding('imports', f'{", ".join(modules)} load into one process')
  if done.returncode == -signal.SIGILL:
    return Finding(
      'imports',
      f'{reached} uses instructions that this processor lacks (AVX)',
      'use a processor with AVX; a virtual machine may have to be told to show it',
    )
  if done.returncode < 0:
    reason = f'killed by {signal.Signals(-done.returncode).name}'
  else:
    reason = (done.stderr.strip().splitlines() or ['no message'])[-1]
  return Finding('imports', f'{reached}: {reason}', _REINSTALL)


def check_compiler(command: str = 'cc') -> Finding:
  """The C compiler: a run builds the few lines that keep its servers on loopback."""
  mend = 'apt-get install gcc libc6-dev'
  compiler = shutil.which(command)
  if not compiler:
    return Finding('compiler', f'no {command} on PATH', mend)
  with tempfile.TemporaryDirectory() as folder:
    source = pathlib.Path(folder, 'probe.c')
    source.write_text('#include <dlfcn.h>\n#include <sys/socket.h>\n')
    done = subprocess.run(
      [compiler, '-shared', '-fPIC', '-o', f'{folder}/probe.so', str(source)],
      capture_output=True,
      text=True,
    )
  if done.returncode:
    message = (done.stderr.strip().splitlines() or ['no message'])[0]
    return Finding('compiler', f'{compiler}: {message}', mend)
  return Finding('compiler', compiler)


def check_loopback(host: str = '127.0.0.1') -> Finding:
  """The loopback network, over which the processes of a run talk."""
  try:
    with socket.create_server((host, 0)) as server:
      address = server.getsockname()
      socket.create_connection(address, timeout=5.0).close()
  except OSError as e:
    return Finding('loopback', f'{host}: {e}', 'ip link set lo up')
  return Finding('loopback', f'{host} takes connections')


def check_rendering() -> Finding:
  """The OpenGL library, with which videos and observed pictures are drawn."""
  try:
    backend = gl.choose_gl()
  except RuntimeError as e:
    asked = os.environ.get('MUJOCO_GL')
    mend = 'unset MUJOCO_GL' if asked else 'apt-get install libosmesa6'
    return Finding('rendering', str(e), mend)
  try:
    done = subprocess.run(
      [sys.executable, '-c', _DRAW],
      cwd=LOCK.parent,
      env=os.environ | {'MUJOCO_GL': backend},
      capture_output=True,
      text=True,
      timeout=_SECONDS,
    )
  except subprocess.TimeoutExpired:
    return Finding('rendering', f'not done within {_SECONDS:.0f} s', _REINSTALL)
  if done.returncode:
    reason = (done.stderr.strip().splitlines() or ['no message'])[-1]
    return Finding('rendering', f'MUJOCO_GL={backend}: {reason}', _REINSTALL)
  return Finding('rendering', f'MUJOCO_GL={backend} draws with {done.stdout.strip()}')


def main(arguments: list[str] | None = None) -> int:
  """Prints every finding; returns the exit status: 0 where everything fits, else 1."""
  argparse.ArgumentParser(
    prog='python -m metamimic.check', description=(__doc__ or '').partition('\n')[0]
  ).parse_args(arguments)
  wrong = 0
  checks: tuple[Callable[[], Finding], ...] = (
    check_platform,
    check_python,
    check_compiler,
    check_loopback,
    check_packages,
    check_imports,
    check_rendering,
  )
  for check in checks:
    finding = check()
    print(finding, flush=True)
    wrong += bool(finding.remedy)
    if finding.remedy and check in (check_packages, check_imports):
      print('What comes after this was not looked at: it needs what is wrong here.')
      break
  print(f'{wrong} to be mended.' if wrong else 'Everything fits.')
  return int(wrong > 0)


if __name__ == '__main__':
  sys.exit(main())
