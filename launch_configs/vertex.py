"""Runs everything on Google's Vertex AI, as one job that Launchpad submits.

  python -m launch_configs.vertex --run-dir /gcs/bucket/lift --demonstrations \
    /gcs/bucket/lift_brick.hdf5 --listen-everywhere --actor.num-actors 16

Vertex AI shows the storage buckets of a project under /gcs; here they have to be
mounted under the same path. The same command goes on where the run stopped. Exit
status: 0 submitted (or the run is done), 1 an image or the submission failed, 2 refused
before anything was submitted. See docs/cluster.md for what was never tried for want of
an account.
"""

from collections.abc import Sequence
import dataclasses
import importlib.util
import pathlib
import shutil
import sys
import tempfile

from launch_configs import hosted
from launch_configs import local
from launch_configs import run_directory
from metamimic import config
from metamimic import validation

_PROGRAM = 'python -m launch_configs.vertex'
_PACKAGES = ('agents', 'envs', 'launch_configs', 'metamimic')
REQUIREMENTS = 'requirements-image.txt'
"""Name of the file of what an image installs, beside the code."""
# Pip would refuse dm-acme for the launchpad it asks for, and an image cannot be told to
# look away: its code is copied. The rest are tools of the developer.
_NOT_INSTALLED = ('dm-acme', 'mypy', 'pytest', 'pytest-timeout', 'ruff', 'uv')
_COPIED = 'acme'
_ROLES = ('replay', 'learner', 'actor', 'evaluator')
NEEDS = ('google.cloud.aiplatform', 'xmanager')
"""What Launchpad submits with, beside what is installed anyway."""
MOUNTS = pathlib.Path('/gcs')
"""Where each machine of Vertex AI sees the storage buckets of its project."""


@dataclasses.dataclass(frozen=True)
class Machine:
  """What a node asks for; Vertex AI takes the smallest machine that has it."""

  cpus: int = 4
  """Cores."""
  memory: int = 15
  """Memory, in GiB."""


@dataclasses.dataclass(frozen=True)
class Options(local.Options):
  """A run, where it is kept, and what its nodes ask of Vertex AI."""

  listen_everywhere: bool = False
  """Agree that the replay server listens on all addresses of its machine, because
  Launchpad gives no say in it there. Whoever can reach it can read and change the run's
  experience and policies."""
  replay_machine: Machine = Machine()
  """Of the replay server."""
  learner_machine: Machine = Machine()
  """Of each learner."""
  actor_machine: Machine = Machine()
  """Of each actor."""
  evaluator_machine: Machine = Machine()
  """Of the evaluator."""
  dry_run: str = ''
  """Folder, new or empty, in which to leave what each image would be made from; nothing
  is submitted."""


def validate(options: Options, run_dir: pathlib.Path, settings: config.Config) -> None:
  """Refuses what cannot be run there.

  Args:
    options: what its nodes ask for.
    run_dir: of the run.
    settings: of the run.

  Raises:
    ValueError: the message names the option, its value and what was expected.
  """
  places = {'run_dir': str(run_dir), 'demonstrations': settings.demonstrations}
  for name, path in places.items():
    if MOUNTS not in pathlib.Path(path).absolute().parents:
      raise ValueError(
        f'{name} is {path}; expected a path under {MOUNTS}/<bucket>, where every '
        'machine of Vertex AI sees it'
      )
  if not options.listen_everywhere:
    raise ValueError(
      'listen_everywhere is False; expected True: on Vertex AI the replay server '
      'listens on all addresses of its machine, and nothing listens beyond loopback '
      'unless told to'
    )
  for role in _ROLES:
    machine: Machine = getattr(options, f'{role}_machine')
    for field in dataclasses.fields(machine):
      value = getattr(machine, field.name)
      if value < 1:
        raise ValueError(f'{role}_machine.{field.name} is {value}; expected 1 or more')
  if options.dry_run and any(pathlib.Path(options.dry_run).glob('*')):
    raise ValueError(
      f'dry_run is {options.dry_run}, which is not empty; expected a new folder'
    )
  package = settings.imitation.reward.partition('.')[0]
  if package and package not in _PACKAGES:
    raise ValueError(
      f'imitation.reward is {settings.imitation.reward}; expected one in '
      f'{", ".join(_PACKAGES)}, which are what images hold'
    )
  if settings.gpu:
    raise ValueError(
      'gpu is True; expected False: the images hold TensorFlow for processors alone'
    )
  # The images are Python's own, with nothing more from their distribution than git.
  drawn = 'there is nothing to draw with in the images that Launchpad makes'
  if settings.evaluation.videos:
    raise ValueError(
      f'evaluation.videos is {settings.evaluation.videos}; expected 0: {drawn}'
    )
  if settings.pixels.cameras:
    raise ValueError(
      f'pixels.cameras is {settings.pixels.cameras}; expected none: {drawn}'
    )


def stage(folder: pathlib.Path) -> pathlib.Path:
  """Copies what nodes import into a folder, and writes what they have installed.

  Args:
    folder: an empty one.

  Returns:
    The requirements file in it.
  """
  ignore = shutil.ignore_patterns('__pycache__', 'BUILD.bazel')
  for package in _PACKAGES:
    shutil.copytree(local.CHECKOUT / package, folder / package, ignore=ignore)
  found = importlib.util.find_spec(_COPIED)
  assert found is not None and found.submodule_search_locations
  source = found.submodule_search_locations[0]
  shutil.copytree(source, folder / _COPIED, ignore=ignore)
  lines = (local.CHECKOUT / 'requirements.txt').read_text().splitlines()
  wanted = [
    line
    for line in lines
    if '==' in line and line.partition('==')[0] not in _NOT_INSTALLED
  ]
  requirements = folder / REQUIREMENTS
  requirements.write_text('\n'.join([*wanted, '']))
  return requirements


def _check_installed() -> None:
  """Raises RuntimeError if Launchpad lacks what it submits with."""
  for name in NEEDS:
    try:
      missing = importlib.util.find_spec(name) is None
    except ModuleNotFoundError:
      missing = True
    if missing:
      raise RuntimeError(
        f'{name} is not installed; expected what requirements-vertex.txt lists (make '
        'vertex)'
      )


def _run(args: Sequence[str]) -> int:
  options = local.parse_options(Options, _PROGRAM, str(__doc__), args)
  run_dir, settings = local.resolve(options)
  validation.validate(settings)
  validate(options, run_dir, settings)
  _check_installed()
  with run_directory.locked(run_dir):
    if local.is_done(run_dir, settings):
      return 0
    local.prepare(run_dir, settings)
  # Its own imports take seconds: not before all is known good.
  from launch_configs import program

  machines = {
    role: {'cpu': machine.cpus, 'ram': machine.memory << 30}
    for role in _ROLES
    for machine in [getattr(options, f'{role}_machine')]
  }
  with tempfile.TemporaryDirectory() as folder:
    requirements = stage(pathlib.Path(folder))
    nodes = hosted.make_program(run_dir, settings)
    program.launch_on_vertex(
      nodes, folder, str(requirements), machines, options.dry_run
    )
  if options.dry_run:
    print(f'nothing was submitted: see {options.dry_run}')
  return 0


def main() -> int:
  """Submits what the command line asks for and returns the exit status."""
  try:
    return _run(sys.argv[1:])
  except (ValueError, OSError, RuntimeError) as e:
    print(f'error: {e}', file=sys.stderr)
    return local.REFUSED


if __name__ == '__main__':
  sys.exit(main())
