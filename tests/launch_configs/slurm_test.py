import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from launch_configs import local
from launch_configs import slurm
from metamimic import config

FAKE = pathlib.Path(__file__).with_name('fake.py')
ROOT = FAKE.parents[2]
NETWORK = ['--cluster-network', '10.0.0.0/8']
# Each appends how it was called to the file `calls`.
SBATCH = 'case "$*" in *"$FAIL"*) echo "no such queue" >&2; exit 1;; esac\necho 1$n\n'
SQUEUE = 'echo "$QUEUED"\n[ "$QUEUED" != unknown ]\n'


class Slurm:
  """The launcher, with stand-ins for Slurm's commands that record their arguments."""

  def __init__(self, folder: pathlib.Path) -> None:
    self.dir = folder / 'run'
    self._folder = folder
    (folder / 'bin').mkdir()
    for name, body in (('sbatch', SBATCH), ('squeue', SQUEUE), ('scancel', '')):
      script = folder / 'bin' / name
      script.write_text(
        '#!/bin/sh\n'
        f'echo {name} "$@" >> {folder}/calls\nn=$(wc -l < {folder}/calls)\n{body}'
      )
      script.chmod(0o755)
    (folder / 'behaviours.json').write_text('{}')

  def submit(self, *flags: str, **env: str) -> tuple[int, str]:
    """Returns the launcher's exit status and output."""
    path = f'{self._folder / "bin"}:{os.environ["PATH"]}'
    done = subprocess.run(
      [sys.executable, str(FAKE), 'slurm', '--preset', 'tiny']
      + ['--run-dir', str(self.dir), *flags]
      + ['--demonstrations', str(self._folder / 'behaviours.json')],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      env={
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'PATH': path,
        'FAIL': 'nothing',
        'QUEUED': '',
        'FAKE_HOST': '127.0.0.2',
        **env,
      },
      cwd=self._folder,
      timeout=120,
    )
    return done.returncode, done.stdout

  def calls(self) -> list[str]:
    """Returns the calls of Slurm's commands so far."""
    file = self._folder / 'calls'
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(name='cluster')
def cluster_fixture(tmp_path: pathlib.Path) -> Slurm:
  return Slurm(tmp_path)


def _options(**changes: Any) -> slurm.Options:
  return slurm.Options(**{'cluster_network': 'ib0', **changes})


def test_help_lists_what_a_job_asks_for_beside_every_setting_of_a_run() -> None:
  done = subprocess.run(
    [sys.executable, '-m', 'launch_configs.slurm', '--help'],
    capture_output=True,
    text=True,
    env={**os.environ, 'COLUMNS': '100'},
    check=True,
    cwd=ROOT,
  )
  options = ['--run-dir', '--cluster-network', '--actor.num-actors']
  options += [
    f'--{job}-job.{field.name}'
    for job in ('head', 'actor')
    for field in dataclasses.fields(slurm.Job)
  ]
  assert all(f' {option} ' in done.stdout for option in options)


