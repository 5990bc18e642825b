"""Tests of agents.parameters, over a Reverb server."""

from collections.abc import Iterator, Sequence
import threading
import time
import types
from typing import Any

import numpy as np
import pytest
import reverb
import tensorflow as tf

from agents import parameters

LEARNER = 'imitation'
LAST = 100
Progress = parameters.Progress


@pytest.fixture(name='client', scope='module')
def client_fixture() -> Iterator[reverb.Client]:
  server = reverb.Server([parameters.table(name) for name in (LEARNER, 'task')])
  yield server.localhost_client()
  server.stop()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
  """A busy machine may take long to answer, and an answer is what tests look at."""
  for name in ('_PATIENCE', '_BRIEF'):
    monkeypatch.setattr(parameters, name, 60.0)


def _variables(value: float) -> list[tf.Variable]:
  return [
    tf.Variable(tf.fill([2, 3], value)),
    tf.Variable(tf.fill([4], 10 * value)),
    tf.Variable(value),
  ]


def _values(variables: list[tf.Variable]) -> list[float]:
  assert all(np.unique(v.numpy()).size == 1 for v in variables)
  return [float(np.unique(v.numpy())[0]) for v in variables]


def test_newest_parameters_are_read(client: reverb.Client) -> None:
  reader = parameters.Reader(client, LEARNER, copies := _variables(0.0), LAST)
  assert reader.progress == Progress(0, False)
  parameters.publish(client, LEARNER, _variables(1.0), 10)
  assert reader.wait(lambda: False)
  assert _values(copies) == [1, 10, 1]
  assert reader.progress == Progress(10, False)
  parameters.publish(client, LEARNER, _variables(2.0), 20)
  parameters.publish(client, LEARNER, _variables(3.0), LAST)
  assert reader.update() == reader.progress == Progress(LAST, True)
  assert _values(copies) == [3, 30, 3]
  assert client.server_info()['parameters_imitation'].current_size == 1


def test_a_run_that_goes_on_longer_is_not_finished(client: reverb.Client) -> None:
  # What was published last before it was resumed is what is read first after that.
  parameters.publish(client, LEARNER, _variables(1.0), 30)
  found = [
    parameters.Reader(client, LEARNER, _variables(0.0), last).update().finished
    for last in (30, 60)
  ]
  assert found == [True, False]


def test_an_end_that_is_not_saved_may_be_lost_and_come_again(
  client: reverb.Client,
) -> None:
  saved = False
  reader = parameters.Reader(
    client, LEARNER, _variables(0.0), LAST, is_saved=lambda: saved
  )
  # Its learner dies while it saves its end, and goes on from the set before.
  for steps in (LAST, 20, LAST):
    parameters.publish(client, LEARNER, _variables(1.0), steps)
    assert reader.update() == Progress(steps, False)
  saved = True
  assert reader.update() == Progress(LAST, True)


