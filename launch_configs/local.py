"""Runs everything on this machine: replay, learner, actors and evaluator.

  python -m launch_configs.local --demonstrations data/lift_brick.hdf5
  python -m launch_configs.local --run-dir runs/lift_brick

The second goes on where the run in that directory stopped. What changes nothing of what
was learnt may then differ: learner_steps, task.learner_steps, evaluation.* and gpu;
demonstrations, if the file is the same one elsewhere; pixels.frames, checkpoint_period,
stall_warning; num_actors and update_period of both kinds of actors. Exit status: 0 the
run is done (if it was before, too), 1 a node failed for good, 2 refused before anything
was started, 129, 130 or 143 stopped by SIGHUP, SIGINT or SIGTERM.
"""

import argparse
from collections.abc import Collection, Sequence
import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
from typing import Any, TypeVar

import tyro

from launch_configs import entry
from launch_configs import loopback
from launch_configs import nursery as nursery_lib
from launch_configs import run_directory
from launch_configs import supervisor
from metamimic import checkpoints
from metamimic import config
from metamimic import drafts
from metamimic import presets
from metamimic import unread
from metamimic import validation

REFUSED = 2
"""Exit status where nothing was started."""

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
"""The folder that this package lies in."""

_PROGRAM = 'python -m launch_configs.local'


@dataclasses.dataclass(frozen=True)
class Options(config.Config):
  """A run and where it is kept. A directory that holds a run is resumed."""

  run_dir: str = ''
  """Directory of the run, made if need be; empty: a new one under runs/, named after
  the demonstrations and the time."""
  preset: str = ''
  """Settings to start from, before those given here; empty: those of the run in
  run_dir, or laptop."""


_Options = TypeVar('_Options', bound=Options)


def parse(args: Sequence[str]) -> tuple[pathlib.Path, config.Config]:
  """Returns the run directory and the configuration asked for.

  Raises:
    ValueError: the run directory holds something else than a run, or a reward that only
      it names.
    SystemExit: the command line is wrong, or asks for help.
  """
  return resolve(parse_options(Options, _PROGRAM, str(__doc__), args))


def parse_options(
  options: type[_Options], program: str, description: str, args: Sequence[str]
) -> _Options:
  """Returns what a command line asks for.

  Args:
    options: what there is to ask for.
    program: how it is called.
    description: what it does.
    args: the words after that.

  Raises:
    ValueError: the run directory holds something else than a run, or a setting is of no
      use.
    SystemExit: the command line is wrong, or asks for help.
  """
  first = argparse.ArgumentParser(program, add_help=False, allow_abbrev=False)
  first.add_argument('--run-dir', '--run_dir', default='')
  first.add_argument('--imitation.reward', dest='reward')
  first.add_argument('--preset', default='', choices=['', *presets.PRESETS])
  given, _ = first.parse_known_args(args)
  base = presets.PRESETS[given.preset or 'laptop'][1]
  if given.run_dir and not given.preset:
    base = run_directory.stored_config(pathlib.Path(given.run_dir)) or base
    validation.check_trusted(
      given.run_dir, base.imitation.reward, given.reward, '--imitation.reward'
    )
  listed = '\n'.join(f'  {n}: {text}' for n, (text, _) in presets.PRESETS.items())
  asked = tyro.cli(
    options,
    prog=program,
    description=f'{description}\nPresets:\n{listed}',
    args=args,
    default=options(**vars(base), run_dir=given.run_dir, preset=given.preset),
  )
  unread.check(base, config.Config(**_fields(asked)))
  return asked


def _fields(options: Options) -> dict[str, Any]:
  return {f.name: getattr(options, f.name) for f in dataclasses.fields(config.Config)}