def test_scripts_of_given_settings(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.chdir(tmp_path)
  options = _options(
    cluster_network='10.0.0.0/8',
    head_job=slurm.Job(
      cpus=6,
      memory='16G',
      time='1-00:00:00',
      partition='long',
      gres='gpu:1',
      sbatch=('qos=high', 'exclusive', 'comment=two words'),
    ),
    actor_job=slurm.Job(cpus=2, partition='cheap'),
  )
  settings = config.Config(actor=config.ActorConfig(num_actors=3))
  made = slurm.scripts(options, pathlib.Path('runs/lift'), settings)
  python = f'{sys.executable} -m launch_configs.job'
  run_dir = tmp_path / 'runs' / 'lift'
  assert made == {
    'head': f"""#!/bin/bash
#SBATCH --job-name=lift-head
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=6
#SBATCH --mem=16G
#SBATCH --time=1-00:00:00
#SBATCH --partition=long
#SBATCH --gres=gpu:1
#SBATCH --chdir={tmp_path}
#SBATCH --output={run_dir}/slurm/head.log
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@60
#SBATCH --qos=high
#SBATCH --exclusive
#SBATCH '--comment=two words'
export PYTHONPATH={ROOT}"${{PYTHONPATH:+:$PYTHONPATH}}"
exec {python} head {run_dir} 10.0.0.0/8
""",
    'actors': f"""#!/bin/bash
#SBATCH --job-name=lift-actors
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --partition=cheap
#SBATCH --chdir={tmp_path}
#SBATCH --output={run_dir}/slurm/actor-%a.log
#SBATCH --array=0-2
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@60
export PYTHONPATH={ROOT}"${{PYTHONPATH:+:$PYTHONPATH}}"
exec {python} actor {run_dir} "$SLURM_ARRAY_TASK_ID"
""",
  }


def test_both_kinds_of_actors_are_in_one_array_and_cloning_has_none() -> None:
  both = config.Config(
    task=config.TaskConfig(learn=True, actor=config.ActorConfig(num_actors=2))
  )
  made = slurm.scripts(_options(), pathlib.Path('run'), both)
  assert '#SBATCH --array=0-2\n' in made['actors']
  cloning = config.Config(algorithm='bc')
  assert list(slurm.scripts(_options(), pathlib.Path('run'), cloning)) == ['head']


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'cluster_network': ''}, "is ''; expected an IPv4 network that .* unless told wh"),
    ({'cluster_network': '10.0.0.0/40'}, "is '10.0.0.0/40'; expected an IPv4 network"),
    ({'cluster_network': 'fd00::/8'}, "is 'fd00::/8'; expected an IPv4 network"),
    ({'cluster_network': '10.0.0.1'}, "is '10.0.0.1'; expected an IPv4 network"),
    ({'cluster_network': '127.0.0.0/8'}, 'no other host can reach that'),
    ({'cluster_network': 'lo'}, "is 'lo'; expected an IPv4 network"),
    ({'head_job': slurm.Job(cpus=0)}, 'head_job.cpus is 0; expected 1 or more'),
    (
      {'actor_job': slurm.Job(memory='1G\nrm')},
      "actor_job.memory is '1G\\\\nrm'; expected one line",
    ),
    (
      {'head_job': slurm.Job(sbatch=('--qos=high',))},
      "head_job.sbatch has '--qos=high'; expected a long option of sbatch without",
    ),
    (
      {'head_job': slurm.Job(sbatch=('mem=3G',))},
      "head_job.sbatch has 'mem=3G'; expected head_job.memory",
    ),
    (
      {'actor_job': slurm.Job(sbatch=('array=0-9',))},
      "actor_job.sbatch has 'array=0-9'; expected none of array, chdir, .* depends on",
    ),
  ],
)
def test_what_no_job_can_be_made_of_is_refused(
  changes: dict[str, Any], message: str
) -> None:
  with pytest.raises(ValueError, match=message):
    slurm.validate(_options(**changes))


@pytest.mark.parametrize('network', ['10.0.0.0/8', '10.1.2.3/16', 'ib0', 'enp3s0.7'])
def test_networks_and_interfaces_are_what_the_head_is_given(network: str) -> None:
  options = _options(cluster_network=network)
  slurm.validate(options)
  texts = slurm.scripts(options, pathlib.Path('/shared/run'), config.Config())
  assert texts['head'].endswith(f' -m launch_configs.job head /shared/run {network}\n')


def test_submits_the_head_and_the_actors(cluster: Slurm) -> None:
  status, output = cluster.submit(*NETWORK, '--actor.num-actors', '2')
  assert status == 0, output
  folder = cluster.dir / 'slurm'
  assert cluster.calls() == [
    f'sbatch --parsable {folder}/head.sbatch',
    f'sbatch --parsable {folder}/actors.sbatch',
  ]
  assert 'array=0-1' in (folder / 'actors.sbatch').read_text()
  assert output.splitlines() == [
    f'job 11: head of {cluster.dir}',
    f'job 12: actors of {cluster.dir}',
    f'watch it: tail -F {folder}/head.log',
    'stop it: scancel 11 12; this command goes on with it',
  ]
  # All that the jobs read is there.
  stored = config.load(str(cluster.dir / 'config.json'))
  assert stored.actor.num_actors == 2
  assert (cluster.dir / 'run.json').exists()


