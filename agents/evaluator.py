"""The evaluator: measures while training, and writes the run's results at its end."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import errno
import os
import threading
import time

from absl import logging
import acme
from acme.utils import loggers
import numpy as np

from agents import logs
from agents import parameters
from agents import waiting
from metamimic import config as config_lib
from metamimic import evaluation
from metamimic import statistics
from metamimic.demonstrations import types

TRAIN, VALID = 'train', 'valid'

_MOST_MEASURING = 0.1  # Share of the time, which learner and actors want, too.

Run = Callable[[Sequence[int], Callable[[], bool]], list[evaluation.Episode]]
"""Indices of demonstrations, and what says when to stop -> an episode for each."""


@dataclasses.dataclass(frozen=True)
class Learned:
  """A policy that is being learned."""

  arm: str
  """Its name in the results."""
  reader: parameters.Reader
  """Keeps it up to date."""
  run: Run
  """Measures it."""
  misguided: Mapping[str, Run] = dataclasses.field(default_factory=dict)
  """Other arms of this policy, by name; measured on held-out demonstrations when it has
  been learned."""


class Evaluator(acme.Worker):
  """Follows the learners with rollouts on training and held-out demonstrations."""

  def __init__(
    self,
    demonstrations: types.DemonstrationSet,
    learned: Sequence[Learned],
    controls: Mapping[str, Run],
    terms: Sequence[str],
    logger: loggers.Logger,
    config: config_lib.Config,
    run_dir: str,
    finish: Callable[[], None],
    stop: threading.Event,
  ):
    """Takes its parts.

    Args:
      demonstrations: of all splits.
      learned: the policies.
      controls: arms beside them that do not change as they learn, by name.
      terms: names of the reward's terms.
      logger: of summaries.
      config: how often and how much.
      run_dir: where `evaluation.csv` is.
      finish: called after the final evaluation, to draw videos and write the report.
      stop: ends `run`.
    """
    self._demonstrations = demonstrations
    self._learned = tuple(learned)
    self._controls = controls
    self._terms = tuple(terms)
    self._logger = logger
    self._config = config
    self._path = os.path.join(run_dir, 'evaluation.csv')
    self._finish = finish
    self._stop = stop
    self._splits = {
      split: demonstrations.ids(split)
      for split in statistics.SPLITS
      if demonstrations.ids(split)
    }

  def run(self) -> None:
    """Evaluates now and then until all have been learned, then once more, fully."""
    for policy in self._learned:
      if not policy.reader.wait(self._stop.is_set):
        return
    settings = self._config.evaluation
    # Until then it would take processors from those on whom the first step waits.
    for policy in self._learned:
      policy.reader.wait_for_learning(self._stop.is_set)
    self._evaluate_controls()
    clock = logs.Clock(settings.period, at_once=True)
    evaluated: dict[str, int] = {}
    measuring = 0.0
    # First of all as they were when learning began.
    progress = {policy.arm: policy.reader.progress for policy in self._learned}
    while not self._stop.is_set():
      if all(p.finished for p in progress.values()):
        break
      # The same policy again would say nothing new.
      moved = [
        policy
        for policy in self._learned
        if progress[policy.arm].learner_steps != evaluated.get(policy.arm)
      ]
      if moved and clock.due(period=measuring / _MOST_MEASURING):
        begun = time.monotonic()
        for policy in moved:
          evaluated[policy.arm] = progress[policy.arm].learner_steps
          self._evaluate(policy, settings.episodes)
        measuring = time.monotonic() - begun
      self._stop.wait(0.5)
      progress = {policy.arm: policy.reader.update() for policy in self._learned}
    for policy in self._learned:
      if self._stop.is_set():
        return
      self._evaluate(policy, settings.final_episodes)
      held_out = self._splits[VALID][: settings.final_episodes]
      steps = policy.reader.progress.learner_steps
      for arm, run in policy.misguided.items():
        self._measure(arm, VALID, held_out, run, steps)
    if not self._stop.is_set():
      self._finish()

  def _evaluate_controls(self) -> None:
    settings = self._config.evaluation
    # A resumed run has them, or those that were measured before it was stopped; or it
    # shall now follow more of them.
    done = evaluation.measured(self._path)
    for arm, run in self._controls.items():
      for split, ids in self._splits.items():
        episodes = settings.episodes if split == TRAIN else settings.final_episodes
        missing = [
          i
          for i in ids[:episodes]
          if (arm, split, self._demonstrations.demonstrations[i].name) not in done
        ]
        if missing:
          self._measure(arm, split, missing, run, 0)

  def _evaluate(self, policy: Learned, episodes: int) -> None:
    steps = policy.reader.progress.learner_steps
    for split, ids in self._splits.items():
      self._measure(policy.arm, split, ids[:episodes], policy.run, steps)

  def _measure(
    self, arm: str, split: str, followed: Sequence[int], run: Run, steps: int
  ) -> None:
    begun = time.monotonic()
    results = run(followed, self._stop.is_set)
    if not results or self._stop.is_set():
      return
    rows = evaluation.rows(
      results,
      seed=self._config.seed,
      learner_steps=steps,
      arm=arm,
      split=split,
      demonstrations=self._demonstrations.demonstrations,
      terms=self._terms,
    )
    self._append(rows)
    row = {
      'learner_steps': steps,
      'arm': arm,
      'split': split,
      'episodes': len(results),
      'reward': float(np.mean([e.total for e in results])),
      'completed': float(np.mean([e.completed for e in results])),
      'success': float(np.mean([e.success for e in results])),
      'return': float(np.mean([e.returned for e in results])),
    }
    self._logger.write(row)
    logging.info('%s in %.1f s', row, time.monotonic() - begun)

  def _append(self, rows: Sequence[Mapping[str, str | int | float]]) -> None:
    """Appends rows to the results, once there is room for them on the disk."""
    reminder: waiting.Reminder | None = None
    while not self._stop.is_set():
      try:
        return evaluation.append_rows(self._path, rows)
      except OSError as e:
        if e.errno != errno.ENOSPC:
          raise
        reminder = reminder or waiting.Reminder()
        reminder.remind(lambda: f'room on the disk for {self._path}')
        self._stop.wait(1.0)
