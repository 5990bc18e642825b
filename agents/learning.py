"""The process around a learner: it publishes, checkpoints and logs."""

from collections.abc import Callable, Collection, Mapping, Sequence
import fcntl
import os
import threading
import time
from typing import Any

from absl import logging
import acme
from acme.utils import loggers
import tensorflow as tf

from agents import logs
from agents import parameters
from agents import replay
from metamimic import config as config_lib

_LOG_PERIOD = 2.0
_MOST_SAVING = 0.05  # Share of the time; a large replay takes many seconds to save.


class LearnerProcess(acme.Worker):
  """Runs a learner to its last step."""

  def __init__(
    self,
    name: str,
    learner: Any,
    published: Sequence[tf.Variable],
    extra_state: Mapping[str, Any],
    client: Any,
    checkpoints: str,
    logger: loggers.Logger,
    config: config_lib.Config,
    stop: threading.Event,
    tables: Collection[str] = (),
    warm_up: Callable[[], None] = lambda: None,
  ):
    """Takes its parts.

    Args:
      name: of the learner, as in `config.learners`.
      learner: has `step`, `num_steps` and `state`.
      published: variables that those who act need.
      extra_state: what a checkpoint holds beside the learner's state.
      client: of the replay server.
      checkpoints: folder of checkpoints.
      logger: of progress.
      config: of the run.
      stop: ends `run`, after a last checkpoint.
      tables: from which it samples; if there are any, the server's tables are kept with
        the learner.
      warm_up: called while actors begin to fill replay.
    """
    self._name = name
    self._learner = learner
    self._published = list(published)
    self._client = client
    self._logger = logger
    self._config = config
    self._stop = stop
    self._tables = tuple(tables)
    self._warm_up = warm_up
    folder = os.path.dirname(checkpoints)
    os.makedirs(folder, exist_ok=True)
    self._turn = os.path.join(folder, 'replay.lock')
    open(self._turn, 'a').close()
    self._checkpoint = tf.train.Checkpoint(**self._learner.state, **extra_state)
    self._manager = tf.train.CheckpointManager(
      self._checkpoint, checkpoints, max_to_keep=2
    )
    latest = self._manager.latest_checkpoint
    if latest:
      self._checkpoint.restore(latest).assert_consumed()
      logging.info('goes on from step %d of %s', self._learner.num_steps, latest)

  def run(self) -> None:
    """Learns until the last step is done or the run is stopped."""
    last = self._config.last_step(self._name)
    self._publish()
    publish = logs.Clock(self._config.actor_of(self._name).update_period)
    checkpoint = logs.Clock(self._config.checkpoint_period)
    saving = 0.0
    meter = _Meter(self._client, self._tables, self._learner.num_steps)
    try:
      self._warm_up()
      while self._learner.num_steps < last and not self._stop.is_set():
        metrics = self._learner.step()
        meter.add(metrics)
        meter.log(self._logger, self._learner.num_steps)
        if publish.due():
          self._publish()
        if checkpoint.due(period=saving / _MOST_SAVING):
          saving = self._save()
    except replay.Stopped:
      pass
    meter.log(self._logger, self._learner.num_steps, at_once=True)
    self._save()
    self._publish()

  def _publish(self) -> None:
    steps = self._learner.num_steps
    parameters.publish(self._client, self._name, self._published, steps)

  def _save(self) -> float:
    """Saves, and returns the seconds it took."""
    begun = time.monotonic()
    if self._tables:
      self._save_replay()
    path = self._manager.save(checkpoint_number=self._learner.num_steps)
    seconds = time.monotonic() - begun
    logging.info('saved %s in %.1f s', path, seconds)
    return seconds

  def _save_replay(self) -> None:
    """Saves the server's tables, unless another learner has done so meanwhile.

    In turns: of two checkpoints under way the server deletes the older one.
    """
    asked = time.time()
    with open(self._turn) as turn:
      fcntl.flock(turn, fcntl.LOCK_EX)
      if os.path.getmtime(self._turn) < asked:
        self._client.checkpoint()
        os.utime(self._turn)


class _Meter:
  """Means and rates since the last row of the log."""

  def __init__(self, client: Any, tables: Collection[str], steps: int):
    self._client = client
    self._tables = tables
    self._clock = logs.Clock(_LOG_PERIOD)
    self._steps = steps
    self._inserted: int | None = None
    self._metrics: list[Mapping[str, float]] = []

  def add(self, metrics: Mapping[str, float]) -> None:
    self._metrics.append(metrics)

  def log(self, logger: loggers.Logger, steps: int, at_once: bool = False) -> None:
    seconds = self._clock.due(at_once)
    if not seconds or not self._metrics:
      return
    row: dict[str, Any] = {
      'learner_steps': steps,
      'learner_steps_per_second': (steps - self._steps) / seconds,
    }
    if self._tables:
      info = self._client.server_info(timeout=10)
      # What was demonstrated is no step of an environment.
      acted = [table for table in self._tables if table != replay.DEMONSTRATIONS]
      rates = [info[table].rate_limiter_info for table in acted]
      inserted = sum(rate.insert_stats.completed for rate in rates)
      before = inserted if self._inserted is None else self._inserted
      row['environment_steps'] = inserted
      row['environment_steps_per_second'] = (inserted - before) / seconds
      row['replay_size'] = sum(info[table].current_size for table in self._tables)
      self._inserted = inserted
    for name in self._metrics[0]:
      row[name] = sum(m[name] for m in self._metrics) / len(self._metrics)
    logger.write(row)
    self._steps, self._metrics = steps, []