def test_dry_run_prints_what_would_be_submitted_and_needs_no_slurm(
  cluster: Slurm,
) -> None:
  status, output = cluster.submit(*NETWORK, '--dry-run', PATH='/usr/bin:/bin')
  assert status == 0
  assert not cluster.dir.exists()
  assert cluster.submit(*NETWORK)[0] == 0
  for name in ('head', 'actors'):
    script = cluster.dir / 'slurm' / f'{name}.sbatch'
    assert f'# {script}\n{script.read_text()}\n$ sbatch --parsable {script}\n' in output


def test_missing_sbatch_is_named(cluster: Slurm) -> None:
  status, output = cluster.submit(*NETWORK, PATH='/nowhere')
  assert status == local.REFUSED
  expected = 'expected a host that submits jobs to Slurm (--dry-run needs none)'
  assert output == f'error: sbatch is not on PATH; {expected}\n'
  assert not cluster.dir.exists()


@pytest.mark.parametrize('more', [[], ['--dry-run']])
def test_nothing_is_submitted_that_the_local_launcher_would_refuse(
  cluster: Slurm, more: list[str]
) -> None:
  status, output = cluster.submit(*NETWORK, '--d4pg.discount', '2', *more)
  assert status == local.REFUSED
  assert output == 'error: d4pg.discount is 2.0; expected a number in [0, 1]\n'
  (cluster.dir.parent / 'behaviours.json').write_text('no JSON')
  assert cluster.submit(*NETWORK, *more)[0] == local.REFUSED
  assert cluster.calls() == []
  assert not cluster.dir.exists()


def test_another_configuration_is_refused(cluster: Slurm) -> None:
  assert cluster.submit(*NETWORK)[0] == 0
  status, output = cluster.submit(*NETWORK, '--seed', '1')
  assert status == local.REFUSED
  assert '  seed: 0 -> 1\n' in output
  assert [c for c in cluster.calls()[2:] if c.startswith('sbatch')] == []


def test_run_whose_jobs_are_in_the_queue_is_not_submitted_again(
  cluster: Slurm,
) -> None:
  assert cluster.submit(*NETWORK)[0] == 0
  status, output = cluster.submit(*NETWORK, QUEUED='11')
  assert status == local.REFUSED
  assert output == (
    f'error: {cluster.dir}: its job 11 (head) is still in the queue (squeue -j 11). '
    'Cancel it (scancel 11) or let it end\n'
  )
  status, output = cluster.submit(*NETWORK, QUEUED='unknown')
  assert status == local.REFUSED
  assert output == 'error: squeue does not tell what is in the queue; expected it to\n'
  assert cluster.submit(*NETWORK, QUEUED='13 13')[0] == 0


def test_refused_actors_take_the_head_along(cluster: Slurm) -> None:
  status, output = cluster.submit(*NETWORK, FAIL='actors.sbatch')
  assert status == local.REFUSED
  script = cluster.dir / 'slurm' / 'actors.sbatch'
  assert output == f'error: sbatch --parsable {script}: no such queue\n'
  assert cluster.calls()[-1] == 'scancel 11'


def test_finished_run_is_not_submitted(cluster: Slurm) -> None:
  assert cluster.submit(*NETWORK)[0] == 0
  summary = {'learner_steps': {'imitation': 600}}
  (cluster.dir / 'summary.json').write_text(json.dumps(summary))
  status, output = cluster.submit(*NETWORK)
  assert (status, len(cluster.calls())) == (0, 3)  # And one of squeue.
  assert output == f'{cluster.dir} is finished; see {cluster.dir}/report.html\n'
  status, output = cluster.submit(*NETWORK, '--dry-run')
  assert output == f'{cluster.dir} is finished; nothing would be submitted\n'
  assert cluster.submit(*NETWORK, '--learner-steps', '700')[0] == 0
  assert [c.split()[0] for c in cluster.calls()[-2:]] == ['sbatch', 'sbatch']