def test_what_does_not_come_in_time_is_waited_for(
  client: reverb.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
  parameters.publish(client, LEARNER, _variables(1.0), 10)
  reader = parameters.Reader(client, LEARNER, copies := _variables(0.0), LAST)
  fetch, tries = reader._fetch, []

  def slow(timeout: float) -> Sequence[np.ndarray]:
    tries.append(timeout)
    if len(tries) < 3:
      raise TimeoutError
    return fetch(timeout)

  monkeypatch.setattr(reader, '_fetch', slow)
  assert reader.wait(lambda: False)
  assert len(tries) == 3 and _values(copies) == [1, 10, 1]


def test_each_learner_has_its_own(client: reverb.Client) -> None:
  readers = {
    name: parameters.Reader(client, name, _variables(0.0), LAST)
    for name in (LEARNER, 'task')
  }
  for steps in (1, 2):
    for i, name in enumerate(readers):
      variables = _variables(10.0 * i + steps)
      parameters.publish(client, name, variables, 100 * i + steps)
  found = {name: reader.update().learner_steps for name, reader in readers.items()}
  assert found == {LEARNER: 2, 'task': 102}
  assert _values(readers['task']._variables) == [12, 120, 12]


def test_reading_does_not_consume(client: reverb.Client) -> None:
  parameters.publish(client, LEARNER, _variables(4.0), 40)
  for _ in range(2):
    reader = parameters.Reader(client, LEARNER, copies := _variables(0.0), LAST)
    assert [reader.update() for _ in range(3)] == [Progress(40, False)] * 3
    assert _values(copies) == [4, 40, 4]


def test_learning_begins_with_the_second_publication() -> None:
  server = reverb.Server([parameters.table(LEARNER)])
  client = server.localhost_client()
  reader = parameters.Reader(client, LEARNER, copies := _variables(0.0), LAST)
  parameters.publish(client, LEARNER, _variables(1.0), 0)
  assert reader.wait(lambda: False)
  looks = iter([False, False, True])
  reader.wait_for_learning(lambda: next(looks))
  assert next(looks, 'none') == 'none'
  parameters.publish(client, LEARNER, _variables(2.0), 10)
  reader.wait_for_learning(lambda: False)
  assert _values(copies) == [1, 10, 1]
  assert reader.progress == Progress(0, False)


def test_within_a_period_nothing_is_fetched(client: reverb.Client) -> None:
  parameters.publish(client, LEARNER, _variables(5.0), 50)
  reader = parameters.Reader(
    client, LEARNER, copies := _variables(0.0), LAST, period=3600
  )
  assert reader.update() == Progress(50, False)
  parameters.publish(client, LEARNER, _variables(6.0), 60)
  assert reader.update() == Progress(50, False)
  assert _values(copies) == [5, 50, 5]


def test_large_step_counts_are_exact(client: reverb.Client) -> None:
  parameters.publish(client, LEARNER, _variables(0.0), 2**24 + 1)
  reader = parameters.Reader(client, LEARNER, _variables(0.0), LAST)
  assert reader.update().learner_steps == 2**24 + 1


def test_other_networks_are_refused(client: reverb.Client) -> None:
  parameters.publish(client, LEARNER, _variables(1.0), 0)
  with pytest.raises(ValueError):
    parameters.Reader(client, LEARNER, _variables(0.0)[:2], LAST).update()


class _Silent:
  """A client of a server that answers at the third call, and then has nothing."""

  def __init__(self) -> None:
    self.calls = 0

  def server_info(self, timeout: float) -> Any:
    del timeout
    self.calls += 1
    if self.calls < 3:
      raise reverb.errors.DeadlineExceededError('nobody is there')
    return {'parameters_imitation': types.SimpleNamespace(current_size=0)}


def test_waiting_ends_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(parameters.time, 'sleep', lambda seconds: None)
  client: Any = _Silent()
  reader = parameters.Reader(client, LEARNER, [], LAST)
  assert not reader.wait(lambda: client.calls == 5)
  assert client.calls == 5


class _Away:
  """A client of a server that is away until it is told otherwise."""

  def __init__(self) -> None:
    self.back = threading.Event()
    self.inserted: list[int] = []
    self.values: list[float] = []

  def insert(self, values: Any, priorities: Any) -> None:
    del priorities
    self.back.wait()
    self.values = [float(v) for v in values[1:]]
    self.inserted.append(int(values[0]))

  def sample(self, table: str, emit_timesteps: bool) -> Iterator[Any]:
    del table, emit_timesteps
    self.back.wait()
    yield types.SimpleNamespace(data=[np.array([7]), np.array([2.5], np.float32)])


@pytest.fixture(name='away')
def away_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
  for name in ('_PATIENCE', '_BRIEF'):
    monkeypatch.setattr(parameters, name, 0.01)
  client = _Away()
  yield client
  client.back.set()


def test_who_cannot_wait_for_a_server_does_not(
  away: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(parameters, '_PATIENCE', 60.0)
  copy = tf.Variable(0.0)
  reader = parameters.Reader(away, LEARNER, [copy], LAST, can_wait=False)
  # Nobody answers before this returns.
  assert reader.update() == Progress(0, False)
  away.back.set()
  end = time.monotonic() + 60
  while reader.update() != Progress(7, False):
    assert time.monotonic() < end
  assert copy.numpy() == 2.5


def test_publisher_does_not_wait_for_a_server_that_is_away(away: Any) -> None:
  steps = 5
  publisher = parameters.Publisher(away, LEARNER, [], lambda: steps)
  assert publisher.publish() is None
  steps = 6
  assert publisher.publish() is None
  asked = []

  def should_stop() -> bool:
    asked.append(True)
    away.back.set()
    return False

  publisher.publish_surely(should_stop)
  # What was on its way when the server came back, and what there is now.
  assert away.inserted == [5, 6]
  assert asked


def test_what_is_newer_follows_what_was_under_way(away: Any) -> None:
  steps = 5
  publisher = parameters.Publisher(away, LEARNER, [], lambda: steps)
  assert publisher.publish() is None
  away.back.set()
  steps = 6
  # Even if the run is being stopped.
  publisher.publish_surely(lambda: True)
  assert away.inserted == [5, 6]


def test_what_is_published_is_as_it_was_when_asked_for(away: Any) -> None:
  variable = tf.Variable(1.0)
  publisher = parameters.Publisher(away, LEARNER, [variable], lambda: 5)
  assert publisher.publish() is None
  variable.assign(2.0)
  away.back.set()
  while not away.inserted:
    pass
  assert away.values == [1.0]


def test_publisher_may_be_stopped_before_there_is_a_server(away: Any) -> None:
  publisher = parameters.Publisher(away, LEARNER, [], lambda: 5)
  publisher.publish_surely(lambda: True)
  assert away.inserted == []


def test_parameters_stay_while_the_server_is_away(away: Any) -> None:
  variable = tf.Variable(1.0)
  reader = parameters.Reader(away, LEARNER, [variable], LAST)
  assert reader.update() == Progress(0, False)
  assert float(variable.numpy()) == 1.0
  away.back.set()
  while reader.update() != Progress(7, False):
    pass
  assert float(variable.numpy()) == 2.5
