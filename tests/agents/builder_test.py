"""Tests of agents.builder; above all, that MetaMimic never reads actions."""

from collections.abc import Iterator
import dataclasses
import pathlib
import shutil
import threading
from typing import NoReturn

import h5py
import numpy as np
import pytest
import reverb

from agents import builder
from agents import parameters
from agents import replay
from metamimic import config as config_lib
from metamimic import preparation
from metamimic.demonstrations import recording
from metamimic.demonstrations import storage
from metamimic.demonstrations import types

_TINY = config_lib.PRESETS['tiny'][1]
CONFIG = dataclasses.replace(
  _TINY,
  learner_steps=6,
  network=config_lib.NetworkConfig(policy_width=8, critic_width=8),
  d4pg=dataclasses.replace(_TINY.d4pg, batch_size=16, steps_per_call=2),
  actor=dataclasses.replace(_TINY.actor, environments=1),
  evaluation=dataclasses.replace(_TINY.evaluation, videos=0),
)


@pytest.fixture(name='files', scope='module')
def files_fixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
  """Returns files that differ only in the actions in them."""
  folder = tmp_path_factory.mktemp('demonstrations')
  demonstrations, _ = recording.record('reach_duplo', train=2, valid=1, seed=0)
  paths = {name: str(folder / f'{name}.hdf5') for name in ('whole', 'none', 'junk')}
  storage.save(paths['whole'], demonstrations)
  for name in ('none', 'junk'):
    shutil.copy(paths['whole'], paths[name])
    with h5py.File(paths[name], 'r+') as file:
      for demonstration in file['data'].values():
        del demonstration['actions']
        if name == 'junk':
          demonstration['actions'] = np.array([b'no', b'action'])
  return paths


@pytest.fixture(name='unreadable')
def unreadable_fixture(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
  """Makes reading actions an error; returns the `with_actions` of every load."""
  asked: list[bool] = []
  load = storage.load

  def watched(path: str, with_actions: bool = False) -> types.DemonstrationSet:
    asked.append(with_actions)
    return load(path, with_actions)

  def refuse(demonstration: types.Demonstration) -> NoReturn:
    raise AssertionError(f'{demonstration.name}: somebody read the actions')

  monkeypatch.setattr(storage, 'load', watched)
  monkeypatch.setattr(types.Demonstration, 'actions', property(refuse))
  return asked


def _make(path: str, run_dir: pathlib.Path) -> builder.MetaMimicBuilder:
  config = dataclasses.replace(CONFIG, demonstrations=path)
  run_dir.mkdir()
  preparation.prepare(config, str(run_dir))
  made = builder.make(config, str(run_dir), threading.Event())
  assert isinstance(made, builder.MetaMimicBuilder)
  return made


def _experience(codec_size: int) -> Iterator[np.ndarray]:
  """Yields made-up batches of windows, the same ones every time."""
  rng = np.random.default_rng(0)
  d4pg = CONFIG.d4pg
  while True:
    shape = (d4pg.batch_size * d4pg.steps_per_call, codec_size)
    rows = rng.uniform(0, 1, shape).astype(np.float32)
    yield rows


def test_actor_learner_and_tables_do_without_actions(
  files: dict[str, str], tmp_path: pathlib.Path, unreadable: list[bool]
) -> None:
  made = _make(files['whole'], tmp_path / 'run')
  server = reverb.Server(made.replay_tables())
  try:
    client = server.localhost_client()
    learner = made.learner(client)
    learner._publish(finished=False)
    actor = made.actor(client, 0)
    done = iter([False] * 30 + [True] * 9)
    actor._should_stop = lambda: next(done)
    actor.run()
    table = client.server_info()[replay.TABLE]
  finally:
    server.stop()
  assert actor._steps == 29
  assert table.current_size == 29
  assert table.max_size == CONFIG.replay.max_size
  # Checking the run, learner, actor: none of them asked for actions.
  assert len(unreadable) >= 3
  assert not any(unreadable)


def test_training_is_the_same_whatever_the_actions_in_the_file(
  files: dict[str, str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  found = []
  for name, path in files.items():
    made = _make(path, tmp_path / name)
    size = replay.Codec(replay.spec(made._layout), CONFIG.d4pg.n_step).size
    monkeypatch.setattr(replay, 'sample', lambda *unused, s=size: _experience(s))
    server = reverb.Server(made.replay_tables())
    try:
      process = made.learner(server.localhost_client())
      before = process._learner.get_variables(['policy'])[0]
      for _ in range(3):
        process._learner.step()
    finally:
      server.stop()
    assert process._learner.num_steps == 6
    description = preparation.description(str(tmp_path / name))
    del description['started']
    networks = process._learner.get_variables(['policy', 'critic'])
    found.append((description, [*before, *networks[0], *networks[1]]))
  (description, weights), *others = found
  assert any((a != b).any() for a, b in zip(weights, weights[len(before) :]))  # noqa: B905
  for other_description, other_weights in others:
    assert other_description == description
    for a, b in zip(weights, other_weights, strict=True):
      np.testing.assert_array_equal(a, b)


def test_evaluator_leaves_out_open_loop_replay_where_there_are_no_actions(
  files: dict[str, str], tmp_path: pathlib.Path
) -> None:
  server = reverb.Server([parameters.table()])
  arms = {}
  for name in ('whole', 'none'):
    made = _make(files[name], tmp_path / name)
    arms[name] = set(made.evaluator(server.localhost_client())._controls)
  server.stop()
  assert arms == {'whole': {'tracker', 'zero', 'replay'}, 'none': {'tracker', 'zero'}}
