"""Tests of the process around a learner, on a real Reverb server."""

from collections.abc import Callable, Iterator
import csv
import dataclasses
import logging
import pathlib
import threading
import time
from typing import Any

import numpy as np
import pytest
import reverb
import tensorflow as tf

from agents import learning
from agents import logs
from agents import parameters
from agents import replay
from agents import sampling
from agents import waiting
from metamimic import checkpoints
from metamimic import config as config_lib
from metamimic import drafts
from metamimic import notices

CONFIG = config_lib.Config(learner_steps=6, checkpoint_period=1e6)


class _Learner:
  """Its weight counts its steps; `then` happens in the last of them."""

  def __init__(self, then: Callable[[], None] = lambda: None, at: int = -1) -> None:
    self.weight = tf.Variable(0.0)
    self.steps = tf.Variable(0, dtype=tf.int64)
    self._then, self._at = then, at
    self.reset_step = 0

  @property
  def num_steps(self) -> int:
    return int(self.steps.numpy())

  @property
  def state(self) -> dict[str, Any]:
    return {'weight': self.weight, 'steps': self.steps}

  def step(self, most: int) -> dict[str, float]:
    self.weight.assign_add(1.0)
    self.steps.assign_add(min(2, most))
    if self.num_steps == self._at:
      self._then()
    return {'loss': float(self.weight.numpy())}


@pytest.fixture(name='client')
def client_fixture(tmp_path: pathlib.Path) -> Iterator[reverb.Client]:
  experience = [
    reverb.Table(
      name,
      sampler=reverb.selectors.Uniform(),
      remover=reverb.selectors.Fifo(),
      max_size=100,
      rate_limiter=reverb.rate_limiters.MinSize(1),
    )
    for name in (replay.IMITATION, replay.SHARED, replay.TASK)
  ]
  path = drafts.server_folder(tmp_path)
  server = reverb.Server(
    [*experience, *(parameters.table(name) for name in ('imitation', 'task'))],
    checkpointer=reverb.platform.checkpointers_lib.DefaultCheckpointer(path),
  )
  yield server.localhost_client()
  server.stop()


def _process(
  learner: _Learner,
  client: reverb.Client,
  path: pathlib.Path,
  stop: threading.Event | None = None,
  name: str = 'imitation',
  tables: tuple[str, ...] = (replay.IMITATION,),
  **changes: Any,
) -> learning.LearnerProcess:
  return learning.LearnerProcess(
    name,
    learner,
    {name: [learner.weight]},
    {},
    client,
    str(path),
    logs.RoleLogger(str(path), f'learner-{name}', step='learner_steps'),
    dataclasses.replace(CONFIG, **changes),
    stop or threading.Event(),
    tables,
  )


def _saved(run_dir: pathlib.Path) -> dict[str, int]:
  found = checkpoints.recover(run_dir)
  assert found is not None
  return dict(found.learner_steps)


def _published(
  client: reverb.Client, name: str = 'imitation'
) -> tuple[float, parameters.Progress]:
  weight = tf.Variable(-1.0)
  progress = parameters.Reader(client, name, [weight], CONFIG.last_step(name)).update()
  return float(weight.numpy()), progress


def _rows(path: pathlib.Path, name: str = 'imitation') -> list[dict[str, str]]:
  with open(path / 'logs' / f'learner-{name}.csv', newline='') as f:
    return list(csv.DictReader(f))


def test_it_learns_to_the_last_step_and_says_so(
  client: reverb.Client, tmp_path: pathlib.Path
) -> None:
  client.insert(np.zeros(1, np.float32), {replay.IMITATION: 1.0})
  learner = _Learner()
  _process(learner, client, tmp_path).run()
  assert learner.num_steps == 6
  assert _published(client) == (3.0, parameters.Progress(6, finished=True))
  saved = checkpoints.recover(tmp_path)
  assert saved is not None
  assert dict(saved.learner_steps) == {'imitation': 6}
  assert dict(saved.environment_steps) == {'imitation': 1}
  assert saved.part(checkpoints.REPLAY)
  (row,) = _rows(tmp_path)
  assert (row['learner_steps'], row['loss']) == ('6', '2')
  assert row['environment_steps'] == row['replay_size'] == '1'


def test_it_tells_where_the_learner_begins_anew(
  client: reverb.Client, tmp_path: pathlib.Path
) -> None:
  client.insert(np.zeros(1, np.float32), {replay.IMITATION: 1.0})
  learner = _Learner(lambda: setattr(learner, 'reset_step', 4), at=4)
  _process(learner, client, tmp_path).run()
  (told,) = (tmp_path / notices.FILE).read_text().splitlines()
  assert told.startswith('the learner of imitation begins anew after 4 steps, ')
  assert _rows(tmp_path)[-1]['reset_step'] == '4'


