"""Runs everything on a Slurm cluster: a head, and an array of actors.

The head is one job with replay, learners and evaluator; each actor is a job of its own.

  python -m launch_configs.slurm --run-dir /shared/lift --demonstrations \
    /shared/lift_brick.hdf5 --cluster-network 10.0.0.0/8 --actor.num-actors 16

The run directory and the demonstrations have to be seen by all hosts. The same command
goes on where the run stopped. Exit status: 0 submitted (or the run is done), 2 refused
before anything was submitted. See docs/cluster.md.
"""

from collections.abc import Sequence
import dataclasses
import ipaddress
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

from launch_configs import local
from launch_configs import loopback
from launch_configs import run_directory
from metamimic import checkpoints
from metamimic import config
from metamimic import files
from metamimic import validation

_PROGRAM = 'python -m launch_configs.slurm'
_FOLDER = 'slurm'  # In the run directory: scripts, logs of jobs, their numbers.
_OURS = (
  *('array', 'chdir', 'error', 'job-name', 'nodes', 'no-requeue', 'ntasks'),
  *('open-mode', 'output', 'parsable', 'requeue', 'signal', 'wrap'),
)
HEAD = 'head'
"""Name of the job with all but the actors."""
_ACTORS = 'actors'
# The head saves a last set within ten seconds.
_ALWAYS = ('requeue', 'open-mode=append', 'signal=B:TERM@60')


@dataclasses.dataclass(frozen=True)
class Job:
  """What a job asks of the cluster; what is empty is left to its defaults."""

  cpus: int = 1
  """Cores."""
  memory: str = ''
  """Memory, as in 8G."""
  time: str = ''
  """Time limit, as in 1-00:00:00; a job that reaches it is put into the queue again."""
  partition: str = ''
  """Partition."""
  gres: str = ''
  """Generic resources, as in gpu:1."""
  sbatch: tuple[str, ...] = ()
  """Further options of sbatch without their dashes, as in qos=long exclusive."""


@dataclasses.dataclass(frozen=True)
class Options(local.Options):
  """A run, where it is kept, and what its jobs ask of the cluster."""

  cluster_network: str = ''
  """Network over which the hosts talk, as in 10.0.0.0/8, or the interface, as in ib0,
  that each has in it. Whoever can reach it can read and change the run's experience
  and policies."""
  head_job: Job = Job(cpus=4)
  """Replay, learners and evaluator."""
  actor_job: Job = Job()
  """Each actor; as many as the actors' settings say."""
  dry_run: bool = False
  """Only print what would be submitted."""


def validate(options: Options) -> None:
  """Refuses what no job can be made of.

  Raises:
    ValueError: the message names the option, its value and what was expected.
  """
  given = options.cluster_network
  refused = (
    f'cluster_network is {given!r}; expected an IPv4 network that the hosts share, as '
    'in 10.0.0.0/8, or their interface in it, as in ib0'
  )
  if not given:
    raise ValueError(f'{refused}: nothing listens beyond loopback unless told where')
  if '/' in given:
    try:
      network = ipaddress.IPv4Network(given, strict=False)
    except ValueError as e:
      raise ValueError(f'{refused} ({e})') from None
    if network.is_loopback:
      raise ValueError(f'{refused}; no other host can reach that')
  elif given == 'lo' or not re.fullmatch(r'[A-Za-z][\w.:-]*', given):
    raise ValueError(refused)
  for name in ('head_job', 'actor_job'):
    _validate_job(name, getattr(options, name))


def _validate_job(name: str, job: Job) -> None:
  if job.cpus < 1:
    raise ValueError(f'{name}.cpus is {job.cpus}; expected 1 or more')
  for field in ('memory', 'time', 'partition', 'gres'):
    if not getattr(job, field).isprintable():
      raise ValueError(f'{name}.{field} is {getattr(job, field)!r}; expected one line')
  declared = {'cpus-per-task': 'cpus', 'mem': 'memory'}
  declared |= {field: field for field in ('time', 'partition', 'gres')}
  for option in job.sbatch:
    word = option.partition('=')[0]
    if not re.fullmatch(r'[a-z][a-z-]+', word) or not option.isprintable():
      raise ValueError(
        f'{name}.sbatch has {option!r}; expected a long option of sbatch without its '
        'dashes, as in qos=long'
      )
    if word in declared:
      raise ValueError(
        f'{name}.sbatch has {option!r}; expected {name}.{declared[word]}'
      )
    if word in _OURS:
      raise ValueError(
        f'{name}.sbatch has {option!r}; expected none of {", ".join(_OURS)}, which '
        'the run depends on'
      )


# Plain scripts: libraries that submit jobs pickle what these call, and a script can be
# read, and submitted again with another range of actors.
def scripts(
  options: Options, run_dir: pathlib.Path, settings: config.Config
) -> dict[str, str]:
  """Returns the text of each job's script, by name, in the order of submission.

  Args:
    options: what the jobs ask of the cluster.
    run_dir: of the run.
    settings: of the run.
  """
  run_dir = run_dir.resolve()
  head = ['head', str(run_dir), options.cluster_network]
  made = {HEAD: _script(HEAD, options.head_job, run_dir, shlex.join(head))}
  if settings.actors:
    words = f'actor {shlex.quote(str(run_dir))} "$SLURM_ARRAY_TASK_ID"'
    array = f'array=0-{len(settings.actors) - 1}'
    made[_ACTORS] = _script(_ACTORS, options.actor_job, run_dir, words, array)
  return made