def resolve(options: Options) -> tuple[pathlib.Path, config.Config]:
  """Returns the run directory and the configuration that are meant."""
  fields = _fields(options)
  if options.demonstrations:
    # A node or a resumed launch may have another working directory.
    fields['demonstrations'] = os.path.abspath(options.demonstrations)
  if options.pixels.frames:
    frames = os.path.abspath(options.pixels.frames)
    fields['pixels'] = dataclasses.replace(options.pixels, frames=frames)
  path = options.run_dir or run_directory.default_path(options.demonstrations)
  return pathlib.Path(path), config.Config(**fields)


def is_done(run_dir: pathlib.Path, settings: config.Config) -> bool:
  """Checks what is left of an earlier launch; returns whether there is nothing to do.

  Raises:
    ValueError: it cannot be gone on with.
  """
  run_directory.check_resumable(run_dir, settings)
  # The run is this launcher's alone.
  drafts.forget_drafts(run_dir)
  checkpoints.recover(run_dir, say=print, learners=settings.learners)
  done = run_directory.is_finished(run_dir, settings)
  if done:
    print(f'{run_dir} is finished; see {run_dir / "report.html"}')
  return done


def nursery(run_dir: pathlib.Path, host: str = loopback.HOST) -> nursery_lib.Nursery:
  """Returns what starts the nodes of a run, as a context.

  Args:
    run_dir: of the run.
    host: this machine's address on which servers listen.

  Raises:
    RuntimeError: there is no C compiler, or no folder for what it compiles.
  """
  library = loopback.build_library(CHECKOUT / 'build', run_dir)
  env = entry.environment(os.environ, library, host)
  return nursery_lib.Nursery(run_dir, env)


def prepare(run_dir: pathlib.Path, settings: config.Config) -> None:
  """Checks all that takes longer than a look.

  Raises:
    ValueError: the demonstrations or the reward cannot be used.
    RuntimeError: something is missing on this machine.
  """
  # dm_control takes a second to import: not before the command line is known good.
  from metamimic import preparation

  preparation.prepare(settings, str(run_dir))
  run_directory.save(run_dir, settings)


def start(
  run_dir: pathlib.Path,
  settings: config.Config,
  nodes: nursery_lib.Nursery,
  without: Collection[str] = (),
  signals: list[int] | None = None,
) -> int:
  """Runs the nodes and returns the exit status, as `supervisor.Supervisor.run` does.

  Args:
    run_dir: of the run, which was prepared.
    settings: of the run.
    nodes: starts them.
    without: roles whose nodes run elsewhere.
    signals: as for `supervisor.Supervisor`; those count that arrive meanwhile.
  """
  try:
    places = [supervisor.Node(*place) for place in nodes.places()]
  except RuntimeError as e:
    if signals:
      return entry.SIGNALLED + signals[0]
    print(f'error: {e}', file=sys.stderr)
    return supervisor.FAILED
  print(f'run directory: {run_dir}', flush=True)
  here = [node for node in places if node.role not in without]
  status = supervisor.Supervisor(run_dir, settings, here, nodes, signals).run()
  if status == supervisor.DONE and not run_directory.is_finished(run_dir, settings):
    print(f'every node left, but {run_dir / "summary.json"} tells of no full run')
    return supervisor.FAILED
  return status


def _run(args: Sequence[str], stack: contextlib.ExitStack) -> int:
  try:
    run_dir, settings = parse(args)
    validation.validate(settings)
    stack.enter_context(run_directory.locked(run_dir))
    if is_done(run_dir, settings):
      return supervisor.DONE
    # It imports what nodes need while all is checked.
    nodes = stack.enter_context(nursery(run_dir))
    prepare(run_dir, settings)
  except (ValueError, OSError, RuntimeError) as e:
    print(f'error: {e}', file=sys.stderr)
    return REFUSED
  return start(run_dir, settings, nodes)


def main() -> int:
  """Runs what the command line asks for and returns the exit status."""
  with contextlib.ExitStack() as stack:
    status = _run(sys.argv[1:], stack)
  return status


if __name__ == '__main__':
  try:
    sys.exit(main())
  except KeyboardInterrupt:
    sys.exit(128 + signal.SIGINT)
