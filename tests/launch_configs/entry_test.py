import dataclasses
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest

from launch_configs import entry
from metamimic import config

FAKE = pathlib.Path(__file__).with_name('fake.py')
ROOT = FAKE.parents[2]


@pytest.fixture(name='run_dir')
def run_dir_fixture(tmp_path: pathlib.Path) -> pathlib.Path:
  behaviours = tmp_path / 'behaviours.json'
  behaviours.write_text('{"actor-0": "listen", "evaluator-0": "raise"}')
  settings = config.Config(demonstrations=str(behaviours), stall_warning=0.1)
  config.save(settings, str(tmp_path / 'config.json'))
  (tmp_path / 'addresses').mkdir()
  (tmp_path / 'logs').mkdir()
  return tmp_path


def _run(run_dir: pathlib.Path, role: str, **env: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, str(FAKE), 'entry', str(run_dir), role, '0'],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(ROOT), **env},
    timeout=60,
  )


def _serve(run_dir: pathlib.Path) -> None:
  (run_dir / 'addresses' / 'replay').write_text('127.0.0.1:1')


def test_failure_is_reported_with_role_and_traceback(run_dir: pathlib.Path) -> None:
  _serve(run_dir)
  done = _run(run_dir, 'evaluator')
  assert done.returncode == 1
  assert 'Traceback (most recent call last):' in done.stdout
  last = done.stdout.splitlines()[-1]
  assert last == "evaluator-0 failed: ValueError('the brick is gone')"


def test_node_that_listens_beyond_loopback_fails(run_dir: pathlib.Path) -> None:
  _serve(run_dir)
  done = _run(run_dir, 'actor')
  assert done.returncode == 1
  assert 'actor-0 failed: RuntimeError' in done.stdout
  assert 'listens on 0.0.0.0 port ' in done.stdout
  assert 'beyond loopback' in done.stdout


def test_only_servers_may_listen_on_the_clusters_network(run_dir: pathlib.Path) -> None:
  _serve(run_dir)
  done = _run(run_dir, 'actor', METAMIMIC_HOST='0.0.0.0')
  assert done.returncode == 1
  assert 'beyond loopback' in done.stdout


def test_node_whose_server_moves_leaves_to_be_started_again(
  run_dir: pathlib.Path,
) -> None:
  _serve(run_dir)
  (run_dir / 'behaviours.json').write_text('{"actor-0": "move"}')
  done = _run(run_dir, 'actor')
  assert done.returncode == entry.MOVED
  assert done.stdout.endswith('actor-0: replay moved from 127.0.0.1:1 to 127.0.0.9:1\n')


def test_node_whose_server_never_comes_gives_up_and_says_so(
  run_dir: pathlib.Path,
) -> None:
  done = _run(run_dir, 'learner', FAKE_TIMEOUT='0.5')
  assert done.returncode == 1
  assert (
    f'waiting for the address of replay ({run_dir}/addresses/replay)' in done.stdout
  )
  assert f'see {run_dir}/replay-0.log' in done.stdout.splitlines()[-1]


def test_node_whose_launcher_died_before_it_began_leaves(run_dir: pathlib.Path) -> None:
  done = _run(run_dir, 'learner', METAMIMIC_LAUNCHER_PID='1')
  assert (done.returncode, done.stdout) == (1, '')


@pytest.mark.parametrize('shown', ['3', None])
def test_only_a_learner_looks_for_the_gpus_that_the_launcher_may_use(
  run_dir: pathlib.Path, shown: str | None
) -> None:
  _serve(run_dir)
  settings = config.load(str(run_dir / 'config.json'))
  config.save(dataclasses.replace(settings, gpu=True), str(run_dir / 'config.json'))
  inherited = {k: v for k, v in os.environ.items() if k != 'CUDA_VISIBLE_DEVICES'}
  if shown:
    inherited['CUDA_VISIBLE_DEVICES'] = shown
  given = entry.environment(inherited, run_dir / 'none.so')
  learner = _run(run_dir, 'learner', **given)
  assert learner.returncode == 1
  assert 'RuntimeError' in learner.stdout.splitlines()[-1]
  assert re.search(
    'gpu: TensorFlow .* finds no GPU on .* '
    rf'CUDA_VISIBLE_DEVICES: {shown or "not set"};',
    learner.stdout,
  )
  assert 'gpu' not in _run(run_dir, 'actor', **given).stdout


def test_environment_limits_threads_and_keeps_the_users_own(
  tmp_path: pathlib.Path,
) -> None:
  inherited: dict[str, Any] = {
    'OMP_NUM_THREADS': '3',
    'PYTHONPATH': '/mine',
    'LD_PRELOAD': '/a.so',
    'CUDA_VISIBLE_DEVICES': '0',
  }
  library = tmp_path / 'b.so'
  env = entry.environment(inherited, library)
  assert env['OMP_NUM_THREADS'] == '3'
  assert env['TF_NUM_INTRAOP_THREADS'] == '1'
  assert env['CUDA_VISIBLE_DEVICES'] == ''
  assert env['METAMIMIC_GPUS'] == '0'
  assert 'METAMIMIC_GPUS' not in entry.environment({}, library)
  assert env['LD_PRELOAD'] == f'{tmp_path}/b.so /a.so'
  assert env['PYTHONPATH'] == f'{ROOT}:/mine'
  assert env['METAMIMIC_LAUNCHER_PID'] == str(os.getpid())
  assert env['METAMIMIC_HOST'] == '127.0.0.1'
  assert entry.environment({}, library, '10.0.0.7')['METAMIMIC_HOST'] == '10.0.0.7'