def _script(name: str, job: Job, run_dir: pathlib.Path, words: str, *more: str) -> str:
  log = 'head.log' if name == HEAD else 'actor-%a.log'
  asked = {
    'job-name': f'{run_dir.name}-{name}',
    'nodes': '1',
    'ntasks': '1',
    'cpus-per-task': str(job.cpus),
    'mem': job.memory,
    'time': job.time,
    'partition': job.partition,
    'gres': job.gres,
    'chdir': os.getcwd(),
    'output': str(run_dir / _FOLDER / log),
  }
  options = [f'{option}={value}' for option, value in asked.items() if value]
  lines = [
    f'#SBATCH {shlex.quote("--" + option)}'
    for option in (*options, *more, *_ALWAYS, *job.sbatch)
  ]
  python, checkout = shlex.quote(sys.executable), shlex.quote(str(local.CHECKOUT))
  return '\n'.join(
    [
      '#!/bin/bash',
      *lines,
      f'export PYTHONPATH={checkout}"${{PYTHONPATH:+:$PYTHONPATH}}"',
      f'exec {python} -m launch_configs.job {words}',
      '',
    ]
  )


def _path(run_dir: pathlib.Path, name: str) -> pathlib.Path:
  return run_dir.resolve() / _FOLDER / f'{name}.sbatch'


def _command(script: pathlib.Path) -> list[str]:
  return ['sbatch', '--parsable', str(script)]


def job_of(run_dir: pathlib.Path, name: str) -> str:
  """Returns the number of a run's job; empty: it was not submitted here."""
  file = _jobs(run_dir)
  return files.read_json(file).get(name, '') if file.exists() else ''


def _jobs(run_dir: pathlib.Path) -> pathlib.Path:
  return run_dir / _FOLDER / 'jobs.json'


def queued() -> set[str] | None:
  """Returns the numbers of this user's jobs in the queue; None: Slurm does not tell."""
  command = ['squeue', '--me', '--noheader', '--format', '%A %F']
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
  except (OSError, subprocess.CalledProcessError):
    return None
  # Of an array's job its own number and the array's.
  return set(done.stdout.split())


def _check_queue(run_dir: pathlib.Path) -> None:
  """Refuses to submit the jobs of a run a second time."""
  if not _jobs(run_dir).exists():
    return
  found = queued()
  if found is None:
    raise RuntimeError('squeue does not tell what is in the queue; expected it to')
  for name in (HEAD, _ACTORS):
    job = job_of(run_dir, name)
    if job in found:
      raise RuntimeError(
        f'{run_dir}: its job {job} ({name}) is still in the queue (squeue -j {job}). '
        f'Cancel it (scancel {job}) or let it end'
      )


def _submit(run_dir: pathlib.Path, texts: dict[str, str]) -> dict[str, str]:
  """Writes and submits the scripts; returns the numbers of the jobs by name."""
  jobs: dict[str, str] = {}
  (run_dir / _FOLDER).mkdir(exist_ok=True)
  for name, text in texts.items():
    _path(run_dir, name).write_text(text)
  for name in texts:
    command = _command(_path(run_dir, name))
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
      for job in jobs.values():
        subprocess.run(['scancel', job])
      raise RuntimeError(f'{shlex.join(command)}: {done.stderr.strip()}')
    jobs[name] = done.stdout.strip().partition(';')[0]
  files.write_json(_jobs(run_dir), jobs)
  return jobs


def _show(run_dir: pathlib.Path, settings: config.Config, texts: dict[str, str]) -> int:
  """Checks what can be, writing at most pictures of demonstrations, and prints."""
  from metamimic import preparation

  run_directory.check_resumable(run_dir, settings)
  checkpoints.newest(run_dir, say=print)
  if run_directory.is_finished(run_dir, settings):
    print(f'{run_dir} is finished; nothing would be submitted')
    return 0
  preparation.prepare(settings)
  for name, text in texts.items():
    path = _path(run_dir, name)
    print(f'# {path}\n{text}\n$ {shlex.join(_command(path))}\n')
  return 0


def _run(args: Sequence[str]) -> int:
  options = local.parse_options(Options, _PROGRAM, str(__doc__), args)
  run_dir, settings = local.resolve(options)
  validation.validate(settings)
  validate(options)
  texts = scripts(options, run_dir, settings)
  if options.dry_run:
    return _show(run_dir, settings, texts)
  for command in ('sbatch', 'squeue', 'scancel'):
    if shutil.which(command) is None:
      raise RuntimeError(
        f'{command} is not on PATH; expected a host that submits jobs to Slurm '
        '(--dry-run needs none)'
      )
  with run_directory.locked(run_dir):
    _check_queue(run_dir)
    if local.is_done(run_dir, settings):
      return 0
    # Here, where somebody sees what is missing, and not by each job.
    loopback.build_library(local.CHECKOUT / 'build', run_dir)
    local.prepare(run_dir, settings)
    jobs = _submit(run_dir, texts)
  for name, job in jobs.items():
    print(f'job {job}: {name} of {run_dir}')
  print(f'watch it: tail -F {run_dir / _FOLDER / "head.log"}')
  print(f'stop it: scancel {" ".join(jobs.values())}; this command goes on with it')
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
