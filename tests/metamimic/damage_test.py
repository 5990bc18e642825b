"""Files of a run directory that are damaged, or made to do harm."""

from collections.abc import Iterator
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import tensorflow as tf

from metamimic import checkpoints
from metamimic import config as config_lib
from metamimic import drafts
from metamimic import evaluation
from metamimic import files
from metamimic import loading
from metamimic import presets
from metamimic import report
from metamimic import run_description
from metamimic import statistics
from metamimic import tables
from metamimic import validation
from tests.metamimic import damage
from tests.metamimic import untrained

ROOT = pathlib.Path(__file__).parents[2]
HALF = damage.CASES // 2


def _contents(content: str, cases: int = damage.CASES) -> Iterator[bytes | str]:
  """Yields JSON with damaged bytes, and with other values."""
  for seed in range(cases // 2):
    yield damage.damaged(content.encode(), seed)
    yield damage.changed(json.loads(content), seed)


def test_damaged_configurations(tmp_path: pathlib.Path) -> None:
  path = str(tmp_path / 'config.json')
  config = dataclasses.replace(presets.LAPTOP, demonstrations='/data/lift.hdf5')
  config_lib.save(config, path)

  def load() -> None:
    found = config_lib.load(path)
    try:
      validation.validate(found)
    except ValueError as e:
      raise ValueError(f'{path}: {e}') from e

  contents = _contents(pathlib.Path(path).read_text())
  damage.assert_refused(load, path, contents, least=HALF)


def test_damaged_descriptions_of_runs(tmp_path: pathlib.Path) -> None:
  run_description.write(
    str(tmp_path),
    {
      'task': 'lift_brick',
      'reward': 'envs.reward_library:LIFT_BRICK',
      'terms': ['arm', 'brick'],
      'temperatures': {'arm': 0.1, 'brick': 0.02},
      'training_temperatures': {'arm': 0.1, 'brick': 0.02},
      'started': 1.7e9,
    },
  )
  path = tmp_path / 'run.json'
  damage.assert_refused(
    lambda: run_description.read(str(tmp_path)),
    path,
    _contents(path.read_text()),
    least=HALF // 2,
  )


@pytest.fixture(name='checkpoint')
def checkpoint_fixture(tmp_path: pathlib.Path) -> checkpoints.CheckpointSet:
  with drafts.turn(tmp_path):
    draft = drafts.begin(tmp_path)
  draft.add_learner('imitation', 7, lambda f: (f / 'state').write_bytes(os.urandom(99)))
  draft.add(checkpoints.REPLAY, lambda f: (f / 'chunks').write_bytes(os.urandom(99)))
  return draft.complete({'imitation': 14}, lambda: 0.25, 0.125)


def test_damaged_checkpoint_sets(checkpoint: checkpoints.CheckpointSet) -> None:
  path, run_dir = checkpoint.path, checkpoint.path.parents[1]
  load = functools.partial(checkpoints.newest, run_dir)
  manifest = (path / 'manifest.json').read_text()
  damage.assert_refused(
    load, path / 'manifest.json', _contents(manifest, HALF), path, HALF // 4
  )
  (path / 'manifest.json').write_text(manifest)
  for part in ('imitation/state', 'replay/chunks'):
    content = (path / part).read_bytes()
    contents = [damage.damaged(content, seed) for seed in range(HALF // 2)]
    changed = sum(c != content for c in contents)
    damage.assert_refused(load, path / part, contents, path, least=changed)
    (path / part).write_bytes(content)
  assert checkpoints.newest(run_dir) == checkpoint


def _listed(path: pathlib.Path, name: str, content: pathlib.Path) -> None:
  """Adds a file to a manifest."""
  manifest = json.loads((path / 'manifest.json').read_text())
  manifest['files'][name] = dataclasses.asdict(checkpoints.fingerprint(content))
  (path / 'manifest.json').write_text(json.dumps(manifest))


@pytest.mark.parametrize(
  'name', ['../../secret', '/etc/passwd', 'imitation/../../x', '']
)
def test_manifest_that_names_other_places(
  checkpoint: checkpoints.CheckpointSet, name: str
) -> None:
  secret = checkpoint.path.parents[1] / 'secret'
  secret.write_text('abc')
  _listed(checkpoint.path, name, secret)
  with pytest.raises(checkpoints.DamagedError, match='and files of the set'):
    checkpoints.newest(checkpoint.path.parents[1])


def _link(path: pathlib.Path) -> None:
  (path / 'more').symlink_to('/dev/zero')
  _listed(path.parent, f'{path.name}/more', path / 'state')


@pytest.mark.parametrize(
  'change',
  [_link, lambda path: (path / 'more').touch(), lambda path: os.mkfifo(path / 'more')],
)
def test_what_is_no_file_of_a_set(
  checkpoint: checkpoints.CheckpointSet, change: functools.partial[None]
) -> None:
  change(checkpoint.path / 'imitation')
  found = damage.message(lambda: checkpoints.newest(checkpoint.path.parents[1]))
  assert f'{checkpoint.path}/imitation/more is no file of its manifest' in found


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (os.mkfifo, 'expected a regular file'),
    (os.mkdir, 'expected a regular file'),
    (lambda path: os.symlink('/dev/zero', path), 'expected a regular file'),
    (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**40), 'at most'),
  ],
)
def test_what_is_no_small_file(
  tmp_path: pathlib.Path, make: functools.partial[None], message: str
) -> None:
  path = str(tmp_path / 'config.json')
  make(path)
  found = damage.message(lambda: config_lib.load(path))
  assert path in found and message in found