def test_it_tells_that_it_is_too_late_to_begin_anew(
  client: reverb.Client, tmp_path: pathlib.Path
) -> None:
  client.insert(np.zeros(1, np.float32), {replay.IMITATION: 1.0})
  learner = _Learner(lambda: None)
  for _ in range(2):
    learner.step(2)
  d4pg = dataclasses.replace(CONFIG.d4pg, reset_at=0.5)
  _process(learner, client, tmp_path, d4pg=d4pg).run()
  (told,) = (tmp_path / notices.FILE).read_text().splitlines()
  assert told.startswith('the learner of imitation does not begin anew after 3 steps, ')


def test_it_does_not_go_beyond_its_last_step(
  client: reverb.Client, tmp_path: pathlib.Path
) -> None:
  learner = _Learner()
  _process(learner, client, tmp_path, learner_steps=5).run()
  assert (learner.num_steps, float(learner.weight.numpy())) == (5, 3.0)
  assert _saved(tmp_path) == {'imitation': 5}


def test_each_learner_has_its_own_last_step_and_counts_its_own_experience(
  client: reverb.Client, tmp_path: pathlib.Path
) -> None:
  for table, count in ((replay.IMITATION, 5), (replay.SHARED, 2), (replay.TASK, 1)):
    for _ in range(count):
      client.insert(np.zeros(1, np.float32), {table: 1.0})
  learner, tables = _Learner(), (replay.SHARED, replay.TASK)
  task = config_lib.TaskConfig(learner_steps=4)
  _process(
    learner, client, tmp_path, name='task', tables=tables, task=task, algorithm='d4pg'
  ).run()
  assert learner.num_steps == 4
  assert _published(client, 'task')[0] == 2.0
  assert _saved(tmp_path) == {'task': 4}
  (row,) = _rows(tmp_path, 'task')
  assert row['environment_steps'] == row['replay_size'] == '3'
  assert client.server_info()['parameters_imitation'].current_size == 0


def test_a_stopped_learner_has_saved_and_goes_on_from_there(
  client: reverb.Client, tmp_path: pathlib.Path
) -> None:
  stop = threading.Event()
  _process(_Learner(stop.set, at=4), client, tmp_path, stop).run()
  assert _published(client) == (2.0, parameters.Progress(4, finished=False))
  resumed = _Learner()
  process = _process(resumed, client, tmp_path)
  assert (resumed.num_steps, float(resumed.weight.numpy())) == (4, 2.0)
  process.run()
  assert _published(client) == (3.0, parameters.Progress(6, finished=True))


def test_what_stops_a_sampler_stops_the_learner_in_order(
  client: reverb.Client, tmp_path: pathlib.Path
) -> None:
  def stopped() -> None:
    raise waiting.Stopped()

  _process(_Learner(stopped, at=4), client, tmp_path).run()
  assert _saved(tmp_path) == {'imitation': 4}
  assert _published(client)[1] == parameters.Progress(4, finished=False)


def test_a_learner_that_starves_says_so_saves_and_goes_on(
  client: reverb.Client,
  tmp_path: pathlib.Path,
  caplog: pytest.LogCaptureFixture,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  times = iter([True, True, False] * 9)

  class Starving(_Learner):
    def step(self, most: int) -> dict[str, float]:
      if next(times):
        time.sleep(0.3)
        raise sampling.Starved(replay.IMITATION)
      return super().step(most)

  caplog.set_level(logging.INFO)
  monkeypatch.setattr(waiting, 'PERIOD', 0.1)
  _process(Starving(), client, tmp_path).run()
  assert _saved(tmp_path) == {'imitation': 6}
  assert 's for imitation, which holds 0 transitions; sampling starts' in caplog.text
  # One at once, before it had learnt anything, and one at the end.
  found = [f'saved {tmp_path}/checkpoints/{i} in' in caplog.text for i in (1, 2, 3)]
  assert found == [True, True, False]


def test_a_checkpoint_of_another_learner_is_refused(
  client: reverb.Client, tmp_path: pathlib.Path
) -> None:
  _process(_Learner(), client, tmp_path).run()

  class Other(_Learner):
    @property
    def state(self) -> dict[str, Any]:
      return {**super().state, 'more': tf.Variable(1.0)}

  with pytest.raises(AssertionError):
    _process(Other(), client, tmp_path)
