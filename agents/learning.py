"""The process around a learner: it publishes, checkpoints and logs."""

from collections.abc import Callable, Collection, Mapping, Sequence
import functools
import threading
import time
from typing import Any

import acme
from acme.utils import loggers
import tensorflow as tf

from agents import checkpointing
from agents import logs
from agents import parameters
from agents import replay
from agents import sampling
from agents import waiting
from metamimic import config as config_lib
from metamimic import notices

_LOG_PERIOD = 2.0


class LearnerProcess(acme.Worker):
  """Runs a learner to its last step."""

  def __init__(
    self,
    name: str,
    learner: Any,
    published: Mapping[str, Sequence[tf.Variable]],
    extra_state: Mapping[str, Any],
    client: Any,
    run_dir: str,
    logger: loggers.Logger,
    config: config_lib.Config,
    stop: threading.Event,
    tables: Collection[str] = (),
    warm_up: Callable[[], None] = lambda: None,
    fill: Callable[[], None] = lambda: None,
  ):
    """Takes its parts, and restores the learner from the newest checkpoint set.

    Args:
      name: of the learner, as in `config.learners`.
      learner: has `step`, which takes the most updates to do, `num_steps`, `reset_step`
        and `state`.
      published: what others need of it, by the name under which they find it.
      extra_state: what a checkpoint holds beside the learner's state.
      client: of the replay server.
      run_dir: of the run; its checkpoint sets are there.
      logger: of progress.
      config: of the run.
      stop: ends `run`, after a last checkpoint.
      tables: from which it samples.
      warm_up: called while actors begin to fill replay.
      fill: writes to replay what is to be there for good; called before that, and while
        there is nothing to sample, as when a server has come back without it.

    Raises:
      DamagedError: there are checkpoint sets, and none is good.
    """
    self._name = name
    self._learner = learner
    self._client = client
    self._run_dir = run_dir
    self._logger = logger
    self._config = config
    self._stop = stop
    self._tables = tuple(tables)
    self._warm_up, self._fill = warm_up, fill
    self._publishers = [
      parameters.Publisher(client, as_, variables, lambda: learner.num_steps)
      for as_, variables in published.items()
    ]
    self._checkpointer = checkpointing.Checkpointer(
      run_dir,
      name,
      {other: config.last_step(other) for other in config.learners},
      {**learner.state, **extra_state},
      lambda: learner.num_steps,
      lambda info: replay.written(info, config),
      client,
      config.checkpoint_period,
      stop,
    )

  def run(self) -> None:
    """Learns until the last step is done or the run is stopped."""
    last = self._config.last_step(self._name)
    after = self._config.reset_after(self._name)
    has_not = after > 0 and not self._learner.reset_step
    if has_not and self._learner.num_steps >= after:
      notices.tell(
        self._run_dir,
        f'the learner of {self._name} does not begin anew after {after} steps, since '
        'it has done more: before, it was to learn for longer',
      )
    self._publish()
    publish = logs.Clock(self._config.actor_of(self._name).update_period)
    meter = _Meter(self._client, self._tables, self._learner.num_steps)
    starving: waiting.Reminder | None = None
    try:
      self._fill()
      self._warm_up()
      while self._learner.num_steps < last and not self._stop.is_set():
        try:
          before = self._learner.reset_step
          meter.add(self._learner.step(last - self._learner.num_steps))
          starving = None
          if self._learner.reset_step != before:
            self._tell_of_reset()
        except sampling.Starved as e:
          starving = starving or waiting.Reminder()
          starving.remind(functools.partial(replay.describe, self._client, e.table))
          self._fill()
        meter.log(self._logger, self._learner)
        if publish.due():
          self._publish()
        self._checkpointer.poll()
    except waiting.Stopped:
      pass
    # Without a server there is nothing new to tell, and a stopped run has little time.
    if starving is None:
      meter.log(self._logger, self._learner, at_once=True)
    # Before replay is saved: from a server that is restored, too, all learn of the end.
    self._publish_surely()
    self._checkpointer.finish()

  def _tell_of_reset(self) -> None:
    notices.tell(
      self._run_dir,
      f'the learner of {self._name} begins anew after {self._learner.reset_step} '
      "steps, from all experience so far: for a while its policy is a beginner's",
    )

  def _publish(self) -> None:
    for publisher in self._publishers:
      publisher.publish()

  def _publish_surely(self) -> None:
    for publisher in self._publishers:
      publisher.publish_surely(self._stop.is_set)


class _Meter:
  """Means and rates since the last row of the log."""

  def __init__(self, client: Any, tables: Collection[str], steps: int):
    self._client = client
    self._tables = tables
    self._clock = logs.Clock(_LOG_PERIOD)
    self._written = time.monotonic()
    self._steps = steps
    self._inserted: int | None = None
    self._metrics: list[Mapping[str, float]] = []

  def add(self, metrics: Mapping[str, float]) -> None:
    self._metrics.append(metrics)

  def log(self, logger: loggers.Logger, learner: Any, at_once: bool = False) -> None:
    if not self._clock.due(at_once) or not self._metrics:
      return
    now, steps = time.monotonic(), learner.num_steps
    seconds = now - self._written
    row: dict[str, Any] = {
      'learner_steps': steps,
      'learner_steps_per_second': (steps - self._steps) / seconds,
      'reset_step': learner.reset_step,
    }
    if self._tables:
      info = replay.info(self._client)
      if info is None:
        return
      # What was demonstrated is no step of an environment.
      acted = [table for table in self._tables if table != replay.DEMONSTRATIONS]
      rates = [info[table].rate_limiter_info for table in acted]
      inserted = sum(rate.insert_stats.completed for rate in rates)
      before = inserted if self._inserted is None else self._inserted
      row['environment_steps'] = inserted
      # A server that was restored has lost some.
      row['environment_steps_per_second'] = max(inserted - before, 0) / seconds
      row['replay_size'] = sum(info[table].current_size for table in self._tables)
      self._inserted = inserted
    for name in self._metrics[0]:
      row[name] = sum(m[name] for m in self._metrics) / len(self._metrics)
    logger.write(row)
    self._steps, self._metrics, self._written = steps, [], now