def test_json_is_finite_and_can_be_printed() -> None:
  for text in ('1e999', 'NaN', '-Infinity', '"\\ud800"', '[' * 10**5, '7' * 10**5):
    with pytest.raises(ValueError, match='here: expected a JSON object'):
      files.parse_json(f'{{"a": {text}}}', 'here')


@pytest.fixture(name='run_dir', scope='module')
def run_dir_fixture(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return untrained.make_run(tmp_path_factory.mktemp('run'))


def test_policies_of_damaged_runs(run_dir: pathlib.Path) -> None:
  done = subprocess.run(
    [sys.executable, '-m', 'tests.metamimic.damaged_policies', str(run_dir)],
    stdout=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', 'CUDA_VISIBLE_DEVICES': ''},
    check=True,
  )
  *wrong, refused, crafted = done.stdout.splitlines()
  assert not wrong
  assert int(refused) > HALF and int(crafted) > 50


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'policy_width': 10**9}, 'its policy has 4,000,000,016,000,000,064 bytes or more'),
    ({'policy_blocks': 10**9, 'policy_width': 1}, 'its policy has '),
    ({'policy_width': 33}, 'does not hold the policy of '),
    ({'policy_blocks': 2}, 'does not hold the policy of '),
  ],
)
def test_networks_are_those_that_are_saved(
  run_dir: pathlib.Path,
  tmp_path: pathlib.Path,
  changes: dict[str, Any],
  message: str,
) -> None:
  copy = tmp_path / 'run'
  subprocess.run(['cp', '-r', run_dir, copy], check=True)
  config = config_lib.load(str(copy / 'config.json'))
  network = dataclasses.replace(config.network, **changes)
  config_lib.save(
    dataclasses.replace(config, network=network), str(copy / 'config.json')
  )
  with pytest.raises(ValueError, match=message):
    loading.load(str(copy))


def test_objects_of_a_state_that_refer_to_nothing(
  run_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  copy = tmp_path / 'run'
  subprocess.run(['cp', '-r', run_dir, copy], check=True)
  folder = copy / 'checkpoints' / '1' / 'imitation'
  graph = b'\x0a\x06\x0a\x04\x08\x63\x12\x00'  # A child that is node 99 of 1.
  tf.raw_ops.SaveV2(
    prefix=str(folder / 'state'),
    tensor_names=['_CHECKPOINTABLE_OBJECT_GRAPH', 'large'],
    shape_and_slices=['', ''],
    tensors=[tf.constant(graph), tf.zeros(10_000)],
  )
  for path in folder.iterdir():
    _listed(folder.parent, f'imitation/{path.name}', path)
  with pytest.raises(checkpoints.DamagedError, match='does not hold the policy of'):
    loading.load(str(copy))


def _rows() -> str:
  rows = [
    f'0,{steps},{arm},demo_{i},lift,valid,120,0.5,{i % 2},77,0.25,0.5'
    for arm, steps in (('metamimic', 400), ('replay', 0), ('zero', 0))
    for i in range(2)
  ]
  columns = 'seed,learner_steps,arm,demonstration,skill,split,steps,completed,success'
  return '\n'.join([f'{columns},solved,reward/arm,total', *rows, ''])


def test_damaged_tables(tmp_path: pathlib.Path) -> None:
  path = tmp_path / 'evaluation.csv'

  def load() -> None:
    table = tables.read(path, tables.EVALUATION)
    if len(table):
      try:
        statistics.last(table)
      except ValueError as e:
        raise ValueError(f'{path}: {e}') from e

  content = _rows().encode()
  contents = [damage.damaged(content, seed) for seed in range(damage.CASES)]
  damage.assert_refused(load, path, contents, least=HALF // 2)
  measured = functools.partial(evaluation.measured, str(path))
  damage.assert_refused(measured, path, contents)


def test_reports_of_damaged_runs(tmp_path: pathlib.Path) -> None:
  config_lib.save(presets.LAPTOP, str(tmp_path / 'config.json'))
  content = _rows().encode()
  damage.assert_refused(
    lambda: report.write(tmp_path),
    tmp_path / 'evaluation.csv',
    (damage.damaged(content, seed) for seed in range(20)),
    named=tmp_path,
  )
