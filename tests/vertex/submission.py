"""A run that is submitted to Vertex AI, but for what leaves this machine.

`make test-vertex` runs it: it needs what requirements-vertex.txt lists. Google's
credentials, the building of images and the last call are stood in for; what comes
before is Launchpad's and XManager's own.
"""

from collections.abc import Iterator
import contextlib
import pathlib
import subprocess
import sys
from typing import Any
from unittest import mock

import google.auth
from google.auth import credentials
from google.auth import exceptions
from google.cloud import aiplatform
import pytest
from xmanager.cloud import auth
from xmanager.cloud import build_image
from xmanager.cloud import vertex as client

from launch_configs import local
from launch_configs import vertex

NODES = {'job.pkl', 'process_entry.py', 'requirements.txt', 'acme', 'launch_configs'}


@pytest.fixture(name='arguments')
def arguments_fixture(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
  """Returns those of a run with two actors, whose demonstrations are there."""
  demonstrations = tmp_path / 'demonstrations.hdf5'
  command = [sys.executable, '-m', 'metamimic.record', '--task', 'lift_brick']
  command += ['--output', str(demonstrations), '--train', '2', '--valid', '1']
  subprocess.run(command, check=True, cwd=local.CHECKOUT)
  monkeypatch.setattr(vertex, 'MOUNTS', tmp_path)
  arguments = ['--preset', 'tiny', '--actor.num-actors', '2']
  arguments += ['--run-dir', str(tmp_path / 'run'), '--listen-everywhere']
  arguments += ['--demonstrations', str(demonstrations), '--evaluation.videos', '0']
  return [*arguments, '--learner-machine.cpus', '8', '--learner-machine.memory', '30']


def _submit(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> int:
  monkeypatch.setattr(sys, 'argv', ['vertex', *arguments])
  return vertex.main()


def test_rehearsal_leaves_what_images_are_made_from(
  arguments: list[str],
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  capsys: pytest.CaptureFixture[str],
) -> None:
  folder = tmp_path / 'images'
  assert _submit(monkeypatch, [*arguments, '--dry-run', str(folder)]) == 0
  pools = sorted(path.name for path in folder.iterdir())
  assert pools == ['workerpool0', 'workerpool1']
  for pool in pools:
    assert {path.name for path in (folder / pool).iterdir()} >= NODES
  assert 'actor-[0:2] -> ' in capsys.readouterr().out


@contextlib.contextmanager
def _google(jobs: list[Any]) -> Iterator[None]:
  """Stands in for Google; jobs that are submitted are appended."""

  def submit(job: Any, **unused: Any) -> None:
    jobs.append(job)

  anonymous = credentials.AnonymousCredentials()
  with contextlib.ExitStack() as stack:
    for owner, name, value in (
      (auth, 'get_project_name', lambda: 'project'),
      (auth, 'get_bucket', lambda: 'bucket'),
      (auth, 'get_service_account', lambda: 'account'),
      (google.auth, 'default', lambda *args, **unused: (anonymous, 'project')),
      (build_image, 'build', lambda *args, **unused: 'image'),
      (aiplatform.CustomJob, 'submit', submit),
      (aiplatform.CustomJob, '_dashboard_uri', lambda job: 'uri'),
      (aiplatform.CustomJob, 'resource_name', 'projects/project/jobs/1'),
      (client.Client, 'wait_for_job', mock.AsyncMock()),
    ):
      stack.enter_context(mock.patch.object(owner, name, value))
    yield


def test_job_has_a_pool_for_each_kind_of_machine(
  arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
  jobs: list[Any] = []
  with _google(jobs):
    assert _submit(monkeypatch, arguments) == 0
  assert len(jobs) == 1
  pools = jobs[0]._gca_resource.job_spec.worker_pool_specs
  found = [(pool.replica_count, pool.machine_spec.machine_type) for pool in pools]
  # One with a single node has to be first; those that ask for the same share one.
  assert found == [(1, 'n1-standard-8'), (4, 'n1-standard-4')]


def test_without_credentials_nothing_is_submitted(
  arguments: list[str],
  monkeypatch: pytest.MonkeyPatch,
  capsys: pytest.CaptureFixture[str],
) -> None:
  unknown = mock.Mock(side_effect=exceptions.DefaultCredentialsError('who are you'))
  monkeypatch.setattr(google.auth, 'default', unknown)
  assert _submit(monkeypatch, arguments) == local.REFUSED
  assert 'error: nothing was submitted: GCP project' in capsys.readouterr().err
