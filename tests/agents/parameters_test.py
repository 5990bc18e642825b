"""Tests of agents.parameters, over a Reverb server."""

from collections.abc import Iterator
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


def test_within_a_period_nothing_is_fetched(client: reverb.Client) -> None:
  parameters.publish(client, LEARNER, _variables(5.0), 50)
  reader = parameters.Reader(
    client, LEARNER, copies := _variables(0.0), LAST, period=3600
  )
  reader.update()
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
